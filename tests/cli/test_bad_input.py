"""Law 9: bad input gets one sentence that names the file or option, exit code 2, and leaves every file as it was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from tiny_rounds import DATASET, TINY_ROUND, run_round, snapshot

CASE = "phantom_004"


@pytest.fixture
def refused(roots, capsys) -> Callable[..., str]:
    """Do a round that must be refused, and return the sentence."""

    def refuse(*arguments: object) -> str:
        folders = (roots.raw, roots.preprocessed, roots.results)
        before = snapshot(*folders)
        capsys.readouterr()
        code = run_round(*arguments)
        sentence = capsys.readouterr().err.strip()
        assert code == 2, sentence
        assert sentence.startswith("Error: ")
        assert "\n" not in sentence, "more than one line"
        assert sentence.endswith((".", ")")), "no sentence"
        assert snapshot(*folders) == before
        return sentence

    return refuse


def label_file(roots) -> Path:
    return roots.raw / DATASET / "labelsTr" / f"{CASE}.nii.gz"


def image_file(roots) -> Path:
    return roots.raw / DATASET / "imagesTr" / f"{CASE}_0000.nii.gz"


def rewrite(path: Path, change: Callable[[np.ndarray], np.ndarray], move: float = 0.0) -> None:
    image = nibabel.load(path)
    affine = image.affine.copy()
    affine[:3, 3] += move
    voxels = change(np.asarray(image.dataobj))
    nibabel.save(nibabel.Nifti1Image(voxels, affine), path)


def with_voxel(value: float, kind: type) -> Callable[[np.ndarray], np.ndarray]:
    def change(voxels: np.ndarray) -> np.ndarray:
        voxels = voxels.astype(kind)
        voxels[tuple(n // 2 for n in voxels.shape)] = value
        return voxels

    return change


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def write_dataset_json(roots, **changes: object) -> None:
    path = roots.raw / DATASET / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("variable", ["nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"])
def test_a_variable_that_is_not_set_or_names_no_folder(refused, monkeypatch, variable, tmp_path):
    monkeypatch.delenv(variable)
    assert f"{variable} is not set" in refused()
    monkeypatch.setenv(variable, str(tmp_path / "nowhere"))
    assert f"{variable} names {tmp_path / 'nowhere'}" in refused()


@pytest.mark.parametrize("dataset", ["777", "Dataset777_No", "phantom"])
def test_a_dataset_that_does_not_exist(refused, dataset):
    sentence = refused("-d", dataset)
    assert dataset in sentence
    assert DATASET in sentence


def test_a_strategy_that_does_not_exist_gets_the_nearest_names(refused):
    sentence = refused("-s", "entropi")
    assert "entropi" in sentence
    assert "entropy" in sentence


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("-s", "usimf+stochastic_batches"), ("usimf", "stochastic_batches", "class_variance")),
        (("-s", "entropy+blurred"), ("blurred", "localized")),
        (("-s", "bald+tta", "-posterior", "ensemble"), ("tta", "ensemble", "leave out one")),
        (("-s", "random", "-posterior", "tta"), ("random", "has no scores")),
        (("-s", "learning_loss+power"), ("negative", "softrank")),
        (("-s", "clasp_pe", "-set", "beta_end=0"), ("beta_end", "a number from 0.000001")),
        (("-s", "ensemble", "-passes", "5"), ("no parameter 'passes'", "members")),
        (("-s", "learning_loss", "-tr", "nnUNetTrainerAL"), ("-tr nnUNetTrainerAL", "nnUNetTrainerALLearningLoss")),
        (("-s", "core_set", "-unit", "case", "-set", "pooling=flatten"), ("pooling=flatten", "-unit patch")),
        (("-s", "usimf", "-set", "eta=1", "-set", "eta=2"), ("'eta' is set already",)),
        (("-s", "bald", "-passes", "5", "-set", "passes=6"), ("-passes", "give one")),
    ],
)
def test_a_recipe_that_makes_no_sense(refused, arguments, words):
    sentence = refused(*arguments)
    assert all(word in sentence for word in words), sentence


def test_an_engine_that_is_not_there_is_refused_before_anything_is_trained(refused, monkeypatch):
    from nnunet_al.rounds import start

    monkeypatch.setattr(start, "submodlib_available", lambda: False)
    assert "-engine submodlib" in refused("-s", "usimf", "-engine", "submodlib")


BROKEN = {
    "label cut short": lambda roots: cut_in_half(label_file(roots)),
    "label of another shape": lambda roots: rewrite(label_file(roots), lambda voxels: voxels[:, :-1]),
    "label somewhere else": lambda roots: rewrite(label_file(roots), lambda voxels: voxels, move=3.0),
    "label value that nobody declared": lambda roots: rewrite(label_file(roots), with_voxel(7, np.uint8)),
    "label that is no number": lambda roots: rewrite(label_file(roots), with_voxel(np.nan, np.float32)),
    "image with NaN": lambda roots: rewrite(image_file(roots), with_voxel(np.nan, np.float32)),
    "image with infinity": lambda roots: rewrite(image_file(roots), with_voxel(np.inf, np.float32)),
    "image cut short": lambda roots: cut_in_half(image_file(roots)),
    "image that is zero": lambda roots: rewrite(image_file(roots), np.zeros_like),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_file_is_named(roots, refused, what):
    BROKEN[what](roots)
    wanted = label_file(roots) if what.startswith("label") else image_file(roots)
    assert str(wanted) in refused()


def test_a_file_that_breaks_after_the_campaign_began_is_named(roots, refused, al_round):
    assert al_round() == 0
    image = image_file(roots)
    rewrite(image, with_voxel(500, np.int16))
    assert CASE in refused()
    cut_in_half(image)
    assert str(image) in refused()
    image.unlink()
    assert CASE in refused()


@pytest.mark.parametrize(
    "changes, named",
    [
        ({"labels": {"background": 0, "organ": 1, "lesion": 3}}, "dataset.json"),
        ({"channel_names": {"0": "T1", "1": "T2"}}, "_0001.nii.gz"),
        ({"file_ending": ".mha"}, ".mha"),
    ],
)
def test_a_dataset_json_that_does_not_fit(roots, refused, changes, named):
    write_dataset_json(roots, **changes)
    assert named in refused()


def test_a_dataset_json_that_is_missing_or_broken(roots, refused):
    path = roots.raw / DATASET / "dataset.json"
    path.write_text("{")
    assert str(path) in refused()
    path.unlink()
    assert str(path) in refused()


def test_a_dataset_without_any_label(roots, refused):
    for file in (roots.raw / DATASET / "labelsTr").iterdir():
        file.unlink()
    assert "label" in refused()


def test_fewer_cases_than_folds(roots, refused):
    for number in range(4, 10):
        for file in (roots.raw / DATASET).glob(f"*/phantom_{number:03d}*"):
            file.unlink()
    sentence = refused()
    assert "4 labelled cases" in sentence
    assert "5 folds" in sentence


def test_test_cases_that_are_not_there(refused):
    assert "-test ts" in refused("-test", "ts")


@pytest.mark.parametrize(
    "arguments, named",
    [
        (("-b", 0), "-b 0"),
        (("-b", -3), "-b -3"),
        (("-initial", 0), "-initial 0"),
        (("-epochs", 0), "-epochs 0"),
        (("-iterations", 0), "-iterations 0"),
        (("-batch_size", 0), "-batch_size 0"),
        (("-rounds", 0), "-rounds 0"),
        (("-overlap", 1), "-overlap 1"),
        (("-dropout_p", 1), "-dropout_p 1"),
        (("-np", 0), "-np 0"),
        (("-scoring_batch_size", 0), "-scoring_batch_size 0"),
        (("-num_parts", 0), "-num_parts 0"),
        (("-num_parts", 2, "-part_id", 2), "-part_id 2"),
        (("-seed", -1), "-seed"),
        (("-f", -1), "-f"),
        (("-f", 5), "-f 5"),
        (("-tag", "a__b"), "-tag"),
        (("-tag", "a/b"), "-tag"),
        (("-tag", "a b"), "-tag"),
        (("-tag", ".."), "-tag"),
        (("-round", -1), "-round -1"),
        (("-round", 1), "-round 1"),
        (("-c", "4d"), "4d"),
        (("-c", "../x"), "-c"),
        (("-p", "../plans"), "-p"),
        (("-tr", "nnUNetTrainerNobody"), "nnUNetTrainerNobody"),
        (("-tr", "nnUNetTrainer"), "nnUNetTrainer"),
        (("-pl", "PlannerNobody"), "PlannerNobody"),
        (("-set", "eta"), "eta"),
        (("-s", "usimf", "-set", "nobody=1"), "nobody"),
        (("-s", "usimf", "-set", "embedding_size=many"), "embedding_size"),
        (("-s", "usimf", "-set", "embedding_size=0"), "embedding_size"),
        (("-s", "entropy", "-passes", 0), "passes"),
        (("-pretrained_weights", "/nowhere.pth"), "/nowhere.pth"),
    ],
)
def test_an_option_that_means_nothing(refused, arguments, named):
    assert named in refused(*arguments)


@pytest.mark.skipif(torch.cuda.is_available(), reason="the device that the test asks for is there")
def test_a_device_that_is_not_there(refused):
    assert "-device cuda" in refused("-device", "cuda")


@pytest.mark.parametrize("argument", [("-unit", "voxel"), ("-b", "many"), ("-device", "tpu"), ("--nothing",)])
def test_an_argument_that_does_not_exist(roots, capsys, argument):
    before = snapshot(roots.raw.parent)
    assert run_round(*argument) == 2
    assert argument[0] in capsys.readouterr().err
    assert snapshot(roots.raw.parent) == before


@pytest.mark.parametrize("content", ["text", "other network", "no weights"])
def test_weights_that_do_not_fit(refused, tmp_path, content):
    path = tmp_path / "checkpoint.pth"
    if content == "text":
        path.write_text("no checkpoint")
    else:
        weights = {"network_weights": {"decoder.seg_layers.0.weight": torch.zeros(3, 5, 1, 1)}}
        torch.save(weights if content == "other network" else {"epoch": 3}, path)
    assert str(path) in refused("-pretrained_weights", path)


HOLDER = """
import sys, time
from pathlib import Path
from nnunet_al.campaign.lock import campaign_lock
with campaign_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_campaign_that_another_process_works_on(refused, al_round, roots):
    assert al_round() == 0
    folder = next(roots.results.glob("*/al/*/fold_0"))
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder / "lock")], stdout=subprocess.PIPE, env=dict(os.environ), text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        sentence = refused()
        assert str(folder) in sentence
        assert f"process {holder.pid} on host {os.uname().nodename} since 20" in sentence
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
    assert al_round() == 0  # the lock of a killed process holds nobody up


@pytest.mark.parametrize(
    "given, named, told",
    [
        (("-b", 6), "-b 6", "started with 5"),
        (("-initial", 7), "-initial 7", "started with 6"),
        (("-unit", "slice"), "-unit slice", "started with patch"),
        (("-epochs", 3), "-epochs 3", "started with 2"),
        (("-passes", 3), "passes=3", "started with 2"),
        (("-set", "eta=0.25"), "eta=0.25", "started with"),
        (("--from_scratch",), "--from_scratch", "started with False"),
        (("-engine", "streaming"), "-engine streaming", "started with submodlib"),
    ],
)
def test_a_campaign_that_was_started_otherwise(refused, al_round, given, named, told):
    usimf = ("-s", "usimf", "-engine", "submodlib")
    assert al_round(*usimf, "-passes", 2) == 0
    sentence = refused(*usimf, *given)
    assert named in sentence
    assert told in sentence
    assert "-tag" in sentence


def test_options_left_out_are_those_of_the_campaign_and_a_tag_keeps_campaigns_apart(roots, al_round, capsys):
    from nnunet_al.cli.round import main

    assert al_round() == 0
    assert main([*TINY_ROUND[:6], "-device", "cpu", "-round", "0"]) == 0
    assert al_round("-b", 6, "-tag", "six") == 0
    assert len(list(roots.results.glob("*/al/*/fold_0/campaign.json"))) == 2
