"""Stage `fingerprint`: the geometry of the pool and the intensities of annotated foreground."""

from __future__ import annotations

from nnunet_al.files import write_json
from nnunet_al.nnunet.fingerprint import extract_fingerprint
from nnunet_al.rounds.context import RoundContext


def fingerprint(context: RoundContext) -> None:
    """Extract the fingerprint: geometry of the whole pool, intensities of annotated foreground."""
    dataset = context.data.dataset
    annotated = {case: (dataset.cases[case].images, context.composed_label(case)) for case in context.annotated_cases}
    pool_facts = {case: context.data.facts[case] for case in context.decided.pool_cases}
    workers, samples = context.options.workers, context.folder.root / "intensities"
    content = extract_fingerprint(
        annotated, pool_facts, len(dataset.channels), len(pool_facts), context.ignore, workers, samples=samples
    )
    write_json(context.round.view.preprocessed / dataset.name / "dataset_fingerprint.json", content)
