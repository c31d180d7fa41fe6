"""Files that are complete or absent: write to a temporary file in the same folder, fsync, rename."""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import os
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_al.errors import StorageError

_TEMPORARY = re.compile(r"\.(?P<host>.+)-(?P<pid>\d+)\.tmp\.")
_FOREIGN_SECONDS = 24 * 3600
_OUT_OF_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_ADVICE = {  # error number of the system -> advice to the user
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "check its permissions"),
    **dict.fromkeys((errno.ENOENT, errno.ENOTDIR), "there can be no folder for it, so choose another place"),
    **dict.fromkeys(
        (errno.EEXIST, errno.ENOTEMPTY, errno.EISDIR), "something is there, so remove it or choose another"
    ),
    errno.ENAMETOOLONG: "choose a shorter name",
}


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn errors of writing, such as a full disk or a file in the way, into one sentence.

    Raises StorageError naming ``path``, the system's message and the remedy.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _OUT_OF_SPACE:
            raise StorageError(
                f"No space is left to write {path}: free some and run the same command again."
            ) from error
        if error.errno in _ADVICE:
            raise StorageError(f"{path} cannot be written ({error.strerror}): {_ADVICE[error.errno]}.") from error
        raise


def out_of_space(error: BaseException) -> bool:
    """Tell whether a full disk caused an error, also where a library has wrapped or rephrased the system's message."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in _OUT_OF_SPACE:
            return True
        if any(word in str(seen) for word in ("No space left", "PytorchStreamWriter failed writing")):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def temporary_sibling(path: Path) -> Path:
    """Name a temporary file next to ``path`` with the same endings, by which some writers choose the format."""
    return path.with_name(f".{socket.gethostname()}-{os.getpid()}.tmp.{path.name}")


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then put it in place of ``path`` in one step.

    Raises StorageError if the disk is full or the folder cannot be written; an earlier version of ``path`` stays as it
    was.
    """
    temporary = temporary_sibling(path)
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(temporary)
            _sync(temporary)
            put_in_place(temporary, path)
            _sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def put_in_place(temporary: Path, path: Path) -> None:
    """Rename ``temporary`` to ``path``, replacing an existing file.

    Over NFS, a rename whose answer is lost is repeated, and the repetition fails although the first one succeeded.
    """
    identity = temporary.stat()
    try:
        temporary.replace(path)
    except FileNotFoundError:
        if not (path.exists() and os.path.samestat(path.stat(), identity)):
            raise


def write_text(path: Path, text: str) -> None:
    """Write ``text`` in UTF-8, completely or not at all."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as indented JSON, completely or not at all."""
    write_text(path, json.dumps(content, indent=2, sort_keys=False, default=_plain) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Write named arrays as a compressed ``.npz``, completely or not at all."""

    def save(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]

    write_atomically(path, save)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of an ``.npz`` file; pickled objects are refused."""
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def write_table(path: Path, rows: Sequence[Mapping[str, object]], delimiter: str = ",") -> None:
    """Write rows (at least one, all with the same keys) below a header line with the names of the columns."""
    text = io.StringIO()
    table = csv.DictWriter(text, list(rows[0]), delimiter=delimiter, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_text(path, text.getvalue())


def write_mapped_array(path: Path, shape: tuple[int, ...], fill: Callable[[np.ndarray], object]) -> None:
    """Let ``fill`` write a float32 ``.npy`` of ``shape`` through a memory map, completely or not at all.

    Disk space is reserved first where the system supports it: writing through a memory map to a full disk would end the
    process without a message.
    """

    def save(temporary: Path) -> None:
        array = np.lib.format.open_memmap(temporary, "w+", np.float32, shape)
        if hasattr(os, "posix_fallocate"):
            with temporary.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, temporary.stat().st_size)
        fill(array)
        array.flush()

    write_atomically(path, save)


def remove_temporary_files(folder: Path) -> None:
    """Remove the unfinished files of killed processes in ``folder`` and below.

    Files of running processes stay. Files of other hosts, whose processes cannot be checked, stay for a day.
    """
    for leftover in folder.rglob(".*.tmp.*"):
        writer = _TEMPORARY.match(leftover.name)
        if (
            writer is not None
            and leftover.is_file()
            and not _may_be_in_use(leftover, writer["host"], int(writer["pid"]))
        ):
            leftover.unlink(missing_ok=True)


def _may_be_in_use(path: Path, host: str, process: int) -> bool:
    if host == socket.gethostname():
        return process_lives(process)
    try:
        return time.time() - path.stat().st_mtime < _FOREIGN_SECONDS
    except OSError:  # its writer has renamed it meanwhile
        return True


def process_lives(process: int) -> bool:
    """Tell whether another process of this host has this number; our own number counts as that of a former process."""
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def nifti_is_finite(path: Path) -> bool:
    """Read a NIfTI file whole and tell whether all voxels are finite; True for other formats, which are not read.

    SimpleITK fills the missing end of a truncated ``.nii`` or ``.nii.gz`` with arbitrary values, and turns NaN and
    infinity into 0 (seen with 2.5). nibabel notices both; errors of nibabel and gzip are passed on.
    """
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        return True
    import nibabel

    voxels = nibabel.load(path).dataobj.get_unscaled()
    return voxels.dtype.kind in "iu" or bool(np.isfinite(voxels).all())


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def hash_array(array: np.ndarray) -> str:
    """SHA-256 of an array's type, shape and values."""
    digest = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
    digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def hash_json(content: Any) -> str:
    """SHA-256 of a JSON value, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=_plain).encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, (np.integer, np.floating, np.bool_)):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, (Path, os.PathLike)):
        return os.fspath(value)
    raise TypeError(f"{type(value)} does not belong into a JSON file")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:  # some network file systems cannot sync a folder
            raise
    finally:
        os.close(descriptor)
