#!/usr/bin/env bash
# Does the jobs of this folder on this machine: bash run.sh
# Control-C ends it, and the next call continues. What fails stops its campaign; the others go on.
# Ends with 0 when all is done, with 2 when something failed, with 3 when campaigns only wait for readers.
set -u
here=$(cd "$(dirname "$0")" && pwd) || exit 2
state=$(mktemp -d "${TMPDIR:-/tmp}/nnunet_al.XXXXXX") || exit 2
trap 'rm -rf "$state"' EXIT
: >"$state/stopped" # a line for each chain of jobs that cannot go on: exit code, what happened

stop() {
    trap '' INT TERM HUP
    for child in $(jobs -p); do kill -TERM "$child" 2>/dev/null; done
    wait
    exit 130
}
trap stop INT TERM HUP

say() { echo "$(date '+%Y-%m-%d %H:%M:%S') $*"; }

# job CHAIN KEY ROUND LOG [CHAIN ...]: does one job, unless its chain or one that it waits for cannot go on
job() {
    local chain=$1 key=$2 round=$3 log=$4 code other
    shift 4
    [ ! -e "$state/$chain" ] || return 0
    for other in "$@"; do
        [ -e "$state/$other" ] || continue
        cp "$state/$other" "$state/$chain"
        printf '%s\t%s\n' "$(cat "$state/$chain")" "$key was not begun, as what it waits for did not succeed" \
            >>"$state/stopped"
        return 0
    done
    say "$key begins${CUDA_VISIBLE_DEVICES:+ on GPU $CUDA_VISIBLE_DEVICES}"
    bash "$here/${key% "$round"}.sh" ${round:+"$round"} </dev/null >>"$log" 2>&1 &
    code=0
    wait $! || code=$?
    [ "$code" -ne 0 ] || return 0
    echo "$code" >"$state/$chain"
    say "$key ended with exit code $code, see $log"
    printf '%s\t%s\n' "$code" "$key ended with exit code $code, see $log" >>"$state/stopped"
}

__JOBS__

[ -s "$state/stopped" ] || { say "all is done"; exit 0; }
result=3
while IFS=$'\t' read -r code words; do
    echo "$words"
    [ "$code" -eq 3 ] || result=2
done <"$state/stopped"
exit $result
