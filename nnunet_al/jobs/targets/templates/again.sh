if [ -n "$warned" ] && [ "$code" -ge 128 ] && [ -n "${__JOB__:-}" ]; then
    __BEFORE__
    if [ "__COUNT__" -lt __RESTARTS__ ]; then
        say "__WORDS__"
        __COMMAND__
    else
        say "gives up after __RESTARTS__ restarts; handed over once more, it continues,"
    fi
fi
