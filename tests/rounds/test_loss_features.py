"""The parameters of learning loss reach its trainer, and scoring reads the features that the module was trained on."""

from __future__ import annotations

import pytest
import torch
from tiny_rounds import DATASET, run_round

from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.files import read_json
from nnunet_al.nnunet.checkpoints import LEARNING_LOSS_KEY
from nnunet_al.nnunet.trainer_settings import SETTINGS_FILE

pytestmark = pytest.mark.slow


def test_features_and_margin_reach_the_training_and_the_scoring(roots):
    for number in (0, 1):
        options = ("-s", "learning_loss", "-set", "loss_features=encoder", "loss_margin=0.5", "-round", number)
        assert run_round(*options) == 0
    round_ = CampaignFolder.of(roots, DATASET, "2d", "learning_loss", 0, None, 0).round(1)
    settings = read_json(round_.view.preprocessed / DATASET / SETTINGS_FILE)
    assert (settings["loss_features"], settings["loss_margin"]) == ("encoder", 0.5)
    (checkpoint,) = round_.view.results.rglob("checkpoint_final.pth")
    assert torch.load(checkpoint, weights_only=False)[LEARNING_LOSS_KEY]["part"] == "encoder"
    assert len(read_json(round_.batch)["regions"]) == 5
