"""Evenly spaced regions over all cases: every n-th one, and in later rounds the middles of the widest gaps."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nnunet_al.selection.selection import Selection

_GOLDEN = (math.sqrt(5) - 1) / 2  # multiples of it, modulo 1, keep apart as well as any sequence does


def evenly_spaced(
    places_N_2: np.ndarray,
    names_N: Sequence[str],
    budget: int,
    rng: np.random.Generator,
    taken_M_2: np.ndarray | None = None,
) -> Selection:
    """Choose ``budget`` regions so that those annotated lie evenly spaced over all cases, whatever the images show.

    Cases in which nothing is annotated come first. If there are more of them than ``budget``, those are chosen that
    leave the cases without annotation evenly spaced in the order of the cases; each gives one region. Else each gets
    one, and every further region goes where the spacing is the widest, so that no other batch leaves a smaller widest
    spacing. The spacing is that of annotated regions, counted in regions, after k more were put evenly

    * between two annotated ones with the places a < b: (b - a) / (k + 1);
    * between an end of a case and the annotated region nearest to it, with e regions between: (e + 1/2) / (k + 1/2),
      twice the distance from that end, because nothing lies behind it;
    * into a case of L regions in which nothing is annotated: L / k.

    So in a case without annotation every n-th region is chosen, n = L / k, from an offset on that is drawn once and
    moves on from case to case by the golden section: cases that give one region each do not give the same one. The draw
    also decides between equal spacings.

    Parameters
    ----------
    places_N_2 : int array (N, 2)
        case and region of each candidate, as places in the order of the cases and of all regions; numbers need not be
        consecutive.
    names_N : sequence of str
        names of the candidates; the places decide, so that they have no effect.
    budget : int
        number of regions to choose.
    rng : numpy generator
        draws the offset and the order of equal spacings.
    taken_M_2 : int array (M, 2), optional
        the places of all regions that are annotated.

    Returns
    -------
    Selection
        sorted by case and region; every gain is 0.
    """
    places_N_2 = np.asarray(places_N_2, dtype=np.int64).reshape(-1, 2)
    taken_M_2 = np.zeros((0, 2), np.int64) if taken_M_2 is None else np.asarray(taken_M_2, np.int64).reshape(-1, 2)
    assert len(places_N_2) == len(names_N), f"{len(places_N_2)} places for {len(names_N)} regions"
    wanted = min(max(budget, 0), len(places_N_2))
    index_of = {(int(case), int(region)): index for index, (case, region) in enumerate(places_N_2)}
    regions_of: dict[int, list[tuple[int, bool]]] = {}
    for case, region in taken_M_2.tolist():
        regions_of.setdefault(case, []).append((region, True))
    for case, region in index_of:
        regions_of.setdefault(case, []).append((region, False))
    cases = sorted(regions_of)
    lines = [sorted(regions_of[case]) for case in cases]
    seen = [place for place, line in enumerate(lines) if any(is_taken for _, is_taken in line)]
    offset = float(rng.random())
    if wanted <= len(cases) - len(seen):
        chosen = {*_fill([_gaps(len(cases), seen, offset)], wanted, rng)[0]}
        whole = [_Gap(0, len(line), False, False, _phase(offset, place)) for place, line in enumerate(lines)]
        found = [gap.places(1) if place in chosen else [] for place, gap in enumerate(whole)]
    else:
        gaps_of = [
            _gaps(len(line), [at for at, (_, is_taken) in enumerate(line) if is_taken], _phase(offset, place))
            for place, line in enumerate(lines)
        ]
        found = _fill(gaps_of, wanted, rng)
    picked = [index_of[case, lines[place][at][0]] for place, case in enumerate(cases) for at in sorted(found[place])]
    return Selection(np.array(picked, np.int64), np.zeros(len(picked)))


@dataclass(frozen=True)
class _Gap:
    """A run of regions that are not annotated, between two that are, or up to the end of a case.

    Attributes
    ----------
    first, count : place of its first region in the case, and how many there are
    before, after : whether an annotated region lies right before the first one, and right behind the last one
    phase : of a case in which nothing is annotated, where its regions begin, as a part of their spacing
    """

    first: int
    count: int
    before: bool
    after: bool
    phase: float

    def spacing(self, more: int) -> float:
        """Return the spacing after so ``more`` regions were put evenly into the gap; infinite without any."""
        if self.before and self.after:
            return (self.count + 1) / (more + 1)
        if self.before or self.after:
            return (self.count + 0.5) / (more + 0.5)
        return self.count / more if more else math.inf

    def places(self, more: int) -> list[int]:
        """Return the places of so ``more`` regions."""
        if not more:
            return []
        spacing = self.spacing(more)
        if not (self.before or self.after):
            return [self.first + math.floor((step + self.phase) * spacing) for step in range(more)]
        steps = [math.floor(step * spacing + 0.5) for step in range(1, more + 1)]  # from the annotated region on
        if self.before:
            return [self.first - 1 + step for step in steps]
        return [self.first + self.count - step for step in steps]


def _gaps(count: int, taken: Sequence[int], phase: float) -> list[_Gap]:
    """Return the gaps of a case of ``count`` regions with those at the sorted places ``taken`` annotated."""
    ends = [-1, *taken, count]
    return [
        _Gap(low + 1, high - low - 1, low >= 0, high < count, phase)
        for low, high in itertools.pairwise(ends)
        if high - low > 1
    ]


def _fill(gaps_of: Sequence[Sequence[_Gap]], wanted: int, rng: np.random.Generator) -> list[list[int]]:
    """Put ``wanted`` regions, one after the other, where the spacing is the widest; return the places of each case."""
    gaps = [(place, gap) for place, of_case in enumerate(gaps_of) for gap in of_case]
    drawn = rng.permutation(len(gaps)).tolist()
    widest = [(-gap.spacing(0), drawn[number], number) for number, (_, gap) in enumerate(gaps)]
    heapq.heapify(widest)
    more = [0] * len(gaps)
    for _ in range(wanted):
        _, order, number = heapq.heappop(widest)
        more[number] += 1
        gap = gaps[number][1]
        if more[number] < gap.count:
            heapq.heappush(widest, (-gap.spacing(more[number]), order, number))
    found: list[list[int]] = [[] for _ in gaps_of]
    for (place, gap), some in zip(gaps, more, strict=True):
        found[place] += gap.places(some)
    return found


def _phase(offset: float, place: int) -> float:
    """Return the phase of the case at a place, from 0 to below 1."""
    return (offset + place * _GOLDEN) % 1.0
