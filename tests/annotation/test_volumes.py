"""Segmentations as files: every way in which the axes may run, every way in which a file may be broken."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from itertools import permutations, product
from pathlib import Path

import nibabel
import nrrd
import numpy as np
import pytest
import SimpleITK
import slicerio

from nnunet_al.annotation.grids import Grid, place
from nnunet_al.annotation.segments import Segment, segments_of, write_label_file
from nnunet_al.annotation.volumes import ENDINGS, read_segmentation, stem_of, write_nifti, write_seg_nrrd
from nnunet_al.errors import ReturnError, StorageError

SIZE = (5, 6, 7)
SEGMENTS = segments_of({"background": 0, "whole tumour": (1, 2, 3), "core": (2, 3), "Größe": (3,)})
CODES = ["".join(letters) for order in permutations(("RL", "AP", "SI")) for letters in product(*order)]


def oblique(angle: float = 0.4, left_handed: bool = False) -> Grid:
    """A grid turned about z, then about x, with spacing that differs along each axis."""
    c, s = np.cos(angle), np.sin(angle)
    about_z = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    direction = about_x @ about_z @ np.diag([1, 1, -1 if left_handed else 1])
    return Grid(SIZE, (0.7, 1.1, 3.0), (-120.5, 40.25, 900.0), tuple(direction.ravel().tolist()))


GRIDS = {
    "plain": Grid(SIZE, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0)),
    "flipped": Grid(SIZE, (1.0, 2.0, 3.0), (10.0, -20.0, 30.0), (-1.0, 0, 0, 0, -1.0, 0, 0, 0, 1.0)),
    "sagittal": Grid(SIZE, (0.5, 0.5, 4.0), (1.0, 2.0, 3.0), (0, 0, 1.0, 1.0, 0, 0, 0, -1.0, 0)),
    "oblique": oblique(),
    "left-handed": oblique(left_handed=True),
}


@pytest.fixture
def labels_kji() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 4, SIZE[::-1]).astype(np.int32)


def placed(path: Path, grid: Grid) -> tuple[np.ndarray, int]:
    file = read_segmentation(path)
    (layer,) = file.layers
    return place(layer, grid, file.may_be_cropped)


# --- what is written ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GRIDS)
def test_what_is_written_comes_back_on_any_grid(tmp_path, labels_kji, name):
    grid = GRIDS[name]
    write_seg_nrrd(tmp_path / "a.seg.nrrd", labels_kji, grid, SEGMENTS, "case_01")
    write_nifti(tmp_path / "a.nii.gz", labels_kji, grid, "case_01")
    for path in (tmp_path / "a.seg.nrrd", tmp_path / "a.nii.gz"):
        back_kji, outside = placed(path, grid)
        assert np.array_equal(back_kji, labels_kji)
        assert back_kji.dtype == np.int32
        assert outside == 0
        assert read_segmentation(path).case == "case_01"


@pytest.mark.parametrize("name", GRIDS)
def test_others_see_the_same_voxels_at_the_same_place(tmp_path, labels_kji, name):
    """The corner voxel lies where index times spacing along the direction says, for pynrrd, slicerio and nibabel."""
    grid = GRIDS[name]
    write_seg_nrrd(tmp_path / "a.seg.nrrd", labels_kji, grid, SEGMENTS, "c")
    write_nifti(tmp_path / "a.nii.gz", labels_kji, grid)
    last = np.array([*(n - 1 for n in SIZE), 1.0])
    at_mm = np.reshape(grid.direction, (3, 3)) @ (np.array(grid.spacing_mm) * last[:3]) + grid.origin_mm

    slicer = slicerio.read_segmentation(str(tmp_path / "a.seg.nrrd"))
    assert np.array_equal(slicer["voxels"], labels_kji.T)
    assert np.allclose((slicer["ijkToLPS"] @ last)[:3], at_mm)
    voxels_ijk, header = nrrd.read(str(tmp_path / "a.seg.nrrd"))
    assert np.array_equal(voxels_ijk, labels_kji.T)
    assert np.allclose(header["space directions"].T @ last[:3] + header["space origin"], at_mm)
    nifti = nibabel.load(tmp_path / "a.nii.gz")
    assert np.array_equal(np.asarray(nifti.dataobj), labels_kji.T)
    assert np.allclose((nifti.affine @ last)[:3] * (-1, -1, 1), at_mm, atol=1e-3)


@pytest.mark.parametrize("value", [0, 3])
def test_slicer_finds_every_segment_with_name_colour_and_case(tmp_path, value):
    labels_kji = np.zeros(SIZE[::-1], int)
    labels_kji[1, 2, 3] = value
    write_seg_nrrd(tmp_path / "a.seg.nrrd", labels_kji, oblique(), SEGMENTS[:2], "case|01: ä%")
    slicer = slicerio.read_segmentation(str(tmp_path / "a.seg.nrrd"))
    assert slicer["masterRepresentation"] == "Binary labelmap"
    assert slicer["containedRepresentationNames"] == ["Binary labelmap"]
    assert slicer["referenceImageExtentOffset"] == [0, 0, 0]
    assert [segment["id"] for segment in slicer["segments"]] == ["Segment_1", "Segment_2"]
    assert [segment["name"] for segment in slicer["segments"]] == ["whole tumour", "whole tumour + core"]
    assert [segment["labelValue"] for segment in slicer["segments"]] == [1, 2]
    for segment, ours in zip(slicer["segments"], SEGMENTS, strict=False):
        assert np.allclose(segment["color"], np.array(ours.colour) / 255, atol=1e-5)
        assert segment["layer"] == 0
        assert segment["extent"] == [0, 4, 0, 5, 0, 6]
        assert segment["nameAutoGenerated"] is segment["colorAutoGenerated"] is False
        assert segment["status"] == "notstarted"
    assert read_segmentation(tmp_path / "a.seg.nrrd").case == "case|01: ä%"


def test_names_in_any_letters_come_back(tmp_path, labels_kji):
    segments = [
        Segment(1, "Tumör + größe", (1, 2, 3)),
        Segment(2, 'a:=b \\ "c" | d', (0, 0, 0)),
        Segment(3, "日本", (9, 9, 9)),
    ]
    write_seg_nrrd(tmp_path / "a.seg.nrrd", labels_kji, oblique(), segments, "c")
    assert read_segmentation(tmp_path / "a.seg.nrrd").names == {(0, each.value): each.name for each in segments}


def test_many_labels_are_kept(tmp_path, labels_kji):
    labels_kji[0, 0, 0] = 300
    for path in (tmp_path / "a.seg.nrrd", tmp_path / "a.nii.gz"):
        if path.suffix == ".gz":
            write_nifti(path, labels_kji, oblique())
        else:
            write_seg_nrrd(path, labels_kji, oblique(), SEGMENTS, "c")
        assert np.array_equal(placed(path, oblique())[0], labels_kji)


@pytest.mark.parametrize("kept", [0, 1, 0.5, 0.99])
@pytest.mark.parametrize("ending", [".seg.nrrd", ".nii.gz"])
def test_a_disk_that_is_full_without_a_word_is_noticed(tmp_path, labels_kji, monkeypatch, kept, ending):
    path = tmp_path / f"a{ending}"
    path.write_bytes(b"before")
    write = SimpleITK.WriteImage

    def cut(image, temporary, **options):
        write(image, temporary, **options)
        whole = temporary.read_bytes()
        temporary.write_bytes(whole[: int(kept * len(whole))] if kept != 1 else whole[:-1])

    monkeypatch.setattr(SimpleITK, "WriteImage", cut)
    more = () if ending == ".nii.gz" else (SEGMENTS, "c")
    with pytest.raises(StorageError, match=r"could not be written whole: free some disk space"):
        (write_seg_nrrd if more else write_nifti)(path, labels_kji, oblique(), *more)
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [b"before"]


# --- where it belongs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", CODES)
def test_whatever_way_the_axes_run_each_voxel_finds_its_place(labels_kji, code):
    assert len(set(CODES)) == 48
    for grid in (GRIDS["plain"], GRIDS["sagittal"], oblique(0.2), oblique(0.2, left_handed=True)):
        turned = SimpleITK.DICOMOrient(grid.image(labels_kji), code)
        for may_be_cropped in (False, True):
            back_kji, outside = place(turned, grid, may_be_cropped)
            assert np.array_equal(back_kji, labels_kji)
            assert outside == 0


@pytest.mark.parametrize("code", ["RAS", "LPI", "SAR", "PSL", "IRP"])
@pytest.mark.parametrize("name", GRIDS)
def test_a_cropped_segmentation_finds_its_place(labels_kji, code, name):
    grid = GRIDS[name]
    cropped = SimpleITK.RegionOfInterest(grid.image(labels_kji), (3, 2, 4), (1, 3, 2))
    expected_kji = np.zeros_like(labels_kji)
    expected_kji[2:6, 3:5, 1:4] = labels_kji[2:6, 3:5, 1:4]
    back_kji, outside = place(SimpleITK.DICOMOrient(cropped, code), grid, may_be_cropped=True)
    assert np.array_equal(back_kji, expected_kji)
    assert outside == 0
    with pytest.raises(ReturnError, match="voxels instead of 5 x 6 x 7"):
        place(SimpleITK.DICOMOrient(cropped, code), grid, may_be_cropped=False)


@pytest.mark.parametrize("code", ["LPS", "RAS", "SAR"])
def test_what_reaches_beyond_the_image_is_cut_and_counted(labels_kji, code):
    grid = oblique()
    wider = SimpleITK.ConstantPad(grid.image(labels_kji), (1, 0, 2), (0, 3, 1), 9)
    back_kji, outside = place(SimpleITK.DICOMOrient(wider, code), grid, may_be_cropped=True)
    assert np.array_equal(back_kji, labels_kji)
    assert outside == 6 * 9 * 10 - 5 * 6 * 7
    shifted = SimpleITK.RegionOfInterest(wider, (3, 9, 10), (0, 0, 0))
    back_kji, outside = place(SimpleITK.DICOMOrient(shifted, code), grid, may_be_cropped=True)
    assert np.array_equal(back_kji[:, :, :2], labels_kji[:, :, :2])
    assert not back_kji[:, :, 2:].any()
    assert outside == 3 * 9 * 10 - 2 * 6 * 7


def test_a_segmentation_beside_the_image_leaves_nothing_on_it(labels_kji):
    grid = GRIDS["flipped"]
    away = Grid(SIZE, grid.spacing_mm, (10.0 - 5 * 1.0, -20.0, 30.0), grid.direction)
    back_kji, outside = place(away.image(labels_kji), grid, may_be_cropped=True)
    assert not back_kji.any()
    assert outside == np.count_nonzero(labels_kji)


def test_the_one_voxel_that_slicer_writes_when_nothing_is_painted_is_no_other_grid():
    nothing = SimpleITK.Image(1, 1, 1, SimpleITK.sitkUInt8)
    back_kji, outside = place(nothing, oblique(), may_be_cropped=True)
    assert back_kji.shape == SIZE[::-1]
    assert not back_kji.any()
    assert outside == 0
    with pytest.raises(ReturnError):
        place(nothing, oblique(), may_be_cropped=False)
    nothing[0, 0, 0] = 1
    with pytest.raises(ReturnError):
        place(nothing, oblique(), may_be_cropped=True)


def changed(grid: Grid, **fields) -> Grid:
    return Grid(
        **{name: fields.get(name, getattr(grid, name)) for name in ("size_ijk", "spacing_mm", "origin_mm", "direction")}
    )


@pytest.mark.parametrize("may_be_cropped", [False, True])
@pytest.mark.parametrize(
    "fields, sentence",
    [
        ({"spacing_mm": (0.7, 1.1, 1.5)}, r"its voxels measure 0\.7 x 1\.1 x 1\.5 mm instead of 0\.7 x 1\.1 x 3 mm"),
        ({"spacing_mm": (0.7, 1.1 * (1 + 0.02 / 5), 3.0)}, r"its voxels measure"),
        ({"origin_mm": (-120.5, 40.25, 900.5)}, r"it lies 0\.5 mm away"),
        ({"origin_mm": (-120.5, 40.25 + 0.02 * 3, 900.0)}, r"it lies 0\.06 mm away"),
        ({"direction": oblique(0.41).direction}, r"it is rotated by up to 0\.\d+ degrees"),
    ],
)
def test_another_grid_is_refused_with_what_differs(labels_kji, may_be_cropped, fields, sentence):
    other = changed(oblique(), **fields)
    with pytest.raises(
        ReturnError, match=rf"^The grid is not the image's \({sentence}.*\): save the segmentation"
    ) as refusal:
        place(other.image(labels_kji), oblique(), may_be_cropped)
    assert str(refusal.value).count(". ") == 0, "one sentence"


def test_a_shift_below_the_tolerance_is_none(labels_kji):
    near = changed(oblique(), origin_mm=(-120.5, 40.25, 900.0 + 0.0009 * 0.7), spacing_mm=(0.7, 1.1 * (1 + 1e-6), 3.0))
    assert np.array_equal(place(near.image(labels_kji), oblique(), False)[0], labels_kji)


def test_a_small_rotation_counts_by_what_it_does_at_the_far_corner():
    """0.001 radians move nothing on 5 voxels and a hundredth of a voxel on more than 10."""
    c, s = np.cos(1e-3), np.sin(1e-3)
    turned = (c, -s, 0.0, s, c, 0.0, 0.0, 0.0, 1.0)
    for length, accepted in ((9, True), (40, False)):
        grid = Grid((length, length, 2), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
        labels_kji = np.ones(grid.shape_kji, np.uint8)
        other = changed(grid, direction=turned).image(labels_kji)
        if accepted:
            assert place(other, grid, False)[0].all()
        else:
            with pytest.raises(ReturnError, match="The grid is not the image's"):
                place(other, grid, False)


def test_grids_of_nifti_files_match_whatever_the_angle(tmp_path):
    """Single precision stays within the tolerance, also when nibabel writes what SimpleITK wrote."""
    labels_kji = np.zeros((2, 300, 300), np.uint8)
    labels_kji[1, 299, 299] = 1
    rng = np.random.default_rng(1)
    for angle in (1e-5, 1e-3, 0.3, 3.0):
        grid = changed(oblique(angle), size_ijk=(300, 300, 2), origin_mm=tuple(rng.uniform(-500, 500, 3)))
        write_nifti(tmp_path / "a.nii.gz", labels_kji, grid)
        loaded = nibabel.load(tmp_path / "a.nii.gz")
        nibabel.save(nibabel.Nifti1Image(np.asarray(loaded.dataobj), loaded.affine), tmp_path / "b.nii.gz")
        for name in ("a.nii.gz", "b.nii.gz"):
            assert np.array_equal(placed(tmp_path / name, grid)[0], labels_kji)


def test_corners_of_a_box_by_hand():
    """Turned by 90 degrees about z: i runs along +y, j along -x."""
    grid = Grid((10, 10, 10), (2.0, 3.0, 4.0), (100.0, 200.0, 300.0), (0, -1.0, 0, 1.0, 0, 0, 0, 0, 1.0))
    corners_8_mm = grid.box_corners_mm(((5, 6), (2, 4), (1, 3)))  # k, j, i
    # i: 0.5 to 2.5 -> y = 201 to 205; j: 1.5 to 3.5 -> x = 95.5 to 89.5; k: 4.5 to 5.5 -> z = 318 to 322
    expected = [(x, y, z) for z in (318, 322) for x in (95.5, 89.5) for y in (201, 205)]
    assert np.allclose(corners_8_mm, expected)


# --- what is read ------------------------------------------------------------------------------------------------


def save(path: Path, array_kji: np.ndarray, compress: bool = True) -> Path:
    """Write an array on the oblique grid, of whatever size."""
    image = changed(oblique(), size_ijk=array_kji.shape[::-1]).image(array_kji)
    SimpleITK.WriteImage(image, path, useCompression=compress)
    return path


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.float32, np.float64])
def test_every_format_and_number_type(tmp_path, labels_kji, ending, kind):
    path = save(tmp_path / f"a{ending}", labels_kji.astype(kind))
    file = read_segmentation(path)
    assert np.array_equal(placed(path, oblique())[0], labels_kji)
    assert file.names is file.case is file.table is None
    assert not file.may_be_cropped


def test_endings_in_capitals(tmp_path, labels_kji):
    for ending in (".nii.gz", ".nii", ".nrrd", ".mha"):
        path = save(tmp_path / f"a{ending}", labels_kji).rename(tmp_path / f"A{ending.upper()}")
        assert np.array_equal(placed(path, oblique())[0], labels_kji)
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(ReturnError, match="save"):
            read_segmentation(path)


def test_the_longest_ending_is_the_one():
    assert stem_of(Path("x/case.1.seg.nrrd")) == "case.1"
    assert stem_of(Path("case_01.NII.GZ")) == "case_01"
    assert stem_of(Path("case_01.nrrd")) == "case_01"
    assert stem_of(Path("case_01.png")) is None


def test_names_layers_and_values_as_3d_slicer_writes_them():
    data = Path(slicerio.__file__).parent / "data"
    for name, n_layers in (("Segmentation.seg.nrrd", 1), ("SegmentationOverlapping.seg.nrrd", 2)):
        file = read_segmentation(data / name)
        theirs = slicerio.read_segmentation(str(data / name))
        assert len(file.layers) == n_layers
        assert file.names == {(each["layer"], each["labelValue"]): each["name"] for each in theirs["segments"]}
        assert file.may_be_cropped
        voxels = theirs["voxels"] if n_layers > 1 else theirs["voxels"][None]
        for layer, layer_ijk in zip(file.layers, voxels, strict=True):
            assert np.array_equal(SimpleITK.GetArrayViewFromImage(layer), layer_ijk.T)


def write_slicer(path: Path, layers_ijk: np.ndarray, pairs: dict[str, str], encoding: str = "gzip") -> Path:
    """As 3D Slicer writes, with pynrrd; layers (layer, i, j, k) or one (i, j, k)."""
    directions = np.eye(3).tolist()
    header = {
        "space": "left-posterior-superior",
        "kinds": ["domain"] * 3,
        "space directions": directions,
        "space origin": [0.0, 0.0, 0.0],
        "encoding": encoding,
        **pairs,
    }
    if layers_ijk.ndim == 4:
        header |= {"kinds": ["list", *header["kinds"]], "space directions": [[np.nan] * 3, *directions]}
    nrrd.write(str(path), layers_ijk, header)
    return path


@pytest.mark.parametrize("encoding", ["gzip", "raw"])
def test_headers_of_older_slicers_have_a_layer_of_ones_for_each_segment(tmp_path, labels_kji, encoding):
    layers_ijk = np.stack([np.equal(labels_kji.T, value) for value in (1, 2)]).astype(np.uint8)
    pairs = {"Segment0_ID": "a", "Segment0_Name": "liver", "Segment1_ID": "b", "Segment1_Name": "spleen"}
    file = read_segmentation(write_slicer(tmp_path / "a.seg.nrrd", layers_ijk, pairs, encoding))
    assert file.names == {(0, 1): "liver", (1, 1): "spleen"}
    for layer, value in zip(file.layers, (1, 2), strict=True):
        assert np.array_equal(SimpleITK.GetArrayViewFromImage(layer), labels_kji == value)


def test_a_plain_nrrd_with_segments_in_its_header_is_a_segmentation(tmp_path, labels_kji):
    pairs = {"Segment0_Name": "liver", "Segment0_LabelValue": "3", "Segment1_ID": "Segment_2"}
    file = read_segmentation(write_slicer(tmp_path / "a.nrrd", labels_kji.T, pairs))
    assert file.names == {(0, 3): "liver", (0, 1): "Segment_2"}
    assert file.may_be_cropped


def test_a_segmentation_from_which_all_segments_were_deleted_names_none(tmp_path):
    pairs = {"Segmentation_MasterRepresentation": "Binary labelmap"}
    file = read_segmentation(write_slicer(tmp_path / "a.seg.nrrd", np.zeros(SIZE, np.uint8), pairs))
    assert file.names == {}
    assert file.may_be_cropped


@pytest.mark.parametrize(
    "pairs",
    [
        {"Segment0_Name": "a", "Segment0_LabelValue": "1", "Segment1_Name": "b", "Segment1_LabelValue": "1"},
        {"Segment0_Name": "a", "Segment0_Layer": "1"},
        {"Segment0_Name": "a", "Segment0_LabelValue": "one"},
        {"Segment0_LabelValue": "1"},
    ],
)
def test_a_header_that_contradicts_itself_is_refused(tmp_path, labels_kji, pairs):
    with pytest.raises(ReturnError, match=r"a\.seg\.nrrd's header contradict each other: save it again"):
        read_segmentation(write_slicer(tmp_path / "a.seg.nrrd", labels_kji.T, pairs))


def test_fractional_labelmaps_are_refused(tmp_path, labels_kji):
    pairs = {"Segmentation_MasterRepresentation": "Fractional labelmap", "Segment0_Name": "a"}
    with pytest.raises(ReturnError, match="is not a binary labelmap but a 'Fractional labelmap'"):
        read_segmentation(write_slicer(tmp_path / "a.seg.nrrd", labels_kji.T, pairs))


def test_the_case_survives_the_tags_of_others_and_two_cases_in_one_file_do_not(tmp_path, labels_kji):
    tags = "Segmentation.Status:completed|TerminologyEntry:x~y^z:w|nnunet_al.case:case_01|"
    pairs = {"Segment0_Name": "a", "Segment0_Tags": tags, "Segment1_Name": "new", "Segment1_LabelValue": "2"}
    assert read_segmentation(write_slicer(tmp_path / "a.seg.nrrd", labels_kji.T, pairs)).case == "case_01"
    pairs["Segment1_Tags"] = "nnunet_al.case:case_02|"
    with pytest.raises(ReturnError, match="segments of the cases case_01 and case_02"):
        read_segmentation(write_slicer(tmp_path / "a.seg.nrrd", labels_kji.T, pairs))


@pytest.mark.parametrize("beside", ["a.label", "a.txt", "a_ColorTable.ctbl", "a.csv", "labels.txt"])
def test_a_label_table_beside_a_file_without_names_gives_them(tmp_path, labels_kji, beside):
    path = save(tmp_path / "a.nii.gz", labels_kji)
    if beside.endswith("csv"):
        (tmp_path / beside).write_text("LabelValue,Name\n1,x\n2,y\n")
    elif beside.endswith("ctbl"):
        (tmp_path / beside).write_text("0 Background 0 0 0 0\n1 x 1 1 1 255\n2 y 2 2 2 255\n")
    else:
        write_label_file(tmp_path / beside, [Segment(1, "x", (1, 1, 1)), Segment(2, "y", (2, 2, 2))])
    file = read_segmentation(path)
    assert file.names == {(0, 1): "x", (0, 2): "y"}
    assert file.table == tmp_path / beside
    assert not file.may_be_cropped
    other = save(tmp_path / "b.nii.gz", labels_kji)
    assert (read_segmentation(other).names is None) == (beside != "labels.txt")


def test_a_file_that_names_its_segments_needs_no_table_and_a_note_is_none(tmp_path, labels_kji):
    write_label_file(tmp_path / "a.label", [Segment(1, "x", (1, 1, 1))])
    write_seg_nrrd(tmp_path / "a.seg.nrrd", labels_kji, oblique(), SEGMENTS, "c")
    assert read_segmentation(tmp_path / "a.seg.nrrd").names == {(0, each.value): each.name for each in SEGMENTS}
    (tmp_path / "b.txt").write_text("The second one is blurred.\n")
    (tmp_path / "b.csv").write_text("rank,case,region,reviewed\n1,b,,yes\n")
    assert read_segmentation(save(tmp_path / "b.nii.gz", labels_kji)).names is None
    (tmp_path / "c.label").write_text("1 255 0\n")
    with pytest.raises(ReturnError, match=r"c\.label is not a label table"):
        read_segmentation(save(tmp_path / "c.nii.gz", labels_kji))


# --- what is broken ----------------------------------------------------------------------------------------------


def truncations(path: Path) -> list[bytes]:
    whole = path.read_bytes()
    lengths = {0, 1, 2, 100, 352, 353, len(whole) // 3, len(whole) // 2, *range(len(whole) - 30, len(whole))}
    lengths |= set(np.linspace(3, len(whole) - 1, 25, dtype=int).tolist())
    return [whole[:length] for length in sorted(lengths) if length < len(whole)]


@pytest.mark.parametrize("compress", [False, True], ids=["raw", "compressed"])
@pytest.mark.parametrize(
    "name, damaged",
    [(f"a{ending}", f"a{ending}") for ending in ENDINGS if ending != ".mhd"] + [("a.mhd", "the data beside it")],
)
def test_a_file_cut_short_anywhere_is_refused(tmp_path, labels_kji, name, damaged, compress):
    path = save(tmp_path / name, labels_kji.astype(np.uint16), compress=compress)
    victim = next(each for each in tmp_path.iterdir() if each != path) if name == "a.mhd" else path
    for part in truncations(victim):
        victim.write_bytes(part)
        with pytest.raises(ReturnError, match=rf"^{path.name} .*: save"):
            read_segmentation(path)


@pytest.mark.parametrize("ending", [".seg.nrrd", ".nii.gz", ".mha", ".mhd"])
def test_a_compressed_file_whose_space_is_claimed_but_not_filled_yet_is_refused(tmp_path, ending):
    """So copies look while they run. Most of a segmentation is 0, which is what the missing part would be read as."""
    labels_kji = np.zeros((20, 20, 20), np.uint8)
    labels_kji[:2] = np.random.default_rng(0).integers(0, 4, (2, 20, 20))
    path = save(tmp_path / f"a{ending}", labels_kji)
    victim = tmp_path / "a.zraw" if ending == ".mhd" else path
    whole = victim.read_bytes()
    for length in (len(whole) // 2, len(whole) - 12, len(whole) - 8, len(whole) - 4):
        victim.write_bytes(whole[:length].ljust(len(whole), b"\0"))
        with pytest.raises(ReturnError, match=rf"a{ending} .*: save"):
            read_segmentation(path)


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, 1.5, 2.0**40])
def test_what_are_no_labels_is_refused(tmp_path, labels_kji, ending, bad):
    array_kji = labels_kji.astype(np.float64)
    array_kji[3, 3, 3] = bad
    with pytest.raises(ReturnError, match=r"holds values (that are no|too large)"):
        read_segmentation(save(tmp_path / f"a{ending}", array_kji))


def test_scaled_integers_of_nifti_files_are_what_they_stand_for(tmp_path, labels_kji):
    image = nibabel.Nifti1Image(labels_kji.T.astype(np.int16), np.diag([-1.0, -1, 1, 1]))
    image.header.set_slope_inter(2, 1)
    nibabel.save(image, tmp_path / "a.nii")
    expected_kji = np.asarray(nibabel.load(tmp_path / "a.nii").dataobj).T
    assert np.array_equal(placed(tmp_path / "a.nii", GRIDS["plain"])[0], expected_kji)


def test_one_volume_in_four_dimensions_is_one_and_two_are_refused(tmp_path, labels_kji):
    for n, sentence in ((1, None), (2, "has 4 dimensions")):
        array = np.stack([labels_kji.T.astype(np.int16)] * n, -1)
        nibabel.save(nibabel.Nifti1Image(array, np.diag([-1.0, -1, 1, 1])), tmp_path / "a.nii.gz")
        if sentence is None:
            assert np.array_equal(placed(tmp_path / "a.nii.gz", GRIDS["plain"])[0], labels_kji)
        else:
            with pytest.raises(ReturnError, match=sentence):
                read_segmentation(tmp_path / "a.nii.gz")


def test_slices_and_colours_are_refused(tmp_path, labels_kji):
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(labels_kji[0]), tmp_path / "a.nrrd")
    with pytest.raises(ReturnError, match="has 2 dimensions and not 3"):
        read_segmentation(tmp_path / "a.nrrd")
    colour = SimpleITK.GetImageFromArray(np.zeros((4, 5, 6, 3), np.uint8), isVector=True)
    for name in ("b.nrrd", "b.nii.gz", "b.mha"):
        SimpleITK.WriteImage(colour, tmp_path / name)
        with pytest.raises(ReturnError, match=r"colours or vectors|5 dimensions"):
            read_segmentation(tmp_path / name)


@pytest.mark.parametrize(
    "name, make",
    [
        ("a.nrrd", lambda path: save(path.with_suffix(".nii"), np.zeros((3, 3, 3), np.uint8)).rename(path)),
        ("a.nii.gz", lambda path: path.write_bytes(gzip.compress(b"no image"))),
        ("a.mha", lambda path: path.write_bytes(b"")),
        ("a.nii", lambda path: path.mkdir()),
        ("a.seg.nrrd", lambda path: None),
    ],
)
def test_what_is_no_image_is_refused_by_name_and_without_addresses(tmp_path, name, make: Callable[[Path], object]):
    make(tmp_path / name)
    with pytest.raises(ReturnError, match=rf"^{name} cannot be read") as refusal:
        read_segmentation(tmp_path / name)
    assert str(tmp_path) not in str(refusal.value)
    assert "0x" not in str(refusal.value)


def test_a_header_whose_voxels_lie_elsewhere_is_refused(tmp_path, labels_kji):
    save(tmp_path / "a.mhd", labels_kji.astype(np.uint8), compress=False)
    (tmp_path / "returned").mkdir()
    header = (tmp_path / "a.mhd").read_text().replace("a.raw", "../a.raw")
    (tmp_path / "returned" / "a.mhd").write_text(header)
    with pytest.raises(ReturnError, match=r"a\.mhd has its voxels in \.\./a\.raw, which is not in the folder"):
        read_segmentation(tmp_path / "returned" / "a.mhd")


def test_another_ending_is_refused(tmp_path):
    with pytest.raises(ReturnError, match=r"a\.png is not a segmentation file: save it as one of \.seg\.nrrd"):
        read_segmentation(tmp_path / "a.png")
