"""The scripts of all targets: as text, and run by stand-ins for the schedulers.

The golden files are written anew by `NNUNET_AL_WRITE_GOLDEN=1 pytest tests/jobs/test_targets.py`; read what
`git diff` says before they are kept.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from nnunet_al.jobs.plan import JobResources
from nnunet_al.jobs.targets import TARGETS, render
from nnunet_al.jobs.targets.bash_template import fill_template
from nnunet_al.jobs.targets.scripts import augmentation_processes, minutes, slug, warning_seconds
from nnunet_al.jobs.targets.submit_script import ranges
from nnunet_al.jobs.targets.template import EMPTY, Template

from .fake_schedulers import PATIENCE, expand
from .handed import ECHO, SCHEDULERS, SCORE, SELECT, TRAIN, Handed
from .small_plans import PREPARE, RANDOM, USIMF, WEIRD, small_plan

GOLDEN = Path(__file__).parent / "golden"
FIXED = Path("/data") / WEIRD  # golden files hold no path of a machine
SITE = Template({"gpu": ("#SBATCH --partition=a100",)}, {"all": ("module load cuda",)})
SITE_LSF = Template({"gpu": ("#BSUB -q gpu", '#BSUB -R "span[hosts=1]"')}, {"all": ("module load cuda",)})


def golden_files() -> dict[str, str]:
    plan = small_plan(FIXED)
    queued = {f"{USIMF}/start": "7001", f"{USIMF}/score 1": "7003_1"}
    files: dict[str, str] = {}
    for target, template in (("slurm", SITE), ("lsf", SITE_LSF)):
        made = render(target, plan, {}, template)
        for name in (PREPARE, f"{USIMF}/train", f"{USIMF}/score"):
            files[f"{target}/{Path(name).name}.sh"] = made[f"{name}.sh"]
        files[f"{target}/submit.sh"] = made["submit.sh"]
        files[f"{target}/submit_again.sh"] = render(target, small_plan(FIXED, rounds=1), queued, EMPTY)["submit.sh"]
    plan = small_plan(FIXED, phases=False, ends_at_readers=True)
    made = render("shell", plan, {}, EMPTY)
    files["shell/round.sh"] = made[f"{USIMF}/round.sh"]
    files["shell/run.sh"] = made["run.sh"]
    files["shell/run_on_gpus.sh"] = render("shell", replace(plan, gpus=("0", "2")), {}, EMPTY)["run.sh"]
    return files


@pytest.mark.parametrize("name", golden_files())
def test_files_are_as_they_were_read_by_people(name):
    text = golden_files()[name]
    path = GOLDEN / name
    if os.environ.get("NNUNET_AL_WRITE_GOLDEN") == "1":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("target", TARGETS)
def test_there_is_one_script_for_each_of_the_plan_and_the_entry_all_valid_for_bash(target, tmp_path):
    plan = small_plan(tmp_path / WEIRD, phases=TARGETS[target].has_queue)
    files = render(target, plan, {}, EMPTY)
    assert files.keys() == {*(f"{name}.sh" for name in plan.scripts), TARGETS[target].entry}
    for name, text in files.items():
        checked = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True)
        assert (checked.returncode, checked.stderr) == (0, ""), name
        assert text.endswith("\n")
        assert not text.endswith("\n\n")


def test_a_scheduler_with_a_queue_has_all_that_goes_with_it():
    for name, target in TARGETS.items():
        assert bool(target.mark) == bool(target.cancel) == target.has_queue == (name != "shell")
    assert len({target.mark for target in TARGETS.values()}) == len(TARGETS)


def test_names_of_a_template_are_filled_in_within_a_line_or_by_lines_of_their_own():
    values = {"JOB": "ID", "COUNT": "$n", "RESTARTS": "3", "WORDS": "__X__", "COMMAND": "c"}
    lines = fill_template("again.sh", BEFORE=["a", "", "b"], **values)
    assert lines[0].endswith('[ -n "${ID:-}" ]; then')
    assert lines[1:7] == ["    a", "", "    b", '    if [ "$n" -lt 3 ]; then', '        say "__X__"', "        c"]
    assert fill_template("again.sh", BEFORE=[], **values) == [lines[0], *lines[4:]]
    with pytest.raises(AssertionError, match=r"readers\.sh"):
        fill_template("readers.sh", UNKNOWN="x")


@pytest.mark.parametrize(
    "numbers, text", [([0], "0"), ([2, 0, 1, 5], "0-2,5"), ([1, 3], "1,3"), ([4, 5, 4], "4-5"), ([], "")]
)
def test_ranges(numbers, text):
    assert ranges(numbers) == text
    assert not numbers or expand(text) == sorted(set(numbers))


@pytest.mark.parametrize(
    "hours, whole, warning",
    [(24, 1440, 600), (1, 60, 360), (0.5, 30, 180), (0.05, 3, 60), (1e-9, 1, 60), (4.1, 246, 600)],
)
def test_minutes_and_how_long_before_the_end_the_warning_comes(hours, whole, warning):
    assert minutes(hours) == whole
    assert warning_seconds(hours) == warning


@pytest.mark.parametrize("gpus, cpus, processes", [(1, 8, 7), (1, 32, 12), (0, 4, 3), (4, 16, 3), (1, 1, 0), (2, 1, 0)])
def test_a_training_augments_with_the_cpus_that_are_its_own(gpus, cpus, processes):
    assert augmentation_processes(JobResources(gpus, cpus, 16, 1)) == processes


def test_names_for_schedulers_hold_only_letters_that_they_take():
    script = small_plan(FIXED).scripts[f"{USIMF}/score"]
    assert slug(script) == "score.fold_0.2d__usimf__seed0.Dataset004_Hippocampus"
    assert slug(replace(script, name="Dataset004 Hüft/a[1]%2/train")) == "train.a_1__2.Dataset004_H_ft"
    assert len(slug(replace(script, name="x" * 999))) == 200


@pytest.fixture(params=SCHEDULERS)
def handed(request, tmp_path):
    return Handed(tmp_path, request.param, rounds=1)


def test_each_job_waits_for_the_ids_of_those_that_it_stands_behind(tmp_path):
    for target in SCHEDULERS:
        handed = Handed(tmp_path / target, target, rounds=1)
        handed.write()
        done = handed.submit(BSUB_QUIET="Y", AL_ROUND="99")
        assert (done.returncode, done.stderr) == (0, "")
        ids = handed.submitted()
        assert list(ids) == [job.key for job in handed.plan.jobs]
        assert done.stdout.splitlines() == [f"{number}  {key}" for key, number in ids.items()]
        for job in handed.plan.jobs:
            assert handed.waits_for(job.key) == [str(ids[key]) for key in job.after], job.key
            assert handed.waits_for(job.key, well=False) == [str(ids[key]) for key in job.behind], job.key
            expected = ([0, 1], "3") if len(job.missing) > 1 else ([], "")
            assert handed.parts(job.key) == expected
            ends_with_them = {"slurm": "--kill-on-invalid-dep", "lsf": "-ti"}[target]
            assert (ends_with_them in handed.taken(job.key).options) == (target == "slurm" or bool(job.after))


def test_what_a_job_needs_is_asked_for(handed):
    template = SITE if handed.target == "slurm" else SITE_LSF
    handed.hand_over(PREPARE, TRAIN, template=template)
    train, prepare = handed.taken(TRAIN).options, handed.taken(PREPARE).options
    if handed.target == "slurm":
        names = ("--cpus-per-task", "--mem", "--time", "--gres", "--signal", "--partition", "--kill-on-invalid-dep")
        expected = ["8", "32G", "24:00:00", "gpu:1", "B:USR1@600", "a100", "yes"]
        assert [train[name][-1] for name in names] == expected
        assert [prepare.get(name, [""])[-1] for name in ("--time", "--gres", "--partition")] == ["4:00:00", "", ""]
        assert {"--requeue", "--open-mode"} <= train.keys()
    else:
        names = ("-n", "-W", "-gpu", "-wt", "-wa", "-Q", "-q")
        assert [train[name][-1] for name in names] == ["8", "24:00", "num=1", "10", "USR1", "99", "gpu"]
        assert train["-R"] == ["span[hosts=1]"]  # the site's, in place of ours
        assert prepare["-R"] == ["span[hosts=1] rusage[mem=16GB]"]
        assert "-gpu" not in prepare
        assert "-r" in train


def test_a_refusal_stops_with_the_schedulers_words_and_keeps_what_was_taken(handed):
    handed.plan = replace(handed.plan, jobs=handed.plan.jobs[:5])
    handed.write()
    done = handed.submit(FAKE_REFUSES="102")
    third = handed.plan.jobs[2].key
    assert done.returncode == 2
    first, second = done.stderr.splitlines()
    assert first.endswith("error: QOSMaxSubmitJobPerUserLimit")
    assert second.startswith(f"{'Slurm' if handed.target == 'slurm' else 'LSF'} did not take {third}. ")
    assert handed.submitted() == {job.key: 100 + number for number, job in enumerate(handed.plan.jobs[:2])}
    # the next call
    handed.write(queued={key: str(number) for key, number in handed.submitted().items()})
    assert handed.submit().returncode == 0
    ids = handed.submitted()
    assert ids.keys() == {job.key for job in handed.plan.jobs}
    assert len(set(ids.values())) == len(handed.plan.jobs) == len(handed.fakes.read(ECHO[handed.target]))
    assert handed.waits_for(third) == [str(ids[key]) for key in handed.plan.jobs[2].after]


def test_jobs_in_the_queue_are_waited_for_by_their_ids_and_not_handed_over_again(handed):
    handed.plan = replace(handed.plan, jobs=tuple(job for job in handed.plan.jobs if job.script != PREPARE))
    queued = {f"{USIMF}/start": "7001", SCORE: "7003_1", f"{USIMF}/embed 1": "7005_0 7006_1"}
    handed.write(queued=queued)
    assert handed.submit().returncode == 0
    ids = handed.submitted()
    assert f"{USIMF}/start" not in ids
    assert f"{USIMF}/embed 1" not in ids
    assert handed.waits_for(f"{USIMF}/prepare 1") == ["7001"]
    assert handed.waits_for(f"{RANDOM}/start") == []  # the dataset's preparation is done
    assert handed.parts(SCORE) == ([0], "3")
    assert handed.waits_for(f"{USIMF}/fisher 1") == [str(ids[SCORE]), "7003_1"]
    assert handed.waits_for(SELECT) == [str(ids[f"{USIMF}/evaluate 1"]), "7005_0", "7006_1"]


def test_missing_parts_only(handed):
    jobs = [
        replace(job, missing=(1, 3, 4, 5)) if job.key == SCORE else job
        for job in handed.plan.jobs
        if job.key in {TRAIN, SCORE}
    ]
    scripts = {**handed.plan.scripts, f"{USIMF}/score": replace(handed.plan.scripts[f"{USIMF}/score"], parts=6)}
    handed.write(plan=replace(handed.plan, jobs=tuple(jobs), scripts=scripts, limit=None))
    handed.submit()
    assert handed.parts(SCORE) == ([1, 3, 4, 5], "")


def test_control_c_stops_behind_a_job_that_was_noted(handed):
    handed.write()
    submitting = subprocess.Popen(
        ["bash", handed.jobs / "submit.sh"],
        env={**handed.fakes.environment, "FAKE_SLOW": "0.1"},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    handed.fakes.wait_for(ECHO[handed.target], 2)
    until = time.monotonic() + PATIENCE
    while submitting.poll() is None and time.monotonic() < until:
        os.killpg(submitting.pid, signal.SIGINT)  # bash overhears one that comes as the substituted command ends
        time.sleep(0.05)
    assert submitting.wait(1) in {-signal.SIGINT, 128 + signal.SIGINT}
    with suppress(ProcessLookupError):  # what was being handed over comes to its end
        while time.monotonic() < until:
            os.killpg(submitting.pid, 0)
            time.sleep(0.02)
    taken = [taken.number for taken in handed.fakes.taken(ECHO[handed.target])]
    assert 2 <= len(taken) < len(handed.plan.jobs)
    assert list(handed.submitted().values()) == taken
