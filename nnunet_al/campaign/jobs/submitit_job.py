"""What submitit runs: a job's command, which is told when its time is nearly over and then run again.

Only the standard library and, inside a job, submitit are needed to load this module.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nnunet_al.campaign.jobs.log_tail import MARK
from nnunet_al.stopping import SIGNAL

WAITS_FOR_READERS = 3
_INTERRUPTED = {130, 128 + signal.SIGTERM}
_SECONDS_BETWEEN_LOOKS = 0.2
_SECONDS_BETWEEN_CALLS = 10.0
_SECONDS_TO_END = 15.0
_SECONDS_FOR_THE_SCHEDULER = 60.0

_RUN = """\
# our own signal must not end a program that does not listen yet; submitit's reaches all processes of a job
trap '' {signals}
{before}
set +eu # whatever the site's lines have set
exec "$@"
"""


class CommandFailed(Exception):  # noqa: N818 -- what submitit's own log shows
    """A job's command ended with an exit code that means no success."""


@dataclass
class Command:
    """A command that submitit runs as a job, and runs again when the job's time was over before it had ended.

    Attributes
    ----------
    argv : program and arguments
    log : file to whose end goes what it prints
    environment : variables that it must have; None removes one
    defaults : variables that it gets where they are not set
    path : folders that come before PATH
    before : lines of bash that come before the command
    ends_at_readers : whether exit code 3 is a success
    patience_seconds : how long a command that is asked to stop may take before it is ended
    """

    argv: tuple[str, ...]
    log: Path
    environment: Mapping[str, str | None] = field(default_factory=dict)
    defaults: Mapping[str, str] = field(default_factory=dict)
    path: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    ends_at_readers: bool = False
    patience_seconds: float = 240.0
    _running: _Running | None = field(default=None, init=False, repr=False, compare=False)

    def __call__(self) -> int:
        """Run the command to its end and return its exit code.

        Raises
        ------
        CommandFailed
            if that means no success.
        """
        self._say(f"begins on {socket.gethostname()}, process {os.getpid()}")
        self._running = running = self._start()
        before = self._pass_on_an_end()
        try:
            # a signal of the scheduler comes in between, and with it `checkpoint`, from which there is no way back
            while not running.ended.wait(_SECONDS_BETWEEN_LOOKS):
                pass
        finally:
            running.end()
            if before is not None:
                signal.signal(signal.SIGTERM, before)
        code = running.code
        self._say(f"ended with exit code {code}")
        if code == 0 or (code == WAITS_FOR_READERS and self.ends_at_readers):
            return code
        if code in _INTERRUPTED and not _is_local():
            # somebody ended the command but not yet us: a scheduler that is about to end or to requeue the job
            time.sleep(_SECONDS_FOR_THE_SCHEDULER)
        raise CommandFailed(f"{self.argv[0]} ended with exit code {code}, see {self.log}")

    def checkpoint(self) -> Any:
        """Have the command stop where it continues, and say what submitit is to run in its place; submitit calls this.

        Returns
        -------
        submitit.helpers.DelayedSubmission
            of the same command.
        """
        from submitit.helpers import DelayedSubmission

        if self._running is not None and not self._running.ended.is_set():
            self._say("is warned that its time is nearly over")
            self._running.stop(self.patience_seconds)
            self._say(f"ended with exit code {self._running.code}")
        self._say("asks submitit to run the job again")
        return DelayedSubmission(replace(self))

    def _start(self) -> _Running:
        lines = _RUN.format(signals=" ".join(_deaf_to()), before="\n".join(self.before))
        with self._open_log() as log:
            process = subprocess.Popen(
                ["bash", "-c", lines, self.argv[0], *self.argv],
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        return _Running(process)

    def _environment(self) -> dict[str, str]:
        variables: dict[str, str | None] = {**self.defaults, **os.environ, **self.environment}
        if self.path:
            variables["PATH"] = os.pathsep.join([*self.path, *filter(None, [variables.get("PATH")])])
        return {name: value for name, value in variables.items() if value is not None}

    def _pass_on_an_end(self) -> Any:
        """Let SIGTERM end the command where nobody else does: on a cluster it reaches all processes of a job.

        Returns what heeded it before, None if that stays.
        """
        if not _is_local() or threading.current_thread() is not threading.main_thread():
            return None
        assert self._running is not None, "the command has been started"
        terminate = self._running.process.terminate
        return signal.signal(signal.SIGTERM, lambda number, frame: terminate())

    def _say(self, words: str) -> None:
        with self._open_log() as log:
            log.write(f"{MARK}{words} at {time.strftime('%Y-%m-%d %H:%M:%S')}\n".encode())

    def _open_log(self) -> Any:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        return self.log.open("ab")


class _Running:
    """A process, whose end a thread waits for, so that a signal's handler can look at it without any lock."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.ended = threading.Event()
        threading.Thread(target=self._wait, daemon=True).start()

    @property
    def code(self) -> int:
        """Exit code as a shell gives it: 128 + the number of the signal that ended the process."""
        code = self.process.returncode
        assert code is not None, "the process has ended"
        return code if code >= 0 else 128 - code

    def stop(self, patience_seconds: float) -> None:
        """Ask the process to stop where it continues, more than once; end it when the patience is over."""
        until = time.monotonic() + patience_seconds
        while time.monotonic() < until and not self.ended.is_set():
            self.process.send_signal(SIGNAL)
            self._look(min(until, time.monotonic() + _SECONDS_BETWEEN_CALLS))
        self.end()

    def end(self) -> None:
        """End the process if it has not ended."""
        for end in (self.process.terminate, self.process.kill):
            if self.ended.is_set():
                return
            end()
            self._look(time.monotonic() + _SECONDS_TO_END)

    def _look(self, until: float) -> None:
        while time.monotonic() < until and not self.ended.is_set():
            time.sleep(_SECONDS_BETWEEN_LOOKS)

    def _wait(self) -> None:
        self.process.wait()
        self.ended.set()


def _is_local() -> bool:
    return os.environ.get("SUBMITIT_EXECUTOR") != "slurm"


def _deaf_to() -> list[str]:
    """Return the signals that do not end the command: ours, and submitit's, which a site may have set to another."""
    names = [SIGNAL.name, "SIG" + os.environ.get("SUBMITIT_PREEMPT_SIGNAL", "USR2")]
    return [name.removeprefix("SIG") for name in dict.fromkeys(names)]
