"""From round to round: which weights a training starts from, what the plans keep, which checkpoints stay."""

from __future__ import annotations

import pytest
import torch

from nnunet_al.campaign.stage_markers import mark_anew
from nnunet_al.files import read_json
from nnunet_al.nnunet.environment import Roots
from nnunet_al.nnunet.trainer import nnUNetTrainerAL
from nnunet_al.rounds.stages import select
from nnunet_al.strategies.select import Moment, select_batch

from .campaigns import DATASET, SIZES, Lab, equal_weights, weights

pytestmark = pytest.mark.slow

_INTENSITIES = "foreground_intensity_properties_per_channel"
_RANDOM = ("-initial", "12", "-b", "12")


@pytest.fixture
def starts(monkeypatch) -> list[dict[str, torch.Tensor]]:
    """The weights that each training begins with, with the number of parameters that its optimiser remembers."""
    seen = []
    begin = nnUNetTrainerAL.on_train_start

    def spy(self):
        begin(self)
        seen.append({name: value.clone() for name, value in self.network.state_dict().items()})
        assert not self.optimizer.state, "the optimiser is fresh"

    monkeypatch.setattr(nnUNetTrainerAL, "on_train_start", spy)
    return seen


def final(lab: Lab, campaign, number: int):
    return lab.context(campaign, number).checkpoint(campaign.round(number))


@pytest.mark.parametrize("configuration", ["2d", "3d_fullres"])
def test_a_round_goes_on_with_every_weight_of_the_one_before(fresh_lab, starts, configuration):
    campaign = fresh_lab.start(configuration, "random", "-initial", "3", "-b", "2", "-unit", "slice", rounds=2)
    assert len(starts) == 2
    trained = weights(final(fresh_lab, campaign, 1))
    assert any("seg_layers" in name for name in trained)
    assert equal_weights(starts[1], trained)
    assert not equal_weights(starts[0], trained)


def test_from_scratch_each_round_starts_anew(fresh_lab, starts):
    campaign = fresh_lab.start("2d", "random", *_RANDOM, "--from_scratch", rounds=2)
    trained = weights(final(fresh_lab, campaign, 1))
    assert not any(torch.equal(starts[1][name], trained[name]) for name in trained if name.endswith("conv.weight"))


def test_round_1_starts_from_given_weights(trained, fresh_lab, starts):
    base, source = trained("2d", "patch")
    given = final(base, source, 1)
    fresh_lab.start("2d", "random", *_RANDOM, "-pretrained_weights", str(given))
    assert equal_weights(starts[-1], weights(given))  # earlier ones are of the campaign that it was given by


def test_weights_of_another_network_are_refused(trained, fresh_lab, tmp_path, capsys):
    base, source = trained("3d_fullres", "patch")
    broken = tmp_path / "broken.pth"
    broken.write_bytes(b"no checkpoint")
    before = sorted(fresh_lab.roots.results.rglob("*"))
    for wrong in (final(base, source, 1), broken):
        with_it = ("-pretrained_weights", str(wrong))
        assert fresh_lab.round("2d", "random", *_RANDOM, *with_it) == 2
        error = capsys.readouterr().err
        assert str(wrong) in error
        assert "Traceback" not in error
    assert sorted(fresh_lab.roots.results.rglob("*")) == before


def test_every_round_plans_anew_and_writes_down_what_it_did_not_take(trained):
    _, campaign = trained("2d", "patch")
    differences = read_json(campaign.round(1).root / "plan_diff.json")
    assert isinstance(differences, list)
    assert all(set(difference) == {"path", "pinned", "fresh"} for difference in differences)
    plans = [read_json(view.preprocessed / DATASET / "nnUNetPlans.json") for view in views(campaign)]
    for plan in plans:
        plan.pop(_INTENSITIES)
    assert plans[0] == plans[1]


def test_a_training_says_how_large_its_network_is_and_where_it_ran(trained):
    """A checkpoint names shared modules several times; each storage counts once."""
    lab, campaign = trained("2d", "patch")
    found = read_json(campaign.round(1).network)
    kept = {w.data_ptr(): w.numel() for w in weights(final(lab, campaign, 1)).values()}
    learning_loss = [w.numel() for name, w in weights(final(lab, campaign, 1)).items() if "loss_module" in name]
    assert found["parameters"] == sum(kept.values()) - sum(learning_loss)
    assert found["device"].startswith("cpu")
    assert found["gpus"] == 1


def views(campaign) -> list[Roots]:
    return [campaign.prepared.view, campaign.round(1).view]


@pytest.mark.parametrize("update", [False, True])
def test_intensities_stay_or_follow_the_annotations(ct_lab, tmp_path, update):
    lab = ct_lab.with_results(tmp_path / "results")
    option = ("--update_intensities",) if update else ()
    campaign = lab.start("2d", "random", "-initial", "40", "-b", "40", *option, rounds=2)
    folders = [campaign.round(number).view.preprocessed / DATASET for number in (1, 2)]
    planned = [read_json(folder / "nnUNetPlans.json")[_INTENSITIES] for folder in folders]
    measured = [read_json(folder / "dataset_fingerprint.json")[_INTENSITIES] for folder in folders]
    assert measured[0] != measured[1], "the second batch has shown something new"
    assert planned == [measured[0], measured[1] if update else measured[0]]
    images = [{path.name: path.resolve().name for path in (f / "nnUNetPlans_2d").glob("*[!g].b2nd")} for f in folders]
    shared = images[0].keys() & images[1].keys()
    assert shared
    assert all((images[0][name] != images[1][name]) == update for name in shared)
    different = {d["path"].partition("/")[0] for d in read_json(campaign.round(2).root / "plan_diff.json")}
    assert (_INTENSITIES in different) == (not update)


@pytest.fixture(scope="session")
def ct_lab(tmp_path_factory) -> Lab:
    return Lab.of_phantoms(tmp_path_factory.mktemp("ct"), cases=6, modality="CT")


def test_keep_last_removes_older_checkpoints(fresh_lab):
    campaign = fresh_lab.start("2d", "random", *_RANDOM, rounds=1)
    first = final(fresh_lab, campaign, 1)
    assert fresh_lab.round("2d", "random", "-keep", "last") == 0
    assert not list(first.parent.glob("*.pth"))
    assert final(fresh_lab, campaign, 2).is_file()
    assert (first.parent / "debug.json").is_file(), "only checkpoints go"
    assert fresh_lab.round("2d", "random", "-keep", "last") == 0
    assert final(fresh_lab, campaign, 3).is_file()


def test_the_test_set_may_be_images_of_their_own(fresh_lab):
    initial, budget = SIZES["case"]
    sizes = ("-unit", "case", "-initial", str(initial), "-b", str(budget))
    campaign = fresh_lab.start("2d", "entropy", "-test", "ts", *sizes)
    decided = read_json(campaign.decisions)
    assert decided["test_cases"] == ["phantom_test_000", "phantom_test_001"]
    assert len(decided["pool_cases"]) == 6
    metrics = read_json(campaign.round(1).metrics)
    assert list(metrics["cases"]) == decided["test_cases"]
    assert {region["case"] for region in read_json(campaign.round(1).batch)["regions"]} <= set(decided["pool_cases"])


def test_a_lost_checkpoint_is_trained_again_as_the_sentence_says(fresh_lab, capsys):
    campaign = fresh_lab.start("2d", "random", *_RANDOM)
    lost = final(fresh_lab, campaign, 1)
    before = weights(lost)
    for file in lost.parent.glob("checkpoint_*.pth"):
        file.unlink()
    assert fresh_lab.round("2d", "random") == 2
    sentence = capsys.readouterr().err
    assert str(lost) in sentence
    stages = campaign.round(1).stages
    assert str(stages) in sentence
    for name in ("train.json", "annotate.json"):
        assert name in sentence
        (stages / name).unlink()
    assert fresh_lab.round("2d", "random", "-round", "1") == 0
    assert equal_weights(weights(lost), before)
    assert fresh_lab.round("2d", "random", "-round", "2") == 0


def test_a_diverged_model_is_named(fresh_lab, capsys):
    campaign = fresh_lab.start("2d", "core_set", *_RANDOM)
    path = final(fresh_lab, campaign, 1)
    content = torch.load(path, weights_only=False)
    next(iter(content["network_weights"].values())).fill_(float("nan"))
    torch.save(content, path)
    mark_anew(campaign.round(1).stages, "train")
    for stage in ("score", "annotate"):
        for marker in campaign.round(1).stages.glob(f"{stage}*.json"):
            marker.unlink()
    assert fresh_lab.round("2d", "core_set", "-round", "1") == 2
    assert f"The weights of {path} are not finite" in capsys.readouterr().err


def test_schedules_are_told_the_round_and_the_plan(fresh_lab, monkeypatch):
    moments = []

    def spy(recipe, candidates, budget, rngs, engine, moment, resources):
        moments.append(moment)
        return select_batch(recipe, candidates, budget, rngs, engine, moment, resources)

    monkeypatch.setattr(select, "select_batch", spy)
    fresh_lab.start("2d", "random", *_RANDOM, "-rounds", "7", rounds=2)
    assert moments == [Moment(1, 7), Moment(2, 7)]
