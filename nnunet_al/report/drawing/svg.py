"""Figures of the report as SVG: the same look everywhere, and the same bytes for the same numbers.

Letters are drawn as outlines (``svg.fonttype`` "path"), so that no font is needed and figures look the same on screen
and in print. This costs about ten kilobytes per figure, and their text cannot be searched; it stands, with all numbers,
in the alternative texts and tables. Figures are as wide as a column of the page, and letters are still 9 pixels high
where a telephone shows them 360 pixels wide.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from itertools import product
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from nnunet_al.report.drawing.palette import LINE_COLOURS, MARKERS, new_figure, own_style

WIDTH = 5.0
"""Inches; 480 pixels on a page."""

_DASHES = ("-", "--", ":", "-.")


@dataclass(frozen=True)
class Figure:
    """A figure of the report: its name (letters, digits and underscores), its caption, and the file.

    ``alt`` is its content in sentences with the numbers, for those who do not see it.
    """

    name: str
    caption: str
    alt: str
    svg: str


@dataclass(frozen=True)
class Look:
    """Colour, marker and dashes of a strategy in all figures; no two of the first 28 share colour and dashes."""

    colour: str
    marker: str
    dashes: str


def looks(labels: Sequence[str]) -> dict[str, Look]:
    """Return the look of each label, in order: first all colours, then the same colours with other dashes."""
    variants = list(product(_DASHES, LINE_COLOURS))
    found = {}
    for number, label in enumerate(dict.fromkeys(labels)):
        dashes, colour = variants[number % len(variants)]
        found[label] = Look(colour, MARKERS[number % len(MARKERS)], dashes)
    return found


@contextmanager
def svg_style() -> Iterator[None]:
    """Draw for SVG: reproducible bytes, letters of 9 points."""
    settings = {"svg.fonttype": "path", "svg.hashsalt": "nnunet_al", "hatch.linewidth": 0.6}
    settings |= {"font.size": 9, "axes.titlesize": 9, "axes.titlelocation": "left", "legend.fontsize": 8}
    settings |= {"axes.spines.top": False, "axes.spines.right": False}
    with own_style(), matplotlib.rc_context(settings):
        yield


def canvas(height_inches: float) -> Canvas:
    """Return an empty figure of the report's width."""
    return new_figure(WIDTH, height_inches)


def finished(figure: Canvas, words: Sequence[str], caption: str, alt: str) -> Figure:
    """Return the figure, named by words, as SVG without date, type and creator, so that its bytes are reproducible."""
    text = StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # a box then stands for the letter
        figure.savefig(text, format="svg", metadata=nothing)
    svg = text.getvalue()
    name = "_".join(re.sub(r"[^A-Za-z0-9]+", "_", word).strip("_") for word in words)
    return Figure(name, caption, alt, svg[svg.index("<svg") :])


def shared_legend(figure: Canvas, *all_axes: Axes) -> None:
    """Put one legend for all axes under the figure, in up to three columns."""
    found: dict[str, Any] = {}
    for axes in all_axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    if found:
        columns = _legend_columns(list(found))
        place = {"loc": "outside lower center", "ncols": columns, "frameon": False, "handlelength": 2.6}
        figure.legend(list(found.values()), list(found), **place)


def legend_height(labels: Sequence[str]) -> float:
    """Return about the height in inches of :func:`shared_legend`."""
    return 0.17 * -(-len(labels) // _legend_columns(labels)) + 0.1 if labels else 0.0


def _legend_columns(labels: Sequence[str]) -> int:
    points = 46 + 4.7 * max(map(len, labels))
    return int(min(3, len(labels), max(1, 72 * WIDTH // points)))


def legend_name(label: str) -> str:
    """Return a label as legends show it: matplotlib leaves out labels that begin with an underscore."""
    return f" {label}" if label.startswith("_") else label
