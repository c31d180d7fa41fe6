"""What goes wrong when people return files, one thing at a time."""

from __future__ import annotations

import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from tiny_rounds import DATASET, run_command, run_round, snapshot

from nnunet_al.campaign.commits import read_commits
from nnunet_al.cli import status
from nnunet_al.files import read_json, write_json
from nnunet_al.synthetic.image_file import write_image

from .annotation_project import IGNORE, Project, collect
from .readers import in_itk_snap, mark

pytestmark = pytest.mark.slow


def hand_in(project: Project, case: str, folder: Path, drawn: np.ndarray | None = None, number: int = 0) -> Path:
    """Return the truth of a case, or what is given, into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{case}.nii.gz"
    in_itk_snap(project.image(number, case), project.drawn(case) if drawn is None else drawn, path)
    return path


def test_a_dry_run_leaves_what_a_killed_call_left(project):
    assert run_round("--annotate") == 3
    case = min(project.asked(0))
    hand_in(project, case, project.batch(0) / "returned")
    assert collect("--reviewed") == 3
    (project.campaign.ledger / "000.json").unlink()  # killed before the entry was written
    before = snapshot(project.campaign.root)
    hand_in(project, case, project.batch(0) / "returned", np.zeros_like(project.drawn(case)))
    before = snapshot(project.campaign.root)
    assert collect("--reviewed", "--dry_run") == 3
    assert snapshot(project.campaign.root) == before


def test_a_batch_folder_that_was_moved(project, tmp_path):
    assert run_round("--annotate") == 3
    elsewhere = tmp_path / "elsewhere"
    for case in project.asked(0):
        hand_in(project, case, project.batch(0) / "returned")
    shutil.move(project.batch(0), elsewhere)
    assert collect("--reviewed") == 2  # and says where to bring it
    assert collect("--reviewed", "-i", elsewhere) == 0
    assert {commit.source for commit in read_commits(project.campaign.ledger)} == {"reader"}
    for case in project.asked(0):
        for box in project.asked(0)[case]:
            np.testing.assert_array_equal(project.annotated(case)[box], project.drawn(case)[box])


def test_a_whole_batch_folder_in_a_readers_folder_and_files_too_deep(project, capsys):
    assert run_round("--annotate") == 3
    case, *_ = sorted(project.asked(0))
    shutil.copytree(project.batch(0), project.batch(0).parent / "copy")
    shutil.move(project.batch(0).parent / "copy", project.batch(0) / "returned" / "anna")
    hand_in(project, case, project.batch(0) / "returned" / "anna" / "returned")
    hand_in(project, case, project.batch(0) / "returned" / "ben" / "first try")
    assert collect("--reviewed") == 3
    project.expect((0, case))
    assert "folder of the folder ben" in capsys.readouterr().out


def test_a_correction_wipes_out_nothing_that_it_does_not_hold(project, tmp_path, capsys):
    assert run_round("--annotate", "-unit", "slice") == 3
    case = max(project.asked(0), key=lambda case: sum(project.drawn(case)[b].any() for b in project.asked(0)[case]))
    for other in project.asked(0):
        hand_in(project, other, project.batch(0) / "returned")
    assert collect("--reviewed") == 0
    assert run_round("-unit", "slice") == 3
    boxes = {box for boxes in (project.asked(0).get(case, []),) for box in map(str, boxes)}
    assert boxes
    empty = np.zeros_like(project.drawn(case))
    hand_in(project, case, tmp_path / "corrected", empty)
    before = project.annotated(case)
    assert (before[before != IGNORE] != 0).any()
    assert collect("--correct", "-i", tmp_path / "corrected") == 0
    assert "has no foreground in the region" in capsys.readouterr().out
    np.testing.assert_array_equal(project.annotated(case), before)
    assert collect("--correct", "-i", tmp_path / "corrected", "-round", 0) == 0
    np.testing.assert_array_equal(project.annotated(case), np.where(before == IGNORE, IGNORE, 0))
    # once corrected, the old file says something else, and the new one what is annotated
    hand_in(project, case, project.batch(0) / "returned", empty)
    capsys.readouterr()
    collect("--reviewed", "-round", 0)
    assert "refused" not in capsys.readouterr().out


def test_readings_that_overlap_keep_what_was_returned_first(project):
    assert run_round("--annotate", "-readings", 2, "-consensus", "majority", "-initial", 60) == 3
    regions = read_json(project.campaign.round(0).batch)["regions"]
    case, first, other = next(
        (first["case"], first, other)
        for first in regions
        for other in regions
        if first is not other and first["case"] == other["case"]
        if all(max(a[0], b[0]) < min(a[1], b[1]) for a, b in zip(first["box"], other["box"], strict=True))
    )
    shape = project.drawn(case).shape
    bens = np.ones(shape)
    bens[0, 0, 0] = 0  # so that it is not the very same file
    for reader, drawn, asked in (
        ("anna", np.ones(shape), [first]),
        ("anna", np.full(shape, 2), [first, other]),
        ("ben", bens, [first, other]),
    ):
        folder = project.batch(0) / "returned" / reader
        hand_in(project, case, folder, drawn)
        ranks = tuple(f"{region['rank']}," for region in asked)
        head, *rows = (project.batch(0) / "batch.csv").read_text().splitlines()
        marked = [row.replace(",,", ",yes,") if row.startswith(ranks) else row for row in rows]
        (folder / "batch.csv").write_text("\n".join([head, *marked]) + "\n")
        assert collect() == 3
    inside = tuple(slice(*side) for side in first["box"])
    assert (project.annotated(case)[inside] == 1).all()  # anna drew 1 there first, and ben did too


def test_one_persons_file_is_not_two_readings(project, capsys):
    assert run_round("--annotate", "-readings", 2, "-unit", "case", "-initial", 2) == 3
    case = min(project.asked(0))
    path = hand_in(project, case, project.batch(0) / "returned" / "anna")
    (project.batch(0) / "returned" / "ben").mkdir()
    shutil.copy(path, project.batch(0) / "returned" / "ben")
    assert collect("--reviewed") == 3
    assert "identical to the file of anna" in capsys.readouterr().out
    assert [commit.reader for commit in read_commits(project.campaign.ledger)] == ["anna"]


def test_marks_of_one_reader_say_nothing_of_anothers_file(project, capsys):
    assert run_round("--annotate", "-readings", 2, "-unit", "case", "-initial", 2) == 3
    mark(project.batch(0) / "batch.csv", project.batch(0) / "batch.csv")
    case = min(project.asked(0))
    hand_in(project, case, project.batch(0) / "returned" / "ben", np.zeros_like(project.drawn(case)))
    assert collect() == 3
    assert "not marked as reviewed" in capsys.readouterr().out
    assert not read_commits(project.campaign.ledger)


def test_the_same_file_under_two_names_on_equal_grids(tmp_path, make_roots, capsys):
    roots = make_roots(cases=6)
    folder = roots.raw / DATASET
    shutil.rmtree(folder / "labelsTr")
    for path in sorted((folder / "imagesTr").iterdir()):  # one grid for all
        array = np.random.default_rng(hash(path.name) % 1000).random((8, 24, 20), np.float32) + 1
        write_image(path, array, (1.0, 1.0, 2.0), [0.0, 0.0, 0.0], np.eye(3).ravel().tolist())
    assert run_round("--annotate", "-unit", "case", "-initial", 2) == 3
    project = Project(roots, tmp_path)
    first, second = sorted(project.asked(0))
    drawn = np.zeros((8, 24, 20), int)
    drawn[2:5, 4:9, 4:9] = 1
    in_itk_snap(project.image(0, first), drawn, project.batch(0) / "returned" / f"{first}.nii.gz")
    shutil.copy(project.batch(0) / f"returned/{first}.nii.gz", project.batch(0) / f"returned/{second}.nii.gz")
    assert collect("--reviewed") == 3
    assert f"identical to the file of {first}" in capsys.readouterr().out


def test_closing_needs_something_to_train_on_and_counts_nothing(project, capsys):
    assert run_round("--annotate") == 3
    assert collect("--close") == 2
    assert "nothing is annotated yet" in capsys.readouterr().err
    case = min(project.asked(0))
    hand_in(project, case, project.batch(0) / "returned")
    assert collect("--reviewed") == 3
    assert collect("--close") == 0
    capsys.readouterr()
    assert run_command(status.main, "-d", "501", "--json") == 0
    assert f'"annotated": {len(project.asked(0)[case])},' in capsys.readouterr().out


def test_corrections_of_nothing_and_of_nobody(project, tmp_path, capsys):
    assert run_round("--annotate") == 3
    case = min(project.asked(0))
    hand_in(project, case, tmp_path / "corrected")
    assert collect("--correct", "-i", tmp_path / "corrected") == 2
    assert "nothing is annotated yet" in capsys.readouterr().err
    assert collect("--correct", "--close", "-i", tmp_path / "corrected") == 2
    hand_in(project, case, project.batch(0) / "returned")
    assert collect("--reviewed") == 3
    (tmp_path / "corrected" / f"{case}.nii.gz").rename(tmp_path / "corrected" / "nobody.nii.gz")
    capsys.readouterr()
    assert collect("--correct", "-i", tmp_path / "corrected") == 0
    assert "not named after an annotated case" in capsys.readouterr().out


def test_the_batch_of_another_round_is_refused(project, capsys):
    assert run_round("--annotate") == 3
    manifest = project.batch(0) / "manifest.json"
    write_json(manifest, read_json(manifest) | {"round": 7})
    assert collect() == 2
    assert "the batch of round 7" in capsys.readouterr().err


def test_names_as_other_systems_spell_them(make_roots, tmp_path):
    roots = make_roots(cases=6)
    shutil.move(roots.raw / DATASET / "labelsTr", tmp_path / "truth")
    for path in [*(roots.raw / DATASET / "imagesTr").iterdir(), *(tmp_path / "truth").iterdir()]:
        path.rename(path.with_name(path.name.replace("phantom", "Müller")))
    project = Project(roots, tmp_path / "truth")
    assert run_round("--annotate") == 3
    case = min(project.asked(0))
    path = hand_in(project, case, project.batch(0) / "returned")
    path.rename(path.with_name(unicodedata.normalize("NFD", path.name)))
    mark(project.batch(0) / "batch.csv", project.batch(0) / "batch.csv", {case})
    assert collect() == 3
    project.expect((0, case))


def test_marks_that_a_spreadsheet_spoilt(project, capsys):
    assert run_round("--annotate") == 3
    sheet = project.batch(0) / "batch.csv"
    mark(sheet, sheet)
    sheet.write_text(sheet.read_text(encoding="utf-8-sig").replace("phantom_00", ""), encoding="utf-8")
    hand_in(project, min(project.asked(0)), project.batch(0) / "returned")
    assert collect() == 3
    assert "which does not belong to this batch" in capsys.readouterr().out


def test_names_that_programs_would_mix_up_are_refused_before_anything_begins(project, capsys):
    path = project.roots.raw / DATASET / "dataset.json"
    content = read_json(path)
    write_json(path, content | {"labels": {"background": 0, "Organ 1": 1, "organ_1": 2}})
    before = snapshot(project.roots.results)
    assert run_round("--annotate") == 2
    assert "organ_1" in capsys.readouterr().err
    assert snapshot(project.roots.results) == before


def test_a_part_of_a_file_that_contradicts(project, capsys):
    assert run_round("--annotate", "-unit", "slice", "-initial", 30) == 3
    case = max(project.asked(0), key=lambda case: len(project.asked(0)[case]))
    first = next(r for r in read_json(project.campaign.round(0).batch)["regions"] if r["case"] == case)
    sheet, returned = project.batch(0) / "batch.csv", project.batch(0) / "returned"
    hand_in(project, case, returned)
    rows = sheet.read_text().splitlines()
    marked = [row.replace(",,", ",yes,") if row.startswith(f"{first['rank']},") else row for row in rows]
    (returned / "batch.csv").write_text("\n".join(marked) + "\n")
    assert collect() == 3
    other = project.drawn(case)
    inside = tuple(slice(*side) for side in first["box"])
    other[inside] = 1 - np.minimum(other[inside], 1)
    hand_in(project, case, returned, other)
    (returned / "batch.csv").unlink()
    assert collect("--reviewed") == 3
    assert project.states(0)[f"returned/{case}.nii.gz"] == "in part"
    np.testing.assert_array_equal(project.annotated(case)[inside], project.drawn(case)[inside])
