"""What the report says in words, and the commands that repeat a campaign."""

from __future__ import annotations

import re
import shlex
import subprocess
from dataclasses import replace

import pytest

from nnunet_al.campaign.commits import Commit, LabelEntry, commit_to_json
from nnunet_al.campaign.decisions import Decisions
from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.campaign.request import Request
from nnunet_al.cli.round import build_parser
from nnunet_al.cli.round_arguments import request_of
from nnunet_al.errors import StorageError
from nnunet_al.files import write_json
from nnunet_al.pool.boxes import Region, as_box
from nnunet_al.report.page.annotation_progress import annotation_progress
from nnunet_al.report.page.repeat import repeat_commands, repeat_notes, round_arguments
from nnunet_al.report.page.report import write_report
from nnunet_al.report.page.summary import budget_sentences, campaigns_sentence, ranking_sentences
from nnunet_al.report.reading.rounds import RoundResult
from nnunet_al.report.reading.runs import Run, read_runs
from nnunet_al.report.tables.table import Table

from .faked_campaigns import fake_campaign


def standing(strategy, dice, runs=3, difference=None, interval=(None, None), pairs=None, **changes):
    half = None if runs < 2 else 0.01
    low, high = (None, None) if half is None else (dice - half, dice + half)
    row = {"dataset": "D", "strategy": strategy, "regions": 50.0, "dice": dice, "low": low, "high": high, "runs": runs}
    row |= {"difference": difference, "difference_low": interval[0], "difference_high": interval[1], "pairs": pairs}
    return row | changes


def words(*rows):
    return " ".join(ranking_sentences(Table("standings", "", rows)))


def test_only_what_its_interval_shows_is_called_worse():
    said = words(
        standing("usimf", 0.8),
        standing("entropy", 0.79, difference=-0.01, interval=(-0.03, 0.01), pairs=3),
        standing("random", 0.7, difference=-0.1, interval=(-0.15, -0.05), pairs=3),
    )
    assert "D, with 50 annotated regions: usimf has the highest mean foreground Dice: 0.8000" in said
    assert "(95 % interval 0.7900 to 0.8100 over 3 runs)" in said
    worse, unclear = said.index("Worse than usimf"), said.index("No difference to usimf")
    assert worse < said.index("random at 0.7000 (difference -0.1000, -0.1500 to -0.0500, 3 pairs)") < unclear
    assert unclear < said.index("entropy at 0.7900")


@pytest.mark.parametrize("high", [0.0, 1e-9, 0.2])
def test_an_interval_that_touches_0_shows_nothing(high):
    said = words(standing("a", 0.8), standing("b", 0.7, difference=-0.1, interval=(-0.3, high), pairs=2))
    assert "Worse" not in said
    assert "No difference to a is shown" in said


def test_single_runs_say_nothing():
    said = words(standing("a", 0.9, runs=1), standing("b", 0.1, runs=1, difference=-0.8, pairs=1))
    assert "Worse" not in said
    assert "(1 run, so no interval)" in said
    assert "Nothing can be said on b at 0.1000 (1 run)" in said


def test_one_strategy_several_datasets_and_nothing_at_all():
    assert "no other strategy to compare it with" in words(standing("a", 0.9))
    said = words(standing("a", 0.9), standing("b", 0.8, dataset="E"))
    assert "D, with" in said
    assert "E, with" in said
    assert words() == ""


def test_budgets_are_said_for_those_who_reach_them_and_those_who_do_not():
    def row(strategy, budget, remark=""):
        known = {"dataset": "D", "strategy": strategy, "axis": "regions", "percent": 95, "target_dice": 0.7}
        return known | {"budget": budget, "remark": remark}

    rows = [row("a", None, "not reached"), row("b", 40.2), row("c", 20.0, "at the first model")]
    rows += [{**row("d", 1.0), "axis": "voxels"}, {**row("e", 1.0), "percent": 90}]
    (said,) = budget_sentences(Table("budget", "", rows))
    assert "by c (with 20 regions, its first model) and b (with 40 regions); not yet reached by a." in said
    assert budget_sentences(Table("budget", "", [])) == []
    (said,) = budget_sentences(Table("budget", "", rows[:1]))
    assert "95 % of the reference Dice, 0.7000, is not yet reached by a. These" in said


def test_a_strategy_that_is_above_the_one_on_top_in_their_common_runs_is_called_better():
    said = words(
        standing("a", 0.8, lacks="fold 2 seed 0", common_dice=0.8),
        standing("b", 0.9, difference=0.05, interval=(0.01, 0.09), pairs=3, lacks="", common_dice=0.79),
    )
    assert "Better than a, where runs of the same fold and seed are compared" in said
    assert "b at 0.7900 (difference +0.0500" in said
    assert "holds 0" not in said
    assert "none is said to lead" in said
    assert "(a lacks fold 2 seed 0)" in said


def test_equal_means_are_no_lead():
    said = words(standing("a", 0.70001), standing("b", 0.70002, difference=-1e-5, interval=(-0.1, 0.1), pairs=3))
    assert "a and b have the same mean foreground Dice, to four digits: 0.7000." in said
    assert "highest" not in said


# --- annotation ------------------------------------------------------------------------------------------------------


def annotated(root):
    """Round 0 of 4 regions is half answered: one region was read by two readers and corrected since."""
    folder = fake_campaign(root, "random", [], initial=4, annotate=True, readings=2, test="none", test_cases=())
    boxes = [{"rank": n + 1, "case": "a", "box": [[n, n + 1]] * 3, "score": None} for n in range(4)]
    write_json(folder.round(0).batch, {"round": 0, "strategy": "random", "regions": boxes})
    (folder.round(0).stages / "annotate.json").unlink()
    one, two = (Region("a", as_box(box["box"])) for box in boxes[:2])
    entry = LabelEntry("0" * 64, 100, 30, 12.5)
    differ = "a: A and B differ in {} voxels of 1 region (Dice between them: left caudate {}, x, y 0.5)."
    commits = [
        Commit(0, 0, "reading", "A", (one,), {"a": entry}, minutes=4.0),
        Commit(1, 0, "reading", "B", (one,), {"a": entry}, minutes=2.0),
        Commit(2, 0, "consensus", "A + B", (one,), {"a": entry}, (differ.format(10, "0.900"),)),
        Commit(3, 0, "consensus", "A + B", (two,), {"a": entry}, (differ.format(5, "0.800"),)),
        Commit(4, 0, "correction", "C", (one,), {"a": entry}),
    ]
    for commit in commits:
        write_json(folder.ledger / f"{commit.number:03d}.json", commit_to_json(commit))
    return folder


def test_where_people_annotate_the_summary_says_how_far_they_are(tmp_path):
    who, readings, corrections = annotation_progress(read_runs([annotated(tmp_path)]))
    assert "2 regions of 1 case are annotated by 3 readers (A, B, C), in 6 minutes" in who
    assert who.endswith("round 0 waits for 2 of the 4 regions of its batch.")
    assert "differ in 15 voxels of 2 regions" in readings
    assert readings.endswith("mean Dice between them, over 2 consensuses: left caudate 0.850, x, y 0.500.")
    assert "1 correction replaced" in corrections
    assert annotation_progress(read_runs([fake_campaign(tmp_path, "entropy", [0.5])])) == []


def test_a_page_of_annotation_begins_with_it_and_has_no_empty_section(tmp_path):
    page = write_report([annotated(tmp_path)], tmp_path / "report").read_text(encoding="utf-8")
    assert "nothing to list" not in page
    assert re.findall(r'<h2 id="([a-z]+)-title">', page) == ["summary", "cost", "settings", "remarks", "files"]
    summary = page[page.index('<section id="summary"') :]
    assert summary.index("are annotated by 3 readers") < summary.index("There are no test cases")


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_place_that_cannot_be_written_is_refused_before_anything_is_computed(tmp_path, monkeypatch, place):
    (tmp_path / "file").write_text("mine")
    monkeypatch.setattr("nnunet_al.report.page.report.gather_evidence", lambda *_: pytest.fail("too late"))
    folders = [fake_campaign(tmp_path / "results", "random", [0.5])]
    with pytest.raises(StorageError, match="cannot be written"):
        write_report(folders, tmp_path / place, evidence=(None, None))
    assert (tmp_path / "file").read_text() == "mine"


# --- commands --------------------------------------------------------------------------------------------------------


def decisions(strategy="usimf", **settings) -> Decisions:
    known = {"dataset": "Dataset501_A", "configuration": "2d", "fold": 0, "seed": 0, "tag": None}
    return replace(Request(**{**known, "strategy": strategy, **settings}).decide(), plans="nnUNetPlans")


def run(decided, rounds=3) -> Run:
    results = tuple(RoundResult(number, complete=True) for number in range(rounds))
    return Run(CampaignFolder.__new__(CampaignFolder), decided, results)


def read_back(arguments) -> Decisions:
    parsed = build_parser().parse_args([*arguments, "-f", "0", "-seed", "0"])
    return request_of(parsed, parsed.d, strategy=parsed.s, fold=parsed.f, seed=parsed.seed).decide()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"strategy": "random", "unit": "case", "budget": 3, "initial": 7, "test": "ts", "tag": "a-b_c"},
        {"parameters": {"query_size": 77, "eta": 0.5, "query_mode": "max"}, "engine": "submodlib"},
        {"strategy": "bald", "posterior": "tta", "precision": "half", "epochs": 3, "iterations": 4, "batch_size": 5},
        {"strategy": "clasp_pe", "optimizer": "adamw", "dropout_p": 0.2, "from_scratch": True, "rounds": 4},
        {"strategy": "entropy", "annotate": True, "readings": 2, "consensus": "majority", "hand_out": "monailabel"},
        {"strategy": "core_set", "initial_strategy": "core_set", "overlap": 0.25, "update_intensities": True},
        {"strategy": "entropy+fair", "initial_groups": {"F": 2, "M": 3}, "roi_classes": ("left caudate",)},
        {"strategy": "bald", "planner": "nnUNetPlannerALResEncM", "trainer": "nnUNetTrainerALNoMirroring"},
    ],
)
def test_the_command_starts_the_very_same_campaign(settings):
    decided = decisions(**settings)
    assert read_back(round_arguments(decided)) == decided


def test_groups_need_their_table_again():
    arguments = round_arguments(replace(decisions("random"), group_by=("sex", "age:40,60"), groups={"a": "F"}))
    assert shlex.join(arguments).endswith("-groups participants.tsv -group_by sex age:40,60")


def calls(script):
    """What a shell makes of the lines, with the command replaced by one that prints its arguments."""
    said = subprocess.run(
        ["bash", "-euc", f"nnUNetv2_al_round() {{ printf '%s\\n' \"$(printf '%s|' \"$@\")\"; }}\n{script}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return [line.rstrip("|").split("|") for line in said.stdout.splitlines()]


def test_a_shell_calls_each_round_of_each_campaign_once_and_in_order():
    runs = [
        run(replace(decisions(strategy), fold=fold, seed=seed))
        for strategy in ("usimf", "random")
        for fold in (0, 1)
        for seed in (0, 1)
    ]
    runs.append(run(replace(decisions("random", tag="it's a tag"), fold=3, seed=4), rounds=1))
    expected = [
        [*round_arguments(one.decided), *map(str, ("-f", one.decided.fold, "-seed", one.decided.seed, "-round", k))]
        for one in runs
        for k in range(len(one.rounds))
    ]
    script = repeat_commands(runs)
    assert calls(script) == expected
    assert script.count("nnUNetv2_al_round") == 3
    assert max(map(len, script.splitlines())) <= 110


def test_folds_with_different_seeds_are_not_multiplied():
    runs = [run(replace(decisions("random"), fold=fold, seed=seed)) for fold, seed in ((0, 0), (0, 1), (1, 5))]
    found = {(call[call.index("-f") + 1], call[call.index("-seed") + 1]) for call in calls(repeat_commands(runs))}
    assert found == {("0", "0"), ("0", "1"), ("1", "5")}


def test_people_are_not_called_in_a_loop():
    (call,) = calls(repeat_commands([run(decisions("random", annotate=True))]))
    assert "-round" not in call


def test_what_there_is():
    runs = [run(replace(decisions(name), seed=seed), 2 + seed) for name in ("usimf", "random") for seed in (0, 1)]
    assert campaigns_sentence(runs) == (
        "4 campaigns on Dataset501_A, with usimf and random; 1 fold, 2 seeds; complete rounds of each, round 0 "
        "included: 2 to 3."
    )


def test_what_the_commands_cannot_repeat_is_said():
    change = {"round": 1, "added": ["x"], "withdrawn": [], "test": [], "reason": ""}
    plain = run(decisions("random"))
    changed = run(replace(decisions("bald"), pool_changes=(change,)))
    split = run(replace(decisions("entropy"), left_out_cases=("a", "b")))
    assert repeat_notes([plain]) == []
    first, second = repeat_notes([plain, changed, split])
    assert first.startswith(f"{split.name} took pool and test cases from a split file")
    assert "2 cases" in first
    assert second.startswith(f"{changed.name} had cases added or withdrawn")
