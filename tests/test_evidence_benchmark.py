"""The comparison of strategies: its arithmetic by hand, its committed report, and its smallest form from end to end."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

from nnunet_al.files import write_table
from nnunet_al.pool.geometry import CaseGeometry

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
RESULTS = BENCHMARKS / "results" / "evidence"


@pytest.fixture
def modules(monkeypatch):
    """From a name to a module of the benchmark."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return lambda name: import_module(f"evidence_{name}")


def cell(dataset, strategy, seed, number, dice, **others):
    foreground = others.pop("foreground", 100 * number)
    return {
        **{"dataset": dataset, "kind": "", "unit": "slice", "budget": 10, "strategy": strategy, "seed": seed},
        **{"round": number, "regions": 10 * number, "dice": dice, "hd95_mm": 2.0, "voxels": 1000 * number},
        **{"foreground_voxels": foreground, "contour_mm": 50.0 * number, "cases": 3 + number, "delta": None},
        **{"essp": None, "dice_of_classes": "a 0.5", "train_seconds": 1.0, "other_seconds": 1.0, **others},
    }


def campaign(dataset, strategy, seed, dices, **others):
    return [cell(dataset, strategy, seed, number, dice, **others) for number, dice in enumerate(dices, start=1)]


def test_measures_of_a_curve_by_hand(modules):
    measures = modules("measures")
    (one,) = measures.complete_campaigns(campaign("a", "random", 0, [0.5, 0.7, 0.8]))
    assert one.area == pytest.approx((0.6 + 0.75) / 2)  # trapezoids of equal width
    assert one.area_without_first == pytest.approx(0.75)
    assert one.final == 0.8
    assert one.needed(0.6) == pytest.approx(15)
    assert one.needed(0.75) == pytest.approx(25)
    assert one.needed(0.9) is None


def test_only_complete_campaigns_are_compared(modules):
    rows = [*campaign("a", "random", 0, [0.5, 0.7, 0.8]), *campaign("a", "entropy", 0, [0.5, 0.7])]
    rows += [*campaign("b", "random", 0, [0.5, 0.6]), *campaign("a", "random", 1, [0.5, 0.7, 0.8])[1:]]
    rows += campaign("a", "random", 5, [0.5, 0.7, 0.8], kind="pilot8")
    found = [(one.dataset, one.strategy, one.seed) for one in modules("measures").complete_campaigns(rows)]
    assert found == [("a", "random", 0), ("b", "random", 0)]


def test_areas_against_a_cost_end_where_the_cheapest_strategy_ends(modules):
    measures = modules("measures")
    rows = campaign("a", "random", 0, [0.5, 0.7])  # contours of 50 and 100
    rows += [cell("a", "long", 0, 1, 0.5), cell("a", "long", 0, 2, 0.9, contour_mm=250.0)]
    found = measures.areas_against(measures.complete_campaigns(rows), "contour_mm")["a", 0]
    assert found["random"] == pytest.approx(0.6)
    assert found["long"] == pytest.approx(0.55)  # at 100 mm it is a quarter of the way from 0.5 to 0.9


@pytest.mark.parametrize("rate", [0.5, 3.0, 40.0])
def test_foreground_efficiency_is_the_rate_at_which_the_gap_closes(modules, rate):
    measures = modules("measures")
    shares = np.array([0.0, 0.02, 0.05, 0.1])
    rows = [
        cell("a", "random", 0, number, 0.9 - 0.4 * math.exp(-rate * share), foreground=int(1000 + 1e6 * share))
        for number, share in enumerate(shares, start=1)
    ]
    (one,) = measures.complete_campaigns(rows)
    assert measures.foreground_efficiency(one, 0.9, 1e6) == pytest.approx(rate, rel=1e-3)
    assert math.isnan(measures.foreground_efficiency(one, 0.5, 1e6))


@pytest.mark.parametrize(
    "p_values, wanted",
    [
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),  # 3 x 0.01, 2 x 0.03, and not below that
        ([0.5], [0.5]),
        ([0.5, 0.9], [1.0, 1.0]),
        ([], []),
    ],
)
def test_holm_by_hand(modules, p_values, wanted):
    assert modules("tests").holm(p_values) == pytest.approx(wanted)


def against(modules, differences, other=0.6, without=()):
    """Compare one strategy with another over four seeds of each set."""
    values = {"other": {}, "new": {}}
    for dataset, of_seeds in differences.items():
        for seed, difference in enumerate(of_seeds):
            values["other"][dataset, seed] = other + 0.01 * seed
            values["new"][dataset, seed] = other + 0.01 * seed + difference
    (found,) = modules("tests").against("other", values, ["other", "new"], {"new": without})
    return found


def test_a_strategy_beats_another_one_if_it_does_so_on_each_set(modules):
    clear = against(modules, {"a": [0.01, 0.02, 0.03, 0.02], "b": [0.01, 0.01, 0.02, 0.01]})
    assert clear.p == pytest.approx(2 / 2**8)  # of all signs only these and their opposite are as far from 0
    assert clear.beats
    assert clear.mean == pytest.approx(0.01625)
    assert clear.mean_of_set == pytest.approx({"a": 0.02, "b": 0.0125})


def test_what_is_significant_but_worse_on_a_set_does_not_beat(modules):
    mixed = against(modules, {"a": [0.05, 0.06, 0.05, 0.06], "b": [0.04, 0.05, 0.05, 0.04], "c": [-0.001] * 4})
    assert mixed.p < 0.05
    assert not mixed.beats


def test_four_seeds_of_one_set_prove_nothing(modules):
    assert against(modules, {"a": [0.1, 0.1, 0.1, 0.1]}).p == pytest.approx(2 / 2**4)
    assert not against(modules, {"a": [0.1, 0.1, 0.1, 0.1]}).beats


def test_what_a_strategy_was_chosen_on_is_left_out(modules):
    found = against(modules, {"a": [0.9, 0.02, 0.02, 0.02], "b": [0.02] * 4}, without=[("a", 0)])
    assert found.blocks == 7
    assert found.mean == pytest.approx(0.02)
    only = against(modules, {"a": [0.9], "b": [0.02] * 8}, without=[("a", 0)])
    assert only.p < 0.05
    assert not only.beats, "nothing is left of one set"


def test_cells_replace_those_of_the_same_name_and_stay_sorted(modules, tmp_path):
    cells, file = modules("cells"), tmp_path / "cells.csv"
    cells.add_cells(file, campaign("b", "usimf,eta=0", 0, [0.5, 0.6]))
    cells.add_cells(file, campaign("a", "random", 1, [0.4, 0.5], delta=0.25))
    before = file.read_bytes()
    cells.add_cells(file, campaign("b", "usimf,eta=0", 0, [0.5, 0.6]))
    assert file.read_bytes() == before
    cells.add_cells(file, [cell("b", "usimf,eta=0", 0, 2, 0.65)])
    found = cells.read_cells(file)
    assert found == [*campaign("a", "random", 1, [0.4, 0.5], delta=0.25), *campaign("b", "usimf,eta=0", 0, [0.5, 0.65])]


def test_the_report_says_what_the_cells_hold(modules, tmp_path):
    rows = []
    for dataset in ("acdc", "hippocampus", "wbc"):
        for seed in range(4):
            rows += campaign(dataset, "random_foreground", seed, [0.5, 0.6, 0.701 + 0.002 * seed])
            rows += campaign(dataset, "random", seed, [0.5, 0.6, 0.701 + 0.002 * seed])
            rows += campaign(dataset, "badge", seed, [0.5, 0.64, 0.741 + 0.002 * seed])
        rows.append(cell(dataset, "random", 0, 1, 0.8, kind="full", foreground=5000, budget=None))
    write_table(tmp_path / "cells.csv", [{k: "" if v is None else v for k, v in row.items()} for row in rows])
    modules("report").write_report(tmp_path)
    text = (tmp_path / "evidence.md").read_text(encoding="utf-8")
    # area: (0.04 + 0.04 / 2) / 2 of the difference; p: 2 of 2^12 signs, times 2 strategies
    assert "`badge` beats `random_foreground` (p < 0.05 after Holm over 2 strategies" in text
    line = "| `badge` | 12 | +0.0300 (+0.0300 to +0.0300) | +0.0300 | +0.0300 | +0.0300 | 0.00049 | 0.00098 | yes |"
    assert line in text
    assert "| `random` | 12 | +0.0000 (+0.0000 to +0.0000) | +0.0000 | +0.0000 | +0.0000 | 1.00 | 1.00 | no |" in text
    # area: ((0.5 + 0.64) / 2 + (0.64 + 0.744) / 2) / 2; 90 % of 0.8 at 20 + 10 (0.72 - 0.64) / (0.744 - 0.64)
    assert "| `badge` | 0.631 (0.630 to 0.632) | 0.692 | 0.744 | 28 (4 of 4) | not reached (0 of 4) |" in text
    assert "| `random` | 4 | 0.500 | 0.600 | 0.704 |" in text
    assert {path.name for path in tmp_path.glob("*.png")} == {
        "curves.png", "costs.png", "differences.png", "penalty.png"
    }  # fmt: skip


@pytest.mark.skipif(not (RESULTS / "cells.csv").is_file(), reason="no cell is committed yet")
def test_the_committed_report_is_that_of_the_committed_cells(modules):
    report, rows = modules("report"), modules("cells").read_cells(RESULTS / "cells.csv")
    assert (RESULTS / "evidence.md").read_text(encoding="utf-8") == report.main_report(rows)
    assert (RESULTS / "part_two.md").read_text(encoding="utf-8") == report.second_report(rows)
    for name in ("curves", "costs"):
        assert (RESULTS / f"{name}.png").is_file()


def test_every_strategy_of_the_protocol_exists_and_has_a_campaign_of_its_own(modules, tmp_path):
    settings, campaigns = modules("settings"), modules("campaigns")
    from nnunet_al.nnunet.environment import Roots

    names = [*dict.fromkeys((*settings.STRATEGIES, *settings.PART_TWO, *settings.CHOSEN_ON))]
    assert settings.BASELINE in names
    roots = Roots.below(tmp_path)
    for protocol in (*settings.PROTOCOLS.values(), settings.QUICK):
        if protocol.group_by is not None:
            continue  # its table of groups is looked for
        all_campaigns = [campaigns.Campaign(protocol, name, 0) for name in names]
        all_campaigns += [campaigns.Campaign(protocol, "random", 0, kind) for kind in ("full", "longer", "full_longer")]
        for one in all_campaigns:
            one.request(roots).check()
        assert len({one.folder(roots).root for one in all_campaigns}) == len(all_campaigns)
        assert len({one.name for one in all_campaigns}) == len(all_campaigns)


def test_trainings_are_as_long_as_the_protocol_says(modules):
    settings = modules("settings")
    for protocol in (*settings.PROTOCOLS.values(), settings.PROTOCOLS["wbc"].longer()):
        first, later, full = protocol.iterations
        asked = protocol.settings()
        assert asked["epochs"] * asked["iterations"] == first
        assert asked["fine_tuning_epochs"] * asked["iterations"] == later
        assert protocol.full_settings()["epochs"] * protocol.full_settings()["iterations"] == full
        pixels = protocol.batch_size * {"hippocampus": 56 * 40, "acdc": 96 * 96, "wbc": 128 * 128}[protocol.name]
        assert 65_000 <= pixels <= 75_000


def test_a_split_takes_of_each_group_its_share(modules):
    names = [f"case_{index}" for index in range(30)]
    groups = {name: "rare" if index < 10 else "common" for index, name in enumerate(names)}
    found = modules("data").split(names, groups, 5)
    assert {*found["train"]} | {*found["val"]} == {*names}
    assert len(found["val"]) == 6
    assert sum(groups[name] == "rare" for name in found["val"]) == 2


def test_sums_of_a_window_by_hand(modules):
    """Four voxels, one of which does not count; background and one class; two samples."""
    record = modules("record")
    foreground_T_v = torch.tensor([[0.9, 0.6, 0.2, 1.0], [0.7, 0.2, 0.2, 1.0]])
    sampled_T_B_C_xyz = torch.stack([1 - foreground_T_v, foreground_T_v], dim=1).view(2, 1, 2, 2, 2)
    plain_1_B_C_xyz = sampled_T_B_C_xyz[:1]
    truth_B_xyz = torch.tensor([[[1, 0], [1, 1]]])
    mask_B_xyz = torch.tensor([[[True, True], [True, False]]])
    sums, samples = record.window_sums(plain_1_B_C_xyz, sampled_T_B_C_xyz, truth_B_xyz, mask_B_xyz)
    wanted = {
        **{"voxels_N": 3, "true_N_C": 2},
        **{"plain_size_N_C": 2, "plain_intersection_N_C": 1},  # 0.9 and 0.6 are foreground, the first one truly
        **{"plain_expected_size_N_C": 1.7, "plain_expected_intersection_N_C": 1.5},
        **{"averaged_size_N_C": 1, "averaged_intersection_N_C": 1},  # means 0.8, 0.4, 0.2
        **{"averaged_expected_size_N_C": 1.4, "averaged_expected_intersection_N_C": 0.8},
    }
    assert {name: float(value.item()) for name, value in sums.items()} == pytest.approx(wanted)
    assert samples["averaged_sd_size_N_C"].ravel().tolist() == pytest.approx([1.7, 1.1])
    assert samples["averaged_sd_intersection_N_C"].ravel().tolist() == pytest.approx([0.9, 0.7])


def test_labels_come_to_the_grid_of_the_network(modules):
    labels_zyx = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    same = CaseGeometry("a", (2, 3, 4), (1.0, 1.0, 1.0), (2, 0, 1), ((1, 4), (0, 2), (1, 3)), (3, 2, 2))
    found = modules("record").labels_on_network_grid(labels_zyx, same)
    np.testing.assert_array_equal(found, labels_zyx.transpose(2, 0, 1)[1:4, 0:2, 1:3])
    finer = CaseGeometry("a", (2, 3, 4), (1.0, 1.0, 1.0), (0, 1, 2), ((0, 2), (0, 3), (0, 4)), (2, 6, 2))
    found = modules("record").labels_on_network_grid(labels_zyx, finer)
    np.testing.assert_array_equal(found, labels_zyx[:, [0, 0, 1, 1, 2, 2]][:, :, [1, 3]])


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """The benchmark on phantoms, and a way to call it again on the same folder."""
    folder = tmp_path_factory.mktemp("evidence")

    def call(*words: str) -> subprocess.CompletedProcess:
        command = [sys.executable, BENCHMARKS / "evidence.py", "-o", folder, "-results", folder / "results", *words]
        variables = {**os.environ, "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"}
        return subprocess.run(command, capture_output=True, text=True, check=False, env=variables)

    return folder, call, call("--quick", "-s", "random", "evenly_spaced", "usimf,embedding_size=50")


@pytest.mark.slow
def test_the_benchmark_runs_and_shares_the_first_model(quick):
    folder, _, first = quick
    assert first.returncode == 0, first.stderr
    assert first.stdout.count("is taken over: its training is the same") == 2
    text = (folder / "results" / "evidence.md").read_text()
    assert "| `usimf,embedding_size=50` | 0 |" in text
    assert "| whole pool | 0 |" in text
    assert "## quick: measures" in text


@pytest.mark.slow
def test_a_record_agrees_with_what_it_counts(quick, modules):
    folder, _, first = quick
    assert first.returncode == 0, first.stderr
    files = sorted((folder / "results" / "records").glob("*.npz"))
    assert [file.stem for file in files] == [
        "quick__evenly_spaced__seed0", "quick__random__seed0", "quick__usimf__embedding-size-50__seed0"
    ]  # fmt: skip
    per_file = []
    for file in files:
        found = dict(np.load(file))
        kinds = {number: found["kind_N"][found["round_N"] == number].tolist() for number in (1, 2, 3)}
        assert [[kinds[number].count(kind) for kind in range(3)] for number in (1, 2, 3)] == [
            [12, 4, 2], [12, 4, 2], [12, 0, 2]
        ]  # fmt: skip
        for prediction in ("plain", "averaged"):
            sizes, meet = found[f"{prediction}_size_N_C"], found[f"{prediction}_intersection_N_C"]
            assert (meet <= np.minimum(sizes, found["true_N_C"])).all()
            expected = found[f"{prediction}_expected_intersection_N_C"]
            assert (expected <= found[f"{prediction}_expected_size_N_C"] + 0.01).all()
            assert (expected <= sizes + 0.01).all()
        assert (found["true_N_C"].sum(axis=1) <= found["voxels_N"]).all()
        assert found["true_N_C"].sum() > 0
        assert not found["annotated_N"][found["kind_N"] == 1].any(), "a batch is new to the model that asks for it"
        per_file.append(found)
    first_rows = [found["kind_N"][found["round_N"] == 1] != 1 for found in per_file]
    for found, rows in zip(per_file[1:], first_rows[1:], strict=True):
        for name in ("number_N", "plain_expected_size_N_C"):
            one, other = (f[name][f["round_N"] == 1][r] for f, r in ((per_file[0], first_rows[0]), (found, rows)))
            np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_a_second_call_trains_nothing_and_changes_nothing(quick):
    folder, call, first = quick
    assert first.returncode == 0, first.stderr
    files = ["cells.csv", "evidence.md", "part_two.md", "curves.png"]
    before = [(folder / "results" / name).read_bytes() for name in files]
    again = call("--quick", "-s", "random", "evenly_spaced", "usimf,embedding_size=50")
    assert again.returncode == 0, again.stderr
    assert "  training" not in again.stdout
    assert [(folder / "results" / name).read_bytes() for name in files] == before
