"""Memory of FLQMI, and the number of rows of its kernel that are kept in memory."""

from __future__ import annotations

from dataclasses import dataclass

from nnunet_al.errors import NotEnoughMemoryError
from nnunet_al.memory import USABLE_SHARE, gigabytes
from nnunet_al.selection.kernel_blocks import BLOCK_ROWS

_KEPT_WHERE_UNKNOWN = 4 << 30
_BYTES_PER_REGION = 128  # bounds, orders, ranks of names
_SCRATCH = 64 << 20


@dataclass(frozen=True)
class KernelPlan:
    """Memory plan of the streaming engine for a kernel of ``rows`` x ``queries``.

    Rows that are not kept in memory are computed again at each request. ``bytes_needed`` does not count the embeddings,
    which stay on disk.
    """

    rows: int
    queries: int
    kept_rows: int
    bytes_needed: int

    @property
    def sentence(self) -> str:
        """The plan in words."""
        kept = "all of its rows" if self.kept_rows == self.rows else f"{self.kept_rows} of its rows"
        return (
            f"the similarity kernel is {self.rows} x {self.queries}: {kept} stay in memory, "
            f"{gigabytes(self.bytes_needed)} in all"
        )


def plan_kernel(rows: int, queries: int, dimensions: int, memory: int | None) -> KernelPlan:
    """Plan to keep as many rows as fit into memory.

    A row takes 4 Q bytes. The queries (4 Q d bytes), two blocks of embeddings and some copies of a block of the kernel
    are always in memory. Of ``memory`` free bytes four fifths are used; None (unknown) keeps at most 4 GiB of rows.

    Raises NotEnoughMemoryError if the queries and one block do not fit.
    """
    # a block of the kernel: as computed, as copied from another device, and twice as rows for the gains
    block = 8 * BLOCK_ROWS * dimensions + 16 * min(BLOCK_ROWS, rows) * queries
    least = 4 * queries * dimensions + block + _BYTES_PER_REGION * rows + _SCRATCH
    if memory is None:
        room = _KEPT_WHERE_UNKNOWN
    else:
        room = int(USABLE_SHARE * memory) - least
        if room < 0:
            raise NotEnoughMemoryError(
                f"Selection from {rows} regions by their similarity to {queries} needs at least "
                f"{gigabytes(least / USABLE_SHARE)} of free memory, and {gigabytes(memory)} are free: give this "
                "process more memory, or start another campaign with -tag and, for example, -set query_size=500 or "
                "-set embedding_size=1000."
            )
    kept = min(rows, room // (4 * max(queries, 1)))
    return KernelPlan(rows, queries, kept, least + 4 * kept * queries)
