"""Detection of truncated or damaged files that SimpleITK reads without an error."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from nnunet_al.files import nifti_is_finite

_CHUNK = 1 << 20
_HEADER_BYTES = 1 << 16


def defect(path: Path, others: Sequence[Path] = ()) -> str | None:
    """Return the defect of a file that SimpleITK could read (a missing end, or NaN), or None without one.

    ``others`` are the files of its voxels, if they are not in the file itself; see `voxel_files`.

    SimpleITK (seen with 2.5) reads truncated NIfTI files, truncated compressed NRRD files, and damaged compressed
    MetaImage files, and it turns NaN in NIfTI files into 0; it detects truncated raw NRRD and MetaImage files itself.
    The checksum at the end of compressed data shows whether the data are complete.
    """
    ending = path.name.lower().removesuffix(".gz")[-4:]
    try:
        if path.name.lower().endswith(".gz"):
            with gzip.open(path) as file:
                _read_to_its_end(file)
        if not nifti_is_finite(path):
            return "holds values that are not numbers"
        if ending == "nrrd":
            _check_nrrd(path, others)
        if ending in (".mha", ".mhd"):
            _check_meta_image(path, others)
    except (OSError, EOFError, ValueError, zlib.error):  # gzip's and nibabel's own errors are among these
        return "is cut short or damaged"
    return None


def _check_nrrd(path: Path, others: Sequence[Path]) -> None:
    encoding, lines_before = "", 0
    with path.open("rb") as file:
        while (line := file.readline(_HEADER_BYTES)).strip():
            name, _, value = line.partition(b":")
            if name == b"encoding":
                encoding = value.strip().lower().decode()
            if name.lower() in (b"line skip", b"lineskip"):
                lines_before = int(value)
        if encoding not in ("gzip", "gz"):
            return
        if not others:
            _unpack_to_its_end(file, lines_before)
    for other in others:
        with other.open("rb") as file:
            _unpack_to_its_end(file, lines_before)


def _unpack_to_its_end(file: BinaryIO, lines_before: int) -> None:
    for _ in range(lines_before):
        file.readline()
    with gzip.GzipFile(fileobj=file) as data:
        if not data.read(1):
            raise EOFError
        _read_to_its_end(data)


def _check_meta_image(path: Path, others: Sequence[Path]) -> None:
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        while "ElementDataFile" not in fields:  # by definition the last field
            line = file.readline(_HEADER_BYTES)
            if not line:
                raise EOFError(path)
            key, _, value = line.decode("utf-8", "replace").replace(":", "=", 1).partition("=")
            fields[key.strip()] = value.strip()
        if fields.get("CompressedData", "False").lower() != "true":
            return
        if not others:
            _decompress_to_its_end(file)
    for other in others:
        with other.open("rb") as file:
            _decompress_to_its_end(file)


def _read_to_its_end(file: gzip.GzipFile) -> None:
    while file.read(_CHUNK):
        pass


def _decompress_to_its_end(file: BinaryIO) -> None:
    data = zlib.decompressobj()
    while not data.eof:
        part = file.read(_CHUNK)
        if not part:
            raise EOFError
        while part and not data.eof:
            data.decompress(part, _CHUNK)
            part = data.unconsumed_tail
