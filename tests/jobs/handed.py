"""A plan that was handed over to a stand-in for a scheduler, below a folder whose name has everything in it."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path

from nnunet_al.jobs.targets import TARGETS, render
from nnunet_al.jobs.targets.template import EMPTY

from .fake_schedulers import Fakes, expand, lsf_elements
from .small_plans import USIMF, WEIRD, small_plan

SCHEDULERS = ("slurm", "lsf")
ECHO = {"slurm": "sbatch", "lsf": "bsub"}
TRAIN, SCORE, SELECT = (f"{USIMF}/{phase} 1" for phase in ("train", "score", "select"))


class Handed:
    """A plan below a folder with blanks, quotes, % and $, written and handed over to a stand-in."""

    def __init__(self, tmp_path: Path, target: str, **options) -> None:
        self.target = target
        self.root = tmp_path / WEIRD
        self.fakes = Fakes(tmp_path / "fakes")
        self.fakes.write_commands(self.root / "bin")
        self.plan = small_plan(self.root, phases=TARGETS[target].has_queue, **options)
        self.jobs = self.root / "the jobs"
        for script in self.plan.scripts.values():
            script.logs.mkdir(parents=True, exist_ok=True)

    def write(self, queued=None, template=EMPTY, plan=None, edit=lambda text: text) -> None:
        for name, text in render(self.target, plan or self.plan, queued or {}, template).items():
            path = self.jobs / name
            path.parent.mkdir(parents=True, exist_ok=True)
            # what a script waits for in seconds is over in less here
            path.write_text(edit(text).replace("        sleep 1\n", "        sleep 0.05\n"), encoding="utf-8")

    def hand_over(self, *keys: str, **options) -> None:
        """Write the scripts, and hand over these jobs."""
        jobs = tuple(job for job in self.plan.jobs if job.key in keys)
        assert len(jobs) == len(keys)
        self.write(plan=replace(self.plan, jobs=jobs), **options)
        done = self.submit()
        assert (done.returncode, done.stderr) == (0, "")

    def submit(self, **variables: str) -> subprocess.CompletedProcess[str]:
        return self.fakes.run(self.jobs / TARGETS[self.target].entry, **variables)

    def submitted(self) -> dict[str, int]:
        text = (self.jobs / "submitted.tsv").read_text(encoding="utf-8") if self.jobs.is_dir() else ""
        rows = [line.split("\t") for line in text.splitlines()]
        assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", row[2]) for row in rows)
        return {key: int(number) for key, number, _ in rows}

    def taken(self, key: str):
        number = self.submitted()[key]
        return next(taken for taken in self.fakes.taken(ECHO[self.target]) if taken.number == number)

    def start(self, key: str, part: int | None = None, **variables: str):
        if self.target == "slurm":
            return self.fakes.start_slurm_job(self.taken(key), part, **variables)
        return self.fakes.start_lsf_job(self.taken(key), 0 if part is None else part + 1, **variables)

    def log(self, key: str, part: str = "") -> str:
        return self.plan.log(self.plan.by_key[key], part).read_text(encoding="utf-8")

    def waits_for(self, key: str, well: bool = True) -> list[str]:
        """What a job was told to wait for, until it has ended `well` or anyhow, as numbers with indices from 0."""
        options = self.taken(key).options
        if self.target == "slurm":
            conditions = [one.split(":") for one in options.get("--dependency", [""])[0].split(",")]
            return [id_ for kind, *ids in conditions if kind == ("afterok" if well else "afterany") for id_ in ids]
        word = "done" if well else "ended"
        found = re.findall(word + r"\((\d+)(?:\[(\d+)\])?\)", options.get("-w", [""])[0])
        return [f"{number}_{int(index) - 1}" if index else number for number, index in found]

    def parts(self, key: str) -> tuple[list[int], str]:
        """The parts of an array, and how many may run at once."""
        options = self.taken(key).options
        if self.target == "slurm":
            numbers, _, limit = options.get("--array", [""])[0].partition("%")
            return (expand(numbers) if numbers else []), limit
        name = options["-J"][-1]
        return [index - 1 for index in lsf_elements(name)], name.partition("%")[2]

    def requeued(self, code: int) -> list[str]:
        """The jobs that a scheduler was asked to run again, by a job that ended with `code`."""
        if self.target == "slurm":
            assert code != 0
            assert all(note[0] == "requeue" for note in self.fakes.read("scontrol"))
            return [note[1] for note in self.fakes.read("scontrol")]
        return ["99"] if code == 99 else []
