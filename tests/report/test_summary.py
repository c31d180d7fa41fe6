"""What the report says in words, and the commands that repeat a campaign."""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import replace

import pytest

from nnunet_al.campaign.decisions import Decisions
from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.campaign.wishes import Wishes
from nnunet_al.cli.round import build_parser
from nnunet_al.cli.round_arguments import wishes_of
from nnunet_al.report.page.repeat import repeat_commands, round_arguments
from nnunet_al.report.page.summary import what_it_takes, what_there_is, who_leads
from nnunet_al.report.reading.runs import RoundResult, Run
from nnunet_al.report.tables.table import Table


def standing(strategy, dice, runs=3, difference=None, interval=(None, None), pairs=None, **changes):
    half = None if runs < 2 else 0.01
    low, high = (None, None) if half is None else (dice - half, dice + half)
    row = {"dataset": "D", "strategy": strategy, "regions": 50.0, "dice": dice, "low": low, "high": high, "runs": runs}
    row |= {"difference": difference, "difference_low": interval[0], "difference_high": interval[1], "pairs": pairs}
    return row | changes


def words(*rows):
    return " ".join(who_leads(Table("standings", "", rows)))


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
    assert words() == "No round has been evaluated yet, so there is nothing to compare."


def test_budgets_are_said_for_those_who_reach_them_and_those_who_do_not():
    def row(strategy, budget, remark=""):
        known = {"dataset": "D", "strategy": strategy, "axis": "regions", "percent": 95, "target_dice": 0.7}
        return known | {"budget": budget, "remark": remark}

    rows = [row("a", None, "not reached"), row("b", 40.2), row("c", 20.0, "at the first model")]
    rows += [{**row("d", 1.0), "axis": "voxels"}, {**row("e", 1.0), "percent": 90}]
    (said,) = what_it_takes(Table("budget", "", rows))
    assert "by c (with 20 regions, its first model) and b (with 40 regions); not yet by a." in said
    assert what_it_takes(Table("budget", "", [])) == []


# --- commands --------------------------------------------------------------------------------------------------------


def decisions(strategy="usimf", **wishes) -> Decisions:
    known = {"dataset": "Dataset501_A", "configuration": "2d", "fold": 0, "seed": 0, "tag": None}
    return replace(Wishes(**{**known, "strategy": strategy, **wishes}).decide(), plans="nnUNetPlans")


def run(decided, rounds=3) -> Run:
    results = tuple(RoundResult(number, complete=True) for number in range(rounds))
    return Run(CampaignFolder.__new__(CampaignFolder), decided, results)


def read_back(arguments) -> Decisions:
    parsed = build_parser().parse_args([*arguments, "-f", "0", "-seed", "0"])
    return wishes_of(parsed, parsed.d, strategy=parsed.s, fold=parsed.f, seed=parsed.seed).decide("cuda")


@pytest.mark.parametrize(
    "wishes",
    [
        {},
        {"strategy": "random", "unit": "case", "budget": 3, "initial": 7, "test": "ts", "tag": "a-b_c"},
        {"parameters": {"query_size": 77, "eta": 0.5, "query_mode": "max"}, "engine": "submodlib"},
        {"strategy": "bald", "posterior": "tta", "precision": "half", "epochs": 3, "iterations": 4, "batch_size": 5},
        {"strategy": "clasp_pe", "optimizer": "adamw", "dropout": "all", "from_scratch": True, "rounds": 4},
        {"strategy": "entropy", "annotate": True, "readings": 2, "consensus": "majority", "hand_out": "monailabel"},
        {"strategy": "core_set", "initial_strategy": "core_set", "overlap": 0.25, "update_intensities": True},
        {"strategy": "entropy+fair", "initial_groups": {"F": 2, "M": 3}, "roi_classes": ("left caudate",)},
        {"strategy": "bald", "planner": "nnUNetPlannerALResEncM", "trainer": "nnUNetTrainerALNoMirroring"},
    ],
)
def test_the_command_starts_the_very_same_campaign(wishes):
    decided = decisions(**wishes)
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
    assert what_there_is(runs) == (
        "4 campaigns on Dataset501_A, with usimf and random; 1 fold, 2 seeds; complete rounds of each, round 0 "
        "included: 2 to 3."
    )
