"""Kill rounds with SIGKILL at chosen moments, repeat the command, and tell what differs from an undisturbed round.

    python kill_lab.py <folder with phantoms/nnUNet_raw> <report.json> [all]

The process that runs this script imports everything and does nothing else, so that each round is a quick fork of it.
A moment is a number: the n-th time that the round changes something on disk (seen by an audit hook, before it happens)
or makes a training step. A torn write is a rename before which the file is cut in half, as if the kill had come while
a library was still writing it.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tiny_rounds import ENVIRONMENT, TINY_USIMF, hurry, run_round, set_roots, snapshot

LANES = 2
MOMENTS_PER_STAGE = 3
TIMED_KILLS = 4
_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "lab.fsync", "lab.step"}


@dataclass
class Trial:
    """One kill: in which round, before which moment (or after which share of the time), and how."""

    round: int
    moment: int | None = None
    torn: bool = False
    share_of_time: float | None = None
    stage: str = ""
    what: str = ""
    again: int | None = None
    problems: list[str] = field(default_factory=list)


class Lane:
    """A folder in which trials run one after another, always under the same path."""

    def __init__(self, folder: Path, raw: Path) -> None:
        self.folder = folder
        self.live = folder / "roots"
        self.states = {0: folder / "before_round_0", 1: folder / "before_round_1"}
        shutil.copytree(raw, self.states[0] / "nnUNet_raw")
        set_roots(self.states[0])

    def restore(self, round_number: int) -> None:
        shutil.rmtree(self.live, ignore_errors=True)
        shutil.copytree(self.states[round_number], self.live, symlinks=True)

    def keep(self, round_number: int) -> None:
        shutil.copytree(self.live, self.states[round_number], symlinks=True)

    def do(self, round_number: int) -> int:
        """Do a round here and now."""
        os.environ.update(ENVIRONMENT, **set_roots(self.live))
        return run_round(*TINY_USIMF, "-round", round_number)

    @property
    def campaign(self) -> Path:
        return next(self.live.glob("nnUNet_results/*/al/*/fold_0"), self.live / "none")


def forked(work: Callable[[], Any], log: Path) -> int:
    """Start `work` in a fork that prints to `log`; its return value is the exit code."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(target, 1)
        os.dup2(target, 2)
        code = int(work() or 0)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def wait(child: int) -> int:
    """Exit code of a child, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def watch(folder: Path, on_change: Callable[[str, tuple[Any, ...]], None]) -> None:
    """Call `on_change` before each change in `folder` and each training step of this process, until it ends."""
    import torch

    inside = str(folder)
    plain_fsync, plain_step = os.fsync, torch.optim.AdamW.step

    def fsync(descriptor: int) -> None:
        sys.audit("lab.fsync", inside)
        plain_fsync(descriptor)

    def step(*arguments: Any, **options: Any) -> Any:
        sys.audit("lab.step", inside)
        return plain_step(*arguments, **options)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            _, mode, flags = arguments
            writes = set(mode or "") & set("wax+") or (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if not writes:
                return
        elif event not in _CHANGES:
            return
        if isinstance(arguments[0], (str, os.PathLike)) and os.fspath(arguments[0]).startswith(inside):
            on_change(event, arguments)

    os.fsync = fsync
    torch.optim.AdamW.step = step
    sys.addaudithook(hook)


def moments_of(folder: Path, work: Callable[[], int], log: Path) -> int:
    """Do some work in a fork that has to end with 0, and return how often it changed something in `folder`."""
    note = log.with_suffix(".moments")

    def counted() -> int:
        seen: list[str] = []
        watch(folder, lambda event, _: seen.append(event))
        code = work()
        note.write_text(str(len(seen)))
        return code

    assert wait(forked(counted, log)) == 0, log.read_text()
    return int(note.read_text())


def kill_at(folder: Path, moment: int, work: Callable[[], int], log: Path) -> None:
    """Begin some work in a fork, which dies before its change number `moment` in `folder`."""

    def dying() -> int:
        seen = 0

        def count(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal seen
            if seen == moment:
                os.kill(os.getpid(), signal.SIGKILL)
            seen += 1

        watch(folder, count)
        return work()

    assert wait(forked(dying, log)) == -signal.SIGKILL, log.read_text()


def some_of(moments: int, number: int) -> list[int]:
    """Choose about `number` of so many moments, the first and the last among them."""
    return sorted({round(k * (moments - 1) / (number - 1)) for k in range(number)})


def record(lane: Lane, round_number: int, report: Path) -> int:
    """Do a round, and write down its moments, its time and what it imported."""
    moments: list[tuple[str, str, str]] = []

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        place = Path(arguments[1] if event == "os.rename" else arguments[0])
        moments.append((event, place.name, place.parent.name))

    watch(lane.live, note)
    started = time.monotonic()
    code = lane.do(round_number)
    seconds, moments_done = time.monotonic() - started, list(moments)
    report.write_text(json.dumps({"seconds": seconds, "moments": moments_done, "modules": sorted(sys.modules)}))
    return code


def killed(lane: Lane, trial: Trial) -> int:
    """Do a round until the trial's moment, and die."""
    seen = 0

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if seen == trial.moment:
            if trial.torn:
                os.truncate(arguments[0], Path(arguments[0]).stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        seen += 1

    if trial.moment is not None:
        watch(lane.live, count)
    return lane.do(trial.round)


def attempt(lane: Lane, trial: Trial, wanted: dict[str, Any], seconds: float, report: Path) -> int:
    """Restore, kill, repeat the command, compare, and write the trial down."""
    log = report.with_suffix(".txt")
    lane.restore(trial.round)
    before = ledger(lane)
    victims = [trial] if trial.again is None else [trial, Trial(trial.round, trial.again)]
    for victim in victims:
        child = forked(lambda victim=victim: killed(lane, victim), log)
        if victim.share_of_time is not None:
            time.sleep(victim.share_of_time * seconds)
            os.kill(child, signal.SIGKILL)
        code = wait(child)
        if code != -signal.SIGKILL and victim is trial and trial.moment is not None:
            trial.problems.append(f"was not killed but ended with {code}")
        lost = [name for name, content in before.items() if ledger(lane).get(name) != content]
        if lost:
            trial.problems.append(f"the kill changed the ledger: {lost}")
    code = wait(forked(lambda: lane.do(trial.round), log))
    if code:
        trial.problems.append(f"the repeated command ended with {code}: {log.read_text()[-1500:]}")
    else:
        found = outcome(lane)
        trial.problems += [f"{name} differs" for name in wanted if found.get(name) != wanted[name]]
        trial.problems += [f"{name} is new" for name in found if name not in wanted]
    report.write_text(json.dumps(asdict(trial)))
    return 0


def ledger(lane: Lane) -> dict[str, str]:
    """Every file of the ledger and its hash."""
    folder = lane.campaign / "ledger"
    return {str(Path(path).relative_to(folder)): mark for path, mark in snapshot(folder).items()}


def outcome(lane: Lane) -> dict[str, Any]:
    """Everything that must not depend on kills: decisions, ledger, batches, scores, weights, names of all files."""
    import torch

    from nnunet_al.files import hash_array, read_arrays

    campaign = lane.campaign
    names = ["campaign.json", "results.csv", "round_000/batch.json", "round_001/batch.json", "regions.npz"]
    files = [campaign / name for name in names if (campaign / name).is_file()]
    found = {path.name + path.parent.name: path.read_text("latin-1") for path in files if path.suffix != ".npz"}
    for path in [campaign / "regions.npz", *campaign.glob("round_001/*.npz")]:
        found |= {f"{path.name}:{name}": hash_array(array) for name, array in read_arrays(path).items()}
    found |= {f"ledger/{name}": content for name, content in ledger(lane).items()}
    for path in campaign.glob("round_001/nnUNet_results/*/*/fold_0/checkpoint_*.pth"):
        content = torch.load(path, weights_only=False)
        weights = content["network_weights"].items()
        found |= {f"{path.name}:{name}": hash_array(weight.numpy()) for name, weight in weights}
    found["stages"] = sorted(path.parents[1].name + path.stem for path in campaign.glob("round_*/stages/*.json"))
    found["names"] = sorted(
        str(path.relative_to(lane.live)) for path in lane.live.rglob("*") if "training_log" not in path.name
    )
    return found


def moments_to_try(moments: list[list[str]], round_number: int, every: bool) -> list[Trial]:
    """Choose kills from a round's moments: in each stage the first, the last and some between, and torn writes."""
    trials, first = [], 0
    ends = [n for n, (event, _, folder) in enumerate(moments) if event == "os.rename" and folder == "stages"]
    for end in [*ends, len(moments) - 1]:
        stage = Path(moments[end][1]).stem if end in ends else "after the last stage"
        inside = range(first, end + 1)
        even = {inside[round(k * (len(inside) - 1) / (MOMENTS_PER_STAGE - 1))] for k in range(MOMENTS_PER_STAGE)}
        for n in inside if every else sorted(even if inside else ()):
            trials.append(Trial(round_number, n, stage=stage, what=" ".join(moments[n][:2])))
        renames = [n for n in inside if moments[n][0] == "os.rename"]
        for n in renames if every else renames[len(renames) // 2 :][:1]:
            trials.append(Trial(round_number, n, True, stage=stage, what="torn " + moments[n][1]))
        first = end + 1
    steps = [n for n, (event, *_) in enumerate(moments) if event == "lab.step"]
    for n in steps:
        trials.append(Trial(round_number, n, stage="train", what="in the middle of an epoch"))
    return trials


def main(work: Path, report: Path, every: bool) -> None:
    os.environ.update(ENVIRONMENT)
    import torch

    torch.set_num_threads(1)
    hurry()
    lanes = [Lane(work / f"lane_{index}", work / "phantoms" / "nnUNet_raw") for index in range(LANES)]
    moments: dict[int, list[list[str]]] = {}
    wanted: list[dict[int, dict[str, Any]]] = [{}, {}]
    seconds: dict[int, float] = {}
    for number in (0, 1):
        for index, lane in enumerate(lanes):
            lane.restore(number)
            notes = work / f"notes_{index}_{number}.json"
            log = notes.with_suffix(".txt")
            code = wait(forked(lambda lane=lane, notes=notes, number=number: record(lane, number, notes), log))
            assert code == 0, log.read_text()
            content = json.loads(notes.read_text())
            moments[number], seconds[number] = content["moments"], content["seconds"]
            wanted[index][number] = outcome(lane)
            if number == 0:
                lane.keep(1)
            for name in content["modules"]:
                if name not in sys.modules and name != "__main__":
                    try:
                        importlib.import_module(name)
                    except Exception:  # modules that only exist while another one is imported
                        continue
    same = {name for name in wanted[0][1] if wanted[0][1][name] == wanted[1][1].get(name)}
    unlike = sorted(set(wanted[0][1]) ^ set(wanted[1][1]) | set(wanted[0][1]) - same)

    trials = moments_to_try(moments[1], 1, every) + moments_to_try(moments[0], 0, every)
    trials += [
        Trial(1, share_of_time=(index + 0.5) / TIMED_KILLS, stage="any", what="at some time")
        for index in range(TIMED_KILLS)
    ]
    # a second kill comes while the first one is being mended
    twice = random.Random(0).sample([t for t in trials if t.round == 1 and t.moment is not None], 3)
    trials += [Trial(1, t.moment, stage=t.stage, what="twice, " + t.what, again=20) for t in twice]
    queue, running, results = list(enumerate(trials)), {}, []
    idle = list(range(LANES))
    while queue or running:
        while queue and idle:
            index = idle.pop()
            number, trial = queue.pop(0)
            result = work / f"trial_{number:03d}.json"
            child = forked(
                lambda index=index, trial=trial, result=result: attempt(
                    lanes[index], trial, wanted[index][trial.round], seconds[trial.round], result
                ),
                result.with_suffix(".attempt.txt"),
            )
            running[child] = (index, result)
        child, status = os.waitpid(-1, 0)
        index, result = running.pop(child)
        idle.append(index)
        assert status == 0, result.with_suffix(".attempt.txt").read_text()
        results.append(json.loads(result.read_text()))
    report.write_text(json.dumps({"unlike": unlike, "moments": moments, "seconds": seconds, "trials": results}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:] == ["all"])
