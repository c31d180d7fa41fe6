"""OpenPBS: what `qsub` is told, and what `qstat` answers."""

from __future__ import annotations

import os
import re
import subprocess

from nnunet_al.jobs.submission import cancel
from nnunet_al.jobs.targets import ask, render
from nnunet_al.jobs.targets.queue import Seen

from .small_plans import USIMF, small_plan

QSTAT = """\
Job id            Name             User              Time Use S Queue
----------------  ---------------- ----------------  -------- - -----
12.server         train.fold_0     someone           00:00:00 R gpu
13[].server       score.fold_0     someone                  0 B gpu
13[0].server      score.fold_0     someone                  0 X gpu
13[1].server      score.fold_0     someone                  0 Q gpu
14.server         select.fold_0    someone                  0 H cpu
99.server         other            other                    0 R cpu
"""


def program(folder, name, text):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/bash\n{text}\n")
    (folder / name).chmod(0o755)


def test_jobs_wait_for_arrays_and_for_what_is_in_the_queue(tmp_path):
    notes = tmp_path / "notes"
    text = f"""echo "$@" >>'{notes}'; n=$(wc -l <'{notes}'); [[ " $* " != *" -J "* ]] || n="$n[]"; echo "$n.server" """
    program(tmp_path / "bin", "qsub", text)
    plan = small_plan(tmp_path, rounds=1)
    files = render("pbs", plan, {f"{USIMF}/start": "7001", f"{USIMF}/embed 1": "70[]_1"})
    (tmp_path / "submit.sh").write_text(files["submit.sh"])
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", tmp_path / "submit.sh"], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    ids = {key: id_ for id_, key in (line.split("  ") for line in done.stdout.splitlines())}
    lines = dict(zip(ids, notes.read_text().splitlines(), strict=True))
    waits = {key: re.findall(r"afterok:(\S+)", line) for key, line in lines.items()}
    assert re.fullmatch(r"\d+\[\]", ids[f"{USIMF}/score 1"])
    assert waits[f"{USIMF}/prepare 1"] == ["7001"]
    assert waits[f"{USIMF}/fisher 1"] == [ids[f"{USIMF}/score 1"]]
    assert waits[f"{USIMF}/select 1"] == [f"{ids[f'{USIMF}/evaluate 1']}:{ids[f'{USIMF}/embed 1']}:70[1]"]
    assert lines[f"{USIMF}/score 1"].startswith("-v AL_ROUND=1 -J 0-1%3 -W depend=")


def test_what_qstat_says_of_jobs_and_how_they_are_cancelled(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    program(tmp_path / "bin", "qstat", f"cat <<'END'\n{QSTAT}END")
    program(tmp_path / "bin", "qdel", f"echo \"$@\" >'{tmp_path / 'cancelled'}'")
    assert ask("pbs", ["12", "13[]", "14", "15"]) == {
        "12": {None: Seen("runs")},
        "13[]": {1: Seen("waits")},
        "14": {None: Seen("waits")},
    }
    cancel("pbs", [("13[]", 1), ("14", None)])
    assert (tmp_path / "cancelled").read_text() == "13[1] 14\n"
