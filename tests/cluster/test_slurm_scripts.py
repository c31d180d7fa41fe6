"""What Slurm itself does with our scripts and the options of `submit.sh`; their commands are a line of shell."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_rounds import run_command, set_roots

from nnunet_al.cli import jobs
from nnunet_al.jobs.folder import JobFolder
from nnunet_al.jobs.plan import Job, JobResources, Plan, Script
from nnunet_al.jobs.submission import submit
from nnunet_al.jobs.targets import MARKS, ask, render
from nnunet_al.jobs.targets.queue import NEVER, Seen
from nnunet_al.jobs.targets.template import read_template

from .slurm import NEEDED, processes_of, running_slurm

pytestmark = pytest.mark.slow  # Slurm looks at its queue once a second

WEIRD = ("it's a 50% tést", 'a "b" $HOME; `c` & %a%% #d', "back\\slash %a")
DAEMONS = 4  # munged, slurmctld with a helper, slurmd
LISTENS = """\
import os, pathlib, signal, sys, time

stopped = pathlib.Path(os.environ["PLACE"], "stopped_" + sys.argv[-1])
if stopped.exists():
    print("goes on")
    sys.exit()
signal.signal(signal.SIGUSR1, lambda number, frame: sys.exit(stopped.touch() or 130))
print("starts", flush=True)
time.sleep(60)
sys.exit(1)
"""
"""A program that stops when it is asked to, and ends when it is started again."""


def script(root: Path, name: str, command: str, parts: int = 1, python: bool = False) -> Script:
    """A script in a plan; `command`, of the shell or in Python, finds the arguments that a script adds."""
    needs = JobResources(gpus=0, cpus=1, memory_gb=1, hours=1)
    words = (sys.executable, "-c", command) if python else ("bash", "-c", command, "-")
    return Script(f"Dataset004_X/{name}", name, f"Does {name}.", words, needs, root / "logs", parts)


def plan_of(scripts: list[Script], found: list[Job], **others: object) -> Plan:
    settings = {"request": (), "environment": {"PLACE": str(scripts[0].logs)}, "path": (), **others}
    return Plan(scripts={one.name: one for one in scripts}, jobs=tuple(found), **settings)


def hand_over(root: Path, plan: Plan, template: Path | None = None) -> dict[str, str]:
    """Write a plan and hand it over; the ids by key."""
    folder = JobFolder(root / "jobs")
    extra = [] if template is None else [read_template(template, "#SBATCH", MARKS)]
    folder.write(plan, "slurm", render("slurm", plan, {}, *extra), "submit.sh")
    assert submit(folder, "slurm") == 0
    return folder.submitted()


@pytest.mark.parametrize("name", WEIRD)
def test_jobs_print_where_the_plan_says(slurm, tmp_path, name):
    root = tmp_path / name
    (root / "jobs").mkdir(parents=True)
    plan = plan_of(
        [script(root, "train", 'echo "one $* $PLACE"'), script(root, "score", 'echo "$*"', parts=2)],
        [Job("Dataset004_X/train", 3), Job("Dataset004_X/score", 3, ("Dataset004_X/train 3",), (0, 1))],
    )
    hand_over(root, plan)
    slurm.wait_until(lambda: not slurm.queue())
    train, score = plan.jobs
    assert f"one -round 3 {root / 'logs'}\n" in plan.log(train).read_text()
    for part in ("0", "1"):
        assert f"-round 3 -num_parts 2 -part_id {part}\n" in plan.log(score, part).read_text()
    logs = {plan.log(train).name, *(plan.log(score, part).name for part in "01")}
    # where a backslash forbids a log for each part, Slurm's own words have one of their own
    assert logs <= {path.name for path in (root / "logs").iterdir()} <= logs | {plan.log(score).name}


def test_a_job_waits_until_all_parts_have_succeeded(slurm, tmp_path):
    last = '[ "${*: -1}" = 0 ] || sleep 2; echo "$*" >> "$PLACE/order"'
    plan = plan_of(
        [script(tmp_path, "score", last, parts=2), script(tmp_path, "select", 'echo "$*" >> "$PLACE/order"')],
        [Job("Dataset004_X/score", 1, (), (0, 1)), Job("Dataset004_X/select", 1, ("Dataset004_X/score 1",))],
    )
    hand_over(tmp_path, plan)
    slurm.wait_until(lambda: not slurm.queue())
    order = (tmp_path / "logs" / "order").read_text().splitlines()
    assert order == [*(f"-round 1 -num_parts 2 -part_id {part}" for part in (0, 1)), "-round 1"]


@pytest.mark.parametrize("code", [2, 130])
def test_behind_a_job_that_failed_nothing_runs(slurm, tmp_path, code):
    plan = plan_of(
        [
            script(tmp_path, "score", f'[ "${{*: -1}}" = 0 ] || exit {code}', parts=2),
            script(tmp_path, "select", "true"),
        ],
        [Job("Dataset004_X/score", 1, (), (0, 1)), Job("Dataset004_X/select", 1, ("Dataset004_X/score 1",))],
    )
    ids = hand_over(tmp_path, plan)
    slurm.wait_until(lambda: not slurm.queue())  # it does not stay there for ever
    assert f"ended with exit code {code} " in plan.log(plan.jobs[0], "1").read_text()
    assert "JobState=CANCELLED" in slurm.run("scontrol", "show", "job", ids["Dataset004_X/select 1"])
    assert not plan.log(plan.jobs[1]).exists()


def test_a_batch_for_readers_is_a_success_where_the_plan_ends_with_it(slurm, tmp_path):
    for name, ends in {"ends": True, "goes on": False}.items():
        root = tmp_path / name
        root.mkdir()
        plan = plan_of([script(root, "select", "exit 3")], [Job("Dataset004_X/select", 1)], ends_at_readers=ends)
        (id_,) = hand_over(root, plan).values()
        slurm.wait_until(lambda: not slurm.queue())
        assert f"ExitCode={0 if ends else 3}:0" in slurm.run("scontrol", "show", "job", id_)


@pytest.mark.parametrize("parts", [1, 2])
def test_a_job_whose_time_is_nearly_over_stops_and_runs_again(slurm, tmp_path, parts):
    scripts = [script(tmp_path, "train", LISTENS, parts, python=True), script(tmp_path, "select", "echo after all")]
    plan = plan_of(
        scripts,
        [
            Job("Dataset004_X/train", 1, (), tuple(range(parts))),
            Job("Dataset004_X/select", 1, ("Dataset004_X/train 1",)),
        ],
    )
    training, after = plan.jobs
    id_ = hand_over(tmp_path, plan)[training.key]
    logs = [plan.log(training, str(part) if parts > 1 else "") for part in range(parts)]
    slurm.wait_until(lambda: all(log.is_file() and "starts\n" in log.read_text() for log in logs))
    slurm.run("scancel", "--signal=USR1", "--batch", id_ if parts == 1 else f"{id_}_1")
    slurm.wait_until(lambda: "asks Slurm to run the job again" in logs[-1].read_text())
    for part, log in enumerate(logs[:-1]):
        assert "is warned" not in log.read_text()  # it is one task that is warned and starts again
        slurm.run("scancel", "--signal=USR1", "--batch", f"{id_}_{part}")

    def is_over() -> bool:
        slurm.hurry()
        return not slurm.queue()

    slurm.wait_until(is_over)
    for log in logs:
        text = log.read_text()
        assert text.count("begins on") == 2
        assert "ended with exit code 130" in text
        assert text.index("goes on\n") < text.index("ended with exit code 0")
    assert "after all" in plan.log(after).read_text()


def test_the_scheduler_says_what_becomes_of_jobs(slurm, tmp_path):
    plan = plan_of(
        [script(tmp_path, "score", "sleep 60", parts=3), script(tmp_path, "select", "true")],
        [Job("Dataset004_X/score", 1, (), (0, 2)), Job("Dataset004_X/select", 1, ("Dataset004_X/score 1",))],
        limit=1,
    )
    score, select = hand_over(tmp_path, plan).values()
    slurm.wait_until(lambda: slurm.queue()[f"{score}_0"][0] == "RUNNING")
    seen = ask("slurm", [score, select, "99999"])
    assert seen is not None
    assert {part: one.state for part, one in seen[score].items()} == {0: "runs", 2: "waits"}
    assert seen[select] == {None: Seen("waits", "for other jobs")}
    assert set(seen) == {score, select}
    late = slurm.run("sbatch", "--parsable", f"--dependency=afterok:{score}", "-o", "/dev/null", "--wrap=true").strip()
    slurm.run("scancel", f"{score}_0", f"{score}_2")
    slurm.wait_until(lambda: set(ask("slurm", [score, select]) or ()) == set())
    slurm.wait_until(lambda: slurm.queue()[late][1] == "DependencyNeverSatisfied")
    assert ask("slurm", [late]) == {late: {None: Seen("held", NEVER)}}
    slurm.run("scancel", late)
    slurm.wait_until(lambda: not slurm.queue())


def test_what_a_site_adds_stands_behind_ours(slurm, tmp_path):
    template = tmp_path / "template.txt"
    template.write_text("#SBATCH --job-name=ours\nexport SITE='it is here'\n[train]\n#SBATCH --time=2:30:00\n")
    train = script(tmp_path, "train", "echo $SITE")
    plan = plan_of([train], [Job(train.name, 1)])
    (id_,) = hand_over(tmp_path, plan, template).values()
    slurm.wait_until(lambda: not slurm.queue())
    shown = slurm.run("scontrol", "show", "job", id_).split()
    assert {"JobName=ours", "TimeLimit=02:30:00", "MinMemoryNode=1G", "Requeue=1"} <= set(shown)
    assert "it is here\n" in plan.log(plan.jobs[0]).read_text()


def test_slurm_takes_every_script_of_a_plan(slurm, phantom_variants, tmp_path, monkeypatch, capsys):
    for name, value in {**set_roots(tmp_path), "nnUNet_raw": str(phantom_variants(cases=8))}.items():
        monkeypatch.setenv(name, value)
    campaigns = ("-d", "501", "-s", "usimf", "-f", "0", "1", "-rounds", "1", "-num_gpus", "2", "-num_parts", "3")
    sizes = ("-cpus", "2", "-memory", "1", "-hours", "1.5", "train=100")
    assert run_command(jobs.main, *campaigns, "-to", "slurm", "-o", tmp_path / "jobs", *sizes) == 0
    scripts = sorted((tmp_path / "jobs").glob("*/**/*.sh"))
    assert len(scripts) == 1 + 2 * 8
    for file in scripts:
        asked = subprocess.run(["sbatch", "--test-only", file, "1"], env=os.environ, capture_output=True, text=True)
        assert asked.returncode == 0, f"{file}: {asked.stderr}"
        assert ("--gres=gpu:2" in file.read_text()) == (file.stem == "train")


def test_nothing_stays_behind():
    with running_slurm(cpus=1, gpus=0) as here:
        here.run("sbatch", "-o", "/dev/null", "--wrap", "trap '' TERM; sleep 300 & wait; sleep 300")
        here.wait_until(lambda: len(processes_of(here.folder)) > DAEMONS + 1)
    assert processes_of(here.folder) == []
    assert not here.folder.exists()


def test_where_there_is_no_slurm_a_line_says_why(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv(NEEDED, raising=False)
    with pytest.raises(pytest.skip.Exception, match="munged"), running_slurm():
        pass
    monkeypatch.setenv(NEEDED, "1")
    with pytest.raises(pytest.fail.Exception, match="munged"), running_slurm():
        pass
