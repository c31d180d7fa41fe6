"""Several readings of a region, MONAI Label's folder, readers that turn images, and labels that are corrected."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 -- the name everybody knows
from tiny_rounds import DATASET, run_round, snapshot

from nnunet_al.campaign.commits import read_commits
from nnunet_al.files import read_json

from .annotation_project import IGNORE, Project, collect
from .readers import in_itk_snap

pytestmark = pytest.mark.slow


def half_of(labels: np.ndarray) -> np.ndarray:
    """What a reader draws who knows no lesions."""
    return np.where(labels == 2, 1, labels)


@pytest.mark.parametrize("consensus", ["majority", "staple"])
def test_two_readers_make_one_label(project, consensus):
    assert run_round("--annotate", "-readings", 2, "-consensus", consensus, "-unit", "slice") == 3
    cases = sorted(project.asked(0))
    for reader, draws in (("anna", np.asarray), ("ben", half_of)):
        folder = project.batch(0) / "returned" / reader
        folder.mkdir()
        for case in cases:
            in_itk_snap(project.image(0, case), draws(project.drawn(case)), folder / f"{case}.nii.gz")
        if reader == "anna":
            assert collect("--reviewed") == 3
            project.expect()
            assert run_round("-unit", "slice") == 3
    assert collect("--reviewed") == 0
    for case in cases:
        expected = np.full(project.drawn(case).shape, IGNORE)
        for box in project.asked(0)[case]:
            first = project.drawn(case)[box]
            expected[box] = np.where(first == half_of(first), first, IGNORE)
        np.testing.assert_array_equal(project.annotated(case), expected)
    commits = read_commits(project.campaign.ledger)
    assert {commit.source for commit in commits} == {"reading", "consensus"}
    agreed = [commit for commit in commits if commit.source == "consensus"]
    assert {commit.reader for commit in agreed} == {"anna + ben"}
    differing = sum(int((project.drawn(case)[box] == 2).sum()) for case in cases for box in project.asked(0)[case])
    assert sum(int(c.disagreements[0].split(" differ in ")[1].split()[0]) for c in agreed) == differing > 0
    after = snapshot(project.campaign.ledger)
    assert collect("--reviewed") == 0
    assert snapshot(project.campaign.ledger) == after
    assert run_round("-unit", "slice") == 3


def test_labels_submitted_to_monai_label(project):
    assert run_round("--annotate", "-format", "monailabel") == 3
    batch, cases = project.batch(0), sorted(project.asked(0))
    assert collect() == 3
    content = read_json(batch / "datastore_v2.json")
    for case in cases[:-1]:
        in_itk_snap(batch / f"{case}.nii.gz", project.drawn(case), batch / "labels" / "final" / f"{case}.nii.gz")
        info = {"label_info": [{"name": "organ", "idx": 1}, {"name": "lesion", "idx": 2}], "client_id": "anna"}
        content["objects"][case]["labels"]["final"] = {"ext": ".nii.gz", "info": info}
    (batch / "datastore_v2.json").write_text(json.dumps(content))
    assert collect() == 3
    project.expect(*((0, case) for case in cases[:-1]))
    in_itk_snap(batch / f"{cases[-1]}.nii.gz", project.drawn(cases[-1]), batch / f"labels/final/{cases[-1]}.nii.gz")
    assert collect() == 0
    project.expect(*((0, case) for case in cases))
    assert {commit.reader for commit in read_commits(project.campaign.ledger)} == {"anna", "reader"}


def test_a_reader_of_nnu_net_that_turns_images(project, tmp_path):
    folder = project.roots.raw / DATASET
    content = read_json(folder / "dataset.json")
    (folder / "dataset.json").write_text(
        json.dumps({**content, "overwrite_image_reader_writer": "NibabelIOWithReorient"})
    )
    assert run_round("--annotate", "-unit", "slice", "-initial", 4) == 3
    cases = sorted(project.asked(0))
    for case in cases:
        in_itk_snap(project.image(0, case), project.drawn(case), project.batch(0) / "returned" / f"{case}.nii.gz")
    assert collect("--reviewed") == 0
    for case in cases:
        canonical = nibabel.as_closest_canonical(nibabel.load(project.truth / f"{case}.nii.gz"))
        truth_xyz = np.asarray(canonical.dataobj).transpose(2, 1, 0)
        inside = np.zeros(truth_xyz.shape, bool)
        for box in project.asked(0)[case]:
            inside[box] = True
        np.testing.assert_array_equal(project.annotated(case), np.where(inside, truth_xyz, IGNORE))


def test_a_label_of_the_dataset_that_was_corrected(roots, al_round, tmp_path):
    """Nobody was asked, the dataset's own labels answered: a correction takes its place there, too."""
    assert al_round() == 0
    project = Project(roots, roots.raw / DATASET / "labelsTr")
    case = min(project.asked(0))
    before, ledger = project.annotated(case), snapshot(project.campaign.ledger)
    corrected = np.where(project.drawn(case) == 2, 1, project.drawn(case))
    (tmp_path / "corrected").mkdir()
    image = roots.raw / DATASET / "imagesTr" / f"{case}_0000.nii.gz"
    in_itk_snap(image, corrected, tmp_path / "corrected" / f"{case}.nii.gz")
    sitk.WriteImage(sitk.ReadImage(str(image)), str(tmp_path / "corrected" / "nobody.nii.gz"))
    assert collect("--correct", "-i", tmp_path / "corrected") == 0
    np.testing.assert_array_equal(project.annotated(case), np.where(before == IGNORE, IGNORE, corrected))
    assert ledger.items() <= snapshot(project.campaign.ledger).items()
    commits = read_commits(project.campaign.ledger)
    assert [commit.source for commit in commits] == ["oracle", "correction"]
    np.testing.assert_array_equal(project.annotated(case), np.where(before == 2, 1, before))
    assert al_round() == 0
