"""Count sketch: a seeded random projection to fewer dimensions that preserves inner products in expectation."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 -- torch's own name for it


class CountSketch:
    """A seeded linear map S from `size_in` to `size` numbers: y_j = Σ_{i: h_i = j} s_i x_i.

    The signs s_i = ±1 are independent, so ⟨Sx, Sy⟩ has the expectation ⟨x, y⟩ (Charikar, Chen and Farach-Colton 2002;
    Weinberger et al. 2009, the hashing trick). The buckets h_i are drawn such that their sizes differ by at most one.
    Two entries then share a bucket with a probability p < 1 / size, less than with independent buckets, and the
    variance of ⟨Sx, Sy⟩ is p (Σ_{i≠j} x_i² y_j² + Σ_{i≠j} x_i y_i x_j y_j).

    Where `size_out` >= `size_in` the sketch is the identity: `size` = `size_in` (no zeros are added), inner products
    are exact, and nothing is drawn.

    The result for a sample is bitwise the same in every batch and on every device: sums are taken in pairs in a fixed
    order.
    """

    def __init__(self, size_in: int, size_out: int, rng: np.random.Generator) -> None:
        """Draw signs and buckets of `size_in` entries from `rng`, the generator of this purpose; both sizes >= 1."""
        assert size_in >= 1, size_in
        assert size_out >= 1, size_out
        self.size_in, self.size = size_in, min(size_in, size_out)
        self._bucket_n: npt.NDArray[np.int64] | None = None
        self._sign_n: npt.NDArray[np.int8] | None = None
        if self.size < size_in:
            self._bucket_n = rng.permutation(size_in) % self.size
            self._sign_n = (2 * rng.integers(0, 2, size_in, dtype=np.int8) - 1).astype(np.int8)
        self._prepared: dict[tuple[int, int, int, torch.device], tuple[torch.Tensor, torch.Tensor]] = {}

    def __call__(self, values_B_n: torch.Tensor) -> torch.Tensor:
        """Return the sketch (B, size) of vectors (B, size_in), in their precision and on their device."""
        return self.part(values_B_n, slice(None))

    def part(self, values_B_n: torch.Tensor, entries: slice) -> torch.Tensor:
        """Return the contribution of the entries ``x[:, entries]`` to the sketch of x, (B, size).

        The contributions of disjoint slices that cover all entries add up to the sketch, so that a vector can be
        sketched without being stored as a whole. The index tables of a slice are built once and kept.
        """
        start, stop, step = entries.indices(self.size_in)
        assert values_B_n.shape[1] == len(range(start, stop, step)), (values_B_n.shape, entries)
        if self._bucket_n is None:
            result_B_d = values_B_n.new_zeros(len(values_B_n), self.size)
            result_B_d[:, start:stop:step] = values_B_n
            return result_B_d
        key = (start, stop, step, values_B_n.device)
        if key not in self._prepared:
            self._prepared[key] = self._prepare(start, stop, step, values_B_n.device)
        sign_n, members_m_d = self._prepared[key]
        # A zero is appended, to which the padding of `members_m_d` refers. The samples are the inner axis, because
        # entries are gathered from everywhere: reading a row of samples costs little more than reading one number.
        signed_n_B = F.pad(values_B_n.T * sign_n.unsqueeze(1), (0, 0, 0, 1))
        return _sum_in_pairs(signed_n_B[members_m_d]).T.contiguous()

    def _prepare(self, start: int, stop: int, step: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        assert self._bucket_n is not None
        assert self._sign_n is not None
        entries = slice(start, stop, step)
        members_m_d = bucket_members(self._bucket_n[entries], self.size)
        return torch.from_numpy(self._sign_n[entries].copy()).to(device), torch.from_numpy(members_m_d).to(device)


def bucket_members(bucket_n: npt.NDArray[np.int64], buckets: int) -> npt.NDArray[np.int64]:
    """Return members_m_d: column j lists the entries in bucket j in ascending order, padded with n.

    m is the size of the largest bucket, at least 1.
    """
    counts_d = np.bincount(bucket_n, minlength=buckets)
    order_n = np.argsort(bucket_n, kind="stable")
    rank_n = np.arange(len(bucket_n)) - np.repeat(np.cumsum(counts_d) - counts_d, counts_d)
    members_m_d = np.full((max(1, counts_d.max()), buckets), len(bucket_n), dtype=np.int64)
    members_m_d[rank_n, bucket_n[order_n]] = order_n
    return members_m_d


def _sum_in_pairs(values_m: torch.Tensor) -> torch.Tensor:
    """Return the sum over the first axis, (m, ...) -> (...); `values_m` is overwritten.

    Only element-wise sums are used: their order does not depend on threads, batch size or device, as it may in a
    reduction or a scatter.
    """
    while (size := len(values_m)) > 1:
        half = (size + 1) // 2
        values_m[: size - half] += values_m[half:]
        values_m = values_m[:half]
    return values_m[0]
