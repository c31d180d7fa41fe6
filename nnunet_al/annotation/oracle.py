"""Simulated annotation: the oracle reads the dataset's own labels, only inside the requested regions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from nnunet_al.pool.boxes import Region, to_slices

ReadLabels = Callable[[str], "np.ndarray | None"]


@dataclass(frozen=True)
class Answer:
    """The oracle's annotation of a batch.

    Attributes
    ----------
    labels : case -> labels (z, y, x) of newly annotated voxels, the ignore value elsewhere
    disagreements : sentences on voxels whose earlier annotation differs from the dataset's present label
    unanswered : regions in which the dataset has no label for any new voxel
    ignored : such regions where that is the answer
    """

    labels: dict[str, np.ndarray]
    disagreements: tuple[str, ...]
    unanswered: tuple[Region, ...]
    ignored: tuple[Region, ...] = ()


def ask(
    regions: Iterable[Region],
    read_labels: ReadLabels,
    read_annotated: Callable[[str], np.ndarray],
    ignore: int,
    may_ignore: bool = False,
) -> Answer:
    """Annotate ``regions`` from the dataset's labels; earlier annotations are kept.

    With ``may_ignore`` a label file is the oracle's answer also where it ignores a whole region.

    ``read_labels`` returns the dataset's labels (z, y, x) of a case, None where it has no label file;
    ``read_annotated`` the labels (z, y, x) annotated so far. Both have ``ignore`` at unannotated voxels.
    """
    by_case: dict[str, list[Region]] = {}
    for region in regions:
        by_case.setdefault(region.case, []).append(region)
    labels, disagreements = {}, []
    unanswered: list[Region] = []
    ignored: list[Region] = []
    for case, asked in sorted(by_case.items()):
        truth_xyz = read_labels(case)
        if truth_xyz is None:
            unanswered.extend(asked)
            continue
        earlier_xyz = read_annotated(case)
        new_xyz = (truth_xyz != ignore) & (earlier_xyz == ignore)
        known = [region for region in asked if new_xyz[to_slices(region.box)].any()]
        silent = [region for region in asked if region not in known]
        (ignored if may_ignore else unanswered).extend(silent)
        if not known:
            continue
        inside_xyz = np.zeros(truth_xyz.shape, bool)
        for region in known:
            inside_xyz[to_slices(region.box)] = True
        labels[case] = np.where(inside_xyz & new_xyz, truth_xyz, ignore)
        both_xyz = inside_xyz & (earlier_xyz != ignore) & (truth_xyz != ignore)
        if differing := int((earlier_xyz[both_xyz] != truth_xyz[both_xyz]).sum()):
            disagreements.append(
                f"{case}: {differing} voxels annotated earlier differ from the present label; they are kept."
            )
    return Answer(labels, tuple(disagreements), tuple(unanswered), tuple(ignored))
