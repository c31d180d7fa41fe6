"""The diagonal of the Fisher information over regions of several windows, without storing whole gradients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

import numpy as np
import torch

from nnunet_al.scoring.gradients import Visit
from nnunet_al.scoring.tensors import double


class RegionFisher:
    """F_j = 1/n Σ_r m_r (Σ_w g_wj)², w the windows of region r, m_r its multiplicity, n = Σ_r m_r.

    Gradients come in parts (`gradients.visit_gradients`), one kernel offset at a time. Memory holds one part of a
    batch, F, and the gradient of ONE region, the last of a batch, which the next batch may continue. All sums are
    float64.

    Attributes
    ----------
    batches : number of batches that the sums hold
    """

    def __init__(
        self,
        layers: Mapping[str, torch.nn.Module],
        times: Mapping[int, int],
        before: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Start with no region, or with the `sums` that another one had ``before``; ``times`` is m_r of each region."""
        self._layers, self._times = dict(layers), times
        self._squares: dict[str, list[torch.Tensor]] = {name: [] for name in layers}
        self._open_parts: dict[str, list[torch.Tensor]] = {name: [] for name in layers}
        self._open: int | None = None
        self._seen: set[int] = set()
        self.batches = 0
        if before is not None:
            self.batches, self._open = before["batches"].item(), before["open"].item()
            self._seen.update(before["seen_R"].tolist())
            for name, layer in layers.items():
                device = double(layer.weight[:0]).device
                self._squares[name] = list(torch.from_numpy(before[f"squares/{name}"]).to(device))
                self._open_parts[name] = list(torch.from_numpy(before[f"open/{name}"]).to(device))

    def visitor(self, owners: Sequence[int]) -> Visit:
        """Return the function that adds the gradients of the next batch: called once per layer, with parts (B, P, I).

        ``owners`` holds the region of each window, at least one; the windows of a region are consecutive, possibly over
        several batches. Samples beyond ``owners`` (padding of the batch) are left out.
        """
        regions = [owner for owner, _ in groupby(owners)]
        sizes = [len(list(windows)) for _, windows in groupby(owners)]
        before, goes_on = self._open, regions[0] == self._open
        started = regions[goes_on:]
        assert len(started) == len(set(started) - self._seen), "the windows of a region must come one after the other"
        self._seen.update(regions)
        self._open = regions[-1]
        self.batches += 1

        def visit(name: str, parts: Iterator[torch.Tensor]) -> None:
            squares, open_parts = self._squares[name], self._open_parts[name]
            for k, part_B_P_I in enumerate(parts):
                sums_P_I = _sums(double(part_B_P_I[: len(owners)]), sizes)
                if len(squares) == k:
                    squares.append(torch.zeros_like(sums_P_I[0]))
                    open_parts.append(torch.zeros_like(sums_P_I[0]))
                if goes_on:
                    sums_P_I[0] = open_parts[k] + sums_P_I[0]
                elif before is not None:
                    squares[k].addcmul_(open_parts[k], open_parts[k], value=self._times[before])
                for region, sum_P_I in zip(regions[:-1], sums_P_I, strict=False):
                    squares[k].addcmul_(sum_P_I, sum_P_I, value=self._times[region])
                open_parts[k].copy_(sums_P_I[-1])

        return visit

    def sums(self) -> dict[str, np.ndarray]:
        """Return all sums so far, behind a batch that was visited."""
        kept = {"squares": self._squares, "open": self._open_parts}
        parts_of = {f"{kind}/{name}": parts for kind, layers in kept.items() for name, parts in layers.items()}
        arrays = {name: torch.stack(parts).cpu().numpy() for name, parts in parts_of.items()}
        numbers = {"batches": np.array(self.batches), "open": np.array(self._open), "seen_R": np.array([*self._seen])}
        return {**numbers, **arrays}

    def mean(self) -> dict[str, torch.Tensor]:
        """Return F for each layer, float64, of the weight's shape."""
        assert self._open is not None, "no region was added"
        count = sum(self._times[region] for region in self._seen)
        result = {}
        for name, layer in self._layers.items():
            parts = [
                torch.addcmul(square_P_I, open_P_I, open_P_I, value=self._times[self._open]) / count
                for square_P_I, open_P_I in zip(self._squares[name], self._open_parts[name], strict=True)
            ]
            result[name] = torch.stack(parts, 2).unflatten(2, layer.kernel_size)
        return result


def _sums(values_B_P_I: torch.Tensor, sizes: Sequence[int]) -> list[torch.Tensor]:
    """Return sums (P, I) of consecutive samples: of the first ``sizes[0]``, the next ``sizes[1]``, and so on."""
    return [some[0] if len(some) == 1 else some.sum(0) for some in values_B_P_I.split(list(sizes))]
