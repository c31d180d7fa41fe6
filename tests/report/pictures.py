"""Reading back what was drawn."""

from __future__ import annotations

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.image import imread


def n_pixels_like(path, colour, tolerance=0.06):
    """How many pixels have about this colour."""
    pixels = imread(path)[..., :3]
    return int((np.abs(pixels - np.array(to_rgb(colour))).max(-1) < tolerance).sum())
