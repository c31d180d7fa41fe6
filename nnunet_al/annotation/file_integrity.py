"""Detection of truncated or damaged files that SimpleITK reads without an error."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import BinaryIO

from nnunet_al.files import nifti_is_finite

_CHUNK = 1 << 20
_HEADER_BYTES = 1 << 16


def defect(path: Path) -> str | None:
    """Return the defect of a file that SimpleITK could read (a missing end, or NaN), or None without one.

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
            _check_nrrd(path)
        if ending in (".mha", ".mhd"):
            _check_meta_image(path)
    except (OSError, EOFError, ValueError, zlib.error):  # gzip's and nibabel's own errors are among these
        return "is cut short or damaged"
    return None


def _check_nrrd(path: Path) -> None:
    with path.open("rb") as file:
        encoding = ""
        while (line := file.readline(_HEADER_BYTES)).strip():
            if line.startswith(b"encoding:"):
                encoding = line.partition(b":")[2].strip().lower().decode()
        if encoding in ("gzip", "gz"):
            with gzip.GzipFile(fileobj=file) as data:
                _read_to_its_end(data)


def _check_meta_image(path: Path) -> None:
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        while "ElementDataFile" not in fields:  # by definition the last field
            line = file.readline(_HEADER_BYTES)
            if not line:
                raise EOFError(path)
            key, _, value = line.decode("utf-8", "replace").partition("=")
            fields[key.strip()] = value.strip()
        data = fields["ElementDataFile"]
        if data != "LOCAL" and Path(data).name != data:
            raise ValueError(data)  # its voxels are in another folder and were not returned
        if fields.get("CompressedData", "False").lower() != "true":
            return
        if data == "LOCAL":
            _decompress_to_its_end(file)
            return
    with path.with_name(data).open("rb") as file:
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
