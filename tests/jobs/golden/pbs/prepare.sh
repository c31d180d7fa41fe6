#!/bin/bash
# Checks it.
# Does nothing when its work is done, and continues where it was when that is half done.
# By hand, here and now: bash prepare.sh
#PBS -N prepare.Dataset004_Hippocampus
#PBS -l select=1:ncpus=4:mem=16gb
#PBS -l walltime=4:00:00
#PBS -j oe
#PBS -o /dev/null

log=$(printf '%s/prepare_dataset.txt' '/data/it'"'"'s "here" 50% $HOME/é/nnUNet_results/Dataset004_Hippocampus/al/job_logs')
[ -z "${PBS_JOBID:-}" ] || exec >>"$log" 2>&1

export nnUNet_raw='/data/it'"'"'s "here" 50% $HOME/é/nnUNet_raw'
export nnUNet_preprocessed='/data/it'"'"'s "here" 50% $HOME/é/nnUNet_preprocessed'
export nnUNet_results='/data/it'"'"'s "here" 50% $HOME/é/nnUNet_results'
export PATH='/data/it'"'"'s "here" 50% $HOME/é/bin':"$PATH"

# from the template
module load cuda
set +eu # whatever it has set

command=(
    nnUNetv2_al_prepare -d 4 -np 4
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
