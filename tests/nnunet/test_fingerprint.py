from __future__ import annotations

import json

import numpy as np
import pytest
from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor

from nnunet_al.nnunet.environment import Roots, nnunet_folders, quiet
from nnunet_al.nnunet.fingerprint import PLACEHOLDER, extract_fingerprint, intensity_drift
from nnunet_al.nnunet.raw_dataset import RawDataset
from nnunet_al.nnunet.verification import verify_dataset

from .phantoms import compose, make_dataset, read_volume, write_volume

INTENSITIES = "foreground_intensity_properties_per_channel"
IGNORE = 3


@pytest.fixture
def roots(tmp_path):
    return Roots.below(tmp_path / "roots").create()


def extract(dataset, labels, **options):
    facts = verify_dataset(dataset)
    annotated = {case: (dataset.cases[case].images, label) for case, label in labels.items()}
    options = {"max_voxels": 1e4, "ignore": IGNORE, "pool_size": len(facts), **options}
    return extract_fingerprint(annotated, facts, len(dataset.channels), **options)


@pytest.mark.parametrize("kind, with_an_empty_case", [("ct", False), ("brain", True)])
def test_equal_to_nnunets_when_everything_is_annotated(roots, kind, with_an_empty_case):
    folder = make_dataset(roots.raw / "Dataset501_Toy", kind, n_cases=5, n_channels=2)
    if with_an_empty_case:  # it must count for shapes only
        empty = folder / "labelsTr" / "case_03.nii.gz"
        write_volume(empty, np.zeros_like(read_volume(empty)), (1.0, 1.1, 3.1))
    label, image = folder / "labelsTr" / "case_00.nii.gz", folder / "imagesTr" / "case_00_0000.nii.gz"
    corner = tuple(low for low, _ in verify_dataset(RawDataset.read(folder))["case_00"].crop_box)
    assert corner > (0, 0, 0)
    # labelled where the images are zero: what the crop cuts off does not count, what it leaves does
    compose(label, image, None, IGNORE, label, outside=[(0, 0, 0), corner])
    with nnunet_folders(roots), quiet():
        extractor = DatasetFingerprintExtractor("Dataset501_Toy", num_processes=1)
        extractor.show_progress_bar = False
        extractor.num_foreground_voxels_for_intensitystats = 1e4
        extractor.run()
    theirs = json.loads((roots.preprocessed / "Dataset501_Toy" / "dataset_fingerprint.json").read_text())
    dataset = RawDataset.read(folder)
    ours = extract(dataset, {case: files.label for case, files in dataset.cases.items()})
    ours = json.loads(json.dumps(ours))
    for channel, wanted in theirs[INTENSITIES].items():
        # nnU-Net sums single precision numbers, unless an empty case makes them double
        tolerance = 1e-12 if with_an_empty_case else 1e-5
        for name in ("mean", "std"):
            assert ours[INTENSITIES][channel].pop(name) == pytest.approx(wanted.pop(name), rel=tolerance)
    assert ours == theirs


@pytest.fixture
def dataset(roots):
    return RawDataset.read(make_dataset(roots.raw / "Dataset501_Toy", "ct"))


def composed(dataset, folder, boxes):
    return {
        case: compose(files.label, files.images[0], boxes, IGNORE, folder / f"{case}.nii.gz")
        for case, files in dataset.cases.items()
    }


def test_unannotated_voxels_are_nobodys_foreground(dataset, tmp_path):
    labels = composed(dataset, tmp_path / "labels", [((0, 10), (0, 18), (0, 11))])
    before = extract(dataset, labels)
    annotated_foreground = np.concatenate(
        [
            read_volume(files.images[0])[(read_volume(labels[case]) > 0) & (read_volume(labels[case]) != IGNORE)]
            for case, files in dataset.cases.items()
        ]
    )
    assert before[INTENSITIES]["0"]["mean"] == pytest.approx(annotated_foreground.mean(), abs=2)
    for case, files in dataset.cases.items():  # whatever an image shows where nobody has annotated, it does not matter
        image = read_volume(files.images[0])
        image[(read_volume(labels[case]) == IGNORE) & (image != 0)] = 9999
        write_volume(files.images[0], image, verify_dataset(dataset)[case].spacing_mm)
    assert extract(dataset, labels) == before


def test_shapes_and_spacings_are_the_pools(dataset, tmp_path):
    labels = composed(dataset, tmp_path / "labels", None)
    whole = extract(dataset, labels)
    part = extract(dataset, {"case_02": labels["case_02"]})
    nothing = extract(dataset, {})
    for key in ("spacings", "shapes_after_crop", "median_relative_size_after_cropping"):
        assert part[key] == whole[key] == nothing[key]
    assert part[INTENSITIES] != whole[INTENSITIES]
    assert extract(dataset, dict(reversed(labels.items()))) == whole


def test_without_annotated_foreground_the_statistics_are_flagged_and_finite(dataset, tmp_path):
    nowhere = composed(dataset, tmp_path / "labels", [((0, 3), (0, 18), (0, 11))])
    for fingerprint in (extract(dataset, {}), extract(dataset, nowhere)):
        assert fingerprint[PLACEHOLDER] is True
        statistics = fingerprint[INTENSITIES]["0"]
        assert (statistics["mean"], statistics["std"]) == (0.0, 1.0)
        assert np.isfinite(list(statistics.values())).all()
    assert PLACEHOLDER not in extract(dataset, composed(dataset, tmp_path / "all", None))


def test_each_case_gives_its_share_of_the_pools_samples(dataset, tmp_path, monkeypatch):
    drawn = []
    real = DatasetFingerprintExtractor.collect_foreground_intensities
    monkeypatch.setattr(
        DatasetFingerprintExtractor,
        "collect_foreground_intensities",
        staticmethod(lambda *a, num_samples: drawn.append(num_samples) or real(*a, num_samples=num_samples)),
    )
    labels = composed(dataset, tmp_path / "labels", None)
    extract(dataset, {"case_00": labels["case_00"]}, pool_size=7)
    assert drawn == [int(1e4 // 7)]


def statistics(mean=0.0, std=1.0, low=-2.0, high=2.0):
    return {"mean": mean, "std": std, "percentile_00_5": low, "percentile_99_5": high}


@pytest.mark.parametrize(
    "new, expected",
    [
        (statistics(), []),
        (statistics(mean=0.5), []),
        (statistics(mean=-0.6), ["mean from 0 to -0.6"]),
        (statistics(std=1.6), ["standard deviation from 1 to 1.6"]),
        (statistics(std=0.5), ["standard deviation from 1 to 0.5"]),
        (statistics(low=-3, high=2.6), ["0.5 percentile from -2 to -3", "99.5 percentile from 2 to 2.6"]),
    ],
)
def test_drift_is_told_per_channel(new, expected):
    sentences = intensity_drift({"0": statistics(), "1": statistics()}, {0: statistics(), 1: new})
    assert len(sentences) == bool(expected)
    for part in expected:
        assert "channel 1" in sentences[0]
        assert part in sentences[0]


def test_drift_of_a_constant_channel_is_finite():
    assert intensity_drift({"0": statistics(std=0)}, {"0": statistics(std=0)}) == []
    assert len(intensity_drift({"0": statistics(std=0)}, {"0": statistics(std=1)})) == 1
