"""Preprocessed images, stored once per dataset under a hash of all their inputs, and shared by all campaigns."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_al.checksums import checksum, is_intact
from nnunet_al.errors import StorageError
from nnunet_al.file_locks import file_lock
from nnunet_al.files import hash_array, hash_json, read_arrays, read_json, write_arrays, write_json
from nnunet_al.nnunet.blosc_files import move_into_place, open_array, read_pickle, temporary_file_in, verified_write
from nnunet_al.nnunet.case_facts import CaseFacts
from nnunet_al.nnunet.environment import Roots
from nnunet_al.nnunet.raw_dataset import CaseFiles
from nnunet_al.nnunet.workers import run_jobs
from nnunet_al.terminal import say

_WITHOUT_STATISTICS = {"ZScoreNormalization", "NoNormalization", "RescaleTo01Normalization", "RGBTo01Normalization"}


@dataclass(frozen=True)
class StoredImage:
    """Paths of one preprocessed image; the properties are written last, so they mark it as complete."""

    folder: Path
    case: str
    key: str

    @property
    def array_path(self) -> Path:
        """The image (C, *network shape), float32, in nnU-Net's blosc2 format."""
        return self.folder / f"{self.case}-{self.key}.b2nd"

    @property
    def properties_path(self) -> Path:
        """nnU-Net's properties of the case, without ``class_locations``, as a pickle."""
        return self.folder / f"{self.case}-{self.key}.pkl"

    @property
    def nonzero_path(self) -> Path:
        """nnU-Net's nonzero mask, transposed and cropped but not resampled, as packed bits."""
        return self.folder / f"{self.case}-{self.key}_nonzero.npz"

    @property
    def checksums_path(self) -> Path:
        """The checksums of the three other files."""
        return self.folder / f"{self.case}-{self.key}_checksums.json"

    @property
    def exists(self) -> bool:
        """Whether the image is complete."""
        return all(path.exists() for path in self._files)

    def is_intact(self) -> bool:
        """Tell whether the image is complete and as it was stored; each file is read once in a process for that.

        Images of earlier versions, which have no checksums, are opened instead, and get theirs.
        """
        try:
            if self.checksums_path.is_file():
                expected = read_json(self.checksums_path)
                return self.exists and all(is_intact(path, expected[path.name]) for path in self._files)
            self.open()[:], self.properties(), self.nonzero()
        except Exception:  # of blosc2, pickle, numpy or json: some file is broken
            return False
        with suppress(StorageError):  # somebody else's store, which this user may only read
            self.write_checksums(self.array_path, self.properties_path)
        return True

    def write_checksums(self, array: Path, properties: Path) -> None:
        """Write the checksums of the image and its properties, which may lie elsewhere yet, and of the mask."""
        now = (array, properties, self.nonzero_path)
        write_json(self.checksums_path, {f.name: checksum(path) for f, path in zip(self._files, now, strict=True)})

    def discard(self) -> None:
        """Remove the files, so that the image is preprocessed anew; the mark of completeness goes first."""
        for path in (self.properties_path, self.checksums_path, *self._files):
            path.unlink(missing_ok=True)

    @property
    def _files(self) -> tuple[Path, Path, Path]:
        return self.array_path, self.properties_path, self.nonzero_path

    def open(self) -> Any:
        """Open the image lazily; slicing gives float32 arrays."""
        return open_array(self.array_path)

    def properties(self) -> dict[str, Any]:
        """Read nnU-Net's properties of the case."""
        return read_pickle(self.properties_path)

    def nonzero(self) -> np.ndarray:
        """Read the nonzero mask: bool, of the shape after transpose and crop."""
        packed = read_arrays(self.nonzero_path)
        shape = tuple(int(length) for length in packed["shape"])
        return np.unpackbits(packed["bits"], count=int(np.prod(shape))).astype(bool).reshape(shape)


class StoredImages(Mapping[str, StoredImage]):
    """The stored images of some cases; one that turns out to be damaged when it is asked for is made anew."""

    def __init__(self, images: dict[str, StoredImage], remake: Callable[[str], None]) -> None:
        """Take where the images lie, and a function that makes the image of a case anew if it is damaged."""
        self._images = images
        self._remake = remake

    def __getitem__(self, case: str) -> StoredImage:
        """Return the image of a case after checking it, which reads its files once in a process."""
        stored = self._images[case]
        if not stored.is_intact():
            say(f"    {stored.array_path} is damaged or incomplete: it is made anew")
            self._remake(case)
        return stored

    def __iter__(self) -> Iterator[str]:
        """Yield the cases."""
        return iter(self._images)

    def __len__(self) -> int:
        """Return the number of cases."""
        return len(self._images)

    def key(self, case: str) -> str:
        """Return the key of a case's image, which is not looked at."""
        return self._images[case].key


def damaged_images(images: Iterable[StoredImage], readers: int = 1) -> list[StoredImage]:
    """Return the images that are damaged or incomplete; ``readers`` threads read them."""
    some = list(images)
    with ThreadPoolExecutor(max(1, readers)) as executor:
        intact = executor.map(StoredImage.is_intact, some)
        return [stored for stored, is_whole in zip(some, intact, strict=True) if not is_whole]


def store_folder(roots: Roots, dataset_name: str) -> Path:
    """Return the folder of a dataset's stored images, in its folder of preprocessed data."""
    return roots.preprocessed / dataset_name / "al_images"


def common_dependencies(plans: Mapping[str, Any], chosen: Any) -> dict[str, Any]:
    """Collect the settings of a configuration of the plans that every preprocessed file depends on.

    The patch size determines the chunks of the file.
    """
    return {
        "nnunetv2": ".".join(version("nnunetv2").split(".")[:2]),
        "reader": plans["image_reader_writer"],
        "preprocessor": chosen.preprocessor_name,
        "transpose": list(plans["transpose_forward"]),
        "spacing": list(chosen.spacing),
        "patch_size": list(chosen.patch_size),
    }


def image_dependencies(plans: Mapping[str, Any], configuration: str) -> dict[str, Any]:
    """Collect the settings of the plans and of nnU-Net that a preprocessed image depends on.

    Intensity statistics are included for CT channels and for normalisation schemes that may use them, being unknown to
    us.
    """
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    manager = PlansManager(dict(plans))
    chosen = manager.get_configuration(configuration)
    statistics = manager.foreground_intensity_properties_per_channel
    return {
        **common_dependencies(plans, chosen),
        "normalization": list(chosen.normalization_schemes),
        "use_mask": list(chosen.use_mask_for_norm),
        "resampling": chosen.configuration["resampling_fn_data"],
        "resampling_kwargs": chosen.configuration["resampling_fn_data_kwargs"],
        "intensities": {
            str(channel): statistics[str(channel)]
            for channel, scheme in enumerate(chosen.normalization_schemes)
            if scheme not in _WITHOUT_STATISTICS
        },
    }


def image_key(facts: CaseFacts, dependencies: Mapping[str, Any], outside: np.ndarray | None = None) -> str:
    """Hash all inputs of a preprocessed image into 16 hexadecimal digits.

    ``outside`` (bool, of the shape after transpose and crop) are labelled voxels outside the nonzero mask, which
    nnU-Net's masked normalisation counts as part of the mask; None if there are none.
    """
    digest = None if outside is None or not outside.any() else hash_array(np.flatnonzero(outside))
    return hash_json([list(facts.image_hashes), dependencies, digest])[:16]


def ensure_image(
    files: CaseFiles,
    stored: StoredImage,
    plans: Mapping[str, Any],
    configuration: str,
    dataset_json: Mapping[str, Any],
    outside: np.ndarray | None = None,
    wait: bool = True,
    check: bool = False,
) -> bool:
    """Preprocess the images of a case with nnU-Net's preprocessor, unless ``stored`` exists, or is damaged.

    ``outside`` must be the array in the key of ``stored`` (see ``image_key``). If another process is preprocessing the
    image, this one waits for it, or with ``wait`` False returns at once. With ``check`` a damaged image is made anew.
    Returns whether ``stored`` exists now.

    Raises StorageError if the disk is full or cannot be written.
    """
    if stored.exists and not (check and not stored.is_intact()):
        return True
    # one file holds the locks of all images, one byte each
    lock = file_lock(stored.folder / "lock", byte=int(stored.key[:10], 16), timeout_seconds=math.inf if wait else 0)
    with ExitStack() as others_wait:
        try:
            others_wait.enter_context(lock)
        except TimeoutError:
            return False
        if check and stored.exists and not stored.is_intact():
            stored.discard()
        if not stored.exists:
            _preprocess(files, stored, plans, configuration, dataset_json, outside)
    return True


def _preprocess(
    files: CaseFiles,
    stored: StoredImage,
    plans: Mapping[str, Any],
    configuration: str,
    dataset_json: Mapping[str, Any],
    outside: np.ndarray | None,
) -> None:
    from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params, nnUNetDatasetBlosc2
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    manager = PlansManager(dict(plans))
    chosen = manager.get_configuration(configuration)
    image_C_xyz, properties = manager.image_reader_writer_class().read_images([str(file) for file in files.images])
    nonzero_xyz, box = _nonzero(image_C_xyz, manager.transpose_forward)
    marks_1_xyz = None
    if outside is not None and outside.any():
        marks_1_xyz = np.zeros((1, *image_C_xyz.shape[1:]), dtype=np.float32)
        marks_1_xyz[0].transpose(manager.transpose_forward)[box][outside] = 1
    data_C_xyz, _, properties = chosen.preprocessor_class(verbose=False).run_case_npy(
        image_C_xyz, marks_1_xyz, properties, manager, chosen, dict(dataset_json)
    )
    data_C_xyz = data_C_xyz.astype(np.float32, copy=False)
    properties.pop("class_locations", None)
    temporary = temporary_file_in(stored.folder, stored.array_path.name)
    stem = temporary.with_suffix("")
    by_products = [stem.with_name(stem.name + "_seg.b2nd"), stem.with_name(stem.name + ".pkl")]
    for path in by_products:
        path.unlink(missing_ok=True)
    blocks, chunks = comp_blosc2_params(data_C_xyz.shape, tuple(chosen.patch_size), data_C_xyz.itemsize)
    empty_seg = np.zeros((1, 1, 1, 1), dtype=np.int16)
    ones = (1, 1, 1, 1)
    try:
        with verified_write(temporary, data_C_xyz, stored.array_path):
            nnUNetDatasetBlosc2.save_case(
                data_C_xyz, empty_seg, properties, os.fspath(stem), chunks, blocks, chunks_seg=ones, blocks_seg=ones
            )
        write_arrays(stored.nonzero_path, bits=np.packbits(nonzero_xyz), shape=np.array(nonzero_xyz.shape))
        stored.write_checksums(temporary, by_products[1])
        move_into_place(temporary, stored.array_path)
        move_into_place(by_products[1], stored.properties_path)
    finally:
        for path in (temporary, *by_products):
            path.unlink(missing_ok=True)


def ensure_images(
    cases: Mapping[str, CaseFiles],
    facts: Mapping[str, CaseFacts],
    plans: Mapping[str, Any],
    configuration: str,
    dataset_json: Mapping[str, Any],
    folder: Path,
    workers: int = 1,
    log: Path | None = None,
) -> StoredImages:
    """Preprocess the images of all ``cases`` that are not yet in ``folder`` and return the paths of all.

    Several processes that need the same images at the same time share the work: each preprocesses the images that no
    other process has begun, and waits at the end for the others.
    """
    dependencies = image_dependencies(plans, configuration)
    images = {case: StoredImage(folder, case, image_key(facts[case], dependencies)) for case in cases}
    missing = [case for case, stored in images.items() if not stored.exists]
    small_json = {key: value for key, value in dataset_json.items() if key != "dataset"}  # sent with every job
    for wait in (False, True):
        jobs = [(cases[c], images[c], dict(plans), configuration, small_json, None, wait) for c in missing]
        sizes = [len(cases[case].images) * math.prod(facts[case].raw_shape) for case in missing]
        done = run_jobs(ensure_image, jobs, workers, "preprocessing images", log, sizes)
        missing = [case for case, is_there in zip(missing, done, strict=True) if not is_there]

    def remake(case: str) -> None:
        ensure_image(cases[case], images[case], plans, configuration, small_json, check=True)

    return StoredImages(images, remake)


def _nonzero(image_C_xyz: np.ndarray, transpose_forward: list[int]) -> tuple[np.ndarray, tuple[slice, ...]]:
    """Return nnU-Net's nonzero mask inside its bounding box, and the box, both after the transpose."""
    from nnunetv2.preprocessing.cropping.cropping import create_nonzero_mask, get_bbox_from_mask

    mask_xyz = create_nonzero_mask(image_C_xyz).transpose(transpose_forward)
    box = tuple(slice(low, high) for low, high in get_bbox_from_mask(mask_xyz))
    return np.ascontiguousarray(mask_xyz[box]), box
