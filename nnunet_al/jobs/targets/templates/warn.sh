# The scheduler warns some minutes before the time is over. The command is told, and stops where it can continue;
# what has not stopped shortly before the end is ended.
warned=
warn() {
    woken=yes
    [ -z "$warned" ] || return 0
    warned=yes
    say "is warned that its time is nearly over"
    for ((second = 0; second < __SECONDS__; second++)); do
        kill -0 "$child" 2>/dev/null || return 0
        # more than once, for a program that has only just begun does not listen yet
        ((second % 10)) || kill -USR1 "$child" 2>/dev/null
        sleep 1
    done
    kill -TERM "$child" 2>/dev/null
    sleep 15
    kill -KILL "$child" 2>/dev/null
}
