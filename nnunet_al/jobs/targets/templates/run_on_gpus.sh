# each GPU takes the next campaign that no other has taken; a folder can be made only once
on_gpu() {
    local number
    export CUDA_VISIBLE_DEVICES=$1
    trap stop INT TERM HUP
    for ((number = 1; number <= __CAMPAIGNS__; number++)); do
        if mkdir "$state/taken_$number" 2>/dev/null; then "campaign_$number"; fi
    done
}
for gpu in __GPUS__; do on_gpu "$gpu" & done
wait
