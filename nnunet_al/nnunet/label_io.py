"""Label volumes in the file format of the dataset, through nnU-Net's readers and writers."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nnunet_al.errors import DatasetError, StorageError
from nnunet_al.files import temporary_sibling, write_atomically
from nnunet_al.nnunet.intact_files import read_intact
from nnunet_al.nnunet.readers import choose_reader

if TYPE_CHECKING:
    from nnunetv2.imageio.base_reader_writer import BaseReaderWriter


class LabelFormat:
    """Reads and writes label volumes (z, y, x) of one dataset."""

    def __init__(self, dataset_json: dict[str, Any], example_image: Path) -> None:
        """Choose the reader, at its first use, as nnU-Net does: by dataset.json, else by ``example_image``."""
        self._chosen_by = dataset_json, example_image

    @cached_property
    def _reader(self) -> BaseReaderWriter:
        return choose_reader(*self._chosen_by)()

    def read(self, path: Path) -> np.ndarray:
        """Return the labels (z, y, x) of ``path`` as integers.

        Raises DatasetError if the file cannot be read or holds values that are not integers.
        """
        return self.read_with_properties(path)[0]

    def read_with_properties(self, path: Path) -> tuple[np.ndarray, dict[str, Any]]:
        """Return the labels (z, y, x) and the geometry for `write`."""
        labels_1_xyz, properties = read_intact(path, self._reader.read_seg)
        labels_xyz = one_channel(path, labels_1_xyz)[0]
        integers_xyz = labels_xyz.astype(np.int32)
        if not (integers_xyz == labels_xyz).all():
            raise DatasetError(f"The label file {path} holds values that are not integers: export it again as labels.")
        return integers_xyz, properties

    def read_image(self, images: tuple[Path, ...]) -> np.ndarray:
        """Return a case's raw image (channel, z, y, x)."""
        image_C_xyz: np.ndarray = self._reader.read_images([str(path) for path in images])[0]
        return image_C_xyz

    def image_properties(self, images: tuple[Path, ...]) -> dict[str, Any]:
        """Return the geometry of a case's image, for `write`.

        Raises DatasetError if the image cannot be read.
        """
        return read_intact(images[0], lambda path: self._reader.read_images((path,)))[1]

    def write(self, path: Path, labels_xyz: np.ndarray, properties: dict[str, Any]) -> None:
        """Write labels completely or not at all, and read them back before ``path`` is replaced.

        The file with the spacing, which nnU-Net writes beside a TIFF, gets its place first.

        Raises StorageError if the labels read back differ, as on a full disk that the image library does not notice.
        """
        dtype = np.uint8 if labels_xyz.max(initial=0) < 256 else np.uint16

        def write_and_compare(temporary: Path) -> None:
            try:
                self._reader.write_seg(labels_xyz.astype(dtype), str(temporary), properties)
                intact = np.array_equal(self.read(temporary), labels_xyz)
            except (RuntimeError, DatasetError) as error:
                raise StorageError(f"The labels could not be written to {path}: is the disk full?") from error
            if not intact:
                raise StorageError(f"The labels could not be written to {path} intact: is the disk full?")
            if temporary.with_suffix(".json").is_file():  # which is the temporary file of the one beside `path`
                write_atomically(path.with_suffix(".json"), lambda _: None)

        try:
            write_atomically(path, write_and_compare)
        finally:
            temporary_sibling(path).with_suffix(".json").unlink(missing_ok=True)


def one_channel(path: Path, labels_C_xyz: np.ndarray) -> np.ndarray:
    """Return labels with one channel: those of the file, or the grey of a picture saved in colours.

    Raises DatasetError if the channels differ, or there are several volumes, of which nnU-Net would take the first.
    """
    grey = labels_C_xyz.shape[1] == 1 and len(labels_C_xyz) in {3, 4} and not np.ptp(labels_C_xyz[:3], axis=0).any()
    if len(labels_C_xyz) == 1 or grey:
        return labels_C_xyz[:1]
    raise DatasetError(
        f"{path} has {len(labels_C_xyz)} channels (colours, time points or a volume per class), but a label has one: "
        "save it as one image of integers, in grey, whose values are the labels."
    )
