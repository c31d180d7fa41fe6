"""Cases whose images have one grid: a file under another case's name is told where something tells it, else said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 -- the name everybody knows

from nnunet_al.annotation.expected_case import ExpectedCase
from nnunet_al.annotation.grids import Grid, are_one_grid
from nnunet_al.annotation.import_check import Reading, check_returned
from nnunet_al.annotation.segments import Segment
from nnunet_al.annotation.volumes import is_of_another_case, read_header, write_nifti, write_seg_nrrd
from nnunet_al.errors import ReturnError
from nnunet_al.pool.boxes import Box

SIZE = (12, 10, 8)
SHAPE = SIZE[::-1]
GRID = Grid(SIZE, (1.0, 1.0, 2.0), (5.0, -3.0, 2.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
SEGMENTS = (Segment(1, "organ", (230, 159, 0)), Segment(2, "lesion", (86, 180, 233)))
IGNORE = 3
LONG = "a case with a name that is much too long for the eighty bytes that NIfTI has for descriptions of images"


def slices(*numbers: int) -> tuple[Box, ...]:
    return tuple(((k, k + 1), (0, 10), (0, 12)) for k in numbers)


def case(name: str, *boxes: Box, handed_out: np.ndarray | None = None, grid: Grid = GRID) -> ExpectedCase:
    handed_out_kji = np.zeros(SHAPE, np.int32) if handed_out is None else handed_out
    nothing_kji = np.full(SHAPE, IGNORE, np.int32)
    return ExpectedCase(name, grid, handed_out_kji, nothing_kji, IGNORE, dict(enumerate(boxes, start=1)))


def drawn(*boxes: Box, value: int = 1) -> np.ndarray:
    labels_kji = np.zeros(SHAPE, np.int32)
    for (k, _), *_ in boxes:
        labels_kji[k, 2:7, 3:9] = value
    return labels_kji


def take(
    folder: Path, labels_kji: np.ndarray, asked: ExpectedCase, *others: ExpectedCase, tag: bool = False
) -> Reading:
    path = folder / f"{asked.case[:20]}.nii.gz"
    write_nifti(path, labels_kji, GRID, asked.case if tag else None)
    return check_returned(path, asked, SEGMENTS, list(asked.boxes), iter(others))


def is_in_doubt(reading: Reading) -> bool:
    return any(remark.startswith("Nothing tells this file from one of") for remark in reading.remarks)


A, B = case("A", *slices(1, 2)), case("B", *slices(5, 6))


def test_files_under_each_others_names_are_refused(tmp_path):
    for asked, other in ((A, B), (B, A)):
        assert not is_in_doubt(take(tmp_path, drawn(*asked.boxes.values()), asked, other))
        with pytest.raises(ReturnError, match=rf"changes in regions of {other.case}, which are none of {asked.case}: "):
            take(tmp_path, drawn(*other.boxes.values()), asked, other)
        with pytest.raises(ReturnError, match="most of its changes"):  # drawn on the wrong case's pre-segmentation
            take(tmp_path, drawn(*other.boxes.values()), asked, other, tag=True)


@pytest.mark.parametrize(
    "own, others, changed, refused",
    [
        ((1,), (5, 6), (5, 6), True),
        ((1, 5), (5, 6, 7), (6, 7), True),  # regions that they have in common say nothing
        ((4,), (3, 5), (3, 4, 5), False),  # a reader who draws the neighbours as well
        ((4,), tuple(range(8)), tuple(range(8)), False),  # or all of the volume
        ((1,), (5,), (3,), False),  # in nobody's regions
        ((1,), (5,), (1, 5), False),
        ((1,), (1,), (1,), False),
    ],
)
def test_which_changes_speak_for_another_case(tmp_path, own, others, changed, refused):
    asked, other = case("A", *slices(*own)), case("B", *slices(*others))
    if refused:
        with pytest.raises(ReturnError, match="most of its changes in regions of B"):
            take(tmp_path, drawn(*slices(*changed)), asked, other)
    else:
        take(tmp_path, drawn(*slices(*changed)), asked, other)


def test_what_nothing_tells_is_taken_with_one_line(tmp_path):
    whole = ((0, 8), (0, 10), (0, 12))
    asked, others = case("A", whole), [case(name, whole) for name in "BCD"]
    reading = take(tmp_path, drawn(*slices(3)), asked, *others)
    assert [remark for remark in reading.remarks if "Nothing tells" in remark] == [
        "Nothing tells this file from one of B or 2 more, whose image has the same grid: check that it is of A."
    ]
    assert not is_in_doubt(take(tmp_path, drawn(*slices(3)), asked, *others, tag=True))
    elsewhere = replace(GRID, origin_mm=(5.0, -3.0, 4.0))
    assert not is_in_doubt(take(tmp_path, drawn(*slices(3)), asked, *(replace(o, grid=elsewhere) for o in others)))
    assert is_in_doubt(take(tmp_path, np.zeros(SHAPE, np.int32), A, B))


def test_what_readers_left_as_it_was_tells_cases(tmp_path):
    """Changes inside of the regions may be large: around them a file is what was handed out of its own case."""
    asked = case("A", *slices(1, 2), handed_out=drawn(*slices(0, 1, 2, 3)))
    other = case("B", *slices(1, 2), handed_out=np.roll(drawn(*slices(1, 2, 3, 4)), 3, axis=2))
    answer = drawn(*slices(1, 2), value=2)
    for one, another in ((asked, other), (other, asked)):
        file = np.where(one.inside(), answer, one.handed_out_kji)
        assert not is_in_doubt(take(tmp_path, file, one, another))
        with pytest.raises(ReturnError, match=rf"what was handed out of {one.case} and not of {another.case}"):
            take(tmp_path, file, another, one)


def test_grids_are_one_only_if_every_voxel_lies_on_its_own_number():
    assert are_one_grid(GRID, replace(GRID, origin_mm=(5.001, -3.0, 2.0)))
    turned = tuple(np.diag([-1.0, 1.0, 1.0]).ravel())
    for other in (
        replace(GRID, origin_mm=(5.0, -3.0, 4.0)),
        replace(GRID, spacing_mm=(1.0, 1.0, 2.1)),
        replace(GRID, size_ijk=(12, 10, 9)),
        replace(GRID, direction=turned, origin_mm=(16.0, -3.0, 2.0)),  # the same place, counted from the other side
    ):
        assert not are_one_grid(GRID, other)
        assert not are_one_grid(other, GRID)


# --- tags ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["case_01", "Fall ä 1", "case|01: %", LONG])
@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha", ".mhd", ".seg.nrrd"])
def test_a_tag_outlives_programs_that_keep_headers(tmp_path, name, ending):
    """SimpleITK and nibabel pass a header on; what the file is saved as does not matter."""
    write_nifti(tmp_path / "a.nii.gz", drawn(*slices(1)), GRID, name)
    write_seg_nrrd(tmp_path / "a.seg.nrrd", drawn(*slices(1)), GRID, SEGMENTS, name)
    passed_on = tmp_path / f"passed_on{ending}"
    sitk.WriteImage(sitk.ReadImage(tmp_path / f"a{'.seg.nrrd' if ending == '.seg.nrrd' else '.nii.gz'}"), passed_on)
    assert not is_of_another_case(passed_on, name)
    assert is_of_another_case(passed_on, "another")
    if ending.startswith(".nii"):
        image = nibabel.load(passed_on)
        nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), image.affine, image.header), tmp_path / "b.nii.gz")
        assert not is_of_another_case(tmp_path / "b.nii.gz", name)
        assert is_of_another_case(tmp_path / "b.nii.gz", "another")


def test_a_missing_tag_says_nothing(tmp_path):
    write_nifti(tmp_path / "a.nii.gz", drawn(*slices(1)), GRID)
    header = read_header(tmp_path / "a.nii.gz")
    assert (header.case, header.short_tag) == (None, None)
    assert not is_of_another_case(tmp_path / "a.nii.gz", "anything")
    (tmp_path / "b.nii.gz").write_bytes(b"no image")
    assert not is_of_another_case(tmp_path / "b.nii.gz", "anything")
