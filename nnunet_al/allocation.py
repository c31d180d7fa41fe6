"""Keep freed memory in the C library's allocator for a while instead of returning it to the system."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# numbers of glibc's malloc.h
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_KEEP_BYTES = 1 << 30
_LARGEST_BYTES = 32 << 20  # glibc's own upper limit of the threshold, and the most that older versions accept


@contextmanager
def keeping_memory() -> Iterator[None]:
    """Reuse freed memory inside the ``with`` block; changes no result. These blocks must not be nested.

    The activations of a layer take some MB. By default glibc returns such memory to the system when it is freed, and
    the system clears each page again for the next layer, which can take as long as the convolutions. With another C
    library (musl, macOS, Windows), and for GPU memory, this does nothing. Afterwards allocations of 32 MB and more are
    returned to the system again.
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
