"""FreeSurfer's labels: names of structures, and the intensities of their tissues in a T1-weighted image."""

from __future__ import annotations

import numpy as np

AIR = "air"

TISSUE_MEANS = {
    AIR: 0.0,
    "white matter": 700.0,
    "cortex": 490.0,
    "caudate": 530.0,
    "putamen": 550.0,
    "pallidum": 630.0,
    "thalamus": 600.0,
    "amygdala and hippocampus": 500.0,
    "brain stem": 640.0,
    "fluid": 170.0,
    "lesion": 430.0,
    "vessel": 260.0,
    "bone": 130.0,
    "marrow and fat": 800.0,
    "soft tissue": 410.0,
    "skin": 600.0,
    "other": 300.0,
}
"""Mean intensity of each tissue in arbitrary units; cases vary around it."""

_SIDED = {
    "cerebral_white_matter": (2, 41, "white matter"),
    "cerebral_cortex": (3, 42, "cortex"),
    "lateral_ventricle": (4, 43, "fluid"),
    "inferior_lateral_ventricle": (5, 44, "fluid"),
    "cerebellum_white_matter": (7, 46, "white matter"),
    "cerebellum_cortex": (8, 47, "cortex"),
    "thalamus": (10, 49, "thalamus"),
    "caudate": (11, 50, "caudate"),
    "putamen": (12, 51, "putamen"),
    "pallidum": (13, 52, "pallidum"),
    "hippocampus": (17, 53, "amygdala and hippocampus"),
    "amygdala": (18, 54, "amygdala and hippocampus"),
    "lesion": (25, 57, "lesion"),
    "accumbens": (26, 58, "caudate"),
    "ventral_dc": (28, 60, "brain stem"),
    "vessel": (30, 62, "vessel"),
    "choroid_plexus": (31, 63, "lesion"),
}
_SINGLE = {
    14: ("third_ventricle", "fluid"),
    15: ("fourth_ventricle", "fluid"),
    16: ("brain_stem", "brain stem"),
    24: ("csf", "fluid"),
    72: ("fifth_ventricle", "fluid"),
    77: ("white_matter_lesion", "lesion"),
    78: ("left_white_matter_lesion", "lesion"),
    79: ("right_white_matter_lesion", "lesion"),
    80: ("other_lesion", "lesion"),
    85: ("optic_chiasm", "brain stem"),
    165: ("skull", "bone"),
    258: ("head_extracerebral", "soft tissue"),
    259: ("eyes", "fluid"),
    # 500 to 530: around the brain in the maps published with SynthSeg, named by their position
    502: ("arteries", "vessel"),
    506: ("eye_balls", "fluid"),
    507: ("soft_tissue", "soft tissue"),
    508: ("optic_nerves", "soft tissue"),
    509: ("mucosa", "soft tissue"),
    511: ("skin", "skin"),
    514: ("venous_sinuses", "vessel"),
    515: ("bone", "bone"),
    516: ("bone_marrow", "marrow and fat"),
    530: ("pituitary_stalk", "brain stem"),
}
_TABLE = (
    {left: (f"left_{name}", tissue) for name, (left, _, tissue) in _SIDED.items()}
    | {right: (f"right_{name}", tissue) for name, (_, right, tissue) in _SIDED.items()}
    | _SINGLE
    | {label: (f"corpus_callosum_{label - 250}", "white matter") for label in range(251, 256)}
)


def structure_name(label: int) -> str:
    """Return the name of a structure, such as ``left_caudate``; ``label_136`` where it has no name."""
    return _TABLE[label][0] if label in _TABLE else f"label_{label}"


def tissue_of(label: int) -> str:
    """Return the tissue of a label, a key of `TISSUE_MEANS`: cortex for cortical parcels, other for unknown labels."""
    if label in _TABLE:
        return _TABLE[label][1]
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
