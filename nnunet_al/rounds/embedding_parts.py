"""The vectors of a shard on disk: an array that grows in place, and a list, written behind it, of its finished rows."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnunet_al.files import storage_errors, write_arrays, write_mapped_array
from nnunet_al.rounds import shards
from nnunet_al.rounds.context import RoundContext


@dataclass(frozen=True)
class Vectors:
    """The content of a shard's files.

    Attributes
    ----------
    numbers_N : region number of each row
    done_N : whether the row is that region's vector by now, by the row's checksum, too
    vectors_N_d : the vectors, float32, on disk
    """

    numbers_N: np.ndarray
    done_N: np.ndarray
    vectors_N_d: np.ndarray

    @property
    def complete(self) -> dict[int, int]:
        """The row of each region whose vector is there."""
        rows = np.flatnonzero(self.done_N)
        return dict(zip(self.numbers_N[rows].tolist(), rows.tolist(), strict=True))


class EmbeddingPart:
    """The vectors of this call's shard, while they come in."""

    def __init__(self, context: RoundContext, numbers: list[int], dimensions: int, made_by: str) -> None:
        """Open the shard's array with a row for each region; rows that earlier calls have written stay or are copied.

        Raises StorageError if the disk cannot hold the array.
        """
        self._list = shards.part_file(context, "embedded", context.options.part)
        self._made_by = made_by
        self.row = {number: row for row, number in enumerate(numbers)}
        self._numbers_N = np.array(numbers, np.int64)
        self._done_N = np.zeros(len(numbers), bool)
        self._crc_N = np.zeros(len(numbers), np.uint32)
        shape = len(numbers), dimensions
        own = read_vectors(self._list, made_by)
        if own is not None and own.vectors_N_d.shape == shape and np.array_equal(own.numbers_N, self._numbers_N):
            self._done_N |= own.done_N
            self._crc_N[:] = row_checksums(own.vectors_N_d, own.done_N)
        else:
            self._list.unlink(missing_ok=True)  # before the array that it speaks of is replaced
            write_mapped_array(array_of(self._list), shape, lambda _: None)
        self.vectors_N_d: np.memmap = np.lib.format.open_memmap(array_of(self._list), "r+")
        self._copy(context)

    @property
    def complete(self) -> list[int]:
        """The regions whose vectors are there."""
        done: list[int] = self._numbers_N[self._done_N].tolist()
        return done

    def mark(self, numbers: Iterable[int]) -> None:
        """Write down that the rows of these regions are right."""
        fresh_N = np.zeros_like(self._done_N)
        fresh_N[[self.row[number] for number in numbers]] = True
        fresh_N &= ~self._done_N
        self._crc_N[fresh_N] = row_checksums(self.vectors_N_d, fresh_N)[fresh_N]
        self._done_N |= fresh_N
        with storage_errors(array_of(self._list)):
            self.vectors_N_d.flush()
        made_by = np.array(self._made_by)
        write_arrays(self._list, numbers_N=self._numbers_N, done_N=self._done_N, crc_N=self._crc_N, made_by=made_by)

    def _copy(self, context: RoundContext) -> None:
        """Copy missing rows from the files of other shards."""
        copied: set[int] = set()
        for path in shards.all_part_files(context, "embedded"):
            missing = self.row.keys() - copied - {*self.complete}
            other = read_vectors(path, self._made_by) if missing else None
            if other is None:
                continue
            for number, row in other.complete.items():
                if number in missing:
                    self.vectors_N_d[self.row[number]] = other.vectors_N_d[row]
                    copied.add(number)
        if copied:
            self.mark(copied)


def read_vectors(path: Path, made_by: str) -> Vectors | None:
    """Return the content of a list and its array; None if one is absent, broken, or not ``made_by`` the same."""
    arrays = shards.read_part(path, made_by)
    if arrays is None:
        return None
    try:
        vectors_N_d = np.load(array_of(path), mmap_mode="r")
    except (OSError, EOFError, ValueError):
        return None
    numbers_N, done_N = arrays["numbers_N"], arrays["done_N"]
    if not len(vectors_N_d) == len(numbers_N) == len(done_N):
        return None
    if "crc_N" in arrays:  # files of earlier versions have none
        done_N = done_N & (row_checksums(vectors_N_d, done_N) == arrays["crc_N"])
    return Vectors(numbers_N, done_N, vectors_N_d)


def row_checksums(vectors_N_d: np.ndarray, wanted_N: np.ndarray) -> np.ndarray:
    """Return the CRC-32 of each row, 0 of those that are not wanted."""
    crc_N = np.zeros(len(vectors_N_d), np.uint32)
    for row in np.flatnonzero(wanted_N):
        crc_N[row] = zlib.crc32(vectors_N_d[row].tobytes())
    return crc_N


def array_of(path: Path) -> Path:
    """Return the file of the vectors that a list speaks of."""
    return path.with_name(path.name.replace("embedded", "embeddings", 1)).with_suffix(".npy")
