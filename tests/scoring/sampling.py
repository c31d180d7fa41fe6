"""The law of every sampler: a window's samples depend neither on its batch nor on earlier calls."""

from __future__ import annotations

import torch

from nnunet_al.scoring.posterior import in_microbatches
from nnunet_al.scoring.samplers import Sampler

_SIZE = 4


def samples_of_each_alone(sampler: Sampler, fresh: Sampler, data_B_C_xyz: torch.Tensor) -> torch.Tensor:
    """Hold the samples of five windows against those in another order and of one window by an equal, unused sampler.

    Returns probs_T_B_C_xyz of all windows.
    """

    def sample(batch: torch.Tensor) -> torch.Tensor:
        return sampler(batch).probs_T_B_C_xyz

    whole = in_microbatches(sample, _SIZE, data_B_C_xyz, batch_axis=1)
    order = torch.tensor([3, 0, 4, 2, 1])
    assert torch.equal(whole[:, order], in_microbatches(sample, _SIZE, data_B_C_xyz[order], batch_axis=1))
    torch.manual_seed(99)
    alone = in_microbatches(lambda batch: fresh(batch).probs_T_B_C_xyz, _SIZE, data_B_C_xyz[3:4], batch_axis=1)
    assert torch.equal(whole[:, 3:4], alone)
    return whole
