"""Watching: what is said of campaigns and jobs, when it ends, and that a terminal is drawn in place."""

from __future__ import annotations

import fcntl
import io
import itertools
import os
import pty
import re
import struct
import termios
from pathlib import Path

import pytest
from report.faked_campaigns import fake_campaign

from nnunet_al.campaign.decisions import Decisions
from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.campaign.progress import CampaignProgress
from nnunet_al.campaign.stages import STAGE_ORDER, phases_of, whole_stage
from nnunet_al.jobs import watching
from nnunet_al.jobs.display import Log, Terminal, campaign_lines, count_line, fitted, lines_of
from nnunet_al.jobs.folder import JobFolder
from nnunet_al.jobs.job_states import DONE, FAILED, NOT_SUBMITTED, READERS, RUNS, STATES, WAITS, JobState
from nnunet_al.jobs.targets.queue import Seen
from nnunet_al.jobs.watching import CampaignView, FolderView, View, look, watch
from nnunet_al.strategies import catalog

from .fake_cluster import BEGAN, DATASET, ENDED, Cluster, close_batch, lock
from .small_plans import RANDOM, USIMF

LOG = Path("/logs/round_001_train.txt")


def job(state, stuck=False, key="train 1", part=None, last=()):
    return JobState(f"{USIMF}/{key}", part, state, "why", LOG, last, stuck)


def campaign(state, number=0, now="now"):
    return CampaignView(f"2d__random__seed{number}/fold_0", 1, 10, 0.5, state, now)


def view(*states, campaigns=(), gone=False, broken=False):
    folders = [FolderView(Path("/jobs"), tuple(states))] if states else []
    if gone or broken:
        folders.append(FolderView(Path("/other"), broken="why", is_gone=gone))
    return View(tuple(folders), tuple(campaign(state, number) for number, state in enumerate(campaigns)))


@pytest.mark.parametrize(
    "seen, code",
    [
        (view(), 0),
        (view(job(DONE), campaigns=[DONE]), 0),
        (view(job(DONE), job(RUNS)), None),
        (view(job(FAILED), job(RUNS)), None),
        (view(job(FAILED), job(WAITS)), None),
        (view(job(FAILED), job(WAITS, stuck=True), job(NOT_SUBMITTED, stuck=True), job(DONE)), 2),
        (view(job(FAILED), job(READERS, stuck=True)), 2),
        (view(job(FAILED), job(NOT_SUBMITTED)), 2),
        (view(job(READERS, stuck=True), job(WAITS, stuck=True), job(DONE)), 3),
        (view(job(READERS, stuck=True), job(WAITS)), None),
        (view(job(DONE), job(NOT_SUBMITTED)), None),
        # campaigns without jobs
        (view(campaigns=[DONE, DONE]), 0),
        (view(campaigns=[DONE, NOT_SUBMITTED]), None),
        (view(campaigns=[DONE, RUNS]), None),
        (view(campaigns=[DONE, READERS]), 3),
        (view(campaigns=[READERS, NOT_SUBMITTED]), None),
        # beside those with jobs
        (view(job(DONE), campaigns=[DONE, NOT_SUBMITTED]), 0),
        (view(job(DONE), campaigns=[DONE, RUNS]), None),
        (view(job(DONE), campaigns=[DONE, READERS]), 3),
        (view(campaigns=[DONE, NOT_SUBMITTED], gone=True), None),
        (view(campaigns=[DONE], gone=True), 0),
        # nobody knows what a folder that cannot be read has still to do
        (view(broken=True), 2),
        (view(job(DONE), campaigns=[DONE], broken=True), 2),
        (view(job(DONE), campaigns=[READERS], broken=True), 2),
        (view(campaigns=[DONE, RUNS], broken=True), None),
    ],
)
def test_when_watching_ends(seen, code):
    assert seen.verdict() == code


def test_it_ends_only_with_everything_said_twice():
    """Between two jobs nothing runs for a moment; that all is done needs no second look."""
    failed, runs = view(job(FAILED)), view(job(FAILED), job(RUNS))
    looks = iter([runs, failed, runs, view(job(READERS, stuck=True)), failed, failed, view()])
    shown, slept = [], []
    code = watch(lambda: next(looks), lambda seen, is_last: shown.append(is_last), slept.append, 7)
    assert (code, shown, slept) == (2, [False] * 5 + [True], [7] * 5)
    shown.clear()
    assert watch(view, lambda seen, is_last: shown.append(is_last), slept.append, 7) == 0
    assert shown == [True]


def test_an_array_counts_once_and_by_what_matters_most():
    folder = FolderView(
        Path("/a folder/jobs"),
        (
            job(DONE, key="start"),
            *(job(state, key="score 1", part=part) for part, state in enumerate([DONE, RUNS, WAITS, RUNS])),
            *(job(state, key="embed 1", part=part) for part, state in enumerate([FAILED, RUNS])),
            *(job(WAITS, key=f"train {number}") for number in (2, 3)),
            job(READERS, key="select 1"),
        ),
        done_before=12,
    )
    line = "jobs in /a folder/jobs: 13 done, 1 runs, 2 wait, 1 failed, 1 waits for readers"
    assert count_line(folder) == line
    assert count_line(FolderView(Path("/jobs"), done_before=2)) == "jobs in /jobs: 2 done"
    assert count_line(FolderView(Path("/jobs"), broken="why")) == "jobs in /jobs cannot be read: why"
    assert folder.counts().keys() == set(STATES)


def test_what_runs_or_has_failed_comes_first():
    states = [DONE, WAITS, RUNS, NOT_SUBMITTED, FAILED, READERS, *[DONE] * 4, RUNS]
    lines = campaign_lines([campaign(state, number, state) for number, state in enumerate(states)])
    assert lines[0].split() == ["campaign", "round", "Dice", "state"]
    assert [line.split("0.5000  ")[1] for line in lines[1:]] == [
        *("failed", "runs", "runs", "waits", "waits for readers", "not submitted", *["done"] * 5)
    ]
    assert "2d__random__seed2/fold_0   1 of 10" in lines[2]
    assert "2d__random__seed10/fold_0  1 of 10" in lines[3]


@pytest.mark.parametrize("height", [2, 3, 8, 10, 24, 60, 200])
@pytest.mark.parametrize("failures, campaigns", [(0, 0), (0, 100), (1, 5), (30, 5), (30, 100)])
def test_a_screen_fits_and_keeps_what_matters(height, failures, campaigns):
    jobs = [job(FAILED, key=f"train {number}", last=("a", "b", "c")) for number in range(failures)]
    views = [campaign(RUNS if number % 2 else DONE, number) for number in range(campaigns)]
    seen = View((FolderView(Path("/jobs"), tuple(jobs)),), tuple(views))
    whole, lines = lines_of(seen, "title"), lines_of(seen, "title", height)
    assert len(lines) <= height
    assert lines[0] == "title"
    assert len(whole) == 2 + (campaigns + 1 if campaigns else 0) + 5 * failures
    if len(whole) <= height:
        assert lines == whole
        return
    assert set(whole) >= {line for line in lines if not line.startswith("  ... and ")}
    assert any(line.startswith("  ... and ") for line in lines) or height < 3
    if height >= 10:
        told = sum(bool(re.search(r"fold_0 +1 of 10", line)) for line in lines)
        (left,) = re.findall(r"and (\d+) more campaigns", "\n".join(lines)) or ["0"]
        assert told + int(left) == campaigns
        assert not failures or any(line.startswith(USIMF) for line in lines)


def test_wide_characters_take_two_columns():
    assert fitted("abc", 3) == "abc"
    assert fitted("abcd", 3) == "abc"
    assert fitted("日本x", 4) == "日本"
    assert fitted("日本x", 3) == "日"


def drawn(text: str, rows: int, columns: int) -> list[str]:
    """What a terminal shows after `text`: enough of one to know line breaks, "up" and "erase below"."""
    lines, row = [""], 0
    for match in re.finditer(r"\x1b\[(\d*)([A-Za-z])|\r?\n|[^\x1b\r\n]+", text):
        if match[2] == "F":
            assert int(match[1]) < rows, "a line that has left the screen cannot be drawn over"
            row -= int(match[1])
        elif match[2] == "J":
            lines[row:] = [""]
        elif match[2]:
            raise AssertionError(match[0])
        elif match[0].strip("\r") == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        else:
            assert len(match[0]) < columns, "a line that wraps cannot be drawn over"
            lines[row] = match[0]
    return lines[:-1]


def test_a_terminal_is_drawn_in_place():
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    text = ""
    looks = [
        view(
            *(job(FAILED, key=f"train {number}", last=("x" * 200,) * 9) for number in range(9)), campaigns=[RUNS] * 40
        ),
        view(job(RUNS), campaigns=[RUNS, DONE]),
        view(job(DONE), campaigns=[DONE] * 30),
    ]
    with os.fdopen(theirs, "w", encoding="utf-8") as out:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 20, 60, 0, 0))
        terminal = Terminal(out)
        for number, (seen, height) in enumerate(zip(looks, [19, 19, None], strict=True)):
            terminal.show(seen, f"look {number}", is_last=height is None)
            text += os.read(ours, 1 << 20).decode()
            assert drawn(text, 20, 60) == [
                line[: 59 if height else None] for line in lines_of(seen, f"look {number}", height)
            ]
    os.close(ours)


def test_a_file_gets_only_what_has_changed():
    out = io.StringIO()
    log = Log(out)
    failed = job(FAILED, last=("its last words",))
    before = View((FolderView(Path("/jobs"), (job(RUNS),)),), (campaign(RUNS), campaign(DONE, 1)))
    after = View((FolderView(Path("/jobs"), (failed,)),), (campaign(FAILED), campaign(DONE, 1)))
    for time, seen in zip(["01:00", "02:00", "03:00", "04:00"], [before, before, after, after], strict=True):
        log.show(seen, time)
    assert out.getvalue().splitlines() == [
        "01:00  2d__random__seed0/fold_0: round 1 of 10, Dice 0.5000; now",
        "01:00  2d__random__seed1/fold_0: round 1 of 10, Dice 0.5000; now",
        "01:00  jobs in /jobs: 1 runs",
        "03:00  jobs in /jobs: 1 failed",
        f"03:00  {USIMF}/train 1: why",
        "03:00    /logs/round_001_train.txt",
        "03:00      its last words",
    ]


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "nnUNet_preprocessed"))
    found = Cluster(tmp_path)
    monkeypatch.setattr(watching, "ask", lambda target, ids: found.queue if found.answers else None)
    return found


def seen_of(cluster, *roots, is_wanted=lambda key: True):
    started = [CampaignFolder(file.parent) for file in cluster.root.glob("nnUNet_results/*/al/*/*/campaign.json")]
    return look(roots or [cluster.folder.root], started, is_wanted)


def test_campaigns_with_jobs(cluster):
    assert [(c.title, c.last, c.rounds, c.state, c.now) for c in seen_of(cluster).campaigns] == [
        ("2d__random__seed0/fold_0", -1, 2, NOT_SUBMITTED, "not submitted: start"),
        ("2d__usimf__seed0/fold_0", -1, 2, NOT_SUBMITTED, "not submitted: start"),
    ]
    cluster.check()
    fake_campaign(cluster.root / "nnUNet_results", "usimf", [0.75], dataset=DATASET, rounds=2)
    cluster.mark(2, "labels", "fingerprint", "plan", "preprocess", "images", "train")
    cluster.submit(evaluate__2=Seen("runs"), score__2={0: Seen("runs"), 1: Seen("waits")}, fisher__2=Seen("waits"))
    folder, campaigns = seen_of(cluster).folders[0], seen_of(cluster).campaigns
    (usimf,) = [c for c in campaigns if "usimf" in c.title]
    assert (usimf.last, usimf.rounds, usimf.dice) == (1, 2, 0.75)
    assert (usimf.state, usimf.now) == (RUNS, "runs: evaluate 2 and score 2")
    counts = folder.counts()
    assert (counts[DONE], counts[RUNS], counts[WAITS]) == (1 + 1 + 7 + 2, 2, 1)
    cluster.queue.clear()
    cluster.log("evaluate 2", BEGAN.format("n1") + ENDED.format(1))
    (usimf,) = [c for c in seen_of(cluster).campaigns if "usimf" in c.title]
    assert (usimf.state, usimf.now) == (FAILED, "failed: evaluate 2 and score 2 (ended with exit code 1)")


def test_campaigns_without_jobs(cluster):
    results = cluster.root / "nnUNet_results"
    done = fake_campaign(results, "bald", [0.5] * 2, dataset=DATASET, rounds=2)
    half = fake_campaign(results, "bald", [0.5], dataset=DATASET, rounds=2, seed=1)
    people = fake_campaign(results, "bald", [], dataset=DATASET, rounds=2, seed=2, annotate=True)
    (people.round(0).stages / "annotate.json").unlink()
    (people.round(0).stages / "hand_out.json").write_text("{}")

    def found():
        return {
            c.title.removesuffix("/fold_0"): (c.state, c.now) for c in look([], [done, half, people], bool).campaigns
        }

    assert found() == {
        "2d__bald__seed0": (DONE, "done"),
        "2d__bald__seed1": (NOT_SUBMITTED, "nobody works on it; round 1: annotate done"),
        "2d__bald__seed2": (READERS, "waits for readers: for 10 regions"),
    }
    lock(half, "lock", host="elsewhere", process=1)
    state, now = found()["2d__bald__seed1"]
    assert (state, now.partition(" (")[0]) == (RUNS, "runs: after round 1: annotate")
    close_batch(people, 0)
    assert found()["2d__bald__seed2"] == (NOT_SUBMITTED, "nobody works on it; round 0: hand_out done")


def test_folders_that_are_gone_or_broken_and_campaigns_that_cannot_be_read(cluster):
    fake_campaign(cluster.root / "nnUNet_results", "bald", [], dataset=DATASET).decisions.write_text("[")
    broken = cluster.root / "broken"
    broken.mkdir()
    (broken / "plan.json").write_text('{"schema": 1, "plan": 3}')
    gone, bad, good = seen_of(cluster, cluster.root / "gone", broken, cluster.folder.root).folders
    assert count_line(gone) == f"jobs in {cluster.root}/gone cannot be read: it was moved or deleted."
    assert (gone.is_gone, bad.is_gone, good.is_gone) == (True, False, False)
    assert count_line(bad).startswith(f"jobs in {broken} cannot be read: ")
    assert "\n" not in count_line(bad)
    assert not good.broken
    (bald,) = [c for c in seen_of(cluster).campaigns if "bald" in c.title]
    assert bald.state == FAILED
    assert bald.now.startswith("cannot be read: ")


def test_only_what_is_wanted(cluster):
    seen = seen_of(cluster, is_wanted=lambda key: key.startswith(RANDOM))
    assert {state.key.rpartition("/")[0] for state in seen.folders[0].states} == {RANDOM}
    assert [c.title for c in seen.campaigns] == [RANDOM.removeprefix(f"{DATASET}/")]
    other = Cluster(cluster.root / "other")
    done = type(other.plan)(
        **{**other.plan.__dict__, "jobs": (), "done": frozenset({f"{RANDOM}/train 1", "x/train 1"})}
    )
    JobFolder(other.folder.root).write(done, "slurm", {})
    counts = seen_of(cluster, other.folder.root, is_wanted=lambda key: key.startswith(RANDOM)).folders[0].counts()
    assert counts[DONE] == 1


def test_stages_in_the_order_in_which_a_round_does_them():
    """The stages of each strategy's rounds, with annotation by people or without, stand in this order."""
    from nnunet_al.rounds.stages.order import MODEL_STAGES, first_round, phase_stages, selection_stages

    for name, annotate in itertools.product(["usimf", "random", "core_set", "entropy+fair", "usimf+fair"], [0, 1]):
        decided = Decisions.__new__(Decisions)
        object.__setattr__(decided, "recipe", catalog.get(name))
        object.__setattr__(decided, "annotate", bool(annotate))
        by_phase = [stage for phase in phases_of(decided.recipe) for stage in phase_stages(phase, decided, 2, 0)]
        for stages in (first_round(decided), [*MODEL_STAGES, *selection_stages(decided, 2, 1)], by_phase):
            names = list(dict.fromkeys(whole_stage(stage.name) for stage in stages))
            places = [STAGE_ORDER.index(name) for name in names]
            assert places == sorted(places), names


def test_the_last_stage_does_not_depend_on_clocks(tmp_path):
    folder = CampaignFolder(tmp_path)
    assert CampaignProgress(folder.root).last_stage == "begun"
    for hours, stage in enumerate(["select", "score", "score_part_1_of_2", "train", "another", ".hidden"]):
        marker = folder.round(3).stages / f"{stage}.json"
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
        os.utime(marker, (hours * 3600, hours * 3600))
    found = []
    for stage in ["select", "score", "score_part_1_of_2", "train", "another"]:
        found.append(CampaignProgress(folder.root).last_stage)
        (folder.round(3).stages / f"{stage}.json").unlink()
    names = ["select", "score", "score_part_1_of_2", "train", "another"]
    assert found == [f"round 3: {name} done" for name in names]
    assert CampaignProgress(folder.root).last_stage == "begun"
