"""Figures 1 to 4 of Danaee et al. 2026: one row per initial composition, lines with their range over the seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from fairness_settings import STRATEGIES
from fairness_table import Rows, of_setting
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from nnunet_al.report.drawing.palette import LINE_COLOURS, MARKERS, new_figure, own_style, save

LABELS = {"essp": "ESSP", "delta": "Δ", "dice": "DSC", "share_group1": "group 1's share of the annotated cases"}


def draw_all(rows: Rows, folder: Path) -> list[Path]:
    """Draw all figures for which there are results, and return the files."""
    settings = of_setting(rows)
    strengths = list(dict.fromkeys(strength for strength, _ in settings))
    if not strengths:
        return []
    drawn = [
        _draw(rows, [(strength, "essp") for strength in strengths], folder / "figure1_essp.png"),
        _draw(rows, [(strength, "share_group1") for strength in strengths], folder / "figure3_group1_share.png"),
    ]
    numbers = {"strong": 2, "weak": 4}
    for strength in strengths:
        file = folder / f"figure{numbers.get(strength, 5)}_delta_dsc_{strength}.png"
        drawn.append(_draw(rows, [(strength, "delta"), (strength, "dice")], file))
    return sorted(drawn)


@own_style()
def _draw(rows: Rows, columns: Sequence[tuple[str, str]], file: Path) -> Path:
    """Draw a grid: one row per initial composition, one column with a common scale per (strength, measure)."""
    settings = of_setting(rows)
    initials = list(dict.fromkeys(initial for _, initial in settings))
    strategies = [*STRATEGIES, *sorted({row["strategy"] for row in rows} - set(STRATEGIES))]
    figure = new_figure(4.6 * len(columns) + 0.4, 3.1 * len(initials) + 0.9)
    grid = figure.subplots(len(initials), len(columns), squeeze=False, sharex=True, sharey="col")
    for axes_of_row, initial in zip(grid, initials, strict=True):
        for axes, (strength, measure) in zip(axes_of_row, columns, strict=True):
            chosen_rows = settings.get((strength, initial), [])
            _lines(axes, chosen_rows, strategies, measure)
            axes.set_title(f"{strength} bias, initially {initial}", fontsize="medium")
            axes.set_ylabel(LABELS[measure])
    for axes in grid[-1]:
        axes.set_xlabel("annotated cases")
    handles = {
        label: handle for axes in grid.flat for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=2, frameon=False)
    seeds = len({row["seed"] for row in rows if row["training"] == "active"})
    if seeds > 1:
        figure.suptitle(f"line: mean of {seeds} seeds, band: their range", fontsize="small", color="0.35")
    save(figure, file)
    return file


def _lines(axes: Axes, rows: Rows, strategies: Sequence[str], measure: str) -> None:
    for index, strategy in enumerate(strategies):
        chosen_rows = [row for row in rows if row["strategy"] == strategy]
        if not chosen_rows:
            continue
        steps = sorted({row["labelled"] for row in chosen_rows})
        values = [[row[measure] for row in chosen_rows if row["labelled"] == step] for step in steps]
        colour = LINE_COLOURS[index % len(LINE_COLOURS)]
        low, high = [min(some) for some in values], [max(some) for some in values]
        axes.fill_between(steps, low, high, color=colour, alpha=0.13, lw=0)
        mean = [float(np.mean(some)) for some in values]
        marker = MARKERS[index % len(MARKERS)]
        axes.plot(steps, mean, color=colour, marker=marker, lw=1.6, ms=5, mec="white", mew=0.5, label=strategy)
    if measure == "share_group1":
        axes.axhline(0.5, color="0.6", lw=0.8, ls=":")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    axes.grid(color="0.9", lw=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
