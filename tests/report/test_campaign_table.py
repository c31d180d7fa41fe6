from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from nnunet_al.campaign.cost import total_cost
from nnunet_al.campaign.ledger import Commit, LabelEntry, commit_to_json
from nnunet_al.evaluation.budget import mean_and_interval
from nnunet_al.files import write_json
from nnunet_al.pool.boxes import Region
from nnunet_al.report.reading.lines import comparisons, line_curve
from nnunet_al.report.tables.all_tables import Table, campaign_tables, read_runs, remarks

from .faked_campaigns import STAGES, fake_campaign

DICE = {  # strategy -> (fold, seed) -> Dice of rounds 1 to 3, trained on 10, 20 and 30 regions
    "entropy": {(0, 0): [0.50, 0.60, 0.70], (1, 0): [0.52, 0.62, 0.74]},
    "random": {(0, 0): [0.50, 0.55, 0.60], (1, 0): [0.52, 0.57, 0.62]},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("results")
    return read_runs(
        [
            fake_campaign(root, strategy, dice, fold=fold, seed=seed, classes={"head": 0.1, "tail": -0.1})
            for strategy, of in DICE.items()
            for (fold, seed), dice in of.items()
        ]
    )


def tables(runs, **options):
    return {table.name: table for table in campaign_tables(runs, **options)}


def of(table, **wanted):
    return [row for row in table.rows if all(row[name] == value for name, value in wanted.items())]


def test_the_rounds_are_those_on_disk(runs):
    table = tables(runs)["rounds"]
    assert len(table.rows) == 4 * 4
    row = of(table, strategy="entropy", fold=1, round=2)[0]
    assert row["dice"] == 0.62
    assert (row["trained_on_regions"], row["trained_on_cases"], row["trained_on_voxels"]) == (20, 3, 20_000)
    assert (row["trained_on_foreground_voxels"], row["trained_on_contour_mm"], row["trained_on_minutes"]) == (
        3000,
        1750,
        None,
    )
    assert (row["asked_regions"], row["asked_cases"]) == (10, 3)
    assert row["seconds"] == pytest.approx(sum(STAGES.values()))
    assert of(table, round=0)[0]["dice"] is None
    assert "delta" not in row


def test_mean_curves_are_means_of_runs_with_their_intervals(runs):
    table = tables(runs)["curves"]
    rows = of(table, strategy="entropy", axis="contour_mm")
    assert [row["budget"] for row in rows] == [875, 1750, 2625]
    assert [row["dice"] for row in rows] == pytest.approx([0.51, 0.61, 0.72])
    for row, values in zip(rows, zip(*DICE["entropy"].values(), strict=True), strict=True):
        assert (row["low"], row["high"]) == pytest.approx(mean_and_interval(values)[1])
        assert row["runs"] == 2
    assert not of(table, axis="minutes")  # nobody has said how long it took


def test_areas_and_budgets_worked_out_by_hand(runs):
    found = tables(runs)
    row = of(found["area"], strategy="random", axis="regions")[0]
    assert (row["from"], row["to"]) == (10, 30)
    assert row["area"] == pytest.approx((0.55 + 0.57) / 2)
    # the best mean is 0.72: 90 % are 0.648, between rounds 2 (0.61) and 3 (0.72)
    row = of(found["budget"], strategy="entropy", axis="regions", percent=90)[0]
    assert row["target_dice"] == pytest.approx(0.648)
    assert row["budget"] == pytest.approx(20 + 10 * (0.648 - 0.61) / 0.11)
    assert (row["runs"], row["runs_that_reach_it"]) == (2, 2)
    row = of(found["budget"], strategy="random", axis="regions", percent=90)[0]
    assert (row["budget"], row["remark"], row["runs_that_reach_it"]) == (None, "not reached", 0)


def test_the_area_of_a_mean_curve_is_the_mean_of_the_areas(runs):
    found = tables(runs)
    for axis in ("regions", "voxels", "contour_mm"):
        points = of(found["curves"], strategy="entropy", axis=axis)
        x, y = ([point[name] for point in points] for name in ("budget", "dice"))
        trapezia = np.sum(np.diff(x) * (np.array(y)[1:] + y[:-1]) / 2) / (x[-1] - x[0])
        assert of(found["area"], strategy="entropy", axis=axis)[0]["area"] == pytest.approx(trapezia)


def test_a_reference_that_is_given(runs):
    table = tables(runs, full_dice=0.55)["budget"]
    assert "0.5500" in table.caption
    row = of(table, strategy="random", axis="regions", percent=90)[0]
    assert (row["budget"], row["remark"]) == (10, "at the first model")  # 0.51 is above 0.495


def test_standings_and_penalties(runs):
    found = tables(runs)
    first, second = found["standings"].rows
    assert (first["strategy"], second["strategy"]) == ("entropy", "random")
    assert second["difference"] == pytest.approx(-0.11)
    assert second["pairs"] == 2
    # entropy less random: 0 and 0 in round 1, 0.05 twice in round 2, 0.10 and 0.12 in round 3 (t = 11 < 12.7)
    rows = {(row["strategy"], row["beats"]): row for row in found["penalty"].rows}
    assert rows["entropy", "random"]["cells"] == 3
    assert rows["entropy", "random"]["wins"] == 1
    assert rows["entropy", "random"]["cells_without_variance"] == 2
    assert rows["random", "entropy"]["wins"] == 0
    assert rows["entropy", "random"]["column_mean_of_the_beaten"] == pytest.approx(1 / 6)


def test_classes_and_stages(runs):
    found = tables(runs)
    rows = of(found["classes"], strategy="random", **{"class": "tail"})
    assert [row["dice"] for row in rows] == pytest.approx([0.41, 0.46, 0.51])
    row = found["time"].rows[0]
    assert (row["preparing"], row["training"], row["total"]) == (3, 60, pytest.approx(sum(STAGES.values())))
    assert "embedding" not in row
    assert of(found["stages"], strategy="random", stage="train")[0]["rounds"] == 6


def test_shards_are_summed_and_unknown_stages_kept(tmp_path):
    folder = fake_campaign(tmp_path, "entropy", [0.5])
    for part in (0, 1):
        write_json(folder.round(1).stages / f"score_part_{part}_of_2.json", {"seconds": 7})
    write_json(folder.round(1).stages / "dance.json", {"seconds": 3})
    run = read_runs([folder])[0]
    assert run.rounds[1].seconds["score"] == STAGES["score"] + 14
    assert of(tables([run])["stages"], stage="dance")[0]["part"] == "other"


def test_groups_in_some_campaigns_only(tmp_path):
    groups = {"F": (0.1, 0.25), "M": (-0.1, 0.75)}
    runs = read_runs(
        [
            fake_campaign(tmp_path, "entropy", [0.5, 0.6], groups=groups),
            fake_campaign(tmp_path, "random", [0.4, 0.5]),
        ]
    )
    found = tables(runs)
    rows = of(found["groups"], strategy="entropy")
    assert [row["value"] for row in rows if row["measure"] == "Δ"] == pytest.approx([0.2, 0.2])
    assert [row["value"] for row in rows if row["measure"] == "ESSP"] == pytest.approx([0.5 / 1.2, 0.6 / 1.2])
    assert [r["value"] for r in rows if (r["measure"], r["group"]) == ("share", "F")] == [0.25, 0.25]
    assert [r["value"] for r in rows if (r["measure"], r["group"]) == ("Dice", "M")] == pytest.approx([0.4, 0.5])
    assert not of(found["groups"], strategy="random")
    assert of(found["rounds"], strategy="random", round=1)[0]["delta"] is None
    assert of(found["rounds"], strategy="entropy", round=1)[0]["delta"] == pytest.approx(0.2)


def test_older_metrics_lack_what_they_did_not_know(tmp_path):
    found = tables(read_runs([fake_campaign(tmp_path, "entropy", [0.5, 0.6], old=True)]))
    assert {row["axis"] for row in found["curves"].rows} == {"regions", "voxels"}
    assert of(found["rounds"], round=1)[0]["trained_on_contour_mm"] is None


def test_what_is_broken_is_left_out_with_a_sentence(tmp_path):
    good, torn, lost = (fake_campaign(tmp_path, "entropy", [0.5, 0.6, 0.7], seed=seed) for seed in range(3))
    torn.round(2).metrics.write_text('{"round": 2, "mean')
    torn.round(3).batch.write_text("[]")
    (torn.round(3).stages / "train.json").write_text("null")
    lost.decisions.write_text("{")
    left_out = []
    runs = read_runs([good, torn, lost], left_out)
    assert [run.decided.seed for run in runs] == [0, 1]
    assert len(left_out) == 1
    assert str(lost.decisions) in left_out[0]
    assert [result.dice for result in runs[1].rounds] == [None, 0.5, None, 0.7]
    assert len(runs[1].remarks) == 3
    assert not runs[0].remarks
    said = " ".join(remarks(runs))
    assert "metrics.json" in said
    assert "seed 1 has 2" in said  # the mean line is shorter for it
    assert len(tables(runs)["rounds"].rows) == 8


def test_nothing_to_read():
    assert read_runs([]) == []
    assert all(not table.rows for table in campaign_tables([]))


def test_without_test_cases_the_ledger_says_what_a_model_was_trained_on(tmp_path):
    folder = fake_campaign(tmp_path, "entropy", [None], test="none", test_cases=())
    labels = {"a": LabelEntry("0" * 64, 100, 30, 12.5), "b": LabelEntry("0" * 64, 50, 10, 7.5)}
    commits = []
    for number, (case, entry) in enumerate(labels.items()):
        region = Region(case, ((0, 2), (0, 5), (0, 5)))
        commits.append(Commit(number, number, "reader", "r1", (region,), {case: entry}, minutes=4.0))
        write_json(folder.ledger / f"{number:03d}.json", commit_to_json(commits[-1]))
    run = read_runs([folder])[0]
    assert not run.remarks
    assert (run.rounds[1].regions, run.rounds[1].voxels, run.rounds[1].contour_mm) == (1, 100, 12.5)
    assert run.rounds[1].minutes == 4
    rows = tables([run])["cost"].rows
    assert [(row["round"], row["voxels"], row["foreground_voxels"]) for row in rows] == [(0, 100, 30), (1, 50, 10)]
    assert run.rounds[1].cost == total_cost(commits[1:])
    (folder.ledger / "001.json").write_text("{}")
    assert len(read_runs([folder])[0].remarks) == 1


def test_lines_are_runs_that_agree_and_are_called_by_what_differs(tmp_path):
    folders = [
        fake_campaign(tmp_path, "entropy", [0.5], seed=0),
        fake_campaign(tmp_path, "entropy", [0.5], seed=1),
        fake_campaign(tmp_path, "entropy", [0.5], tag="long"),
        fake_campaign(tmp_path, "entropy", [0.5], configuration="3d_fullres", unit="case"),
        fake_campaign(tmp_path, "entropy", [0.5], dataset="Dataset601_Other", unit="case"),
    ]
    first, second = comparisons(read_runs(folders))
    assert {line.label: len(line.runs) for line in first.lines} == {
        "entropy, 2d, unit slice": 2,
        "entropy, 2d, unit slice, tag long": 1,
        "entropy, 3d_fullres, unit case": 1,
    }
    assert [line.label for line in second.lines] == ["entropy"]
    assert (first.title, second.title) == ("Dataset501_Phantom", "Dataset601_Other")


def test_a_region_is_not_compared_with_another_units(tmp_path):
    runs = read_runs(
        [
            fake_campaign(tmp_path, "entropy", [0.5, 0.6], unit="slice"),
            fake_campaign(tmp_path, "random", [0.5, 0.7], unit="case", initial=1000),
        ]
    )
    found = tables(runs)
    assert [row["difference"] for row in found["standings"].rows] == [None, None]
    assert len(of(found["area"], axis="regions")) == 2
    assert not of(found["area"], axis="voxels")  # no voxels in common
    assert not found["penalty"].rows


def test_strategies_are_compared_at_one_budget_only(tmp_path):
    runs = read_runs(
        [
            fake_campaign(tmp_path, strategy, [value, value + 0.01 * seed], seed=seed, budget=budget)
            for strategy, value, budget in (("entropy", 0.6, 10), ("random", 0.5, 20))
            for seed in (0, 1)
        ]
    )
    row = next(row for row in tables(runs)["penalty"].rows if row["strategy"] == "entropy")
    assert row["cells"] == 1  # round 1, after the same initial batch
    assert row["cells_with_too_few_runs"] == 1  # round 2: 20 regions here, 30 there


def test_runs_of_a_line_that_differ_are_remarked(tmp_path):
    runs = read_runs(
        [fake_campaign(tmp_path, "entropy", [0.5], seed=0), fake_campaign(tmp_path, "entropy", [0.5], seed=1, epochs=9)]
    )
    assert any("epochs" in sentence for sentence in remarks(runs))
    assert not remarks(runs[:1])


def test_a_run_that_does_not_overlap_leaves_no_mean(tmp_path):
    folders = [
        fake_campaign(tmp_path, "entropy", [0.5], seed=seed, initial=initial) for seed, initial in ((0, 10), (1, 99))
    ]
    line = comparisons(read_runs(folders))[0].lines[0]
    assert len(line_curve(line, "regions")) == 0
    assert tables(read_runs(folders))["standings"].rows == []


def test_settings_say_who_differs(runs):
    table = tables(runs)["settings"]
    assert of(table, setting="epochs") == [{"setting": "epochs", "value": "5", "campaigns": "all"}]
    folds = of(table, setting="fold")
    assert [row["value"] for row in folds] == ["0", "1"]
    assert "random, fold 1" in folds[1]["campaigns"]


def test_a_table_as_file_and_on_the_page(tmp_path):
    rows = [{"a": 'x, "y"', "n": 1200, "x": 0.5, "b": True}, {"a": None, "n": None, "x": 1, "b": False}]
    table = Table("some", "What it is.", rows, titles={"n": "number of things"}, digits={"x": 1})
    assert [(column.title, column.kind) for column in table.columns] == [
        ("a", "text"),
        ("number of things", "whole"),
        ("x", "number"),
        ("b", "text"),
    ]
    assert [table.text(rows[0], name) for name in rows[0]] == ['x, "y"', "1\u202f200", "0.5", "yes"]
    assert [table.text(rows[1], name) for name in rows[1]] == ["–", "–", "1", "no"]
    path = table.write(tmp_path)
    with path.open(encoding="utf-8", newline="") as file:
        back = list(csv.DictReader(file))
    assert back[0] == {"a": 'x, "y"', "n": "1200", "x": "0.5", "b": "True"}
    assert back[1]["n"] == ""
    assert Table("none", "", []).write(tmp_path) is None
    assert [entry.name for entry in tmp_path.iterdir()] == ["some.csv"]


def test_all_tables_are_rectangular_and_plain(runs, tmp_path):
    for table in campaign_tables(runs):
        assert table.caption.endswith(".")
        assert len({tuple(row) for row in table.rows}) <= 1, table.name
        json.dumps(table.rows)  # nothing of numpy
        if table.rows:
            assert table.write(tmp_path).read_text().count("\n") == len(table.rows) + 1
