"""How a script runs its command: it says when that begins and ends, hands signals on and lets itself be run again."""

from __future__ import annotations

from collections.abc import Sequence

RESTARTS = 20
"""How often a script lets itself be run again because its time was over; a job that gets nowhere must end."""
ASKED = '[ -n "$warned" ] && [ "$code" -ge 128 ]'
"""Condition of the shell: the command stopped because of a warning, neither done nor failed."""
GIVES_UP = f'say "gives up after {RESTARTS} restarts; handed over once more, it continues,"'

_SAY = """\
say() { echo "nnunet-al: $* at $(date '+%Y-%m-%d %H:%M:%S')"; }

"""

_WARN = """\
# The scheduler warns some minutes before the time is over. The command is told, and stops where it can continue;
# what has not stopped shortly before the end is ended.
warned=
warn() {
    woken=yes
    [ -z "$warned" ] || return 0
    warned=yes
    say "is warned that its time is nearly over"
    for ((second = 0; second < %d; second++)); do
        kill -0 "$child" 2>/dev/null || return 0
        # more than once, for a program that has only just begun does not listen yet
        ((second %% 10)) || kill -USR1 "$child" 2>/dev/null
        sleep 1
    done
    kill -TERM "$child" 2>/dev/null
    sleep 15
    kill -KILL "$child" 2>/dev/null
}

"""

_RUN = """\
woken=
stop() {
    woken=yes
    for number in $(jobs -p); do kill -TERM "$number" 2>/dev/null; done
}
trap stop INT TERM
say "begins on $(uname -n)"
<start> &
child=$!
<listen>code=0
wait "$child" || code=$?
while [ -n "$woken" ]; do # a signal has ended the waiting, not the command
    woken=
    waited=0
    wait "$child" || waited=$?
    [ "$waited" -eq 127 ] || code=$waited
done
say "ended with exit code $code"
"""

_READERS = """\
# the readers have the batch, so that all is done that can be done now
[ "$code" -ne 3 ] || exit 0
"""


def wrapper_lines(warning: int, ends_at_readers: bool, again: Sequence[str]) -> list[str]:
    """Return the lines that run the command in the array ``command`` and end with its exit code.

    ``warning`` is the number of seconds between the scheduler's warning and the end of the job's time; with
    ``ends_at_readers`` exit code 3 is a success. The lines ``again`` ask the scheduler to run the job again, if it is
    ``ASKED`` for; without them there is no scheduler and no warning.
    """
    start, listen = (
        ("""(trap '' USR1 && exec "${command[@]}")""", "trap warn USR1\n") if again else ('"${command[@]}"', "")
    )
    run = _RUN.replace("<start>", start).replace("<listen>", listen)
    parts = [_SAY, _WARN % max(30, warning - 60) if again else "", run, _READERS if ends_at_readers else ""]
    return [*"".join(parts).splitlines(), *again, 'exit "$code"']
