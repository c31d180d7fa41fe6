"""Pictures of selected regions: slices with the region's box, the prediction and the reader's label."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from nnunet_al.report.drawing.palette import ORANGE, SKY_BLUE, YELLOW, new_figure, own_style, save, write_sentence
from nnunet_al.report.drawing.svg import legend_name

PREDICTION, READER, REGION = ORANGE, SKY_BLUE, YELLOW
_WIDTH = 3.1  # inches of a panel
_MOST_IN_A_ROW = 5  # names in the legend of a wide tile
_TILE, _TILE_DPI = 2.1, 110  # the same for `region_picture`, and its resolution
_DASHES = ("-", (0, (3, 1.5)), (0, (1, 1.2)), (0, (5, 1.2, 1, 1.2)), (0, (2, 3)), (0, (5, 1, 1, 1, 1, 1)))
_FINE_GRID = 512  # points along a side of the grid in which outlines are found


@dataclass(frozen=True)
class Panel:
    """One slice.

    Attributes
    ----------
    title : for example strategy, round, case and slice
    image_yx : one channel of the slice, any intensities
    prediction_yx, reference_yx : predicted classes and the reader's, 0 for background and where nobody annotated; None
        if unknown
    box : the region in the slice: half-open intervals of y and x in voxels
    spacing_yx : distance of voxels in mm
    score : the score by which the strategy ranks the region, in its unit; None if it has none
    uncertainty_yx : predictive entropy in nats, NaN where nnU-Net crops the image away; None if unknown
    map_yx, map_name : the strategy's own map, NaN outside the region, and the metric's name; None where it has none
    classes : label -> its name; its place in the order decides the dashes of its outline
    """

    title: str
    image_yx: np.ndarray
    prediction_yx: np.ndarray | None
    reference_yx: np.ndarray | None
    box: tuple[tuple[int, int], tuple[int, int]]
    spacing_yx: tuple[float, float]
    score: float | None = None
    uncertainty_yx: np.ndarray | None = None
    map_yx: np.ndarray | None = None
    map_name: str = ""
    classes: Mapping[int, str] = field(default_factory=dict)


@own_style()
def region_picture(panel: Panel, largest: float, largest_own: float = 1.0) -> bytes:
    """Return one panel as a PNG file: the slice with outlines on the left, its map of uncertainty on the right.

    The strategy's own map, where there is one, comes third. ``largest`` (nats) and ``largest_own`` are the upper ends
    of the colours, the same for pictures that are compared. Maps are drawn in viridis, whose lightness grows with the
    values. Without a map there is only the left part.
    """
    height = _TILE * float(np.clip(height_per_width(panel), 0.4, 1.6))
    maps = [
        (map_yx, name, top)
        for map_yx, name, top in (
            (panel.uncertainty_yx, "predictive entropy [nats]", largest),
            (panel.map_yx, f"own map: {panel.map_name}", largest_own),
        )
        if map_yx is not None
    ]
    handles = _handles([panel])
    columns = len(handles) if maps and len(handles) <= _MOST_IN_A_ROW else 2
    width = (1 + len(maps)) * _TILE + 0.66 * len(maps)
    figure = new_figure(width, height + 0.47 + 0.16 * ceil(len(handles) / columns))
    dark_legend(figure, handles, columns, 7)
    left, *right = figure.subplots(1, 1 + len(maps), squeeze=False).ravel()
    _draw(left, panel)
    left.set_title(panel.title, fontsize=9)
    for axes, (map_yx, name, top) in zip(right, maps, strict=True):
        shown = axes.imshow(map_yx, cmap="viridis", vmin=0, vmax=max(top, 1e-6), aspect=_aspect(panel))
        axes.set_facecolor("0.4")
        _frame(axes, panel, "white")  # the map itself ends in yellow
        axes.set_title(name, fontsize=9)
        bar = figure.colorbar(shown, ax=axes, fraction=0.05, pad=0.02)
        bar.ax.tick_params(labelsize=8)
        bar.outline.set_visible(False)
    for axes in (left, *right):
        axes.tick_params(left=False, bottom=False, labelleft=False, labelbottom=False)
        axes.spines[:].set_visible(False)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=_TILE_DPI, metadata={"Software": None})
    return file.getvalue()


@own_style()
def selection_picture(panels: Sequence[Panel], path: Path, title: str = "", columns: int = 4) -> None:
    """Draw the panels in a grid, in the order given, into a PNG file.

    Raises StorageError if the file cannot be written.
    """
    if not panels:
        figure = new_figure(2 * _WIDTH, _WIDTH)
        write_sentence(figure, "No region was selected.")
        save(figure, path)
        return
    n_columns = min(columns, len(panels))
    n_rows = ceil(len(panels) / n_columns)
    height = _WIDTH * float(np.clip(max(height_per_width(panel) for panel in panels), 0.4, 1.6))
    figure = new_figure(max(n_columns * _WIDTH, 1.6 * _WIDTH), n_rows * (height + 0.5) + 0.5 + 0.3 * bool(title))
    if title:
        figure.suptitle(title)
    all_axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for axes, panel in zip(all_axes, panels, strict=False):
        _draw(axes, panel)
    for axes in all_axes:
        axes.set_axis_off()
    handles = _handles(panels)
    dark_legend(figure, handles, len(handles) if n_columns > 2 else 3, None)
    save(figure, path)


def display_range(image: np.ndarray) -> tuple[float, float]:
    """Return the values drawn black and white: percentiles 1 and 99.5 of voxels that are not air (exactly 0) or NaN.

    Black is 30 % of the range below the lower percentile, so that dark tissue can be told apart from air.
    """
    values = image[np.isfinite(image) & (image != 0)]
    if not len(values):
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(values, [1, 99.5]))
    if high <= low:
        return low - 1.0, low + 1.0
    return low - 0.3 * (high - low), high


def _handles(panels: Iterable[Panel]) -> list[Line2D]:
    """Return the entries of a legend: reader, prediction and region by colour, and classes, if several, by dashes."""
    region = Line2D([], [], color=REGION, lw=1.6, ls=(0, (4, 3)), label="region asked for")
    lines, classes = outline_handles(panels, "reader")
    return [*lines, region, *classes]


def outline_handles(panels: Iterable[Panel], reference: str) -> tuple[list[Line2D], list[Line2D]]:
    """Return the entries for outlines: those of ``reference`` and prediction, and those of classes, if several."""
    panels = list(panels)
    handles = [
        Line2D([], [], color=READER, lw=2.5, label=reference),
        Line2D([], [], color=PREDICTION, lw=1.5, label="prediction"),
    ]
    names: dict[str, object] = {}
    for panel in panels:
        shown = [classes for classes in (panel.reference_yx, panel.prediction_yx) if classes is not None]
        seen = {int(value) for classes in shown for value in np.unique(classes) if value > 0}
        names |= {panel.classes[value]: dashes_of(panel, value) for value in panel.classes if value in seen}
    several = len({name for panel in panels for name in panel.classes.values()}) > 1
    return handles, [
        Line2D([], [], color="white", lw=1.3, ls=ls, label=legend_name(name)) for name, ls in names.items() if several
    ]


def dashes_of(panel: Panel, value: int) -> str | tuple[float, tuple[float, ...]]:
    """Return the dashes of a class's outline, the same in all pictures of a dataset."""
    order = list(panel.classes)
    return _DASHES[order.index(value) % len(_DASHES)] if value in order else _DASHES[0]


def dark_legend(figure: Figure, handles: Sequence[Line2D], columns: int, size: float | None) -> None:
    """Put a legend under a picture, on the dark ground that light lines have in the picture."""
    legend = figure.legend(
        handles=list(handles),
        loc="outside lower center",
        ncols=columns,
        facecolor="0.25",
        labelcolor="white",
        fontsize=size,
        handlelength=2.4,
        columnspacing=1.2,
        borderpad=0.3,
    )
    legend.get_frame().set_edgecolor("none")


def height_per_width(panel: Panel) -> float:
    """Return the ratio of a slice's sides in mm."""
    height, width = panel.image_yx.shape
    return height * panel.spacing_yx[0] / (width * panel.spacing_yx[1])


def draw_slice(axes: Axes, panel: Panel) -> None:
    """Draw a slice with its outlines, without region and title."""
    low, high = display_range(panel.image_yx)
    axes.imshow(panel.image_yx, cmap="gray", vmin=low, vmax=high, aspect=_aspect(panel))
    for classes, colour, width in ((panel.reference_yx, READER, 2.0), (panel.prediction_yx, PREDICTION, 1.1)):
        if classes is not None:
            _outline(axes, panel, classes, colour, width)


def _draw(axes: Axes, panel: Panel) -> None:
    draw_slice(axes, panel)
    _frame(axes, panel)
    score = "" if panel.score is None else f"\nscore {panel.score:.4g}"
    axes.set_title(panel.title + score, fontsize=8.5)


def _frame(axes: Axes, panel: Panel, colour: str = REGION) -> None:
    """Draw the region's box, with a margin, so that the box of a whole slice is visible as well."""
    (top, bottom), (left, right) = panel.box
    axes.add_patch(
        Rectangle(
            (left - 0.5, top - 0.5),
            right - left,
            bottom - top,
            fill=False,
            ec=colour,
            lw=1.6,
            ls=(0, (4, 3)),
            clip_on=False,
            zorder=3,  # an outline along the border must not hide it
        )
    )
    height, width = panel.image_yx.shape
    axes.set_xlim(-0.5 - 0.02 * width, width - 0.5 + 0.02 * width)
    axes.set_ylim(height - 0.5 + 0.02 * height, -0.5 - 0.02 * height)


def _aspect(panel: Panel) -> float:
    return panel.spacing_yx[0] / panel.spacing_yx[1]


def _outline(axes: Axes, panel: Panel, classes_yx: np.ndarray, colour: str, width: float) -> None:
    # Few voxels: the line follows their edges. Many: they are smaller than the line, and finer grids cost memory.
    fineness = int(np.clip(_FINE_GRID // max(classes_yx.shape), 1, 8))
    y, x = ((np.arange((length + 2) * fineness) + 0.5) / fineness - 1.5 for length in classes_yx.shape)
    for value in np.unique(classes_yx[classes_yx > 0]):
        mask = np.pad(classes_yx == value, 1)  # so that outlines close at the border
        fine = mask.repeat(fineness, axis=0).repeat(fineness, axis=1).astype(float)
        axes.contour(
            x, y, fine, levels=[0.5], colors=[colour], linewidths=[width], linestyles=[dashes_of(panel, value)]
        )
