from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from nnunet_al.errors import DatasetError, StorageError
from nnunet_al.files import temporary_sibling, write_text
from nnunet_al.new_folder import new_folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_it_appears_when_it_is_complete(tmp_path):
    folder = tmp_path / "deep" / "raw" / "Dataset501_A"
    with new_folder(folder) as unfinished:
        write_text(unfinished / "a.txt", "a")
        assert not folder.exists()
        assert unfinished.parent == folder.parent
        assert unfinished.name.startswith(".")
    assert names(folder.parent) == ["Dataset501_A"]
    assert (folder / "a.txt").read_text() == "a"


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, StorageError])
def test_a_failure_leaves_neither_it_nor_its_new_parents(tmp_path, failure):
    (tmp_path / "there").mkdir()

    def fail():
        with new_folder(tmp_path / "there" / "new" / "er" / "a") as unfinished:
            write_text(unfinished / "sub" / "a.txt", "a")
            raise failure

    with pytest.raises(failure):
        fail()
    assert names(tmp_path) == ["there"]
    assert not list((tmp_path / "there").iterdir())


def test_what_exists_is_left_alone(tmp_path):
    write_text(tmp_path / "a" / "mine.txt", "mine")
    with pytest.raises(DatasetError, match="a exists already"), new_folder(tmp_path / "a"):
        pytest.fail("it must not get here")
    assert names(tmp_path / "a") == ["mine.txt"]
    with pytest.raises(StorageError, match=r"b cannot be written .*something is there"), new_folder(tmp_path / "b"):
        write_text(tmp_path / "b" / "mine.txt", "somebody was faster")
    assert names(tmp_path) == ["a", "b"]
    assert names(tmp_path / "b") == ["mine.txt"]


@pytest.mark.parametrize("parent", ["file", "file/below", "x" * 300, "/proc/none"])
def test_an_impossible_place_is_a_sentence(tmp_path, parent):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StorageError, match="/a cannot be written"), new_folder(tmp_path / parent / "a"):
        pytest.fail("it must not get here")
    assert names(tmp_path) == ["file"]


def test_sentences_name_the_folder_that_was_asked_for(tmp_path):
    with pytest.raises(StorageError) as caught, new_folder(tmp_path / "a") as unfinished:
        raise StorageError(f"{unfinished}/x.nii.gz could not be written.")
    assert str(caught.value) == f"{tmp_path}/a/x.nii.gz could not be written."
    with pytest.raises(StorageError, match=f"No space is left to write {tmp_path}/a:"), new_folder(tmp_path / "a"):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_what_dead_processes_left_of_the_same_folder_is_removed(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    own = temporary_sibling(tmp_path / "a").name
    left, living, other = (
        own.replace(f"-{os.getpid()}.tmp.a", ending)
        for ending in (f"-{dead.pid}.tmp.a", f"-{os.getppid()}.tmp.a", f"-{dead.pid}.tmp.b")
    )
    foreign = f".another-host-{dead.pid}.tmp.a"
    for name in (own, left, living, other, foreign):
        write_text(tmp_path / name / "imagesTr" / "x.txt", "half")
    with new_folder(tmp_path / "a"):
        assert {left, living, other, foreign} - set(names(tmp_path)) == {left}
    assert names(tmp_path) == sorted([living, other, foreign, "a"])
    assert not names(tmp_path / "a")
