"""What comes after a first return: revisions, second files, other marks, and what the tables remember of each call."""

from __future__ import annotations

import csv
import os
import re
import shutil
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 -- the name everybody knows
from tiny_rounds import DATASET, run_command, run_round, snapshot

from nnunet_al.annotation.segment_header import case_tag
from nnunet_al.campaign.commits import read_commits
from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.cli import evaluate, export, pool, status
from nnunet_al.cli.collect import main as collect_main
from nnunet_al.files import hash_file, read_json, write_json
from nnunet_al.synthetic.image_file import write_image

from .annotation_project import Project, collect
from .readers import in_itk_snap, mark

pytestmark = pytest.mark.slow


def handed_out(project: Project, *options: object) -> tuple[str, Path]:
    """A batch that was handed out: its first case, and the folder for what is returned."""
    assert run_round("--annotate", *options) == 3
    return min(project.asked(0)), project.batch(0) / "returned"


def save(project: Project, case: str, path: Path, drawn: np.ndarray | None = None) -> Path:
    path.parent.mkdir(exist_ok=True)
    in_itk_snap(project.image(0, case), project.drawn(case) if drawn is None else drawn, path)
    return path


def in_two_files(project: Project, case: str, path: Path, drawn: np.ndarray | None = None) -> tuple[Path, Path]:
    """Save a header, and its voxels in a file beside it."""
    labels = sitk.GetImageFromArray((project.drawn(case) if drawn is None else drawn).astype(np.uint8))
    labels.CopyInformation(sitk.ReadImage(project.image(0, case)))
    header = path.with_suffix(".nhdr" if path.suffix == ".nrrd" else ".mhd")
    sitk.WriteImage(labels, header, useCompression=False)
    return header.rename(path), path.with_suffix(".raw")


@pytest.mark.parametrize("ending", [".mhd", ".nrrd"])
def test_a_volume_that_was_redrawn_below_its_header_is_no_file_that_was_taken_before(project, capsys, ending):
    case, returned = handed_out(project)
    header, voxels = in_two_files(project, case, returned / f"{case}{ending}")
    assert collect("--reviewed") == 3
    assert collect("--reviewed") == 3
    assert "1 file had been taken before" in capsys.readouterr().out
    before, drawn, ledger = header.read_bytes(), voxels.read_bytes(), snapshot(project.campaign.ledger)
    in_two_files(project, case, header, 1 - np.minimum(project.drawn(case), 1))
    assert header.read_bytes() == before
    assert voxels.read_bytes() != drawn
    assert collect("--reviewed") == 3
    assert "was taken from reader before with other labels" in project.reason(0, f"returned/{header.name}")
    assert snapshot(project.campaign.ledger) == ledger


def test_what_was_taken_by_its_header_alone_is_known(project):
    """As an earlier version did; its entry has the hash of the header."""
    case, returned = handed_out(project)
    path, _ = in_two_files(project, case, returned / f"{case}.mhd")
    assert collect("--reviewed") == 3
    entry = project.campaign.ledger / "000.json"
    content = read_json(entry) | {"schema": 2}
    del content["checksum"]
    content["labels"][case]["returned"] = hash_file(path)
    write_json(entry, content)
    before = snapshot(project.campaign.ledger)
    assert collect("--reviewed") == 3
    assert project.states(0) == {f"returned/{case}.mhd": "known"}
    assert snapshot(project.campaign.ledger) == before


def test_another_label_table_makes_another_annotation(project):
    case, returned = handed_out(project)
    save(project, case, returned / f"{case}.nii.gz")
    table = returned / f"{case}.label"
    for names, state in (("organ", "lesion"), "accepted"), (("organ", "lesion"), "known"), (("lesion", "organ"), ""):
        lines = [f'{value} 1 2 3 1 1 1 "{name}"' for value, name in enumerate(names, start=1)]
        table.write_text("\n".join(lines) + "\n")
        collect("--reviewed")
        assert state in project.states(0)[f"returned/{case}.nii.gz"]
    assert "with other labels" in project.reason(0, f"returned/{case}")


def test_of_two_files_none_is_taken_until_one_is_chosen(project, capsys):
    case, returned = handed_out(project)
    first = save(project, case, returned / f"{case}.mha", np.zeros_like(project.drawn(case)))
    second = save(project, case, returned / f"{case}.nii.gz")
    save(project, case, returned / "ben" / f"{case}.nii.gz")  # another reader's
    for _ in range(2):
        assert collect() == 3
        said = capsys.readouterr().out
        assert said.count(f"{first.name} and {second.name} are files of the same case, {case}, from reader") == 2
        assert "ben: " in said
        assert not read_commits(project.campaign.ledger)
    first.rename(returned.parent / first.name)
    assert collect("--reviewed") == 3
    project.expect((0, case))


def test_a_correction_that_was_given_twice_is_not_taken(project, tmp_path, capsys):
    case, returned = handed_out(project)
    save(project, case, returned / f"{case}.nii.gz")
    assert collect("--reviewed") == 3
    for ending in (".mha", ".nii.gz"):
        save(project, case, tmp_path / "corrected" / f"{case}{ending}", np.ones_like(project.drawn(case)))
    assert collect("--correct", "-i", tmp_path / "corrected") == 0
    assert "are files of the same case" in capsys.readouterr().out
    project.expect((0, case))
    assert [row["call"] for row in project.collected(0)] == ["collect", "correct", "correct"]


# --- marks -----------------------------------------------------------------------------------------------------------


def test_marks_of_an_older_copy_and_of_the_newer_table_count_both(project, capsys):
    first, returned = handed_out(project)
    second, third, *_ = sorted(project.asked(0))[1:]
    for case in (first, second, third):
        save(project, case, returned / f"{case}.nii.gz")
    sheet, copy = project.batch(0) / "batch.csv", returned / "batch.csv"
    mark(sheet, copy, {first}, "3")
    mark(sheet, sheet, {second}, "4")
    os.utime(copy, (1, 1))
    assert collect() == 3
    states = project.states(0)
    assert [states[f"returned/{case}.nii.gz"] for case in (first, second, third)] == ["accepted", "accepted", "refused"]
    said = capsys.readouterr().out
    assert "returned/batch.csv and batch.csv mark different regions as reviewed" in said
    assert {commit.minutes for commit in read_commits(project.campaign.ledger)} == {
        3.0 * len(project.asked(0)[first]),
        4.0 * len(project.asked(0)[second]),
    }


def test_an_unmarked_copy_says_nothing(project, capsys):
    case, returned = handed_out(project)
    save(project, case, returned / f"{case}.nii.gz")
    shutil.copy(project.batch(0) / "batch.csv", returned / "batch.csv")
    mark(project.batch(0) / "batch.csv", project.batch(0) / "batch.csv", {case})
    assert collect() == 3
    project.expect((0, case))
    assert "mark different" not in capsys.readouterr().out


def test_a_readers_own_table_stands_alone_and_is_named(project, capsys):
    case, returned = handed_out(project)
    other = sorted(project.asked(0))[1]
    for one in (case, other):
        save(project, one, returned / "anna" / f"{one}.nii.gz")
    mark(project.batch(0) / "batch.csv", returned / "anna" / "batch.csv", {case})
    mark(project.batch(0) / "batch.csv", project.batch(0) / "batch.csv")
    assert collect() == 3
    project.expect((0, case))
    said = capsys.readouterr().out
    assert "The marks for the files of anna were read from returned/anna/batch.csv alone" in said
    assert "marked only in batch.csv" in said


def test_a_table_that_cannot_be_read_does_not_hide_the_other(project, capsys):
    case, returned = handed_out(project)
    other = sorted(project.asked(0))[1]
    for one in (case, other):
        save(project, one, returned / f"{one}.nii.gz")
    (returned / "batch.csv").write_bytes(b"PK\3\4 a workbook")
    mark(project.batch(0) / "batch.csv", project.batch(0) / "batch.csv", {case})
    assert collect() == 3
    project.expect((0, case))
    said = capsys.readouterr().out
    assert "is a workbook and not text" in said
    assert "Its table of marks cannot be read" in project.reason(0, f"returned/{other}")


# --- the table of outcomes -------------------------------------------------------------------------------------------


def test_each_calls_verdicts_stay_with_their_time(project):
    case, returned = handed_out(project)
    path = save(project, case, returned / f"{case}.nii.gz")
    whole, began = path.read_bytes(), datetime.now().astimezone() - timedelta(seconds=1)
    path.write_bytes(whole[:-20])
    assert collect("--reviewed") == 3
    path.write_bytes(whole)
    assert collect("--reviewed", "--dry_run") == 3  # changes nothing
    for _ in range(2):
        assert collect("--reviewed") == 3
    rows = project.collected(0)
    assert [row["state"] for row in rows] == ["refused", "accepted", "known"]
    times = [datetime.fromisoformat(row["time"]) for row in rows]
    assert began <= times[0] <= times[1] <= times[2] <= datetime.now().astimezone()
    assert "cut short" in rows[0]["reason"]


def test_rows_of_an_earlier_version_and_of_a_spreadsheet_are_kept(project):
    case, returned = handed_out(project)
    save(project, case, returned / f"{case}.nii.gz")
    table = project.batch(0) / "collected.csv"
    head = "file,case,reader,state,regions,edits_outside,disagreements,reason\n"
    table.write_text(f'{head}returned/x.nii.gz,x,reader,refused,0,,,"a reason, once"\n', encoding="utf-8")
    assert collect("--reviewed") == 3
    earlier, now = project.collected(0)
    assert (earlier["file"], earlier["reason"], earlier["time"]) == ("returned/x.nii.gz", "a reason, once", "")
    assert now["state"] == "accepted"
    changed = table.read_text().replace(",", ";")
    table.write_text(changed)
    assert collect("--reviewed") == 3
    assert [row["state"] for row in project.collected(0)] == ["known"]
    (aside,) = project.batch(0).glob("collected_before_*.csv")
    assert aside.read_text() == changed


# --- images of one grid ----------------------------------------------------------------------------------------------


@pytest.fixture
def one_grid(make_roots, tmp_path) -> Project:
    """A project whose images all have one grid."""
    roots = make_roots(cases=6)
    folder = roots.raw / DATASET
    shutil.move(folder / "labelsTr", tmp_path / "truth")
    for number, path in enumerate(sorted((folder / "imagesTr").iterdir())):
        array = np.random.default_rng(number).random((8, 24, 20), np.float32) + 1
        where = ((1.0, 1.0, 2.0), [0.0, 0.0, 0.0], np.eye(3).ravel().tolist())
        write_image(path, array, *where)
        labels = np.zeros((8, 24, 20), np.uint8)
        labels[2:5, 3 * number + 1 : 3 * number + 6, 4:9] = 1
        write_image(tmp_path / "truth" / path.name.replace("_0000", ""), labels, *where)
    return Project(roots, tmp_path / "truth")


def test_cases_of_one_grid_under_each_others_names(one_grid, tmp_path, capsys):
    """With a header of what was handed out they are refused, without one taken with a line, once for each file."""
    assert run_round("--annotate", "-unit", "case", "-initial", 3) == 3
    a, b, c = sorted(one_grid.asked(0))
    returned = one_grid.batch(0) / "returned"
    for case, name in ((a, b), (b, a)):
        opened = sitk.ReadImage(one_grid.batch(0) / "preseg" / f"{case}.nii.gz")
        labels = sitk.GetImageFromArray(one_grid.drawn(case).astype(np.uint8))
        labels.CopyInformation(opened)
        for key in opened.GetMetaDataKeys():
            if key in ("descrip", "ITK_FileNotes", "aux_file"):
                labels.SetMetaData(key, opened.GetMetaData(key))
        sitk.WriteImage(labels, returned / f"{name}.nii.gz")
    save(one_grid, c, returned / f"{c}.nii.gz")
    assert collect("--reviewed") == 3
    said = capsys.readouterr().out
    assert f"{b}.nii.gz was drawn on the case {a} and not on {b}: return it under that case's name" in said
    assert f"{a}.nii.gz was drawn on the case {b} and not on {a}" in said
    assert said.count("Nothing tells this file from one of") == 1
    one_grid.expect((0, c))
    for case in (a, b):
        save(one_grid, case, returned / f"{case}.nii.gz")
    assert collect("--reviewed") == 0
    one_grid.expect((0, a), (0, b), (0, c))

    # corrections: the file that another case's annotation was made from
    save(one_grid, a, tmp_path / "corrected" / f"{b}.nii.gz", one_grid.drawn(a))
    before = snapshot(one_grid.campaign.ledger)
    assert collect("--correct", "-i", tmp_path / "corrected") == 0
    assert f"{b}.nii.gz is like the annotation of {a} and not like that of {b}" in capsys.readouterr().out
    assert snapshot(one_grid.campaign.ledger) == before
    slightly = one_grid.drawn(b)
    slightly[2, 0, 0] = 1
    save(one_grid, b, tmp_path / "corrected" / f"{b}.nii.gz", slightly)
    assert collect("--correct", "-i", tmp_path / "corrected") == 0
    assert one_grid.annotated(b)[2, 0, 0] == 1


def test_outlines_bear_their_case_as_well(project):
    handed_out(project)
    for case in project.asked(0):
        outline = sitk.ReadImage(project.batch(0) / "roi" / f"{case}.nii.gz")
        assert outline.GetMetaData("descrip") == case_tag(case)


# --- which campaign --------------------------------------------------------------------------------------------------


def printed(said: str) -> list[str]:
    """The arguments of the command that a round prints for collecting."""
    return re.findall(r"nnUNetv2_al_collect (-d .+?) takes back", said)[-1].split()


def test_the_command_that_a_round_prints_finds_its_campaign(project, tmp_path, capsys):
    assert run_round("--annotate") == 3
    plain = printed(capsys.readouterr().out)
    assert run_round("--annotate", "-tag", "seed3", "-b", 4) == 3
    tagged = printed(capsys.readouterr().out)
    assert tagged == [*plain, "-tag", "seed3"]
    folders = {path.parent.name: CampaignFolder(path) for path in project.roots.results.glob("*/al/*/fold_0")}
    for arguments, tag in ((plain, ""), (tagged, "__seed3"), ([*plain, "-tag", ""], ""), (["-d", "501"], "")):
        folder = folders[f"2d__random__seed0{tag}"]
        number = len(read_commits(folder.ledger))
        case = sorted({region["case"] for region in read_json(folder.round(0).batch)["regions"]})[number]
        path = folder.round(0).hand_out / "returned" / f"{case}.nii.gz"
        in_itk_snap(project.image_of(folder, case), project.drawn(case), path)
        others = {name: snapshot(other.root) for name, other in folders.items() if other != folder}
        assert run_command(collect_main, *arguments, "--reviewed") in (0, 3)
        assert len(read_commits(folder.ledger)) == number + 1
        assert {name: snapshot(folders[name].root) for name in others} == others

    # all commands find it so; those on several campaigns take all without -tag
    capsys.readouterr()
    for main, more in ((pool.main, ()), (export.main, ("-o", 601)), (evaluate.main, ())):
        for given in (), ("-tag", ""), ("-tag", "seed3"):
            run_command(main, "-d", "501", *given, *more)
            assert "fit" not in capsys.readouterr().err
    for given, titles in ((), 2), (("-tag", ""), 1), (("-tag", "seed3"), 1), (("-tag", "x"), 0):
        assert run_command(status.main, "-d", "501", *given) == 0
        assert capsys.readouterr().out.count("cases in the pool") == titles
    assert run_round("--annotate", "-tag", "") == 3  # the same campaign as without it


def test_of_campaigns_with_tags_alone_one_is_found_without(project, capsys):
    assert run_round("--annotate", "-tag", "a") == 3
    assert collect() == 3  # the only one
    assert collect("-tag", "") == 2
    assert "No campaign" in capsys.readouterr().err
    assert run_round("--annotate", "-tag", "b", "-b", 4) == 3
    assert collect() == 2
    assert "Several campaigns fit" in capsys.readouterr().err


def test_the_table_is_a_table(project):
    """Sentences with commas and quotes do not break its columns."""
    case, returned = handed_out(project)
    save(project, case, returned / 'a "quoted, name".nii.gz')
    assert collect("--reviewed") == 3
    with (project.batch(0) / "collected.csv").open(newline="", encoding="utf-8") as table:
        (row,) = csv.DictReader(table)
    assert row["file"] == 'returned/a "quoted, name".nii.gz'
    assert row["state"] == "refused"
