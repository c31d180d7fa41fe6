"""Learning curves: Dice against the number of annotated regions, one line per strategy."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from nnunet_al.report.drawing.palette import LINE_COLOURS, MARKERS, new_figure, own_style, save, write_sentence
from nnunet_al.report.reading.lines import mean_curve, run_curve
from nnunet_al.report.reading.round_values import Value, class_dice, dice
from nnunet_al.report.reading.runs import Run

_CLASSES_PER_ROW = 3


@own_style()
def learning_curves(campaigns: Sequence[Run], path: Path, title: str = "Learning curves") -> None:
    """Draw mean foreground Dice, and below it each class where there is more than one, into a PNG file.

    Several runs of one strategy become a mean line with a band of one standard deviation, and thin lines for the runs.

    Raises StorageError if the file cannot be written.
    """
    labels = list(dict.fromkeys(run.strategy for run in campaigns))
    classes = list(dict.fromkeys(name for run in campaigns for result in run.rounds for name in result.dice_of_class))
    n_rows = ceil(len(classes) / _CLASSES_PER_ROW) if len(classes) > 1 else 0
    figure = new_figure(8.0, 4.8 + 2.4 * n_rows + 0.25 * ceil(len(labels) / 3))
    figure.suptitle(title)
    if not labels:
        write_sentence(figure, "No round has been evaluated yet.")
        save(figure, path)
        return

    n_columns = min(len(classes), _CLASSES_PER_ROW) if n_rows else 1
    grid = figure.add_gridspec(1 + n_rows, n_columns, height_ratios=[1.9] + [1.0] * n_rows)
    main = figure.add_subplot(grid[0, :])
    _draw(main, labels, campaigns, dice)
    main.set_ylabel("mean foreground Dice")
    main.set_xlabel("annotated regions")
    for index, name in enumerate(classes if n_rows else []):
        row, column = divmod(index, n_columns)
        axes = figure.add_subplot(grid[1 + row, column])
        _draw(axes, labels, campaigns, class_dice(name), small=True)
        axes.set_title(name, fontsize="medium")
        axes.set_xlabel("annotated regions")
        if column == 0:
            axes.set_ylabel("Dice")
    figure.legend(*main.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    save(figure, path)


def _draw(axes: Axes, labels: Sequence[str], campaigns: Sequence[Run], value: Value, small: bool = False) -> None:
    banded = False
    for index, label in enumerate(labels):
        own = [run_curve(run, "regions", value) for run in campaigns if run.strategy == label]
        own = [curve for curve in own if len(curve[0])]
        mean = mean_curve(own)
        colour = LINE_COLOURS[index % len(LINE_COLOURS)]
        if mean.n > 1:
            banded = True
            low_P, high_P = mean.mean_P - mean.sd_P, mean.mean_P + mean.sd_P
            axes.fill_between(mean.budget_P, low_P, high_P, color=colour, alpha=0.13, lw=0)
            for budget_P, dice_P in own:
                axes.plot(budget_P, dice_P, color=colour, alpha=0.3, lw=0.7)
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
