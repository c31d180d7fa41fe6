"""Stop in time: the scheduler warns minutes before it ends a job, and the work stops where it can be resumed."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNAL = signal.SIGUSR1
"""The signal that a job's script sends when its time is running out."""

_asked = threading.Event()
_owner = 0


@contextmanager
def handling_signals() -> Iterator[None]:
    """Handle the signals of a scheduler inside the ``with`` block; only in the main thread of the process.

    SIGUSR1 requests a stop at the next point from which the work can be resumed without loss (`stop_if_asked`); SIGTERM
    interrupts at once, as Control-C does, so that worker processes are ended too.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    global _owner
    _owner = os.getpid()
    before = {SIGNAL: signal.signal(SIGNAL, _ask), signal.SIGTERM: signal.signal(signal.SIGTERM, _interrupt)}
    try:
        yield
    finally:
        _asked.clear()
        for number, handler in before.items():
            signal.signal(number, handler)


def is_asked_to_stop() -> bool:
    """Tell whether a stop was requested."""
    return _asked.is_set()


def stop_if_asked() -> None:
    """Interrupt the work if a stop was requested; to be called where all results are on disk.

    Raises KeyboardInterrupt as Control-C does.
    """
    if _asked.is_set():
        raise KeyboardInterrupt


def _ask(number: int, frame: FrameType | None) -> None:
    _asked.set()


def _interrupt(number: int, frame: FrameType | None) -> None:
    if os.getpid() != _owner:  # a worker that was forked from this process: it ends without cleaning up
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        return
    raise KeyboardInterrupt
