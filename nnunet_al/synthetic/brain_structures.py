"""The structures inside the brain phantom, in the axes of `brain_shapes` and mm; the same on both sides.

Positions and sizes are those of adults. ``sweeps.csv`` has the rows of each `Sweep`.
"""

from __future__ import annotations

from itertools import groupby

from nnunet_al.synthetic.brain_cortex import CEREBELLUM
from nnunet_al.synthetic.brain_shapes import Ellipsoid, Shape, Sweep
from nnunet_al.synthetic.tables import read_rows

_CEREBELLUM_WHITE = Ellipsoid((-50.0, 54.0, 18.0), (16.0, 16.0, 22.0))
_AMYGDALA = Ellipsoid((-27.0, 5.5, 24.0), (7.5, 5.5, 8.5))


def _structures() -> dict[str, Shape]:
    sweeps: dict[str, Shape] = {}
    for (name, axis), rows in groupby(read_rows("sweeps.csv"), key=lambda row: (row["structure"], row["axis"])):
        sweeps[name] = Sweep("wvu".index(axis), tuple(tuple(map(float, list(row.values())[2:])) for row in rows))
    # the amygdala covers the end of the hippocampus
    first = {"cerebellum_cortex": CEREBELLUM, "cerebellum_white_matter": _CEREBELLUM_WHITE}
    return {**first, "hippocampus": sweeps["hippocampus"], "amygdala": _AMYGDALA, **sweeps}


STRUCTURES = _structures()
"""Shape of each structure, by its name without side, in painting order: later ones cover earlier ones.

The caudate has a head, a tapering body, and the beginning of the tail, along the ventricle's lateral wall; the lateral
ventricle has a frontal horn around the caudate's head, a body, an atrium and an occipital horn.
"""
