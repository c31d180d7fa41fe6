"""Reading and writing of segmentation files of 3D Slicer and ITK-SNAP."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK

from nnunet_al.annotation.file_integrity import defect
from nnunet_al.annotation.grids import Grid, check_fit
from nnunet_al.annotation.segment_header import case_tag, cases_in, header_of, names_in, short_tag, short_tag_in
from nnunet_al.annotation.segments import Segment, read_label_file
from nnunet_al.annotation.voxel_files import VoxelFiles, voxel_files
from nnunet_al.errors import ReturnError, StorageError
from nnunet_al.files import write_atomically

ENDINGS = (".seg.nrrd", ".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")
"""Endings of files that readers may return; the first match is a file's ending."""

_TABLES = (".label", ".ctbl", "_ColorTable.ctbl", ".txt", "_ColorTable.txt", ".csv", "_ColorTable.csv")
# by the end of the name: a file with the ending of another format would otherwise avoid the checks of its format
_IMAGE_IO = {"nrrd": "NrrdImageIO", ".nii": "NiftiImageIO", ".mha": "MetaImageIO", ".mhd": "MetaImageIO"}
_LABEL_TABLES_ONLY = (".label", ".ctbl")
_DESCRIPTION = "ITK_FileNotes"  # NIfTI's descrip, which SimpleITK writes under this name
_DESCRIPTION_BYTES = 79
_AUXILIARY = "aux_file"  # another text in NIfTI's header, which programs keep that write their own description
_INT32 = np.iinfo(np.int32)


@dataclass(frozen=True)
class SegmentationFile:
    """The content of a segmentation file.

    Attributes
    ----------
    layers : 3D images of integers on one grid; segments of different layers may overlap
    names : (layer, value) -> segment name; None if neither the file nor a label table beside it has names
    case : the case in the tag of this package, if the file still has it
    may_be_cropped : whether the file may cover only a part of the image or extend beyond it (``.seg.nrrd``)
    table : the label table beside the file with the ``names``; None if they are in the file itself
    """

    layers: tuple[SimpleITK.Image, ...]
    names: Mapping[tuple[int, int], str] | None
    case: str | None
    may_be_cropped: bool
    table: Path | None = None


@dataclass(frozen=True)
class SegmentationHeader:
    """What a segmentation file says of itself.

    Attributes
    ----------
    files : the file, and those that hold its voxels
    grid : its voxel grid
    names, case : as in `SegmentationFile`, but for names in a label table
    short_tag : the case's tag as a hash, see `short_tag`, if the file still has it
    """

    files: VoxelFiles
    grid: Grid
    names: Mapping[tuple[int, int], str] | None
    case: str | None
    short_tag: str | None


def stem_of(path: Path) -> str | None:
    """Return the file's name without its ending; None if the ending is not one of `ENDINGS`."""
    for ending in ENDINGS:
        if path.name.lower().endswith(ending):
            return path.name[: -len(ending)]
    return None


def read_segmentation(path: Path, grid: Grid | None = None) -> SegmentationFile:
    """Read a returned segmentation file, first its header: voxels that are of no use are not read.

    NIfTI and MetaImage files have no segment names; they are read from a label table beside the file: ``<stem>.label``,
    ``.txt``, ``.ctbl`` or ``.csv``, with or without ``_ColorTable`` before the dot, else ``labels.txt``. A ``.txt`` or
    ``.csv`` file that is not a label table is ignored. ``grid`` is that of the image on which it was to be drawn.

    Raises ReturnError if the file is missing, unreadable or cut short, does not hold one 3D volume of integers,
    contradicts itself, lacks a file of its voxels, or is not on ``grid``.
    """
    header = read_header(path)
    is_named = header.names is not None
    if grid is not None:
        try:
            check_fit(header.grid, grid, may_be_cropped=is_named)
        except ReturnError as error:
            raise ReturnError(f"{path.name}: {error}") from None
    with _readable(path):
        image = SimpleITK.ReadImage(path, imageIO=_image_io(path))
    if wrong := defect(path, header.files.others):
        raise ReturnError(f"{path.name} {wrong}: save or copy it again.")
    layers = tuple(_integers(layer, path) for layer in _layers(image))
    table = None if is_named else label_table(path)
    names = header.names if table is None else _names_of(table)
    return SegmentationFile(layers, names, header.case, may_be_cropped=is_named, table=table)


def read_header(path: Path) -> SegmentationHeader:
    """Read what a returned segmentation file says of itself; its voxels are not read.

    Raises ReturnError as `read_segmentation` does.
    """
    if stem_of(path) is None:
        raise ReturnError(f"{path.name} is not a segmentation file: save it as one of {', '.join(ENDINGS)}.")
    files = voxel_files(path)
    header = SimpleITK.ImageFileReader()
    header.SetFileName(path)
    header.SetImageIO(_image_io(path))
    with _readable(path):
        header.ReadImageInformation()
    pairs = {key: header.GetMetaData(key) for key in header.GetMetaDataKeys()}
    if header.GetDimension() != 3:
        raise ReturnError(
            f"{path.name} has {header.GetDimension()} dimensions and not 3: save one segmentation of the whole image."
        )
    n_layers = header.GetNumberOfComponents()
    names = names_in(pairs, n_layers, path.name)
    if names is None and n_layers > 1:
        raise ReturnError(f"{path.name} has colours or vectors as voxels: save it as a segmentation.")
    cases = cases_in(pairs)
    if len(cases) > 1:
        raise ReturnError(f"{path.name} holds segments of the cases {' and '.join(sorted(cases))}: return only one's.")
    return SegmentationHeader(files, Grid.of(header), names, next(iter(cases), None), short_tag_in(pairs))


def is_of_another_case(path: Path, case: str) -> bool:
    """Tell whether the tag in a file's header says that it was drawn on another case than ``case``."""
    try:
        header = read_header(path)
    except ReturnError:
        return False
    if header.case is not None:
        return header.case != case
    return header.short_tag is not None and header.short_tag != short_tag(case)


def write_seg_nrrd(path: Path, labels_kji: np.ndarray, grid: Grid, segments: Sequence[Segment], case: str) -> None:
    """Write labels for 3D Slicer, with name and colour of every segment, including segments without voxels.

    ``labels_kji`` are integers from 0 to 65535 on ``grid``; ``case`` is written to a tag of every segment, which 3D
    Slicer keeps.

    Raises StorageError if the file cannot be written, or differs when it is read back.
    """
    image = grid.image(_smallest(labels_kji))
    for key, value in header_of(segments, grid.size_ijk, case).items():
        image.SetMetaData(key, value)
    _write(path, image)


def write_nifti(path: Path, labels_kji: np.ndarray, grid: Grid, case: str | None = None) -> None:
    """Write labels as NIfTI for ITK-SNAP and other programs, without names; ``case`` is written to its header.

    Raises StorageError if the file cannot be written, or differs when it is read back.
    """
    image = grid.image(_smallest(labels_kji))
    if case is not None:
        image.SetMetaData(_AUXILIARY, short_tag(case))
        if len(case_tag(case)) <= _DESCRIPTION_BYTES:
            image.SetMetaData(_DESCRIPTION, case_tag(case))
    _write(path, image)


def _image_io(path: Path) -> str:
    return _IMAGE_IO[path.name.lower().removesuffix(".gz")[-4:]]


def _write(path: Path, image: SimpleITK.Image) -> None:
    expected = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys()}
    voxels_kji = SimpleITK.GetArrayViewFromImage(image)
    sentence = f"{path} could not be written whole: free some disk space and run the same command again."

    def write_and_compare(temporary: Path) -> None:
        try:
            SimpleITK.WriteImage(image, temporary, useCompression=True)
            back = SimpleITK.ReadImage(temporary)
        except RuntimeError as error:
            raise StorageError(sentence) from error
        whole = not defect(temporary) and np.array_equal(SimpleITK.GetArrayViewFromImage(back), voxels_kji)
        if not whole or any(back.GetMetaData(key) != value for key, value in expected.items()):
            raise StorageError(sentence)

    write_atomically(path, write_and_compare)


def _smallest(labels_kji: np.ndarray) -> np.ndarray:
    assert labels_kji.min(initial=0) >= 0
    assert labels_kji.max(initial=0) < 1 << 16
    return labels_kji.astype(np.uint8 if labels_kji.max(initial=0) < 256 else np.uint16)


def _layers(image: SimpleITK.Image) -> list[SimpleITK.Image]:
    n_layers = image.GetNumberOfComponentsPerPixel()
    if n_layers == 1:
        return [image]
    return [SimpleITK.VectorIndexSelectionCast(image, layer) for layer in range(n_layers)]


def _integers(image: SimpleITK.Image, path: Path) -> SimpleITK.Image:
    """Return the image as integers of at most 32 bits."""
    voxels_kji = SimpleITK.GetArrayViewFromImage(image)
    kind, n_bytes = voxels_kji.dtype.kind, voxels_kji.dtype.itemsize
    if kind in "iu" and n_bytes <= 2:
        return image
    if kind not in "iuf" or (kind == "f" and not np.array_equal(voxels_kji, np.rint(voxels_kji))):
        raise ReturnError(f"{path.name} holds values that are not whole numbers: save it as a segmentation.")
    if voxels_kji.min() < _INT32.min or voxels_kji.max() > _INT32.max:
        raise ReturnError(f"{path.name} holds values too large for labels: save it as a segmentation.")
    return SimpleITK.Cast(image, SimpleITK.sitkInt32)


def has_names_beside(path: Path) -> bool:
    """Tell whether the names of a file's segments are in a label table beside it, and not in the file itself.

    Raises ReturnError if the header, or a table, cannot be read.
    """
    return read_header(path).names is None and label_table(path) is not None


def label_table(path: Path) -> Path | None:
    """Return the label table beside a file; None without one.

    Raises ReturnError if a table cannot be read.
    """
    stem = stem_of(path)
    if stem is None:
        return None
    for name in [*(stem + ending for ending in _TABLES), "labels.txt"]:
        table = path.with_name(name)
        if table.is_file():
            try:
                read_label_file(table)
            except ReturnError:
                if table.suffix.lower() in _LABEL_TABLES_ONLY:
                    raise
                continue
            return table
    return None


def _names_of(table: Path) -> dict[tuple[int, int], str]:
    return {(0, value): text for value, text in read_label_file(table).items() if value}


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # its text contains memory addresses and paths
        raise ReturnError(
            f"{path.name} cannot be read, because it is cut short or has another format: save it again."
        ) from error
