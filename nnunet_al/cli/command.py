"""Shared by all commands: errors become one sentence and an exit code."""

from __future__ import annotations

import io
import os
import sys
import warnings
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence

from nnunet_al.errors import NnunetALError, WaitingForReaders
from nnunet_al.stopping import handling_signals
from nnunet_al.terminal import say

DONE, CRASHED, REFUSED, WAITING, INTERRUPTED, CUT_OFF = 0, 1, 2, 3, 130, 141


def run(
    build_parser: Callable[[], ArgumentParser],
    work: Callable[[Namespace], int | None],
    argv: Sequence[str] | None = None,
    interrupted: str = "The same command continues where this one stopped.",
) -> int:
    """Parse the arguments, do the work and return the exit code.

    0: done, also when there was nothing left to do; 2: refused, with one sentence; 3: waiting for readers; 130:
    interrupted, by a person or a scheduler, where ``interrupted`` says how the work stands. A crash of ours is no
    message: its traceback goes through and Python exits with 1.
    """
    arguments = build_parser().parse_args(argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a group's name need not exist in the terminal's alphabet
    # torch's coming changes concern us, not the user
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\b")
    try:
        with handling_signals():
            code = work(arguments) or DONE
        sys.stdout.flush()
        return code
    except WaitingForReaders as waiting:
        say(str(waiting))
        return WAITING
    except NnunetALError as error:
        print(f"Error: {error}", file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        print(f"Interrupted. {interrupted}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # whoever read our output, such as head, has seen enough; Python would complain once more when it closes it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CUT_OFF
