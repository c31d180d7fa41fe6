#!/usr/bin/env bash
# Hands the jobs of this folder over to __SCHEDULER__, each behind those that it waits for: bash submit.sh
# nnUNetv2_al_jobs --submit calls it, and leaves out what is done or in the queue. A second call of this script alone
# hands everything over once more, which costs waiting, but no harm: a job does nothing when its work is done.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

# submit VARIABLE KEY ROUND [option ...]: hands one job over; the variable gets what others wait for
submit() {
    local variable=$1 key=$2 round=$3 script id
    shift 3
    script="$here/${key% "$round"}.sh"
    # Control-C ends this script, but not what stands in the brackets: what is handed over is noted
    id=$(trap '' INT TERM && hand_over "$@" && note) || {
        echo "__SCHEDULER__ did not take $key. What was taken is noted; nnUNetv2_al_jobs --submit goes on from there." >&2
        exit 2
    }
    printf -v "$variable" %s "__WAIT__"
    echo "$id  $key"
}
note() {
    printf '%s\t%s\t%s\n' "$key" "$id" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" >>"$here/submitted.tsv" && echo "$id"
}
hand_over() {
    __HAND_OVER__
}

__JOBS__
