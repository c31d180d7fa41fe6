"""The pairwise penalty matrix as a map with its numbers."""

from __future__ import annotations

import numpy as np

from nnunet_al.evaluation.penalty import PenaltyMatrix
from nnunet_al.report.drawing.svg import Figure, canvas, finished, svg_style
from nnunet_al.report.reading.round_values import DICE, Measure

_MOST_LETTERS = 26


@svg_style()
def penalty_figure(matrix: PenaltyMatrix, measure: Measure = DICE) -> Figure | None:
    """Draw the percentage of cells in which a row's strategy beats a column's; None without two to compare."""
    if not matrix.cells_S_S.any():
        return None
    compared_S = matrix.cells_S_S.sum(axis=0) > 0
    order = [index for index in np.argsort(matrix.column_means_S, kind="stable") if compared_S[index]]
    names = [_short(matrix.names[index]) for index in order]
    share_S_S = matrix.share_S_S[np.ix_(order, order)]
    mean_S = matrix.column_means_S[order]
    size = len(order)
    figure = canvas(min(0.36 * (size + 1), 4.6) + 0.07 * max(map(len, names)) + 0.5)
    axes = figure.add_subplot()
    shown = 100 * np.vstack([np.where(np.eye(size, dtype=bool), np.nan, share_S_S), mean_S])
    image = np.ma.masked_invalid(shown)
    places = np.arange(size + 2) - 0.5
    axes.pcolormesh(places[:-1], places, image, cmap="Blues", vmin=0, vmax=100)
    axes.invert_yaxis()
    letters = float(np.clip(9 - 0.25 * max(0, size - 8), 6, 9))
    for (i, j), value in np.ndenumerate(shown):
        text = "–" if np.isnan(value) else f"{value:.0f}"
        axes.text(j, i, text, ha="center", va="center", fontsize=letters, color="white" if value > 55 else "black")
    axes.axhline(size - 0.5, color="white", lw=4)
    axes.set_xticks(range(size), names, rotation=90 if size > 3 else 0, fontsize=letters)
    axes.set_yticks(range(size + 1), [*names, "column mean"], fontsize=letters)
    axes.set_xlabel("is beaten [%]")
    axes.set_ylabel("beats")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    least, most = (f"{100 * mean:.1f} %" for mean in (mean_S[0], mean_S[-1]))
    ends = (
        f"All have the same column mean, {least}."
        if least == most
        else f"{names[0]} is beaten least, with a column mean of {least}, and {names[-1]} most, with {most}."
    )
    return finished(
        figure,
        (f"penalty{measure.suffix}",),
        f"By {measure.words}: percentage of the cells in which the strategy of a row beats that of a column; below, "
        "the column means (lower is better). A dash: nothing to compare.",
        f"Pairwise penalty matrix of {size} strategies by {measure.words}. {ends}",
    )


def _short(name: str) -> str:
    return name if len(name) <= _MOST_LETTERS else name[: _MOST_LETTERS - 1] + "…"
