"""Weights to start from: other classes lose their heads, anything else that differs or could run is refused."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_rounds import DATASET, campaign_folder, only, run_round, snapshot

from nnunet_al.campaign.decisions import Decisions
from nnunet_al.files import read_json
from nnunet_al.nnunet.environment import Roots
from nnunet_al.nnunet.model import Plan, network_of
from nnunet_al.nnunet.trainer_settings import TrainerSettings

RAN = "ran.txt"


class Program:
    """What a file that nobody should open blindly holds: a call when it is read."""

    def __reduce__(self):
        return open, (RAN, "w")


@pytest.fixture(scope="module")
def weights(module_roots) -> OrderedDict[str, torch.Tensor]:
    """Weights of the network that a campaign on the tiny dataset plans."""
    assert run_round("-tag", "plans") == 0
    folder = only(module_roots.results, "*/al/*__plans/fold_0") / "prepared"
    view = Roots.below(folder).preprocessed / DATASET
    plan = Plan.of(read_json(view / "nnUNetPlans.json"), read_json(view / "dataset.json"), "2d")
    torch.manual_seed(5)
    network = network_of(plan)
    return network.state_dict()


def with_heads(weights: OrderedDict[str, torch.Tensor], outputs: int) -> OrderedDict[str, torch.Tensor]:
    """The same with output heads of another number of classes."""
    return OrderedDict(
        (name, torch.rand(outputs, *value.shape[1:]) if ".seg_layers." in name else value)
        for name, value in weights.items()
    )


def checkpoint(weights: Any, labels: dict[str, Any] | None = None, **others: Any) -> dict[str, Any]:
    """As nnU-Net writes it: with what its logger and its trainer's arguments hold."""
    arguments = {} if labels is None else {"dataset_json": {"labels": labels}, "device": torch.device("cuda", 0)}
    logging = {"ema_fg_dice": [np.float64(0.5)], "dice": [np.array([0.5, 0.25], np.float32)], "lrs": [np.float32(0.1)]}
    return {
        "network_weights": weights, "logging": logging, "_best_ema": np.float64(0.5), "current_epoch": np.int64(3),
        "init_args": arguments, "inference_allowed_mirroring_axes": (0, 1), "grad_scaler_state": None, **others,
    }  # fmt: skip


@pytest.fixture
def started(module_roots, tmp_path, monkeypatch, capsys):
    """Start a campaign from a checkpoint; its folder, exit code, and what was said."""
    results = tmp_path / "results"
    results.mkdir()
    monkeypatch.setenv("nnUNet_results", str(results))
    monkeypatch.chdir(tmp_path)

    def start(path: Path, *arguments: str) -> tuple[int, str, str]:
        before = snapshot(results)
        code = run_round("-pretrained_weights", path, *arguments)
        out, err = capsys.readouterr()
        assert (code == 0) != (snapshot(results) == before), "a refusal leaves nothing behind"
        assert not (tmp_path / RAN).exists()
        return code, out, err

    return start


ORGANS = {"background": 0, "organ": 1, "lesion": 2}


@pytest.mark.parametrize(
    "outputs, labels, said",
    [
        (3, None, None),
        (3, ORGANS, None),
        (3, {**ORGANS, "ignore": 3}, None),
        (3, {"background": 0, "Organ": 1, "LESION": 2}, None),
        (3, {"background": 0, "liver": 1, "vessel": 2}, "(liver, vessel)"),
        (3, {"background": 0, "lesion": 1, "organ": 2}, "(lesion, organ)"),
        (3, {"background": 0, "organ": [1, 2], "lesion": 2}, "organ"),
        (5, {"background": 0, "a": 1, "b": 2, "c": 3, "d": 4}, "(a, b, c, d)"),
        (2, {"background": 0, "organ": 1}, "organ"),
        (118, None, "another number of classes"),
        (3, {"background": 0, **{f"class_{i}": i for i in range(1, 118)}}, "class_1"),
    ],
)
def test_heads_of_other_classes_are_left_out_with_a_line(weights, started, tmp_path, outputs, labels, said):
    path = tmp_path / "model.pth"
    torch.save(checkpoint(with_heads(weights, outputs), labels), path)
    code, out, err = started(path)
    assert code == 0, err
    lines = [line for line in out.splitlines() if str(path) in line]
    assert len(lines) == (said is not None)
    assert said is None or (said in lines[0] and "heads are left out" in lines[0])
    decided = Decisions.load(only(tmp_path / "results", "*/al/*/fold_*") / "campaign.json")
    assert decided.pretrained_heads == ("kept" if said is None else "left_out")


def test_the_training_starts_from_all_but_the_heads(weights, started, tmp_path, monkeypatch):
    from nnunet_al.nnunet.trainer import nnUNetTrainerAL

    path, seen = tmp_path / "model.pth", []
    torch.save(checkpoint(with_heads(weights, 5)), path)
    assert started(path)[0] == 0

    begin = nnUNetTrainerAL.on_train_start

    def spy(self):
        begin(self)
        seen.append({name: value.clone() for name, value in self.network.state_dict().items()})
        raise KeyboardInterrupt

    monkeypatch.setattr(nnUNetTrainerAL, "on_train_start", spy)
    assert run_round("-pretrained_weights", path) == 130
    (first,) = seen
    assert first.keys() == weights.keys()
    same = {name for name in first if torch.equal(first[name], weights[name])}
    assert same == {name for name in first if ".seg_layers." not in name}
    settings = TrainerSettings.read(only(tmp_path / "results", "*/al/*/fold_*/round_001/nnUNet_preprocessed/*"))
    assert (settings.initial_heads, settings.trust_initial_weights) == ("left_out", False)


@pytest.mark.parametrize("name", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_numbers_are_read_whichever_numpy_wrote_them(weights, started, tmp_path, name):
    path = tmp_path / "model.pth"
    torch.save(checkpoint(weights), path, _use_new_zipfile_serialization=False)  # in which names are lines of text
    written = path.read_bytes()
    assert b"multiarray\nscalar\n" in written
    path.write_bytes(written.replace(b"numpy._core.multiarray", name).replace(b"numpy.core.multiarray", name))
    code, _, err = started(path)
    assert code == 0, err


def module_of(weights):
    return {**checkpoint(weights), "network": torch.nn.Linear(2, 2)}


def deeper(weights):
    return checkpoint({**weights, "encoder.stages.9.0.conv.weight": torch.zeros(8, 8, 3, 3)})


def two_channels(weights):
    return checkpoint({n: v.repeat(1, 2, 1, 1) if "stages.0.0.convs.0" in n and v.ndim == 4 else v
                       for n, v in weights.items()})  # fmt: skip


def volumes(weights):
    return checkpoint({name: value[..., None] if value.ndim == 4 else value for name, value in weights.items()})


def not_finite(weights):
    return checkpoint({n: torch.full_like(v, torch.nan) if v.ndim == 4 else v for n, v in weights.items()})


MORE, UNFIT = "--trust_weights", "does not fit the plans"
BAD_WEIGHTS = [
    ("a program", lambda w: checkpoint(w, more=Program()), MORE),
    ("a program among the labels", lambda w: checkpoint(w, {"background": Program()}), MORE),
    ("a path", lambda w: checkpoint(w, folder=Path("/somewhere")), MORE),
    ("a network", module_of, MORE),
    ("an array of objects", lambda w: checkpoint(w, array=np.array([1, "a"], object)), MORE),
    ("nothing of nnU-Net", lambda w: {"epoch": 3}, "holds no network weights"),
    ("MONAI's", lambda w: dict(w), "holds no network weights"),
    ("a list", lambda w: [1, 2], "holds no network weights"),
    ("numbers for weights", lambda w: checkpoint(dict.fromkeys(w, 1.0)), "holds no network weights"),
    ("no weight at all", lambda w: checkpoint({}), UNFIT),
    ("heads alone", lambda w: checkpoint({n: v for n, v in w.items() if "seg_layers" in n}), UNFIT),
    ("a deeper network", deeper, UNFIT),
    ("images of two channels", two_channels, UNFIT),
    ("a network of volumes", volumes, UNFIT),
    ("weights that are not finite", not_finite, "not finite"),
]  # fmt: skip


@pytest.mark.parametrize("content, sentence", [line[1:] for line in BAD_WEIGHTS], ids=[line[0] for line in BAD_WEIGHTS])
@pytest.mark.parametrize("outputs", [3, 5])
def test_what_is_no_model_of_nnunet_is_refused(weights, started, tmp_path, content, sentence, outputs):
    path = tmp_path / "model.pth"
    torch.save(content(with_heads(weights, outputs)), path)
    (tmp_path / RAN).unlink(missing_ok=True)
    code, _, err = started(path)
    assert code == 2
    assert err.startswith("Error: ")
    assert err.count("\n") == 1
    assert str(path) in err
    assert sentence in err


def legacy(path: Path, weights) -> None:
    torch.save(checkpoint(weights, more=Program()), path, _use_new_zipfile_serialization=False)


def scripted(path: Path, weights) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)


def cut(path: Path, weights) -> None:
    torch.save(checkpoint(weights), path)
    path.write_bytes(path.read_bytes()[:-1000])


BAD_FILES = [
    ("text", lambda path, w: path.write_text("no checkpoint"), "is broken"),
    ("empty", lambda path, w: path.write_bytes(b""), "is broken"),
    ("zeros", lambda path, w: path.write_bytes(bytes(5000)), "is broken"),
    ("cut", cut, "is broken"),
    ("of another program", scripted, "cannot be read"),
    ("pickle", lambda path, w: path.write_bytes(pickle.dumps(checkpoint({}, more=Program()))), MORE),
    ("old format", legacy, MORE),
    ("not fetched", lambda path, w: path.write_text("version https://git-lfs.github.com/spec/v1\n"), "fetch it"),
    ("folder", lambda path, w: path.mkdir(), "no file"),
    ("nothing", lambda path, w: None, "no file"),
    ("link to nowhere", lambda path, w: path.symlink_to("/nowhere"), "no file"),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning", "error:::nnunet_al")
@pytest.mark.parametrize("write, sentence", [line[1:] for line in BAD_FILES], ids=[line[0] for line in BAD_FILES])
def test_a_file_that_is_none_of_torch(weights, started, tmp_path, write, sentence):
    path = tmp_path / "model.pth"
    write(path, weights)
    (tmp_path / RAN).unlink(missing_ok=True)
    code, _, err = started(path)
    assert code == 2
    assert err.startswith("Error: ")
    assert err.count("\n") == 1
    assert str(path) in err
    assert sentence in err


def test_a_file_that_is_trusted_is_read_whatever_it_holds(weights, started, tmp_path):
    path = tmp_path / "model.pth"
    torch.save(checkpoint(weights, folder=Path("/somewhere")), path)
    assert started(path)[0] == 2
    assert started(path, "--trust_weights")[0] == 0
    assert Decisions.load(campaign_folder(Roots.from_environment()) / "campaign.json").trust_weights
