"""`nnUNetv2_al_run`: many campaigns in one call are the campaigns that `nnUNetv2_al_round` does one by one."""

from __future__ import annotations

import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rounds.kill_lab import forked, wait, watch
from tiny_rounds import DATASET, TINY_ROUND, only, outcome, run_command, run_round, snapshot

from nnunet_al.campaign.decisions import Decisions, Options
from nnunet_al.campaign.outlook import CampaignState, outlook, progress_table, remaining_seconds
from nnunet_al.campaign.planned import plan_campaigns
from nnunet_al.campaign.request import Request
from nnunet_al.cli import run
from nnunet_al.errors import CampaignError, StorageError, WaitingForReaders
from nnunet_al.files import read_json
from nnunet_al.nnunet.environment import Roots
from nnunet_al.rounds import many
from nnunet_al.text import duration

PLACE = TINY_ROUND.index("-s")
TINY = (*TINY_ROUND[:PLACE], *TINY_ROUND[PLACE + 2 :])
"""A tiny round's arguments, less the strategy."""

TWO_BY_TWO = ("-s", "random", "entropy", "-seeds", "0", "1", "-rounds", "2")
STRATEGIES, SEEDS, ROUNDS = ("random", "entropy"), (0, 1), 2


def run_many(*arguments: object) -> int:
    return run_command(run.main, *TINY, *arguments)


@pytest.fixture(scope="module")
def done(module_roots) -> Roots:
    """Two strategies with two seeds and two rounds, done by one call; copy it."""
    assert run_many(*TWO_BY_TWO) == 0
    return module_roots


@pytest.fixture
def elsewhere(done, tmp_path, monkeypatch) -> Path:
    """An empty results folder for campaigns on the same data."""
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    (tmp_path / "results").mkdir()
    return tmp_path / "results"


@pytest.mark.slow
def test_the_campaigns_are_those_of_single_rounds(done, elsewhere, capsys):
    for strategy in STRATEGIES:
        for seed in SEEDS:
            for _ in range(ROUNDS + 1):
                assert run_round("-s", strategy, "-seed", seed, "-rounds", ROUNDS) == 0
    assert "taken over" not in capsys.readouterr().out
    expected, found = outcome(elsewhere), outcome(done.results)
    assert any("checkpoint_final" in name for name in expected)
    assert any("scores.npz" in name for name in expected)
    assert found.keys() == expected.keys()
    assert not [name for name in expected if found[name] != expected[name]]


@pytest.mark.slow
def test_all_do_a_round_before_one_does_the_next_and_train_the_first_model_once(done):
    campaigns = sorted(done.results.glob("*/al/*/fold_*"))
    assert len(campaigns) == 4
    for number in range(ROUNDS):
        ends = [(c / f"round_{number:03d}/stages/annotate.json").stat().st_mtime_ns for c in campaigns]
        begins = [(c / f"round_{number + 1:03d}/stages/labels.json").stat().st_mtime_ns for c in campaigns]
        assert max(ends) < min(begins)
    first = [next(c.glob("round_001/nnUNet_results/*/*/fold_0/checkpoint_final.pth")).stat().st_ino for c in campaigns]
    assert len(set(first)) == 2, "one for each seed"
    second = [next(c.glob("round_002/nnUNet_results/*/*/fold_0/checkpoint_final.pth")).stat().st_ino for c in campaigns]
    assert len(set(second)) == 4


@pytest.mark.slow
def test_a_second_call_does_nothing_and_does_not_look_at_the_data(done, monkeypatch, capsys):
    def fail(*_: object) -> None:
        raise AssertionError("there is nothing to do")

    monkeypatch.setattr("nnunet_al.rounds.round.reading_alone", fail)
    folders = (done.raw, done.preprocessed, done.results)
    before = snapshot(*folders)
    capsys.readouterr()
    times = {path: path.stat().st_mtime_ns for folder in folders for path in folder.rglob("*")}
    assert run_many(*TWO_BY_TWO) == 0
    # no -rounds: those that the campaigns were started with; two spellings and repetitions: once
    assert run_many("-s", "random", "random", "-seeds", 1, 1, 0, "-f", 0, 0) == 0
    said = capsys.readouterr().out
    assert snapshot(*folders) == before
    assert {path: path.stat().st_mtime_ns for folder in folders for path in folder.rglob("*")} == times
    assert said.count("Nothing is left to do.") == 2
    assert said.count("2d__random__seed1/fold_0") == 2
    assert said.count("2 of 2") == 6


@pytest.mark.slow
def test_a_call_that_is_killed_again_and_again_ends_like_one_that_is_not(done, elsewhere, tmp_path):
    """Killed before the first model is done, before the marker of one taken over, and in the last round."""

    def killed_at_training(number: int) -> int:
        seen = 0

        def count(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal seen
            if event == "os.rename" and str(arguments[1]).endswith("stages/train.json"):
                seen += 1
                if seen == number:
                    os.kill(os.getpid(), signal.SIGKILL)

        watch(elsewhere, count)
        return run_many(*TWO_BY_TWO)

    for number in (1, 2, 5):
        code = wait(forked(lambda number=number: killed_at_training(number), tmp_path / "log.txt"))
        assert code == -signal.SIGKILL, (tmp_path / "log.txt").read_text()[-3000:]
    assert run_many(*TWO_BY_TWO) == 0
    assert outcome(elsewhere) == outcome(done.results)


@pytest.mark.slow
def test_without_sharing_each_trains_and_the_models_are_the_same(done, elsewhere, capsys):
    assert run_many("-s", "random", "entropy", "-rounds", "2", "--no_sharing") == 0
    assert "taken over" not in capsys.readouterr().out
    found = outcome(elsewhere)
    assert found
    assert found == {name: content for name, content in outcome(done.results).items() if "__seed0/" in name}


@pytest.mark.slow
def test_a_campaign_that_is_refused_leaves_the_others(elsewhere, capsys):
    assert run_round("-s", "entropy", "-epochs", 3) == 0
    capsys.readouterr()
    assert run_many("-s", "random", "entropy", "-f", 0, 7, "-rounds", 1) == 2
    said = capsys.readouterr()
    errors = [line for line in said.err.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 2, "one for each reason"
    assert errors[0].startswith("Error: 2d__entropy__seed0/fold_0: The campaign ")
    assert "-epochs 2 (started with 3)" in errors[0]
    assert errors[1].startswith("Error: 2d__random__seed0/fold_7, 2d__entropy__seed0/fold_7: -f 7: nnU-Net makes 5")
    table = said.out.splitlines()[-5:-1]
    assert [line.split()[-1] for line in table] == ["done", "refused", "refused", "refused"]
    assert (elsewhere / DATASET / "al/2d__random__seed0/fold_0/round_001/stages/annotate.json").is_file()
    assert not (elsewhere / DATASET / "al/2d__random__seed0/fold_7").exists()


@pytest.mark.slow
def test_a_campaign_that_lacks_labels_waits(roots, tmp_path, capsys):
    labels = roots.raw / DATASET / "labelsTr"
    (tmp_path / "later").mkdir()
    for number in range(6, 10):
        shutil.move(labels / f"phantom_{number:03d}.nii.gz", tmp_path / "later")
    assert run_many("-s", "random", "-seeds", 0, 1, "-rounds", 1) == 3
    said = capsys.readouterr()
    assert said.err == ""
    assert [line.split()[-3:] for line in said.out.splitlines()[-3:-1]] == [["waiting", "for", "annotations"]] * 2
    for file in (tmp_path / "later").iterdir():
        shutil.copy2(file, labels)
    assert run_many("-s", "random", "-seeds", 0, 1, "-rounds", 1) == 0


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("-s", "random", "entropi"), "There is no strategy 'entropi'"),
        (("-s", "random", "-d", "501", "777"), "There is no dataset 777"),
        (("-s", "random", "-seeds", "0", "-1"), "-f and -seed are numbers from 0"),
        (("-s", "random", "-tag", "a/b"), "-tag 'a/b'"),
        (("-s", "random", "-np", "0"), "-np 0: give at least 1"),
        (("-s", "random", "entropy", "-passes", "3"), "-passes 3: no strategy of random, entropy has such"),
        (("-s", "random", "-set", "embedding_size=3"), "-set embedding_size=3: no strategy of random has such"),
        (("-s", "bald", "random", "-passes", "0"), "passes"),
        (("-s", "random", "--annotate"), "nnUNetv2_al_round --annotate"),
    ],
)
def test_whatever_is_wrong_is_said_before_anything_begins(roots, capsys, arguments, words):
    before = snapshot(roots.raw, roots.preprocessed, roots.results)
    assert run_many(*arguments) == 2
    said = capsys.readouterr()
    assert words in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""
    assert snapshot(roots.raw, roots.preprocessed, roots.results) == before


def test_parameters_go_to_the_strategies_that_have_them():
    words = ("-d", "501", "-s", "random", "bald", "usimf", "-passes", "3", "-set", "fisher_samples=4")
    requests = run.requests_of_all(run.build_parser().parse_args(words))
    assert [request.parameters for request in requests] == [{}, {"passes": 3}, {"passes": 3, "fisher_samples": 4}]


def test_the_reference_is_one_more_campaign_per_fold_and_seed_with_the_same_training():
    words = ("-d", "501", "-s", "usimf", "entropy", "-f", "0", "1", "-epochs", "7", "-unit", "slice", "-b", "9")
    words = (*words, "-initial", "20", "-rounds", "4", "-passes", "3", "-c", "3d_fullres")
    requests = run.requests_of_all(run.build_parser().parse_args([*words, "--full"]))
    ordinary = run.requests_of_all(run.build_parser().parse_args(words))
    assert requests[: len(ordinary)] == ordinary
    full = requests[len(ordinary) :]
    assert [(request.fold, request.seed, request.tag, request.strategy) for request in full] == [
        (0, 0, "full", "random"),
        (1, 0, "full", "random"),
    ]
    for request in full:
        request.check()
        decided = request.decide()
        assert (decided.full, decided.unit, decided.rounds, decided.epochs) == (True, "case", 1, 7)
        assert decided.configuration == "3d_fullres"
    tagged = run.requests_of_all(run.build_parser().parse_args([*words, "--full", "-tag", "a"]))
    assert {request.tag for request in tagged} == {"a", "a_full"}


@pytest.mark.parametrize(
    "changed, words",
    [({"strategy": "entropy"}, "-s random"), ({"initial": 3}, "-initial"), ({"annotate": True}, "--annotate")],
)
def test_what_does_not_go_with_the_whole_pool_is_refused(changed, words):
    request = Request(dataset="a", configuration="2d", fold=0, seed=0, tag=None, strategy="random", full=True)
    request.check()
    with pytest.raises(CampaignError, match=words):
        replace(request, **changed).check()


@pytest.mark.slow
def test_the_whole_pool_is_trained_on_and_its_dice_is_the_reference_of_the_report(done, elsewhere, tmp_path, capsys):
    from nnunet_al.cli import report

    assert run_many("-s", "random", "-rounds", "1", "--full") == 0
    capsys.readouterr()
    assert run_many("-s", "random", "-rounds", "1", "--full") == 0
    folder = only(elsewhere, "*/al/2d__random__seed0__full/fold_0")
    decided, metrics = (read_json(folder / name) for name in ("campaign.json", "round_001/metrics.json"))
    assert metrics["trained_on_cases"] == len(decided["pool_cases"]) == decided["initial"]
    labels = [only(folder, f"round_001/nnUNet_raw/*/labelsTr/{case}.nii.gz") for case in decided["pool_cases"]]
    assert len(labels) == len(decided["pool_cases"])
    assert not read_json(folder / "round_001/batch.json")["regions"]

    output = tmp_path / "report"
    assert run_command(report.main, "-d", DATASET, "-o", output, "--no_evidence", "-device", "cpu") == 0
    page = (output / "report.html").read_text(encoding="utf-8")
    dice = metrics["foreground_mean"]["dice"]
    assert f"trained on the whole pool: {dice:.4f} (Dataset501_Phantom, 2d, 1 run)" in page
    assert "1 campaign on Dataset501_Phantom, with random; " in page
    assert "1 more campaign trained on the whole pool: the reference." in page
    rows = (output / "budget.csv").read_text(encoding="utf-8")
    assert ",100," in rows
    assert "--full" in page
    assert "-initial 6" in page


def test_every_campaign_is_planned_once(tmp_path):
    spellings = ("bald", "jsd", "bald+mean", "entropy")
    requests = [Request("Dataset501_X", "2d", fold, 0, None, name) for fold in (0, 1) for name in spellings]
    planned = plan_campaigns(Roots.below(tmp_path), requests)
    titles = [f"2d__{name}__seed0/fold_{fold}" for fold in (0, 1) for name in ("bald", "entropy")]
    assert [campaign.title for campaign in planned] == titles
    assert {campaign.rounds for campaign in planned} == {10}
    planned = plan_campaigns(Roots.below(tmp_path), [*requests, Request("Dataset502_Y", "2d", 0, 0, None, "bald")])
    assert planned[-1].title == "Dataset502_Y/2d__bald__seed0/fold_0"


@pytest.fixture
def rounds_done(monkeypatch) -> list[tuple[str, int]]:
    """What many campaigns would do, where a round is but a note of (strategy, number)."""
    notes: list[tuple[str, int]] = []

    def note(_: Roots, request: Request, options: Options, number: int) -> None:
        notes.append((request.strategy, number))
        if (request.strategy, number) == ("entropy", 1):
            raise StorageError("No space is left.")
        if (request.strategy, number) == ("random", 2):
            raise WaitingForReaders("Waiting for annotations.")
        if request.strategy == "margin" and number == 2:
            raise ZeroDivisionError("a bug")
        if request.strategy == "least_confidence" and number == 2:
            raise KeyboardInterrupt

    def state(planned: many.Planned) -> CampaignState:
        last = max((number for strategy, number in notes if strategy == planned.strategy), default=-1)
        return CampaignState(planned.title, planned.strategy, planned.rounds, last)

    monkeypatch.setattr(many, "do_round", note)
    monkeypatch.setattr(many.Planned, "state", state)
    return notes


def test_those_that_stop_stay_behind_in_their_order(roots, rounds_done, capsys):
    assert run_many("-s", "random", "entropy", "bald", "-rounds", "3") == 2, "a refusal is worse than waiting"
    assert rounds_done == [
        *(("random", 0), ("entropy", 0), ("bald", 0)),
        *(("random", 1), ("entropy", 1), ("bald", 1)),
        *(("random", 2), ("bald", 2)),
        *(("bald", 3),),
    ]
    said = capsys.readouterr()
    assert said.err == "Error: 2d__entropy__seed0/fold_0: No space is left.\n"
    assert "Waiting for annotations." in said.out


def test_a_bug_is_not_swallowed_and_an_interrupt_says_how_to_go_on(roots, rounds_done, capsys):
    with pytest.raises(ZeroDivisionError):
        run_many("-s", "margin", "-rounds", "3")
    assert run_many("-s", "least_confidence", "-rounds", "3") == 130
    assert "The same command continues where this one stopped." in capsys.readouterr().err


def test_the_table_comes_after_each_round_only_where_that_is_asked_for(roots, rounds_done, capsys):
    for words, tables in ((("--verbose",), 2 + 3), ((), 2)):
        rounds_done.clear()
        assert run_many("-s", "bald", "-rounds", "2", *words) == 0
        assert capsys.readouterr().out.count("state") == tables


# The estimate, by hand: random has done a round 0 of 2 s and a round 1 of 10 s; bald a round 0 of 4 s.
RANDOM = CampaignState("r", "random", 3, last=1, seconds={0: 2.0, 1: 10.0})
BALD = CampaignState("b", "bald", 2, last=0, seconds={0: 4.0})


def test_the_estimate_is_the_mean_of_the_strategy_else_of_all():
    assert remaining_seconds([RANDOM]) == 20.0
    assert remaining_seconds([RANDOM, BALD]) == 20.0 + 2 * 10.0
    other_seed = CampaignState("b1", "bald", 2, last=1, seconds={0: 6.0, 1: 30.0})
    assert remaining_seconds([RANDOM, BALD, other_seed]) == 20.0 + 2 * 30.0 + 30.0
    new = CampaignState("b2", "bald", 1)
    assert remaining_seconds([BALD, other_seed, new]) == 2 * 30.0 + 30.0 + (5.0 + 30.0)


def test_there_is_no_estimate_before_a_round_with_a_model():
    assert remaining_seconds([BALD]) is None
    assert outlook([BALD]) == "2 rounds are left; no estimate yet."
    taken_over = CampaignState("b", "bald", 2, last=1, seconds={0: 4.0})
    assert remaining_seconds([taken_over]) is None
    assert outlook([RANDOM]) == "2 rounds are left, about 20 s."
    assert outlook([CampaignState("r", "random", 1, last=1)]) == "Nothing is left to do."
    assert outlook([CampaignState("r", "random", 9, last=1, used_up=True)]) == "Nothing is left to do."


@pytest.mark.parametrize(
    "seconds, words",
    [(0.4, "0 s"), (59, "59 s"), (60, "1 min"), (3599, "60 min"), (7500, "2 h 5 min"), (97_200, "1 d 3 h")],
)
def test_a_duration_is_said_as_people_say_it(seconds, words):
    assert duration(seconds) == words


def test_the_table_says_how_far_each_is():
    states = [
        CampaignState("a", "random", 10, last=3, dice=0.81234),
        CampaignState("long/name", "random", 10, last=3, begun=True, dice=0.5),
        CampaignState("c", "random", 2, last=2),
        CampaignState("d", "random", 9, last=4, used_up=True),
        CampaignState("e", "random", 9),
        CampaignState("f", "random", 9),
    ]
    assert progress_table(states, {"f": "refused"}).splitlines() == [
        "  campaign     round    Dice  state",
        "  a          3 of 10  0.8123  round 4 is next",
        "  long/name  3 of 10  0.5000  round 4 begun",
        "  c           2 of 2       -  done",
        "  d           4 of 9       -  done, the pool is used up",
        "  e           - of 9       -  not begun",
        "  f           - of 9       -  refused",
    ]


@pytest.mark.slow
def test_a_pool_that_is_used_up_is_done_before_its_last_round(elsewhere, capsys):
    words = ("-s", "random", "-unit", "case", "-initial", 4, "-b", 4, "-rounds", 5)
    for _ in range(2):
        assert run_many(*words) == 0
        assert "done, the pool is used up" in capsys.readouterr().out.splitlines()[-2]
    (campaign,) = plan_campaigns(Roots.from_environment(), [Request(DATASET, "2d", 0, 0, None, "random")])
    last = campaign.state().last
    decided = Decisions.load(campaign.folder.decisions)
    for number, used_up in ((last, True), (last + 1, False)):  # cases that came before, and after, that round
        changes = [{"round": number, "added": ["new_case"], "withdrawn": []}]
        replace(decided, pool_changes=tuple(changes)).save(campaign.folder.decisions)
        assert campaign.state().used_up == used_up


def test_help_reads_well(capsys):
    assert run_command(run.main, "-h") == 0
    said = capsys.readouterr().out
    assert "--no_sharing" in said
    assert "--annotate" not in said
    assert "-part_id" not in said


def test_a_campaign_that_another_process_works_on_is_looked_at_again(done, elsewhere, tmp_path, monkeypatch, capsys):
    """It is done by the other one meanwhile, so nothing is refused in the end."""
    from nnunet_al.errors import CampaignLockedError

    real, refused = many.do_round, []

    def busy_once(roots, request, options, number):
        if request.strategy == "random" and number == 1 and not refused:
            refused.append(number)
            real(roots, request, options, number)  # the other process
            raise CampaignLockedError("Another process works on it.")
        real(roots, request, options, number)

    monkeypatch.setattr(many, "do_round", busy_once)
    assert run_many("-s", "random", "entropy", "-seeds", 0, "-rounds", 2) == 0
    assert refused
    assert "looked at again" in capsys.readouterr().out
    assert run_many("-s", "random", "entropy", "-seeds", 0, "-rounds", 2) == 0
    assert "Nothing is left to do" in capsys.readouterr().out


def test_a_campaign_with_a_broken_file_stays_behind(done, elsewhere, capsys):
    assert run_many("-s", "random", "entropy", "-seeds", 0, "-rounds", 1) == 0
    broken = next(elsewhere.glob("*/al/2d__random__seed0/fold_0/campaign.json"))
    broken.write_text("{")
    capsys.readouterr()
    assert run_many("-s", "random", "entropy", "-seeds", 0, "-rounds", 1) == 2
    said = capsys.readouterr()
    assert "campaign.json cannot be read" in said.err
    assert "1 campaign cannot go on" in said.out
