"""Fuse several readings of a region into one annotation, once the campaign's number of readings is complete."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnunet_al.annotation.fusion import fuse
from nnunet_al.annotation.segments import segments_of
from nnunet_al.campaign.commits import CONSENSUS, READING
from nnunet_al.campaign.ledger import CaseAnnotation
from nnunet_al.collecting.batch_collector import labels_in_regions
from nnunet_al.collecting.open_ledger import OpenLedger
from nnunet_al.pool.boxes import Region
from nnunet_al.rounds.context import RoundContext
from nnunet_al.text import count


def append_consensus(context: RoundContext, regions: Sequence[Region], ledger: OpenLedger) -> list[str]:
    """Append the consensus of regions that have all their readings and no annotation yet; return a sentence per case.

    This includes regions whose readings came in an earlier call that was killed before their consensus.
    """
    wanted = context.decided.readings
    if wanted < 2:
        return []
    with ledger.locked():
        answered = ledger.answered
        ready: dict[tuple[str, tuple[str, ...]], list[Region]] = {}
        for region in regions:
            if region in answered or region.case not in context.decided.pool_cases:
                continue
            readers = sorted({c.reader for c in ledger.commits if c.source == READING and region in c.regions})
            if len(readers) >= wanted:
                ready.setdefault((region.case, tuple(readers)), []).append(region)
        return [_consensus(context, ledger, *key, tuple(some)) for key, some in sorted(ready.items())]


def _consensus(
    context: RoundContext, ledger: OpenLedger, case: str, readers: Sequence[str], regions: tuple[Region, ...]
) -> str:
    shape, ignore = context.data.facts[case].raw_shape, context.ignore
    readings = [_labels_of_reader(ledger, case, reader, regions, shape, ignore) for reader in readers]
    consensus = fuse(readings, context.decided.consensus, ignore)
    earlier_xyz = ledger.labels(case, shape)
    labels_xyz = np.where(earlier_xyz != ignore, ignore, consensus.labels_kji)
    names = {segment.value: segment.name for segment in segments_of(context.data.dataset.labels)}
    dice = ", ".join(f"{names[value]} {share:.3f}" for value, share in sorted(consensus.agreement.items()))
    sentence = (
        f"{case}: {' and '.join(readers)} differ in {consensus.differing_voxels} voxels of "
        + count(len(regions), "region")
        + (f" (Dice between them: {dice})" if dice else "")
        + (f"; {consensus.undecided_voxels} voxels stay unannotated." if consensus.undecided_voxels else ".")
    )
    properties = context.label_format.image_properties(context.data.dataset.cases[case].images)
    taken = {case: CaseAnnotation(labels_xyz, properties)}
    ledger.append(context.number, CONSENSUS, " + ".join(readers), regions, taken, (sentence,))
    return sentence


def _labels_of_reader(
    ledger: OpenLedger, case: str, reader: str, regions: Sequence[Region], shape: tuple[int, ...], ignore: int
) -> np.ndarray:
    """Return one reader's labels of the regions (z, y, x); where regions overlap, those returned first."""
    labels_xyz = np.full(shape, ignore, np.int32)
    for commit in ledger.commits:
        inside = [region for region in regions if region in commit.regions]
        if commit.source == READING and commit.reader == reader and inside:
            taken_xyz = labels_in_regions(inside, ledger.volume(commit, case), ignore)
            np.copyto(labels_xyz, taken_xyz, where=labels_xyz == ignore)
    return labels_xyz
