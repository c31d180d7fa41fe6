"""Files that were returned under another case's name: what tells two cases of a batch whose images have one grid."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnunet_al.annotation.expected_case import ExpectedCase
from nnunet_al.annotation.grids import are_one_grid
from nnunet_al.annotation.label_overlap import mean_dice
from nnunet_al.annotation.segment_header import short_tag
from nnunet_al.annotation.volumes import SegmentationHeader
from nnunet_al.errors import ReturnError
from nnunet_al.pool.boxes import Box

# mean Dice with a pre-segmentation: above the first, the file was drawn on it; below the second, possibly not
_SAME_CASE, _OTHER_CASE = 0.9, 0.5
_MOST = 0.5
"""Share of the changes beyond which they speak for one case."""
_DENSER = 2
"""So many times as dense as in a case's own regions are changes that were meant for another case's."""


def check_tags(path: Path, header: SegmentationHeader, asked: ExpectedCase, others: Iterable[ExpectedCase]) -> bool:
    """Check the case that is noted in a file's header, and tell whether there is one: programs of readers may drop it.

    Raises ReturnError if it is another case than ``asked``.
    """
    if header.case is not None:
        if header.case != asked.case:
            raise ReturnError(
                f"{path.name} was drawn on the case {header.case} and not on {asked.case}: return it under that case's "
                "name."
            )
        return True
    if header.short_tag is not None and header.short_tag != short_tag(asked.case):
        names = [other.case for other in others if short_tag(other.case) == header.short_tag]
        of = f"the case {names[0]}" if names else "another case"
        raise ReturnError(f"{path.name} was drawn on {of} and not on {asked.case}: return it under that case's name.")
    return header.short_tag is not None


def check_looks(
    path: Path, labels_kji: np.ndarray, asked: ExpectedCase, others: Iterable[ExpectedCase], is_tagged: bool
) -> str | None:
    """Compare a file with what was handed out of its own case and of the ``others`` of its batch.

    It is taken for another case's if it looks like that one's pre-segmentation and not like its own, if more than half
    of its changes lie in regions of that case and in none of its own, where they are scarce, or if, outside the regions
    of both, it is what was handed out of that case and not of its own. A file that bears the tag of its own case is
    refused only for its changes, and only if none of them lies in its own regions.

    Returns None if something tells it from all others, else a sentence on those that it may be mistaken for. ``others``
    are looked at only if the file's own case does not explain it.

    Raises ReturnError if it is taken for another case's.
    """
    changes = _Changes.of(labels_kji, asked)
    looks_like_its_own = mean_dice(labels_kji, asked.handed_out_kji) >= _OTHER_CASE
    if changes.outside <= _MOST * changes.number and (looks_like_its_own or is_tagged):
        return None
    alike = []
    for other in others:
        if other.case == asked.case or other.handed_out_kji.shape != labels_kji.shape:
            continue
        is_same = other.handed_out_kji is asked.handed_out_kji  # in round 0: there is no need to compare
        may_be = not (is_same or is_tagged or looks_like_its_own)
        if may_be and mean_dice(labels_kji, other.handed_out_kji) > _SAME_CASE:
            raise ReturnError(
                f"{path.name} looks like the pre-segmentation of {other.case} and not like that of {asked.case}: "
                "return it under that case's name, or as .seg.nrrd, which names its case."
            )
        if not are_one_grid(other.grid, asked.grid):
            continue
        inside_own, inside_other = changes.in_one_of(asked, other)
        if inside_other > _MOST * changes.number and changes.are_scarce(asked, other, any_at_all=is_tagged):
            raise ReturnError(
                f"{path.name} has most of its changes in regions of {other.case}, which are none of {asked.case}: "
                "return it under that case's name, or change only the regions of its own case."
            )
        like_own, like_other = (0.0, 0.0) if is_same else _untouched(labels_kji, asked, other)
        if not is_tagged and like_other > _SAME_CASE and like_own < 1 - _SAME_CASE:
            raise ReturnError(
                f"{path.name} is, outside of the regions, what was handed out of {other.case} and not of {asked.case}: "
                "return it under that case's name."
            )
        if not looks_like_its_own and inside_own <= _MOST * changes.number and like_own <= _SAME_CASE:
            alike.append(other.case)
    if not alike or is_tagged:
        return None
    more = f" or {len(alike) - 1} more" if len(alike) > 1 else ""
    return (
        f"Nothing tells this file from one of {alike[0]}{more}, whose image has the same grid: check that it is of "
        f"{asked.case}."
    )


@dataclass(frozen=True)
class _Changes:
    """The changes in a file against what was handed out: their positions, and which lie in regions of its case."""

    changed_kji: np.ndarray
    positions_N_kji: np.ndarray
    own_N: np.ndarray

    @classmethod
    def of(cls, labels_kji: np.ndarray, asked: ExpectedCase) -> _Changes:
        changed_kji = labels_kji != asked.handed_out_kji
        positions_N_kji = np.argwhere(changed_kji)
        return cls(changed_kji, positions_N_kji, _in_boxes(positions_N_kji, asked.boxes.values()))

    @property
    def number(self) -> int:
        return len(self.own_N)

    @property
    def outside(self) -> int:
        """Those in no region of the file's case."""
        return self.number - int(self.own_N.sum())

    def in_one_of(self, asked: ExpectedCase, other: ExpectedCase) -> tuple[int, int]:
        """Return the numbers of those in regions of the file's case alone, and of the other case alone."""
        if set(other.boxes.values()) == set(asked.boxes.values()):
            return 0, 0
        other_N = _in_boxes(self.positions_N_kji, other.boxes.values())
        return int((self.own_N & ~other_N).sum()), int((other_N & ~self.own_N).sum())

    def are_scarce(self, asked: ExpectedCase, other: ExpectedCase, any_at_all: bool) -> bool:
        """Tell whether they are scarce in the file's own regions: a reader who draws everywhere draws there as well.

        With ``any_at_all`` one is enough.
        """
        if any_at_all and self.own_N.any():
            return False
        own_kji, other_kji = asked.inside(), other.inside()
        alone_kji = own_kji & ~other_kji
        if not alone_kji.any():
            alone_kji = own_kji
        return bool(self.changed_kji[other_kji & ~own_kji].mean() > _DENSER * self.changed_kji[alone_kji].mean())


def _in_boxes(positions_N_kji: np.ndarray, boxes: Iterable[Box]) -> np.ndarray:
    inside_N = np.zeros(len(positions_N_kji), bool)
    for box in boxes:
        low, high = np.array(box).T
        inside_N |= ((positions_N_kji >= low) & (positions_N_kji < high)).all(axis=1)
    return inside_N


def _untouched(labels_kji: np.ndarray, asked: ExpectedCase, other: ExpectedCase) -> tuple[float, float]:
    """Return the shares of the voxels in which a file agrees with what was handed out of its case, and of the other.

    They are shares of the foreground that was handed out of only one of them, outside of the regions of both, where
    readers change little; 0 where there is none.
    """
    ours_kji, theirs_kji = asked.handed_out_kji, other.handed_out_kji
    positions_N_kji = np.argwhere(ours_kji != theirs_kji)
    boxes = {*asked.boxes.values(), *other.boxes.values()}
    positions_N_kji = positions_N_kji[~_in_boxes(positions_N_kji, boxes)]
    at = tuple(positions_N_kji.T)
    shares = []
    for handed_N in (ours_kji[at], theirs_kji[at]):
        drawn_N = handed_N != 0
        shares.append(float((labels_kji[at] == handed_N)[drawn_N].mean()) if drawn_N.any() else 0.0)
    return shares[0], shares[1]
