#!/bin/bash
# Does train of Dataset004_Hippocampus/2d__usimf__seed0/fold_0.
# Does nothing when its work is done, and continues where it was when that is half done.
# By hand, here and now: bash train.sh ROUND
# Memory: some sites count it for each CPU, some for each job, and LSF before 10.1.0.2 knows no unit here. A line
# of the template with -R takes the place of ours; so does one with any other option.
#BSUB -J train.fold_0.2d__usimf__seed0.Dataset004_Hippocampus
#BSUB -n 8
#BSUB -W 24:00
#BSUB -gpu "num=1"
#BSUB -o /dev/null
#BSUB -r
#BSUB -Q "99"
#BSUB -wa USR1
#BSUB -wt 10
# from the template
#BSUB -q gpu
#BSUB -R "span[hosts=1]"

round=${1:-${AL_ROUND:?is missing: give the round as the first argument}}

log=$(printf '%s/round_%03d_train.txt' '/data/it'"'"'s "here" 50% $HOME/é/nnUNet_results/Dataset004_Hippocampus/al/2d__usimf__seed0/fold_0/job_logs' "$round")
# LSF itself writes a log when a job has ended only, and none of a run that is followed by another
[ -z "${LSB_JOBID:-}" ] || exec >>"$log" 2>&1

export nnUNet_raw='/data/it'"'"'s "here" 50% $HOME/é/nnUNet_raw'
export nnUNet_preprocessed='/data/it'"'"'s "here" 50% $HOME/é/nnUNet_preprocessed'
export nnUNet_results='/data/it'"'"'s "here" 50% $HOME/é/nnUNet_results'
export nnUNet_n_proc_DA=7
export PATH='/data/it'"'"'s "here" 50% $HOME/é/bin':"$PATH"

# from the template
module load cuda
set +eu # whatever it has set

command=(
    nnUNetv2_al_round -d 4 -c 2d -s usimf -f 0 -seed 0 -phase train --share_first -round "$round"
)

say() { echo "nnunet-al: $* at $(date '+%Y-%m-%d %H:%M:%S')"; }

# The scheduler warns some minutes before the time is over. The command is told, and stops where it can continue;
# what has not stopped shortly before the end is ended.
warned=
warn() {
    woken=yes
    [ -z "$warned" ] || return 0
    warned=yes
    say "is warned that its time is nearly over"
    for ((second = 0; second < 540; second++)); do
        kill -0 "$child" 2>/dev/null || return 0
        # more than once, for a program that has only just begun does not listen yet
        ((second % 10)) || kill -USR1 "$child" 2>/dev/null
        sleep 1
    done
    kill -TERM "$child" 2>/dev/null
    sleep 15
    kill -KILL "$child" 2>/dev/null
}

woken=
stop() {
    woken=yes
    for number in $(jobs -p); do kill -TERM "$number" 2>/dev/null; done
}
trap stop INT TERM
say "begins on $(uname -n)"
(trap '' USR1 && exec "${command[@]}") &
child=$!
trap warn USR1
code=0
wait "$child" || code=$?
while [ -n "$woken" ]; do # a signal has ended the waiting, not the command
    woken=
    waited=0
    wait "$child" || waited=$?
    [ "$waited" -eq 127 ] || code=$waited
done
say "ended with exit code $code"
if [ -n "$warned" ] && [ "$code" -ge 128 ] && [ -n "${LSB_JOBID:-}" ]; then
    asks="asks LSF to run job $LSB_JOBID again"
    if [ "$(grep -cF "$asks" "$log")" -lt 20 ]; then
        say "$asks"
        exit 99
    else
        say "gives up after 20 restarts; handed over once more, it continues,"
    fi
fi
exit "$code"
