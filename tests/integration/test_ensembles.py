"""Ensembles: the models of the last rounds, or members that a round trains on folds of its annotated cases."""

from __future__ import annotations

import pytest
import torch

from nnunet_al.files import read_json
from nnunet_al.rounds.posterior import ensemble_checkpoints, make_sampler
from nnunet_al.rounds.round_model import load_round_model
from nnunet_al.scoring.samplers import DropoutSampler, EnsembleSampler

from .campaigns import DATASET, equal_weights, weights

pytestmark = pytest.mark.slow


def samples(lab, context) -> torch.Tensor:
    with lab.at_work():
        plan, network, device = load_round_model(context, context.checkpoint(context.round))
        sampler = make_sampler(context, plan, network, device)
        torch.manual_seed(0)
        return sampler, sampler(torch.randn(2, 1, *plan.patch_size)).probs_T_B_C_xyz


def test_the_last_rounds_are_the_members(fresh_lab):
    campaign = fresh_lab.start("2d", "ensemble", "-initial", "12", "-b", "5", "-set", "members=2", rounds=2)
    first, second = fresh_lab.context(campaign, 1), fresh_lab.context(campaign, 2)
    assert isinstance(samples(fresh_lab, first)[0], DropoutSampler), "one model is no ensemble yet"
    sampler, probs_T_B_C_xyz = samples(fresh_lab, second)
    assert isinstance(sampler, EnsembleSampler)
    assert len(probs_T_B_C_xyz) == 2
    assert not torch.equal(probs_T_B_C_xyz[0], probs_T_B_C_xyz[1])
    assert ensemble_checkpoints(second) == [second.checkpoint(campaign.round(number)) for number in (1, 2)]

    for number in (3, 4):
        assert fresh_lab.round("2d", "ensemble", "-round", str(number), "-keep", "last") == 0, "a member was removed"
    left = [number for number in (1, 2, 3, 4) if first.checkpoint(campaign.round(number)).is_file()]
    assert left == [4], "no later ensemble asks for the others"


def test_folds_are_trained_beside_the_rounds_own_model_and_go_on_from_each_other(fresh_lab):
    folds = ("-initial", "12", "-b", "5", "-set", "ensemble_of=folds", "members=2")
    campaign = fresh_lab.start("2d", "bald+ensemble", *folds, rounds=2)
    for number in (1, 2):
        context = fresh_lab.context(campaign, number)
        splits = read_json(context.round.view.preprocessed / DATASET / "splits_final.json")
        assert len(splits) == 3
        assert splits[0]["train"] == context.annotated_cases
        for split in splits[1:]:
            assert sorted(split["train"] + split["val"]) == context.annotated_cases
        members = ensemble_checkpoints(context)
        assert [member.parent.name for member in members] == ["fold_1", "fold_2"]
        own, *others = (weights(path) for path in (context.checkpoint(context.round), *members))
        assert not any(equal_weights(own, other) for other in others)
        assert not equal_weights(*others)
        sampler, probs_T_B_C_xyz = samples(fresh_lab, context)
        assert isinstance(sampler, EnsembleSampler)
        assert len(probs_T_B_C_xyz) == 2
    before = fresh_lab.context(campaign, 1)
    for member, earlier in zip(members, ensemble_checkpoints(before), strict=True):
        (log,) = member.parent.glob("training_log_*.txt")
        assert f"Starting from the weights of {earlier}" in log.read_text()
    settings = read_json(context.round.view.preprocessed / DATASET / "nnUNetTrainerAL.json")
    assert settings["initial_weights"] == str(before.checkpoint(before.round)), "stock nnU-Net would train the model"


def test_a_member_that_is_gone_is_named(fresh_lab, capsys):
    campaign = fresh_lab.start("2d", "ensemble", "-initial", "12", "-b", "5")
    context = fresh_lab.context(campaign, 1)
    assert fresh_lab.round("2d", "ensemble", "-round", "2", "-num_parts", "2", "-part_id", "0") == 0
    context.checkpoint(campaign.round(1)).unlink()
    assert fresh_lab.round("2d", "ensemble", "-round", "2", "-num_parts", "2", "-part_id", "1") == 2
    assert str(context.checkpoint(campaign.round(1))) in capsys.readouterr().err
