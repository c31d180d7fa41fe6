"""submitit: the script that hands jobs over, and what runs inside of them, with stand-ins for Slurm and our commands.

NNUNET_AL_WRITE_GOLDEN=1 writes the golden file anew.
"""

from __future__ import annotations

import importlib.util
import json
import os
import pickle
import shlex
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from nnunet_al.campaign.jobs import submitit_job
from nnunet_al.campaign.jobs.folder import JobFolder
from nnunet_al.campaign.jobs.log_tail import last_run
from nnunet_al.campaign.jobs.plan import Plan
from nnunet_al.campaign.jobs.submitit_job import Command, CommandFailed
from nnunet_al.campaign.jobs.targets import render
from nnunet_al.campaign.jobs.targets.template import EMPTY, read_template
from nnunet_al.errors import CampaignError, SetupError

from .small_plans import PREPARE, RANDOM, USIMF, WEIRD, small_plan

pytest.importorskip("submitit")

GOLDEN = Path(__file__).parent / "golden" / "submitit" / "submit.py.txt"  # with another ending, as no module of ours
PATIENCE = 30.0
ROOT_WITHOUT_PERCENT = WEIRD.replace("%", "")  # submitit takes "%" in its own folder's name for a variable

_TOP = """\
#!{python} -IS
import json, os, signal, sys, time
def note(kind, **content):
    path = os.path.join({notes!r}, f"{{kind}}_{{time.time_ns()}}.json")
    with open(path + ".new", "w") as file:
        json.dump(content, file)
    os.rename(path + ".new", path)
def notes(kind):
    return [name for name in os.listdir({notes!r}) if name.startswith(kind) and name.endswith(".json")]
words = " ".join(sys.argv[1:])
"""
# it does what its arguments or the test's behaviour say: exit codes, and waiting for a signal
_COMMAND = """
with open(os.path.join({notes!r}, "behaviour")) as file:
    does = next((does for key, does in json.load(file).items() if key in words), 0)
print("output of", words, flush=True)
for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda number, frame: (note("signal", number=number), os._exit(130)))
note("call", argv=sys.argv, environment=dict(os.environ))
if does == "waits":
    while True:
        signal.pause()
sys.exit(does)
"""
_SBATCH = """
number = 100 + len(notes("sbatch"))
if str(number) == os.environ.get("FAKE_REFUSES"):
    sys.exit("sbatch: error: QOSMaxSubmitJobPerUserLimit")
with open(sys.argv[1]) as file:
    note("sbatch", number=number, script=file.read())
print("Submitted batch job", number)
"""
_SRUN = """
rest = sys.argv[1:]
while rest[0].startswith("-"):
    rest = rest[2:] if rest[0] in ("--output", "--error") else rest[1:]
os.execv(rest[0], rest)
"""


class Machine:
    """A job folder with weird names, programs that note how they were called, and what they noted."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / WEIRD
        self.jobs = folder / ROOT_WITHOUT_PERCENT / "jobs"
        self.notes = folder / "notes"
        self.notes.mkdir()
        self.behave({})
        for place, programs in {
            folder / "slurm": {"sbatch": _SBATCH, "srun": _SRUN, "scontrol": 'note("scontrol", argv=sys.argv)'},
            self.root / "bin": {"nnUNetv2_al_round": _COMMAND, "nnUNetv2_al_prepare": _COMMAND},
        }.items():
            place.mkdir(parents=True)
            for name, text in programs.items():
                (place / name).write_text((_TOP + text).format(python=sys.executable, notes=str(self.notes)))
                (place / name).chmod(0o755)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SUBMITIT"))}
        self.environment = {**kept, "PATH": f"{folder / 'slurm'}:{os.environ['PATH']}"}

    def behave(self, does: dict) -> None:
        (self.notes / "behaviour").write_text(json.dumps(does))

    def write(self, plan: Plan, queued: dict | None = None, template=EMPTY) -> None:
        JobFolder(self.jobs).write(plan, "submitit", render("submitit", plan, queued or {}, template), "submit.py")

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, self.jobs / "submit.py", *arguments],
            env={**self.environment, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def submit(self, *arguments: str, **variables: str) -> tuple[int, str, str]:
        process = self.start(*arguments, **variables)
        out, errors = process.communicate(timeout=PATIENCE)
        return process.returncode, out, errors

    def read(self, kind: str) -> list[dict]:
        return [json.loads(path.read_text()) for path in sorted(self.notes.glob(f"{kind}_*.json"))]

    def wait_for(self, kind: str, number: int = 1) -> list[dict]:
        end = time.monotonic() + PATIENCE
        while len(found := self.read(kind)) < number:
            assert time.monotonic() < end, f"{number} x {kind} did not come: {found}"
            time.sleep(0.02)
        return found

    def run_job(self, taken: dict, task: int | None = None) -> subprocess.Popen:
        """Start a job as Slurm does, as a group of processes of its own."""
        script = self.notes / f"script_{taken['number']}"
        script.write_text(taken["script"])
        number = str(taken["number"])
        variables = {"SLURM_JOB_ID": number if task is None else "9999"}
        if task is not None:
            variables |= {"SLURM_ARRAY_JOB_ID": number, "SLURM_ARRAY_TASK_ID": str(task)}
        return subprocess.Popen(
            ["bash", script],
            env={**self.environment, **variables},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )


def options_of(taken: dict) -> dict[str, str]:
    """The options of a script as Slurm reads them: up to the first command, and the last one of a name wins."""
    found = {}
    for line in taken["script"].splitlines():
        if line and not line.startswith("#"):
            break
        if line.startswith("#SBATCH "):
            for word in shlex.split(line)[1:]:
                name, _, value = word.partition("=")
                found[name] = value
    return found


def only(plan: Plan, *keys: str) -> Plan:
    """The plan with some of its jobs."""
    jobs = [replace(plan.by_key[key], after=tuple(k for k in plan.by_key[key].after if k in keys)) for key in keys]
    return replace(plan, jobs=tuple(jobs))


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


@pytest.fixture
def site(tmp_path):
    """What a site adds."""
    file = tmp_path / "site.txt"
    file.write_text(
        "#SBATCH --account=radiology\n[gpu]\n#SBATCH -p a100\n"
        "[train]\n#SBATCH --mem=99G\nset -u\nexport SITE='it\"s $1'\n"
    )
    return read_template(file, "#SBATCH")


# ---------------------------------------------------------------- the script as text


def test_the_script_is_the_golden_one(site):
    plan = small_plan(Path("/data") / WEIRD)
    files = render("submitit", plan, {f"{USIMF}/score 1": "17_0", f"{RANDOM}/start": "12"}, site)
    assert list(files) == ["submit.py"]
    if os.environ.get("NNUNET_AL_WRITE_GOLDEN"):
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(files["submit.py"])
    assert files["submit.py"] == GOLDEN.read_text()
    compile(files["submit.py"], "submit.py", "exec")


def test_a_script_that_asks_for_more_than_its_phase_has_settings_of_its_own():
    plan = small_plan(Path("/data"))
    name = f"{RANDOM}/train"
    bigger = replace(plan.scripts[name], needs=replace(plan.scripts[name].needs, memory_gb=77))
    text = render("submitit", replace(plan, scripts={**plan.scripts, name: bigger}), {})["submit.py"]
    assert text.count('"mem_gb": 77') == 1
    assert text.index(f'"{name}": {{') < text.index('"mem_gb": 77')


@pytest.mark.parametrize("option", ["--array=0-3", "-a 0-3", "-o x.txt", "--signal USR1@60", "--ntasks=2"])
def test_a_template_cannot_decide_what_submitit_decides(tmp_path, option):
    (tmp_path / "site.txt").write_text(f"#SBATCH {option}\n")
    template = read_template(tmp_path / "site.txt", "#SBATCH")
    with pytest.raises(CampaignError, match="because submitit decides --"):
        render("submitit", small_plan(tmp_path), {}, template)


def test_without_submitit_it_is_refused_with_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SetupError, match=r'pip install "nnunet-al\[cluster\]"'):
        render("submitit", small_plan(tmp_path), {})


# ---------------------------------------------------------------- Slurm


def test_jobs_are_handed_over_each_behind_those_that_it_waits_for(machine, site):
    plan = small_plan(machine.root, rounds=1)
    machine.write(plan, template=site)
    code, out, errors = machine.submit("slurm")
    assert (code, errors) == (0, "")
    taken = machine.read("sbatch")
    assert len(taken) == len(plan.jobs)
    numbers = {job.key: str(one["number"]) for job, one in zip(plan.jobs, taken, strict=True)}
    for job, one in zip(plan.jobs, taken, strict=True):
        options, script = options_of(one), plan.scripts[job.script]
        waits = [numbers[key] for key in job.after]
        assert options.get("--dependency") == (f"afterok:{':'.join(waits)}" if waits else None)
        assert options.get("--array") == ("0-1%3" if script.parts == 2 else None)
        assert options["--cpus-per-task"] == str(script.needs.cpus)
        assert options.get("--gpus-per-node") == ("1" if script.needs.gpus else None)
        assert options["--mem"] == ("99G" if script.phase == "train" else f"{script.needs.memory_gb}GB")
        assert options["--time"] == str(int(script.needs.hours * 60))
        assert options["--signal"] == "USR2@600"
        assert options["--kill-on-invalid-dep"] == "yes"
        assert "--requeue" in options
        assert options["--account"] == "radiology"
        assert ("-p" in options) == bool(script.needs.gpus)
        assert f" --cpus-per-task={script.needs.cpus} " in one["script"].splitlines()[-1]
    assert JobFolder(machine.jobs).submitted() == numbers
    assert out.splitlines() == [f"{numbers[job.key]}  {job.key}" for job in plan.jobs]


def test_what_is_in_the_queue_is_waited_for_and_not_handed_over_again(machine):
    plan = only(small_plan(machine.root, limit=None), f"{USIMF}/train 1", f"{USIMF}/score 1", f"{USIMF}/fisher 1")
    machine.write(plan, {f"{USIMF}/train 1": "17", f"{USIMF}/score 1": "18_0"})
    assert machine.submit("slurm")[0] == 0
    score, fisher = (options_of(taken) for taken in machine.read("sbatch"))
    assert (score["--dependency"], score["--array"]) == ("afterok:17", "1")
    assert fisher["--dependency"] == "afterok:18_0:100"
    assert JobFolder(machine.jobs).submitted() == {f"{USIMF}/score 1": "100", f"{USIMF}/fisher 1": "101"}


def test_when_slurm_refuses_the_jobs_before_it_are_noted(machine):
    machine.write(small_plan(machine.root))
    code, _, errors = machine.submit("slurm", FAKE_REFUSES="102")
    assert code == 2
    assert "Slurm did not take Dataset004_Hippocampus/2d__usimf__seed0/fold_0/prepare 1 (sbatch: error: QOS" in errors
    assert list(JobFolder(machine.jobs).submitted().values()) == ["100", "101"]


def test_a_task_of_an_array_does_its_part_wherever_the_others_are(machine):
    plan = only(small_plan(machine.root), f"{USIMF}/score 1")
    plan = replace(plan, jobs=(replace(plan.jobs[0], missing=(1,)),))
    machine.write(plan)
    assert machine.submit("slurm")[0] == 0
    (taken,) = machine.read("sbatch")
    assert options_of(taken)["--array"] == "1%3"
    assert [folder.name for folder in (machine.jobs / "submitit").iterdir() if folder.is_dir()] != []
    assert not (machine.jobs / "submitit" / "100_0").exists()
    job = machine.run_job(taken, task=1)
    assert job.wait(PATIENCE) == 0
    (call,) = machine.read("call")
    words = plan.scripts[f"{USIMF}/score"].command[1:]
    assert call["argv"][1:] == [*words, "-round", "1", "-num_parts", "2", "-part_id", "1"]
    log = plan.log(plan.jobs[0], "1")
    assert log.name == "round_001_score_1.txt"
    assert "output of -d 4" in log.read_text()


def test_a_job_has_its_variables_and_the_site_may_add_to_them(machine, site):
    plan = only(small_plan(machine.root), f"{USIMF}/train 1")
    machine.write(plan, template=site)
    assert machine.submit("slurm")[0] == 0
    assert machine.run_job(machine.read("sbatch")[0]).wait(PATIENCE) == 0
    environment = machine.read("call")[0]["environment"]
    assert environment["nnUNet_results"] == str(machine.root / "nnUNet_results")
    assert environment["nnUNet_n_proc_DA"] == "7"  # of 8 CPUs
    assert environment["SITE"] == 'it"s $1'
    assert environment["PATH"].startswith(f"{machine.root / 'bin'}:")


def test_warned_it_stops_is_put_back_into_the_queue_and_continues(machine):
    plan = only(small_plan(machine.root), f"{USIMF}/train 1")
    machine.write(plan)
    machine.behave({"-phase train": "waits"})
    assert machine.submit("slurm")[0] == 0
    (taken,) = machine.read("sbatch")
    job = machine.run_job(taken)
    machine.wait_for("call")
    for process in processes_of(job.pid):  # Slurm signals all processes of a step, but not the script
        if process != job.pid:
            os.kill(process, signal.SIGUSR2)
    assert machine.wait_for("scontrol")[0]["argv"][1:] == ["requeue", "100"]
    assert job.wait(PATIENCE) != 0
    assert [one["number"] for one in machine.read("signal")] == [signal.SIGUSR1]

    machine.behave({})
    assert machine.run_job(taken).wait(PATIENCE) == 0
    first, second = machine.read("call")
    assert first["argv"] == second["argv"]
    lines = plan.log(plan.jobs[0]).read_text().splitlines()
    said = [line.rpartition(" at ")[0].partition(" on ")[0] for line in lines if line.startswith("nnunet-al: ")]
    assert said == [
        "nnunet-al: begins",
        "nnunet-al: is warned that its time is nearly over",
        "nnunet-al: ended with exit code 130",
        "nnunet-al: asks submitit to run the job again",
        "nnunet-al: begins",
        "nnunet-al: ended with exit code 0",
    ]


def test_it_gives_up_after_twenty_restarts(machine):
    machine.write(only(small_plan(machine.root), f"{USIMF}/train 1", f"{USIMF}/score 1"))
    assert machine.submit("slurm")[0] == 0
    pickles = sorted((machine.jobs / "submitit").rglob("*_submitted.pkl"))
    assert [path.parent.name for path in pickles] == ["100", "101_0", "101_1"]
    for path in pickles:
        with path.open("rb") as file:
            submission = pickle.load(file)
        assert submission._timeout_countdown == 20
        assert submission._timeout_min == 24 * 60
        assert submission.function.patience_seconds == 540


def test_a_folder_that_submitit_would_take_for_a_pattern_is_refused(tmp_path):
    machine = Machine(tmp_path)
    machine.jobs = tmp_path / "100%j"
    machine.write(small_plan(machine.root))
    code, _, errors = machine.submit("slurm")
    assert code == 2
    assert "submitit cannot work in a folder with a % in its name" in errors


def processes_of(group: int) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(folder.name)) == group:
                found.append(int(folder.name))
        except ProcessLookupError:
            continue
    return found


# ---------------------------------------------------------------- one machine


def test_on_one_machine_jobs_are_done_in_order_and_a_failed_one_stops_those_behind_it(machine):
    plan = only(small_plan(machine.root), f"{RANDOM}/start", f"{RANDOM}/prepare 1", f"{USIMF}/score 1")
    machine.write(plan)
    machine.behave({"-s random": 1})
    machine.environment.pop("CUDA_VISIBLE_DEVICES", None)
    code, out, errors = machine.submit("local")
    assert code == 2
    calls = machine.read("call")
    assert [end_of(call) for call in calls] == [
        "-s random -round 0",
        "-s usimf -round 1 -num_parts 2 -part_id 0",
        "-s usimf -round 1 -num_parts 2 -part_id 1",
    ]
    assert all("CUDA_VISIBLE_DEVICES" not in call["environment"] for call in calls), "submitit hides all GPUs"
    assert [line for line in out.splitlines() if line.endswith("begins")] == [
        f"{RANDOM}/start begins",
        f"{USIMF}/score 1 begins",
    ]
    assert errors.splitlines()[-2:] == [f"{RANDOM}/start", f"{RANDOM}/prepare 1"]
    assert last_run(plan.log(plan.jobs[0])).code == 1
    noted = JobFolder(machine.jobs).history()
    assert {key: len(ids) for key, ids in noted.items()} == {f"{RANDOM}/start": 1, f"{USIMF}/score 1": 2}
    assert all(number.startswith("local-") for ids in noted.values() for number in ids)


def end_of(call: dict) -> str:
    words = call["argv"]
    strategy = words.index("-s")
    return " ".join([*words[strategy : strategy + 2], *words[words.index("-round") :]])


def test_on_one_machine_jobs_see_the_gpus_that_the_caller_sees(machine, site):
    plan = only(small_plan(machine.root), f"{USIMF}/train 1", f"{USIMF}/fisher 1")
    machine.write(plan, {f"{USIMF}/fisher 1": "12"}, site)
    code, _, errors = machine.submit("local", CUDA_VISIBLE_DEVICES="GPU-8,3")
    (call,) = machine.read("call")
    assert call["environment"]["CUDA_VISIBLE_DEVICES"] == "GPU-8,3"
    assert call["environment"]["SITE"] == 'it"s $1'
    assert (code, errors.splitlines()[-1]) == (2, f"{USIMF}/fisher 1"), "which another call has begun"


def test_interrupted_on_one_machine_it_ends_the_command(machine):
    machine.write(only(small_plan(machine.root), PREPARE, f"{USIMF}/start"))
    machine.behave({"-d 4": "waits"})
    process = machine.start("local")
    machine.wait_for("call")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    machine.wait_for("signal")
    assert len(machine.read("call")) == 1


# ---------------------------------------------------------------- what runs in a job


def command(folder: Path, lines: str, **options) -> Command:
    return Command(("bash", "-c", lines), folder / "logs" / "log.txt", **options)


def test_a_command_gets_its_words_and_variables_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setenv("TAKEN", "old")
    monkeypatch.setenv("REMOVED", "x")
    monkeypatch.setenv("KEPT", "as it was")
    show = (
        "import os, sys, json; print(json.dumps([sys.argv[1:], "
        "[os.environ.get(n) for n in ('TAKEN', 'REMOVED', 'KEPT', 'GIVEN')], os.environ['PATH']]))"
    )
    words = [WEIRD, "", "-x", "*", "a\nb", "\\"]
    done = Command(
        (sys.executable, "-c", show, *words),
        tmp_path / WEIRD / "log.txt",
        environment={"TAKEN": WEIRD, "REMOVED": None},
        defaults={"KEPT": "1", "GIVEN": "2"},
        path=(WEIRD,),
    )
    assert pickle.loads(pickle.dumps(done))() == 0
    _, shown, _ = (tmp_path / WEIRD / "log.txt").read_text().splitlines()
    argv, variables, path = json.loads(shown)
    assert argv == words
    assert variables == [WEIRD, None, "as it was", "2"]
    assert path.split(":")[0] == WEIRD


@pytest.mark.parametrize(
    "code, ends_at_readers, succeeds", [(0, False, True), (3, True, True), (3, False, False), (2, True, False)]
)
def test_only_success_is_success(tmp_path, code, ends_at_readers, succeeds):
    run = command(tmp_path, f"exit {code}", ends_at_readers=ends_at_readers)
    if succeeds:
        assert run() == code
    else:
        with pytest.raises(CommandFailed, match=f"^bash ended with exit code {code}, see .*log.txt$"):
            run()
    assert last_run(run.log).code == code


def test_its_output_goes_to_the_end_of_the_log(tmp_path):
    for number in (1, 2):
        command(tmp_path, f"echo out {number}; echo error {number} >&2")()
    lines = (tmp_path / "logs/log.txt").read_text().splitlines()
    assert [line for line in lines if not line.startswith("nnunet-al: ")] == ["out 1", "error 1", "out 2", "error 2"]


def test_interrupted_it_waits_for_the_scheduler_before_it_counts_as_failed(tmp_path, monkeypatch):
    """A scheduler ends the command first, and requeues or ends the job in the next seconds."""
    waited = []
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    monkeypatch.setattr(submitit_job.time, "sleep", waited.append)
    with pytest.raises(CommandFailed):
        command(tmp_path, "exit 130")()
    assert waited == [60]


DEAF = """
import signal, time
signal.signal(signal.SIGUSR1, lambda *_: print("heard", flush=True))
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("listens", flush=True)
while True:
    time.sleep(0.05)
"""


def test_what_does_not_stop_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(submitit_job, "_SECONDS_TO_END", 0.3)
    monkeypatch.setattr(submitit_job, "_SECONDS_BETWEEN_CALLS", 0.2)
    run = Command((sys.executable, "-c", DEAF), tmp_path / "log.txt", patience_seconds=1)
    handed_back = []

    def ask() -> None:
        end = time.monotonic() + PATIENCE
        while "listens" not in (run.log.read_text() if run.log.exists() else "") and time.monotonic() < end:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGUSR2)

    before = signal.signal(signal.SIGUSR2, lambda *_: handed_back.append(run.checkpoint()))  # as submitit does
    try:
        threading.Thread(target=ask, daemon=True).start()
        with pytest.raises(CommandFailed, match="exit code 137"):
            run()
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert run.log.read_text().count("heard") > 1
    (again,) = handed_back
    assert again.function == run
    assert pickle.loads(pickle.dumps(again)).function == run
