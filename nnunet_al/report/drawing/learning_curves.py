"""Learning curves: Dice against the number of annotated regions, one line per strategy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from nnunet_al.report.drawing.palette import (
    LINE_COLOURS,
    MARKERS,
    new_figure,
    own_style,
    save,
    say_that_nothing_is_there,
)
from nnunet_al.report.reading.lines import mean_curve

_CLASSES_PER_ROW = 3


@dataclass(frozen=True)
class Curve:
    """One campaign.

    Attributes
    ----------
    label
        the strategy; curves of one label are runs of it (seeds, folds) and are drawn as one mean line
    annotated_R
        number of annotated regions when round r = 0..R-1 was evaluated
    dice_R
        mean foreground Dice of the round, NaN where there is none
    per_class
        Dice of each class, each of shape ``(R,)``
    """

    label: str
    annotated_R: Sequence[float] | np.ndarray  # noqa: N815
    dice_R: Sequence[float] | np.ndarray  # noqa: N815
    per_class: Mapping[str, Sequence[float] | np.ndarray] = field(default_factory=dict)


@own_style()
def learning_curves(campaigns: Sequence[Curve], path: Path, title: str = "Learning curves") -> None:
    """Draw mean foreground Dice, and below it each class where there is more than one, into a PNG file.

    Several runs of one label become a mean line with a band of one standard deviation, and thin lines for the runs.

    Raises
    ------
    StorageError
        if the file cannot be written.
    """
    labels = list(dict.fromkeys(curve.label for curve in campaigns))
    classes = list(dict.fromkeys(name for curve in campaigns for name in curve.per_class))
    n_rows = ceil(len(classes) / _CLASSES_PER_ROW) if len(classes) > 1 else 0
    figure = new_figure(8.0, 4.8 + 2.4 * n_rows + 0.25 * ceil(len(labels) / 3))
    figure.suptitle(title)
    if not labels:
        say_that_nothing_is_there(figure, "No round has been evaluated yet.")
        save(figure, path)
        return

    n_columns = min(len(classes), _CLASSES_PER_ROW) if n_rows else 1
    grid = figure.add_gridspec(1 + n_rows, n_columns, height_ratios=[1.9] + [1.0] * n_rows)
    main = figure.add_subplot(grid[0, :])
    _draw(main, labels, [(curve.label, curve.annotated_R, curve.dice_R) for curve in campaigns])
    main.set_ylabel("mean foreground Dice")
    main.set_xlabel("annotated regions")
    for index, name in enumerate(classes if n_rows else []):
        row, column = divmod(index, n_columns)
        axes = figure.add_subplot(grid[1 + row, column])
        runs = [
            (curve.label, curve.annotated_R, curve.per_class[name]) for curve in campaigns if name in curve.per_class
        ]
        _draw(axes, labels, runs, small=True)
        axes.set_title(name, fontsize="medium")
        axes.set_xlabel("annotated regions")
        if column == 0:
            axes.set_ylabel("Dice")
    figure.legend(*main.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    save(figure, path)


def _draw(
    axes: Axes,
    labels: Sequence[str],
    runs: Sequence[tuple[str, Sequence[float] | np.ndarray, Sequence[float] | np.ndarray]],
    small: bool = False,
) -> None:
    banded = False
    for index, label in enumerate(labels):
        own = [_finite(annotated, dice) for name, annotated, dice in runs if name == label]
        own = [run for run in own if len(run[0])]
        mean = mean_curve(own)
        colour = LINE_COLOURS[index % len(LINE_COLOURS)]
        if mean.n > 1:
            banded = True
            low_P, high_P = mean.mean_P - mean.sd_P, mean.mean_P + mean.sd_P
            axes.fill_between(mean.budget_P, low_P, high_P, color=colour, alpha=0.13, lw=0)
            for annotated, dice in own:
                axes.plot(annotated, dice, color=colour, alpha=0.3, lw=0.7)
        axes.plot(
            mean.budget_P,
            mean.mean_P,
            color=colour,
            marker=MARKERS[index % len(MARKERS)],
            ls="-" if index < len(LINE_COLOURS) else "--",
            lw=1.3 if small else 1.8,
            ms=3.5 if small else 5.5,
            mec="white",
            mew=0.5,
            label=f"{label} ({mean.n} runs)" if mean.n > 1 else label,
        )
    if banded and not small:
        axes.set_title("line: mean of runs, band: ± 1 standard deviation", fontsize="small", color="0.35", loc="left")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6 if small else 12, integer=True, steps=[1, 2, 5, 10]))
    axes.grid(color="0.9", lw=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _finite(
    annotated_R: Sequence[float] | np.ndarray, dice_R: Sequence[float] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    annotated, dice = np.asarray(annotated_R, dtype=float), np.asarray(dice_R, dtype=float)
    keep = np.isfinite(annotated) & np.isfinite(dice)
    order = np.argsort(annotated[keep], kind="stable")
    return annotated[keep][order], dice[keep][order]
