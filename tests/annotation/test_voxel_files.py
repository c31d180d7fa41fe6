"""The hash of a returned volume: of all that it is read from, and of nothing else."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 -- the name everybody knows

from nnunet_al.annotation.volumes import read_segmentation
from nnunet_al.annotation.voxel_files import voxel_files
from nnunet_al.files import hash_file

SHAPE = (4, 5, 6)


def save(folder: Path, kind: str, labels_kji: np.ndarray, name: str = "a") -> Path:
    """Save a volume of one or of several files and return the file that is returned under the case's name."""
    folder.mkdir(exist_ok=True)
    image = sitk.GetImageFromArray(labels_kji)
    if kind in (".nii", ".nii.gz", ".mha", ".nrrd", ".seg.nrrd"):
        sitk.WriteImage(image, folder / f"{name}{kind}")
        return folder / f"{name}{kind}"
    if kind == "mhd":
        sitk.WriteImage(image, folder / f"{name}.mhd")
        return folder / f"{name}.mhd"
    if kind == "mhd, packed":
        sitk.WriteImage(image, folder / f"{name}.mhd", useCompression=True)
        return folder / f"{name}.mhd"
    head = "type: uint8\ndimension: 3\nsizes: 6 5 4\nspace: left-posterior-superior\n"
    head = f"NRRD0004\n{head}space directions: (1,0,0) (0,1,0) (0,0,1)\nspace origin: (0,0,0)\n"
    path = folder / f"{name}.nrrd"
    if kind == "nrrd, one file":
        (folder / f"{name}.raw").write_bytes(labels_kji.tobytes())
        path.write_text(f"{head}encoding: raw\ndata file: {name}.raw\n")
    elif kind == "nrrd, packed":
        (folder / f"{name}.raw.gz").write_bytes(gzip.compress(labels_kji.tobytes(), mtime=0))
        path.write_text(f"{head}encoding: gzip\ndata file: {name}.raw.gz\n")
    else:
        for k, slice_ji in enumerate(labels_kji):
            (folder / f"{name}{k}.raw").write_bytes(slice_ji.tobytes())
        names = f"{name}%d.raw 0 3 1\n"
        if kind == "nrrd, a list":
            names = "LIST\n" + "".join(f"{name}{k}.raw\n" for k in range(4))
        path.write_text(f"{head}encoding: raw\ndata file: {names}")
    return path


WHOLE = [".nii", ".nii.gz", ".mha", ".nrrd", ".seg.nrrd"]
SEVERAL = ["mhd", "mhd, packed", "nrrd, one file", "nrrd, packed", "nrrd, a list", "nrrd, a pattern"]
LABELS = (np.arange(120).reshape(SHAPE) % 3).astype(np.uint8)


@pytest.mark.parametrize("kind", WHOLE)
def test_a_file_that_holds_all_has_the_hash_of_its_bytes(tmp_path, kind):
    """As in the ledgers of campaigns that began before."""
    path = save(tmp_path, kind, LABELS)
    assert voxel_files(path).hash() == hash_file(path)


@pytest.mark.parametrize("kind", SEVERAL)
def test_each_file_of_a_volume_counts_and_its_name_does_not(tmp_path, kind):
    path = save(tmp_path / "one", kind, LABELS)
    digest = voxel_files(path).hash()
    assert voxel_files(save(tmp_path / "same", kind, LABELS)).hash() == digest
    assert voxel_files(save(tmp_path / "other name", kind, LABELS, "b")).hash() == digest
    for number in range(len(voxel_files(path).others)):
        changed = LABELS.copy()
        changed[min(number, 3), 2, 3] += 1
        again = save(tmp_path / f"redrawn {number}", kind, changed)
        assert again.read_bytes() == path.read_bytes() or kind == "mhd, packed"
        assert voxel_files(again).hash() != digest
        assert np.array_equal(sitk.GetArrayFromImage(read_segmentation(again).layers[0]), changed)


def test_names_of_files_in_comments_and_fields_of_others_are_none(tmp_path):
    path = save(tmp_path, ".nrrd", LABELS)
    head, _, rest = path.read_bytes().partition(b"\n")
    path.write_bytes(head + b"\n# data file: /etc/passwd\nnotes:=data file: ../x.raw\n" + rest)
    assert voxel_files(path).others == ()
    path = save(tmp_path, ".mha", LABELS)
    path.write_bytes(path.read_bytes().replace(b"NDims", b"Comment = ElementDataFile = ../x.raw\nNDims", 1))
    assert voxel_files(path).others == ()
    assert np.array_equal(sitk.GetArrayFromImage(read_segmentation(path).layers[0]), LABELS)
