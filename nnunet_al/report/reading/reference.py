"""The Dice with all data, to which budgets refer: given, or that of campaigns with ``--full``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from nnunet_al.report.reading.lines import Comparison, Line
from nnunet_al.report.reading.runs import Run
from nnunet_al.text import count


@dataclass(frozen=True)
class Reference:
    """The Dice ``given`` on the command line, else the mean over the ``runs`` that were trained on the whole pool."""

    given: float | None = None
    runs: tuple[Run, ...] = ()

    def of(self, line: Line) -> float | None:
        """Return the full Dice of a line, from runs on its folds where there are any; None where it is not known."""
        return self.given if self.given is not None else _mean(self._matching(line))

    def of_all(self, comparison: Comparison) -> bool:
        """Tell whether the full Dice of every line is known."""
        return all(self.of(line) is not None for line in comparison.lines)

    def words(self, compared: Sequence[Comparison]) -> str:
        """Return a sentence on the reference of the budgets."""
        if self.given is not None:
            return f"The reference is {self.given:.4f}, given as the Dice with all data."
        best = "the best mean Dice that any strategy of the dataset has reached"
        found = {}
        for comparison in compared:
            for line in comparison.lines:
                if (full := self.of(line)) is not None:
                    where = f"{comparison.title}, {line.runs[0].decided.configuration}"
                    found[where] = f"{full:.4f} ({where}, {count(len(self._matching(line)), 'run')})"
        if not found:
            return f"The reference is {best}."
        otherwise = "" if all(self.of_all(one) for one in compared) else f", elsewhere {best}"
        named = ", ".join(found.values())
        return f"The reference is the mean Dice of models trained on the whole pool: {named}{otherwise}."

    def _matching(self, line: Line) -> list[Run]:
        like = line.runs[0].decided
        found = [
            run
            for run in self.runs
            if run.evaluated
            and (run.decided.dataset, run.decided.test) == (like.dataset, like.test)
            and run.decided.configuration == like.configuration
        ]
        folds = {run.decided.fold for run in line.runs}
        return [run for run in found if run.decided.fold in folds] or found


def _mean(runs: Sequence[Run]) -> float | None:
    known = [result.dice for run in runs for result in run.evaluated[:1] if result.dice is not None]
    return fmean(known) if known else None
