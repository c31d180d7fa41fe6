"""What a scheduler's signals do to a command."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from nnunet_al.stopping import handling_signals, is_asked_to_stop, stop_if_asked


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
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGUSR1)
    with handling_signals():
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGUSR1)) == before


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
