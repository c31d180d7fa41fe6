"""A training that is asked to stop does so where it goes on without loss."""

from __future__ import annotations

import os
import signal

import pytest
import torch
from nnunetv2.run.run_training import maybe_load_checkpoint

from nnunet_al.nnunet.trainer import nnUNetTrainerAL
from nnunet_al.stopping import handling_signals

from .trainings import equal, final_weights, folder_of, make_trainer, read, trained


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    torch.set_num_threads(1)


def asked_in(epoch: int) -> type[nnUNetTrainerAL]:
    """A trainer whose process is asked to stop in the middle of an epoch, and which counts its steps."""

    class Asked(nnUNetTrainerAL):
        steps = 0

        def train_step(self, batch):
            if self.current_epoch == epoch:
                os.kill(os.getpid(), signal.SIGUSR1)
            type(self).steps += 1
            return super().train_step(batch)

    Asked.__name__ = nnUNetTrainerAL.__name__
    return Asked


def test_it_stops_behind_the_epoch_and_goes_on_to_the_same_weights(make_tiny_preprocessed, monkeypatch):
    whole = trained(make_trainer(monkeypatch, make_tiny_preprocessed(), epochs=3))
    tiny = make_tiny_preprocessed()
    stopped = make_trainer(monkeypatch, tiny, asked_in(1), epochs=3)
    with handling_signals(), pytest.raises(KeyboardInterrupt):
        stopped.run_training()
    assert stopped.steps == 4, "two epochs of two steps"
    assert read(folder_of(stopped) / "checkpoint_latest.pth")["current_epoch"] == 2

    resumed = make_trainer(monkeypatch, tiny, epochs=3, continued=True)
    maybe_load_checkpoint(resumed, continue_training=True, validation_only=False)
    with handling_signals():
        trained(resumed)
    assert equal(final_weights(resumed), final_weights(whole))


def test_behind_the_last_epoch_it_ends_as_it_would_have(tiny_preprocessed, monkeypatch):
    trainer = make_trainer(monkeypatch, tiny_preprocessed, asked_in(1), epochs=2)
    with handling_signals():
        trainer.run_training()
    assert read(folder_of(trainer) / "checkpoint_final.pth")["current_epoch"] == 2
    assert not (folder_of(trainer) / "checkpoint_latest.pth").exists()


def test_where_no_checkpoint_is_due_it_goes_on(tiny_preprocessed, monkeypatch):
    trainer = make_trainer(monkeypatch, tiny_preprocessed, asked_in(0), epochs=2, save_every_epoch=False)
    with handling_signals():
        trainer.run_training()
    assert trainer.steps == 4
