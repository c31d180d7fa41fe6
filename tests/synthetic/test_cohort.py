from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK

from nnunet_al.errors import DatasetError, StorageError
from nnunet_al.synthetic import case as case_module, cohort as cohort_module
from nnunet_al.synthetic.case import Cohort, make_case
from nnunet_al.synthetic.cohort import make_biased_cohort
from nnunet_al.synthetic.design import CohortDesign, cases_of, folds_of

from .tiny_head import SPACING, tiny_head

SMALL = {"cases": 4, "test_cases": 2, "spacing_mm": (3.0, 3.0, 3.0), "seed": 3}


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def table(path, delimiter):
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter=delimiter))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    parent = tmp_path_factory.mktemp("cohort")
    made = make_biased_cohort(parent / "Dataset510_Caudate", CohortDesign(**SMALL), tiny_head())
    assert list(parent.iterdir()) == [made]
    return made


def test_a_cohort_is_a_dataset_of_nnunet(folder):
    training, test = [f"sub-{n:04d}" for n in range(4)], ["sub-0004", "sub-0005"]
    names = ["cohort.json", "dataset.json", "participants.tsv", "splits_final.json", "volumes.csv"]
    for part, cases in (("Tr", training), ("Ts", test)):
        names += [f"images{part}/{case}_0000.nii.gz" for case in cases]
        names += [f"labels{part}/{case}.nii.gz" for case in cases]
    assert sorted(contents(folder)) == sorted(names)
    content = json.loads((folder / "dataset.json").read_text())
    assert content["labels"] == {"background": 0, "left_caudate": 1}
    assert content["numTraining"] == 4
    for case in training:
        image = SimpleITK.ReadImage(folder / "imagesTr" / f"{case}_0000.nii.gz")
        label = SimpleITK.ReadImage(folder / "labelsTr" / f"{case}.nii.gz")
        assert image.GetPixelID() == SimpleITK.sitkInt16
        assert image.GetSize() == label.GetSize() == (22, 22, 18)
        assert image.GetSpacing() == label.GetSpacing() == (3.0, 3.0, 3.0)
        assert image.GetOrigin() == label.GetOrigin()
        assert image.GetDirection() == (1, 0, 0, 0, 1, 0, 0, 0, 1)
        array = SimpleITK.GetArrayFromImage(label)
        assert set(np.unique(array)) == {0, 1}
        assert label.TransformContinuousIndexToPhysicalPoint(np.argwhere(array > 0).mean(0)[::-1].tolist())[0] > 2


def test_the_tables_fit_the_design_and_the_labels(folder):
    design = CohortDesign(**SMALL)
    participants = table(folder / "participants.tsv", "\t")
    assert [(row["participant_id"], row["group"]) for row in participants] == [
        (case.name, case.group) for case in cases_of(design)
    ]
    assert set(participants[0]) == {"participant_id", "group", "strength"}
    assert all((float(row["strength"]) == 0) == (row["group"] == "group2") for row in participants)
    volumes = table(folder / "volumes.csv", ",")
    assert [row["case"] for row in volumes] == [row["participant_id"] for row in participants]
    assert [row["group"] for row in volumes] == [row["group"] for row in participants]
    for row in volumes:
        part = "Tr" if row["case"] < "sub-0004" else "Ts"
        label = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(folder / f"labels{part}" / f"{row['case']}.nii.gz"))
        assert float(row["left_caudate"]) == label.sum() * 27
        assert 0 < float(row["smallest_jacobian"]) < 1.2
        assert float(row["right_thalamus"]) > 300
    assert "0" not in volumes[0]
    assert json.loads((folder / "splits_final.json").read_text()) == folds_of(design)


def test_cohort_json_says_how_to_make_it_again_and_not_where_the_template_lay(folder):
    content = json.loads((folder / "cohort.json").read_text())
    assert content["design"]["seed"] == 3
    assert content["design"]["strength"] == "strong"
    assert (content["design"]["strength_mean"], content["design"]["strength_sd"]) == (4, 2)
    assert content["design"]["spacing_mm"] == content["grid"]["spacing_mm"] == [3, 3, 3]
    assert content["template"]["spacing_mm"] == list(SPACING)
    assert set(content["template"]) == {"source", "sha256", "shape", "spacing_mm"}


def test_same_seed_same_bytes_in_whatever_order_number_of_cases_and_of_processes(folder, tmp_path):
    asked = []

    def backwards(function, jobs, workers, description):
        asked.append((workers, bool(description)))
        for index in reversed(range(len(jobs))):
            yield index, function(*jobs[index])

    design = CohortDesign(**{**SMALL, "cases": 2, "test_cases": 0})
    fewer = make_biased_cohort(tmp_path / folder.name, design, tiny_head(), workers=2, run=backwards)
    assert asked == [(2, True)]
    first, expected = contents(fewer), contents(folder)
    images = [name for name in first if name.endswith(".nii.gz")]
    assert len(images) == 4
    for name in images:
        assert first[name] == expected[name]
    for name in ("participants.tsv", "volumes.csv"):
        assert first[name].splitlines() == expected[name].splitlines()[:3]


def test_another_seed_makes_other_cases():
    made = []
    for seed in (3, 4):
        cohort = Cohort.of(CohortDesign(**{**SMALL, "seed": seed}), tiny_head())
        made.append(make_case(cohort, cases_of(cohort.design)[0]))
    assert not np.array_equal(made[0].labels_zyx, made[1].labels_zyx)
    assert not np.array_equal(made[0].image_zyx, made[1].image_zyx)


@pytest.fixture
def unwritten(monkeypatch):
    """Cohorts without images."""
    monkeypatch.setattr(cohort_module, "write_case", lambda *_: {"smallest_jacobian": 0.5, "left_caudate": 27.0})


@pytest.mark.usefixtures("unwritten")
def test_pairs_are_named_and_stay_together(tmp_path):
    design = CohortDesign(**{**SMALL, "cases": 4, "test_cases": 0, "paired": True})
    folder = make_biased_cohort(tmp_path / "paired", design, tiny_head())
    rows = table(folder / "participants.tsv", "\t")
    assert [row["pair"] for row in rows] == ["pair-0000", "pair-0000", "pair-0001", "pair-0001"]
    assert {row["group"] for row in rows[:2]} == {"group1", "group2"}
    pair_of = {row["participant_id"]: row["pair"] for row in rows}
    for fold in json.loads((folder / "splits_final.json").read_text()):
        assert not {pair_of[case] for case in fold["train"]} & {pair_of[case] for case in fold["val"]}


def test_the_groups_caudates_differ_and_other_structures_do_not(monkeypatch):
    """Cohen's d of the volumes between groups; in pairs, so that six cases tell."""
    monkeypatch.setattr(case_module, "paint", lambda labels_zyx, *_, **__: np.zeros(labels_zyx.shape, np.float32))
    monkeypatch.setattr(case_module, "scan", lambda clean_zyx, *_: clean_zyx)
    head = tiny_head()
    design = CohortDesign(cases=6, strength="strong", paired=True)
    strong = Cohort.of(design, head)
    weak = replace(strong, design=replace(design, strength="weak"))

    def volumes(cohort, group):
        made = [make_case(cohort, case) for case in cases_of(cohort.design) if case.group == group]
        return np.array([np.bincount(one.labels_zyx.ravel(), minlength=512) for one in made])

    plain = volumes(strong, "group2")
    effects = {}
    for cohort in (strong, weak):
        biased = volumes(cohort, "group1")
        spread = np.sqrt((biased.var(0, ddof=1) + plain.var(0, ddof=1)) / 2)
        effects[cohort.design.strength] = (biased.mean(0) - plain.mean(0)) / np.where(spread > 0, spread, 1)
    assert effects["strong"][11] > effects["weak"][11] > 0.5
    others = [label for label in np.unique(head.labels_zyx) if label not in (0, 2, 11)]
    assert len(others) == 8
    for d in effects.values():
        assert np.abs(d[others]).max() < 0.15


@pytest.mark.usefixtures("unwritten")
def test_what_exists_is_left_alone_and_a_failure_leaves_nothing(folder, tmp_path, monkeypatch):
    before = contents(folder)
    with pytest.raises(DatasetError, match="Dataset510_Caudate exists"):
        make_biased_cohort(folder, CohortDesign(**SMALL), tiny_head())
    assert contents(folder) == before

    def fail(path, *_):
        assert (path.parent / "cohort.json").is_file()
        raise RuntimeError("half way")

    monkeypatch.setattr(cohort_module, "write_table", fail)
    with pytest.raises(RuntimeError, match="half way"):
        make_biased_cohort(tmp_path / "new" / "a", CohortDesign(**SMALL), tiny_head())
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path, monkeypatch):
    write = SimpleITK.WriteImage

    def cut(image, path, **options):
        write(image, path, **options)
        path.write_bytes(path.read_bytes()[:-100])

    monkeypatch.setattr(SimpleITK, "WriteImage", cut)
    with pytest.raises(StorageError, match=r"/a/imagesTr/sub-0000_0000\.nii\.gz could not be written whole"):
        make_biased_cohort(tmp_path / "a", CohortDesign(**SMALL), tiny_head())
    assert not list(tmp_path.iterdir())
