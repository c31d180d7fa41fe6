"""Collecting is killed anywhere, and repeated: the ledger is the one of a call that nobody disturbed."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 -- the name everybody knows
from rounds.kill_lab import forked, kill_at, moments_of, some_of, wait
from tiny_rounds import DATASET, campaign_folder, run_command, run_round

from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.cli.collect import main as collect_main
from nnunet_al.files import hash_file, read_json

pytestmark = pytest.mark.slow

TRIALS = 14


def ledger_of(folder: CampaignFolder) -> dict[str, object]:
    """All that the ledger says, but for the time at which it was said, and the checksum that follows from it."""
    entries = {path.name: read_json(path) | {"collected": "", "checksum": ""} for path in folder.ledger.glob("*.json")}
    return entries | {str(p.relative_to(folder.ledger)): hash_file(p) for p in folder.ledger.glob("*/*")}


@pytest.fixture
def returned(make_roots, tmp_path) -> CampaignFolder:
    """Two readers have returned all of a batch that waits for two readings."""
    roots = make_roots(cases=6)
    shutil.move(roots.raw / DATASET / "labelsTr", tmp_path / "truth")
    assert run_round("--annotate", "-readings", 2, "-unit", "slice") == 3
    folder = CampaignFolder(campaign_folder(roots))
    batch = folder.round(0).hand_out
    for reader in ("anna", "ben"):
        (batch / "returned" / reader).mkdir()
        for case in {region["case"] for region in read_json(folder.round(0).batch)["regions"]}:
            image = sitk.ReadImage(str(tmp_path / "truth" / f"{case}.nii.gz"))
            labels = sitk.GetArrayFromImage(image)
            drawn = sitk.GetImageFromArray(labels if reader == "anna" else np.minimum(labels, 1))
            drawn.CopyInformation(image)
            sitk.WriteImage(drawn, str(batch / "returned" / reader / f"{case}.nii.gz"), True)
    return folder


def test_killed_and_repeated_is_undisturbed(returned, tmp_path):
    shutil.copytree(returned.root, tmp_path / "before", symlinks=True)

    def restore() -> None:
        shutil.rmtree(returned.root)
        shutil.copytree(tmp_path / "before", returned.root, symlinks=True)

    def collect() -> int:
        return run_command(collect_main, "-d", "501", "--reviewed")

    log = tmp_path / "log.txt"
    moments = moments_of(returned.root, collect, log)
    wanted = ledger_of(returned)
    assert any(entry["source"] == "consensus" for entry in wanted.values() if isinstance(entry, dict))
    for moment in some_of(moments, TRIALS):
        restore()
        kill_at(returned.root, moment, collect, log)
        assert wait(forked(collect, log)) == 0, (moment, log.read_text())
        assert ledger_of(returned) == wanted, moment
