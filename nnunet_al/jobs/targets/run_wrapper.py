"""How a script runs its command: it says when that begins and ends, hands signals on and lets itself be run again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nnunet_al.jobs.targets.bash_template import fill_template

_RESTARTS = 20  # how often a script lets itself be run again; a job that gets nowhere must end


@dataclass(frozen=True)
class Restart:
    """How a job asks its scheduler to run it again, where its command stopped because its time was nearly over.

    Attributes
    ----------
    job : name of a variable that the scheduler sets in its jobs; without it nobody is asked
    count : expression of the shell for how often the job was run again before
    words : the message in the log, before the time
    command : asks the scheduler
    before : lines that ``count`` and ``words`` need
    """

    job: str
    count: str
    words: str
    command: str
    before: Sequence[str] = ()


def wrapper_lines(warning: int, ends_at_readers: bool, restart: Restart | None) -> list[str]:
    """Return the lines that run the command in the array ``command`` and end with its exit code.

    ``warning`` is the number of seconds between the scheduler's warning and the end of the job's time; with
    ``ends_at_readers`` exit code 3 is a success. Without ``restart`` there is no scheduler and no warning.
    """
    readers = fill_template("readers.sh") if ends_at_readers else []
    if restart is None:
        start, listen, warn, again = '"${command[@]}"', [], [], []
    else:
        start, listen = """(trap '' USR1 && exec "${command[@]}")""", ["trap warn USR1"]
        warn = [*fill_template("warn.sh", SECONDS=str(max(30, warning - 60))), ""]
        again = fill_template(
            "again.sh", RESTARTS=str(_RESTARTS), **{name.upper(): value for name, value in vars(restart).items()}
        )
    return fill_template("run_command.sh", WARN=warn, START=start, LISTEN=listen, READERS=readers, AGAIN=again)
