"""Whole rounds as a user runs them, each call a process of its own: one strategy of each kind, all at the same time."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tiny_rounds import TINY_ROUND, only

from nnunet_al.files import read_json

COMMAND = Path(sys.executable).with_name("nnUNetv2_al_round")
KINDS = {
    "margin+mc_dropout+stochastic_batches": ("-passes", "2"),
    "usimf": ("-passes", "2", "-set", "embedding_size=50", "fisher_samples=4"),
    "learning_loss": (),
}


def run_campaign(strategy: str) -> str:
    """Do the initial round and two more, and return what the calls said if one of them failed."""
    for number in range(3):
        command = [COMMAND, *TINY_ROUND, "-s", strategy, *KINDS[strategy], "-round", str(number)]
        call = subprocess.run(command, capture_output=True, text=True, check=False)
        if call.returncode != 0:
            return call.stdout + call.stderr
    return ""


@pytest.mark.slow
def test_two_full_rounds_behind_the_initial_one(roots):
    with ThreadPoolExecutor(len(KINDS)) as executor:
        assert list(executor.map(run_campaign, KINDS)) == [""] * len(KINDS)
    for strategy in KINDS:
        # the name is the canonical spelling: margin, its posterior, then the selector
        campaign = only(roots.results, f"*/al/2d__{strategy}__seed0/fold_0")
        batches = [read_json(campaign / f"round_{number:03d}" / "batch.json")["regions"] for number in range(3)]
        assert [len(batch) for batch in batches] == [6, 5, 5]
        asked = [(entry["case"], str(entry["box"])) for batch in batches for entry in batch]
        assert len(set(asked)) == len(asked)
        assert all(entry["score"] is not None for batch in batches[1:] for entry in batch)
        assert (campaign / "results.csv").read_text().count("\n") == 3
