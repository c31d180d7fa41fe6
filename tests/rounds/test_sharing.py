"""Campaigns that differ in the strategy only train their first model once, and end as if each had trained its own."""

from __future__ import annotations

import shutil
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_rounds import DATASET, hurry, only, run_round, snapshot

from nnunet_al.campaign.data import read_data
from nnunet_al.campaign.decisions import Decisions, Options
from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.campaign.progress import FIRST_TRAINING, is_taken_over
from nnunet_al.files import read_json, write_json
from nnunet_al.nnunet.environment import Roots
from nnunet_al.nnunet.trainer_settings import TrainerSettings
from nnunet_al.rounds import sharing
from nnunet_al.rounds.context import RoundContext
from nnunet_al.rounds.run_stages import Stage, run_stages
from nnunet_al.rounds.sharing import first_model, training_inputs
from nnunet_al.rounds.stages import train
from nnunet_al.strategies import catalog

from .kill_lab import kill_at, moments_of

pytestmark = pytest.mark.slow

TRAIN = [Stage("train", "", train.train)]


def campaign_of(roots: Roots, strategy: str) -> CampaignFolder:
    return CampaignFolder.of(roots, DATASET, "2d", strategy, 0, None, 0)


def context_of(roots: Roots, strategy: str, **options: Any) -> RoundContext:
    folder = campaign_of(roots, strategy)
    decided = Decisions.load(folder.decisions)
    wanted = Options(**{"device": "cpu", "workers": 1, "share_first": True, **options})
    return RoundContext(folder, 1, decided, roots, read_data(roots, DATASET, "fold", 1), wanted)


def settings_beside(context: RoundContext) -> TrainerSettings:
    return TrainerSettings.read(context.round.view.preprocessed / DATASET)


def weights(context: RoundContext) -> dict[str, torch.Tensor]:
    return torch.load(context.checkpoint(context.round), weights_only=False)["network_weights"]


def train_round(context: RoundContext) -> None:
    run_stages(TRAIN, context, context.round.stages)


def forget_training(roots: Roots, strategy: str) -> None:
    """Bring round 1 of a campaign back to where its training is about to begin."""
    round_ = campaign_of(roots, strategy).round(1)
    for stage in ("train", "evaluate", "score", "select", "annotate"):
        for marker in round_.stages.glob(f"{stage}*.json"):
            marker.unlink()
    shutil.rmtree(round_.view.results / DATASET, ignore_errors=True)
    (round_.root / FIRST_TRAINING).unlink()


@pytest.fixture(scope="module")
def trained_alone(module_roots) -> Roots:
    """Round 1 of `random`, and of `entropy`, each trained on its own by nnUNetv2_al_round; copy it."""
    for strategy in ("random", "entropy"):
        for number in (0, 1):
            assert run_round("-s", strategy, "-round", number) == 0
    return module_roots


@pytest.fixture
def shared(trained_alone, tmp_path, monkeypatch) -> Roots:
    """`random` with its model, and `entropy` about to train; images and what is preprocessed are the module's."""
    results = tmp_path / "results"
    # the views of rounds name files by where they lay, which is in order: nothing there is changed
    shutil.copytree(trained_alone.results, results, symlinks=True)
    monkeypatch.setenv("nnUNet_results", str(results))
    hurry(monkeypatch.setattr)
    roots = replace(trained_alone, results=results)
    forget_training(roots, "entropy")
    return roots


def test_the_model_taken_over_is_the_one_that_training_gives(trained_alone, shared, capsys):
    alone, context = context_of(trained_alone, "entropy"), context_of(shared, "entropy")
    train_round(context)
    assert "the model of 2d__random__seed0/fold_0 is taken over" in capsys.readouterr().out
    assert context.checkpoint(context.round).samefile(
        (other := context_of(shared, "random")).checkpoint(other.round)
    ), "no second copy of hundreds of megabytes"
    assert is_taken_over(context.round.root)
    assert not is_taken_over(alone.round.root)
    expected, found = weights(alone), weights(context)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)

    # nnU-Net predicts with it: the same files beside it, which name this campaign's own cases
    models = [c.checkpoint(c.round).parents[1] for c in (alone, context)]
    for name in ("plans.json", "dataset_fingerprint.json"):
        assert read_json(models[0] / name) == read_json(models[1] / name)
    theirs, ours = (read_json(model / "dataset.json") for model in models)
    assert "2d__entropy__seed0" in str(ours)
    assert "2d__random__seed0" not in str(ours)
    assert theirs | {"dataset": 0} == ours | {"dataset": 0}


def test_the_round_goes_on_as_if_it_had_trained(trained_alone, shared):
    train_round(context_of(shared, "entropy"))
    assert run_round("-s", "entropy", "-round", 1) == 0
    alone, taken = (campaign_of(roots, "entropy").round(1) for roots in (trained_alone, shared))
    assert read_json(taken.batch) == read_json(alone.batch)
    expected, found = read_json(alone.metrics), read_json(taken.metrics)
    assert found | {"checkpoint": ""} == expected | {"checkpoint": ""}
    assert "2d__entropy__seed0" in found["checkpoint"]


def test_nothing_is_taken_over_where_that_is_not_asked_for(shared):
    context = context_of(shared, "entropy", share_first=False)
    assert not first_model(context, settings_beside(context))
    assert read_json(context.round.root / FIRST_TRAINING)["taken_from"] is None
    assert not context.checkpoint(context.round).exists()


def test_whatever_training_depends_on_keeps_models_apart(shared, tmp_path, monkeypatch):
    """Each line changes one thing and leaves the others; only what no training reads may change."""
    context, other = context_of(shared, "entropy"), context_of(shared, "random")
    settings = settings_beside(context)
    same = training_inputs(other, settings_beside(other))
    assert training_inputs(context, settings) == same

    (start := tmp_path / "start.pth").write_bytes(b"weights")
    otherwise = {
        "epochs": 3, "iterations": 3, "batch_size": 3, "optimizer": "sgd", "learning_rate": 0.5, "seed": 1, "round": 2,
        "initial_weights": str(start), "dropout_p": 0.2, "dropout": "all", "save_every_epoch": False,
        "max_epochs": 7, "precision": "float32", "dropout_of": "elements",
        "loss": "ce", "loss_features": "encoder", "loss_margin": 0.0,
        "initial_heads": "left_out",
    }  # fmt: skip
    assert set(otherwise) == {field.name for field in fields(TrainerSettings)} - {"trust_initial_weights"}
    assert training_inputs(context, replace(settings, trust_initial_weights=True)) == same
    for name, value in otherwise.items():
        assert training_inputs(context, replace(settings, **{name: value})) != same, name
    pretrained = replace(settings, initial_weights=str(start))
    before = training_inputs(context, pretrained)
    start.write_bytes(b"others")
    assert training_inputs(context, pretrained) != before, "the weights that the name stands for"

    for name, value in {"fold": 1, "trainer": "Mine"}.items():
        changed = context_of(shared, "entropy")
        changed.decided = replace(changed.decided, **{name: value})
        assert training_inputs(changed, settings) != same, name
    for name, value in {"tag": "x", "budget": 9, "rounds": 3, "from_scratch": True, "engine": "streaming"}.items():
        changed = context_of(shared, "entropy")
        changed.decided = replace(changed.decided, **{name: value})
        assert training_inputs(changed, settings) == same, name

    assert training_inputs(context_of(shared, "entropy", device="cuda"), settings) != same
    monkeypatch.setenv("nnUNet_n_proc_DA", "4")
    assert training_inputs(context, settings) != same
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")

    folder = context.round.view.preprocessed / DATASET
    case = context.annotated_cases[0]
    record = read_json(folder / "al_preprocessed.json")
    for inner in record.values():
        inner[case] |= {"inputs": "another label"}
    others = {
        "splits_final.json": [{"train": [case], "val": [case]}],
        "dataset.json": read_json(folder / "dataset.json") | {"channel_names": {"0": "CT"}},
        "al_preprocessed.json": record,
        context.plans_file(context.round).name: context.plans | {"transpose_forward": [2, 1, 0]},
    }
    for name, content in others.items():
        whole = read_json(folder / name)
        write_json(folder / name, content)
        assert training_inputs(context_of(shared, "entropy"), settings) != same, name
        write_json(folder / name, whole)
    assert training_inputs(context_of(shared, "entropy"), settings) == same


def test_a_different_initial_batch_is_trained_on(shared):
    """The ledger of the other campaign says so by itself: its labels are not these."""
    for number in (0, 1):
        assert run_round("-s", "bald", "-passes", 2, "-initial", 7, "-round", number) == 0
    forget_training(shared, "bald")
    context = context_of(shared, "bald")
    assert not first_model(context, settings_beside(context))


def test_members_of_an_ensemble_are_not_shared(shared):
    context = context_of(shared, "entropy")
    recipe = catalog.with_parameters(catalog.get("entropy+ensemble"), ensemble_of="folds", members=2)
    context.decided = replace(context.decided, recipe=recipe)
    assert not first_model(context, settings_beside(context))
    assert not (context.round.root / FIRST_TRAINING).exists()


@pytest.mark.parametrize("what", ["marker", "checkpoint", "record"])
def test_a_training_that_is_not_over_or_not_known_is_no_source(shared, what):
    source, context = context_of(shared, "random"), context_of(shared, "entropy")
    files = {
        "marker": source.round.stages / "train.json",
        "checkpoint": source.checkpoint(source.round),
        "record": source.round.root / FIRST_TRAINING,
    }
    if what == "record":
        files[what].write_text('{"inputs"')
    else:
        files[what].unlink()
    assert not first_model(context, settings_beside(context))


def test_a_training_that_began_goes_on_and_is_a_source_only_if_it_goes_on_alike(shared):
    context = context_of(shared, "entropy", share_first=False)
    settings, record = settings_beside(context), context.round.root / FIRST_TRAINING
    assert not first_model(context, settings)
    latest = context.checkpoint(context.round).with_name("checkpoint_latest.pth")
    latest.parent.mkdir(parents=True)
    latest.write_bytes(b"one epoch")
    context = context_of(shared, "entropy")
    assert not first_model(context, settings), "what was trained is not thrown away"
    assert read_json(record)["inputs"] == training_inputs(context, settings)
    context = context_of(shared, "entropy", device="cuda")
    assert not first_model(context, settings)
    assert not record.exists(), "nobody else would train an epoch here and an epoch there"


def test_a_kill_at_any_moment_of_the_take_over(shared, tmp_path):
    """The moments are the changes on disk: the next call ends like one that was never killed."""
    round_ = campaign_of(shared, "entropy").round(1).root
    (kept := tmp_path / "kept").mkdir()
    shutil.copytree(round_, kept / "round", symlinks=True)

    def take_over() -> int:
        train_round(context_of(shared, "entropy"))
        return 0

    moments = moments_of(round_, take_over, tmp_path / "log.txt")
    wanted = without_times(round_)
    assert moments
    for moment in range(moments):
        shutil.rmtree(round_)
        shutil.copytree(kept / "round", round_, symlinks=True)
        kill_at(round_, moment, take_over, tmp_path / "log.txt")
        take_over()
        assert without_times(round_) == wanted, f"moment {moment}"
    assert moment > 10


def without_times(folder: Path) -> dict[str, str]:
    marker = only(folder, "stages/train.json")
    return {path: mark for path, mark in snapshot(folder).items() if path != str(marker)}


def test_the_command_for_one_round_trains_itself(shared, capsys):
    assert run_round("-s", "entropy", "-round", 1) == 0
    assert "taken over" not in capsys.readouterr().out
    assert not is_taken_over(campaign_of(shared, "entropy").round(1).root)


@pytest.mark.parametrize("moment", ["is_file", "link"])
def test_a_model_that_its_campaign_is_just_removing_is_trained_instead(shared, monkeypatch, moment):
    context = context_of(shared, "entropy")
    theirs = context_of(shared, "random")
    folder = theirs.checkpoint(theirs.round).parent

    def remove(*_: Any) -> None:
        for checkpoint in folder.glob("checkpoint_*.pth"):
            checkpoint.unlink()

    if moment == "is_file":
        begin = sharing._take_over
        monkeypatch.setattr(sharing, "_take_over", lambda *some: remove() or begin(*some))
    else:
        link = sharing.link_or_copy
        monkeypatch.setattr(sharing, "link_or_copy", lambda *some: remove() or link(*some))
    assert not first_model(context, settings_beside(context))
    assert not is_taken_over(context.round.root)
    assert not context.checkpoint(context.round).is_file()
    assert read_json(context.round.root / FIRST_TRAINING)["inputs"] == training_inputs(
        context, settings_beside(context)
    )
