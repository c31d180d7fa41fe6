"""What a scheduler's signals do to a command."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress

import pytest

from nnunet_al.errors import SetupError
from nnunet_al.stopping import handling_signals, is_asked_to_stop, stop_if_asked, stop_if_interrupted


def test_a_warning_stops_the_work_where_it_can_go_on_from():
    with handling_signals():
        assert not is_asked_to_stop()
        stop_if_asked()
        os.kill(os.getpid(), signal.SIGUSR1)
        assert is_asked_to_stop()
        with pytest.raises(KeyboardInterrupt):
            stop_if_asked()
    with handling_signals():
        assert not is_asked_to_stop(), "what was asked of another command"


def test_the_end_interrupts_at_once():
    with handling_signals(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interruption_that_somebody_swallows_is_not_lost(number):
    with handling_signals():
        stop_if_interrupted()
        with suppress(BaseException):
            signal.raise_signal(number)
        assert is_asked_to_stop()
        with pytest.raises(KeyboardInterrupt):
            stop_if_interrupted()
        with pytest.raises(KeyboardInterrupt):
            stop_if_asked()
    with handling_signals():
        stop_if_interrupted()
        assert not is_asked_to_stop(), "that was another command"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("error", [RuntimeError("no reader"), SetupError("no reader")])
def test_what_fails_because_of_it_is_an_interruption(number, error):
    def work() -> None:
        with suppress(BaseException):
            signal.raise_signal(number)
        raise error

    with pytest.raises(KeyboardInterrupt), handling_signals():
        work()
    with pytest.raises(type(error)), handling_signals():
        raise error


def test_what_a_shell_ignores_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with handling_signals():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_forked_worker_just_ends():
    with handling_signals():
        child = os.fork()
        if child == 0:
            try:
                time.sleep(30)
            finally:
                os._exit(5)
        time.sleep(0.2)
        os.kill(child, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM


def test_handlers_are_put_back():
    numbers = signal.SIGTERM, signal.SIGUSR1, signal.SIGINT
    before = [signal.getsignal(number) for number in numbers]
    with handling_signals():
        assert all(signal.getsignal(number) != old for number, old in zip(numbers, before, strict=True))
    assert [signal.getsignal(number) for number in numbers] == before


def test_another_thread_leaves_signals_alone():
    before = signal.getsignal(signal.SIGUSR1)
    seen = []

    def work() -> None:
        with handling_signals():
            seen.append(signal.getsignal(signal.SIGUSR1))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
