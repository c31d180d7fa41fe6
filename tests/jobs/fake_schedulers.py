"""Stand-ins for Slurm, LSF and our commands: programs that check what they are given, note it, and can run it.

`sbatch` and `bsub` parse their arguments and the lines of a script as the manuals say, and refuse what they do not
know; `Fakes` starts what they took as the schedulers would.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PATIENCE = 20.0

_PROGRAM = """\
#!{python} -IS
import json, os, signal, sys, time
folder = os.environ["FAKE_FOLDER"]
def note(name, content):
    path = os.path.join(folder, f"{{name}}_{{time.time_ns()}}_{{os.getpid()}}.json")
    with open(path + ".new", "w") as file:
        json.dump(content, file)
    os.rename(path + ".new", path)
"""

# notes how it was called, then does what behaviour.json says for the first words that it finds in its arguments
_COMMAND = """
arguments = [os.path.basename(sys.argv[0]), *sys.argv[1:]]
try:
    with open(os.path.join(folder, "behaviour")) as file:
        behaviour = json.load(file)
except FileNotFoundError:
    behaviour = {{}}
does = next((does for words, does in behaviour.items() if words in " ".join(arguments)), {{}})
heard = []
if does.get("waits"):
    def end(code):
        note("end", {{"arguments": arguments, "code": code}})
        os._exit(code)
    signal.signal(signal.SIGUSR1, (lambda *_: heard.append(1)) if does.get("deaf") else (lambda *_: end(130)))
    signal.signal(signal.SIGTERM, signal.SIG_IGN if does.get("deaf") == "all" else (lambda *_: end(143)))
print("output of", *arguments[1:], flush=True)
note("call", {{"arguments": arguments, "environment": dict(os.environ), "folder": os.getcwd()}})
if does.get("waits"):
    while True:
        signal.pause()
time.sleep(does.get("seconds", 0))
note("end", {{"arguments": arguments, "code": does.get("code", 0)}})
sys.exit(does.get("code", 0))
"""

_SCHEDULER = """
sys.path.insert(0, {tests!r})
import fake_parsing
fake_parsing.main(note, folder)
"""


@dataclass(frozen=True)
class Taken:
    """What a scheduler was given: its number, options (name -> values), arguments of the script, and environment."""

    number: int
    options: dict[str, list[str]]
    arguments: list[str]
    script: str
    environment: dict[str, str]


class Fakes:
    """Programs in `folder`/bin, and what they noted."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self.notes = folder / "notes"
        self.bin.mkdir(parents=True)
        self.notes.mkdir()
        top = _PROGRAM.format(python=sys.executable)
        for name in ("sbatch", "bsub", "scontrol"):
            self._write(self.bin / name, top + _SCHEDULER.format(tests=str(Path(__file__).parent)))
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "LSB_", "nnUNet"))},
            "PATH": f"{self.bin}:/usr/bin:/bin",  # the real commands are not to be found
            "FAKE_FOLDER": str(self.notes),
        }

    def write_commands(self, folder: Path) -> None:
        """Put programs with the names of ours into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("nnUNetv2_al_round", "nnUNetv2_al_prepare"):
            self._write(folder / name, _PROGRAM.format(python=sys.executable) + _COMMAND.format())

    def behave(self, **does: dict[str, Any]) -> None:
        """Say what our commands do: words of their arguments -> code, seconds, waits, deaf."""
        (self.notes / "behaviour").write_text(json.dumps({words.replace("__", " "): does[words] for words in does}))

    def read(self, name: str) -> list[dict[str, Any]]:
        """The notes of a kind in the order in which they were made: call, end, sbatch, bsub, scontrol."""
        return [json.loads(path.read_text()) for path in sorted(self.notes.glob(f"{name}_*.json"))]

    def taken(self, scheduler: str) -> list[Taken]:
        return [Taken(**note) for note in self.read(scheduler)]

    def run(self, script: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run an entry script to its end."""
        return subprocess.run(
            ["bash", script, *arguments],
            env={**self.environment, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    def start_slurm_job(self, taken: Taken, part: int | None = None, **variables: str) -> subprocess.Popen[bytes]:
        """Start a job as Slurm does: a copy of its script, its output where --output says."""
        values = {"SLURM_JOB_ID": str(taken.number + 1000 if part else taken.number)}
        if part is not None:
            values |= {"SLURM_ARRAY_JOB_ID": str(taken.number), "SLURM_ARRAY_TASK_ID": str(part)}
        log = slurm_path(taken.options["--output"][-1], taken.number, part)
        assert taken.options["--open-mode"] == ["append"]
        with Path(log).open("ab") as output:
            return self._start(taken, {**values, **variables}, output)

    def start_lsf_job(self, taken: Taken, index: int = 0, **variables: str) -> subprocess.Popen[bytes]:
        """Start a job as LSF does, with nothing on its command line."""
        values = {"LSB_JOBID": str(taken.number), "LSB_JOBINDEX": str(index)}
        return self._start(taken, {**values, **variables}, subprocess.DEVNULL)

    def wait_for(self, name: str, number: int = 1) -> list[dict[str, Any]]:
        """Wait until there are so many notes of a kind."""
        end = time.monotonic() + PATIENCE
        while len(found := self.read(name)) < number:
            assert time.monotonic() < end, f"{number} x {name} did not come: {found}"
            time.sleep(0.01)
        return found

    def _start(self, taken: Taken, variables: dict[str, str], output: Any) -> subprocess.Popen[bytes]:
        spooled = self.notes / f"spooled script {taken.number}"
        spooled.write_text(taken.script)
        return subprocess.Popen(
            ["bash", spooled, *taken.arguments],
            env={**taken.environment, **variables},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT if output is not subprocess.DEVNULL else output,
            start_new_session=True,
        )

    def _write(self, path: Path, text: str) -> None:
        path.write_text(text)
        path.chmod(0o755)


def slurm_path(pattern: str, number: int, part: int | None) -> str:
    """Expand a path as Slurm does: a backslash anywhere switches replacements off and is taken away."""
    if "\\" in pattern:
        return re.sub(r"\\(.)", r"\1", pattern)
    letters = {"%": "%", "A": str(number), "j": str(number), "a": "4294967294" if part is None else str(part)}
    return re.sub(r"%(.)", lambda found: letters[found[1]], pattern)


def lsf_elements(name: str) -> list[int]:
    """Indices of an LSF job name, "name[1-3,5]%2"; none where it is no array."""
    array = re.fullmatch(r"[A-Za-z0-9._-]+\[([0-9,-]+)\](?:%[1-9]\d*)?", name)
    return expand(array[1]) if array else []


def expand(numbers: str) -> list[int]:
    """The numbers of "0-2,5"."""
    ends = [[int(end) for end in run.split("-")] for run in numbers.split(",")]
    return [number for run in ends for number in range(run[0], run[-1] + 1)]


def end(process: subprocess.Popen[bytes], number: signal.Signals | None = None) -> int:
    """Send a signal, if one is given, and return the exit code."""
    if number is not None:
        process.send_signal(number)
    return process.wait(PATIENCE)
