"""Two headers are one grid where SimpleITK puts their corners at one place, up to a hundredth of a voxel."""

from itertools import product

import numpy as np
import pytest
import SimpleITK

from nnunet_al.nnunet.grid_difference import TOLERANCE, grid_difference

SIZE_IJK = (40, 30, 12)


def grid(spacing, origin, matrix) -> SimpleITK.Image:
    image = SimpleITK.Image(SIZE_IJK, SimpleITK.sitkUInt8)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(np.ravel(matrix))
    return image


def properties(image: SimpleITK.Image, reader: str) -> dict:
    if reader == "nibabel":
        matrix = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
        affine = np.vstack([np.column_stack([matrix, image.GetOrigin()]), [0, 0, 0, 1]])
        return {"spacing": image.GetSpacing()[::-1], "nibabel_stuff": {"original_affine": affine}}
    stuff = {name: getattr(image, f"Get{name.title()}")() for name in ("spacing", "origin", "direction")}
    return {"spacing": list(image.GetSpacing()[::-1]), "sitk_stuff": stuff}


def corner_distance(other: SimpleITK.Image, image: SimpleITK.Image) -> float:
    corners = product(*((0, length - 1) for length in SIZE_IJK))
    return max(
        np.abs(
            np.subtract(image.TransformPhysicalPointToContinuousIndex(other.TransformIndexToPhysicalPoint(c)), c)
        ).max()
        for c in corners
    )


def turned(angle: float, axis: int) -> np.ndarray:
    matrix, (a, b) = np.eye(3), [other for other in range(3) if other != axis]
    matrix[[a, b], [a, b]], matrix[a, b], matrix[b, a] = np.cos(angle), -np.sin(angle), np.sin(angle)
    return matrix


def test_corners_decide_as_simpleitk_places_them():
    rng = np.random.default_rng(0)
    outcomes = set()
    for number in range(200):
        matrix = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        matrix[:, 0] *= np.sign(np.linalg.det(matrix))
        spacing, origin = rng.uniform(0.4, 3, 3), rng.uniform(-90, 90, 3)
        image = grid(spacing, origin, matrix)
        size = 10 ** rng.uniform(-5, -2.5)
        other = grid(
            spacing * (1 + size * rng.normal()), origin + size * rng.normal(size=3), turned(size, number % 3) @ matrix
        )
        distance = corner_distance(other, image)
        if abs(distance - TOLERANCE) < 1e-6:
            continue
        found = grid_difference(properties(other, "sitk"), properties(image, "sitk"), SIZE_IJK[::-1])
        assert (found is None) == (distance <= TOLERANCE), distance
        outcomes.add(found is None)
    assert outcomes == {True, False}


@pytest.mark.parametrize("reader", ["sitk", "nibabel"])
@pytest.mark.parametrize("header, name", [("Origin", "origin"), ("Spacing", "spacing"), ("Direction", "direction")])
def test_what_differs_is_named(reader, header, name):
    image, other = (grid((1, 1, 2.5), (5, 5, 5), np.eye(3)) for _ in range(2))
    changed = {"Origin": (5, 5, 5.1), "Spacing": (1, 1.01, 2.5), "Direction": turned(0.01, 2).ravel()}[header]
    getattr(other, f"Set{header}")(changed)
    found = grid_difference(properties(other, reader), properties(image, reader), SIZE_IJK[::-1])
    assert found is not None
    assert found[0] == (name if reader == "sitk" or name == "spacing" else "affine")


def test_spacings_alone_are_compared_over_the_length_of_the_image():
    theirs, ours = {"spacing": (1.0, 1.0, 1.0002)}, {"spacing": (1.0, 1.0, 1.0)}
    assert grid_difference(theirs, ours, (10, 10, 40)) is None
    assert grid_difference(theirs, ours, (10, 10, 60))[0] == "spacing"
    assert grid_difference({"spacing": (0.0, 1.0, 1.0)}, ours, (10, 10, 40))[0] == "spacing"
    assert grid_difference(ours, {"spacing": (0.0, 1.0, 1.0)}, (10, 10, 40))[0] == "spacing"
