"""``nnUNetv2_al_synth --biased``."""

from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK

from nnunet_al.cli import synth


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


def test_it_makes_a_cohort_with_its_picture_and_does_not_say_where_the_template_lay(tmp_path, capsys):
    path = template(tmp_path / "secret_person.nii.gz")
    arguments = ["-d", "510", "--biased", "-o", tmp_path / "raw", "-template", path, "-cases", "4", "-test_cases", "2"]
    assert synth.main([str(argument) for argument in [*arguments, "-strength", "weak", "-np", "1", "--paired"]]) == 0
    folder = tmp_path / "raw" / "Dataset510_Caudate"
    assert f"4 training and 2 test cases are in {folder}" in capsys.readouterr().out
    assert (folder / "cohort.png").read_bytes().startswith(b"\x89PNG")
    assert len(list((folder / "imagesTr").iterdir())) == 4
    assert len(list((folder / "labelsTs").iterdir())) == 2
    design = json.loads((folder / "cohort.json").read_text())["design"]
    assert (design["strength"], design["paired"], design["seed"]) == ("weak", True, 0)
    for file in folder.rglob("*"):
        assert b"secret" not in (file.read_bytes() if file.is_file() else b"")
        assert "secret" not in file.name
    assert synth.main([str(argument) for argument in arguments]) == 2
    assert "has the number 510 already" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong, says",
    [
        (["-modality", "CT"], "-modality means nothing with --biased"),
        (["-channels", "2"], "-channels means nothing with --biased"),
        (["--regions"], "--regions means nothing with --biased"),
        (["-np", "0"], "-np of 1 or more"),
        (["-cases", "7"], "even numbers"),
        (["-spacing", "1", "1", "0"], "0.1 to 10"),
        (["-template", "nowhere.nii.gz"], "cannot be read"),
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
