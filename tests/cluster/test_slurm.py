"""Campaigns through a real Slurm: jobs are cancelled and warned, the node dies, and the campaigns are the same."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from rounds.kill_lab import forked, wait
from tiny_rounds import DATASET, ENVIRONMENT, hurry, outcome, run_command, set_roots

from nnunet_al.cli import jobs, run, status
from nnunet_al.jobs.folder import JobFolder

from .slurm import Slurm

ROUNDS, CASES = 2, 8
CAMPAIGNS = (
    *("-d", "501", "-c", "2d", "-b", "5", "-initial", "6", "-device", "cpu", "-f", "0", "1", "-rounds", str(ROUNDS)),
    *("-s", "usimf", "random_foreground", "-passes", "2", "-set", "embedding_size=50", "fisher_samples=4"),
    *("-epochs", "8", "-iterations", "2", "-batch_size", "2", "-optimizer", "adamw"),
)
# without sharing, so that each training is there to be cancelled
AS_JOBS = ("-to", "slurm", "-num_parts", "2", "-cpus", "1", "-memory", "1", "-hours", "1", "--no_sharing")
USIMF, RANDOM = (f"{DATASET}/2d__{strategy}__seed0" for strategy in ("usimf", "random_foreground"))
FINAL = "checkpoint_final.pth"
MOST_SECONDS = 1800.0  # of waiting for jobs, on a machine that has much else to do

SITE = """\
import sys

FOLDER, TESTS = {folder!r}, {tests!r}


def note_readings():
    from pathlib import Path

    from nnunet_al.nnunet import verification

    verify_case = verification.verify_case

    def noted(case, *arguments):
        with Path(FOLDER, "read.txt").open("a") as file:
            file.write(case + "\\n")
        return verify_case(case, *arguments)

    verification.verify_case = noted


def hurry():
    sys.path.append(TESTS)
    from tiny_rounds import hurry

    hurry()


class BeforeImports:
    # what only looks at campaigns must not wait for imports that it does not need
    ahead = dict.fromkeys(("nnunet_al.rounds.round", "nnunet_al.rounds.phase"), hurry)
    ahead["nnunet_al.campaign.data"] = note_readings

    def find_spec(self, name, path=None, target=None):
        if name in self.ahead:
            change = self.ahead[name]
            self.ahead = {{name: other for name, other in self.ahead.items() if other is not change}}
            change()


sys.meta_path.insert(0, BeforeImports())
"""
"""`sitecustomize.py` of the jobs: what `rounds.hurry` takes from tests, and a note of each case that is verified."""


class Cluster:
    """A job folder, and what becomes of its jobs."""

    def __init__(self, slurm: Slurm, root: Path) -> None:
        self.slurm = slurm
        self.folder = JobFolder(root)

    def submit(self, *arguments: object) -> int:
        return run_command(jobs.main, "-o", self.folder.root, *arguments, "--submit")

    def id_of(self, key: str, part: int | None = None) -> str:
        """The id of a job's last submission, or of one part of the array."""
        return self.folder.submitted()[key] + ("" if part is None else f"_{part}")

    def state(self, key: str, part: int | None = None) -> str:
        return self.slurm.queue().get(self.id_of(key, part), ("", ""))[0]

    def restarts(self, key: str, part: int | None = None) -> int:
        """How often Slurm has started a job again."""
        shown = self.slurm.run("scontrol", "show", "job", self.id_of(key, part))
        return int(shown.partition("Restarts=")[2].split()[0])

    def log(self, key: str, part: int | None = None) -> str:
        script, _, number = key.partition(" ")
        plan = self.folder.load().plan
        name = f"{script.rpartition('/')[2]}{'' if part is None else f'_{part}'}.txt"
        file = plan.scripts[script].logs / f"round_{int(number):03d}_{name}"
        return file.read_text() if file.is_file() else ""

    def wait(self, until: Callable[[], object]) -> None:
        """Wait until something is true; jobs that are to run again do so at once meanwhile."""

        def is_over() -> bool:
            self.slurm.hurry()
            return bool(until())

        self.slurm.wait_until(is_over, MOST_SECONDS)

    def drain(self) -> None:
        self.wait(lambda: not self.slurm.queue())


@pytest.fixture
def cluster(slurm, phantom_variants, tmp_path, monkeypatch) -> Cluster:
    """Phantoms in a folder with an awkward name, nothing done yet."""
    home = tmp_path / "it's a 50% tést"
    shutil.copytree(phantom_variants(cases=CASES), home / "nnUNet_raw")
    for name, value in {**ENVIRONMENT, **set_roots(home)}.items():
        monkeypatch.setenv(name, value)
    site = home / "site"
    site.mkdir()
    tests = str(Path(__file__).resolve().parents[1])
    (site / "sitecustomize.py").write_text(SITE.format(folder=str(site), tests=tests))
    (home / "template.txt").write_text(
        f"#SBATCH --comment='ours alone'\nexport PYTHONPATH={shlex.quote(str(site))}\n[train]\n#SBATCH --nice=0\n"
    )
    return Cluster(slurm, home / "jobs")


@pytest.fixture
def beside() -> Iterator[Callable[..., Callable[[], int]]]:
    """A function that starts some work in a fork; what it returns waits for the exit code."""
    running = []

    def start(work: Callable[[], int], log: Path) -> Callable[[], int]:
        running.append(forked(work, log))
        return lambda: wait(running.pop())

    yield start
    for child in running:
        os.kill(child, signal.SIGKILL)
        wait(child)


@pytest.mark.slow
def test_campaigns_through_slurm_are_those_of_one_process(cluster, beside, tmp_path, capsys):
    slurm, home = cluster.slurm, cluster.folder.root.parent
    assert cluster.submit(*CAMPAIGNS, *AS_JOBS, "-template", home / "template.txt") == 0
    handed_over = cluster.folder.submitted()
    plain = tmp_path / "plain"
    join = beside(lambda: run_plainly(plain), tmp_path / "plain.txt")

    # a training is cancelled, and with it goes all that waits for it
    training = f"{RANDOM}/fold_0/train 1"
    cluster.wait(lambda: "  training" in cluster.log(training))
    slurm.run("scancel", cluster.id_of(training))
    cluster.wait(lambda: not any(cluster.state(key) for key in handed_over if key.startswith(f"{RANDOM}/fold_0/")))
    assert standing_of(training, capsys) == "failed"
    assert cluster.submit() == 0  # the others stay in the queue
    again = {key for key, id_ in cluster.folder.submitted().items() if id_ != handed_over[key]}
    assert training in again
    assert all(key.startswith(f"{RANDOM}/fold_0/") for key in again)

    # another one is warned that its time is nearly over
    warned = f"{USIMF}/fold_1/train 1"
    cluster.wait(lambda: "  training" in cluster.log(warned))
    slurm.run("scancel", "--signal=USR1", "--batch", cluster.id_of(warned))
    cluster.wait(lambda: "asks Slurm to run the job again" in cluster.log(warned))

    # the node dies while a shard is scored, and afterwards the other shard is cancelled
    scoring = f"{USIMF}/fold_1/score 1"
    cluster.wait(lambda: "  scoring the pool" in cluster.log(scoring, 0))
    slurm.restart_node()
    slurm.run("scancel", cluster.id_of(scoring, 1))
    cluster.wait(lambda: not cluster.state(f"{USIMF}/fold_1/fisher 1"))
    assert cluster.submit() == 0

    cluster.drain()
    assert cluster.restarts(warned) == 1
    assert cluster.log(scoring, 0).count("begins on") >= 2
    assert cluster.submit() == 0
    cluster.drain()  # there may be a rest where Slurm was still at it when we looked
    assert cluster.submit() == 0
    assert not cluster.folder.load().plan.jobs
    assert not slurm.queue()
    assert slurm.node_state() == "idle"
    assert run_command(status.main, "-d", "501", "--watch") == 0
    cases = sorted(path.name.partition(".")[0] for path in (home / "nnUNet_raw" / DATASET / "labelsTr").iterdir())
    assert Counter((home / "site" / "read.txt").read_text().split()) == dict.fromkeys(cases, 1)

    assert join() == 0, (tmp_path / "plain.txt").read_text()
    wanted, found = outcome(plain / "nnUNet_results"), outcome(home / "nnUNet_results")
    assert sum(name.endswith("batch.json") for name in wanted) == 4 * (ROUNDS + 1)
    assert sum(name.endswith("metrics.json") for name in wanted) == 4 * ROUNDS
    checkpoints = {name.partition(FINAL)[0] for name in wanted if FINAL in name}
    assert len(checkpoints) == 4 * ROUNDS
    assert sorted(found) == sorted(wanted)
    assert [name for name in wanted if found[name] != wanted[name]] == []


def run_plainly(folder: Path) -> int:
    """The same campaigns on the same images in this process, one round after the other; to be called in a fork."""
    os.nice(10)
    os.environ.update({**set_roots(folder), "nnUNet_raw": os.environ["nnUNet_raw"]})
    del os.environ["SLURM_CONF"]
    torch.set_num_threads(1)
    hurry()
    return run_command(run.main, *CAMPAIGNS, "-np", "1")


def standing_of(key: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What `nnUNetv2_al_status` says of a job."""
    capsys.readouterr()
    assert run_command(status.main, "-d", "501", "--json") == 0
    (found,) = [job["state"] for job in json.loads(capsys.readouterr().out)["jobs"] if job["key"] == key]
    return found
