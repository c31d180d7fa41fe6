#!/bin/bash
# Does train of Dataset004_Hippocampus/2d__usimf__seed0/fold_0.
# Does nothing when its work is done, and continues where it was when that is half done.
# By hand, here and now: bash train.sh ROUND
#PBS -N train.fold_0.2d__usimf__seed0.Dataset004_Hippocampus
#PBS -l select=1:ncpus=8:mem=32gb:ngpus=1
#PBS -l walltime=24:00:00
#PBS -j oe
#PBS -o /dev/null
# from the template
#PBS -q gpu

round=${1:-${AL_ROUND:?is missing: give the round as the first argument}}

log=$(printf '%s/round_%03d_train.txt' '/data/it'"'"'s "here" 50% $HOME/é/nnUNet_results/Dataset004_Hippocampus/al/2d__usimf__seed0/fold_0/job_logs' "$round")
[ -z "${PBS_JOBID:-}" ] || exec >>"$log" 2>&1

export nnUNet_raw='/data/it'"'"'s "here" 50% $HOME/é/nnUNet_raw'
export nnUNet_preprocessed='/data/it'"'"'s "here" 50% $HOME/é/nnUNet_preprocessed'
export nnUNet_results='/data/it'"'"'s "here" 50% $HOME/é/nnUNet_results'
export nnUNet_n_proc_DA=7
export PATH='/data/it'"'"'s "here" 50% $HOME/é/bin':"$PATH"

# from the template
module load cuda
set +eu # whatever it has set

command=(
    nnUNetv2_al_round -d 4 -c 2d -s usimf -f 0 -seed 0 -phase train -round "$round"
)

say() { echo "nnunet-al: $* at $(date '+%Y-%m-%d %H:%M:%S')"; }

woken=
stop() {
    woken=yes
    for number in $(jobs -p); do kill -TERM "$number" 2>/dev/null; done
}
trap stop INT TERM
say "begins on $(uname -n)"
"${command[@]}" &
child=$!
code=0
wait "$child" || code=$?
while [ -n "$woken" ]; do # a signal has ended the waiting, not the command
    woken=
    waited=0
    wait "$child" || waited=$?
    [ "$waited" -eq 127 ] || code=$waited
done
say "ended with exit code $code"
exit "$code"
