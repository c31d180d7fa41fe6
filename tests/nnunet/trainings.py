"""Short trainings of the tiny dataset, and a trainer that dies at a chosen moment."""

from __future__ import annotations

from pathlib import Path

import torch

from nnunet_al.nnunet.trainer import nnUNetTrainerAL
from nnunet_al.nnunet.trainer_settings import TrainerSettings

CPU = torch.device("cpu")


def make_trainer(monkeypatch, tiny, trainer_class=nnUNetTrainerAL, continued=False, fold=0, **settings):
    """A trainer in the dataset's own results folder."""
    monkeypatch.setenv("nnUNet_raw", str(tiny.raw))
    monkeypatch.setenv("nnUNet_preprocessed", str(tiny.preprocessed))
    monkeypatch.setenv("nnUNet_results", str(tiny.results))
    settings = {"epochs": 2, "iterations": 2, "seed": 7} | settings
    TrainerSettings(**settings).write(tiny.folder)
    plans = tiny.plans | {"continue_training": continued}
    return trainer_class(plans, tiny.configuration, fold, tiny.dataset_json, CPU)


def folder_of(trainer) -> Path:
    return Path(trainer.output_folder)


def read(path: Path) -> dict:
    return torch.load(path, map_location="cpu", weights_only=False)


def final_weights(trainer) -> dict[str, torch.Tensor]:
    return read(folder_of(trainer) / "checkpoint_final.pth")["network_weights"]


def equal(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def trained(trainer):
    trainer.run_training()
    return trainer


class Killed(BaseException):
    """Stands for a signal: nobody catches it."""


def killed_at(moment: str, epoch: int, trainer_class=nnUNetTrainerAL):
    """A trainer that dies at one moment of one epoch."""

    class Mortal(trainer_class):
        def save_checkpoint(self, filename):
            here = self.current_epoch == epoch
            if here and moment == f"before {Path(filename).stem}":
                raise Killed
            super().save_checkpoint(filename)
            if here and moment == f"after {Path(filename).stem}":
                raise Killed

        def validation_step(self, batch):
            if self.current_epoch == epoch and moment == "in the epoch":
                raise Killed
            return super().validation_step(batch)

    Mortal.__name__ = trainer_class.__name__  # nnU-Net names the output folder by it
    return Mortal
