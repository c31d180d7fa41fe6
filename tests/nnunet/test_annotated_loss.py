"""The loss without Dice against nnU-Net's own, and trainings with it."""

from __future__ import annotations

import functools
import math
import re
from pathlib import Path

import pytest
import torch
from nnunetv2.training.loss.compound_losses import DC_and_BCE_loss, DC_and_CE_loss

from nnunet_al.nnunet.annotated_loss import CrossEntropy
from nnunet_al.nnunet.no_augmentation_trainer import nnUNetTrainerALNoAugmentation

from .trainings import folder_of, make_trainer, read, trained

DICE = {"batch_dice": False, "smooth": 1e-5, "do_bg": True, "ddp": False}


@pytest.fixture
def trainer_of(monkeypatch):
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    torch.set_num_threads(1)
    return functools.partial(make_trainer, monkeypatch)


@pytest.mark.parametrize("ignore", [None, 3])
def test_of_classes_it_is_nnunets_cross_entropy(ignore):
    logits = torch.randn(2, 3, 5, 4, dtype=torch.float64, requires_grad=True)
    target = torch.randint(0, 3 if ignore is None else 4, (2, 1, 5, 4))
    theirs = DC_and_CE_loss(dict(DICE), {}, weight_dice=0, ignore_label=ignore)(logits, target)
    ours = CrossEntropy(True, ignore)(logits, target)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-12)
    gradients = [torch.autograd.grad(loss, logits)[0] for loss in (ours, theirs)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("ignore", [None, 3])
def test_of_regions_it_is_nnunets_as_a_mean_over_the_regions(ignore):
    logits = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    target = torch.randint(0, 2, (2, 3 if ignore is None else 4, 5, 4)).double()
    theirs = DC_and_BCE_loss({}, dict(DICE), weight_dice=0, use_ignore_label=ignore is not None)(logits, target)
    ours = CrossEntropy(False, ignore)(logits, target)
    assert ours.item() == pytest.approx(theirs.item() / (1 if ignore is None else 3), rel=1e-6)


def test_of_one_class_it_is_binary_cross_entropy_of_the_difference():
    logits, target = torch.randn(2, 2, 6, 6), torch.randint(0, 2, (2, 1, 6, 6))
    difference = logits[:, 1] - logits[:, 0]
    binary = torch.nn.functional.binary_cross_entropy_with_logits(difference, target[:, 0].float())
    assert CrossEntropy(True, None)(logits, target).item() == pytest.approx(binary.item(), rel=1e-6)


@pytest.mark.parametrize("exclusive", [True, False])
def test_a_batch_without_annotated_voxels_has_loss_and_gradient_0(exclusive):
    logits = torch.randn(1, 2, 4, 4, requires_grad=True)
    target = torch.full((1, 1, 4, 4), 2) if exclusive else torch.ones(1, 3, 4, 4)
    loss = CrossEntropy(exclusive, 2)(logits, target)
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


def test_a_training_as_in_paper_1(tiny_preprocessed, trainer_of):
    """Adam with its learning rate, cross-entropy alone, patches that nothing changes."""
    settings = {"optimizer": "adam", "loss": "ce", "epochs": 1}
    trainer = trainer_of(tiny_preprocessed, trainer_class=nnUNetTrainerALNoAugmentation, **settings)
    trainer.initialize()
    assert isinstance(trainer.loss.loss, CrossEntropy)
    (group,) = trainer.optimizer.param_groups
    assert (group["lr"], group["weight_decay"]) == (1e-4, 0)
    training, _ = trainer.get_dataloaders()
    loader = getattr(training, "data_loader", training)
    assert tuple(loader.patch_size) == tuple(loader.final_patch_size) == tuple(trainer.configuration_manager.patch_size)
    kinds = {type(transform).__name__ for transform in loader.transforms.transforms}
    assert not any("Spatial" in kind or "Noise" in kind or "Mirror" in kind for kind in kinds), kinds
    trainer = trained(trainer_of(tiny_preprocessed, trainer_class=nnUNetTrainerALNoAugmentation, **settings))
    checkpoint = read(folder_of(trainer) / "checkpoint_final.pth")
    assert math.isfinite(checkpoint["logging"]["train_losses"][0])
    assert checkpoint["logging"]["train_losses"][0] > 0, "without Dice it cannot be negative"
    assert checkpoint["inference_allowed_mirroring_axes"] is None


def test_the_trainer_in_the_documentation_trains(tiny_preprocessed, trainer_of):
    page = (Path(__file__).parents[2] / "docs" / "extending.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(\"\"\"\$HOME/trainers/.*?)```", page, re.DOTALL)
    names: dict = {"__name__": "nnUNetTrainerALFocal"}
    exec(compile(code, "nnUNetTrainerALFocal.py", "exec"), names)
    trainer = trainer_of(tiny_preprocessed, trainer_class=names["nnUNetTrainerALFocal"], epochs=1)
    trained(trainer)
    assert type(trainer.loss.loss).__name__ == "Focal"
    logits, target = torch.tensor([[[0.0, 30], [0, 0]]]).reshape(1, 2, 2, 1), torch.zeros(1, 1, 2, 1)
    loss = names["Focal"](True, None)(logits, target)
    assert loss.item() == pytest.approx((0.25 * math.log(2) + 0) / 2), "of two voxels one is easy"
