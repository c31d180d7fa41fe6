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
_interrupted = threading.Event()
_owner = 0


@contextmanager
def handling_signals() -> Iterator[None]:
    """Handle the signals of a scheduler inside the ``with`` block; only in the main thread of the process.

    SIGUSR1 requests a stop at the next point from which the work can be resumed without loss (`stop_if_asked`); SIGTERM
    interrupts at once, as Control-C does, so that worker processes are ended too. Some code catches every exception,
    such as nnU-Net's choice of a reader: what fails after an interruption is an interruption, and what goes on in spite
    of it ends at `stop_if_interrupted`.

    Raises KeyboardInterrupt in place of an error that came after an interruption.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    global _owner
    _owner = os.getpid()
    handlers = {SIGNAL: _ask, signal.SIGTERM: _interrupt}
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else a shell has it ignored in the background
        handlers[signal.SIGINT] = _interrupt
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    except Exception as error:
        if _interrupted.is_set():
            raise KeyboardInterrupt from error
        raise
    finally:
        _asked.clear()
        _interrupted.clear()
        for number, handler in before.items():
            signal.signal(number, handler)


def is_asked_to_stop() -> bool:
    """Tell whether a stop was requested, or an interruption did not come through."""
    return _asked.is_set() or _interrupted.is_set()


def stop_if_asked() -> None:
    """Interrupt the work if a stop was requested; to be called where all results are on disk.

    Raises KeyboardInterrupt as Control-C does.
    """
    if is_asked_to_stop():
        raise KeyboardInterrupt


def stop_if_interrupted() -> None:
    """Interrupt the work if an interruption was swallowed by what was just called, whose result may be wrong.

    Raises KeyboardInterrupt as Control-C does.
    """
    if _interrupted.is_set():
        raise KeyboardInterrupt


def _ask(number: int, frame: FrameType | None) -> None:
    _asked.set()


def _interrupt(number: int, frame: FrameType | None) -> None:
    if os.getpid() != _owner:  # a worker that was forked from this process: it ends without cleaning up
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        return
    _interrupted.set()
    raise KeyboardInterrupt
