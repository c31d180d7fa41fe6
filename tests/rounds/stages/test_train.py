"""The settings that a round's training gets, without any training."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.campaign.request import Request
from nnunet_al.nnunet.trainer_settings import TrainerSettings
from nnunet_al.rounds.stages import train

DATASET = "Dataset501_X"


@pytest.fixture
def settings_of(tmp_path, monkeypatch):
    """From a round and options to the settings that its trainer finds; every checkpoint before is there."""
    monkeypatch.setattr(train, "first_model", lambda context, settings: True)
    weights = tmp_path / "checkpoint.pth"
    weights.touch()

    def of(number: int, **asked: Any) -> TrainerSettings:
        folder = CampaignFolder(tmp_path)
        context: Any = SimpleNamespace(
            number=number,
            decided=Request(DATASET, "2d", 0, 0, None, "random", **asked).decide(),
            round=folder.round(number),
            previous=folder.round(number - 1) if number else None,
            checkpoint=lambda round_, fold: weights,
        )
        train._train_fold(context, 0, "train")
        return TrainerSettings.read(folder.round(number).view.preprocessed / DATASET)

    return of


@pytest.mark.parametrize(
    "number, asked, epochs",
    [
        (1, {"epochs": 8}, 8),
        (2, {"epochs": 8}, 8),
        (1, {"epochs": 8, "fine_tuning_epochs": 3}, 8),
        (2, {"epochs": 8, "fine_tuning_epochs": 3}, 3),
        (5, {"epochs": "auto", "fine_tuning_epochs": 3}, 3),
        (2, {"epochs": 8, "fine_tuning_epochs": "auto"}, "auto"),
    ],
)
def test_rounds_that_go_on_may_have_epochs_of_their_own(settings_of, number, asked, epochs):
    found = settings_of(number, **asked)
    assert found.epochs == epochs
    assert (found.initial_weights is None) == (number == 1)


def test_a_round_from_scratch_has_the_epochs_of_the_first(settings_of):
    assert settings_of(3, epochs=8, from_scratch=True).initial_weights is None
    assert settings_of(3, epochs=8, from_scratch=True).epochs == 8
