"""Pictures of a test case: the label, and the predictions of each strategy's models, round by round."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np

from nnunet_al.report.drawing.palette import new_figure, own_style
from nnunet_al.report.drawing.selection_picture import Panel, dark_legend, draw_slice, height_per_width, outline_handles

_TILE, _DPI = 1.5, 130  # inches


@own_style()
def case_picture(rows: Mapping[str, Sequence[Panel | None]], columns: Sequence[str]) -> bytes:
    """Return a PNG file with a row per strategy and a column per model, all of one slice; None leaves a place empty.

    There is at least one panel, and each row is as long as ``columns``. A panel's title stands above it.
    """
    panels = [panel for of in rows.values() for panel in of if panel is not None]
    height = _TILE * float(np.clip(height_per_width(panels[0]), 0.4, 1.8))
    figure = new_figure(_TILE * len(columns) + 0.3, (height + 0.2) * len(rows) + 0.7)
    lines, classes = outline_handles(panels, "label")
    dark_legend(figure, [*lines, *classes], len(lines) + min(len(classes), 2), 7)
    grid = figure.subplots(len(rows), len(columns), squeeze=False)
    for axes_of_row, (name, of) in zip(grid, rows.items(), strict=True):
        for axes, panel in zip(axes_of_row, of, strict=True):
            axes.tick_params(left=False, bottom=False, labelleft=False, labelbottom=False)
            axes.spines[:].set_visible(False)
            if panel is not None:
                draw_slice(axes, panel)
                axes.set_title(panel.title, fontsize=8)
        axes_of_row[0].set_ylabel(name, fontsize=9)
    for axes, words in zip(grid[0], columns, strict=True):
        axes.set_title("\n".join(filter(None, (words, axes.get_title()))), fontsize=8)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=_DPI, metadata={"Software": None})
    return file.getvalue()
