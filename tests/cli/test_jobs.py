"""`nnUNetv2_al_jobs`: campaigns become scripts, and nothing is started that nobody asked for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from jobs.fake_schedulers import Fakes
from jobs.planned_campaigns import ask_for, begin, campaign_request, jobs_request, mark
from tiny_rounds import run_command, set_roots, snapshot

from nnunet_al.cli import jobs
from nnunet_al.jobs.folder import JobFolder
from nnunet_al.jobs.registry import folders_of
from nnunet_al.jobs.targets import TARGETS
from nnunet_al.nnunet.environment import Roots

DATASET = "Dataset004_Hippocampus"
PLACE = 'it\'s a 50% "test" é'
ONE = ("-d", "4", "-s", "random", "-rounds", "1")
SHORT = f"{DATASET}/2d__random__seed0/fold_0"


@pytest.fixture
def roots(tmp_path, monkeypatch) -> Roots:
    """nnU-Net's folders with two datasets, of which only the names are looked at, in a folder with an odd name."""
    for name, value in set_roots(tmp_path / PLACE).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    roots = Roots.from_environment()
    for dataset in (DATASET, "Dataset005_Prostate"):
        (roots.raw / dataset).mkdir()
    return roots


@pytest.fixture
def slurm(tmp_path, monkeypatch) -> Fakes:
    """A Slurm that takes jobs, and lists in its queue what `queue.txt` holds."""
    fakes = Fakes(tmp_path / "fakes")
    for name, value in fakes.environment.items():
        monkeypatch.setenv(name, value)
    for name, answer in {"squeue": f"cat {fakes.notes}/queue.txt", "scancel": "true"}.items():
        text = f"#!/bin/bash\nprintf '%s\\n' \"$*\" >>{fakes.notes}/{name}_calls\n{answer}\n"
        (fakes.bin / name).write_text(text)
        (fakes.bin / name).chmod(0o755)
    (fakes.notes / "queue.txt").write_text("")
    return fakes


def call(*arguments: object) -> int:
    return run_command(jobs.main, *arguments)


def keys(folder: str) -> list[str]:
    plan = JobFolder(Path(folder)).load().plan
    return [job.key.removeprefix(f"{SHORT}/") for job in plan.jobs]


CHECK = f"{DATASET}/prepare"
ROUND_1 = [f"{name} 1" for name in ("prepare", "train", "evaluate", "select")]


def test_scripts_are_written_and_nothing_is_started(roots, tmp_path, slurm, capsys):
    assert call(*ONE, "-to", "slurm", "-o", "my jobs") == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.splitlines() == [
        "my jobs: 6 scripts for 6 jobs of 1 campaign; 0 are done.",
        "Nothing was started. This hands them over: nnUNetv2_al_jobs -o 'my jobs' --submit",
    ]
    assert keys("my jobs") == [CHECK, "start", *ROUND_1]
    files = {str(path.relative_to("my jobs")) for path in Path("my jobs").rglob("*") if path.is_file()}
    scripts = {CHECK, *(f"{SHORT}/{name.split()[0]}" for name in ("start", *ROUND_1))}
    assert files == {"plan.json", "lock", "submit.sh", *(f"{name}.sh" for name in scripts)}
    assert (roots.results / SHORT.replace("/", "/al/", 1) / "job_logs").is_dir()
    assert folders_of(roots.results / DATASET / "al") == [tmp_path / "my jobs"]
    assert slurm.taken("sbatch") == []
    assert not (slurm.notes / "squeue_calls").exists()


def test_campaigns_are_those_of_many_options(roots, capsys):
    words = ("-d", "5", DATASET, "-c", "2d", "3d_fullres", "-s", "usimf", "random", "-f", 0, 1, "-seeds", 0, 1, 2)
    assert call(*words, "-rounds", 2, "-passes", 3, "-to", "lsf", "-o", "jobs", "-num_parts", 2, "-limit", 3) == 0
    plan = JobFolder(Path("jobs")).load().plan
    campaigns = {script.campaign for script in plan.scripts.values() if script.campaign}
    assert (len(campaigns), JobFolder(Path("jobs")).load().target, plan.limit) == (2 * 2 * 2 * 2 * 3, "lsf", 3)
    commands = {script.name: " ".join(script.command) for script in plan.scripts.values()}
    assert "-d 5" in commands["Dataset005_Prostate/prepare"]
    usimf = commands[f"{DATASET}/3d_fullres__usimf__seed2/fold_1/start"]
    assert f"-d {DATASET} -c 3d_fullres -s usimf -f 1 -seed 2" in usimf
    assert "passes=3" in usimf
    assert "passes" not in commands[f"{DATASET}/2d__random__seed0/fold_0/start"]


def test_files_are_found_from_elsewhere(roots, tmp_path, monkeypatch):
    Path("my groups.tsv").write_text("participant_id\tsex\n")
    Path("site.txt").write_text("#SBATCH --account=mine\n")
    words = ("-d", 4, "-s", "random", "-groups", "my groups.tsv", "-group_by", "sex")
    assert call(*words, "-template", "site.txt", "-to", "slurm", "-o", "jobs") == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for _ in range(2):
        assert call("-o", "../jobs") == 0
        plan = JobFolder(tmp_path / "jobs").load().plan
        assert str(tmp_path / "my groups.tsv") in plan.scripts[f"{SHORT}/start"].command
        assert "#SBATCH --account=mine" in (tmp_path / "jobs" / f"{SHORT}/train.sh").read_text()
    assert not any((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("-o", "new"), "-o new holds no jobs yet: say which with -d, -s and -to."),
        ((*ONE, "-o", "new"), f"-to: say what runs the jobs, one of {', '.join(TARGETS)}."),
        (("-o", "new", "-s", "random", "--submit"), "-s without -d"),
        (("-d", "4", "-o", "new", "-to", "lsf"), "-s: name at least one strategy"),
        ((*ONE, "-to", "slurm", "-o", "full"), "full: the folder holds something else"),
        ((*ONE, "-to", "slurm", "-o", "new", "-gpus", "0"), "-gpus: only -to shell"),
        ((*ONE, "-to", "shell", "-o", "new", "-num_parts", "2"), "-num_parts: -to shell"),
        ((*ONE, "-to", "lsf", "-o", "new", "-hours", "train"), "-hours train: give"),
        ((*ONE, "-to", "lsf", "-o", "new", "-num_gpus", "9", "-cpus", "8"), "-num_gpus 9"),
        ((*ONE, "-to", "lsf", "-o", "new", "-template", "none.txt"), "none.txt cannot be read"),
        (("-d", "4", "9", "-s", "random", "-to", "lsf", "-o", "new"), "There is no dataset 9"),
        (("-d", "4", "-s", "randm", "-to", "lsf", "-o", "new"), "There is no strategy 'randm'"),
        ((*ONE, "-to", "lsf", "-o", "new", "-c", "2d", "a/b"), "-c 'a/b'"),
        ((*ONE, "-to", "lsf", "-o", "new", "-b", "0"), "-b 0: give at least 1"),
        ((*ONE, "-to", "lsf", "-o", "new", "-scoring_batch_size", "0"), "-scoring_batch_size 0"),
    ],
)
def test_whatever_is_wrong_is_said_before_anything_is_written(roots, tmp_path, capsys, arguments, words):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.tex").write_text("x")
    before = snapshot(tmp_path)
    assert call(*arguments) == 2
    said = capsys.readouterr()
    assert words in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""
    assert snapshot(tmp_path) == before


def test_a_folder_stays_with_its_target_and_its_roots(roots, tmp_path, monkeypatch, capsys):
    assert call(*ONE, "-to", "slurm", "-o", "jobs") == 0
    before = snapshot(tmp_path)
    assert call(*ONE, "-to", "lsf", "-o", "jobs") == 2
    assert "-to lsf: the jobs in jobs are for slurm" in capsys.readouterr().err
    (tmp_path / "other").mkdir()
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "other"))
    assert call("-o", "jobs", "--submit") == 2
    assert "set it as it was" in capsys.readouterr().err
    (tmp_path / "other").rmdir()
    assert snapshot(tmp_path) == before


def test_submitting_hands_everything_over_once(roots, slurm, capfd):
    assert call(*ONE, "-to", "slurm", "-o", "jobs") == 0
    assert call("-o", "jobs", "--submit") == 0
    taken = slurm.taken("sbatch")
    assert len(taken) == 6
    assert not (slurm.notes / "squeue_calls").exists(), "there was nothing to ask for"
    folder = JobFolder(Path("jobs"))
    numbers = {key: int(id_) for key, id_ in folder.submitted().items()}
    assert list(numbers.values()) == [one.number for one in taken]

    (slurm.notes / "queue.txt").write_text("".join(f"{number}|PENDING|Dependency\n" for number in numbers.values()))
    capfd.readouterr()
    assert call("-o", "jobs", "--submit") == 0
    assert len(slurm.taken("sbatch")) == 6
    assert "In the queue already, to stay there: 6 jobs." in capfd.readouterr().out


def test_what_has_failed_is_handed_over_again_with_all_behind_it(roots, slurm, capfd):
    words = ("-d", "4", "-s", "random_foreground", "-rounds", 1, "-num_parts", 3, "-to", "slurm", "-o", "jobs")
    assert call(*words, "--submit") == 0
    numbers = {key.rpartition("/")[2]: int(id_) for key, id_ in JobFolder(Path("jobs")).submitted().items()}
    folder = begin(jobs_request(roots, campaign_request("random_foreground", rounds=1)))
    mark(folder, 0, "annotate")
    mark(folder, 1, "labels", "fingerprint", "plan", "preprocess", "images", "train", "score_part_0_of_3")
    score, select, evaluate = (numbers[f"{name} 1"] for name in ("score", "select", "evaluate"))
    # part 0 is done, part 1 has failed, part 2 and the evaluation run; the selection would wait for ever
    queue = f"{score}_2|RUNNING|None\n{evaluate}|RUNNING|None\n{select}|PENDING|Dependency\n"
    (slurm.notes / "queue.txt").write_text(queue)
    capfd.readouterr()
    assert call("-o", "jobs", "--submit") == 0
    assert "to be handed over again: 1 task." in capfd.readouterr().out
    assert (slurm.notes / "scancel_calls").read_text() == f"{select}\n"
    again = slurm.taken("sbatch")[len(numbers) :]
    assert [one.options.get("--array") for one in again] == [["1"], None]
    (dependency,) = again[1].options["--dependency"]
    assert sorted(dependency.removeprefix("afterok:").split(":")) == sorted(
        [str(evaluate), f"{score}_2", str(again[0].number)]
    )


def test_a_scheduler_that_does_not_answer_gets_nothing_twice(roots, slurm, capfd):
    assert call(*ONE, "-to", "slurm", "-o", "jobs", "--submit") == 0
    (slurm.bin / "squeue").write_text("#!/bin/bash\nexit 1\n")
    capfd.readouterr()
    assert call("-o", "jobs", "--submit") == 0
    assert "No scheduler answered: 6 jobs" in capfd.readouterr().out
    assert len(slurm.taken("sbatch")) == 6
    assert call("-o", "jobs", "--resubmit") == 0
    assert len(slurm.taken("sbatch")) == 12
    assert call("-d", "4", "-s", "random", "-rounds", 1, "-o", "jobs", "-num_parts", 2) == 0, "it has no array"


def test_a_scheduler_that_refuses_is_one_sentence(roots, slurm, capfd):
    assert call(*ONE, "-to", "slurm", "-o", "jobs") == 0
    (slurm.bin / "sbatch").write_text("#!/bin/bash\necho 'sbatch: error: Invalid account' >&2\nexit 1\n")
    assert call("-o", "jobs", "--submit") == 2
    error = capfd.readouterr().err.splitlines()[-1]
    assert error.startswith("Error: Not all jobs were handed over (sbatch: error: Invalid account)")


def test_other_options_into_the_same_folder(roots, slurm, capfd):
    assert call(*ONE, "-to", "slurm", "-o", "jobs", "--submit") == 0
    numbers = JobFolder(Path("jobs")).submitted()
    (slurm.notes / "queue.txt").write_text("".join(f"{id_}|PENDING|Priority\n" for id_ in numbers.values()))
    capfd.readouterr()
    assert call("-d", "4", "-s", "entropy", "-rounds", "1", "-o", "jobs") == 0
    said = capfd.readouterr().out
    assert f"In the queue from an earlier plan, and not planned any more: {SHORT}/start (" in said
    assert "no jobs of them now: 2d__random__seed0/fold_0; to keep them, name all" in said
    plan = JobFolder(Path("jobs")).load().plan
    assert JobFolder(Path("jobs")).load().target == "slurm"
    assert not (Path("jobs") / SHORT).exists()
    assert plan.request[-2:] == ("-to", "slurm")


def test_a_broken_plan_is_made_anew_and_nothing_is_handed_over_twice(roots, slurm, capfd):
    assert call(*ONE, "-to", "slurm", "-o", "jobs", "--submit") == 0
    folder = JobFolder(Path("jobs"))
    numbers = folder.submitted()
    (slurm.notes / "queue.txt").write_text("".join(f"{id_}|PENDING|Priority\n" for id_ in numbers.values()))
    folder.plan_file.write_bytes(folder.plan_file.read_bytes()[:300])
    before = snapshot(folder.root)
    capfd.readouterr()
    assert call("-o", "jobs", "--submit") == 2
    assert "plan.json cannot be read: repeat the call with -d, -s and -to" in capfd.readouterr().err
    assert snapshot(folder.root) == before
    assert call(*ONE, "-to", "slurm", "-o", "jobs", "--submit") == 0
    said = capfd.readouterr().out
    assert "In the queue already, to stay there: 6 jobs." in said
    assert "Not asked for any more" not in said
    assert folder.submitted() == numbers
    assert len(slurm.taken("sbatch")) == 6


def test_readers_end_the_jobs_and_the_same_call_goes_on(roots, capsys):
    words = ("-d", "4", "-s", "random", "entropy", "-rounds", 2, "--annotate", "-to", "slurm", "-o", "jobs")
    assert call(*words) == 0
    assert keys("jobs") == [CHECK, "start", f"{DATASET}/2d__entropy__seed0/fold_0/start"]
    folders = []
    for strategy in ("random", "entropy"):
        request = jobs_request(roots, campaign_request(strategy, rounds=2, annotate=True))
        folders.append(begin(request, pool_cases=("case_1",)))
        mark(folders[-1], 0, "select", "hand_out")
        ask_for(folders[-1], 0)
    capsys.readouterr()
    assert call("-o", "jobs") == 3
    assert capsys.readouterr().out == (
        "2 of 2 campaigns wait for readers: 2d__random__seed0/fold_0, 2d__entropy__seed0/fold_0.\n"
    )
    mark(folders[0], 0, "annotate")
    assert call("-o", "jobs") == 0
    assert "1 of 2 campaigns waits for readers: 2d__entropy__seed0/fold_0." in capsys.readouterr().out
    assert keys("jobs") == ROUND_1

    from nnunet_al.cli import collect

    command = f"nnUNetv2_al_jobs -o {Path('jobs').absolute()} --submit"
    assert collect._command(folders[1]) == command
    assert collect._command(type(folders[1])(folders[1].root.with_name("fold_3"))) == "nnUNetv2_al_round"


def test_all_that_is_done_needs_nothing(roots, slurm, capsys):
    folder = begin(jobs_request(roots, campaign_request("random", rounds=1)))
    for number in range(2):
        mark(folder, number, "annotate")
        ask_for(folder, number)
    assert call(*ONE, "-to", "slurm", "-o", "jobs", "--submit") == 0
    assert capsys.readouterr().out == "Nothing is left to do in 1 campaign: 6 jobs done.\n"
    assert slurm.taken("sbatch") == []


def test_one_machine_does_it_at_once(roots, slurm, tmp_path, monkeypatch, capfd):
    slurm.write_commands(slurm.bin)
    from nnunet_al.jobs import planning

    monkeypatch.setattr(planning, "_program_folders", lambda: (str(slurm.bin),))
    words = ("-d", "4", "-s", "random", "entropy", "-rounds", 1, "-to", "shell", "-gpus", 0, 3, "-o", "jobs")
    assert call(*words, "--submit") == 0
    calls = slurm.read("call")
    assert len(calls) == 1 + 2 * 2
    assert {one["environment"].get("CUDA_VISIBLE_DEVICES") for one in calls[1:]} <= {"0", "3"}
    slurm.behave(entropy={"code": 2})
    assert call("-o", "jobs", "--submit") == 2


def test_nothing_heavy_is_loaded_for_a_plan(roots):
    code = (
        "import json, sys\nfrom nnunet_al.cli.jobs import main\n"
        "main(sys.argv[1:])\n"
        "print(json.dumps([name for name in ('torch', 'nnunetv2', 'SimpleITK', 'matplotlib') if name in sys.modules]))"
    )
    words = [*ONE, "-to", "slurm", "-o", "jobs"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == []


def test_help_reads_well(capsys):
    assert call("-h") == 0
    said = capsys.readouterr().out
    assert "-np " not in said
    assert "-part_id" not in said
    assert "--submit" in said
