"""``nnUNetv2_al_synth --biased``."""

from __future__ import annotations

import gzip
import json
import multiprocessing
import re
import signal
import time

import numpy as np
import pytest
import SimpleITK

from nnunet_al.cli import synth
from nnunet_al.errors import StorageError
from nnunet_al.nnunet import workers
from nnunet_al.report.drawing import cohort_picture
from nnunet_al.synthetic import cohort, registration


def template(path):
    """Write a head of two caudates in white matter, between fluid and skin."""
    labels = np.zeros((20, 24, 24), dtype=np.uint16)
    labels[1:-1, 1:-1, 1:-1] = 511
    labels[2:-2, 2:-2, 2:-2] = 2
    labels[6:14, 8:16, 11:13] = 4
    labels[6:14, 8:16, 13:17] = 11
    labels[6:14, 8:16, 7:11] = 50
    image = SimpleITK.GetImageFromArray(labels)
    image.SetSpacing((3.0, 3.0, 3.0))
    SimpleITK.WriteImage(image, path)
    return path


def words(*arguments):
    return [str(argument) for argument in ("-d", 510, "--biased", "-strength", "weak", "--paired", *arguments)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The template and a cohort of two cases and two test cases made of it by one process."""
    parent = tmp_path_factory.mktemp("synth")
    path = template(parent / "secret_person.nii.gz")
    arguments = words("-o", parent / "raw", "-template", path, "-cases", 2, "-test_cases", 2, "-np", 1)
    assert synth.main(arguments) == 0
    assert synth.main(arguments) == 2  # the number is taken
    return path, parent / "raw" / "Dataset510_Caudate"


def test_it_makes_a_cohort_with_its_picture_and_does_not_say_where_the_template_lay(made):
    _, folder = made
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    assert (folder / "cohort.png").read_bytes().startswith(b"\x89PNG")
    assert len(list((folder / "imagesTr").iterdir())) == 2
    assert len(list((folder / "labelsTs").iterdir())) == 2
    design = json.loads((folder / "cohort.json").read_text())["design"]
    assert (design["strength"], design["paired"], design["seed"]) == ("weak", True, 0)
    compressed = 0
    for file in folder.rglob("*"):
        assert "secret" not in file.name
        content = file.read_bytes() if file.is_file() else b""
        if file.suffix == ".gz":
            content, compressed = gzip.decompress(content), compressed + 1
        assert b"secret" not in content
    assert compressed == 8


def test_real_processes_make_the_same_bytes(made, tmp_path, monkeypatch, capsys):
    path, expected = made
    monkeypatch.setattr(cohort_picture, "cohort_picture", lambda *_: None)
    assert synth.main(words("-o", tmp_path, "-template", path, "-cases", 2, "-np", 2)) == 0
    folder = tmp_path / expected.name
    assert f"2 training and 0 test cases are in {folder}" in capsys.readouterr().out
    images = sorted(folder.rglob("*.nii.gz"))
    assert len(images) == 4
    for image in images:
        assert image.read_bytes() == (expected / image.relative_to(folder)).read_bytes()


@pytest.fixture
def at_once(monkeypatch):
    """Cohorts without images, made in no time."""
    monkeypatch.setattr(cohort, "write_case", lambda *_: {"smallest_jacobian": 0.5, "left_caudate": 27.0})


def fail(error):
    def failing(*_args):
        raise error

    return failing


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(
    "error, code, says",
    [
        (StorageError("No space is left to write a.png: free some."), 0, r"\(No space is left to write a\.png\)"),
        (ValueError(), 0, r"\(ValueError\)"),
        (KeyboardInterrupt(), 130, "Interrupted: the cohort is complete"),
    ],
)
def test_a_picture_that_fails_does_not_take_the_cohort_away(made, tmp_path, monkeypatch, capsys, error, code, says):
    monkeypatch.setattr(cohort_picture, "cohort_picture", fail(error))
    assert synth.main(words("-o", tmp_path, "-template", made[0], "-cases", 2, "-np", 1)) == code
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 2
    assert re.search(says, printed[0])
    assert "but for its picture cohort.png" in printed[0]
    assert {path.name for path in (tmp_path / "Dataset510_Caudate").iterdir()} == {
        "cohort.json", "dataset.json", "participants.tsv", "volumes.csv",
    }  # fmt: skip


def test_an_interruption_says_that_nothing_was_kept(made, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cohort, "write_case", fail(KeyboardInterrupt()))
    assert synth.main(words("-o", tmp_path / "new", "-template", made[0], "-cases", 2, "-np", 1)) == 130
    assert capsys.readouterr().err == "Interrupted. Nothing was kept; the same command begins anew.\n"
    assert not list(tmp_path.iterdir())


def test_processes_leave_interruptions_to_their_parent_and_end_with_it():
    """A terminal interrupts all of them; if the parent did not end them, it would wait for ten minutes here."""
    handlers = workers.run_jobs(signal.getsignal, [(signal.SIGINT,)] * 2, workers=2)
    assert handlers == [signal.SIG_IGN] * 2
    results = workers.iterate_jobs(time.sleep, [(0,), (600,), (600,), (600,)], workers=2)
    assert next(results) == (0, None)
    results.close()
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("place", ["file", "file/below"])
@pytest.mark.parametrize("kind", [["--biased"], ["-cases", "1", "-shape", "16", "16", "16"]])
def test_a_place_that_is_a_file_is_a_sentence(made, tmp_path, capsys, place, kind):
    (tmp_path / "file").write_text("mine")
    assert synth.main(["-d", "510", "-o", str(tmp_path / place), *kind]) == 2
    printed = capsys.readouterr().err
    assert "cannot be written (Not a directory): there can be no folder for it" in printed
    assert len(printed.splitlines()) == 1
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    "wrong, says",
    [
        (["-modality", "CT"], "-modality means nothing with --biased"),
        (["-channels", "2"], "-channels means nothing with --biased"),
        (["--regions"], "--regions means nothing with --biased"),
        (["-np", "0"], "-np of 1 or more"),
        (["-cases", "7"], "even numbers"),
        (["-spacing", "1", "1", "0"], "0.1 to 10"),
        (["-shape", "8", "8", "513"], "at most 512"),
        (["-template", "nowhere.nii.gz"], "cannot be read"),
        (["-template", ""], "not a file"),
    ],
)
def test_what_does_not_fit_a_cohort_is_refused_in_a_sentence(tmp_path, capsys, wrong, says):
    assert synth.main(["-d", "510", "--biased", "-o", str(tmp_path), *wrong]) == 2
    printed = capsys.readouterr().err
    assert says in printed
    assert len(printed.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "wrong", [["-strength", "weak"], ["-template", "head.nii.gz"], ["--paired"], ["-np", "2"]], ids=lambda w: w[0]
)
def test_what_does_not_fit_phantoms_is_refused_in_a_sentence(tmp_path, capsys, wrong):
    assert synth.main(["-d", "510", "-o", str(tmp_path), *wrong]) == 2
    assert f"{wrong[0]} means nothing without --biased" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_population_deforms_group_1(made, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cohort_picture, "cohort_picture", lambda *_: None)
    monkeypatch.setattr(registration, "STEPS", 3)
    heads = tmp_path / "heads"
    heads.mkdir()
    for place, shift in enumerate((-1, 0, 1)):
        head = SimpleITK.ReadImage(str(made[0]))
        labels = SimpleITK.GetArrayFromImage(head)
        moved = np.roll(labels == 11, shift, axis=2)
        labels[labels == 11] = 2
        labels[moved] = 11
        image = SimpleITK.GetImageFromArray(labels)
        image.CopyInformation(head)
        SimpleITK.WriteImage(image, str(heads / f"{place}.nii.gz"))
    given = words("-o", tmp_path, "-template", made[0], "-cases", 2, "-np", 1)
    assert synth.main([*given, "-component_sign", "-1"]) == 2
    assert "-component_sign means nothing without -population" in capsys.readouterr().err
    assert synth.main([*given, "-population", str(tmp_path / "nowhere")]) == 2
    assert "no such folder" in capsys.readouterr().err
    assert synth.main([*given, "-population", str(heads), "-component_sign", "-1", "-subject", "one_factor"]) == 0
    content = json.loads((tmp_path / "Dataset510_Caudate" / "cohort.json").read_text())
    assert (content["population"]["heads"], content["population"]["sign"]) == (3, -1)
    assert content["design"]["subject"] == "one_factor"
