"""Features of a region: the output of the encoder's last stage as a vector."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from nnunet_al.errors import ModelError
from nnunet_al.scoring.dropout import evaluating
from nnunet_al.scoring.sample_products import aligned, sample_products
from nnunet_al.scoring.tensors import at_least_float32


def bottleneck_features(
    network: nn.Module, data_B_C_xyz: torch.Tensor, weight_B_xyz: torch.Tensor, flatten: bool = False
) -> torch.Tensor:
    """Return the output f of the encoder's last stage, ``network.encoder.stages[-1]``, as one vector for each window.

    Core-set (Sener and Savarese, ICLR 2018; features as in USIM, appendix C) compares regions by these vectors.

    * By default (B, d = features): Σ_v w_v f_v. The voxels' weights are resampled to the coarser grid of f by area: a
      voxel's weight goes to the cell that contains it, or is divided among the cells that it overlaps. The sum of the
      weights is kept, so with w = 1 / |V_r| on a region's voxels in view, the sum over the region's windows is the mean
      of f over the region.
    * ``flatten``: the whole map, (B, d = features · its voxels), for pools in which every region is one window (the
      paper's form). The weights are not used.

    Dropout is off, autocast is off, no graph is recorded, and later layers are not computed.

    Parameters
    ----------
    network
        uncompiled. A sample's result must not depend on the other samples of the batch, as with instance norm.
    data_B_C_xyz
        B windows.
    weight_B_xyz
        the voxels' weights; a window without weight gives 0.
    flatten
        return the map itself instead of its weighted sum.

    Returns
    -------
    torch.Tensor
        (B, d) in the precision of the network, at least float32.

    Raises ModelError if the network has no ``encoder.stages`` or does not call them.
    """
    with evaluating(network), torch.no_grad(), torch.autocast(data_B_C_xyz.device.type, enabled=False):
        features_B_F_xyz = at_least_float32(_bottleneck_output(network, data_B_C_xyz))
        if flatten:
            return features_B_F_xyz.flatten(1)
        weight_B_cells = share_by_area(weight_B_xyz.to(features_B_F_xyz.dtype), features_B_F_xyz.shape[2:]).flatten(1)
        return (features_B_F_xyz.flatten(2) * weight_B_cells.unsqueeze(1)).sum(2)


def share_by_area(weight_B_xyz: torch.Tensor, grid: torch.Size) -> torch.Tensor:
    """Return the weights (B, \\*grid) on another grid over the same field of view; each voxel's weight is kept.

    Cell c of n gets from voxel v of m, along each axis, the share of v that [c m / n, (c + 1) m / n] covers.
    """
    for axis, cells in enumerate(grid, start=1):
        voxels = weight_B_xyz.shape[axis]
        # in units of 1 / cells of a voxel both grids have integer borders, so the shares are exact
        voxel_m = torch.arange(voxels, device=weight_B_xyz.device) * cells
        cell_n_1 = torch.arange(cells, device=weight_B_xyz.device).unsqueeze(1) * voxels
        covered_n_m = torch.minimum(voxel_m + cells, cell_n_1 + voxels) - torch.maximum(voxel_m, cell_n_1)
        share_n_m = covered_n_m.clamp_min(0).to(weight_B_xyz.dtype) / cells
        weight_B_rest_m = aligned(weight_B_xyz.movedim(axis, -1))
        share_B_m_n = share_n_m.T.expand(len(weight_B_xyz), voxels, cells)
        shared_B_R_n = sample_products(weight_B_rest_m.flatten(1, -2), share_B_m_n)
        weight_B_xyz = shared_B_R_n.view(*weight_B_rest_m.shape[:-1], cells).movedim(-1, axis)
    return weight_B_xyz


class _StageOutput(Exception):  # noqa: N818 -- not an error: it ends a forward pass early
    """Carries a stage's output out of the network."""

    def __init__(self, output: torch.Tensor) -> None:
        super().__init__()
        self.output = output


def _bottleneck_output(network: nn.Module, data_B_C_xyz: torch.Tensor) -> torch.Tensor:
    try:
        stage = network.encoder.stages[-1]
    except (AttributeError, TypeError, IndexError):
        stage = None
    if isinstance(stage, nn.Module):

        def stop(_stage: nn.Module, _args: tuple[Any, ...], output: torch.Tensor) -> None:
            raise _StageOutput(output)

        handle = stage.register_forward_hook(stop)
        try:
            network(data_B_C_xyz)
        except _StageOutput as stopped:
            return stopped.output
        finally:
            handle.remove()
    raise ModelError(
        f"{type(network).__name__} has no encoder.stages[-1] to take features from: "
        "choose a strategy that needs no features or another network."
    )
