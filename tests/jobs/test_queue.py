"""What schedulers answer, in the words of Slurm 22 and of LSF 10.1, and what is made of it."""

from __future__ import annotations

import os
import stat
import sys
import time

import pytest

from nnunet_al.jobs.targets import TARGETS, ask, queue
from nnunet_al.jobs.targets.queue import NEVER, Seen


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A function that puts a program on a PATH with nothing else: its arguments and environment go to a file."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def program(name, out="", errors="", code=0, body=""):
        script = f"""#!{sys.executable} -S
import os, sys
with open({str(tmp_path / "calls")!r}, "a") as calls:
    calls.write(repr((sys.argv, os.environ.get("LC_ALL"), os.environ.get("SQUEUE_STATES"))) + "\\n")
{body}
sys.stdout.write({out!r})
sys.stderr.write({errors!r})
sys.exit({code})
"""
        path = folder / name
        path.write_text(script, encoding="utf-8")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    return program


@pytest.fixture
def calls(tmp_path):
    def read():
        file = tmp_path / "calls"
        return [eval(line) for line in file.read_text().splitlines()] if file.exists() else []

    return read


SQUEUE = """\
11|RUNNING|None
12|PENDING|Dependency
13_0|RUNNING|None
13_1|PENDING|Resources
13_10|PENDING|JobArrayTaskLimit
14|PENDING|DependencyNeverSatisfied
15|COMPLETING|None
16|PENDING|Priority
17|REQUEUED|None
18|PENDING|BeginTime
19|CONFIGURING|None
20|SUSPENDED|None
21|PENDING|JobHeldUser
22|PENDING|launch failed requeued held
23|FAILED|NonZeroExitCode
24|PENDING|QOSMaxGRESPerUser
25|PENDING|None
26|REQUEUE_HOLD|JobHeldUser
27|PENDING|PartitionTimeLimit
99|RUNNING|None
"""


def test_slurm(fake, calls, monkeypatch):
    monkeypatch.setenv("SQUEUE_STATES", "RUNNING")  # a person's own filter
    fake("squeue", SQUEUE)
    queue = ask("slurm", {str(number) for number in range(11, 31)})
    assert queue == {
        "11": {None: Seen("runs", "")},
        "12": {None: Seen("waits", "for other jobs")},
        "13": {
            0: Seen("runs", ""),
            1: Seen("waits", "for free resources"),
            10: Seen("waits", "as many tasks of this array run as may"),
        },
        "14": {None: Seen("held", NEVER)},
        "15": {None: Seen("runs", "it is ending")},
        "16": {None: Seen("waits", "behind jobs of a higher priority")},
        "17": {None: Seen("waits", "to run again")},
        "18": {None: Seen("waits", "for its time to begin")},
        "19": {None: Seen("runs", "its node is being made ready")},
        "20": {None: Seen("held", "suspended")},
        "21": {None: Seen("held", "held by its owner")},
        "22": {None: Seen("held", "launch failed requeued held")},
        "24": {None: Seen("waits", "QOSMaxGRESPerUser")},
        "25": {None: Seen("waits", "the scheduler has not looked at it yet")},
        "26": {None: Seen("held", "held after it was put back into the queue")},
        "27": {None: Seen("held", "it asks for more hours than its partition allows")},
    }
    ((arguments, language, states),) = calls()
    ids = ",".join(map(str, range(11, 31)))
    assert arguments[1:] == ["-h", "-r", "-o", "%i|%T|%r", "-j", ids]
    assert (language, states) == ("C", None)


def test_slurm_has_forgotten_the_only_job(fake, calls):
    fake("squeue", errors="slurm_load_jobs error: Invalid job id specified\n", code=1)
    assert ask("slurm", {"11"}) == {}
    assert len(calls()) == 1


def test_slurm_refuses_all_ids_for_one(fake, calls):
    body = """
if "-j" in sys.argv:
    sys.stderr.write("slurm_load_jobs error: Invalid job id specified\\n")
    sys.exit(1)
"""
    fake("squeue", "11|RUNNING|None\n77|RUNNING|None\n", body=body)
    assert ask("slurm", {"11", "12"}) == {"11": {None: Seen("runs", "")}}
    assert calls()[1][0][-2:] == ["-u", str(os.getuid())]


@pytest.mark.parametrize(
    "name, target, errors",
    [
        ("squeue", "slurm", "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n"),
        ("bjobs", "lsf", "LSF is down. Please wait ...\n"),
        ("bjobs", "lsf", "batch system daemon not responding ... still trying\nJob <12> is not found\n"),
    ],
)
def test_a_scheduler_that_fails_says_nothing(fake, name, target, errors):
    fake(name, errors=errors, code=255)
    assert ask(target, {"11", "12"}) is None


@pytest.mark.parametrize("target", [*TARGETS, "that of a later version"])
def test_a_scheduler_that_is_absent_says_nothing(monkeypatch, tmp_path, target):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ask(target, {"11"}) is None


@pytest.mark.parametrize("target", [name for name, target in TARGETS.items() if target.has_queue])
def test_nothing_is_asked_about_no_jobs(monkeypatch, tmp_path, target):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ask(target, set()) == {}


def test_a_scheduler_that_hangs_says_nothing_and_is_ended(fake, tmp_path, monkeypatch):
    monkeypatch.setattr(queue, "PATIENCE_SECONDS", 0.3)
    pid_file = tmp_path / "pid"
    fake("squeue", body=f"import time\nopen({str(pid_file)!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)")
    began = time.monotonic()
    assert ask("slurm", {"11"}) is None
    assert time.monotonic() - began < 30
    if pid_file.exists() and pid_file.read_text():
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid_file.read_text()), 0)


def test_an_answer_that_is_too_long_says_nothing(fake, monkeypatch):
    monkeypatch.setattr(queue, "_MOST_BYTES", 20)
    fake("squeue", "11|RUNNING|None\n12|RUNNING|None\n")
    assert ask("slurm", {"11", "12"}) is None


def test_many_ids_are_asked_in_chunks_and_one_silence_is_silence(fake, calls, monkeypatch):
    monkeypatch.setattr(queue, "_AT_ONCE", 2)
    echo = "for id_ in sys.argv[-1].split(','): sys.stdout.write(id_ + '|RUNNING|None\\n')"
    fake("squeue", body=echo)
    assert ask("slurm", {"1", "2", "3", "10", "20"}).keys() == {"1", "2", "3", "10", "20"}
    assert [call[0][-1] for call in calls()] == ["1,2", "3,10", "20"]
    fake("squeue", body=f"if '10' in sys.argv[-1]: sys.exit(1)\n{echo}")
    assert ask("slurm", {"1", "2", "3", "10", "20"}) is None


def test_ids_keep_the_form_in_which_they_were_noted(fake):
    fake("squeue", SQUEUE)
    queue = ask("slurm", {"11;cluster", "13_1", "13_5", "no id"})
    assert queue == {"11;cluster": {None: Seen("runs", "")}, "13_1": {1: Seen("waits", "for free resources")}}


def test_nonsense_is_no_job(fake):
    fake("squeue", "\n|\n11\nbanner of the site\n11_[1-3]|PENDING|None\n12|RUNNING\n12+1|RUNNING|None\n\xff|a|b\n")
    assert ask("slurm", {"11", "12"}) == {"12": {None: Seen("runs", "")}}


BJOBS = """\
101|0|RUN|-
102|0|PEND|Job dependency condition not satisfied;
103|1|RUN|-
103|2|PEND|New job is waiting for scheduling;
103|3|DONE|-
103|4|EXIT|-
104|0|PSUSP|The job was suspended by the user while pending;
105|0|SSUSP|-
106|0|USUSP|-
107|0|PEND|Dependency condition invalid or never satisfied;
108|0|UNKWN|-
109|0|PROV|-
110|0|ZOMBI|-
111[2]|2|RUN|-
112|0|PEND|Individual host-based reasons: 3 hosts | Load information unavailable: 1 host;
"""


def test_lsf(fake, calls):
    fake("bjobs", BJOBS, "Job <199> is not found\n", code=255)
    queue = ask("lsf", {*(str(number) for number in range(101, 113)), "199"})
    assert queue == {
        "101": {None: Seen("runs", "")},
        "102": {None: Seen("waits", "Job dependency condition not satisfied")},
        "103": {0: Seen("runs", ""), 1: Seen("waits", "New job is waiting for scheduling")},
        "104": {None: Seen("held", "held")},
        "105": {None: Seen("held", "suspended by the scheduler")},
        "106": {None: Seen("held", "suspended by its owner")},
        "107": {None: Seen("held", NEVER)},
        "108": {None: Seen("runs", "its host does not answer")},
        "109": {None: Seen("runs", "its host is being made ready")},
        "111": {1: Seen("runs", "")},
        "112": {None: Seen("waits", "Individual host-based reasons: 3 hosts | Load information unavailable: 1 host")},
    }
    ((arguments, _, _),) = calls()
    assert arguments[1:6] == ["-u", "all", "-noheader", "-o", "jobid jobindex stat pend_reason delimiter='|'"]
    assert arguments[6:] == [*(str(number) for number in range(101, 113)), "199"]


def test_lsf_has_forgotten_all_jobs(fake):
    fake("bjobs", errors="Job <101> is not found\nJob <102> is not found\n", code=255)
    assert ask("lsf", {"101", "102"}) == {}


def test_an_older_lsf_gives_no_reasons(fake):
    body = """
if "pend_reason" in sys.argv[5]:
    sys.stderr.write("pend_reason: Invalid field name\\n")
    sys.exit(255)
"""
    fake("bjobs", "101|0|PEND\n103|2|RUN\n", body=body)
    assert ask("lsf", {"101", "103"}) == {"101": {None: Seen("waits", "")}, "103": {1: Seen("runs", "")}}
