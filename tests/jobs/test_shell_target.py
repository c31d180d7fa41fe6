"""`run.sh`: the rounds of all campaigns on one machine."""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from nnunet_al.jobs.plan import Job

from .fake_schedulers import PATIENCE
from .handed import Handed
from .small_plans import PREPARE, RANDOM, USIMF


@pytest.fixture
def machine(tmp_path):
    return Handed(tmp_path, "shell", rounds=2)


def calls_of(machine: Handed, kind: str = "call") -> list[str]:
    """Strategy and round of each call in order, "prepare" for the dataset."""
    found = []
    for call in machine.fakes.read(kind):
        words = call["arguments"]
        is_round = words[0] == "nnUNetv2_al_round"
        found.append(f"{words[words.index('-s') + 1]} {words[words.index('-round') + 1]}" if is_round else "prepare")
    return found


def test_all_campaigns_do_a_round_before_one_does_the_next(machine):
    machine.write()
    done = machine.submit()
    assert (done.returncode, done.stderr) == (0, "")
    assert calls_of(machine) == ["prepare"] + [
        f"{name} {number}" for number in range(3) for name in ("usimf", "random")
    ]
    lines = [line[20:] for line in done.stdout.splitlines()]
    begun = [f"{name}/round {number} begins" for number in range(3) for name in (USIMF, RANDOM)]
    assert lines == [f"{PREPARE} begins", *begun, "all is done"]
    call = machine.fakes.read("call")[1]
    assert call["arguments"] == [*machine.plan.scripts[f"{USIMF}/round"].command, "-round", "0"]
    assert {name: call["environment"][name] for name in machine.plan.environment} == machine.plan.environment
    assert call["environment"]["nnUNet_n_proc_DA"] == "7"
    assert "output of -d 4" in machine.log(f"{RANDOM}/round 2")
    assert not list((machine.root / "the jobs").glob("*.tsv"))


def test_a_campaign_that_fails_stops_and_the_others_go_on(machine):
    machine.write()
    machine.fakes.behave(**{"usimf": {"code": 2}})
    done = machine.submit()
    assert done.returncode == 2
    assert calls_of(machine) == ["prepare", "usimf 0", "random 0", "random 1", "random 2"]
    log = machine.plan.log(machine.plan.by_key[f"{USIMF}/round 0"])
    assert done.stdout.splitlines()[-1] == f"{USIMF}/round 0 ended with exit code 2, see {log}"
    # the same call goes on
    machine.fakes.behave()
    assert machine.submit().returncode == 0
    assert machine.log(f"{USIMF}/round 0").count("begins on") == 2


@pytest.mark.parametrize("gpus", [(), ("0",)])
def test_nothing_begins_on_a_dataset_that_is_refused(machine, gpus):
    machine.plan = replace(machine.plan, gpus=gpus)
    machine.write()
    machine.fakes.behave(prepare={"code": 2})
    done = machine.submit()
    assert done.returncode == 2
    assert calls_of(machine) == ["prepare"]
    assert [line for line in done.stdout.splitlines() if "was not begun" in line] == [
        f"{name}/round 0 was not begun, as what it waits for did not succeed" for name in (USIMF, RANDOM)
    ]


@pytest.mark.parametrize("other, code", [(0, 3), (1, 2), (3, 3)])
def test_waiting_for_readers_has_an_exit_code_of_its_own(machine, other, code):
    machine.write()
    machine.fakes.behave(usimf={"code": 3}, random={"code": other})
    assert machine.submit().returncode == code


def many_campaigns(machine: Handed, number: int, rounds: int, gpus: tuple[str, ...]) -> None:
    """Put copies of the campaign of `random` into the plan, which are called s0, s1, ..."""
    model = machine.plan.scripts[f"{RANDOM}/round"]
    scripts, jobs = {PREPARE: machine.plan.scripts[PREPARE]}, [Job(PREPARE, None)]
    for seed in range(number):
        command = tuple(f"s{seed}" if word == "random" else word for word in model.command)
        name = f"Dataset004_Hippocampus/2d__random__seed{seed}/fold_0/round"
        script = replace(model, name=name, command=command, campaign=Path(f"{model.campaign} {seed}"))
        scripts[script.name] = script
        jobs += [Job(name, k, (f"{name} {k - 1}",) if k else (PREPARE,)) for k in range(rounds)]
    machine.plan = replace(machine.plan, scripts=scripts, jobs=tuple(jobs), gpus=gpus)
    machine.write()


def test_each_gpu_has_one_campaign_at_a_time(machine):
    many_campaigns(machine, 5, 2, ("0", "GPU-é 2"))
    machine.fakes.behave(**{"-s__s3": {"code": 1}, "-d": {"seconds": 0.1}})
    done = machine.submit()
    assert done.returncode == 2
    calls, ends = machine.fakes.read("call"), machine.fakes.read("end")
    assert calls_of(machine)[0] == "prepare"
    assert "CUDA_VISIBLE_DEVICES" not in calls[0]["environment"]
    names = calls_of(machine)
    # all are done, a campaign's rounds in order, and what failed goes no further
    for seed in range(5):
        own = [name for name in names if name.startswith(f"s{seed} ")]
        assert own == ([f"s{seed} 0"] if seed == 3 else [f"s{seed} 0", f"s{seed} 1"])
    seen = {name: call["environment"].get("CUDA_VISIBLE_DEVICES") for name, call in zip(names, calls, strict=True)}
    assert all(seen[f"s{seed} 0"] == seen[f"s{seed} 1"] for seed in (0, 1, 2, 4))
    assert set(list(seen.values())[1:]) == {"0", "GPU-é 2"}
    # on one GPU each call ends before the next begins, and those of a campaign follow each other
    stamps = {
        kind: [int(path.name.split("_")[1]) for path in sorted(machine.fakes.notes.glob(f"{kind}_*"))]
        for kind in ("call", "end")
    }
    begun = dict(zip(names, stamps["call"], strict=True))
    ended = dict(zip(calls_of(machine, "end"), stamps["end"], strict=True))
    assert len(ends) == len(calls)
    for gpu in ("0", "GPU-é 2"):
        own = sorted((name for name in seen if seen[name] == gpu), key=begun.__getitem__)
        assert all(ended[one] < begun[other] for one, other in pairwise(own))
        campaigns = [name.split()[0] for name in own]
        assert campaigns == sorted(campaigns, key=campaigns.index)
    # both worked at the same time
    assert any(
        begun[one] < ended[other] and begun[other] < ended[one]
        for one in begun
        for other in begun
        if seen[one] != seen[other] and "prepare" not in (one, other)
    )


@pytest.mark.parametrize("gpus", [(), ("0", "1")])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_control_c_and_term_end_all_that_runs(machine, gpus, number):
    many_campaigns(machine, 3, 2, gpus)
    machine.fakes.behave(**{"-s": {"waits": True}})
    running = subprocess.Popen(
        ["bash", machine.jobs / "run.sh"],
        env={**machine.fakes.environment, "TMPDIR": str(machine.root)},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    machine.fakes.wait_for("call", 1 + max(1, len(gpus)))
    if number == signal.SIGINT:
        os.killpg(running.pid, number)  # a terminal sends it to all
    else:
        running.send_signal(number)
    assert running.wait(PATIENCE) == 130
    assert [note["code"] for note in machine.fakes.read("end")] == [0] + [143] * max(1, len(gpus))
    assert len(calls_of(machine)) == 1 + max(1, len(gpus))
    assert "ended with exit code 143" in machine.plan.log(machine.plan.jobs[1]).read_text()
    assert not list(machine.root.glob("nnunet_al.*"))
