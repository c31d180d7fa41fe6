"""Files are complete or absent, whoever dies while writing them."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nnunet_al import files
from nnunet_al.errors import StorageError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_written_is_read_back(tmp_path):
    content = {"number": np.int64(3), "share": np.float32(0.5), "list": np.arange(3), "path": Path("a/b"), "on": True}
    files.write_json(tmp_path / "deep" / "x.json", content)
    read = files.read_json(tmp_path / "deep" / "x.json")
    assert read == {"number": 3, "share": 0.5, "list": [0, 1, 2], "path": "a/b", "on": True}
    arrays = {"a_N": np.arange(4, dtype=np.float32), "names": np.array(["x", "y"])}
    files.write_arrays(tmp_path / "x.npz", **arrays)
    back = files.read_arrays(tmp_path / "x.npz")
    assert all(np.array_equal(back[name], array) and back[name].dtype == array.dtype for name, array in arrays.items())
    assert names(tmp_path) == ["deep", "x.npz"]


def test_pickled_objects_are_not_read(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.array([{"an": "object"}], dtype=object))
    with pytest.raises(ValueError, match="pickle"):
        files.read_arrays(tmp_path / "x.npz")


def test_what_belongs_into_no_json_is_refused_and_the_old_file_stays(tmp_path):
    files.write_json(tmp_path / "x.json", 1)
    with pytest.raises(TypeError):
        files.write_json(tmp_path / "x.json", {"x": object()})
    assert files.read_json(tmp_path / "x.json") == 1


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "x.txt"
    files.write_text(path, "old")

    def half(temporary: Path) -> None:
        temporary.write_text("ne")
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        files.write_atomically(path, half)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["x.txt"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EISDIR])
def test_a_disk_that_takes_nothing_is_one_sentence_with_the_files_name(tmp_path, monkeypatch, number):
    path = tmp_path / "x.txt"
    files.write_text(path, "old")

    def full(_descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError) as caught:
        files.write_text(path, "new")
    assert str(path) in str(caught.value)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["x.txt"]


def test_what_is_in_the_way_is_one_sentence_with_the_file_s_name(tmp_path):
    files.write_text(tmp_path / "x.txt", "old")
    with pytest.raises(StorageError, match=r"x\.txt/y/z\.txt cannot be written \(.*\): .* choose another place\.$"):
        files.write_text(tmp_path / "x.txt" / "y" / "z.txt", "new")
    with pytest.raises(StorageError, match=r"x\.txt/y\.txt cannot be written \(File exists\): something is there"):
        files.write_text(tmp_path / "x.txt" / "y.txt", "new")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match=r"folder cannot be written \(Is a directory\): something is there"):
        files.write_text(tmp_path / "folder", "new")
    with pytest.raises(StorageError, match=r"cannot be written .* choose a shorter name"):
        files.write_text(tmp_path / ("x" * 300), "new")
    with pytest.raises(OSError, match="Bad file descriptor"), files.storage_errors(tmp_path):
        raise OSError(errno.EBADF, "Bad file descriptor")
    assert names(tmp_path) == ["folder", "x.txt"]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_that_cannot_sync_is_no_obstacle(tmp_path, monkeypatch, number):
    def unable(_descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", unable)
    files.write_text(tmp_path / "x.txt", "new")
    assert (tmp_path / "x.txt").read_text() == "new"


def test_the_temporary_file_keeps_the_endings_and_is_hidden(tmp_path):
    temporary = files.temporary_sibling(tmp_path / "case.nii.gz")
    assert temporary.parent == tmp_path
    assert temporary.name.startswith(".")
    assert temporary.name.endswith(".nii.gz")


KILLED = """
import os, signal, sys
from pathlib import Path
from nnunet_al import files
def half(temporary):
    temporary.write_text("ne")
    os.kill(os.getpid(), signal.SIGKILL)
files.write_atomically(Path(sys.argv[1]), half)
"""


def test_what_a_killed_process_leaves_is_removed_and_what_a_living_one_writes_stays(tmp_path):
    path = tmp_path / "folder" / "x.txt"
    files.write_text(path, "old")
    code = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False).returncode
    assert code == -signal.SIGKILL
    assert path.read_text() == "old"
    assert len(names(path.parent)) == 2
    living = tmp_path / f".{socket.gethostname()}-{os.getppid()}.tmp.y.txt"
    elsewhere = tmp_path / ".another-host-17.tmp.y.txt"
    forgotten = tmp_path / ".another-host-17.tmp.z.txt"
    for file in (living, elsewhere, forgotten):
        file.write_text("half")
    os.utime(forgotten, (0, 0))
    files.remove_temporary_files(tmp_path)
    assert names(path.parent) == ["x.txt"]
    assert living.exists()
    assert elsewhere.exists()
    assert not forgotten.exists()


@pytest.mark.parametrize(
    "error, wanted",
    [
        (OSError(errno.ENOSPC, "full"), True),
        (OSError(errno.ENOENT, "none"), False),
        (RuntimeError("PytorchStreamWriter failed writing file data/1"), True),
        (RuntimeError("[enforce fail] . file write failed: No space left on device"), True),
        (ValueError("nothing to do with it"), False),
    ],
)
def test_a_full_disk_is_recognised_behind_other_errors(error, wanted):
    assert files.out_of_space(error) is wanted
    wrapped = KeyError("something else")
    wrapped.__cause__ = error
    assert files.out_of_space(wrapped) is wanted


def test_hashes_follow_content_and_nothing_else(tmp_path):
    assert files.hash_json({"a": 1, "b": 2}) == files.hash_json({"b": 2, "a": 1})
    assert files.hash_json({"a": 1}) != files.hash_json({"a": "1"})
    array = np.arange(6, dtype=np.int32).reshape(2, 3)
    assert files.hash_array(array) == files.hash_array(np.asfortranarray(array))
    different = [array.reshape(3, 2), array.astype(np.int64), array + 1]
    assert len({files.hash_array(array), *map(files.hash_array, different)}) == 4
    (tmp_path / "x").write_bytes(b"abc")
    assert files.hash_file(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_json_is_for_people(tmp_path):
    files.write_json(tmp_path / "x.json", {"b": 1, "a": [1, 2]})
    text = (tmp_path / "x.json").read_text()
    assert text.endswith("}\n")
    assert list(json.loads(text)) == ["b", "a"]


def test_a_mapped_array_is_complete_or_absent(tmp_path):
    path = tmp_path / "deep" / "array.npy"

    def fill(array):
        array[:] = [[1, 2, 3], [4, 5, 6]]

    files.write_mapped_array(path, (2, 3), fill)
    written = np.load(path, mmap_mode="r")
    assert written.dtype == np.float32
    assert written.tolist() == [[1, 2, 3], [4, 5, 6]]

    def fail(array):
        array[0] = 9
        raise ValueError("stopped")

    with pytest.raises(ValueError, match="stopped"):
        files.write_mapped_array(path, (2, 3), fail)
    assert np.load(path).tolist() == [[1, 2, 3], [4, 5, 6]]
    assert [file.name for file in path.parent.iterdir()] == ["array.npy"]


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system cannot claim blocks in advance")
def test_a_full_disk_is_noticed_before_the_map_is_written(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(StorageError, match=r"array\.npy"):
        files.write_mapped_array(tmp_path / "array.npy", (2, 3), lambda array: pytest.fail("it must not get here"))
    assert not list(tmp_path.iterdir())


def test_what_another_host_finishes_this_moment_is_no_obstacle(tmp_path, monkeypatch):
    """Between the look into the folder and the look at the file it takes its place."""
    theirs = tmp_path / ".elsewhere-1.tmp.scores.npz"
    theirs.write_text("")
    is_file = Path.is_file

    def and_then_it_is_renamed(path: Path) -> bool:
        found = is_file(path)
        if found and path == theirs:
            theirs.rename(tmp_path / "scores.npz")
        return found

    monkeypatch.setattr(Path, "is_file", and_then_it_is_renamed)
    files.remove_temporary_files(tmp_path)
    assert names(tmp_path) == ["scores.npz"]
