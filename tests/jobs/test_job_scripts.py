"""Job scripts, run as Slurm and LSF run them: what arrives, signals, restarts and exit codes."""

from __future__ import annotations

import os
import re
import signal
from dataclasses import replace

import pytest

from nnunet_al.jobs.targets import TARGETS, render
from nnunet_al.jobs.targets.template import EMPTY, Template

from .fake_schedulers import end, slurm_path
from .handed import SCHEDULERS, SCORE, SELECT, TRAIN, Handed
from .small_plans import RANDOM, USIMF, small_plan


@pytest.fixture(params=SCHEDULERS)
def handed(request, tmp_path):
    return Handed(tmp_path, request.param, rounds=1)


def test_paths_and_options_arrive_as_they_are_and_logs_grow(handed):
    handed.hand_over(f"{USIMF}/start", template=Template(bodies={"all": ("export FROM_SITE='a  b'; set -eu",)}))
    assert [end(handed.start(f"{USIMF}/start")) for _ in range(2)] == [0, 0]
    call = handed.fakes.read("call")[0]
    command = handed.plan.scripts[f"{USIMF}/start"].command
    assert call["arguments"] == list(command)
    assert str(handed.root / "groups.tsv") in call["arguments"]
    environment = call["environment"]
    assert {name: environment[name] for name in handed.plan.environment} == handed.plan.environment
    assert environment["FROM_SITE"] == "a  b"
    assert environment["PATH"].startswith(f"{handed.root / 'bin'}:")
    lines = handed.log(f"{USIMF}/start").splitlines()
    assert lines[1] == "output of " + " ".join(command[1:])
    stamp = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
    assert re.fullmatch(rf"nnunet-al: begins on {re.escape(os.uname().nodename)} at {stamp}", lines[0])
    assert re.fullmatch(rf"nnunet-al: ended with exit code 0 at {stamp}", lines[2])
    assert len(lines) == 6


def test_a_part_is_told_its_round_and_number_and_has_its_own_log(handed):
    handed.hand_over(SCORE)
    assert [end(handed.start(SCORE, part)) for part in (0, 1)] == [0, 0]
    command = [*handed.plan.scripts[f"{USIMF}/score"].command, "-round", "1", "-num_parts", "2"]
    calls = [call["arguments"] for call in handed.fakes.read("call")]
    assert calls == [[*command, "-part_id", "0"], [*command, "-part_id", "1"]]
    for part in ("0", "1"):
        assert f"-part_id {part}\n" in handed.log(SCORE, part)


def test_only_trainings_get_processes_that_augment_and_the_users_number_counts(tmp_path):
    plan = small_plan(tmp_path, rounds=1)
    files = render("slurm", plan, {}, EMPTY)
    setting = [name for name, text in files.items() if "export nnUNet_n_proc_DA=7\n" in text]
    assert setting == [f"{USIMF}/train.sh", f"{RANDOM}/train.sh"]
    files = render("slurm", replace(plan, environment={"nnUNet_n_proc_DA": "2"}), {}, EMPTY)
    assert all("nnUNet_n_proc_DA" not in text or "nnUNet_n_proc_DA=2" in text for text in files.values())


@pytest.mark.parametrize("code", [1, 2, 3, 127])
def test_exit_codes_are_passed_on(handed, code):
    handed.hand_over(TRAIN)
    handed.fakes.behave(usimf={"code": code})
    if code == 127:
        (handed.root / "bin/nnUNetv2_al_round").unlink()
    assert end(handed.start(TRAIN)) == code
    assert f"nnunet-al: ended with exit code {code} at" in handed.log(TRAIN)
    assert handed.requeued(code) == []


def test_waiting_for_readers_is_a_success_where_the_plan_ends_with_it(tmp_path):
    for target in SCHEDULERS:
        handed = Handed(tmp_path / target, target, rounds=1, ends_at_readers=True)
        handed.hand_over(SELECT, f"{RANDOM}/select 1")
        handed.fakes.behave(usimf={"code": 3}, random={"code": 2})
        assert end(handed.start(SELECT)) == 0
        assert end(handed.start(f"{RANDOM}/select 1")) == 2
        assert "nnunet-al: ended with exit code 3 at" in handed.log(SELECT)


@pytest.mark.parametrize("part", [None, 1])
def test_a_warned_job_stops_its_command_and_runs_again(handed, part):
    key = TRAIN if part is None else SCORE
    handed.hand_over(key)
    handed.fakes.behave(usimf={"waits": True})
    job = handed.start(key, part)
    handed.fakes.wait_for("call")
    code = end(job, signal.SIGUSR1)
    number = handed.submitted()[key]
    expected = f"{number}" if part is None else f"{number}_{part}"
    assert handed.requeued(code) == [expected if handed.target == "slurm" else "99"]
    log = handed.log(key, "" if part is None else str(part))
    said = ["is warned that its time is nearly over", "ended with exit code 130", "to run "]
    assert [words for words in said if f"nnunet-al: {words}" in log or words in log] == said
    # it is run again, and ends by itself
    handed.fakes.behave()
    assert end(handed.start(key, part, SLURM_RESTART_COUNT="1")) == 0
    assert handed.log(key, "" if part is None else str(part)).count("begins on") == 2


def test_after_twenty_restarts_a_job_gives_up(handed):
    handed.hand_over(TRAIN)
    handed.fakes.behave(usimf={"waits": True})
    if handed.target == "lsf":
        number = handed.submitted()[TRAIN]
        log = handed.plan.log(handed.plan.by_key[TRAIN])
        # 20 of an earlier job with a longer number, and 19 of this one
        log.write_text(
            f"asks LSF to run job {number}1 again at x\n" * 20 + f"asks LSF to run job {number} again at\n" * 19
        )
    jobs = []
    for restarts in ("19", "20"):
        jobs.append(handed.start(TRAIN, SLURM_RESTART_COUNT=restarts))
        handed.fakes.wait_for("call", len(jobs))
        code = end(jobs[-1], signal.SIGUSR1)
        asked = handed.requeued(code)
        if handed.target == "slurm":
            assert asked == [str(handed.submitted()[TRAIN])]  # once, by the first
        else:
            assert code == (99 if restarts == "19" else 130)
    assert handed.log(TRAIN).splitlines()[-1].startswith("nnunet-al: gives up after 20 restarts; ")


@pytest.mark.parametrize("deaf, code", [(True, 143), ("all", 137)])
def test_a_command_that_does_not_listen_is_ended_and_runs_again(tmp_path, deaf, code):
    handed = Handed(tmp_path, "lsf", rounds=1)

    def hurry(text: str) -> str:
        assert TARGETS["lsf"].entry in text or ("second < " in text and "sleep 15" in text)
        return re.sub(r"second < \d+", "second < 1", text).replace("sleep 15", "sleep 0.2")

    handed.hand_over(TRAIN, edit=hurry)
    handed.fakes.behave(usimf={"waits": True, "deaf": deaf})
    job = handed.start(TRAIN)
    handed.fakes.wait_for("call")
    assert end(job, signal.SIGUSR1) == 99
    assert f"ended with exit code {code} at" in handed.log(TRAIN)


def test_a_warning_does_not_change_how_a_command_that_fails_ends(handed):
    handed.hand_over(TRAIN)
    handed.fakes.behave(usimf={"seconds": 0.5, "code": 2})
    job = handed.start(TRAIN)
    handed.fakes.wait_for("call")
    assert end(job, signal.SIGUSR1) == 2  # the command was started deaf, which keeps it alive until it listens
    assert handed.requeued(2) == []


def test_a_cancelled_job_ends_its_command(handed):
    handed.hand_over(TRAIN)
    handed.fakes.behave(usimf={"waits": True})
    job = handed.start(TRAIN)
    handed.fakes.wait_for("call")
    assert end(job, signal.SIGTERM) == 143
    assert handed.fakes.read("end")[0]["code"] == 143
    assert handed.requeued(143) == []


def test_scripts_run_by_hand_with_the_round_and_the_part(handed):
    handed.write()
    done = handed.fakes.run(handed.jobs / f"{USIMF}/score.sh", "2", "1")
    assert done.returncode == 0
    assert "-round 2 -num_parts 2 -part_id 1" in done.stdout
    assert not list(handed.plan.scripts[f"{USIMF}/score"].logs.iterdir())
    for arguments, word in [((), "round"), (("2",), "part")]:
        refused = handed.fakes.run(handed.jobs / f"{USIMF}/score.sh", *arguments)
        assert refused.returncode != 0
        assert f"give the {word} as the" in refused.stderr
    assert len(handed.fakes.read("call")) == 1


@pytest.mark.parametrize("folder", ["100%", "%a %%j", "back\\slash %j", "a\\\\b"])
def test_logs_of_slurm_lie_where_the_plan_says(tmp_path, folder):
    handed = Handed(tmp_path / folder, "slurm", rounds=1)
    handed.hand_over(TRAIN, SCORE)
    for key, part in ((TRAIN, None), (SCORE, 1)):
        output = slurm_path(handed.taken(key).options["--output"][0], 1, part)
        if part is None or "\\" not in folder:
            assert output == str(handed.plan.log(handed.plan.by_key[key], "" if part is None else "1"))
        else:  # parts cannot be told apart by Slurm then, but their scripts can
            assert output == str(handed.plan.log(handed.plan.by_key[key]))
        assert end(handed.start(key, part)) == 0
        assert "output of" in handed.log(key, "" if part is None else "1")
