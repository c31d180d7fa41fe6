"""A full disk: one sentence, exit code 2, nothing lost; with space again, the same command ends as ever."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tiny_rounds import DATASET, TINY_USIMF, hurry, run_round, set_roots, snapshot

from nnunet_al import files
from nnunet_al.files import read_json

MEGABYTE = 1 << 20


def batch_and_ledger(results: Path) -> dict[str, Any]:
    (campaign,) = results.glob("*/al/*/fold_0")
    found: dict[str, Any] = {path.name: read_json(path) for path in campaign.glob("ledger/*.json")}
    found["batch"] = read_json(campaign / "round_001" / "batch.json")
    return found


def fill(folder: Path, left: int) -> None:
    """Leave `left` bytes on the file system of `folder`."""
    ballast = folder / "ballast"
    ballast.unlink(missing_ok=True)
    free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free - left)


@pytest.fixture(scope="module")
def undisturbed(phantom_variants, tmp_path_factory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("undisturbed")
    shutil.copytree(phantom_variants(), folder / "nnUNet_raw")
    with pytest.MonkeyPatch.context() as patch:
        hurry(patch.setattr)
        for name, value in set_roots(folder).items():
            patch.setenv(name, value)
        patch.setenv("nnUNet_n_proc_DA", "0")
        assert run_round(*TINY_USIMF) == run_round(*TINY_USIMF) == 0
    return batch_and_ledger(folder / "nnUNet_results")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 40 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("Mounting a small file system needs rights that this user has not.")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.slow
def test_a_disk_that_is_full_at_many_moments(undisturbed, roots, small_disk, monkeypatch, capsys):
    shutil.copytree(roots.raw / DATASET, small_disk / "nnUNet_raw" / DATASET)
    for name, value in set_roots(small_disk).items():
        monkeypatch.setenv(name, value)
    fill(small_disk, 0)
    before = snapshot(small_disk)
    assert run_round(*TINY_USIMF) == 2
    assert snapshot(small_disk) == before, "a campaign that could not be started left something behind"
    fill(small_disk, 30 * MEGABYTE)
    assert run_round(*TINY_USIMF) == 0
    ledger = snapshot(next(small_disk.glob("nnUNet_results/*/al/*/fold_0/ledger")))

    refusals = 0
    for left in (0, 8 << 10, 40 << 10, 150 << 10, 400 << 10, MEGABYTE, 3 * MEGABYTE, 5 * MEGABYTE, 8 * MEGABYTE):
        fill(small_disk, left)
        capsys.readouterr()
        code = run_round(*TINY_USIMF, "-round", 1)
        sentence = capsys.readouterr().err.strip().splitlines()[-1:]
        if code:
            refusals += 1
            assert code == 2
            assert sentence[0].startswith("Error: ")
            assert "space" in sentence[0] or "disk" in sentence[0]
            now = snapshot(next(small_disk.glob("nnUNet_results/*/al/*/fold_0/ledger")))
            assert {path: mark for path, mark in now.items() if path in ledger} == ledger
    assert refusals >= 5
    (small_disk / "ballast").unlink()
    assert run_round(*TINY_USIMF, "-round", 1) == 0
    assert batch_and_ledger(small_disk / "nnUNet_results") == undisturbed


@pytest.mark.slow
def test_a_write_that_fails_in_any_stage(undisturbed, roots, monkeypatch, capsys):
    assert run_round(*TINY_USIMF) == 0
    plain, calls = files._sync, 0
    fails_at = 0

    def sync(path: Path) -> None:
        nonlocal calls
        calls += 1
        if calls == fails_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        plain(path)

    monkeypatch.setattr(files, "_sync", sync)
    for moment in (1, 6, 12, 20, 30, 40):  # of what is left to do, so every failure comes later in the round
        calls, fails_at = 0, moment
        capsys.readouterr()
        assert run_round(*TINY_USIMF, "-round", 1) == 2
        assert capsys.readouterr().err.startswith("Error: No space is left")
    fails_at = 0
    assert run_round(*TINY_USIMF, "-round", 1) == 0
    assert batch_and_ledger(roots.results) == undisturbed
