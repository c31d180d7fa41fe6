#!/usr/bin/env bash
# Hands the jobs of this folder over to Slurm, each behind those that it waits for: bash submit.sh
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
        echo "Slurm did not take $key. What was taken is noted; nnUNetv2_al_jobs --submit goes on from there." >&2
        exit 2
    }
    printf -v "$variable" %s "$id"
    echo "$id  $key"
}
note() {
    printf '%s\t%s\t%s\n' "$key" "$id" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" >>"$here/submitted.tsv" && echo "$id"
}
hand_over() {
    id=$(sbatch --parsable --kill-on-invalid-dep=yes "$@" "$script" ${round:+"$round"}) || return
    id=${id%%;*} # behind it stands the cluster, where there are several
}

submit j1 Dataset004_Hippocampus/prepare '' \
    '--output=/data/it'"'"'s "here" 50%% $HOME/é/nnUNet_results/Dataset004_Hippocampus/al/job_logs/prepare_dataset.txt'
submit j2 Dataset004_Hippocampus/2d__usimf__seed0/fold_0/start '' \
    '--output=/data/it'"'"'s "here" 50%% $HOME/é/nnUNet_results/Dataset004_Hippocampus/al/2d__usimf__seed0/fold_0/job_logs/start.txt' \
    --dependency="afterok:$j1"
submit j3 'Dataset004_Hippocampus/2d__usimf__seed0/fold_0/prepare 1' 1 \
    '--output=/data/it'"'"'s "here" 50%% $HOME/é/nnUNet_results/Dataset004_Hippocampus/al/2d__usimf__seed0/fold_0/job_logs/round_001_prepare.txt' \
    --dependency="afterok:$j2"
submit j4 'Dataset004_Hippocampus/2d__usimf__seed0/fold_0/train 1' 1 \
    '--output=/data/it'"'"'s "here" 50%% $HOME/é/nnUNet_results/Dataset004_Hippocampus/al/2d__usimf__seed0/fold_0/job_logs/round_001_train.txt' \
    --dependency="afterok:$j3"
submit j5 'Dataset004_Hippocampus/2d__usimf__seed0/fold_0/evaluate 1' 1 \
    '--output=/data/it'"'"'s "here" 50%% $HOME/é/nnUNet_results/Dataset004_Hippocampus/al/2d__usimf__seed0/fold_0/job_logs/round_001_evaluate.txt' \
    --dependency="afterok:$j4"
submit j6 'Dataset004_Hippocampus/2d__usimf__seed0/fold_0/score 1' 1 \
    '--output=/data/it'"'"'s "here" 50%% $HOME/é/nnUNet_results/Dataset004_Hippocampus/al/2d__usimf__seed0/fold_0/job_logs/round_001_score_%a.txt' \
    --array=0-1%3 \
    --dependency="afterok:$j4"
submit j7 'Dataset004_Hippocampus/2d__usimf__seed0/fold_0/fisher 1' 1 \
    '--output=/data/it'"'"'s "here" 50%% $HOME/é/nnUNet_results/Dataset004_Hippocampus/al/2d__usimf__seed0/fold_0/job_logs/round_001_fisher.txt' \
    --dependency="afterok:$j6"
submit j8 'Dataset004_Hippocampus/2d__usimf__seed0/fold_0/embed 1' 1 \
    '--output=/data/it'"'"'s "here" 50%% $HOME/é/nnUNet_results/Dataset004_Hippocampus/al/2d__usimf__seed0/fold_0/job_logs/round_001_embed_%a.txt' \
    --array=0-1%3 \
    --dependency="afterok:$j7"
submit j9 'Dataset004_Hippocampus/2d__usimf__seed0/fold_0/select 1' 1 \
    '--output=/data/it'"'"'s "here" 50%% $HOME/é/nnUNet_results/Dataset004_Hippocampus/al/2d__usimf__seed0/fold_0/job_logs/round_001_select.txt' \
    --dependency="afterok:$j5:$j8"
submit j10 'Dataset004_Hippocampus/2d__usimf__seed0/fold_0/prepare 2' 2 \
    '--output=/data/it'"'"'s "here" 50%% $HOME/é/nnUNet_results/Dataset004_Hippocampus/al/2d__usimf__seed0/fold_0/job_logs/round_002_prepare.txt' \
    --dependency="afterok:$j9"
submit j11 'Dataset004_Hippocampus/2d__usimf__seed0/fold_0/train 2' 2 \
    '--output=/data/it'"'"'s "here" 50%% $HOME/é/nnUNet_results/Dataset004_Hippocampus/al/2d__usimf__seed0/fold_0/job_logs/round_002_train.txt' \
    --dependency="afterok:$j10"
submit j12 'Dataset004_Hippocampus/2d__usimf__seed0/fold_0/evaluate 2' 2 \
    '--output=/data/it'"'"'s "here" 50%% $HOME/é/nnUNet_results/Dataset004_Hippocampus/al/2d__usimf__seed0/fold_0/job_logs/round_002_evaluate.txt' \
    --dependency="afterok:$j11"
submit j13 'Dataset004_Hippocampus/2d__usimf__seed0/fold_0/score 2' 2 \
    '--output=/data/it'"'"'s "here" 50%% $HOME/é/nnUNet_results/Dataset004_Hippocampus/al/2d__usimf__seed0/fold_0/job_logs/round_002_score_%a.txt' \
    --array=0-1%3 \
    --dependency="afterok:$j11"
submit j14 'Dataset004_Hippocampus/2d__usimf__seed0/fold_0/fisher 2' 2 \
    '--output=/data/it'"'"'s "here" 50%% $HOME/é/nnUNet_results/Dataset004_Hippocampus/al/2d__usimf__seed0/fold_0/job_logs/round_002_fisher.txt' \
    --dependency="afterok:$j13"
submit j15 'Dataset004_Hippocampus/2d__usimf__seed0/fold_0/embed 2' 2 \
    '--output=/data/it'"'"'s "here" 50%% $HOME/é/nnUNet_results/Dataset004_Hippocampus/al/2d__usimf__seed0/fold_0/job_logs/round_002_embed_%a.txt' \
    --array=0-1%3 \
    --dependency="afterok:$j14"
submit j16 'Dataset004_Hippocampus/2d__usimf__seed0/fold_0/select 2' 2 \
    '--output=/data/it'"'"'s "here" 50%% $HOME/é/nnUNet_results/Dataset004_Hippocampus/al/2d__usimf__seed0/fold_0/job_logs/round_002_select.txt' \
    --dependency="afterok:$j12:$j15"
submit j17 Dataset004_Hippocampus/2d__random__seed0/fold_0/start '' \
    '--output=/data/it'"'"'s "here" 50%% $HOME/é/nnUNet_results/Dataset004_Hippocampus/al/2d__random__seed0/fold_0/job_logs/start.txt' \
    --dependency="afterok:$j1"
submit j18 'Dataset004_Hippocampus/2d__random__seed0/fold_0/prepare 1' 1 \
    '--output=/data/it'"'"'s "here" 50%% $HOME/é/nnUNet_results/Dataset004_Hippocampus/al/2d__random__seed0/fold_0/job_logs/round_001_prepare.txt' \
    --dependency="afterok:$j17"
submit j19 'Dataset004_Hippocampus/2d__random__seed0/fold_0/train 1' 1 \
    '--output=/data/it'"'"'s "here" 50%% $HOME/é/nnUNet_results/Dataset004_Hippocampus/al/2d__random__seed0/fold_0/job_logs/round_001_train.txt' \
    --dependency="afterok:$j18,afterany:$j4"
submit j20 'Dataset004_Hippocampus/2d__random__seed0/fold_0/evaluate 1' 1 \
    '--output=/data/it'"'"'s "here" 50%% $HOME/é/nnUNet_results/Dataset004_Hippocampus/al/2d__random__seed0/fold_0/job_logs/round_001_evaluate.txt' \
    --dependency="afterok:$j19"
submit j21 'Dataset004_Hippocampus/2d__random__seed0/fold_0/select 1' 1 \
    '--output=/data/it'"'"'s "here" 50%% $HOME/é/nnUNet_results/Dataset004_Hippocampus/al/2d__random__seed0/fold_0/job_logs/round_001_select.txt' \
    --dependency="afterok:$j20"
submit j22 'Dataset004_Hippocampus/2d__random__seed0/fold_0/prepare 2' 2 \
    '--output=/data/it'"'"'s "here" 50%% $HOME/é/nnUNet_results/Dataset004_Hippocampus/al/2d__random__seed0/fold_0/job_logs/round_002_prepare.txt' \
    --dependency="afterok:$j21"
submit j23 'Dataset004_Hippocampus/2d__random__seed0/fold_0/train 2' 2 \
    '--output=/data/it'"'"'s "here" 50%% $HOME/é/nnUNet_results/Dataset004_Hippocampus/al/2d__random__seed0/fold_0/job_logs/round_002_train.txt' \
    --dependency="afterok:$j22"
submit j24 'Dataset004_Hippocampus/2d__random__seed0/fold_0/evaluate 2' 2 \
    '--output=/data/it'"'"'s "here" 50%% $HOME/é/nnUNet_results/Dataset004_Hippocampus/al/2d__random__seed0/fold_0/job_logs/round_002_evaluate.txt' \
    --dependency="afterok:$j23"
submit j25 'Dataset004_Hippocampus/2d__random__seed0/fold_0/select 2' 2 \
    '--output=/data/it'"'"'s "here" 50%% $HOME/é/nnUNet_results/Dataset004_Hippocampus/al/2d__random__seed0/fold_0/job_logs/round_002_select.txt' \
    --dependency="afterok:$j24"
