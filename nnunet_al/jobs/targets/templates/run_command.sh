say() { echo "nnunet-al: $* at $(date '+%Y-%m-%d %H:%M:%S')"; }

__WARN__
woken=
stop() {
    woken=yes
    for number in $(jobs -p); do kill -TERM "$number" 2>/dev/null; done
}
trap stop INT TERM
say "begins on $(uname -n)"
__START__ &
child=$!
__LISTEN__
code=0
wait "$child" || code=$?
while [ -n "$woken" ]; do # a signal has ended the waiting, not the command
    woken=
    waited=0
    wait "$child" || waited=$?
    [ "$waited" -eq 127 ] || code=$waited
done
say "ended with exit code $code"
__READERS__
__AGAIN__
exit "$code"
