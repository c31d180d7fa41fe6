"""Shared by all pictures: colours that colour-blind people can tell apart, style, and atomic writing of files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nnunet_al.files import write_atomically

# Okabe and Ito's palette (https://jfly.uni-koeln.de/color), names as they give them
BLUE = "#0072B2"
VERMILLION = "#D55E00"
BLUISH_GREEN = "#009E73"
REDDISH_PURPLE = "#CC79A7"
ORANGE = "#E69F00"
SKY_BLUE = "#56B4E9"
YELLOW = "#F0E442"
BLACK = "#000000"

LINE_COLOURS = (BLUE, VERMILLION, BLUISH_GREEN, REDDISH_PURPLE, ORANGE, SKY_BLUE, BLACK)  # yellow is lost on white
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

DPI = 130


@contextmanager
def own_style() -> Iterator[None]:
    """Draw with matplotlib's defaults (nnU-Net's logger changes them for the process), and no formulas in names."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams["text.parse_math"] = False
        yield


def new_figure(width_inches: float, height_inches: float) -> Figure:
    """Return an empty figure without a window or any state shared with other plots."""
    figure = Figure(figsize=(width_inches, height_inches), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def write_sentence(figure: Figure, sentence: str) -> None:
    """Write a sentence into the middle of an empty figure."""
    figure.text(0.5, 0.5, sentence, ha="center", va="center", color="0.35")


def save(figure: Figure, path: Path) -> None:
    """Write the figure as PNG; the same figure gives the same bytes.

    Raises StorageError if it cannot be written.
    """
    write_atomically(
        Path(path), lambda temporary: figure.savefig(temporary, format="png", dpi=DPI, metadata={"Software": None})
    )
