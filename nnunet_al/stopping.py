"""Stop soon: a scheduler says some minutes before it ends a job, and the work stops where it can go on from."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNAL = signal.SIGUSR1
"""What a job's script sends when its time is running out."""

_asked = threading.Event()
_owner = 0


@contextmanager
def heeding_signals() -> Iterator[None]:
    """Within the block, heed the signals of a scheduler as far as this is the main thread of the process.

    SIGUSR1 asks to stop at the next point from which the work goes on without loss (`stop_if_asked`); SIGTERM
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
    """Tell whether somebody wants this process to end soon."""
    return _asked.is_set()


def stop_if_asked() -> None:
    """Interrupt the work if somebody asked for it; to be called where all that was done is on disk.

    Raises
    ------
    KeyboardInterrupt
        as Control-C does.
    """
    if _asked.is_set():
        raise KeyboardInterrupt


def _ask(number: int, frame: FrameType | None) -> None:
    _asked.set()


def _interrupt(number: int, frame: FrameType | None) -> None:
    if os.getpid() != _owner:  # a worker that was forked from us: it just ends
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        return
    raise KeyboardInterrupt
