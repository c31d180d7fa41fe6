from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from nnunet_al.campaign.commits import Commit, LabelEntry, commit_to_json, total_cost
from nnunet_al.evaluation.budget import mean_and_interval
from nnunet_al.files import read_json, write_json
from nnunet_al.pool.boxes import Region
from nnunet_al.report.page.summary import missing_sentences, ranking_sentences
from nnunet_al.report.reading.lines import comparisons, line_curve
from nnunet_al.report.reading.reference import Reference
from nnunet_al.report.reading.runs import read_runs
from nnunet_al.report.reading.warnings import all_warnings, line_warnings, pool_warnings
from nnunet_al.report.tables.all_tables import campaign_tables, penalties_of
from nnunet_al.report.tables.table import Table

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
    compared = comparisons(runs)
    return {table.name: table for table in campaign_tables(runs, compared, penalties_of(compared), **options)}


def warnings(runs):
    return all_warnings(runs, comparisons(runs))


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
    table = tables(runs, reference=Reference(0.55))["budget"]
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
        [fake_campaign(tmp_path, "entropy", [0.5, 0.6], groups=groups), fake_campaign(tmp_path, "random", [0.4, 0.5])]
    )
    found = tables(runs)
    rows = of(found["groups"], strategy="entropy")
    assert [row["value"] for row in rows if row["measure"] == "Δ"] == pytest.approx([0.2, 0.2])
    assert [row["value"] for row in rows if row["measure"] == "Δ, absent as 1"] == pytest.approx([0.25, 0.25])
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


def test_the_delta_of_older_metrics_counts_absent_classes_as_1(tmp_path):
    folder = fake_campaign(tmp_path, "entropy", [0.5], old=True, groups={"F": (0.1, 0.25), "M": (-0.1, 0.75)})
    row = of(tables(read_runs([folder]))["rounds"], round=1)[0]
    assert row["delta"] == row["delta_absent_as_1"] == pytest.approx(0.2)


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
    assert len(runs[1].warnings) == 3
    assert not runs[0].warnings
    said = " ".join(warnings(runs))
    assert "metrics.json" in said
    assert "mean line ends" not in said  # both come to 30 regions, with a line in between
    assert len(tables(runs)["rounds"].rows) == 8


def test_nothing_to_read():
    assert read_runs([]) == []
    assert all(not table.rows for table in tables([]).values())


def test_without_test_cases_the_ledger_says_what_a_model_was_trained_on(tmp_path):
    folder = fake_campaign(tmp_path, "entropy", [None], test="none", test_cases=())
    labels = {"a": LabelEntry("0" * 64, 100, 30, 12.5), "b": LabelEntry("0" * 64, 50, 10, 7.5)}
    commits = []
    for number, (case, entry) in enumerate(labels.items()):
        region = Region(case, ((0, 2), (0, 5), (0, 5)))
        commits.append(Commit(number, number, "reader", "r1", (region,), {case: entry}, minutes=4.0))
        write_json(folder.ledger / f"{number:03d}.json", commit_to_json(commits[-1]))
    run = read_runs([folder])[0]
    assert not run.warnings
    assert (run.rounds[1].regions, run.rounds[1].voxels, run.rounds[1].contour_mm) == (1, 100, 12.5)
    assert run.rounds[1].minutes == 4
    rows = tables([run])["cost"].rows
    assert [(row["round"], row["voxels"], row["foreground_voxels"]) for row in rows] == [(0, 100, 30), (1, 50, 10)]
    assert run.rounds[1].cost == total_cost(commits[1:])
    (folder.ledger / "001.json").write_text("{}")
    assert len(read_runs([folder])[0].warnings) == 1


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
    spans = [(row["from"], row["to"]) for row in of(found["area"], axis="voxels")]
    assert spans == [(10_000, 20_000), (1_000_000, 1_010_000)]  # no voxels in common
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
    assert any("epochs" in sentence for sentence in warnings(runs))
    assert not warnings(runs[:1])


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
    for table in tables(runs).values():
        assert table.caption.endswith(".")
        assert len({tuple(row) for row in table.rows}) <= 1, table.name
        json.dumps(table.rows)  # nothing of numpy
        if table.rows:
            assert table.write(tmp_path).read_text().count("\n") == len(table.rows) + 1


def three_folds(root, strategy, *last):
    return [fake_campaign(root, strategy, [0.5, dice], fold=fold) for fold, dice in enumerate(last)]


def test_strategies_are_ranked_by_the_runs_that_all_of_them_have(tmp_path):
    """The easy third fold, which entropy lacks, puts random's mean above, though it is behind in each common run."""
    runs = read_runs(three_folds(tmp_path, "random", 0.70, 0.701, 0.95) + three_folds(tmp_path, "entropy", 0.74, 0.742))
    first, second = tables(runs)["standings"].rows
    assert (first["strategy"], first["lacks"], first["runs"]) == ("entropy", "fold 2 seed 0", 2)
    assert (second["strategy"], second["lacks"], second["runs"], second["pairs"]) == ("random", "", 3, 2)
    assert (first["common_dice"], second["common_dice"]) == pytest.approx((0.741, 0.7005))
    assert second["dice"] == pytest.approx((0.70 + 0.701 + 0.95) / 3)
    assert second["difference_high"] < 0
    said = " ".join(ranking_sentences(tables(runs)["standings"]))
    assert "none is said to lead" in said
    assert "highest" not in said
    assert "Worse than entropy" in said
    assert "holds 0" not in said


def test_units_stay_apart_in_every_table_against_regions(tmp_path):
    classes = {"a": 0.1, "b": -0.1}
    slices = (("random", "slice", 0.80), ("entropy", "slice", 0.85))
    patches = (("random", "patch", 0.60), ("bald", "patch", 0.55))
    runs = read_runs(
        [
            fake_campaign(tmp_path, strategy, [0.5, dice], unit=unit, fold=fold, tag=unit, classes=classes)
            for strategy, unit, dice in (*slices, *patches)
            for fold in (0, 1)
        ]
    )
    found = tables(runs)
    titles = {"Dataset501_Phantom, unit slice", "Dataset501_Phantom, unit patch"}
    for name in ("standings", "curves", "area", "budget"):
        assert {row["dataset"] for row in found[name].rows if row.get("axis", "regions") == "regions"} == titles, name
    assert {row["dataset"] for row in found["classes"].rows} == titles
    assert {row["dataset"] for row in of(found["curves"], axis="voxels")} == {"Dataset501_Phantom"}
    of_patches = [sentence for sentence in ranking_sentences(found["standings"]) if "unit patch, with" in sentence]
    assert len(of_patches) == 1
    assert "random, unit patch, tag patch has the highest" in of_patches[0]


def test_budgets_that_do_not_overlap_are_set_apart_and_not_thrown_away(tmp_path):
    folders = [fake_campaign(tmp_path, strategy, [0.5, 0.6, 0.7]) for strategy in ("random", "entropy", "bald")]
    folders.append(fake_campaign(tmp_path, "badge", [0.8], initial=100))
    runs = read_runs(folders)
    rows = tables(runs)["standings"].rows
    assert [(row["strategy"], row["regions"]) for row in rows[:3]] == [
        (name, 30) for name in ("random", "entropy", "bald")
    ]
    assert (rows[3]["strategy"], rows[3]["regions"]) == ("badge", 100)
    areas = of(tables(runs)["area"], axis="regions")
    assert [(row["strategy"], row["from"], row["to"]) for row in areas] == [
        *((name, 10, 30) for name in ("random", "entropy", "bald")),
        ("badge", 100, 100),
    ]
    said = " ".join(ranking_sentences(tables(runs)["standings"]))
    assert (
        "badge has a mean foreground Dice of 0.8000 (1 run, so no interval); no other strategy was trained on this "
        "number of regions" in said
    )
    assert missing_sentences(comparisons(runs)) == []


def test_why_a_strategy_is_not_compared(tmp_path):
    nothing = read_runs([fake_campaign(tmp_path / "a", "random", [None], test="none", test_cases=())])
    (said,) = missing_sentences(comparisons(nothing))
    assert said.startswith("There are no test cases, and no Dice coefficient will be known")
    waiting = read_runs([fake_campaign(tmp_path / "c", "random", [None]), fake_campaign(tmp_path / "c", "bald", [])])
    (said,) = missing_sentences(comparisons(waiting))
    assert said.startswith("No round has been evaluated yet")
    apart = [
        fake_campaign(tmp_path / "b", "random", [0.5], seed=seed, initial=regions)
        for seed, regions in ((0, 10), (1, 99))
    ]
    apart.append(fake_campaign(tmp_path / "b", "entropy", [None]))
    first, second = missing_sentences(comparisons(read_runs(apart)))
    assert "random: the runs have no number of annotated regions in common" in first
    assert "entropy: no round has been evaluated yet" in second


CHANGE = {"round": 3, "added": [], "withdrawn": ["t2"], "test": ["t2"], "reason": "wrong label"}


def test_models_are_compared_only_where_they_were_tested_on_the_same_cases(tmp_path):
    changed = {"pool_changes": (CHANGE,), "withdrawn_cases": ("t2",)}
    folders = [fake_campaign(tmp_path, "random", [0.5, 0.6, 0.7], fold=fold, test_cases=("t", "t2")) for fold in (0, 1)]
    folders += [fake_campaign(tmp_path, "entropy", [0.5, 0.6, 0.9], fold=fold, **changed) for fold in (0, 1)]
    runs = read_runs(folders)
    assert [sorted(result.tested_on) for result in runs[2].rounds[1:]] == [["t", "t2"], ["t", "t2"], ["t"]]
    found = tables(runs)
    row = of(found["standings"], strategy="random")[0]
    assert (row["difference"], row["pairs"]) == (None, None)
    assert row["lacks"].count("with the same test cases") == 2
    penalties = next(row for row in found["penalty"].rows if row["strategy"] == "entropy")
    assert (penalties["cells"], penalties["cells_with_too_few_runs"]) == (2, 1)
    (said,) = pool_warnings(runs[2])
    assert said.startswith("after round 2, t2 withdrawn (wrong label). This changes the test cases (t2)")
    assert sum("t2 withdrawn" in sentence for sentence in warnings(runs)) == 2


def test_the_metrics_say_themselves_what_a_model_was_tested_on(tmp_path):
    folder = fake_campaign(tmp_path, "random", [0.5])
    write_json(folder.round(1).metrics, read_json(folder.round(1).metrics) | {"cases": {"x": {}, "y": {}}})
    assert read_runs([folder])[0].rounds[1].tested_on == {"x", "y"}


def test_training_counts_for_the_campaign_that_did_it(tmp_path):
    trained, taken = (fake_campaign(tmp_path, strategy, [0.5, 0.6]) for strategy in ("random", "entropy"))
    write_json(taken.round(1).stages / "train.json", {"stage": "train", "seconds": 0.03})
    write_json(taken.round(1).root / "first_training.json", {"inputs": {}, "taken_from": "the/other"})
    write_json(trained.round(1).root / "first_training.json", {"inputs": {}, "taken_from": None})
    found = tables(read_runs([trained, taken]))
    assert [row["training"] for row in found["time"].rows] == [60, 60]
    assert of(found["stages"], strategy="entropy", stage="train")[0]["rounds"] == 1
    seconds = [of(found["rounds"], strategy=name, round=1)[0]["seconds"] for name in ("random", "entropy")]
    assert seconds == pytest.approx([sum(STAGES.values()), sum(STAGES.values()) - STAGES["train"]])


def test_a_line_ends_where_its_shortest_run_does(tmp_path):
    folders = [
        fake_campaign(tmp_path, "random", [0.5, 0.6, 0.7][:rounds], seed=seed) for seed, rounds in ((0, 3), (1, 2))
    ]
    folders.append(fake_campaign(tmp_path, "random", [None, None, 0.7], seed=2))  # has the fewest rounds, and ends last
    (line,) = comparisons(read_runs(folders))[0].lines
    (said,) = line_warnings(line)
    assert "ends at 20 annotated regions, where Dataset501_Phantom, 2d, random, fold 0, seed 1 ends" in said
    assert "up to 30" in said


def test_a_class_without_a_number_costs_nothing_else(tmp_path):
    folder = fake_campaign(tmp_path, "random", [0.5], classes={"a": 0.1, "b": -0.1})
    metrics = read_json(folder.round(1).metrics)
    metrics["mean"]["a"] = {"dice": None, "hd95_mm": None}
    write_json(folder.round(1).metrics, metrics)
    (run,) = read_runs([folder])
    assert not run.warnings
    assert (run.rounds[1].dice, run.rounds[1].dice_of_class) == (0.5, {"a": None, "b": 0.4})
    assert [row["class"] for row in tables([run])["classes"].rows] == ["b"]


def test_metrics_without_test_cases_go_before_the_ledger(tmp_path):
    folder = fake_campaign(tmp_path, "entropy", [None], test="none", test_cases=())
    region = Region("a", ((0, 2), (0, 5), (0, 5)))
    commit = Commit(0, 0, "reader", "r1", (region,), {"a": LabelEntry("0" * 64, 100, 30, 12.5)}, minutes=4.0)
    write_json(folder.ledger / "000.json", commit_to_json(commit))
    cost = {"regions": 7, "cases": 2, "voxels": 700, "foreground_voxels": 70, "contour_mm": 7.5, "minutes": None}
    write_json(folder.round(1).metrics, {"round": 1, **{f"trained_on_{name}": of for name, of in cost.items()}})
    (run,) = read_runs([folder])
    assert not run.warnings
    result = run.rounds[1]
    assert {name: getattr(result, name) for name in cost} == cost
    assert (result.dice, dict(result.dice_of_class)) == (None, {})


def test_classes_have_their_distances_and_groups_their_weights(tmp_path):
    groups = {"F": (0.1, 0.25), "M": (-0.1, 0.75)}
    folders = [fake_campaign(tmp_path, "random", [0.5, 0.7], seed=seed, groups=groups) for seed in (0, 1)]
    for seed, folder in enumerate(folders):
        weights = {"by_group": {"F": {"weight": 0.8 + 0.2 * seed}, "M": {"weight": 1.2}}}
        write_json(folder.round(1).group_weights, weights)
    found = tables(read_runs(folders))
    assert [row["hd95_mm"] for row in found["classes"].rows] == pytest.approx([7.5, 6.5])  # 10 - 5 Dice
    rows = of(found["groups"], measure="weight", group="F")
    assert [(row["regions"], row["value"], row["runs"]) for row in rows] == [(10, pytest.approx(0.9), 2)]


def test_dice_0_is_no_reference(tmp_path):
    runs = read_runs([fake_campaign(tmp_path, strategy, [0.0, 0.0]) for strategy in ("random", "entropy")])
    assert tables(runs)["budget"].rows == []
    assert "random and entropy have the same mean foreground Dice" in " ".join(
        ranking_sentences(tables(runs)["standings"])
    )


def test_the_share_of_the_pool_is_an_axis_where_the_pool_is_known(tmp_path):
    """Three cases of 20 regions: 10, 20 and 30 of 60 regions."""
    runs = read_runs([fake_campaign(tmp_path, "entropy", [0.5, 0.6, 0.7], pool=20)])
    found = tables(runs)
    rows = of(found["curves"], axis="pool_percent")
    assert [row["budget"] for row in rows] == pytest.approx([100 / 6, 100 / 3, 50])
    assert [row["dice"] for row in rows] == [0.5, 0.6, 0.7]
    assert [row["pool_percent"] for row in found["rounds"].rows[1:]] == pytest.approx([100 / 6, 100 / 3, 50])
    # 90 % of 0.7 are 0.63: 23 regions, which are 3/10 of the way from round 2 to round 3
    assert of(found["budget"], axis="pool_percent", percent=90)[0]["budget"] == pytest.approx(100 * 23 / 60)


def test_a_pool_that_has_grown_or_come_annotated(tmp_path):
    change = {"round": 2, "added": ["c"], "withdrawn": [], "reason": "", "waiting": False, "test": []}
    runs = read_runs([fake_campaign(tmp_path, "entropy", [0.5, 0.6], pool=20, pool_changes=(change,))])
    assert [result.pool_percent for result in runs[0].rounds] == pytest.approx([None, 25, 100 / 3])
    runs = read_runs([fake_campaign(tmp_path / "other", "entropy", [0.5], pool=20, starts_from="dataset")])
    assert runs[0].rounds[1].pool_percent is None
    folder = fake_campaign(tmp_path / "third", "entropy", [0.5], pool=20)
    (folder.root / "regions.npz").write_text("nothing")
    assert "regions.npz" in read_runs([folder])[0].warnings[0]


def test_the_highest_dice_and_what_the_full_one_needs(tmp_path):
    runs = read_runs([fake_campaign(tmp_path, "entropy", [0.5, 0.7, 0.6], pool=20)])
    found = tables(runs, reference=Reference(0.65))
    (row,) = found["highest"].rows
    assert (row["highest_dice"], row["regions"], row["budgets"]) == (0.7, 20, 3)
    assert row["pool_percent"] == pytest.approx(100 / 3)
    assert of(found["budget"], axis="regions", percent=100)[0]["budget"] == pytest.approx(17.5)
    assert not of(tables(runs)["budget"], percent=100)  # of its own best it says nothing


def test_campaigns_on_the_whole_pool_are_the_reference_and_in_no_line(tmp_path):
    """Means over runs of the same configuration, of the line's folds where there are any."""
    folders = [fake_campaign(tmp_path, "entropy", [0.5, 0.7], fold=fold) for fold in (0, 1)]
    whole = {"full": True, "tag": "full", "initial": 60}
    folders += [fake_campaign(tmp_path, "random", [dice], fold=fold, **whole) for fold, dice in ((0, 0.6), (1, 0.7))]
    folders.append(fake_campaign(tmp_path, "random", [0.1], fold=2, **whole))
    folders.append(fake_campaign(tmp_path, "random", [0.2], configuration="3d_fullres", **whole))
    runs = read_runs(folders)
    (comparison,) = comparisons(runs)
    assert [line.label for line in comparison.lines] == ["entropy"]
    reference = Reference(None, tuple(run for run in runs if run.decided.full))
    assert reference.of(comparison.lines[0]) == pytest.approx(0.65)
    assert Reference(0.9, reference.runs).of(comparison.lines[0]) == 0.9
    found = tables(runs, reference=reference)
    assert of(found["budget"], axis="regions", percent=100)[0]["budget"] == pytest.approx(17.5)
    assert "0.6500 (Dataset501_Phantom, 2d, 2 runs)" in found["budget"].caption
    assert of(found["settings"], setting="fold", value="2") == []
    assert len(of(found["rounds"], tag="full")) == 8


def test_a_line_without_a_reference_of_its_own_refers_to_the_best(tmp_path):
    runs = read_runs(
        [
            fake_campaign(tmp_path, "entropy", [0.5, 0.7]),
            fake_campaign(tmp_path, "entropy", [0.5, 0.8], configuration="3d_fullres"),
            fake_campaign(tmp_path, "random", [0.75], tag="full", full=True),
        ]
    )
    found = tables(runs, reference=Reference(None, runs[-1:]))["budget"]
    assert [row["target_dice"] for row in of(found, axis="regions", percent=90)] == pytest.approx([0.675, 0.72])
    assert not of(found, percent=100)
    assert "elsewhere the best" in found.caption
