"""Stage `annotate`: the batch's annotations, from the oracle or from people."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from nnunet_al.annotation.oracle import ask
from nnunet_al.campaign.commits import DATASET, ORACLE, asked_regions, awaited_regions
from nnunet_al.campaign.ledger import CaseAnnotation
from nnunet_al.campaign.lock import PATIENCE_SECONDS, campaign_lock
from nnunet_al.errors import WaitingForReaders
from nnunet_al.pool.annotated import fully_annotated
from nnunet_al.pool.boxes import Region
from nnunet_al.rounds.context import RoundContext
from nnunet_al.rounds.shards import remove_parts
from nnunet_al.terminal import say
from nnunet_al.text import count, first_names

_NAMED = 5


def annotate(context: RoundContext) -> None:
    """Have the batch annotated: the oracle commits its labels to the ledger; people are waited for.

    Raises WaitingForReaders if nobody has annotated some of the batch yet, or the dataset has no label yet for it.
    """
    if context.number == 0 and context.decided.starts_from == "dataset":
        if context.ledger.commit_of_round(0) is None:
            commit_existing(context, context.decided.pool_cases)
    elif context.decided.annotate:
        _wait_for_readers(context)
    elif context.ledger.commit_of_round(context.number) is None:
        _commit_batch(context)
    context.round.embeddings.unlink(missing_ok=True)
    remove_parts(context)


def commit_existing(context: RoundContext, cases: Iterable[str]) -> None:
    """Commit the dataset's own labels of ``cases`` to the ledger."""
    annotations = {}
    for case in cases:
        if context.data.facts[case].label_state in {"complete", "partial"}:
            labels_xyz, properties = context.label_format.read_with_properties(_label_of(context, case))
            annotations[case] = CaseAnnotation(labels_xyz, properties)
    masks = {case: annotation.labels_xyz != context.ignore for case, annotation in annotations.items()}
    complete_N = fully_annotated(context.regions, masks)
    regions = tuple(region for region, complete in zip(context.regions, complete_N, strict=True) if complete)
    with campaign_lock(context.folder.ledger_lock, PATIENCE_SECONDS):
        context.ledger.append(context.number, DATASET, DATASET, regions, annotations)
    say(f"    the dataset comes with {count(len(regions), 'annotated region')} in {count(len(annotations), 'case')}")


def _asked_of_pool(context: RoundContext) -> list[Region]:
    """Return the regions that the round's batch asks for, without those of cases that were withdrawn since."""
    return [region for region in asked_regions(context.round) if region.case in context.decided.pool_cases]


def _wait_for_readers(context: RoundContext) -> None:
    asked = _asked_of_pool(context)
    missing = awaited_regions(context.round, context.ledger.commits(), context.decided.pool_cases)
    if missing:
        raise WaitingForReaders(
            f"Waiting for readers: {len(missing)} of {len(asked)} regions of round {context.number} are not annotated "
            f"yet. The batch lies in {context.round.hand_out}; nnUNetv2_al_collect {context.decided.options} takes "
            "back what was returned."
        )


def _commit_batch(context: RoundContext) -> None:
    asked = _asked_of_pool(context)
    files = context.data.dataset.cases
    all_commits = context.ledger.commits()

    def read_labels(case: str) -> np.ndarray | None:
        label = files[case].label
        return None if label is None else context.label_format.read(label)

    def read_annotated(case: str) -> np.ndarray:
        return context.ledger.labels(case, context.data.facts[case].raw_shape, all_commits)

    answer = ask(asked, read_labels, read_annotated, context.ignore, context.decided.labels_are_oracle)
    if answer.unanswered:
        cases = sorted({region.case for region in answer.unanswered})
        raise WaitingForReaders(
            f"Waiting for annotations: {len(answer.unanswered)} of {len(asked)} regions in {context.round.batch} have "
            f"no label yet. Annotate {first_names(cases, _NAMED)} in {context.data.dataset.folder / 'labelsTr'} "
            "and run the same command again."
        )
    annotations = {
        case: CaseAnnotation(labels_xyz, context.label_format.read_with_properties(_label_of(context, case))[1])
        for case, labels_xyz in answer.labels.items()
    }
    with campaign_lock(context.folder.ledger_lock, PATIENCE_SECONDS):
        context.ledger.append(context.number, ORACLE, ORACLE, tuple(asked), annotations, answer.disagreements)
    if answer.ignored:
        say(f"    in {len(answer.ignored)} of {count(len(asked), 'region')} the labels ignore everything")
    for sentence in answer.disagreements:
        say(f"    {sentence}")


def _label_of(context: RoundContext, case: str) -> Path:
    label = context.data.dataset.cases[case].label
    assert label is not None, f"{case} was annotated from no file"
    return label
