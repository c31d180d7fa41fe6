"""FreeSurfer's labels: names of structures, and the intensities of their tissues in a T1-weighted image.

``structures.csv`` has the name and the tissue of each label; 500 to 530 lie around the brain in the maps published with
SynthSeg, and are named by their position. ``tissues.csv`` has the tissues.
"""

from __future__ import annotations

import numpy as np

from nnunet_al.synthetic.tables import read_rows

TISSUE_MEANS = {row["tissue"]: float(row["mean"]) for row in read_rows("tissues.csv")}
"""Mean intensity of each tissue in arbitrary units; cases vary around it."""

_STRUCTURES = {int(row["label"]): (row["name"], row["tissue"]) for row in read_rows("structures.csv")}
_LABELS = {name: label for label, (name, _) in _STRUCTURES.items()}


def structure_name(label: int) -> str:
    """Return the name of a structure, such as ``left_caudate``; ``label_136`` where it has no name."""
    return _STRUCTURES[label][0] if label in _STRUCTURES else f"label_{label}"


def labels_of(name: str) -> tuple[int, int]:
    """Return the labels of a structure on the left and on the right, which are equal for one in the middle."""
    left, right = (_LABELS.get(f"{side}_{name}") or _LABELS[name] for side in ("left", "right"))
    return left, right


def tissue_of(label: int) -> str:
    """Return the tissue of a label, a key of `TISSUE_MEANS`: cortex for cortical parcels, other for unknown labels."""
    if label in _STRUCTURES:
        return _STRUCTURES[label][1]
    if label in {136, 137, 163, 164}:  # choroid plexus and cysts beside the ventricles in SynthSeg's maps
        return "lesion"
    if 1000 <= label < 3000:
        return "cortex"
    if 3000 <= label < 5000:
        return "white matter"
    return "other"


def intensities(labels: np.ndarray, spread: float, rng: np.random.Generator) -> dict[int, float]:
    """Draw the mean intensity of each label in one image; labels of one tissue have the same intensity.

    Each tissue's mean is multiplied by ``1 + spread c`` with c ~ N(0, 1), clipped at ±2.5, independent of the labels
    present. Label 0 has the intensity of bone here, because its position decides whether it is air.
    """
    factors = 1 + spread * np.clip(rng.standard_normal(len(TISSUE_MEANS)), -2.5, 2.5)
    means = {tissue: mean * factor for (tissue, mean), factor in zip(TISSUE_MEANS.items(), factors, strict=True)}
    return {int(label): means["bone" if label == 0 else tissue_of(int(label))] for label in labels}
