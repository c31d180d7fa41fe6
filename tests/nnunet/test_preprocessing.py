"""What the view of a round holds is, array by array, what nnU-Net's own preprocessing makes of the same view."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from dataclasses import dataclass
from pathlib import Path

import blosc2
import numpy as np
import pytest
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

from nnunet_al.errors import StorageError
from nnunet_al.nnunet import workers
from nnunet_al.nnunet.blosc_files import link_or_copy
from nnunet_al.nnunet.environment import Roots, nnunet_folders, quiet
from nnunet_al.nnunet.fingerprint import extract_fingerprint
from nnunet_al.nnunet.geometry import case_geometry
from nnunet_al.nnunet.image_store import StoredImage, ensure_image, ensure_images, store_folder
from nnunet_al.nnunet.planning import PlannerSettings, plan
from nnunet_al.nnunet.raw_dataset import RawDataset
from nnunet_al.nnunet.round_view import RECORD_FILE, preprocess_round, write_round_view
from nnunet_al.nnunet.verification import verify_dataset
from nnunet_al.pool.boxes import to_slices

from .phantoms import REGIONS, compose, make_dataset, read_volume, write_volume

BOXES = {
    "case_00": [((6, 13), (0, 18), (0, 11))],
    "case_01": None,
    "case_03": [((0, 21), (5, 12), (2, 7)), ((10, 12), (0, 18), (0, 11))],
}


@dataclass
class Campaign:
    """A dataset, its store, and rounds made as the campaign makes them."""

    roots: Roots
    dataset: RawDataset

    def __post_init__(self):
        self.facts = verify_dataset(self.dataset)
        self.store = store_folder(self.roots, self.dataset.name)
        self.pinned = None

    def labels(self, folder: Path, boxes=None, outside=()) -> dict[str, Path]:
        chosen = BOXES if boxes is None else boxes
        return {
            case: compose(
                self.dataset.cases[case].label,
                self.dataset.cases[case].images[0],
                chosen[case],
                self.dataset.effective_ignore,
                folder / f"{case}.nii.gz",
                outside,
            )
            for case in chosen
        }

    def fingerprint(self, labels):
        annotated = {case: (self.dataset.cases[case].images, label) for case, label in labels.items()}
        n, ignore = len(self.facts), self.dataset.effective_ignore
        return extract_fingerprint(annotated, self.facts, len(self.dataset.channels), n, ignore, max_voxels=1e4)

    def round(self, folder: Path, labels, configuration, previous=None, settings=None, change=None, workers=1, **more):
        view = Roots.below(folder)
        write_round_view(view, self.dataset, labels, self.fingerprint(labels), split=(sorted(labels), sorted(labels)))
        plans = plan(view, self.dataset.name, "nnUNetPlannerAL", settings or PlannerSettings(len(self.facts)))
        if change is not None:
            change(plans)
            write_round_view(view, self.dataset, labels, plans=plans)
        arguments = (view, self.dataset, labels, self.facts, plans, configuration, self.store)
        lost = preprocess_round(*arguments, previous=previous, workers=workers, **more)
        return view, plans, lost


@pytest.fixture
def campaign(tmp_path):
    def make(kind="mri", **options) -> Campaign:
        roots = Roots.below(tmp_path / "roots").create()
        return Campaign(roots, RawDataset.read(make_dataset(roots.raw / "Dataset501_Toy", kind, **options)))

    return make


def stock_preprocessing(view: Roots, name: str, plans: dict, configuration: str, copy: Path, full_run: bool) -> Path:
    """Let nnU-Net preprocess a copy of the view from scratch and return its folder."""
    other = Roots.below(copy).create()
    shutil.copytree(view.raw, other.raw, dirs_exist_ok=True)
    (other.preprocessed / name).mkdir()
    for file in ("dataset.json", f"{plans['plans_name']}.json"):
        shutil.copy(view.preprocessed / name / file, other.preprocessed / name / file)
    folder = other.preprocessed / name / PlansManager(plans).get_configuration(configuration).data_identifier
    with nnunet_folders(other), quiet():
        preprocessor = DefaultPreprocessor(verbose=False)
        preprocessor.show_progress_bar = False
        if full_run:
            preprocessor.run(name, configuration, plans["plans_name"], num_processes=1)
            return folder
        # the same without the process pool, which costs seconds of imports
        folder.mkdir()
        dataset_json = json.loads((other.preprocessed / name / "dataset.json").read_text())
        manager = PlansManager(plans)
        for case, files in get_filenames_of_train_images_and_targets(str(other.raw / name), dataset_json).items():
            chosen = manager.get_configuration(configuration)
            arguments = (files["images"], files["label"], manager, chosen, dataset_json)
            preprocessor.run_case_save(str(folder / case), *arguments)
    return folder


def same(a, b) -> bool:
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    return type(a) is type(b) and a == b


def assert_same_folders(ours: Path, theirs: Path) -> None:
    assert sorted(path.name for path in ours.iterdir()) == sorted(path.name for path in theirs.iterdir())
    for path in sorted(theirs.iterdir()):
        if path.suffix == ".pkl":
            assert same(pickle.loads((ours / path.name).read_bytes()), pickle.loads(path.read_bytes())), path.name
        else:
            mine, other = blosc2.open(str(ours / path.name)), blosc2.open(str(path))
            assert mine.dtype == other.dtype, path.name
            assert mine.chunks == other.chunks, path.name
            assert mine.blocks == other.blocks, path.name
            np.testing.assert_array_equal(mine[:], other[:], path.name)


def folder_of(view: Roots, campaign: Campaign, configuration: str) -> Path:
    return view.preprocessed / campaign.dataset.name / f"nnUNetPlans_{configuration}"


@pytest.mark.parametrize("configuration", ["2d", "3d_fullres"])
@pytest.mark.parametrize("kind", ["mri", "brain", "ct", "regions", "two_channels"])
def test_equal_to_nnunets_full_run(campaign, tmp_path, kind, configuration):
    options = {"regions": {"labels": REGIONS}, "two_channels": {"n_channels": 2}}.get(kind, {})
    here = campaign(kind if kind in ("mri", "brain", "ct") else "brain", **options)
    labels = here.labels(tmp_path / "labels")
    view, plans, _ = here.round(tmp_path / "view", labels, configuration)

    chosen = PlansManager(plans).get_configuration(configuration)
    assert plans["transpose_forward"] == [2, 0, 1]
    assert any(chosen.use_mask_for_norm) == (kind not in ("mri", "ct"))
    full_run = (kind, configuration) == ("mri", "3d_fullres")
    theirs = stock_preprocessing(view, here.dataset.name, plans, configuration, tmp_path / "stock", full_run)
    ours = folder_of(view, here, configuration)
    assert_same_folders(ours, theirs)
    assert sorted(infer_dataset_class(str(ours)).get_identifiers(str(ours))) == sorted(labels)
    for case in labels:
        shape = blosc2.open(str(ours / f"{case}.b2nd")).shape
        assert shape[1:] == case_geometry(here.facts[case], plans, configuration).network_shape


def test_the_phantoms_exercise_transpose_crop_resampling_and_ignore(campaign, tmp_path):
    here = campaign("mri")
    view, plans, _ = here.round(tmp_path / "view", here.labels(tmp_path / "labels"), "3d_fullres")
    changed = []
    for case in BOXES:
        geometry = case_geometry(here.facts[case], plans, "3d_fullres")
        assert geometry.crop_shape != tuple(geometry.raw_shape[axis] for axis in geometry.transpose_forward)
        changed.append(geometry.network_shape != geometry.crop_shape)
    assert any(changed)
    seg = blosc2.open(str(folder_of(view, here, "3d_fullres") / "case_00_seg.b2nd"))[:]
    assert set(np.unique(seg)) >= {0, 1, 3}


@pytest.mark.parametrize("configuration", ["2d", "3d_fullres"])
def test_labels_outside_the_mask_change_masked_images_as_in_nnunet(campaign, tmp_path, configuration):
    here = campaign("brain")
    box = here.facts["case_01"].crop_box
    corner = tuple(low for low, _ in box)  # inside the crop, outside the ball
    labels = here.labels(tmp_path / "labels", {"case_01": None}, outside=[corner])
    view, plans, _ = here.round(tmp_path / "view", labels, configuration)
    theirs = stock_preprocessing(view, here.dataset.name, plans, configuration, tmp_path / "stock", False)
    ours = folder_of(view, here, configuration)
    assert_same_folders(ours, theirs)
    plain = ensure_images(here.dataset.cases, here.facts, plans, configuration, here.dataset.dataset_json, here.store)[
        "case_01"
    ]
    assert not np.array_equal(plain.open()[:], blosc2.open(str(ours / "case_01.b2nd"))[:])


def test_updated_intensities_make_new_images_equal_to_nnunets(campaign, tmp_path):
    here = campaign("ct")
    first, plans, _ = here.round(tmp_path / "1", here.labels(tmp_path / "l1", {"case_00": BOXES["case_00"]}), "2d")
    first_images = {path.name for path in here.store.glob("*.b2nd")}
    labels = here.labels(tmp_path / "l2")
    pinned = PlannerSettings(4, plans, plans["foreground_intensity_properties_per_channel"])
    kept, kept_plans, _ = here.round(tmp_path / "2", labels, "2d", first, pinned)
    assert kept_plans == plans
    assert "case_00" in {path.name[:7] for path in here.store.glob("*.b2nd")}
    assert len(list(here.store.glob("case_00-*.b2nd"))) == 1, "pinned statistics must not make another image"

    update = PlannerSettings(4, plans, plans["foreground_intensity_properties_per_channel"], update_intensities=True)
    moved, moved_plans, _ = here.round(tmp_path / "3", labels, "2d", first, update)
    assert (
        moved_plans["foreground_intensity_properties_per_channel"]
        != plans["foreground_intensity_properties_per_channel"]
    )
    assert moved_plans["configurations"] == plans["configurations"]
    assert len(list(here.store.glob("case_00-*.b2nd"))) == 2
    assert first_images <= {path.name for path in here.store.glob("*.b2nd")}
    for number, (view, used) in enumerate(((kept, kept_plans), (moved, moved_plans))):
        theirs = stock_preprocessing(view, here.dataset.name, used, "2d", tmp_path / f"stock{number}", False)
        assert_same_folders(folder_of(view, here, "2d"), theirs)


def test_masked_images_do_not_depend_on_partial_labels(campaign, tmp_path):
    here = campaign("brain")
    here.round(tmp_path / "1", here.labels(tmp_path / "l1"), "3d_fullres")
    before = sorted(path.name for path in here.store.glob("*.b2nd"))
    here.round(tmp_path / "2", here.labels(tmp_path / "l2", dict.fromkeys(BOXES)), "3d_fullres")
    assert sorted(path.name for path in here.store.glob("*.b2nd")) == before


def test_only_what_changed_is_made_again(campaign, tmp_path):
    here = campaign("mri")
    labels = here.labels(tmp_path / "labels")
    view, plans, _ = here.round(tmp_path / "1", labels, "2d")
    folder = folder_of(view, here, "2d")
    inodes = {path.name: path.stat().st_ino for path in folder.iterdir()}
    stored = {path.name: path.stat().st_mtime_ns for path in here.store.iterdir()}

    preprocess_round(view, here.dataset, labels, here.facts, plans, "2d", here.store)
    assert {path.name: path.stat().st_ino for path in folder.iterdir()} == inodes

    here.labels(tmp_path / "labels", {"case_00": None})  # one more annotation
    new_view, _, _ = here.round(tmp_path / "2", labels, "2d", previous=view)
    new = folder_of(new_view, here, "2d")
    for name, inode in inodes.items():
        same_file = (new / name).stat().st_ino == inode
        assert same_file == (not name.startswith("case_00") or name == "case_00.b2nd"), name
    assert {path.name: path.stat().st_mtime_ns for path in here.store.iterdir()} == stored
    theirs = stock_preprocessing(new_view, here.dataset.name, plans, "2d", tmp_path / "stock", False)
    assert_same_folders(new, theirs)
    assert (folder / "case_00_seg.b2nd").stat().st_ino == inodes["case_00_seg.b2nd"], "the old round stays as it was"


def test_a_kill_between_two_files_is_mended_by_the_next_call(campaign, tmp_path, monkeypatch):
    here = campaign("mri")
    labels = here.labels(tmp_path / "labels")

    import nnunet_al.nnunet.label_preprocessing as module

    real, calls = module.write_pickle, []

    def killed(path, *arguments):
        calls.append(path.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(path, *arguments)

    monkeypatch.setattr(module, "write_pickle", killed)
    with pytest.raises(KeyboardInterrupt):
        here.round(tmp_path / "view", labels, "2d")
    view, plans, _ = here.round(tmp_path / "view", labels, "2d")
    assert calls == ["case_00.pkl", "case_01.pkl", "case_01.pkl", "case_03.pkl"]
    theirs = stock_preprocessing(view, here.dataset.name, plans, "2d", tmp_path / "stock", False)
    assert_same_folders(folder_of(view, here, "2d"), theirs)


def test_cases_that_are_no_longer_annotated_leave_the_folder(campaign, tmp_path):
    here = campaign("mri")
    labels = here.labels(tmp_path / "labels")
    view, _, _ = here.round(tmp_path / "view", labels, "2d")
    del labels["case_03"]
    here.round(tmp_path / "view", labels, "2d")
    assert {path.name[:7] for path in folder_of(view, here, "2d").iterdir()} == {"case_00", "case_01"}


def test_an_image_is_stored_once_and_found_by_one_stat(campaign, tmp_path, monkeypatch):
    here = campaign("mri")
    _, plans, _ = here.round(tmp_path / "view", here.labels(tmp_path / "labels"), "2d")
    arguments = (here.dataset.cases, here.facts, plans, "2d", here.dataset.dataset_json, here.store)
    images = ensure_images(*arguments)
    monkeypatch.setattr(DefaultPreprocessor, "run_case_npy", None)  # must not be needed
    assert ensure_images(*arguments) == images
    assert all(image.exists for image in images.values())
    assert "class_locations" not in images["case_02"].properties()
    assert not [path for path in here.store.iterdir() if ".tmp." in path.name or "_seg" in path.name]
    shape = case_geometry(here.facts["case_02"], plans, "2d").crop_shape
    assert images["case_02"].nonzero().shape == shape


def test_a_failing_disk_gives_one_sentence_and_no_half_file(campaign, tmp_path, monkeypatch):
    here = campaign("mri")
    labels = here.labels(tmp_path / "labels")
    _, plans, _ = here.round(tmp_path / "view", labels, "2d")
    stored = StoredImage(tmp_path / "store", "case_00", "0" * 16)

    def fails(*arguments, **options):
        raise RuntimeError("Error while creating the array")

    monkeypatch.setattr(blosc2, "asarray", fails)
    with pytest.raises(StorageError, match="could not be written intact"):
        ensure_image(here.dataset.cases["case_00"], stored, plans, "2d", here.dataset.dataset_json)
    assert not stored.exists
    assert [path.name for path in stored.folder.iterdir()] == ["lock"], "of all images of the store"


def test_what_resampling_swallows_is_reported(campaign, tmp_path):
    def halve(plans):
        plans["configurations"]["3d_fullres"]["spacing"][0] *= 2.5

    here = campaign("mri")
    boxes = {"case_00": [((0, 20), (0, 18), (5, 6))], "case_01": None}  # one thin slice along the transposed first axis
    labels = here.labels(tmp_path / "labels", boxes)
    view, plans, lost = here.round(
        tmp_path / "view", labels, "3d_fullres", change=halve, boxes={"case_00": boxes["case_00"]}
    )
    seg = blosc2.open(str(folder_of(view, here, "3d_fullres") / "case_00_seg.b2nd"))[:]
    gone = [name for name, value in here.dataset.classes.items() if not (seg == value).any()]
    assert gone
    for name in gone:
        assert any(f"annotation of {name} is lost" in sentence and "case_00" in sentence for sentence in lost)
    assert not any("case_01" in sentence for sentence in lost)
    inside = seg[0][
        to_slices(case_geometry(here.facts["case_00"], plans, "3d_fullres").to_network(boxes["case_00"][0]))
    ]
    assert any("[0:20,0:18,5:6]" in sentence for sentence in lost) == (not (inside != 3).any())
    again = preprocess_round(
        view, here.dataset, labels, here.facts, plans, "3d_fullres", here.store, boxes={"case_00": boxes["case_00"]}
    )
    assert again == lost, "a second call that does nothing must still tell"


@pytest.mark.parametrize("kind, name", [("brain", "organ"), ("mri", "core"), ("ct", "core")])
def test_what_is_cropped_is_not_said_to_be_lost_in_resampling(campaign, tmp_path, kind, name):
    """A class that lies only where the image is zero."""
    declared = {"background": 0, "organ": 1, "lesion": 2, "core": 3}
    here = campaign(kind, labels=declared, n_cases=2)
    labels = here.labels(tmp_path / "labels", {"case_00": None, "case_01": None})
    path = labels["case_00"]
    label_zyx, image_zyx = read_volume(path), read_volume(here.dataset.cases["case_00"].images[0])
    label_zyx[label_zyx == declared[name]] = 0
    label_zyx[tuple(np.argwhere(image_zyx == 0)[0])] = declared[name]
    write_volume(path, label_zyx, here.facts["case_00"].spacing_mm)
    _, _, lost = here.round(tmp_path / "view", labels, "3d_fullres")
    about = [sentence for sentence in lost if "case_00" in sentence and f"annotation of {name} " in sentence]
    assert len(about) == 1
    assert "where the image is zero, which nnU-Net crops away" in about[0]


def test_the_view_names_annotated_cases_only_and_equal_folds(campaign, tmp_path):
    here = campaign("mri")
    labels = here.labels(tmp_path / "labels")
    view = Roots.below(tmp_path / "view")
    write_round_view(view, here.dataset, labels, {}, fold=2, split=(["case_01", "case_00"], ["case_00"]))
    content = json.loads((view.raw / "Dataset501_Toy" / "dataset.json").read_text())
    assert content["numTraining"] == 3
    assert list(content["dataset"]) == sorted(labels)
    assert content["labels"]["ignore"] == 3
    assert content == json.loads((view.preprocessed / "Dataset501_Toy" / "dataset.json").read_text())
    splits = json.loads((view.preprocessed / "Dataset501_Toy" / "splits_final.json").read_text())
    assert splits == [{"train": ["case_00", "case_01"], "val": ["case_00"]}] * 3
    assert "ignore" not in here.dataset.dataset_json["labels"]


def test_gt_segmentations_and_links(campaign, tmp_path):
    here = campaign("mri")
    labels = here.labels(tmp_path / "labels")
    view, _, _ = here.round(tmp_path / "view", labels, "2d")
    parent = view.preprocessed / here.dataset.name
    for case, label in labels.items():
        assert (parent / "gt_segmentations" / f"{case}.nii.gz").read_bytes() == label.read_bytes()
        assert (folder_of(view, here, "2d") / f"{case}.b2nd").resolve().parent == here.store.resolve()
    assert set(json.loads((parent / RECORD_FILE).read_text())) == {"nnUNetPlans_2d"}


@pytest.mark.parametrize("missing", [(), ("symlink",), ("symlink", "link")])
def test_file_systems_without_links_get_copies(tmp_path, monkeypatch, missing):
    def refuse(*_):
        raise OSError("not supported")

    for way in missing:
        monkeypatch.setattr(os, way, refuse)
    source, target = tmp_path / "store" / "a.b2nd", tmp_path / "view" / "data" / "a.b2nd"
    source.parent.mkdir()
    for content in ("old", "new"):
        source.unlink(missing_ok=True)  # replaced, never written in place
        source.write_text(content)
        link_or_copy(source, target, tmp_path / "view", symbolic=True)
        assert target.read_text() == content
    assert target.is_symlink() == (not missing)
    assert [path.name for path in (tmp_path / "view").rglob("*") if path.is_file()] == ["a.b2nd"]


@pytest.mark.slow
def test_several_processes_make_the_same(campaign, tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "MAX_VOXELS_IN_PROCESS", 0)
    here = campaign("brain")
    labels = here.labels(tmp_path / "labels")
    view, plans, _ = here.round(tmp_path / "view", labels, "2d", workers=2)
    theirs = stock_preprocessing(view, here.dataset.name, plans, "2d", tmp_path / "stock", False)
    assert_same_folders(folder_of(view, here, "2d"), theirs)
