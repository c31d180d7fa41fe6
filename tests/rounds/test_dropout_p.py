"""The dropout probability of a campaign: in its training, in the sub-networks that score, and in older campaigns."""

from __future__ import annotations

import pytest
from tiny_rounds import DATASET, run_round

from nnunet_al.campaign.decisions import Decisions
from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.campaign.progress import FIRST_TRAINING
from nnunet_al.files import read_json, write_json
from nnunet_al.nnunet.trainer import nnUNetTrainerAL
from nnunet_al.nnunet.trainer_settings import SETTINGS_FILE
from nnunet_al.rounds import posterior
from nnunet_al.scoring.dropout import dropout_layers
from nnunet_al.scoring.samplers import DropoutSampler

pytestmark = pytest.mark.slow
BALD = ("-s", "bald", "-passes", "2")


@pytest.fixture
def seen(monkeypatch) -> dict[str, set[tuple[float, str]]]:
    """Probability and kind of all dropout layers of each network that is trained, and of each that is sampled."""
    found: dict[str, set[tuple[float, str]]] = {"trained": set(), "sampled": set()}
    train = nnUNetTrainerAL.on_epoch_start

    def on_epoch_start(trainer):
        found["trained"] |= {(layer.p, layer.of) for layer in dropout_layers(trainer.network)}
        train(trainer)

    def sampler(network, *others):
        found["sampled"] |= {(layer.p, layer.of) for layer in dropout_layers(network)}
        return DropoutSampler(network, *others)

    monkeypatch.setattr(nnUNetTrainerAL, "on_epoch_start", on_epoch_start)
    monkeypatch.setattr(posterior, "DropoutSampler", sampler)
    return found


def campaign(roots) -> CampaignFolder:
    return CampaignFolder.of(roots, DATASET, "2d", "bald", 0, None, 0)


@pytest.mark.parametrize("strategy", [BALD, ("-s", "ensemble")])
def test_it_reaches_the_trained_network_and_the_sampled_ones_and_holds(roots, seen, capsys, strategy):
    for number in (0, 1):
        assert run_round(*strategy, "-dropout_p", 0.4, "-dropout_of", "elements", "-round", number) == 0
    assert seen == {"trained": {(0.4, "elements")}, "sampled": {(0.4, "elements")}}
    if strategy == BALD:
        assert run_round(*strategy, "-round", 2) == 0, "left out, it holds"
        assert seen == {"trained": {(0.4, "elements")}, "sampled": {(0.4, "elements")}}
    assert run_round(*strategy, "-dropout_p", 0.2) == 2
    assert "-dropout_p 0.2 (started with 0.4)" in capsys.readouterr().err


def test_a_campaign_from_before_there_was_a_choice_goes_on_and_trains_nothing_again(roots, seen):
    for number in (0, 1):
        assert run_round(*BALD, "-round", number) == 0
    assert seen == {"trained": {(0.1, "channels")}, "sampled": {(0.1, "channels")}}
    folder = campaign(roots)
    content = read_json(folder.decisions)
    assert (content.pop("dropout_p"), content.pop("dropout_of")) == (0.1, "channels")
    write_json(folder.decisions, content)
    assert Decisions.load(folder.decisions).dropout_p == 0.1
    round_ = folder.round(1)
    files = [round_.view.preprocessed / DATASET / SETTINGS_FILE, round_.root / FIRST_TRAINING]
    before = [read_json(file) for file in files]
    assert before[0]["dropout_p"] == 0.1
    (round_.stages / "train.json").unlink()
    seen["trained"].clear()
    assert run_round(*BALD, "-round", 1) == 0
    assert [read_json(file) for file in files] == before
    assert not seen["trained"]
