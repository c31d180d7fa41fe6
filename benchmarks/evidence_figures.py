"""The figures of the comparison: curves, differences to the baseline, costs, and the penalty matrix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from evidence_cells import Row
from evidence_measures import Curves, of_whole_pool
from evidence_tables import area_versus, strategies_of
from evidence_tests import Without, penalties
from matplotlib.axes import Axes

from nnunet_al.report.drawing.palette import BLACK, new_figure, own_style, save
from nnunet_al.report.drawing.svg import Look, looks

_GREY = "0.6"


def draw_all(
    campaigns: Sequence[Curves], rows: Sequence[Row], order: Sequence[str], other: str, without: Without, folder: Path
) -> list[Path]:
    """Draw all figures for which there is a complete campaign, and return the files."""
    if not campaigns:
        return []
    of = looks(strategies_of(campaigns, order))
    files = [folder / f"{name}.png" for name in ("curves", "costs", "differences", "penalty")]
    draw_curves(campaigns, rows, of, [("regions", "annotated regions")], files[0])
    draw_curves(campaigns, rows, of, [("contour_mm", "contour length (mm)"), ("cases", "cases touched")], files[1])
    return [
        *files[:2],
        *([files[2]] if draw_differences(campaigns, of, order, other, without, files[2]) else []),
        *([files[3]] if draw_penalties(campaigns, files[3]) else []),
    ]


@own_style()
def draw_curves(
    campaigns: Sequence[Curves], rows: Sequence[Row], of: dict[str, Look], costs: Sequence[tuple[str, str]], file: Path
) -> None:
    """Draw Dice against costs, one column for each set and one row for each cost: means over the seeds."""
    datasets = sorted({one.dataset for one in campaigns})
    figure = new_figure(4.2 * len(datasets) + 0.4, 3.3 * len(costs) + 1.1)
    grid = figure.subplots(len(costs), len(datasets), squeeze=False)
    whole = of_whole_pool(rows)
    for (cost, label), axes_of_row in zip(costs, grid, strict=True):
        for dataset, axes in zip(datasets, axes_of_row, strict=True):
            for name, look in of.items():
                some = [one for one in campaigns if (one.dataset, one.strategy) == (dataset, name)]
                if some:
                    x_R, y_R = (np.mean([one.of(column) for one in some], axis=0) for column in (cost, "dice"))
                    style = {"color": look.colour, "ls": look.dashes, "marker": look.marker}
                    axes.plot(x_R, y_R, **style, ms=4, lw=1.5, mec="white", mew=0.5, label=name)
            if dataset in whole:
                axes.axhline(whole[dataset], color=_GREY, lw=0.9, ls=":")
                axes.annotate("whole pool", (0.02, whole[dataset]), xycoords=("axes fraction", "data"), color="0.4")
            axes.set(title=dataset, xlabel=label, ylabel="mean foreground Dice")
            _plain(axes)
    handles = dict(zip(*reversed(grid[0][0].get_legend_handles_labels()), strict=True))
    for axes in grid.flat:
        handles |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, frameon=False)
    save(figure, file)


@own_style()
def draw_differences(
    campaigns: Sequence[Curves], of: dict[str, Look], order: Sequence[str], other: str, without: Without, file: Path
) -> bool:
    """Draw the difference in area to another strategy: pairs, means on each set, and the pooled mean; False if none."""
    found = sorted(area_versus(campaigns, order, other, without), key=lambda one: one.mean)
    if not found:
        return False
    area_of = {(one.strategy, one.block): one.area for one in campaigns}
    datasets = sorted({one.dataset for one in campaigns})
    figure = new_figure(7.2, 0.42 * len(found) + 1.6)
    axes = figure.subplots()
    for height, one in enumerate(found):
        pairs = [(block, area) for (name, block), area in area_of.items() if name == one.strategy]
        for (dataset, seed), area in pairs:
            if (other, (dataset, seed)) in area_of and (dataset, seed) not in without.get(one.strategy, ()):
                shift = 0.12 * (datasets.index(dataset) - (len(datasets) - 1) / 2)
                marker = "osD^v"[datasets.index(dataset) % 5]
                x = area - area_of[other, (dataset, seed)]
                axes.plot([x], [height + shift], marker, color=of[one.strategy].colour, ms=4, alpha=0.55, mew=0)
        if one.interval is not None:
            axes.plot(one.interval, [height, height], color=BLACK, lw=1.6)
        axes.plot([one.mean], [height], "|", color=BLACK, ms=13, mew=2)
    axes.axvline(0, color=_GREY, lw=0.9)
    axes.set_yticks(range(len(found)), [one.strategy + (" *" if one.beats else "") for one in found])
    axes.set_xlabel(f"difference in area (mean Dice) to {other}, with mean and 95 % interval")
    axes.set_title("; ".join(f"{'●■◆▲▼'[k % 5]} {name}" for k, name in enumerate(datasets)), fontsize="medium")
    _plain(axes)
    save(figure, file)
    return True


@own_style()
def draw_penalties(campaigns: Sequence[Curves], file: Path) -> bool:
    """Draw the penalty matrix; False where nothing can be compared."""
    matrix = penalties(campaigns)
    if not matrix.cells_S_S.any():
        return False
    order = [int(i) for i in np.argsort(matrix.column_means_S, kind="stable") if matrix.cells_S_S[i].any()]
    share_S_S = 100 * matrix.share_S_S[np.ix_(order, order)]
    names = [matrix.names[index] for index in order]
    shown = np.vstack([np.where(np.eye(len(order), dtype=bool), np.nan, share_S_S), 100 * matrix.column_means_S[order]])
    figure = new_figure(0.55 * len(order) + 2.6, 0.42 * len(order) + 2.4)
    axes = figure.subplots()
    axes.imshow(np.ma.masked_invalid(shown), cmap="Blues", vmin=0, vmax=100, aspect="auto")
    for (i, j), value in np.ndenumerate(shown):
        text = "" if np.isnan(value) else f"{value:.0f}"
        axes.text(j, i, text, ha="center", va="center", fontsize=8, color="white" if value > 55 else "black")
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names) + 1), [*names, "column mean"])
    axes.axhline(len(names) - 0.5, color="white", lw=3)
    axes.set(xlabel="is beaten (% of the cells)", ylabel="beats")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    save(figure, file)
    return True


def _plain(axes: Axes) -> None:
    axes.grid(color="0.9", lw=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
