"""The values that curves show: functions that read one number from a round, None where the round has none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from nnunet_al.report.reading.rounds import RoundResult

Value = Callable[[RoundResult], "float | None"]

MEASURES = {"delta": "Δ", "essp": "ESSP", "largest_gap": "largest gap", "delta_absent_as_1": "Δ, absent as 1"}
"""Fields of ``Fairness`` -> their names in tables and figures."""


def dice(result: RoundResult) -> float | None:
    """Return a round's mean foreground Dice."""
    return result.dice


def hd95(result: RoundResult) -> float | None:
    """Return a round's mean foreground HD95 in mm."""
    return result.hd95_mm


def pool_percent(result: RoundResult) -> float | None:
    """Return the share of the pool's regions, in %, that a round's model was trained on."""
    return result.pool_percent


@dataclass(frozen=True)
class Measure:
    """A measure by which strategies are compared.

    Attributes
    ----------
    name : of its columns
    words : its name in captions
    value : the function that reads it from a round
    sign : 1 where larger is better, -1 where smaller is
    digits : decimals on the page
    """

    name: str
    words: str
    value: Value
    sign: int = 1
    digits: int = 4

    @property
    def suffix(self) -> str:
        """The end of the names of its tables and figures; none for Dice."""
        return "" if self is DICE else f"_{self.name.removesuffix('_mm')}"


DICE = Measure("dice", "mean foreground Dice", dice)
SLICE_DICE = Measure("slice_dice", "mean foreground Dice of slices", lambda result: result.slice_dice)
HD95 = Measure("hd95_mm", "mean foreground HD95 (mm, lower is better)", hd95, -1, 2)


@cache
def class_dice(name: str) -> Value:
    """Return the function that reads a class's Dice from a round."""
    return lambda result: result.dice_of_class.get(name)


@cache
def class_hd95(name: str) -> Value:
    """Return the function that reads a class's HD95 in mm from a round."""
    return lambda result: result.hd95_mm_of_class.get(name)


@cache
def fairness_measure(name: str) -> Value:
    """Return the function that reads a measure of fairness by the name of its field from a round."""
    return lambda result: None if result.fairness is None else getattr(result.fairness, name)


@cache
def of_group(group: str, name: str) -> Value:
    """Return the function that reads "dice", "share" or "weight" of a group from a round."""

    def read(result: RoundResult) -> float | None:
        found = None if result.fairness is None else result.fairness.by_group.get(group)
        return None if found is None else getattr(found, name)

    return read


def group_values(names: Sequence[str]) -> Iterator[tuple[str, str | None, Value]]:
    """Yield measure, group (None: over all groups) and the function that reads the value; nothing without groups."""
    if names:
        yield from ((words, None, fairness_measure(name)) for name, words in MEASURES.items())
        yield from (("Dice", name, of_group(name, "dice")) for name in names)
        yield from (("share", name, of_group(name, "share")) for name in names)
        yield from (("weight", name, of_group(name, "weight")) for name in names)
