"""A head of ellipsoids, small enough to be deformed in a fraction of a second."""

from __future__ import annotations

import numpy as np

from nnunet_al.synthetic.template import LabelMap

SHAPE, SPACING = (36, 44, 44), (1.5, 1.5, 1.5)


def tiny_head() -> LabelMap:
    """Skin, fluid, white matter, and on each side a ventricle, a caudate beside it and a thalamus behind both."""
    axes = [(np.arange(n) - (n - 1) / 2) * step for n, step in zip(SHAPE, SPACING, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij")

    def ellipsoid(centre, radii):
        parts = [((p - c) / r) ** 2 for p, c, r in zip((z, y, x), centre, radii, strict=True)]
        return sum(parts) < 1

    labels = np.zeros(SHAPE, dtype=np.int16)
    labels[ellipsoid((0, 0, 0), (40, 31, 31))] = 511
    labels[ellipsoid((0, 0, 0), (37, 28, 28))] = 24
    brain = ellipsoid((0, 0, 0), (35, 26, 26))
    labels[brain & (x > 0)], labels[brain & (x <= 0)] = 2, 41
    for side, (ventricle, caudate, thalamus) in ((1, (4, 11, 10)), (-1, (43, 50, 49))):
        labels[ellipsoid((0, -2, 9 * side), (8, 9, 4.5))] = caudate
        labels[ellipsoid((0, -1, 4 * side), (9, 11, 3.5))] = ventricle
        labels[ellipsoid((-4, 14, 8 * side), (7, 6, 6))] = thalamus
    return LabelMap(labels, SPACING)
