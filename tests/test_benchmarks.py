"""The benchmarks of strategies run and write their tables; what they measure stands in benchmarks/README.md."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Shared, because the benchmarks share a trained round."""
    return tmp_path_factory.mktemp("benchmarks")


@pytest.mark.slow
@pytest.mark.parametrize(
    "script, options",
    [
        ("selection_time", ("-s", "random", "entropy", "core_set")),
        ("redundancy", ("-s", "entropy", "usimf,eta=0", "-query_size", "50", "-seeds", "2")),
        ("batch_uncertainty", ("-s", "bald", "-rounds", "1")),
    ],
)
def test_a_benchmark_runs_quickly(folder, script, options):
    numbers = folder / f"{script}.json"
    command = [sys.executable, BENCHMARKS / f"{script}.py", "--quick", "-np", "1", "-o", folder, "--json", numbers]
    call = subprocess.run(
        [*command, *options], capture_output=True, text=True, check=False, env={**os.environ, "MPLBACKEND": "Agg"}
    )
    assert call.returncode == 0, call.stderr
    found = json.loads(numbers.read_text())
    assert found["machine"]["cores"] >= 1
    strategies = [one["strategy"] for one in found["strategies"]]
    table = (folder / f"{script}_quick.md").read_text()
    assert table in call.stdout
    assert all(f"| `{strategy}` |" in table for strategy in strategies)
