"""What is handed over again when some of it was handed over before."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from nnunet_al.errors import CampaignError, SetupError
from nnunet_al.jobs.folder import JobFolder
from nnunet_al.jobs.plan import Job, JobResources, Plan, Script
from nnunet_al.jobs.submission import HandOver, cancel, check_same_parts, hand_over, look, submit
from nnunet_al.jobs.targets.queue import NEVER, Seen
from nnunet_al.jobs.targets.submit_script import open_parts, submissions

WAITS, RUNS, STUCK = Seen("waits", "for other jobs"), Seen("runs"), Seen("held", NEVER)


def script(name: str, parts: int = 1) -> Script:
    return Script(name, name, name, ("x",), JobResources(0, 1, 1, 1), Path("/logs"), parts)


SCRIPTS = {name: script(name, parts) for name, parts in {"train": 1, "score": 4, "select": 1}.items()}
TRAIN, SCORE, SELECT = (Job("train", 1), Job("score", 1, ("train 1",), (0, 1, 2, 3)), Job("select", 1, ("score 1",)))
PLAN = Plan(SCRIPTS, (TRAIN, SCORE, SELECT), (), {}, ())
IDS = {"train 1": ("1",), "score 1": ("2",), "select 1": ("3",)}


def plan_of(*jobs: Job, done: tuple[str, ...] = ()) -> Plan:
    return replace(PLAN, jobs=jobs, done=frozenset(done))


def test_at_first_everything_is_handed_over():
    found = hand_over(PLAN, {}, {})
    assert found == HandOver({}, (), {})
    assert found.left(PLAN) == 3


def test_what_is_in_the_queue_stays_there():
    queue = {"1": {None: RUNS}, "2": {0: WAITS, 1: WAITS, 2: WAITS, 3: WAITS}, "3": {None: WAITS}}
    found = hand_over(PLAN, IDS, queue)
    assert found.queued == {"train 1": "1", "score 1": "2", "select 1": "3"}
    assert found.orphans == ()
    assert found.left(PLAN) == 0


@pytest.mark.parametrize(
    "queued, left",
    [("", (0, 1, 2, 3)), ("2", ()), ("2_1 5_3", (0, 2)), ("2_0 2_1 2_2 2_3", ()), ("2_0 2_1 2_2 2_3 2_9", ())],
)
def test_the_parts_that_are_left_count_the_same_in_the_entry_and_in_the_summary(queued, left):
    assert open_parts(SCORE, queued.split()) == left
    found = {job.key: queued for job in PLAN.jobs if job is SCORE}
    assert submissions(PLAN, found)[1].is_open == bool(left)
    assert HandOver(found).left(PLAN) == (3 if left else 2)


def test_what_waits_for_a_failed_job_is_taken_out_and_handed_over_again():
    queue = {"2": {0: WAITS, 1: WAITS, 2: WAITS, 3: WAITS}, "3": {None: WAITS}}
    found = hand_over(PLAN, IDS, queue)
    assert found.queued == {}
    assert found.orphans == (("2", 0), ("2", 1), ("2", 2), ("2", 3), ("3", None))
    assert found.left(PLAN) == 3


def test_a_missing_part_is_handed_over_alone():
    score = replace(SCORE, after=(), missing=(1, 2, 3))  # part 0 is done, 1 has failed
    plan = plan_of(score, SELECT, done=("train 1",))
    found = hand_over(plan, IDS, {"2": {2: RUNS, 3: WAITS}, "3": {None: WAITS}})
    assert found.queued == {"score 1": "2_2 2_3"}
    assert found.orphans == (("3", None),), "it would wait for ever for the part that failed"
    assert found.left(plan) == 2
    # then it runs as an array of its own, and of the first one something is still there
    history = {"score 1": ("2", "4"), "select 1": ("3", "5")}
    found = hand_over(plan, history, {"2": {3: RUNS}, "4": {1: WAITS}, "5": {None: WAITS}})
    assert found.queued == {"score 1": "4_1 2_3"}, "part 2 is to be handed over, and with it what is behind"
    plan = plan_of(replace(score, missing=(1, 3)), SELECT, done=("train 1",))
    found = hand_over(plan, history, {"2": {3: RUNS}, "4": {1: WAITS}, "5": {None: WAITS}})
    assert found.queued == {"score 1": "4_1 2_3", "select 1": "5"}
    assert found.left(plan) == 0


def test_parts_with_ids_of_their_own_are_named_by_them():
    plan = plan_of(replace(SCORE, after=()))
    history = {"score 1": ("2_0", "2_1", "2_2", "2_3")}
    queue = {f"2_{part}": {part: WAITS} for part in (0, 2)}
    assert hand_over(plan, history, queue).queued == {"score 1": "2_0 2_2"}
    assert hand_over(plan, history, None).queued == {"score 1": "2_0 2_1 2_2 2_3"}


def test_what_can_never_run_is_handed_over_again_and_what_a_person_holds_is_not():
    queue = {"1": {None: Seen("held", "held by its owner")}, "2": {0: STUCK, 1: WAITS, 2: WAITS, 3: WAITS}}
    found = hand_over(PLAN, IDS, queue)
    assert found.queued == {"train 1": "1", "score 1": "2_1 2_2 2_3"}
    assert found.orphans == (("2", 0),)


def test_a_job_that_runs_is_left_alone_whatever_it_should_have_waited_for():
    found = hand_over(PLAN, IDS, {"3": {None: RUNS}})
    assert found.queued == {"select 1": "3"}
    assert found.orphans == ()


def test_jobs_that_are_not_planned_any_more_are_named():
    found = hand_over(plan_of(SELECT, done=("train 1",)), IDS, {"1": {None: RUNS}, "2": {0: RUNS}})
    assert found.surplus == {"score 1": "2"}, "one that is done ends by itself"


def test_without_a_scheduler_only_what_never_was_handed_over():
    history = {"train 1": ("1",), "score 1": ("2", "4")}
    found = hand_over(PLAN, history, None)
    assert found.queued == {"train 1": "1", "score 1": "4"}
    assert found.assumed == ("train 1", "score 1")
    assert found.left(PLAN) == 1
    assert hand_over(PLAN, history, None, resubmit=True).left(PLAN) == 3


def test_another_number_of_parts_waits_until_the_queue_is_empty():
    other = replace(PLAN, scripts={**SCRIPTS, "score": script("score", 2)})
    queue = {"2": {0: WAITS}}
    for still in (queue, None):
        with pytest.raises(CampaignError, match=r"-num_parts 2: jobs of 4 parts .* score 1 \(2\)"):
            check_same_parts(PLAN, other, IDS, still)
    check_same_parts(PLAN, PLAN, IDS, queue)
    check_same_parts(PLAN, other, IDS, {"1": {None: RUNS}})
    check_same_parts(PLAN, other, {}, None)
    check_same_parts(PLAN, replace(other, jobs=(), done=frozenset({"score 1"})), IDS, queue)


# Programs


@pytest.fixture
def program(tmp_path, monkeypatch):
    """A function that puts a program on PATH, which notes its arguments in a file of its name."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")

    def make(name: str) -> Path:
        path, note = tmp_path / "bin" / name, tmp_path / f"{name} was called"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'#!{sys.executable} -IS\nimport sys\nopen({str(note)!r}, "a").write(repr(sys.argv[1:]))\n')
        path.chmod(0o755)
        return note

    return make


def test_each_scheduler_is_told_in_its_own_way(program):
    slurm, lsf = program("scancel"), program("bkill")
    cancel("slurm", [("2", 1), ("3", None), ("4_7", 7)])
    cancel("lsf", [("2", 1), ("3", None)])
    assert slurm.read_text() == "['2_1', '3', '4_7']"
    assert lsf.read_text() == "['2[2]', '3']"


def entry(folder: Path, text: str) -> JobFolder:
    folder.mkdir(exist_ok=True)
    (folder / "submit.sh").write_text(text)
    (folder / "run.sh").write_text(text)
    return JobFolder(folder)


def test_the_last_words_of_the_scheduler_are_ours(tmp_path, capfd):
    folder = entry(tmp_path / "it's 50%", "echo 12; echo sbatch: error: Invalid account >&2\necho >&2\nexit 7\n")
    with pytest.raises(SetupError, match=r"handed over \(sbatch: error: Invalid account\): solve"):
        submit(folder, "slurm")
    said = capfd.readouterr()
    assert said.out == "12\n"
    assert "Invalid account" in said.err
    with pytest.raises(SetupError, match="ended with exit code 3"):
        submit(entry(tmp_path / "it's 50%", "exit 3\n"), "lsf")


@pytest.mark.parametrize("code", [0, 2, 3])
def test_one_machine_says_itself_how_it_ended(tmp_path, code):
    assert submit(entry(tmp_path / "jobs", f"exit {code}\n"), "shell") == code


def test_nobody_is_asked_before_anything_was_handed_over(tmp_path, monkeypatch):
    from nnunet_al.jobs import submission

    asked = []
    monkeypatch.setattr(submission, "ask", lambda target, ids: asked.append((target, sorted(ids))))
    folder = entry(tmp_path / "jobs", "")
    assert look(folder, "slurm") == {}
    folder.submitted_file.write_text("a\t7\tt\nb 1\t8\tt\na\t9\tt\n")
    assert look(folder, "shell") == {}
    assert asked == []
    assert look(folder, "slurm") is None
    assert asked == [("slurm", ["7", "8", "9"])]
