from __future__ import annotations

import subprocess
import sys

import pytest

from nnunet_al.errors import SetupError
from nnunet_al.nnunet.trainer_settings import SETTINGS_FILE, TrainerSettings


def test_a_folder_without_settings_means_nnunets_defaults(tmp_path):
    settings = TrainerSettings.read(tmp_path)
    assert (settings.epochs, settings.iterations, settings.validation_iterations) == (1000, 250, 50)
    assert (settings.optimizer, settings.initial_learning_rate, settings.weight_decay) == ("sgd", 1e-2, 3e-5)
    assert settings.batch_size is settings.seed is settings.initial_weights is None


def test_what_is_written_is_read_again(tmp_path):
    settings = TrainerSettings(
        epochs=3, iterations=7, batch_size=4, optimizer="adamw", seed=5, round=2, initial_weights="a.pth", dropout="all"
    )
    assert settings.write(tmp_path) == tmp_path / SETTINGS_FILE
    assert TrainerSettings.read(tmp_path) == settings
    assert settings.initial_learning_rate == 1e-3


@pytest.mark.parametrize("iterations,steps", [(1, 1), (4, 1), (5, 1), (10, 2), (250, 50)])
def test_a_fifth_as_many_validation_steps_but_never_none(iterations, steps):
    assert TrainerSettings(iterations=iterations).validation_iterations == steps


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"epochs": None},
        {"iterations": 2.5},
        {"batch_size": -1},
        {"batch_size": True},
        {"learning_rate": 0},
        {"optimizer": "lion"},
        {"loss": "dice"},
        {"dropout": "encoder"},
        {"dropout_p": 1.0},
        {"dropout_of": "voxels"},
        {"loss_features": "bottleneck"},
        {"loss_margin": -1},
        {"epoch": 3},
    ],
)
def test_values_that_cannot_be_used_are_named(wrong):
    with pytest.raises(SetupError, match=next(iter(wrong))):
        TrainerSettings.from_json(wrong)


@pytest.mark.parametrize("text", ["{", "[1, 2]", '{"epochs": "many"}', '"text"'])
def test_a_broken_file_is_named(tmp_path, text):
    (tmp_path / SETTINGS_FILE).write_text(text)
    with pytest.raises(SetupError, match=SETTINGS_FILE):
        TrainerSettings.read(tmp_path)


def test_the_settings_do_not_load_torch():
    code = "import sys, nnunet_al.nnunet.trainer_settings; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
