from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from nnunetv2.training.loss.compound_losses import DC_and_BCE_loss, DC_and_CE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss

from nnunet_al.scoring.segmentation_loss import segmentation_loss, self_loss

IGNORE = 9
SMOOTH = 1e-5


def _nnunet(logits: torch.Tensor, target: torch.Tensor, counted: torch.Tensor, exclusive: bool) -> torch.Tensor:
    """nnU-Net's own loss, as nnUNetTrainer._build_loss makes it, of a batch of one sample."""
    dice = {"batch_dice": False, "smooth": SMOOTH, "do_bg": not exclusive, "ddp": False}
    if exclusive:
        loss = DC_and_CE_loss(dice, {}, ignore_label=IGNORE, dice_class=MemoryEfficientSoftDiceLoss)
        return loss(logits, torch.where(counted, target, IGNORE).unsqueeze(1).float())
    loss = DC_and_BCE_loss({}, dice, use_ignore_label=True, dice_class=MemoryEfficientSoftDiceLoss)
    return loss(logits, torch.cat([target.float(), (~counted).unsqueeze(1).float()], 1))


def _sample(
    classes: int, dims: int, exclusive: bool, batch: int = 3, dtype: torch.dtype = torch.float32
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(classes + 10 * dims)
    shape = (7, 6, 5)[:dims]
    logits = (3 * torch.randn(batch, classes, *shape, generator=generator, dtype=torch.float64)).to(dtype)
    weight = torch.rand(batch, *shape, generator=generator) * (torch.rand(batch, *shape, generator=generator) > 0.4)
    if exclusive:
        return logits, torch.randint(classes, (batch, *shape), generator=generator), weight
    return logits, (torch.rand(batch, classes, *shape, generator=generator) > 0.6).float(), weight


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("classes,exclusive", [(2, True), (4, True), (1, False), (3, False)])
def test_equal_to_nnunets_loss_of_single_samples(classes: int, exclusive: bool, dims: int) -> None:
    logits, target, weight = _sample(classes, dims, exclusive)
    ours = logits.clone().requires_grad_()
    loss_B = segmentation_loss(ours, target, weight, exclusive)
    # weights of the sum, so that a gradient that went to the wrong sample would show
    factor_B = torch.tensor([1.0, -2.0, 5.0])
    (loss_B * factor_B).sum().backward()
    for b in range(len(logits)):
        alone = logits[b : b + 1].clone().requires_grad_()
        theirs = _nnunet(alone, target[b : b + 1], weight[b : b + 1] > 0, exclusive)
        theirs.backward()
        torch.testing.assert_close(loss_B[b], theirs, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(ours.grad[b] / factor_B[b], alone.grad[0], rtol=1e-4, atol=1e-7)
        assert alone.grad.abs().max() > 1e-4


@pytest.mark.parametrize("exclusive", [True, False])
def test_without_foreground_or_with_nothing_else_it_is_still_nnunets(exclusive: bool) -> None:
    logits, target, weight = _sample(2, 2, exclusive, batch=1)
    for value in (0, 1):
        target = torch.full_like(target, value)
        expected = _nnunet(logits, target, weight > 0, exclusive)
        torch.testing.assert_close(segmentation_loss(logits, target, weight, exclusive)[0], expected)


def test_known_answer_of_exclusive_classes() -> None:
    # background, foreground; three voxels with p(foreground) = 3/4, 1/2, 1/2, of which the last does not count
    logits = torch.tensor([[[0.0, 0.0, 0.0], [math.log(3.0), 0.0, 0.0]]])
    target, weight = torch.tensor([[1, 0, 1]]), torch.tensor([[0.1, 7.0, 0.0]])
    entropy = -(math.log(0.75) + math.log(0.5)) / 2
    dice = (2 * 0.75 + SMOOTH) / (1.25 + 1 + SMOOTH)
    assert segmentation_loss(logits, target, weight).item() == pytest.approx(entropy - dice, rel=1e-6)


def test_known_answer_of_heads() -> None:
    # two heads, one voxel that counts: p = 3/4 with target 1, p = 1/2 with target 0
    logits = torch.tensor([[[math.log(3.0), 5.0], [0.0, 5.0]]])
    target, weight = torch.tensor([[[1.0, 1.0], [0.0, 1.0]]]), torch.tensor([[True, False]])
    entropy = -math.log(0.75) - math.log(0.5)
    dice = ((1.5 + SMOOTH) / (1.75 + SMOOTH) + SMOOTH / (0.5 + SMOOTH)) / 2
    assert segmentation_loss(logits, target, weight, False).item() == pytest.approx(entropy - dice, rel=1e-6)


@pytest.mark.parametrize("exclusive", [True, False])
def test_a_sample_without_counted_voxels_has_no_loss_and_no_gradient(exclusive: bool) -> None:
    logits, target, weight = _sample(3, 2, exclusive)
    weight[1] = 0
    logits.requires_grad_()
    loss_B = segmentation_loss(logits, target, weight, exclusive)
    loss_B.sum().backward()
    assert loss_B[1].item() == 0.0
    assert logits.grad[1].count_nonzero() == 0
    assert loss_B[0] != 0
    assert logits.grad[0].count_nonzero() > 0


@pytest.mark.parametrize("exclusive", [True, False])
def test_what_does_not_count_may_be_anything(exclusive: bool) -> None:
    logits, target, weight = _sample(3, 3, exclusive)
    outside = weight == 0
    wild = logits.masked_fill(outside.unsqueeze(1), math.nan).requires_grad_()
    wild_target = target.masked_fill(outside if exclusive else outside.unsqueeze(1), -1)
    loss_B = segmentation_loss(wild, wild_target, weight, exclusive)
    assert torch.equal(loss_B, segmentation_loss(logits, target, weight, exclusive))
    assert torch.equal(loss_B, segmentation_loss(logits, target, weight > 0, exclusive))
    (gradient,) = torch.autograd.grad(loss_B.sum(), wild)
    assert gradient.isfinite().all()
    assert gradient.movedim(1, -1)[outside].count_nonzero() == 0


@pytest.mark.parametrize("exclusive", [True, False])
def test_samples_do_not_see_each_other(exclusive: bool) -> None:
    logits, target, weight = _sample(3, 2, exclusive, batch=4, dtype=torch.float64)
    whole = segmentation_loss(logits, target, weight, exclusive)
    single = [segmentation_loss(logits[b, None], target[b, None], weight[b, None], exclusive)[0] for b in range(4)]
    assert torch.equal(whole, torch.stack(single))


@pytest.mark.parametrize("exclusive", [True, False])
def test_gradient_equals_finite_differences(exclusive: bool) -> None:
    logits, target, weight = _sample(2, 2, exclusive, batch=2, dtype=torch.float64)
    logits, target, weight = logits[..., :3, :2], target[..., :3, :2], weight[..., :3, :2]
    assert torch.autograd.gradcheck(
        lambda x: segmentation_loss(x, target, weight, exclusive), (logits.clone().requires_grad_(),)
    )


def test_half_precision_is_computed_in_float32() -> None:
    logits, target, weight = _sample(3, 2, True, dtype=torch.float16)
    loss_B = segmentation_loss(logits, target, weight)
    assert loss_B.dtype == torch.float32
    assert torch.equal(loss_B, segmentation_loss(logits.float(), target, weight))


@pytest.mark.parametrize("exclusive", [True, False])
def test_self_loss_takes_the_networks_decision_as_a_constant(exclusive: bool) -> None:
    logits, _, weight = _sample(3, 2, exclusive, dtype=torch.float64)
    decision = F.softmax(logits, 1).argmax(1) if exclusive else (torch.sigmoid(logits) > 0.5).double()
    first, second = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    ours, given = self_loss(first, weight, exclusive), segmentation_loss(second, decision, weight, exclusive)
    assert torch.equal(ours, given)
    ours.sum().backward()
    given.sum().backward()
    assert torch.equal(first.grad, second.grad)


def test_self_loss_has_smaller_gradients_where_the_network_is_sure() -> None:
    logits, _, weight = _sample(3, 2, True)
    sure = (20 * logits).requires_grad_()
    unsure = (0.1 * logits).requires_grad_()
    for values in (sure, unsure):
        self_loss(values, weight).sum().backward()
    assert (sure.grad.flatten(1).norm(dim=1) < 0.1 * unsure.grad.flatten(1).norm(dim=1)).all()
