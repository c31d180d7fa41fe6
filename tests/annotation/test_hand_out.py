"""The folder that readers get: everything in it opens, says what it should, and is complete or not there."""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
import slicerio

from nnunet_al import files
from nnunet_al.annotation.grids import Grid
from nnunet_al.annotation.hand_out import write_batch_folder
from nnunet_al.annotation.manifest import Batch, CaseHandOut, HandedRegion, grid_in, read_manifest
from nnunet_al.annotation.region_outline import markup, outline
from nnunet_al.annotation.segments import read_label_file, segments_of
from nnunet_al.annotation.volumes import read_segmentation
from nnunet_al.errors import CampaignError, DatasetError, StorageError
from nnunet_al.files import hash_array, hash_file
from nnunet_al.pool.boxes import Box, as_box, box_shape, to_slices

SIZE = (9, 8, 7)
TURNED = Grid(SIZE, (2.0, 3.0, 4.0), (100.0, 200.0, 300.0), (0, -1.0, 0, 1.0, 0, 0, 0, 0, 1.0))
SEGMENTS = segments_of({"background": 0, "liver": 1, "spleen": 2})
BATCH = Batch("3d_fullres__usimf__seed0", "Dataset501_Test", 3, "usimf", 7, "patch", SEGMENTS, "ab12", 1)
BOXES: dict[str, dict[int, Box]] = {
    "case_01": {3: ((1, 5), (2, 7), (0, 4)), 1: ((6, 7), (0, 8), (0, 9))},
    "case ü": {2: ((0, 7), (0, 8), (0, 9))},
}


def image_of(folder: Path, case: str, channel: int, grid: Grid = TURNED) -> Path:
    """An image in a place and under a name that tell more than they should."""
    path = folder / f"Mrs_Smith_{channel}" / "t1.nii.gz"
    path.parent.mkdir(exist_ok=True, parents=True)
    rng = np.random.default_rng(channel)
    SimpleITK.WriteImage(grid.image(rng.normal(size=grid.shape_kji).astype(np.float32)), path)
    return path


def handed(folder: Path, case: str, n_channels: int = 2) -> CaseHandOut:
    images = tuple(image_of(folder / case, case, channel) for channel in range(n_channels))
    regions = tuple(
        HandedRegion(rank, box, 0.123456789 if case == "case_01" else None) for rank, box in BOXES[case].items()
    )
    labels_kji = np.random.default_rng(len(case)).integers(0, 3, SIZE[::-1])
    return CaseHandOut(case, images, tuple(map(hash_file, images)), TURNED, labels_kji, regions)


@pytest.fixture
def cases(tmp_path) -> list[CaseHandOut]:
    return [handed(tmp_path / "raw", case) for case in BOXES]


@pytest.fixture
def folder(tmp_path, cases) -> Path:
    """Written, then moved, so that nothing in it may depend on where it was."""
    write_batch_folder(tmp_path / "round_003" / "batch", BATCH, iter(cases))
    shutil.move(tmp_path / "round_003" / "batch", tmp_path / "moved")
    shutil.rmtree(tmp_path / "raw")
    return tmp_path / "moved"


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_what_lies_in_the_folder(folder):
    found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    expected = {"HOWTO.txt", "batch.csv", "cases.csv", "labels.txt", "manifest.json"}
    for case, boxes in BOXES.items():
        expected |= {f"images/{case}_0000.nii.gz", f"images/{case}_0001.nii.gz"}
        expected |= {f"preseg/{case}.seg.nrrd", f"preseg/{case}.nii.gz", f"roi/{case}.nii.gz"}
        expected |= {f"roi/{case}_{rank}.mrk.json" for rank in boxes}
    assert set(found) == expected
    assert (folder / "returned").is_dir()
    assert not any(path.is_symlink() or (path.is_file() and path.stat().st_nlink > 1) for path in folder.rglob("*"))


def test_the_sheet_lists_the_regions_by_rank_and_leaves_the_last_columns_to_the_reader(folder):
    assert rows_of(folder / "batch.csv") == [
        {
            "rank": str(rank),
            "case": case,
            "region": region,
            "score": score,
            "strategy": "usimf",
            "reviewed": "",
            "minutes": "",
        }
        for rank, case, region, score in (
            (1, "case_01", "case_01[6:7,0:8,0:9]", "0.123457"),
            (2, "case ü", "case ü[0:7,0:8,0:9]", ""),
            (3, "case_01", "case_01[1:5,2:7,0:4]", "0.123457"),
        )
    ]


def test_the_manifest_says_it_all(folder, cases):
    manifest = read_manifest(folder)
    assert {key: manifest[key] for key in manifest if key not in ("cases", "segments")} == {
        "schema": 1,
        "format": "folder",
        "campaign": "3d_fullres__usimf__seed0",
        "dataset": "Dataset501_Test",
        "round": 3,
        "strategy": "usimf",
        "seed": 7,
        "unit": "patch",
        "readings": 1,
        "model": "ab12",
    }
    assert manifest["segments"] == [
        {"value": 1, "name": "liver", "colour": [230, 159, 0]},
        {"value": 2, "name": "spleen", "colour": [86, 180, 233]},
    ]
    for entry, case in zip(manifest["cases"], cases, strict=True):
        assert entry["case"] == case.case
        assert grid_in(entry) == case.grid
        boxes = {region["rank"]: as_box(region["box_ijk"][::-1]) for region in entry["regions"]}
        assert boxes == BOXES[case.case]
        assert entry["presegmentation"]["sha256"] == hash_array(case.labels_kji.astype(np.int32))
        for image in entry["images"]:
            assert hash_file(folder / image["file"]) == image["sha256"]
        for file in [*entry["presegmentation"]["files"], *entry["outlines"]]:
            assert (folder / file).is_file()


def test_a_region_in_voxels_and_in_millimetres_by_hand(folder):
    """Turned by 90 degrees about z: i runs along +y, j along -x."""
    region = read_manifest(folder)["cases"][0]["regions"][0]
    assert region["rank"] == 3
    assert region["box_ijk"] == [[0, 4], [2, 7], [1, 5]]
    # i: -0.5 to 3.5 -> y = 199 to 207; j: 1.5 to 6.5 -> x = 95.5 to 80.5; k: 0.5 to 4.5 -> z = 302 to 318
    assert region["corners_mm"] == [[x, y, z] for z in (302, 318) for x in (95.5, 80.5) for y in (199, 207)]


def test_slicer_and_nibabel_open_the_presegmentations(folder, cases):
    for case in cases:
        slicer = slicerio.read_segmentation(str(folder / "preseg" / f"{case.case}.seg.nrrd"))
        assert np.array_equal(slicer["voxels"], case.labels_kji.T)
        assert slicerio.segment_names(slicer) == ["liver", "spleen"]
        nifti = nibabel.load(folder / "preseg" / f"{case.case}.nii.gz")
        assert np.array_equal(np.asarray(nifti.dataobj), case.labels_kji.T)
        image = nibabel.load(folder / "images" / f"{case.case}_0001.nii.gz")
        assert np.allclose(image.affine, nifti.affine)
        for ending in (".seg.nrrd", ".nii.gz"):
            assert read_segmentation(folder / "preseg" / f"{case.case}{ending}").case == case.case
    assert read_label_file(folder / "labels.txt") == {0: "Clear Label", 1: "liver", 2: "spleen"}


def test_the_table_of_slicer_case_iterator_leads_to_the_files(folder):
    """As the extension joins them: the table's folder, the column path, the file."""
    rows = rows_of(folder / "cases.csv")
    assert [row["ID"] for row in rows] == list(BOXES)
    for row in rows:
        for column in ("image", "mask", "image_1"):
            path = folder / row["path"] / row[column]
            assert path.is_file()
            assert not Path(row[column]).is_absolute()
        assert row["mask"].endswith(".seg.nrrd")


def test_nothing_tells_where_the_images_came_from(folder):
    for path in folder.rglob("*"):
        assert "smith" not in path.name.lower()
        if path.suffix in (".json", ".csv", ".txt"):
            text = path.read_text(encoding="utf-8").lower()
            assert "smith" not in text
            assert str(folder.parent).lower() not in text


def test_the_page_fits_the_batch(tmp_path, cases, folder):
    text = (folder / "HOWTO.txt").read_text(encoding="utf-8")
    assert "Dataset501_Test, round 3: 3 regions in 2 cases" in text
    assert "liver, spleen" in text
    assert "images/CASE_0000.nii.gz" in text
    assert "only inside the outlined regions" in text
    assert "a model's proposal" in text
    assert "_0000 to _0001" in text
    assert "independently" not in text
    assert max(map(len, text.splitlines())) <= 90
    assert len(text.splitlines()) <= 66
    assert "{" not in text

    whole = replace(BATCH, unit="case", model=None, readings=2, round=0)
    write_batch_folder(tmp_path / "whole", whole, [handed(tmp_path / "raw", "case ü", n_channels=1)])
    text = (tmp_path / "whole" / "HOWTO.txt").read_text(encoding="utf-8")
    assert "1 region in 1 case\n" in text
    assert "each case as a whole" in text
    assert "outlined regions" not in text
    assert "no proposal yet" in text
    assert "read by 2 people independently" in text
    assert "_0001" not in text


# --- outlines ----------------------------------------------------------------------------------------------------


def test_an_outline_is_the_outermost_layer_inside_the_box():
    box = ((1, 5), (2, 7), (0, 4))
    outline_kji = outline({3: box}, SIZE[::-1])
    inner = tuple(slice(low + 1, high - 1) for low, high in box)
    expected_kji = np.zeros(SIZE[::-1], int)
    expected_kji[to_slices(box)] = 3
    expected_kji[inner] = 0
    assert np.array_equal(outline_kji, expected_kji)


def test_a_slice_is_framed_and_not_hidden():
    outline_kji = outline({5: ((3, 4), (1, 6), (2, 6))}, SIZE[::-1])
    assert outline_kji[3].tolist() == [
        [0, 0, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 5, 5, 5, 5, 0, 0, 0],
        [0, 0, 5, 0, 0, 5, 0, 0, 0],
        [0, 0, 5, 0, 0, 5, 0, 0, 0],
        [0, 0, 5, 0, 0, 5, 0, 0, 0],
        [0, 0, 5, 5, 5, 5, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 0],
    ]
    assert not outline_kji[[0, 1, 2, 4, 5, 6]].any()


def test_a_box_too_thin_for_an_outline_is_filled():
    assert np.count_nonzero(outline({1: ((0, 2), (0, 2), (0, 1))}, SIZE[::-1])) == 4


def test_the_smaller_rank_is_seen_where_outlines_meet_and_each_box_can_be_told():
    a, b = ((0, 4), (0, 4), (0, 4)), ((0, 4), (0, 4), (2, 8))
    for boxes in ({1: a, 2: b}, {2: b, 1: a}):
        outline_kji = outline(boxes, SIZE[::-1])
        assert (outline_kji[0, :4, :4] == 1).all()
        assert (outline_kji[0, :4, 4:8] == 2).all()
        assert (outline_kji[1, 1, :9] == [1, 0, 2, 1, 0, 0, 0, 2, 0]).all()


def test_the_outlines_file_has_the_ranks_on_the_images_grid(folder):
    image = SimpleITK.ReadImage(folder / "roi" / "case_01.nii.gz")
    assert np.array_equal(SimpleITK.GetArrayFromImage(image), outline(BOXES["case_01"], SIZE[::-1]))
    assert np.allclose(image.GetDirection(), TURNED.direction)


def corners_of(roi: dict) -> np.ndarray:
    """The ROI's corners as 3D Slicer sees them: centre plus and minus half the size along the axes (columns)."""
    axes = np.reshape(roi["orientation"], (3, 3))
    signs = np.array([(i, j, k) for k in (-1, 1) for j in (-1, 1) for i in (-1, 1)])
    return np.array(roi["center"]) + (signs * np.array(roi["size"]) / 2) @ axes.T


def test_a_markup_by_hand(folder):
    """Region 3 of the turned image, see above: 8 mm along y, 15 along x, 16 along z around (88, 203, 310)."""
    (roi,) = json.loads((folder / "roi" / "case_01_3.mrk.json").read_text())["markups"]
    assert roi["type"] == "ROI"
    assert roi["roiType"] == "Box"
    assert roi["coordinateSystem"] == "LPS"
    assert roi["name"] == "case_01 3"
    assert np.allclose(roi["center"], (88, 203, 310))
    assert np.allclose(roi["controlPoints"][0]["position"], (88, 203, 310))
    assert np.allclose(roi["size"], (8, 15, 16))
    assert np.allclose(corners_of(roi).min(0), (80.5, 199, 302))
    assert np.allclose(corners_of(roi).max(0), (95.5, 207, 318))


@pytest.mark.parametrize("handedness", [1, -1])
def test_a_markup_on_an_oblique_grid_by_hand(handedness):
    """Axis i along (0.6, 0.8, 0), j along (-0.8, 0.6, 0), k up or down; voxels of 10 x 20 x 30 mm."""
    direction = (0.6, -0.8, 0.0, 0.8, 0.6, 0.0, 0.0, 0.0, float(handedness))
    grid = Grid((4, 4, 4), (10.0, 20.0, 30.0), (5.0, 6.0, 7.0), direction)
    (roi,) = markup("x", ((0, 1), (1, 3), (0, 2)), grid)["markups"]  # i 0:2, j 1:3, k 0:1
    # the centre is voxel (0.5, 1.5, 0): 5 mm along i, 30 mm along j
    assert np.allclose(roi["center"], (5 + 3 - 24, 6 + 4 + 18, 7))
    assert np.allclose(roi["size"], (20, 40, 30))
    assert np.linalg.det(np.reshape(roi["orientation"], (3, 3))) == pytest.approx(1)
    corners = {tuple(np.round(corner, 6) + 0.0) for corner in corners_of(roi)}
    half_i, half_j = np.array([6, 8]), np.array([-16, 12])
    expected = {
        (*(np.array([-16.0, 28.0]) + a * half_i + b * half_j), z)
        for a in (-1, 1)
        for b in (-1, 1)
        for z in (-8.0, 22.0)
    }
    assert corners == expected


def test_markups_and_manifest_agree_on_any_grid():
    rng = np.random.default_rng(0)
    for _ in range(20):
        direction, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        grid = Grid(SIZE, tuple(rng.uniform(0.5, 5, 3)), tuple(rng.uniform(-99, 99, 3)), tuple(direction.ravel()))
        low = rng.integers(0, 3, 3)
        box = tuple((int(a), int(a + b)) for a, b in zip(low, rng.integers(1, 4, 3), strict=True))
        (roi,) = markup("x", box, grid)["markups"]
        image = grid.image(np.zeros(SIZE[::-1], np.uint8))
        by_itk = image.TransformContinuousIndexToPhysicalPoint([float(low) - 0.5 for low, _ in box[::-1]])
        assert np.allclose(grid.box_corners_mm(box)[0], by_itk)
        ours = sorted(map(tuple, np.round(corners_of(roi), 6)))
        assert np.allclose(ours, sorted(map(tuple, np.round(grid.box_corners_mm(box), 6))), atol=1e-5)
        assert np.prod(roi["size"]) == pytest.approx(np.prod(box_shape(box)) * np.prod(grid.spacing_mm))


# --- complete or absent ------------------------------------------------------------------------------------------


def test_one_case_is_in_memory_at_a_time(tmp_path):
    def one_by_one() -> Iterator[CaseHandOut]:
        yield handed(tmp_path / "raw", "case_01")
        (unfinished,) = (tmp_path / "out").iterdir()
        assert (unfinished / "roi" / "case_01_3.mrk.json").is_file(), "the case before is not written yet"
        yield handed(tmp_path / "raw", "case ü")

    write_batch_folder(tmp_path / "out" / "batch", BATCH, one_by_one())
    assert len(read_manifest(tmp_path / "out" / "batch")["cases"]) == 2


def test_a_folder_that_exists_is_left_alone(tmp_path, cases, folder):
    (folder / "returned" / "case_01.nii.gz").write_bytes(b"work")
    with pytest.raises(DatasetError, match="exists already"):
        write_batch_folder(folder, BATCH, cases)
    assert (folder / "returned" / "case_01.nii.gz").read_bytes() == b"work"


def test_an_image_that_is_gone_or_another_one_by_now_is_refused(tmp_path, cases):
    out = tmp_path / "batch"
    before = cases[1].images[0].read_bytes()
    cases[1].images[0].write_bytes(b"another")
    with pytest.raises(DatasetError, match=r"t1\.nii\.gz is not the image that was scored"):
        write_batch_folder(out, BATCH, cases)
    cases[1].images[0].unlink()
    with pytest.raises(DatasetError, match=r"t1\.nii\.gz is missing"):
        write_batch_folder(out, BATCH, cases)
    assert not list(tmp_path.glob("*batch*"))
    cases[1].images[0].write_bytes(before)
    write_batch_folder(out, BATCH, cases)


def test_a_copy_that_is_not_whole_is_noticed(tmp_path, cases, monkeypatch):
    monkeypatch.setattr(shutil, "copyfile", lambda source, target: target.write_bytes(source.read_bytes()[:-1]))
    with pytest.raises(StorageError, match=r"could not be written whole: free some disk space"):
        write_batch_folder(tmp_path / "batch", BATCH, cases)
    assert not list(tmp_path.glob("*batch*"))


def test_a_disk_that_is_full_at_any_moment_leaves_nothing(tmp_path, cases, monkeypatch):
    plain, calls, fails_at = files._sync, 0, -1

    def sync(path: Path) -> None:
        nonlocal calls
        calls += 1
        if calls == fails_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        plain(path)

    monkeypatch.setattr(files, "_sync", sync)
    write_batch_folder(tmp_path / "whole", BATCH, cases)
    n_writes = calls
    assert n_writes > 30
    for moment in range(1, n_writes + 1, 3):
        calls, fails_at = 0, moment
        with pytest.raises(StorageError, match="No space is left") as refusal:
            write_batch_folder(tmp_path / "new" / "batch", BATCH, cases)
        assert ".tmp." not in str(refusal.value)
        assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "text, sentence",
    [
        (None, "is missing"),
        ("{", "cannot be read"),
        ("[]", "is an incomplete"),
        ('{"schema": 1}', "is an incomplete"),
        ('{"schema": 2}', "has schema 2 and not 1"),
    ],
)
def test_a_manifest_that_is_broken_is_refused(folder, text, sentence):
    (folder / "manifest.json").unlink()
    if text is not None:
        (folder / "manifest.json").write_text(text)
    with pytest.raises(CampaignError, match=rf"manifest\.json {sentence}.*: "):
        read_manifest(folder)


@pytest.mark.parametrize("key", ["readings", "segments", "cases"])
def test_a_manifest_that_lacks_a_part_is_refused(folder, key):
    manifest = read_manifest(folder)
    del manifest[key]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CampaignError, match="is an incomplete manifest"):
        read_manifest(folder)
    manifest[key] = [{"case": "a"}]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    if key == "cases":
        with pytest.raises(CampaignError, match="is an incomplete manifest"):
            read_manifest(folder)
