"""The benchmarks run and write their tables; what they measure stands in benchmarks/README.md."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
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
        (
            "redundancy",
            ("-s", "query_sampling", "usimf,heads=all", "-query_size", "20", "-seeds", "1")
            + ("-random_cases", "2", "-redraw", "1", "-copies", "10"),
        ),
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


CLAIMS = {
    "scoring": {"scoring_vs_naive", "scoring_vs_bare_forward", "scoring_last_bare_forwards", "scoring_last_spearman"},
    "gradients": {"embedding_vs_decoder_pass", "gradients_vs_one_backward", "gradients_vs_per_sample"},
    "flqmi": {"flqmi_time_vs_submodlib", "flqmi_memory_vs_submodlib", "flqmi_liver_scale_seconds"},
    "diversity": {"core_set_vs_plain", "badge_vs_plain", "growth_selection_exponent_core_set"},
    "preprocessing": {"preprocessing_vs_full", "preprocessing_all_changed_vs_full"},
    "round": {"round_half_vs_float32", "round_last_vs_float32", "round_overhead_percent"},
    "labels": {"labels_round_2_vs_all_commits", "labels_round_10_vs_all_commits", "labels_growth"},
    "memory": {"memory_round_peak", "memory_scoring_vs_whole_case"},
    "growth": {"growth_scoring_exponent", "growth_preprocessing_exponent", "growth_selection_exponent"},
}


@pytest.fixture(scope="module")
def calls(folder) -> dict[str, subprocess.CompletedProcess]:
    """All of them, two side by side."""

    def call(script: str) -> subprocess.CompletedProcess:
        options = ("--quick", "-device", "cpu", "-o", folder / script, "--json", folder / f"{script}.json")
        return subprocess.run(
            [sys.executable, BENCHMARKS / f"{script}.py", *options], capture_output=True, text=True, check=False
        )

    with ThreadPoolExecutor(2) as executor:
        return dict(zip(CLAIMS, executor.map(call, CLAIMS), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("script", CLAIMS)
def test_a_benchmark_of_speed_or_memory_runs_quickly_and_makes_its_claims(calls, folder, script):
    assert calls[script].returncode == 0, calls[script].stderr
    found = json.loads((folder / f"{script}.json").read_text())
    assert found["machine"]["cores"] >= 1
    claims = {claim["name"]: claim for claim in found["claims"]}
    assert claims.keys() >= CLAIMS[script]
    for claim in claims.values():
        assert claim.keys() >= {"name", "ratio", "ours", "other", "unit"}
        assert claim["ratio"] is None or claim["ratio"] > 0
    assert (folder / script / f"{script}_quick.md").read_text() in calls[script].stdout


@pytest.mark.slow
def test_trainings_that_end_by_themselves_are_compared_with_fixed_ones(folder):
    numbers = folder / "training.json"
    command = [sys.executable, BENCHMARKS / "training.py", "epochs", "--quick", "-seeds", "0", "-np", "1"]
    call = subprocess.run(
        [*command, "-o", folder / "training", "--json", numbers], capture_output=True, text=True, check=False
    )
    assert call.returncode == 0, call.stderr
    found = json.loads(numbers.read_text())
    rounds_of = {run["way"]: run["rounds"] for run in found["runs"]}
    auto, fixed, twice = ([one["dice"] for one in rounds_of[way]] for way in ("auto", "fixed", "fixed_twice"))
    assert [len(one["losses"]) for one in rounds_of["fixed_twice"]] == [2 * one["epochs"] for one in rounds_of["fixed"]]
    assert found["auto_minus_fixed"]["mean"] == pytest.approx(sum(auto) / 2 - sum(fixed) / 2)
    assert found["auto_minus_fixed_twice"]["mean"] == pytest.approx(sum(auto) / 2 - sum(twice) / 2)
    assert (folder / "training" / "training_epochs.png").is_file()
