"""submitit's jobs in a real Slurm: in order, warned, put back into the queue, and done in the end."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace

import pytest
from cluster.slurm import Slurm, running_slurm

from nnunet_al.campaign.jobs.folder import JobFolder
from nnunet_al.campaign.jobs.plan import Needs

from .small_plans import USIMF, small_plan
from .test_submitit import Machine, end_of, only

pytest.importorskip("submitit")


@pytest.fixture
def slurm() -> Iterator[Slurm]:
    with running_slurm(cpus=2) as here:
        yield here


def is_empty(slurm: Slurm) -> bool:
    slurm.hurry()
    return not slurm.queue()


@pytest.mark.slow
def test_warned_cancelled_and_done_in_the_end(slurm, tmp_path):
    machine = Machine(tmp_path)
    shutil.rmtree(tmp_path / "slurm")  # the stand-ins
    machine.environment = {**slurm.environment}
    train, score, fisher = (f"{USIMF}/{phase} 1" for phase in ("train", "score", "fisher"))
    plan = only(small_plan(machine.root, limit=1), train, score, fisher)
    scripts = {name: replace(script, needs=Needs(1, 1, 1, 1)) for name, script in plan.scripts.items()}
    plan = replace(plan, scripts=scripts)
    machine.write(plan)
    machine.behave({"-phase train": "waits", "-part_id 1": 1})
    assert machine.submit()[0] == 0
    numbers = JobFolder(machine.jobs).submitted()

    machine.wait_for("call")
    slurm.run("scancel", "--signal=USR2", numbers[train])  # what Slurm itself does before the time is over
    slurm.wait_until(lambda: slurm.queue().get(numbers[train], ("", ""))[0] == "PENDING")
    assert len(machine.read("signal")) == 1
    assert set(slurm.queue()) == {numbers[train], f"{numbers[score]}_0", f"{numbers[score]}_1", numbers[fisher]}
    machine.behave({"-part_id 1": 1})
    slurm.wait_until(lambda: is_empty(slurm))

    calls = machine.read("call")
    assert [end_of(call).partition("-round ")[2] for call in calls] == [
        "1",
        "1",
        "1 -num_parts 2 -part_id 0",
        "1 -num_parts 2 -part_id 1",
    ]
    assert [call["environment"]["SLURM_GPUS_ON_NODE"] for call in calls] == ["1"] * 4
    assert "ended with exit code 130" in plan.log(plan.by_key[train]).read_text()

    # the part that failed is handed over once more, alone, and what waited for it behind it
    machine.behave({})
    again = replace(plan, jobs=(replace(plan.by_key[score], after=(), missing=(1,)), plan.by_key[fisher]))
    machine.write(again)
    assert machine.submit()[0] == 0
    slurm.wait_until(lambda: is_empty(slurm))
    assert [end_of(call).partition("-round ")[2] for call in machine.read("call")[4:]] == [
        "1 -num_parts 2 -part_id 1",
        "1",
    ]
