"""The files that each stage leaves for others, whose checksums its marker holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from nnunet_al.campaign.commits import entry_file, read_commits
from nnunet_al.nnunet.round_view import DIFFERENCE_FILE, RECORD_FILE
from nnunet_al.rounds.context import RoundContext

Files = Callable[[RoundContext], Iterable[Path]]


def of_labels(context: RoundContext) -> Iterable[Path]:
    """Return the composed labels, their record, ``dataset.json`` and the splits."""
    round_ = context.round
    yield from (round_.ledger_mark, round_.view.raw / context.decided.dataset / "dataset.json")
    yield from (context.preprocessed / name for name in ("dataset.json", "splits_final.json"))
    yield from (context.composed_label(case) for case in context.annotated_cases)
    if round_.composed.is_file():  # there is none with readers of other packages
        yield round_.composed


def of_fingerprint(context: RoundContext) -> Iterable[Path]:
    """Return the fingerprint."""
    yield context.preprocessed / "dataset_fingerprint.json"


def of_plan(context: RoundContext) -> Iterable[Path]:
    """Return the plans, and how a fresh plan would differ."""
    yield from (context.plans_file(context.round), context.round.root / DIFFERENCE_FILE)


def of_preprocess(context: RoundContext) -> Iterable[Path]:
    """Return the preprocessed labels with their properties, and their record; images are the dataset's store's."""
    yield context.preprocessed / RECORD_FILE
    folder = context.preprocessed / context.configuration["data_identifier"]
    for case in context.annotated_cases:
        yield from (folder / f"{case}_seg.b2nd", folder / f"{case}.pkl")


def of_train(context: RoundContext) -> Iterable[Path]:
    """Return the models: of each the checkpoint, and the plans and ``dataset.json`` that stock nnU-Net reads there."""
    final = context.checkpoint(context.round)
    yield from (context.round.network, final.parents[1] / "plans.json", final.parents[1] / "dataset.json")
    yield from (context.checkpoint(context.round, fold) for fold in (context.decided.fold, *context.member_folds))


def of_shard(kind: str, part: int) -> Files:
    """Return the function that names the files of one shard of a pass, as ``kind`` begins."""

    def files(context: RoundContext) -> Iterable[Path]:
        from nnunet_al.rounds.embedding_parts import array_of  # with all that shards load
        from nnunet_al.rounds.shards import part_file

        file = part_file(context, kind, part)
        return (file, array_of(file)) if kind == "embedded" else (file,)

    return files


def of_fisher(context: RoundContext) -> Iterable[Path]:
    """Return the query set, and the parameters that count for it."""
    return context.round.query, context.round.fisher


def of_annotate(context: RoundContext) -> Iterable[Path]:
    """Return the entries of the ledger that the round's batch has led to."""
    ledger = context.folder.ledger
    return (entry_file(ledger, c.number) for c in read_commits(ledger) if c.round == context.number)


def inside(name: str) -> Files:
    """Return the function from a context to the file of the round's folder that is its attribute ``name``."""
    return lambda context: (getattr(context.round, name),)
