"""Stock nnU-Net works on a round: it trains there, and predicts where nnunet_al is not installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.evaluation.evaluate_predictions import compute_metrics
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from nnunet_al.nnunet.dropin import trainer_folder
from nnunet_al.rounds.evaluation import evaluate_checkpoint
from nnunet_al.rounds.round_model import make_predictor

from .campaigns import DATASET, TRAINER, copy_unselected, read_volume, weights

pytestmark = pytest.mark.slow

HIDE = """
import sys


class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "nnunet_al":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Hidden())
"""


def stock(command: str, *args: object, view=None, hide: Path | None = None, **variables: str) -> None:
    """Run a command of nnU-Net's in a process of its own that knows of a round only by nnU-Net's variables."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("nnUNet_")}
    if view is not None:
        environment |= {
            "nnUNet_raw": str(view.raw),
            "nnUNet_preprocessed": str(view.preprocessed),
            "nnUNet_results": str(view.results),
        }
    environment |= {"OMP_NUM_THREADS": "1", "nnUNet_n_proc_DA": "0", "nnUNet_def_n_proc": "1", **variables}
    if hide is not None:
        hide.mkdir(exist_ok=True)
        (hide / "sitecustomize.py").write_text(HIDE)
        environment["PYTHONPATH"] = str(hide)
    program = Path(sys.executable).with_name(command)
    run = subprocess.run(
        [sys.executable, str(program), *map(str, args)], env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-4000:]


def test_the_package_can_be_hidden(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(HIDE)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", "import nnunet_al"], env=environment, capture_output=True, check=False)
    assert b"ModuleNotFoundError" in run.stderr


@pytest.mark.parametrize("configuration, mirroring", [("2d", True), ("2d", False), ("3d_fullres", True)])
def test_stock_prediction_is_the_same_without_this_package_and_equals_ours(trained, tmp_path, configuration, mirroring):
    lab, campaign = trained(configuration, "patch")
    round_ = campaign.round(1)
    context = lab.context(campaign)
    context = replace(context, decided=replace(context.decided, disable_tta=not mirroring))
    images = tmp_path / "images"
    images.mkdir()
    for case in context.decided.test_cases:
        (file,) = context.data.tests[case].images
        shutil.copy(file, images)

    args = ("-i", images, "-d", "901", "-c", configuration, "-f", "0", "-tr", TRAINER, "-device", "cpu")
    args = (*args, *([] if mirroring else ["--disable_tta"]), "-npp", "0", "-nps", "0")
    outputs = [tmp_path / "hidden", *([tmp_path / "installed"] if configuration == "2d" and mirroring else [])]
    for output in outputs:
        hide = tmp_path / "hide" if output.name == "hidden" else None
        stock("nnUNetv2_predict", *args, "-o", output, view=round_.view, hide=hide)

    with lab.at_work():
        ours = predictions(context)
        metrics = evaluate_checkpoint(context, context.checkpoint(round_))
    for case, prediction_xyz in ours.items():
        file = f"{case}.nii.gz"
        expected_xyz = read_volume(outputs[0] / file)
        np.testing.assert_array_equal(read_volume(outputs[-1] / file), expected_xyz)
        # batches of windows change the last digits of the logits, which decide where two classes are equally likely
        assert np.mean(prediction_xyz != expected_xyz) < 1e-3
        label = context.data.tests[case].label
        _, properties = SimpleITKIO().read_seg(str(label))
        SimpleITKIO().write_seg(prediction_xyz, str(tmp_path / file), properties)
        of_nnunet = compute_metrics(str(label), str(tmp_path / file), SimpleITKIO(), [1, 2])["metrics"]
        for value, name in ((1, "organ"), (2, "lesion")):
            assert metrics["cases"][case][name]["dice"] == pytest.approx(of_nnunet[value]["Dice"], abs=1e-12)
    assert any(len(np.unique(prediction_xyz)) > 1 for prediction_xyz in ours.values()), "something was predicted"


def predictions(context):
    predict = make_predictor(context, context.checkpoint(context.round), context.test_images(), mirroring=True)
    return {case: predict(case) for case in context.decided.test_cases}


def test_stock_training_on_a_round_gives_the_same_model(trained, new_results):
    base, source = trained("2d", "patch")
    lab = new_results(base)
    campaign = copy_unselected(source, lab, "2d", "usimf")
    view = campaign.round(1).view
    expected = weights(lab.context(campaign).checkpoint(campaign.round(1)))
    shutil.rmtree(view.results / DATASET)
    before = sorted(str(path) for path in view.preprocessed.rglob("*"))

    args = ("901", "2d", "0", "-tr", TRAINER, "-device", "cpu")
    stock("nnUNetv2_train", *args, view=view, nnUNet_extTrainer=str(trainer_folder()))
    final = lab.context(campaign).checkpoint(campaign.round(1))
    found = weights(final)
    # Not to the last digit, because nnUNetv2_train uses as many threads as there are cores; and biases before a
    # normalisation have no effect and no gradient but rounding errors, which AdamW makes large.
    for name, weight in expected.items():
        if not name.endswith(("conv.bias", "all_modules.0.bias")):
            torch.testing.assert_close(found[name], weight, rtol=1e-2, atol=1e-3)
    assert (final.parent / "validation" / "summary.json").is_file()
    assert sorted(str(path) for path in view.preprocessed.rglob("*")) == before
    # and we go on with what it has trained
    assert lab.round("2d", "usimf", "-round", "1") == 0


def test_checkpoint_and_plans_name_nothing_of_ours(trained):
    lab, campaign = trained("2d", "patch")
    final = lab.context(campaign).checkpoint(campaign.round(1))
    content = torch.load(final, map_location="cpu", weights_only=False)
    content.pop("network_weights")
    assert content["trainer_name"] == "nnUNetTrainer"
    model = final.parents[1]
    for text in (repr(content["init_args"]["plans"]), (model / "plans.json").read_text()):
        assert "nnunet_al" not in text
