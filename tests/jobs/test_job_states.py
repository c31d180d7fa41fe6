"""Where jobs stand, by hand: what the markers, the queue, locks and logs say together."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from dataclasses import replace

import pytest
from report.faked_campaigns import fake_round

from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.jobs.job_states import STATES, job_states
from nnunet_al.jobs.lock_owners import lock_owners
from nnunet_al.jobs.log_tail import Run, last_lines, last_run
from nnunet_al.jobs.targets.queue import NEVER, Seen

from .fake_cluster import BEGAN, ENDED, HERE, Cluster, close_batch, lock
from .small_plans import PREPARE, RANDOM, USIMF

RUNS, WAITS = Seen("runs"), Seen("waits", "for other jobs")


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    root = tmp_path / 'it\'s "here" 50% $HOME/é'
    monkeypatch.setenv("nnUNet_preprocessed", str(root / "nnUNet_preprocessed"))
    return Cluster(root)


def test_a_new_plan_is_not_submitted(cluster):
    states = cluster.states()
    assert {state.state for state in states.values()} == {"not submitted"}
    assert len(states) == 1 + (1 + 2 * 9) + (1 + 2 * 4)  # dataset; start, and of each round 7 jobs with 9 tasks; 4
    assert [part for key, part in states if key == "score 2"] == [0, 1]
    assert states[("train 1", None)].log == cluster.campaign().root / "job_logs/round_001_train.txt"
    assert states[("score 2", 1)].log == cluster.campaign().root / "job_logs/round_002_score_1.txt"


def test_markers_queue_and_what_comes_behind(cluster):
    cluster.check()
    cluster.start()
    cluster.mark(1, "labels", "fingerprint", "plan", "preprocess", "images", "train", "score_part_1_of_2")
    cluster.submit(
        train__1=None,
        evaluate__1=RUNS,
        score__1={0: Seen("waits", "for free resources")},
        fisher__1=WAITS,
        embed__1={0: WAITS, 1: WAITS},
        select__1=Seen("held", "held by its owner"),
    )
    states = cluster.states()
    assert states[(PREPARE, None)].state == "done"
    assert states[("start", None)].state == "done"
    assert cluster.words("prepare 1", "train 1", "score 1#1") == [("done", "")] * 3
    assert cluster.words("evaluate 1") == [("runs", "")]
    assert cluster.words("score 1#0") == [("waits", "for free resources")]
    assert cluster.words("fisher 1", "embed 1#1") == [("waits", "for other jobs")] * 2
    assert cluster.words("select 1") == [("waits", "held by its owner")]
    assert cluster.words("train 2", "score 2#0") == [("not submitted", "")] * 2
    assert not any(state.stuck for state in states.values())
    assert states[(f"{RANDOM}/train 1", None)].state == "not submitted"


def test_what_has_left_the_queue_and_is_not_done_has_failed_and_holds_up_what_is_behind_it(cluster):
    cluster.check()
    cluster.start()
    cluster.mark(1, "labels", "fingerprint", "plan", "preprocess", "images", "train")
    cluster.submit(
        score__1={1: RUNS},
        fisher__1=Seen("held", NEVER),
        embed__1=None,  # the scheduler took it out of the queue
        evaluate__1=None,
    )
    log = cluster.log("score 1", f"{BEGAN.format('n1')}scores\nTraceback\nMemoryError\n\n{ENDED.format(1)}", "0")
    states = cluster.states()
    failed = states[("score 1", 0)]
    assert (failed.state, failed.detail, failed.log) == ("failed", "ended with exit code 1", log)
    assert failed.last[-2:] == ("MemoryError", ENDED.format(1).strip())
    assert cluster.words("score 1#1") == [("runs", "")]
    assert cluster.words("evaluate 1") == [("failed", "not in the queue any more and not done")]
    reason = f"{USIMF}/score 1 has failed"
    assert cluster.words("fisher 1") == [("waits", reason)]
    assert cluster.words("embed 1#0", "embed 1#1") == [("not submitted", reason)] * 2
    behind = [key for key in states if states[key].stuck]
    assert {("fisher 1", None), ("embed 1", 0), ("select 1", None), ("prepare 2", None)} <= set(behind)
    assert not {("score 1", 0), ("score 1", 1), ("evaluate 1", None), (f"{RANDOM}/train 1", None)} & set(behind)


def test_a_part_that_was_handed_over_again_runs_beside_those_of_the_first_array(cluster):
    cluster.start()
    cluster.note(f"{USIMF}/score 1", "100")
    cluster.note(f"{USIMF}/score 1", "200")
    cluster.queue = {"100": {0: RUNS}, "200": {1: WAITS}}
    assert cluster.words("score 1#0", "score 1#1") == [("runs", ""), ("waits", "for other jobs")]
    cluster.queue = {"100": {0: RUNS}}
    assert [state for state, _ in cluster.words("score 1#0", "score 1#1")] == ["runs", "failed"]


def test_a_job_that_is_submitted_while_the_scheduler_answers_has_not_failed(cluster):
    cluster.note(f"{USIMF}/start", "1")
    found = {state.key: state.state for state in job_states(cluster.plan, cluster.folder, {}, {})}
    assert found[f"{USIMF}/start"] == "not submitted"
    assert cluster.words("start") == [("failed", "not in the queue any more and not done")]


def test_a_success_whose_marker_is_not_seen_says_so(cluster):
    cluster.submit(start=None)
    cluster.log("start", BEGAN.format("n1") + ENDED.format(0))
    assert cluster.words("start") == [("failed", "not in the queue any more and not done, though it ended well")]


def test_labels_that_are_missing_are_waited_for(cluster):
    cluster.start()
    cluster.submit(select__1=None, prepare__2=None)
    cluster.log("select 1", BEGAN.format("n1") + "no label\n" + ENDED.format(3))
    state = cluster.states()[("select 1", None)]
    assert (state.state, state.detail) == ("waits for readers", "for annotations that are missing")
    assert "no label" in state.last
    assert cluster.words("prepare 2") == [("not submitted", f"{USIMF}/select 1 waits for readers")]


def test_readers(cluster):
    campaign = cluster.start(annotate=True)
    (campaign.round(0).stages / "annotate.json").unlink()
    cluster.mark(0, "hand_out")
    cluster.submit(prepare__1=WAITS)
    assert cluster.words("start") == [("waits for readers", "for 10 regions")]
    assert cluster.words("prepare 1") == [("waits", f"{USIMF}/start waits for readers")]
    close_batch(campaign, 0)
    assert cluster.words("start") == [("done", "")]
    assert cluster.words("prepare 1") == [("waits", "for other jobs")]


def test_the_job_that_closes_the_last_round_is_not_done_while_it_is_in_the_queue(cluster):
    campaign = cluster.start(annotate=True)
    cluster.mark(1, "hand_out")
    fake_round(campaign, 1, 5, {})
    close_batch(campaign, 1)
    assert cluster.words("select 1") == [("done", "")]
    cluster.submit(select__1=RUNS)
    assert cluster.words("select 1") == [("runs", "")]
    cluster.mark(1, "annotate")
    cluster.queue.clear()
    assert cluster.words("select 1") == [("done", "")]


def test_done_is_done_whatever_the_queue_says(cluster):
    cluster.start()
    cluster.mark(1, "train")
    cluster.submit(train__1=Seen("runs", "it is ending"))
    assert cluster.words("train 1") == [("done", "")]


@pytest.fixture
def neighbour():
    """A process of this host, which ends with the test."""
    process = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    yield process.pid
    process.communicate(b"\n")


def test_without_a_scheduler_locks_tell_what_runs(cluster, neighbour):
    cluster.answers = False
    cluster.start()
    cluster.mark(1, "labels", "fingerprint", "plan", "preprocess", "images")
    cluster.submit(prepare__1=None, train__1=None, score__1=None)
    assert cluster.words("train 1", "score 1#0") == [("waits", "no scheduler answers")] * 2
    who = f"process {neighbour} on {HERE} since 2024-05-06T07:08:09+02:00"
    lock(cluster.campaign(), "lock", process=neighbour)
    assert cluster.words("train 1") == [("runs", who)]
    assert cluster.words("score 1#0") == [("waits", "no scheduler answers")]
    assert cluster.words("evaluate 1") == [("not submitted", "")]
    (cluster.campaign().root / "lock.json").unlink()

    cluster.mark(1, "train")
    lock(cluster.campaign(), "lock_part_score_1_of_2", process=neighbour)
    lock(cluster.campaign(), "lock_part_evaluate", host="elsewhere", process=3)
    lock(cluster.campaign(), "lock_ledger", process=neighbour)
    assert cluster.words("score 1#0", "score 1#1") == [("waits", "no scheduler answers"), ("runs", who)]
    assert cluster.words("evaluate 1") == [("runs", "process 3 on elsewhere since 2024-05-06T07:08:09+02:00")]
    assert cluster.words("select 1") == [("not submitted", "")]


def test_a_scheduler_is_believed_rather_than_locks_that_a_broken_host_left_behind(cluster):
    cluster.start()
    cluster.mark(1, "labels", "fingerprint", "plan", "preprocess", "images")
    lock(cluster.campaign(), "lock", host="elsewhere", process=3)
    assert [state for state, _ in cluster.words("train 1")] == ["runs"]  # somebody's own call
    cluster.submit(train__1=None)
    assert cluster.words("train 1") == [("failed", "not in the queue any more and not done")]


def test_a_holder_that_has_ended_or_says_nothing_is_none(tmp_path):
    campaign = CampaignFolder(tmp_path)
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait()
    lock(campaign, "lock", process=process.pid)
    lock(campaign, "lock_part_evaluate", process=os.getpid())  # the number was ours before we were
    (tmp_path / "lock_part_score_0_of_2.json").write_text('{"host": ')
    (tmp_path / "lock_part_score_1_of_2.json").write_text("[]")
    assert lock_owners(tmp_path) == {}


@pytest.mark.parametrize(
    "log, state, detail",
    [
        ("", "not submitted", ""),
        (ENDED.format(2), "failed", "ended with exit code 2"),
        (ENDED.format(130), "not submitted", "was interrupted"),
        (ENDED.format(3), "waits for readers", "for annotations that are missing"),
        (ENDED.format(2) + BEGAN.format("n1"), "runs", "on n1 by its log"),
        (BEGAN.format(f"{HERE}, process {os.getpid()}"), "not submitted", "was interrupted"),
        (BEGAN.format("n1") + ENDED.format(137) + "slurmstepd: killed\n", "failed", "ended with exit code 137"),
    ],
    ids=["nothing yet", "failed", "interrupted", "waits", "runs again", "a process that is gone", "killed"],
)
def test_on_one_machine_logs_tell_how_it_ended(cluster, log, state, detail):
    cluster.answers = False
    cluster.check()
    cluster.log("start", log)
    assert cluster.words("start") == [(state, detail)]


def test_a_campaign_that_cannot_be_read_is_a_failure_of_its_own_jobs_only(cluster):
    campaign = cluster.start()
    campaign.decisions.write_text("{")
    states = cluster.states()
    assert states[("train 1", None)].state == "failed"
    assert str(campaign.decisions) in states[("train 1", None)].detail
    assert states[(f"{RANDOM}/start", None)].state == "not submitted"


def test_every_part_has_one_state_whatever_is_there(cluster):
    """Random markers, queues and logs: each missing part is told of once, in the plan's order, in a known state."""
    dice = random.Random(1)
    cluster.start()
    keys = [(job.key, part) for job in cluster.plan.jobs for part in job.missing]
    ids = {job.key: [str(number)] for number, job in enumerate(cluster.plan.jobs) if dice.random() < 0.7}
    stages = ["labels", "fingerprint", "plan", "preprocess", "images", "train", "evaluate", "score", "fisher", "embed"]
    for _ in range(30):
        cluster.mark(dice.choice([1, 2]), dice.choice([*stages, "score_part_0_of_2", "score_part_1_of_2"]))
        job = dice.choice(cluster.plan.jobs)
        part = "0" if cluster.plan.scripts[job.script].parts > 1 else ""
        cluster.plan.log(job, part).write_text(dice.choice([ENDED.format(dice.choice([0, 1, 3, 130])), "words\n"]))
        queue = {id_: {dice.choice([None, 0, 1]): dice.choice([RUNS, WAITS])} for (id_,) in ids.values()}
        queue = dict(dice.sample(sorted(queue.items()), k=5))
        states = job_states(cluster.plan, cluster.folder, dice.choice([queue, None]), ids)
        arrays = {key for key, _ in keys if cluster.plan.scripts[cluster.plan.by_key[key].script].parts > 1}
        assert [(s.key, s.part) for s in states] == [(key, part if key in arrays else None) for key, part in keys]
        assert {state.state for state in states} <= set(STATES)
        assert not any(state.stuck for state in states if state.state in {"done", "runs", "failed"})


def test_only_the_missing_parts_are_told_of(cluster):
    jobs = tuple(replace(job, missing=(1,)) if job.key == f"{USIMF}/score 1" else job for job in cluster.plan.jobs)
    cluster.plan = replace(cluster.plan, jobs=jobs)
    assert [part for key, part in cluster.states() if key == "score 1"] == [1]


def test_last_lines(tmp_path):
    log = tmp_path / "log.txt"
    assert last_lines(log) == []
    bars = b"\rcases:  50%|##  | 1/2\rcases: 100%|####| 2/2\r                     \rRound 1 is done.\r\n"
    log.write_bytes(b"first\n\n  \n" + bars + b"\x1b[31mred\x1b[0m \xff\xfe\x07\n\n\rcases:  10%|#   |\r   \r")
    assert last_lines(log) == ["first", "Round 1 is done.", "red \ufffd\ufffd", "cases:  10%|#   |"]
    assert last_lines(log, 1) == ["cases:  10%|#   |"]
    assert last_lines(tmp_path) == []


def test_a_long_log_is_read_from_its_end(tmp_path):
    log = tmp_path / "log.txt"
    with log.open("wb") as file:
        file.write(b"nnunet-al: begins on n1 at 2024\n")
        file.truncate(3 << 30)  # 3 GiB with a hole
        file.seek(0, 2)
        file.write(b"\n" + b"x" * 1000 + b"\nend\n")
    shortened, end = last_lines(log, 2)
    assert (shortened, end) == ("x" * 297 + "...", "end")
    log.write_text("y" * 100_000)
    assert last_lines(log) == ["y" * 297 + "..."]


def test_the_last_run_in_a_log(tmp_path):
    log = tmp_path / "log.txt"
    assert last_run(log) is None
    log.write_text(BEGAN.format("n1") + ENDED.format(130))
    assert last_run(log) == Run("n1", None, 130)
    log.write_text(log.read_text() + "nnunet-al: asks Slurm to run the job again at 2024\n")
    assert last_run(log) == Run("n1", None, 130)
    log.write_text(log.read_text() + BEGAN.format("n2, process 12"))
    assert last_run(log) == Run("n2", 12, None)
    log.write_text("its words: nnunet-al: ended with exit code 1 at\n")
    assert last_run(log) is None
    log.write_text(ENDED.format(1))
    assert last_run(log) == Run("", None, 1)
