#!/usr/bin/env bash
# Hands the jobs of this folder over to LSF, each behind those that it waits for: bash submit.sh
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
        echo "LSF did not take $key. What was taken is noted; nnUNetv2_al_jobs --submit goes on from there." >&2
        exit 2
    }
    printf -v "$variable" %s "done($id)"
    echo "$id  $key"
}
note() {
    printf '%s\t%s\t%s\n' "$key" "$id" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" >>"$here/submitted.tsv" && echo "$id"
}
hand_over() {
    local words
    unset BSUB_QUIET # or there would be no words
    words=$(AL_ROUND=$round bsub "$@" <"$script") || return
    id=${words#*Job <} # "Job <123> is submitted to queue <normal>."
    id=${id%%>*}
    case $id in '' | *[!0-9]*) echo "$words" >&2 && return 1 ;; esac
}

submit j1 Dataset004_Hippocampus/prepare ''
submit j2 Dataset004_Hippocampus/2d__usimf__seed0/fold_0/start '' \
    -ti -w "$j1"
submit j3 'Dataset004_Hippocampus/2d__usimf__seed0/fold_0/prepare 1' 1 \
    -ti -w "$j2"
submit j4 'Dataset004_Hippocampus/2d__usimf__seed0/fold_0/train 1' 1 \
    -ti -w "$j3"
submit j5 'Dataset004_Hippocampus/2d__usimf__seed0/fold_0/evaluate 1' 1 \
    -ti -w "$j4"
submit j6 'Dataset004_Hippocampus/2d__usimf__seed0/fold_0/score 1' 1 \
    -J 'score.fold_0.2d__usimf__seed0.Dataset004_Hippocampus[1-2]%3' \
    -ti -w "$j4"
submit j7 'Dataset004_Hippocampus/2d__usimf__seed0/fold_0/fisher 1' 1 \
    -ti -w "$j6"
submit j8 'Dataset004_Hippocampus/2d__usimf__seed0/fold_0/embed 1' 1 \
    -J 'embed.fold_0.2d__usimf__seed0.Dataset004_Hippocampus[1-2]%3' \
    -ti -w "$j7"
submit j9 'Dataset004_Hippocampus/2d__usimf__seed0/fold_0/select 1' 1 \
    -ti -w "$j5 && $j8"
submit j10 'Dataset004_Hippocampus/2d__usimf__seed0/fold_0/prepare 2' 2 \
    -ti -w "$j9"
submit j11 'Dataset004_Hippocampus/2d__usimf__seed0/fold_0/train 2' 2 \
    -ti -w "$j10"
submit j12 'Dataset004_Hippocampus/2d__usimf__seed0/fold_0/evaluate 2' 2 \
    -ti -w "$j11"
submit j13 'Dataset004_Hippocampus/2d__usimf__seed0/fold_0/score 2' 2 \
    -J 'score.fold_0.2d__usimf__seed0.Dataset004_Hippocampus[1-2]%3' \
    -ti -w "$j11"
submit j14 'Dataset004_Hippocampus/2d__usimf__seed0/fold_0/fisher 2' 2 \
    -ti -w "$j13"
submit j15 'Dataset004_Hippocampus/2d__usimf__seed0/fold_0/embed 2' 2 \
    -J 'embed.fold_0.2d__usimf__seed0.Dataset004_Hippocampus[1-2]%3' \
    -ti -w "$j14"
submit j16 'Dataset004_Hippocampus/2d__usimf__seed0/fold_0/select 2' 2 \
    -ti -w "$j12 && $j15"
submit j17 Dataset004_Hippocampus/2d__random__seed0/fold_0/start '' \
    -ti -w "$j1"
submit j18 'Dataset004_Hippocampus/2d__random__seed0/fold_0/prepare 1' 1 \
    -ti -w "$j17"
submit j19 'Dataset004_Hippocampus/2d__random__seed0/fold_0/train 1' 1 \
    -ti -w "$j18 && ${j4//done(/ended(}"
submit j20 'Dataset004_Hippocampus/2d__random__seed0/fold_0/evaluate 1' 1 \
    -ti -w "$j19"
submit j21 'Dataset004_Hippocampus/2d__random__seed0/fold_0/select 1' 1 \
    -ti -w "$j20"
submit j22 'Dataset004_Hippocampus/2d__random__seed0/fold_0/prepare 2' 2 \
    -ti -w "$j21"
submit j23 'Dataset004_Hippocampus/2d__random__seed0/fold_0/train 2' 2 \
    -ti -w "$j22"
submit j24 'Dataset004_Hippocampus/2d__random__seed0/fold_0/evaluate 2' 2 \
    -ti -w "$j23"
submit j25 'Dataset004_Hippocampus/2d__random__seed0/fold_0/select 2' 2 \
    -ti -w "$j24"
