"""The similarity of the pool to a query set, from gradient embeddings, in fixed blocks of rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

BLOCK_ROWS = 1024
"""Rows per block.

On two cores, blocks of 1024 rows by 2000 to 6600 queries of 10 000 numbers are 2 to 8 % slower than one product of all
rows, blocks of 512 rows about 10 %, of 256 rows 30 %. To compute one row again its whole block is computed; as all its
rows are then used, the number of rows computed again hardly depends on the block's size."""

_READ_ROWS = 128
_ALIGNED_NUMBERS = 16  # 64 bytes: the order of the sums in a product may depend on the alignment
_NORMALISED_ROWS = 8  # few enough for a core's cache; divides _READ_ROWS and BLOCK_ROWS


class KernelBlocks:
    """S_uq = g_u · g_q, or its cosine, for rows u in a given order, as float32 blocks of ``BLOCK_ROWS`` rows.

    The last digits of a matrix product depend on its shape. A block therefore always holds the same rows and is always
    computed whole, from buffers of the same alignment, so that a row has the same value each time.

    Parameters
    ----------
    embeddings_N_d : float array (N, d)
        one embedding per region; may be memory-mapped: blocks are read one after the other, each in ascending order,
        while the previous one is multiplied.
    order_M : int array (M,)
        rows of the kernel as indices into the embeddings.
    query_Q : int array (Q,)
        columns of the kernel as indices into the embeddings.
    cosine : bool
        divide by the norms (USIMC, equation 2 of Föllmer et al. 2024), 0 for a zero embedding; else the plain inner
        product (USIMF, equation 4, for embeddings scaled by (F + λ)^-1/2).
    device : str
        device of the products. The last digits depend on the device and may depend on the number of threads
        (OMP_NUM_THREADS), among which torch divides long sums.
    """

    def __init__(
        self, embeddings_N_d: np.ndarray, order_M: np.ndarray, query_Q: np.ndarray, cosine: bool, device: str = "cpu"
    ) -> None:
        """Read the queries; blocks are read and computed at request."""
        import torch

        self.shape = (len(order_M), len(query_Q))
        self._order_M, self._cosine = order_M, cosine
        self._embeddings_N_d = np.asarray(embeddings_N_d)  # a view: indexing a memmap is slower than copying its row
        self._device = torch.device(device)
        # rows are padded with zeros to multiples of 64 bytes: with another alignment a product may add in another order
        width = -(-embeddings_N_d.shape[1] // _ALIGNED_NUMBERS) * _ALIGNED_NUMBERS
        self._threads = torch.get_num_threads()
        queries_Q_d = torch.zeros((len(query_Q), width), dtype=torch.float32)
        with self._readers() as readers:
            for part in self._read_parts(query_Q, queries_Q_d.numpy(), readers):
                part.result()
        self._queries_Q_d = queries_Q_d.to(self._device)
        self._buffers = [torch.zeros((BLOCK_ROWS, width), dtype=torch.float32) for _ in range(2)]
        self._product = torch.empty((min(BLOCK_ROWS, len(order_M)), len(query_Q)), dtype=torch.float32)

    def __len__(self) -> int:
        """Number of blocks."""
        return -(-self.shape[0] // BLOCK_ROWS)

    def rows(self, block: int) -> np.ndarray:
        """Return the indices of a block's rows."""
        return np.arange(block * BLOCK_ROWS, min((block + 1) * BLOCK_ROWS, self.shape[0]))

    def empty(self, count: int) -> np.ndarray:
        """Return an uninitialised array (count, Q) for rows; one for all rows can be passed to ``compute``."""
        room = np.empty(count * self.shape[1] + _ALIGNED_NUMBERS, dtype=np.float32)
        start = (-room.ctypes.data // room.itemsize) % _ALIGNED_NUMBERS
        return room[start : start + count * self.shape[1]].reshape(count, self.shape[1])

    def compute(self, blocks: Sequence[int], into_M_Q: np.ndarray | None = None) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (number, rows) of blocks.

        Parameters
        ----------
        blocks : sequence of int
            numbers of the blocks.
        into_M_Q : array (M, Q), optional
            from ``empty``; the rows are written into it. Without it, a block is valid until the next one is requested.
        """
        import torch

        with self._readers() as readers:
            ahead = [self._read_ahead(block, turn % 2, readers) for turn, block in enumerate(blocks[:1])]
            for turn, block in enumerate(blocks):
                embeddings_H_d, parts = ahead.pop()
                for part in parts:
                    part.result()
                if turn + 1 < len(blocks):
                    ahead.append(self._read_ahead(blocks[turn + 1], (turn + 1) % 2, readers))
                product = self._product[: len(embeddings_H_d)]
                if into_M_Q is not None:
                    product = torch.from_numpy(into_M_Q[block * BLOCK_ROWS : block * BLOCK_ROWS + len(product)])
                self._multiply(embeddings_H_d, product)
                yield block, product.numpy()

    def _readers(self) -> ThreadPoolExecutor:
        # one reading thread per multiplying thread, so that reading slows all of them equally
        return ThreadPoolExecutor(self._threads)

    def _read_ahead(self, block: int, buffer: int, readers: ThreadPoolExecutor) -> tuple[torch.Tensor, list[Future]]:
        indices = self._order_M[self.rows(block)]
        embeddings_H_d = self._buffers[buffer][: len(indices)]
        return embeddings_H_d, self._read_parts(indices, embeddings_H_d.numpy(), readers)

    def _read_parts(self, indices: np.ndarray, out_H_d: np.ndarray, readers: ThreadPoolExecutor) -> list[Future]:
        places = np.argsort(indices, kind="stable")
        return [
            readers.submit(self._read, indices, places[start : start + _READ_ROWS], out_H_d)
            for start in range(0, len(places), _READ_ROWS)
        ]

    def _read(self, indices: np.ndarray, places: np.ndarray, out_H_d: np.ndarray) -> None:
        """Read the embeddings of ``indices[places]`` into ``out_H_d[places]``, in float32, normalised for a cosine."""
        out_H_d = out_H_d[:, : self._embeddings_N_d.shape[1]]
        if not self._cosine:
            for place, index in zip(places.tolist(), indices[places].tolist(), strict=True):
                out_H_d[place] = self._embeddings_N_d[index]
            return
        # float64, because the square of a small gradient underflows in float32
        tile = np.empty((_NORMALISED_ROWS, out_H_d.shape[1]))
        for start in range(0, len(places), _NORMALISED_ROWS):
            some = places[start : start + _NORMALISED_ROWS].tolist()
            rows = tile[: len(some)]
            for row, index in zip(rows, indices[some].tolist(), strict=True):
                row[:] = self._embeddings_N_d[index]
            norms = np.sqrt(np.einsum("id,id->i", rows, rows))
            norms[norms == 0] = 1
            rows *= 1 / norms[:, None]
            for row, place in zip(rows, some, strict=True):
                out_H_d[place] = row

    def _multiply(self, embeddings_H_d: torch.Tensor, product_H_Q: torch.Tensor) -> None:
        import torch

        with _full_precision():
            if self._device.type == "cpu":
                torch.mm(embeddings_H_d, self._queries_Q_d.T, out=product_H_Q)
            else:
                product_H_Q.copy_(torch.mm(embeddings_H_d.to(self._device), self._queries_Q_d.T))
        if product_H_Q.numel():
            extremes = torch.stack(torch.aminmax(product_H_Q))
            assert bool(torch.isfinite(extremes).all()), "a similarity is not finite"


@contextmanager
def _full_precision() -> Iterator[None]:
    """Multiply float32 in full precision, also where the program has allowed TensorFloat-32 or bfloat16."""
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
