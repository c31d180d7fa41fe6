"""The C library's allocator, told to keep for a while what it has got from the system."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# numbers of glibc's malloc.h
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_KEEP_BYTES = 1 << 30
_LARGEST_BYTES = 32 << 20  # what glibc itself lets the threshold grow to, and the most that older versions accept


@contextmanager
def keeping_memory() -> Iterator[None]:
    """Keep freed blocks of memory for the next ones within the block; changes no result. Blocks must not be nested.

    A layer's activations take some MB. glibc fetches such blocks from the system, returns them when they are free, and
    the system clears each page anew for the next layer, which can take as long as the convolutions. Elsewhere (musl,
    macOS, Windows), and for memory of a GPU, this does nothing. Afterwards blocks of 32 MB and more are returned.
    """
    library = _glibc()
    if library is None:
        yield
        return
    library.mallopt(_M_MMAP_THRESHOLD, _KEEP_BYTES) or library.mallopt(_M_MMAP_THRESHOLD, _LARGEST_BYTES)
    library.mallopt(_M_TRIM_THRESHOLD, _KEEP_BYTES)
    try:
        yield
    finally:
        library.mallopt(_M_MMAP_THRESHOLD, _LARGEST_BYTES)
        library.mallopt(_M_TRIM_THRESHOLD, 2 * _LARGEST_BYTES)
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018 -- raises where the C library is another one
    except (OSError, AttributeError):
        return None
    return library
