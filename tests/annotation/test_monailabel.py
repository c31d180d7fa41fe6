"""MONAI Label's folder: what is written, the app that serves it, and what was submitted."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import subprocess
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from nnunet_al.annotation.expected_case import ExpectedCase
from nnunet_al.annotation.grids import Grid, place
from nnunet_al.annotation.import_check import check_returned
from nnunet_al.annotation.manifest import Batch, CaseHandOut, HandedRegion, read_manifest
from nnunet_al.annotation.monailabel import write_datastore
from nnunet_al.annotation.monailabel_labels import returned_labels
from nnunet_al.annotation.segments import segments_of
from nnunet_al.annotation.volumes import read_segmentation, write_nifti, write_seg_nrrd
from nnunet_al.errors import CampaignError, DatasetError, ReturnError, StorageError
from nnunet_al.files import hash_array, hash_file

SHAPE_KJI = (4, 5, 6)
GRID = Grid((6, 5, 4), (1.0, 1.0, 2.0), (10.0, -5.0, 3.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
SEGMENTS = segments_of({"background": 0, "hippocampus": 1, "tumour": 2})
WHOLE = tuple((0, length) for length in SHAPE_KJI)


def batch(**changes: object) -> Batch:
    values = {
        "campaign": "3d__bald",
        "dataset": "Dataset001_A",
        "round": 1,
        "strategy": "bald",
        "seed": 0,
        "unit": "patch",
    }
    return Batch(**{**values, "segments": SEGMENTS, "model": "abc", "readings": 1, **changes})


def labels(*values: int) -> np.ndarray:
    labels_kji = np.zeros(SHAPE_KJI, np.int32)
    for row, value in enumerate(values):
        labels_kji[1:3, row] = value
    return labels_kji


def handed(
    folder: Path,
    case: str,
    ranks: tuple[int, ...] = (1,),
    channels: int = 1,
    ending: str = ".nii.gz",
    labels_kji: np.ndarray | None = None,
    box_kji: tuple = WHOLE,
) -> CaseHandOut:
    images = []
    for channel in range(channels):
        images.append(folder / f"{case}_{channel:04d}{ending}")
        voxels_kji = np.random.default_rng(channel).normal(size=SHAPE_KJI).astype(np.float32)
        SimpleITK.WriteImage(GRID.image(voxels_kji), images[-1])
    regions = tuple(HandedRegion(rank, box_kji, 0.5 / rank) for rank in ranks)
    hashes = tuple(hash_file(image) for image in images)
    return CaseHandOut(case, tuple(images), hashes, GRID, labels(2) if labels_kji is None else labels_kji, regions)


@pytest.fixture
def folder(tmp_path):
    """A batch of two cases; case a.1, of better rank, has a pre-segmentation of the tumour alone."""
    source = tmp_path / "raw"
    source.mkdir()
    cases = [handed(source, "case b", (3, 2), labels_kji=labels(1, 2)), handed(source, "a.1", (1,))]
    write_datastore(tmp_path / "batch", batch(), cases)
    return tmp_path / "batch"


def datastore(folder: Path) -> dict:
    return json.loads((folder / "datastore_v2.json").read_text(encoding="utf-8"))


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): hash_file(path) for path in sorted(folder.rglob("*")) if path.is_file()}


# ---- what is written


def test_every_image_at_the_top_is_one_to_annotate(folder):
    assert sorted(path.name for path in folder.glob("*.nii.gz")) == ["a.1.nii.gz", "case b.nii.gz"]
    assert not (folder / "images").exists()
    assert sorted(path.name for path in (folder / "labels/original").iterdir()) == ["a.1.nii.gz", "case b.nii.gz"]
    assert list((folder / "labels/final").iterdir()) == []
    assert list(datastore(folder)["objects"]) == ["case b", "a.1"]


def test_images_and_presegmentations_are_those_handed_out(folder, tmp_path):
    assert (folder / "a.1.nii.gz").read_bytes() == (tmp_path / "raw/a.1_0000.nii.gz").read_bytes()
    file = read_segmentation(folder / "labels/original/case b.nii.gz")
    placed_kji, outside = place(file.layers[0], GRID, False)
    np.testing.assert_array_equal(placed_kji, labels(1, 2))
    assert outside == 0
    assert file.case == "case b"


def test_the_presegmentation_is_known_after_another_app_wrote_over_it(folder):
    entry = next(entry for entry in read_manifest(folder)["cases"] if entry["case"] == "case b")
    assert entry["presegmentation"]["files"] == ["labels/original/case b.nii.gz", "preseg/case b.seg.nrrd"]
    for file in entry["presegmentation"]["files"]:
        voxels_kji = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(folder / file)).astype(np.int32)
        assert hash_array(voxels_kji) == entry["presegmentation"]["sha256"]


def test_info_tells_ranks_scores_and_where_the_regions_lie(tmp_path):
    case = handed(tmp_path, "c", (4,), box_kji=((1, 3), (0, 5), (2, 4)))
    write_datastore(tmp_path / "batch", batch(), [case])
    info = datastore(tmp_path / "batch")["objects"]["c"]["image"]["info"]
    assert info["name"] == "c.nii.gz"
    assert info["checksum"] == "SHA256:" + hash_file(tmp_path / "batch/c.nii.gz")
    ours = info["nnunet_al"]
    assert (ours["rank"], ours["round"], ours["strategy"], ours["reviewed"]) == (4, 1, "bald", False)
    (region,) = ours["regions"]
    assert (region["rank"], region["score"]) == (4, 0.125)
    assert region["box_ijk"] == [[2, 4], [0, 5], [1, 3]]
    # i: 10 + 1.5 to 10 + 3.5; j: -5 - 0.5 to -5 + 4.5; k: 3 + 2 x 0.5 to 3 + 2 x 2.5
    assert region["corners_mm"][0] == [11.5, -5.5, 4.0]
    assert region["corners_mm"][-1] == [13.5, -0.5, 8.0]


def test_keys_that_monai_label_uses_itself_are_left_to_it(folder):
    # its strategies read info["strategy"][name]["ts"]: a string there would end the server's answer
    for entry in datastore(folder)["objects"].values():
        assert "strategy" not in entry["image"]["info"]
        assert "ts" not in entry["image"]["info"]
        assert entry["labels"].keys() == {"original"}


def test_epistemic_scores_follow_the_ranks(folder):
    scores = {case: entry["image"]["info"]["epistemic_entropy"] for case, entry in datastore(folder)["objects"].items()}
    assert scores == {"case b": 1 / 2, "a.1": 1}


def test_names_of_the_original_are_those_of_the_values_that_it_holds(folder):
    # 3D Slicer gives the first value that it finds the first name
    infos = {case: entry["labels"]["original"]["info"] for case, entry in datastore(folder)["objects"].items()}
    assert infos["a.1"]["params"]["label_names"] == {"tumour": 2}
    assert infos["case b"]["params"]["label_names"] == {"hippocampus": 1, "tumour": 2}
    assert infos["a.1"]["label_info"] == [{"name": "hippocampus", "idx": 1}, {"name": "tumour", "idx": 2}]


def test_manifest_table_outlines_and_instructions_lie_beside(folder):
    manifest = read_manifest(folder)
    assert manifest["format"] == "monailabel"
    assert [entry["case"] for entry in manifest["cases"]] == ["case b", "a.1"]
    for entry in manifest["cases"]:
        files = [image["file"] for image in entry["images"]] + entry["presegmentation"]["files"] + entry["outlines"]
        assert all((folder / file).is_file() for file in files)
    with (folder / "batch.csv").open(newline="") as file:
        assert [(row["rank"], row["case"], row["reviewed"]) for row in csv.DictReader(file)] == [
            ("1", "a.1", ""),
            ("2", "case b", ""),
            ("3", "case b", ""),
        ]
    page = (folder / "HOWTO.txt").read_text(encoding="utf-8")
    assert "start_server --app app --studies ." in page
    assert "hippocampus, tumour" in page
    assert max(map(len, page.splitlines())) <= 100


def test_of_several_channels_the_first_is_the_image(tmp_path):
    write_datastore(tmp_path / "batch", batch(), [handed(tmp_path, "c", channels=3)])
    assert [path.name for path in (tmp_path / "batch").glob("*.nii.gz")] == ["c.nii.gz"]
    names = ["c.nii.gz", "images/c_0001.nii.gz", "images/c_0002.nii.gz"]
    for channel, name in enumerate(names):
        assert hash_file(tmp_path / "batch" / name) == hash_file(tmp_path / f"c_{channel:04d}.nii.gz")
    assert sorted(path.name for path in (tmp_path / "batch/images").iterdir()) == ["c_0001.nii.gz", "c_0002.nii.gz"]
    assert datastore(tmp_path / "batch")["objects"]["c"]["image"]["info"]["nnunet_al"]["images"] == names
    assert [image["file"] for image in read_manifest(tmp_path / "batch")["cases"][0]["images"]] == names


@pytest.mark.parametrize("ending", [".nrrd", ".mha", ".nii"])
def test_other_formats_become_nifti_with_the_same_voxels(tmp_path, ending):
    write_datastore(tmp_path / "batch", batch(), [handed(tmp_path, "c", channels=2, ending=ending)])
    before, after = (SimpleITK.ReadImage(tmp_path / name) for name in (f"c_0000{ending}", "batch/c.nii.gz"))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(after), SimpleITK.GetArrayFromImage(before))
    assert before.GetPixelID() == after.GetPixelID()
    np.testing.assert_allclose(Grid.of(after).matrix, GRID.matrix, atol=1e-6)
    assert [path.name for path in (tmp_path / "batch/images").iterdir()] == [f"c_0001{ending}"]
    assert hash_file(tmp_path / f"batch/images/c_0001{ending}") == hash_file(tmp_path / f"c_0001{ending}")


def test_an_image_that_cannot_be_converted_leaves_nothing(tmp_path, monkeypatch):
    case = handed(tmp_path, "c", ending=".nrrd")
    write = SimpleITK.WriteImage

    def cut_short(image, path, *rest, **more):
        write(image, path, *rest, **more)
        if str(path).endswith("c.nii.gz"):
            Path(path).write_bytes(Path(path).read_bytes()[:-40])

    monkeypatch.setattr(SimpleITK, "WriteImage", cut_short)
    with pytest.raises(StorageError, match=r"c\.nii\.gz could not be written whole"):
        write_datastore(tmp_path / "batch", batch(), [case])
    assert not (tmp_path / "batch").exists()


def test_several_readings_are_refused(tmp_path):
    with pytest.raises(CampaignError, match="one label per image, not 2 readings"):
        write_datastore(tmp_path / "batch", batch(readings=2), [])
    assert list(tmp_path.iterdir()) == []


def test_a_replaced_image_leaves_nothing(tmp_path):
    good, bad = handed(tmp_path, "a"), handed(tmp_path, "b", (2,))
    bad.images[0].write_bytes(good.images[0].read_bytes() + b"x")
    with pytest.raises(DatasetError, match=r"b_0000\.nii\.gz"):
        write_datastore(tmp_path / "batch", batch(), [good, bad])
    assert not (tmp_path / "batch").exists()


def test_the_same_batch_is_the_same_folder(folder, tmp_path):
    cases = [handed(tmp_path / "raw", "case b", (3, 2), labels_kji=labels(1, 2)), handed(tmp_path / "raw", "a.1", (1,))]
    write_datastore(tmp_path / "again", batch(), cases)
    assert contents(tmp_path / "again") == contents(folder)


# ---- the app


class Store:
    """What the app asks MONAI Label's datastore."""

    def __init__(self, infos: dict[str, dict]):
        self.infos = infos

    def get_unlabeled_images(self):
        return list(self.infos)

    def get_image_info(self, image):
        return self.infos[image]


@pytest.fixture
def app(folder, monkeypatch):
    """The app's module, on stand-ins for MONAI Label's classes."""

    class Task:
        def __init__(self, *arguments):
            self.arguments = arguments

    class App:
        def __init__(self, app_dir, studies, conf, name, description, labels):
            self.studies, self.name, self.labels = studies, name, labels

    kinds = types.SimpleNamespace(SEGMENTATION="segmentation")
    for name, contents_ in {
        "interfaces.app": {"MONAILabelApp": App},
        "interfaces.tasks.infer_v2": {"InferTask": Task, "InferType": kinds},
        "interfaces.tasks.strategy": {"Strategy": Task},
        "tasks.activelearning.first": {"First": Task},
        "tasks.activelearning.random": {"Random": Task},
    }.items():
        module = types.ModuleType(f"monailabel.{name}")
        vars(module).update(contents_)
        monkeypatch.setitem(sys.modules, f"monailabel.{name}", module)
    spec = importlib.util.spec_from_file_location("nnunet_al_batch_app", folder / "app/main.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_next_image_is_the_one_of_best_rank_that_nobody_else_was_given(app):
    taken = {"strategy": {"by_rank": {"ts": 1, "client_id": "anna"}}}
    next_image = app.ByRank()

    def given(infos, reader):
        answer = next_image({"strategy": "by_rank", "client_id": reader}, Store(infos))
        return answer and answer["id"]

    assert given({"case b": {}, "a.1": {}}, "anna") == "a.1"
    assert given({"case b": {}, "a.1": taken}, "anna") == "a.1"  # her own again, until she submits it
    assert given({"case b": {}, "a.1": taken}, "bert") == "case b"
    assert given({"a.1": taken}, "bert") == "a.1"  # nothing else is left
    assert given({"put there later": {}, "case b": {}}, "bert") == "case b"
    assert given({}, "bert") is None


def test_the_model_gives_a_copy_of_the_presegmentation_and_its_names(app, folder):
    served = app.Batch(str(folder / "app"), str(folder), {})
    assert served.labels == ["hippocampus", "tumour"]
    copy, params = served.init_infers()["presegmentation"]({"image": str(folder / "a.1.nii.gz")})
    original = folder / "labels/original/a.1.nii.gz"
    assert Path(copy).read_bytes() == original.read_bytes()
    assert params == {"label_names": {"tumour": 2}}
    Path(copy).unlink()  # as the server does
    assert original.exists()


def test_without_a_presegmentation_there_is_no_model(tmp_path):
    write_datastore(tmp_path / "batch", batch(model=None), [handed(tmp_path, "c", labels_kji=labels())])
    described = json.loads((tmp_path / "batch/app/batch.json").read_text(encoding="utf-8"))
    assert described["present"] == {"c": []}
    assert "presegmentation" not in (tmp_path / "batch/HOWTO.txt").read_text(encoding="utf-8")


# ---- what was submitted


def submit(
    folder: Path,
    case: str,
    info: object = None,
    ext: str = ".nii.gz",
    tag: str = "final",
    labels_kji: np.ndarray | None = None,
    names: str | None = None,
) -> Path:
    """Store a label as MONAI Label's server does; without ``info`` it is killed before the entry is written."""
    path = folder / "labels" / tag / f"{case}{ext}"
    path.parent.mkdir(exist_ok=True)
    labels_kji = labels(1) if labels_kji is None else labels_kji
    if names is None:
        write_nifti(folder / "label.nii.gz", labels_kji, GRID)
        SimpleITK.WriteImage(SimpleITK.ReadImage(folder / "label.nii.gz"), path)
        (folder / "label.nii.gz").unlink()
    else:
        write_seg_nrrd(path, labels_kji, GRID, SEGMENTS, case)
    if info is not None:
        store = datastore(folder)
        store["objects"][case]["labels"][tag] = {"ext": ext, "info": info}
        (folder / "datastore_v2.json").write_text(json.dumps(store), encoding="utf-8")
    return path


def slicer(*pairs: tuple[str, int]) -> list[dict]:
    return [{"name": name, "idx": idx} for name, idx in pairs]


TWO = slicer(("hippocampus", 1), ("tumour", 2))


def meta(status: str, comment: str = "") -> dict:
    return {"status": status, "approvedBy": "chief", "level": "hard", "comment": comment, "editTime": 1700000000}


def test_nothing_submitted(folder):
    assert returned_labels(folder) == []


def test_submitting_is_the_review(folder):
    path = submit(folder, "a.1", {"label_info": TWO, "client_id": " anna ", "ts": 1, "name": "a.1.nii.gz"})
    before = contents(folder)
    (label,) = returned_labels(folder)
    assert (label.case, label.path, label.reader, label.minutes) == ("a.1", path, "anna", None)
    assert label.reviewed
    assert label.names == {1: "hippocampus", 2: "tumour"}
    assert label.remarks == ()
    assert contents(folder) == before


def test_labels_are_sorted_by_case(folder):
    submit(folder, "case b", {})
    submit(folder, "a.1", {})
    assert [label.case for label in returned_labels(folder)] == ["a.1", "case b"]


@pytest.mark.parametrize(
    "info, reader",
    [
        ({}, None),
        ({"client_id": "user-xyz"}, None),
        ({"client_id": 3}, None),
        ({"user": "bert"}, "bert"),
        ({"client_id": "../a\nb"}, ".._a_b"),
        ({"client_id": 70 * "a"}, 64 * "a"),
    ],
)
def test_the_reader_is_who_entered_a_name(folder, info, reader):
    submit(folder, "a.1", info)
    assert returned_labels(folder)[0].reader == reader


@pytest.mark.parametrize(
    "minutes, known", [(12, 12.0), (0.5, 0.5), (-1, None), ("12", None), (True, None), (float("nan"), None)]
)
def test_minutes_are_numbers_of_minutes(folder, minutes, known):
    submit(folder, "a.1", {"minutes": minutes})
    assert returned_labels(folder)[0].minutes == known


@pytest.mark.parametrize("ext", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_a_label_without_an_entry_was_submitted_all_the_same(folder, ext):
    path = submit(folder, "a.1", ext=ext)
    (label,) = returned_labels(folder)
    assert (label.case, label.path, label.reader, label.names) == ("a.1", path, None, None)
    assert label.reviewed
    assert "does not say who" in label.remarks[0]


def test_an_entry_without_its_label_is_nothing(folder):
    submit(folder, "a.1", {}).unlink()
    assert returned_labels(folder) == []


def test_labels_count_without_a_datastore_file(folder):
    submit(folder, "a.1", {})
    (folder / "datastore_v2.json").unlink()
    (label,) = returned_labels(folder)
    assert (label.case, label.reviewed) == ("a.1", True)


def test_what_is_no_label_is_left_alone(folder):
    for name in (".a.1.nii.gz", "a.1.txt", ".nii.gz", "a.1.nii.gz.part"):
        (folder / "labels/final" / name).write_bytes(b"x")
    (folder / "labels/final/a.1.nrrd").mkdir()
    assert returned_labels(folder) == []


def test_of_two_formats_the_one_that_the_datastore_names(folder):
    submit(folder, "a.1", ext=".nii.gz")
    newer = submit(folder, "a.1", {"client_id": "anna"}, ext=".nrrd")
    (label,) = returned_labels(folder)
    assert (label.path, label.reader, label.reviewed) == (newer, "anna", True)
    assert "a.1.nii.gz is not the label" in label.remarks[0]


def test_of_two_formats_without_an_entry_none(folder):
    submit(folder, "a.1", ext=".nii.gz")
    submit(folder, "a.1", ext=".nrrd")
    (label,) = returned_labels(folder)
    assert not label.reviewed
    assert "a.1.nii.gz and a.1.nrrd" in label.remarks[0]


def test_a_flagged_label_is_not_reviewed(folder):
    submit(folder, "a.1", {"segmentationMeta": meta("flagged", "too\nlarge")})
    (label,) = returned_labels(folder)
    assert not label.reviewed
    assert '("too large")' in label.remarks[0]


@pytest.mark.parametrize("status", ["approved", "", "segmented", None])
def test_other_words_of_the_reviewer_keep_a_label(folder, status):
    submit(folder, "a.1", {"segmentationMeta": meta(status)})
    assert returned_labels(folder)[0].reviewed


def test_the_version_that_a_reviewer_approved_is_taken(folder):
    submit(folder, "a.1", {"segmentationMeta": meta("flagged"), "client_id": "anna"})
    submit(folder, "a.1", {"segmentationMeta": meta("approved")}, ".nrrd", "version_1")
    latest = submit(folder, "a.1", {"segmentationMeta": meta("approved")}, ".nrrd", "version_10")
    submit(folder, "a.1", {"segmentationMeta": meta("")}, ".nrrd", "version_11")
    (label,) = returned_labels(folder)
    assert (label.path, label.reviewed) == (latest, True)
    assert "version_10" in label.remarks[0]


def test_a_version_that_nobody_approved_is_not_taken(folder):
    final = submit(folder, "a.1", {})
    submit(folder, "a.1", {"segmentationMeta": meta("flagged")}, ".nrrd", "version_1")
    assert [label.path for label in returned_labels(folder)] == [final]


@pytest.mark.parametrize(
    "label_info, values, names",
    [
        (TWO, (1, 2), {1: "hippocampus", 2: "tumour"}),
        (slicer(("tumour", 1)), (1,), {1: "tumour"}),
        (slicer(("tumour", 2), ("hippocampus", 1)), (1, 2), {2: "tumour", 1: "hippocampus"}),
        # "background" came first: idx counts it, the voxels do not
        (slicer(("hippocampus", 2), ("tumour", 3)), (1, 2), {1: "hippocampus", 2: "tumour"}),
        # a program that stores the dataset's own numbers
        (slicer(("hippocampus", 1), ("tumour", 4)), (1, 4), {1: "hippocampus", 4: "tumour"}),
        (slicer(("hippocampus", 2), ("tumour", 3)), (), {2: "hippocampus", 3: "tumour"}),
        (slicer(("hippocampus", 2), ("tumour", 3)), (7,), {2: "hippocampus", 3: "tumour"}),  # the gate refuses 7
        (None, (1,), None),
        ([], (1,), None),
        ("hippocampus", (1,), None),
        ([{"name": "hippocampus"}], (1,), None),
        ([{"name": "hippocampus", "idx": True}], (1,), None),
        ([{"name": "hippocampus", "idx": 1}, {"name": "tumour", "idx": 1}], (1,), None),
        ([{"name": "", "idx": 1}], (1,), None),
        (["hippocampus"], (1,), None),
    ],
)
def test_names_are_those_of_the_voxels(folder, label_info, values, names):
    submit(folder, "a.1", {"label_info": label_info}, labels_kji=labels(*values))
    (label,) = returned_labels(folder)
    assert label.names == names
    assert label.reviewed


def test_numbers_that_could_mean_either_are_not_guessed(folder):
    # 2 is the hippocampus by idx, and the tumour if "background" was not stored
    submit(folder, "a.1", {"label_info": slicer(("hippocampus", 2), ("tumour", 3))}, labels_kji=labels(2))
    (label,) = returned_labels(folder)
    assert (label.names, label.reviewed) == (None, False)
    assert 'the segment called "background"' in label.remarks[0]


def test_names_are_not_looked_for_in_a_file_of_another_grid(folder, monkeypatch):
    """Its voxels may be many, and are of no use; it is refused when it is collected."""
    submit(folder, "a.1", {"label_info": slicer(("hippocampus", 2), ("tumour", 3))}, labels_kji=labels(2))
    read = []
    monkeypatch.setattr(SimpleITK, "ReadImage", lambda *_, **__: read.append(1))
    (label,) = returned_labels(folder, {"a.1": replace(GRID, spacing_mm=(9.0, 9.0, 9.0))})
    assert label.names == {2: "hippocampus", 3: "tumour"}
    assert not read


def test_a_file_that_names_its_segments_needs_no_others(folder):
    info = {"label_info": slicer(("hippocampus", 2), ("tumour", 3))}
    submit(folder, "a.1", info, ".nrrd", labels_kji=labels(2), names="inside")
    (label,) = returned_labels(folder)
    assert (label.names, label.reviewed) == (None, True)
    assert set(read_segmentation(label.path).names.values()) == {"hippocampus", "tumour"}


def test_3d_slicers_numbers_pass_the_gate_by_their_names(folder):
    # the dataset's numbers are 1 and 4, the module of 3D Slicer stores 1 and 2
    segments = segments_of({"background": 0, "hippocampus": 1, "tumour": 4})
    submit(folder, "a.1", {"label_info": TWO}, labels_kji=labels(1, 2))
    (label,) = returned_labels(folder)
    asked = ExpectedCase("a.1", GRID, np.zeros(SHAPE_KJI, np.int32), np.full(SHAPE_KJI, 5), 5, {1: WHOLE})
    reading = check_returned(label.path, asked, segments, [1], (), names=label.names)
    np.testing.assert_array_equal(reading.labels_kji, labels(1, 4))


@pytest.mark.parametrize("text", ["", "{", '{"objects": {"a.1": {', "\ufffe\ud800".encode("utf-16", "surrogatepass")])
def test_a_broken_datastore_file_is_one_sentence(folder, monkeypatch, text):
    monkeypatch.setattr("nnunet_al.annotation.monailabel_labels._PAUSE_SECONDS", 0)
    (folder / "datastore_v2.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ReturnError, match=r"datastore_v2\.json is broken .* finished saving") as caught:
        returned_labels(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [[], {}, {"objects": []}, 3])
def test_another_json_file_is_one_sentence(folder, content):
    (folder / "datastore_v2.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ReturnError, match="is not a datastore of MONAI Label"):
        returned_labels(folder)


def test_a_datastore_file_that_is_being_written_is_waited_for(folder, monkeypatch):
    submit(folder, "a.1", {"client_id": "anna"})
    path = folder / "datastore_v2.json"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    monkeypatch.setattr("time.sleep", lambda seconds: path.write_bytes(whole))
    assert returned_labels(folder)[0].reader == "anna"


@pytest.mark.parametrize(
    "entry", [None, 3, {}, {"labels": None}, {"labels": {"final": None}}, {"labels": {"final": {"ext": 3, "info": []}}}]
)
def test_entries_of_any_form_lose_no_label(folder, entry):
    submit(folder, "a.1")
    store = datastore(folder)
    store["objects"]["a.1"] = entry
    (folder / "datastore_v2.json").write_text(json.dumps(store), encoding="utf-8")
    assert [label.case for label in returned_labels(folder)] == ["a.1"]


def test_names_in_the_datastore_lead_nowhere_else(folder, tmp_path):
    write_nifti(tmp_path / "elsewhere.nii.gz", labels(1), GRID)
    store = datastore(folder)
    store["objects"]["../../../elsewhere"] = {"labels": {"final": {"ext": ".nii.gz", "info": {}}}}
    store["objects"]["a.1"]["labels"] = {"version_1/../../..": {"ext": ".nii.gz", "info": {}}}
    (folder / "datastore_v2.json").write_text(json.dumps(store), encoding="utf-8")
    assert returned_labels(folder) == []


# ---- MONAI Label itself


def test_monai_label_serves_the_folder_and_what_is_submitted_comes_back(folder, tmp_path):
    python = os.environ.get("NNUNET_AL_MONAILABEL_PYTHON")
    if not python:
        pytest.skip("NNUNET_AL_MONAILABEL_PYTHON names no Python that has MONAI Label")
    drawn_kji = labels(1, 2, 2)
    write_nifti(tmp_path / "drawn.nii.gz", drawn_kji, GRID)
    before, files = datastore(folder), contents(folder)
    script = Path(__file__).with_name("monailabel_check.py")
    command = [python, script, folder, tmp_path / "drawn.nii.gz", "case b"]
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=variables, check=False)
    assert run.returncode == 0, run.stderr
    seen = json.loads(run.stdout.splitlines()[-1])
    if "missing" in seen:
        pytest.skip(f"{python} cannot import MONAI Label: {seen['missing']}")

    assert seen["unchanged_by_opening"]
    assert seen["images"] == seen["unlabeled"] == ["case b", "a.1"]
    assert seen["labeled"] == []
    assert seen["status"] == {"total": 2, "completed": 0, "label_tags": {"original": 2}}
    for case, entry in before["objects"].items():
        info = seen["infos"][case]
        assert Path(info.pop("path")) == (folder / f"{case}.nii.gz").resolve()
        assert info == entry["image"]["info"]
        assert [region["rank"] for region in info["nnunet_al"]["regions"]] == {"case b": [2, 3], "a.1": [1]}[case]
        assert seen["label_infos"][case] == entry["labels"]["original"]["info"]
        assert Path(seen["originals"][case]) == (folder / f"labels/original/{case}.nii.gz").resolve()
        assert seen["infos_after"][case]["nnunet_al"] == entry["image"]["info"]["nnunet_al"]

    assert seen["info"]["labels"] == ["hippocampus", "tumour"]
    assert set(seen["info"]["strategies"]) == {"by_rank", "first", "random"}
    assert seen["next"] == [
        ["anna", "a.1", "a.1.nii.gz"],
        ["anna", "a.1", "a.1.nii.gz"],
        ["bert", "case b", "case b.nii.gz"],
    ]
    assert seen["image_sha256"] == files["case b.nii.gz"]
    assert seen["original_sha256"] == seen["model_sha256"] == files["labels/original/case b.nii.gz"]
    assert seen["model_labels"] == {"hippocampus": 1, "tumour": 2}
    assert seen["saved"] == {"image": "case b", "label": "case b"}
    assert seen["labeled_after"] == ["case b"]
    assert seen["unlabeled_after"] == ["a.1"]

    after = contents(folder)
    assert {name: after[name] for name in files if name != "datastore_v2.json"} == {
        name: value for name, value in files.items() if name != "datastore_v2.json"
    }
    (label,) = returned_labels(folder)
    assert label.path == folder / "labels/final/case b.nii.gz"
    assert label.path.resolve() == Path(seen["final"])
    assert (label.reader, label.reviewed, label.remarks) == ("anna", True, ())
    assert label.names == {1: "hippocampus", 2: "tumour"}
    placed_kji, _ = place(read_segmentation(label.path).layers[0], GRID, False)
    np.testing.assert_array_equal(placed_kji, drawn_kji)
