"""The experiment on fairness: its arithmetic by hand, and its smallest form from cohort to pictures."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
WEIGHTED = "weighted_localized_entropy"


@pytest.fixture
def table(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import fairness_table

    return fairness_table


@pytest.fixture
def settings_of(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from fairness_settings import Settings, make_parser

    return lambda *words: Settings.of(make_parser("").parse_args(words))


def evaluated(strategy, seed, labelled, delta):
    measures = dict.fromkeys(("dice", "dice_group1", "dice_group2", "essp", "share_group1"), 0.5)
    setting = {"training": "active", "strength": "strong", "initial": "20/80"}
    return {**setting, "strategy": strategy, "seed": seed, "labelled": labelled, "delta": delta, **measures}


@pytest.fixture
def rounds():
    deltas = {
        ("random", 0): (0.5, 0.3, 0.2),
        ("random", 1): (0.5, 0.4, 0.3),
        (WEIGHTED, 0): (0.5, 0.2, 0.1),
        (WEIGHTED, 1): (0.5, 0.4),  # has not reached its last step
    }
    return [
        evaluated(strategy, seed, 10 + 4 * step, delta)
        for (strategy, seed), values in deltas.items()
        for step, delta in enumerate(values)
    ]


def test_only_steps_that_all_campaigns_reached_are_compared(table, rounds):
    summary = table.summaries(rounds)
    assert {tuple(entry["labelled"]) for entry in summary} == {(14,), (10, 14)}
    values = {(entry["strategy"], entry["when"]): entry["values"]["delta"] for entry in summary}
    assert values["random", "last"] == [0.3, 0.4]
    assert values["random", "mean"] == pytest.approx([0.4, 0.45])
    assert values[WEIGHTED, "mean"] == pytest.approx([0.35, 0.45])


def test_differences_are_paired_and_leave_the_common_first_step_out(table, rounds):
    found = table.differences(rounds, np.random.default_rng(0))
    delta = next(one for one in found if one["measure"] == "delta")
    assert {one["other"] for one in found} == {"random"}
    # at 14 cases: 0.2 - 0.3 and 0.4 - 0.4
    assert delta["mean"] == pytest.approx(-0.05)
    assert delta["of_each_seed"] == pytest.approx([-0.1, 0.0])
    assert (delta["labelled"], delta["pairs"], delta["better_pairs"]) == ([14], 2, 1)
    assert delta["interval"] == pytest.approx((-0.1, 0.0))


def test_the_order_of_the_rounds_changes_no_number(table, rounds):
    shuffled = [rounds[index] for index in np.random.default_rng(1).permutation(len(rounds))]

    def by_name(summary):
        return {(entry["strategy"], entry["when"]): entry["values"] for entry in summary}

    assert by_name(table.summaries(shuffled)) == by_name(table.summaries(rounds))
    one, other = (table.differences(some, np.random.default_rng(0)) for some in (rounds, shuffled))
    assert table.difference_table(one) == table.difference_table(other)


def test_the_full_experiment_is_the_papers(settings_of):
    paper = settings_of()
    assert paper.cases + paper.test_cases == 312
    assert paper.table_cases == 126
    assert paper.rounds == 20
    shares = [paper.initial_groups(initial) for initial in paper.initial]
    assert shares == [{"group1": 5, "group2": 5}, {"group1": 8, "group2": 2}, {"group1": 2, "group2": 8}]


def test_an_option_overrides_the_preset(settings_of):
    reduced = settings_of("--reduced", "-to", "14", "-initial", "50/50", "-seeds", "1")
    assert (reduced.rounds, reduced.initial, reduced.seeds, reduced.strengths) == (2, ("50/50",), 1, ("strong",))


def test_the_protocol_trains_as_the_paper_does(settings_of, tmp_path):
    from fairness_campaigns import campaigns_of

    from nnunet_al.nnunet.environment import Roots

    protocol = settings_of("--protocol", "-population", "heads")
    words = " ".join(campaigns_of(protocol, table=True)[0].arguments(Roots.below(tmp_path), protocol, "cpu", 1))
    assert "-tr nnUNetTrainerALNoAugmentation" in words
    assert "-optimizer adam -loss ce" in words
    assert (protocol.subject, protocol.appearance, protocol.to_json()["population"]) == ("one_factor", "plain", "heads")


@pytest.mark.parametrize(
    "pooled, alone, gains, is_open, says",
    [
        ((0.9, 0.8, 0.85), (0.7, 0.7, 0.7), {"pooled": 0.0}, True, "falls by 0.150 .*the premise is there"),
        ((0.9, 0.8, 0.85), (0.9, 0.8, 0.85), {"pooled": 0.0}, False, "falls by 0.000 .*the premise is absent"),
        ((0.9, 0.7, 0.8), (0.7, 0.9, 0.75), {"pooled": 0.0}, False, "the premise is absent"),
        ((0.9, 0.8, 0.85), (0.7, 0.7, 0.7), {"pooled": 0.0, "group2": 0.1}, False, r"not converged \(group2\)"),
    ],
)
def test_the_gate_opens_where_group_1_is_harmed_and_trainings_have_converged(
    table, pooled, alone, gains, is_open, says
):
    from fairness_gate import judge, last_gain

    cases = ("a", "b", "c")
    with_other = [dict(zip((*cases, "z"), (*values, 0.1), strict=True)) for values in (pooled, alone)]
    group_of = {**dict.fromkeys(cases, "group1"), "z": "group2"}
    gate = judge("strong", *with_other, group_of, gains)
    assert gate.is_open is is_open
    assert re.search(says, gate.sentence)
    assert last_gain([0.1] * 6 + [0.5, 0.5, 0.8, 0.6]) == pytest.approx(0.2)


@pytest.mark.parametrize(
    "words, sentence",
    [
        (("--reduced", "-component_sign", "-1"), "without -population"),
        (("--reduced", "-to", "15"), "never make 15"),
        (("--reduced", "-cases", "36"), "too few"),
        (("--reduced", "-start", "7", "-to", "15"), "cannot be shared out"),
    ],
)
def test_impossible_designs_are_refused(settings_of, words, sentence):
    with pytest.raises(SystemExit, match=sentence):
        settings_of(*words)


def test_a_campaign_lies_where_the_command_puts_it_whatever_its_strategy_is_called(settings_of, tmp_path):
    from fairness_campaigns import campaigns_of

    from nnunet_al.cli.round import build_parser
    from nnunet_al.nnunet.environment import Roots
    from nnunet_al.strategies import catalog

    settings, roots = settings_of("--reduced"), Roots.below(tmp_path)
    campaigns = campaigns_of(settings, table=True)
    folders = [campaign.folder(roots).root for campaign in campaigns]
    for campaign, folder in zip(campaigns, folders, strict=True):
        words = build_parser().parse_args(campaign.arguments(roots, settings, "cpu", 1))
        name = f"{words.c}__{catalog.get(words.s).name}__seed{words.seed}__{words.tag}"
        assert (folder.parent.name, folder.name) == (name, f"fold_{words.f}")
    assert len(set(folders)) == len(campaigns) == 4 * 3 + 3 * 3


@pytest.mark.slow
def test_the_quick_experiment_runs_and_a_second_call_only_reads_it(tmp_path):
    def call(*options):
        command = [sys.executable, BENCHMARKS / "fairness.py", "--quick", "-o", tmp_path / "experiment", *options]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    first = call("--json", tmp_path / "first.json")
    assert first.returncode == 0, first.stdout + first.stderr
    found = json.loads((tmp_path / "first.json").read_text())
    assert found["machine"]["cores"] >= 1
    active = [row for row in found["rounds"] if row["training"] == "active"]
    assert [(row["strategy"], row["labelled"]) for row in active] == [
        (strategy, labelled) for strategy in ("random", WEIGHTED) for labelled in (5, 7)
    ]
    for row in found["rounds"]:
        # equations 3 and 4 from the numbers that stand beside them; both groups have as many test cases
        dice = (row["dice_group1"] + row["dice_group2"]) / 2
        delta = abs(dice - row["dice_group1"]) + abs(dice - row["dice_group2"])
        assert [row["dice"], row["delta"], row["essp"]] == pytest.approx([dice, delta, dice / (1 + delta)])
    at_first = [row["dice"] for row in active if row["labelled"] == 5]
    assert at_first[0] == at_first[1], "the strategies start from different models"
    assert [row["share_group1"] for row in active if row["labelled"] == 5] == [0.2, 0.2]
    trained = {row["training"]: row["by_group"] for row in found["rounds"] if row["training"] != "active"}
    counts = {name: [group["annotated_regions"] for group in groups.values()] for name, groups in trained.items()}
    assert counts == {"pooled": [4, 4], "group1": [8, 0], "group2": [0, 8]}
    results = tmp_path / "experiment" / "results"
    assert {path.name for path in results.iterdir()} == {
        "cohort_strong.png",
        "fairness.json",
        "fairness.md",
        "figure1_essp.png",
        "figure2_delta_dsc_strong.png",
        "figure3_group1_share.png",
    }

    second = call("-results", tmp_path / "copies", "--json", tmp_path / "second.json")
    assert second.returncode == 0, second.stderr
    assert "0 of 7 trainings are left" in second.stdout
    assert "strong: without group 1 its Dice falls by" in second.stdout
    (gate,) = found["premise"]
    by_training = {row["training"]: row["dice_group1"] for row in found["rounds"] if row["training"] != "active"}
    assert gate["harm"] == pytest.approx(by_training["pooled"] - by_training["group2"])
    assert json.loads((tmp_path / "second.json").read_text())["rounds"] == found["rounds"]
    assert (tmp_path / "copies" / "figure1_essp.png").read_bytes() == (results / "figure1_essp.png").read_bytes()

    refused = call("-epochs", "3")
    assert refused.returncode != 0
    assert "epochs 2" in refused.stderr
