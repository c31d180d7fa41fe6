"""How the stand-ins for `sbatch`, `bsub` and `scontrol` read what they are given; started without site-packages."""

import json
import os
import re
import shlex
import sys
import time

SBATCH = {
    *("--job-name", "--nodes", "--ntasks", "--cpus-per-task", "--mem", "--time", "--gres", "--open-mode", "--signal"),
    *("--output", "--array", "--dependency", "--kill-on-invalid-dep", "--account", "--partition"),
}
SBATCH_FLAGS = {"--requeue", "--parsable"}
SBATCH_FORMS = {
    "--time": r"\d+:[0-5]\d:00",
    "--mem": r"\d+G",
    "--gres": r"gpu:[1-9]\d*",
    "--signal": r"B:USR1@\d+",
    "--array": r"\d+(-\d+)?(,\d+(-\d+)?)*(%[1-9]\d*)?",
    "--dependency": r"afterok(:\d+(_\d+)?)+(,afterany(:\d+(_\d+)?)+)?",
    "--kill-on-invalid-dep": "yes|no",
    "--job-name": r"[A-Za-z0-9._-]+",
}
BSUB = {"-J", "-n", "-R", "-W", "-gpu", "-o", "-Q", "-wa", "-wt", "-w", "-P", "-q"}
BSUB_FLAGS = {"-r", "-ti"}
DONE = r"(done|ended)\(\d+(\[\d+\])?\)"
BSUB_FORMS = {
    "-J": r"[A-Za-z0-9._-]{1,200}(\[\d+(-\d+)?(,\d+(-\d+)?)*\](%[1-9]\d*)?)?",
    "-W": r"\d+:[0-5]\d",
    "-wt": r"\d+",
    "-w": rf"{DONE}( && {DONE})*",
}


def main(note, folder):
    program = os.path.basename(sys.argv[0])  # noqa: PTH119
    if program == "scontrol":
        note("scontrol", sys.argv[1:])
        return
    earlier = [name for name in os.listdir(folder) if name.startswith(program)]  # noqa: PTH208
    number = 100 + len(earlier)
    if str(number) == os.environ.get("FAKE_REFUSES"):
        sys.exit(f"{program}: error: QOSMaxSubmitJobPerUserLimit")
    if program == "sbatch":
        options, rest = parse(sys.argv[1:], SBATCH, SBATCH_FLAGS, SBATCH_FORMS)
        with open(rest[0], encoding="utf-8") as file:  # noqa: PTH123
            script = file.read()
    else:
        options, rest = parse(sys.argv[1:], BSUB, BSUB_FLAGS, BSUB_FORMS)
        if rest:
            sys.exit(f"bsub: a command on the line, and so no script: {rest}")
        script = sys.stdin.read()
    if not script.startswith("#!/bin/bash\n"):
        sys.exit(f"{program}: This does not look like a batch script")
    in_script = {}
    if program == "sbatch":
        for line in script.splitlines():
            if line and not line.startswith("#"):
                break  # as the manual says
            if line.startswith("#SBATCH "):
                more, _ = parse(shlex.split(line)[1:], SBATCH, SBATCH_FLAGS, SBATCH_FORMS)
                in_script.update(more)
    else:
        for line in script.splitlines():
            if line.startswith("#BSUB "):
                more, _ = parse(shlex.split(line)[1:], BSUB, BSUB_FLAGS, BSUB_FORMS)
                if twice := in_script.keys() & more.keys():
                    sys.exit(f"bsub: {twice} given twice, which several versions read differently")
                in_script.update(more)
    note(
        program,
        {
            "number": number,
            "options": {**in_script, **options},
            "arguments": rest[1:],
            "script": script,
            "environment": dict(os.environ),
        },
    )
    time.sleep(float(os.environ.get("FAKE_SLOW", "0")))
    if program == "sbatch":
        assert "--parsable" in options
        print(f"{number};cluster" if number % 2 else number)
    elif "BSUB_QUIET" not in os.environ:
        print(f"Job <{number}> is submitted to default queue <normal>.")


def parse(words, known, flags, forms):
    options, position = {}, 0
    while position < len(words) and words[position].startswith("-"):
        name, equals, value = words[position].partition("=")
        position += 1
        if name in flags and not equals:
            options[name] = [""]
            continue
        if name not in known:
            sys.exit(f"unrecognized option '{name}'")
        if not equals:
            value = words[position]
            position += 1
        if name in forms and not re.fullmatch(forms[name], value):
            sys.exit(f"Invalid {name} specification: {json.dumps(value)}")
        options.setdefault(name, []).append(value)
    return options, words[position:]
