"""A campaign that people annotate, on a dataset without labels: whatever they return, nothing is lost or changed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 -- the name everybody knows
from tiny_rounds import DATASET, TINY_ROUND, only, run_command, run_round, snapshot

from nnunet_al.cli.export import main as export_main
from nnunet_al.files import read_json

from .annotation_project import IGNORE, collect
from .readers import in_3d_slicer, in_itk_snap, mark, turned

pytest.importorskip("slicerio", reason="slicerio, which reads as 3D Slicer does, is not installed")
pytestmark = pytest.mark.slow

COLLECT = Path(sys.executable).with_name("nnUNetv2_al_collect")
ROUND = Path(sys.executable).with_name("nnUNetv2_al_round")


def test_three_rounds(project, tmp_path):
    assert run_round("--annotate") == 3
    assert run_round() == 3  # waiting goes on, and nothing is drawn anew
    names = ["organ", "lesion"]
    cases = sorted(project.asked(0))
    assert len(cases) >= 4
    slicer, rotated, unreviewed, cut, *rest = cases
    returned = project.batch(0) / "returned"
    sheet = project.batch(0) / "batch.csv"

    # the first half comes back: one file renumbered, reordered and cropped, one turned, with edits outside the region
    in_3d_slicer(project.preseg(0, slicer), project.drawn(slicer), returned / f"{slicer}.seg.nrrd", names[::-1], True)
    in_itk_snap(project.image(0, rotated), project.drawn(rotated), tmp_path / "straight.nii.gz")
    turned(tmp_path / "straight.nii.gz", returned / f"{rotated}.nii.gz", "PIR")
    in_itk_snap(project.image(0, unreviewed), project.drawn(unreviewed), returned / f"{unreviewed}.nii.gz")
    in_itk_snap(project.image(0, cut), project.drawn(cut), tmp_path / "whole.nii.gz")
    (returned / f"{cut}.nii.gz").write_bytes((tmp_path / "whole.nii.gz").read_bytes()[:-200])
    mark(sheet, returned / "batch.csv", {slicer, rotated, cut}, "1,5", delimiter=";")

    before = snapshot(project.campaign.root)
    assert collect("--dry_run") == 3
    assert snapshot(project.campaign.root) == before
    assert collect() == 3
    assert project.states(0) == {
        f"returned/{slicer}.seg.nrrd": "accepted",
        f"returned/{rotated}.nii.gz": "accepted",
        f"returned/{unreviewed}.nii.gz": "refused",
        f"returned/{cut}.nii.gz": "refused",
    }
    assert "not marked as reviewed" in project.reason(0, f"returned/{unreviewed}")
    assert "cut short" in project.reason(0, f"returned/{cut}") or "cannot be read" in project.reason(
        0, f"returned/{cut}"
    )
    assert "outside the requested regions" in project.reason(0, f"returned/{rotated}")
    project.expect((0, slicer), (0, rotated))
    assert run_round() == 3

    # the second half, with a wrong case's file among it
    ledger = snapshot(project.campaign.ledger)
    shutil.copy(returned / f"{slicer}.seg.nrrd", returned / f"{unreviewed}.seg.nrrd")
    (returned / f"{cut}.nii.gz").write_bytes((tmp_path / "whole.nii.gz").read_bytes())
    for case in rest:
        in_itk_snap(project.image(0, case), project.drawn(case), returned / f"{case}.nii.gz")
    mark(sheet, returned / "batch.csv", None, "2")
    assert collect() == 0
    assert project.states(0)[f"returned/{unreviewed}.seg.nrrd"] == "refused"
    assert slicer in project.reason(0, f"returned/{unreviewed}.seg.nrrd")
    project.expect(*((0, case) for case in cases))
    grown = snapshot(project.campaign.ledger)
    assert ledger.items() <= grown.items()

    # the same files again, and one of them with other content
    assert collect() == 0
    assert snapshot(project.campaign.ledger) == grown
    in_itk_snap(project.image(0, cut), np.zeros_like(project.drawn(cut)), returned / f"{cut}.nii.gz")
    assert collect() == 0
    assert snapshot(project.campaign.ledger) == grown
    assert project.states(0)[f"returned/{cut}.nii.gz"] == "refused"
    assert "--correct" in project.reason(0, f"returned/{cut}.nii.gz")

    # round 1: an empty segment, a class that is none of the dataset's, another grid, a file nobody knows
    assert run_round() == 3
    asked = sorted(project.asked(1))
    returned, answered = project.batch(1) / "returned", [(0, case) for case in cases]
    empty, *others = asked
    drawn = np.where(project.drawn(empty) == 2, 0, project.drawn(empty))
    in_3d_slicer(project.preseg(1, empty), drawn, returned / f"{empty}.seg.nrrd", names)
    for case in others:
        in_itk_snap(project.image(1, case), project.drawn(case), returned / f"{case}.nii.gz")
    unknown = project.drawn(others[0])
    in_itk_snap(project.image(1, others[0]), np.where(unknown == 2, 7, unknown), returned / f"{others[0]}.nii.gz")
    shifted = sitk.ReadImage(str(returned / f"{others[1]}.nii.gz"))
    shifted.SetSpacing([1.1 * step for step in shifted.GetSpacing()])
    sitk.WriteImage(shifted, str(returned / f"{others[1]}.nii.gz"))
    (returned / "notes about the scan.docx").write_bytes(b"")
    assert collect("--reviewed") == 3
    states = project.states(1)
    assert states.pop("returned/notes about the scan.docx") == "refused"
    assert {Path(file).name.split(".")[0] for file, state in states.items() if state == "refused"} == set(others[:2])
    for case in others[:2]:
        in_itk_snap(project.image(1, case), project.drawn(case), returned / f"{case}.nii.gz")
    assert collect("--reviewed") == 0
    assert "lesion" not in project.reason(1, f"returned/{empty}") or (project.drawn(empty) == 2).any()
    answered += [(1, case) for case in asked if case != empty]
    for box in project.asked(1)[empty]:
        earlier = np.full(drawn.shape, IGNORE)
        for of_round in project.asked(0).get(empty, []):
            earlier[of_round] = project.drawn(empty)[of_round]
        expected = np.where(earlier == IGNORE, drawn, earlier)
        np.testing.assert_array_equal(project.annotated(empty)[box], expected[box])

    # round 2: two readers at once, and a reader whose file comes when another's stands already
    assert run_round() == 3
    asked = sorted(project.asked(2))
    for reader in ("anna", "ben"):
        folder = project.batch(2) / "returned" / reader
        mark(project.batch(2) / "batch.csv", folder / "batch.csv")
        for case in asked:
            drawn = project.drawn(case)
            in_itk_snap(
                project.image(2, case),
                drawn if reader == "anna" else (drawn > 0).astype(int),
                folder / f"{case}.nii.gz",
            )
    before = snapshot(project.campaign.ledger)
    calls = [
        subprocess.Popen([COLLECT, "-d", "501", "-round", "2"], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    said = [call.communicate()[0] for call in calls]
    assert [call.returncode for call in calls] == [0, 0], said
    assert before.items() <= snapshot(project.campaign.ledger).items()
    states = project.states(2)
    assert {states[f"returned/anna/{case}.nii.gz"] for case in asked} <= {"accepted", "known"}
    assert {states[f"returned/ben/{case}.nii.gz"] for case in asked} <= {"kept", "known"}
    for case in asked:
        for box in project.asked(2)[case]:
            if case != empty:
                np.testing.assert_array_equal(project.annotated(case)[box], project.drawn(case)[box])

    # a correction after the fact takes its place, and what it replaces stays readable
    corrected = tmp_path / "corrected"
    corrected.mkdir()
    in_itk_snap(project.image(1, empty), project.drawn(empty), corrected / f"{empty}.nii.gz")
    before = snapshot(project.campaign.ledger)
    assert collect("--correct", "-i", corrected, "-reader", "chief") == 0
    assert before.items() <= snapshot(project.campaign.ledger).items()
    everything = answered + [(1, empty)] + [(2, case) for case in asked]
    project.expect(*everything)
    after = snapshot(project.campaign.ledger)
    assert collect("--correct", "-i", corrected, "-reader", "chief") == 0
    assert snapshot(project.campaign.ledger) == after

    # what was annotated is what is trained on and exported
    assert run_round() == 3
    context = read_json(project.campaign.round(3).ledger_mark)
    assert context["entries"] == len(list(project.campaign.ledger.glob("*.json")))
    assert run_command(export_main, "-d", "501", "-o", "601") == 0
    for case in {case for _, case in everything}:
        file = project.roots.raw / "Dataset601_Phantom" / "labelsTr" / f"{case}.nii.gz"
        exported = sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
        known = project.annotated(case) != IGNORE
        np.testing.assert_array_equal(exported[known], project.drawn(case)[known])


def test_a_collect_during_a_running_round(project):
    """Both succeed: a round is trained on what there was when it began, and what comes meanwhile waits for the next."""
    longer = ("--annotate", "-epochs", "8")
    assert run_round(*longer) == 3
    returned = project.batch(0) / "returned"
    late, *early = sorted(project.asked(0))
    for case in early:
        in_itk_snap(project.image(0, case), project.drawn(case), returned / f"{case}.nii.gz")
    assert collect("--reviewed") == 3
    assert collect("--close") == 0  # the late one is waited for no longer
    before = len(list(project.campaign.ledger.glob("*.json")))
    running = subprocess.Popen([ROUND, *TINY_ROUND, *longer], stdout=subprocess.PIPE, text=True)
    while not project.campaign.round(1).ledger_mark.is_file() and running.poll() is None:
        time.sleep(0.02)
    in_itk_snap(project.image(0, late), project.drawn(late), returned / f"{late}.nii.gz")
    assert collect("--reviewed", "-round", "0") == 0
    while_running = running.poll() is None
    running.communicate()
    assert running.returncode == 3
    assert while_running
    assert read_json(project.campaign.round(1).ledger_mark)["entries"] == before
    splits = read_json(project.campaign.round(1).view.preprocessed / DATASET / "splits_final.json")
    assert splits[0]["train"] == early
    project.expect(*((0, case) for case in (late, *early)))
    returned = project.batch(1) / "returned"
    for case in project.asked(1):
        in_itk_snap(project.image(1, case), project.drawn(case), returned / f"{case}.nii.gz")
    assert collect("--reviewed") == 0
    assert run_round(*longer) == 3
    splits = read_json(project.campaign.round(2).view.preprocessed / DATASET / "splits_final.json")
    assert late in splits[0]["train"]


def test_what_the_call_itself_refuses(project, tmp_path, capsys):
    assert collect() == 2
    assert "nnUNetv2_al_status" in capsys.readouterr().err
    assert run_round("--annotate") == 3
    for wrong, word in (
        (("-i", tmp_path / "nowhere"), "nowhere"),
        (("--correct",), "-i FOLDER"),
        (("-round", 7), "round 7"),
        (("-reader", "a/b"), "a/b"),
    ):
        before = snapshot(project.campaign.root)
        assert collect(*wrong) == 2
        assert word in capsys.readouterr().err
        assert snapshot(project.campaign.root) == before
    only(project.batch(0), "manifest.json").unlink()
    shutil.copy(project.truth / f"{min(project.asked(0))}.nii.gz", project.batch(0) / "returned")
    assert collect("--reviewed") == 2
    assert "manifest.json" in capsys.readouterr().err
