"""Files that were returned under another case's name: what tells two cases of a batch whose images have one grid."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from nnunet_al.annotation.expected_case import ExpectedCase
from nnunet_al.annotation.grids import are_one_grid
from nnunet_al.annotation.label_overlap import mean_dice
from nnunet_al.annotation.segment_header import short_tag
from nnunet_al.annotation.volumes import SegmentationHeader
from nnunet_al.errors import ReturnError

SAME_CASE, OTHER_CASE = 0.9, 0.5
"""Mean Dice with known labels: above the first, a file was drawn on them; below the second, possibly not."""
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
    changes = _Changes(labels_kji, asked)
    looks_like_its_own = is_tagged or mean_dice(labels_kji, asked.handed_out_kji) >= OTHER_CASE
    if looks_like_its_own and changes.outside <= _MOST * changes.number:
        return None
    alike = []
    for other in others:
        if other.case == asked.case or other.handed_out_kji.shape != labels_kji.shape:
            continue
        is_same = other.handed_out_kji is asked.handed_out_kji  # in round 0: there is no need to compare
        may_be = not (is_same or looks_like_its_own)
        if may_be and mean_dice(labels_kji, other.handed_out_kji) > SAME_CASE:
            raise ReturnError(
                f"{path.name} looks like the pre-segmentation of {other.case} and not like that of {asked.case}: "
                "return it under that case's name, or as .seg.nrrd, which names its case."
            )
        if not are_one_grid(other.grid, asked.grid):
            continue
        inside_own, inside_other = changes.in_one_of(other)
        if inside_other > _MOST * changes.number and changes.are_scarce(other, any_at_all=is_tagged):
            there = "draw them in the file of that case" if is_tagged else "return it under that case's name"
            raise ReturnError(
                f"{path.name} has most of its changes in regions of {other.case}, which are none of {asked.case}: "
                f"{there}, or change only the regions of its own case."
            )
        like_own, like_other = (0.0, 0.0) if is_same else _untouched(labels_kji, asked, other)
        if not is_tagged and like_other > SAME_CASE and like_own < 1 - SAME_CASE:
            raise ReturnError(
                f"{path.name} is, outside of the regions, what was handed out of {other.case} and not of {asked.case}: "
                "return it under that case's name."
            )
        if not looks_like_its_own and inside_own <= _MOST * changes.number and like_own <= SAME_CASE:
            alike.append(other.case)
    if not alike:
        return None
    more = f" or {len(alike) - 1} more" if len(alike) > 1 else ""
    return (
        f"Nothing tells this file from one of {alike[0]}{more}, whose image has the same grid: check that it is of "
        f"{asked.case}."
    )


class _Changes:
    """The changes in a file against what was handed out, and the regions of its case in which they may lie."""

    def __init__(self, labels_kji: np.ndarray, asked: ExpectedCase) -> None:
        self._kji = labels_kji != asked.handed_out_kji
        self._own_kji = asked.inside()
        self._boxes = set(asked.boxes.values())
        self.number = int(self._kji.sum())
        self.outside = int((self._kji & ~self._own_kji).sum())

    def in_one_of(self, other: ExpectedCase) -> tuple[int, int]:
        """Return the numbers of those in regions of the file's case alone, and of the other case alone."""
        if set(other.boxes.values()) == self._boxes:
            return 0, 0
        other_kji = other.inside()
        own, others = self._own_kji & ~other_kji, other_kji & ~self._own_kji
        return int((self._kji & own).sum()), int((self._kji & others).sum())

    def are_scarce(self, other: ExpectedCase, any_at_all: bool) -> bool:
        """Tell whether they are scarce in the file's own regions: a reader who draws everywhere draws there as well.

        With ``any_at_all`` one is enough.
        """
        if any_at_all and self.outside < self.number:
            return False
        other_kji = other.inside()
        alone_kji = self._own_kji & ~other_kji
        if not alone_kji.any():
            alone_kji = self._own_kji
        return bool(self._kji[other_kji & ~self._own_kji].mean() > _DENSER * self._kji[alone_kji].mean())


def _untouched(labels_kji: np.ndarray, asked: ExpectedCase, other: ExpectedCase) -> tuple[float, float]:
    """Return the shares of the voxels in which a file agrees with what was handed out of its case, and of the other.

    They are shares of the foreground that was handed out of only one of them, outside of the regions of both, where
    readers change little; 0 where there is none.
    """
    ours_kji, theirs_kji = asked.handed_out_kji, other.handed_out_kji
    differ_kji = (ours_kji != theirs_kji) & ~asked.inside() & ~other.inside()
    shares = []
    for handed_kji in (ours_kji, theirs_kji):
        drawn_kji = differ_kji & (handed_kji != 0)
        same_N = labels_kji[drawn_kji] == handed_kji[drawn_kji]
        shares.append(float(same_N.mean()) if same_N.size else 0.0)
    return shares[0], shares[1]
