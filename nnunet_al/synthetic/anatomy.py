"""One phantom: a body in air with an organ, a lesion and similar distractors, as an image and its label."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from nnunet_al.errors import DatasetError

ORGAN, LESION = 1, 2

# Mean intensity of (body, organ, lesion) per channel; noise and texture are given in the same unit.
_TISSUES = {"MRI": ((300, 390, 560), (300, 270, 450)), "CT": ((30, 75, 160), (60, 100, 260))}
_CHANNEL_NAMES = {"MRI": ("MRI", "MRI T2"), "CT": ("CT", "PET")}
_CONTRAST = {"MRI": 90.0, "CT": 45.0}


@dataclass(frozen=True)
class PhantomDesign:
    """Common properties of the phantoms of a dataset.

    Attributes
    ----------
    shape : voxels per axis of a typical image, in the order in which nnU-Net reads them: z, y, x; the first may be 1
        for two-dimensional images
    spacing_mm : typical voxel spacing in mm, in the same order
    spacing_variation : 0: all images have this grid; 0.15: each image's spacing differs from it by up to 15 %, in-plane
        and across independently, while the field of view stays about the same
    modality : ``"MRI"`` or ``"CT"``: the intensities, and the name by which nnU-Net chooses its normalisation
    channels : 1 or 2
    lesion_in_organ : whether each lesion is centred in the organ; otherwise about half of them lie elsewhere in the
        body
    """

    shape: tuple[int, int, int] = (40, 48, 32)
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 2.0)
    spacing_variation: float = 0.15
    modality: str = "MRI"
    channels: int = 1
    lesion_in_organ: bool = False

    def __post_init__(self) -> None:
        """Check the values.

        Raises DatasetError naming the invalid value.
        """
        if len(self.shape) != 3 or self.shape[0] < 1 or min(self.shape[1:]) < 12 or 1 < self.shape[0] < 12:
            raise DatasetError(
                f"A phantom of {self.shape} voxels is too small: give z, y, x of at least 12 each, or z = 1 (2d)."
            )
        if len(self.spacing_mm) != 3 or not all(0 < spacing < np.inf for spacing in self.spacing_mm):
            raise DatasetError(f"A spacing of {self.spacing_mm} mm is impossible: give three positive numbers, z y x.")
        if not 0 <= self.spacing_variation <= 0.5:
            raise DatasetError(
                f"A spacing variation of {self.spacing_variation} is not in [0, 0.5]: choose a smaller one."
            )
        if self.modality not in _TISSUES:
            raise DatasetError(f"There are no phantoms of modality {self.modality!r}: choose {' or '.join(_TISSUES)}.")
        if self.channels not in (1, 2):
            raise DatasetError(f"Phantoms have 1 or 2 channels, not {self.channels}: choose one of these.")

    @property
    def channel_names(self) -> tuple[str, ...]:
        """The channels' names for ``dataset.json``."""
        return _CHANNEL_NAMES[self.modality][: self.channels]


@dataclass(frozen=True)
class Phantom:
    """One phantom: ``image_C_zyx`` int16, 0 exactly in air; ``label_zyx`` uint8; spacing z y x."""

    image_C_zyx: np.ndarray
    label_zyx: np.ndarray
    spacing_mm: tuple[float, ...]


def draw_phantom(design: PhantomDesign, rng: np.random.Generator) -> Phantom:
    """Draw one phantom, determined by the design and the generator."""
    spacing = _draw_spacing(design, rng)
    extent = np.array(design.shape) * np.array(design.spacing_mm)
    flat = np.array(design.shape) == 1
    shape = np.where(flat, 1, np.maximum(np.round(extent / spacing), 12)).astype(int)
    field = _Grid(tuple(int(length) for length in shape), spacing, flat)
    size = float(extent[~flat].min())  # mm: lengths below are relative to it

    body_axes = np.where(flat, np.inf, extent * rng.uniform(0.36, 0.43, 3))
    body_centre = rng.uniform(-0.04, 0.04, 3) * extent
    body = field.distance(body_centre, body_axes, rng, tilt_degrees=10) + 0.05 * field.smooth(0.2 * size, rng) < 1

    organ_axes = size * rng.uniform(0.2, 0.28, 3)
    organ_centre = body_centre + 0.09 * size * _direction(rng)
    organ = field.distance(organ_centre, organ_axes, rng, 90) + 0.15 * field.smooth(0.1 * size, rng) < 1

    in_organ = design.lesion_in_organ or rng.random() < 0.5
    lesion_centre = (
        organ_centre + 0.1 * size * _direction(rng) if in_organ else body_centre + 0.25 * size * _direction(rng, 0.6)
    )
    lesion_axes = np.maximum(size * rng.uniform(0.09, 0.13, 3), 1.2 * spacing)
    lesion = field.distance(lesion_centre, lesion_axes, rng, 90) + 0.1 * field.smooth(0.05 * size, rng) < 1

    distractors = np.zeros(field.shape, dtype=bool)
    for _ in range(3):
        centre = body_centre + 0.27 * size * _direction(rng)
        distractors |= field.distance(centre, np.full(3, 0.05 * size), rng, 0) < 1

    label = np.zeros(field.shape, dtype=np.uint8)
    label[organ] = ORGAN
    label[lesion] = LESION
    label[~body] = 0
    image = _paint(design, field, body, label, distractors & (label == 0), size, rng)
    return Phantom(image, label, tuple(float(value) for value in spacing))


def _draw_spacing(design: PhantomDesign, rng: np.random.Generator) -> np.ndarray:
    spacing = np.array(design.spacing_mm, dtype=float)
    coarsest = np.arange(3) == int(np.argmax(spacing))
    in_plane, across = 1 + design.spacing_variation * rng.uniform(-1, 1, 2)
    spacing *= np.where(coarsest, across, in_plane)
    if design.shape[0] == 1:
        # the axis without extent must be the coarsest, else nnU-Net plans the images as volumes
        spacing[0] = 10 * spacing[1:].max()
    return np.round(spacing, 3)


class _Grid:
    """Positions in mm around the centre of a voxel grid, and smooth random fields on it."""

    def __init__(self, shape: tuple[int, ...], spacing: np.ndarray, flat: np.ndarray) -> None:
        self.shape = shape
        self.spacing = spacing
        axes = [(np.arange(n) - (n - 1) / 2) * step for n, step in zip(shape, spacing, strict=True)]
        self.positions_zyx_3 = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
        self.flat = flat

    def distance(
        self, centre: np.ndarray, semi_axes: np.ndarray, rng: np.random.Generator, tilt_degrees: float
    ) -> np.ndarray:
        """Return the distance from the centre relative to an ellipsoid's radius in that direction; 1 on its surface."""
        angles = rng.uniform(-tilt_degrees, tilt_degrees, 3)
        offsets = np.where(self.flat, 0, self.positions_zyx_3 - centre)
        # a flat image shows the ellipsoid's central section, turned within the plane only
        turned = (
            offsets @ Rotation.from_euler("xyz", np.where(self.flat.any(), [1, 0, 0], 1) * angles, True).as_matrix()
        )
        return np.sqrt(((turned / semi_axes) ** 2).sum(-1))

    def smooth(self, length_mm: float, rng: np.random.Generator) -> np.ndarray:
        """Return a Gaussian random field of smoothness ``length_mm``, with mean 0 and standard deviation 1."""
        sigma = np.where(self.flat, 0, length_mm / self.spacing)
        field = gaussian_filter(rng.standard_normal(self.shape), sigma, mode="wrap")
        return (field - field.mean()) / max(float(field.std()), 1e-12)


def _direction(rng: np.random.Generator, least: float = 0.3) -> np.ndarray:
    vector = rng.standard_normal(3)
    return vector / np.linalg.norm(vector) * rng.uniform(least, 1)


def _paint(
    design: PhantomDesign,
    field: _Grid,
    body: np.ndarray,
    label: np.ndarray,
    distractors: np.ndarray,
    size: float,
    rng: np.random.Generator,
) -> np.ndarray:
    contrast = _CONTRAST[design.modality]
    image = np.zeros((design.channels, *field.shape), dtype=np.int16)
    for channel in range(design.channels):
        means = np.array(_TISSUES[design.modality][channel], dtype=float)
        means[1:] += rng.normal(0, 0.12 * contrast, 2)  # differences between patients
        values = means[label]
        values[distractors] = means[1]
        values = gaussian_filter(values, 0.6 * field.spacing.min() / field.spacing)  # partial volume
        values += 0.25 * contrast * field.smooth(0.05 * size, rng)
        if design.modality == "MRI":
            values *= np.exp(0.08 * field.smooth(0.3 * size, rng))
        values += 0.25 * contrast * rng.standard_normal(field.shape)
        values = np.round(values).astype(np.int16)
        values[values == 0] = 1  # zero means air: nnU-Net crops by it
        image[channel] = np.where(body, values, 0)
    return image
