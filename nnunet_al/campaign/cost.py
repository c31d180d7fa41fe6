"""What annotation has cost: regions, cases, voxels, outlines, and the readers' time where it is known."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from nnunet_al.campaign.ledger import CORRECTION, Commit


@dataclass(frozen=True)
class AnnotationCost:
    """The sum over some commits.

    ``regions`` and ``cases`` are counted once, however often they were read or corrected; ``voxels``,
    ``foreground_voxels`` and ``contour_mm`` (mm) are those of the annotations that count, ``minutes`` all that readers
    reported. None: not known for some of the annotations (for minutes: for all of them).
    """

    regions: int
    cases: int
    voxels: int
    foreground_voxels: int | None
    contour_mm: float | None
    minutes: float | None

    def to_json(self, prefix: str = "") -> dict[str, Any]:
        """Return the numbers by name, each with ``prefix`` before its name."""
        return {f"{prefix}{name}": value for name, value in asdict(self).items()}


def total_cost(commits: Iterable[Commit], without: Collection[str] = ()) -> AnnotationCost:
    """Add up what ``commits`` have cost, without the cases that were withdrawn.

    A correction adds minutes only: what it corrects was counted when it was annotated first.
    """
    commits = list(commits)
    first = [commit for commit in commits if commit.counts and commit.source != CORRECTION]
    labels = [entry for c in first for case, entry in c.labels.items() if case not in without]
    foreground = [entry.foreground_voxels for entry in labels]
    contours = [entry.contour_mm for entry in labels]
    minutes = [commit.minutes for commit in commits if commit.minutes is not None]
    return AnnotationCost(
        regions=len({region for commit in first for region in commit.regions if region.case not in without}),
        cases=len({case for commit in first for case in commit.labels if case not in without}),
        voxels=sum(entry.annotated_voxels for entry in labels),
        foreground_voxels=None if None in foreground else sum(value for value in foreground if value is not None),
        contour_mm=None if None in contours else round(sum(value for value in contours if value is not None), 3),
        minutes=sum(minutes) if minutes else None,
    )
