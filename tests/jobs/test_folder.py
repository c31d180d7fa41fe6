"""The folder that jobs lie in: what is written, what is removed, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nnunet_al.errors import CampaignError, StorageError
from nnunet_al.files import read_json, write_json
from nnunet_al.jobs.folder import JobFolder, Stored
from nnunet_al.jobs.plan import Job, JobResources, Plan, Script
from nnunet_al.jobs.registry import folders_of, job_folder_of, remember

CAMPAIGN = Path('/nowhere/it\'s "here" 50% é/al/2d__random__seed0/fold_0')


@pytest.fixture
def plan(tmp_path) -> Plan:
    script = Script(
        name="Dataset004_X/2d__random__seed0/fold_0/score",
        phase="score",
        title="Scores.",
        command=("nnUNetv2_al_round", "-d", "4"),
        resources=JobResources(1, 2, 3, 4.5),
        logs=tmp_path / "logs 50% é",
        parts=3,
        campaign=CAMPAIGN,
    )
    check = Script(
        "Dataset004_X/prepare", "prepare_dataset", "Checks.", ("x",), JobResources(0, 1, 1, 1), tmp_path / "al"
    )
    jobs = (Job(check.name, None), Job(script.name, 3, (check.name,), (0, 2)))
    return Plan(
        scripts={check.name: check, script.name: script},
        jobs=jobs,
        request=("-d", "4", "-o", "a b"),
        environment={"nnUNet_raw": "/r"},
        path=("/bin",),
        limit=2,
        ends_at_readers=True,
        gpus=("0",),
        done=frozenset({"a", "b 1"}),
    )


@pytest.fixture
def folder(tmp_path) -> JobFolder:
    return JobFolder(tmp_path / "jobs of 50%")


def files_in(folder: JobFolder) -> set[str]:
    return {str(path.relative_to(folder.root)) for path in folder.root.rglob("*") if path.is_file()}


def test_what_is_written_is_read_back(folder, plan, tmp_path):
    folder.write(plan, "slurm", {"submit.sh": "#!/bin/bash\n", "a/b/é.sh": "echo\n"}, "submit.sh", Path("/from here"))
    assert folder.load() == Stored(plan, "slurm", Path("/from here"), ("a/b/é.sh", "submit.sh"))
    assert files_in(folder) == {"plan.json", "submit.sh", "a/b/é.sh"}
    assert (folder.root / "a/b/é.sh").read_text() == "echo\n"
    assert os.access(folder.root / "submit.sh", os.X_OK)
    assert all(script.logs.is_dir() for script in plan.scripts.values()), "Slurm cannot make them"


def test_scripts_of_an_earlier_plan_go_and_nothing_else_does(folder, plan):
    folder.write(plan, "slurm", {"submit.sh": "1", "a/b/old.sh": "1", "a/c/old.sh": "1"})
    (folder.root / "a/b/notes.txt").write_text("somebody's")
    folder.submitted_file.write_text("key\t12\tnow\n")
    folder.write(plan, "slurm", {"submit.sh": "2", "a/new.sh": "2"})
    assert files_in(folder) == {"plan.json", "submit.sh", "a/new.sh", "a/b/notes.txt", "submitted.tsv"}
    assert not (folder.root / "a/c").exists()
    assert (folder.root / "submit.sh").read_text() == "2"


def test_a_call_that_is_killed_while_it_writes_leaves_no_script_behind(folder, plan, monkeypatch):
    folder.write(plan, "slurm", {"submit.sh": "1", "old.sh": "1"})
    from nnunet_al.jobs import folder as module

    def killed(path, text, is_entry):
        if path.name == "late.sh":
            raise KeyboardInterrupt
        path.write_text(text)

    with monkeypatch.context() as patch:
        patch.setattr(module, "_write_script", killed)
        with pytest.raises(KeyboardInterrupt):
            folder.write(plan, "slurm", {"early.sh": "2", "late.sh": "2"})
    folder.write(plan, "slurm", {"submit.sh": "3"})
    assert files_in(folder) == {"plan.json", "submit.sh"}


def test_only_a_new_an_empty_and_an_own_folder_do(folder, plan, tmp_path):
    folder.check()
    folder.root.mkdir()
    folder.check()
    with folder.alone():
        folder.check()
    (folder.root / "thesis.tex").write_text("x")
    with pytest.raises(CampaignError, match="holds something else"):
        folder.check()
    with pytest.raises(CampaignError, match="holds something else"):
        folder.write(plan, "slurm", {"submit.sh": "1"})
    assert files_in(folder) == {"lock", "thesis.tex"}
    with pytest.raises(CampaignError, match="this is no folder"):
        JobFolder(folder.root / "thesis.tex").check()
    with pytest.raises(StorageError):
        JobFolder(folder.root / "thesis.tex" / "below").write(plan, "slurm", {})


def test_what_cannot_be_read_is_one_sentence(folder, plan):
    with pytest.raises(CampaignError, match="holds no jobs"):
        folder.load()
    folder.write(plan, "slurm", {})
    content = read_json(folder.plan_file)
    for broken in ([], {}, {**content, "plan": {}}, {**content, "plan": {**content["plan"], "jobs": [1]}}):
        write_json(folder.plan_file, broken)
        with pytest.raises(CampaignError, match=r"plan\.json cannot be read"):
            folder.load()
        assert folder.surviving() is None
    write_json(folder.plan_file, {**content, "schema": 99})
    for read in (folder.load, folder.surviving):
        with pytest.raises(CampaignError, match="schema 99"):
            read()


def test_a_plan_that_is_broken_or_missing_is_made_anew_and_what_was_submitted_stays(folder, plan):
    folder.write(plan, "slurm", {"submit.sh": "1"})
    folder.submitted_file.write_text("train 1\t7\tt\n")
    half = folder.plan_file.read_bytes()[:200]
    for spoil in (lambda: folder.plan_file.write_bytes(half), folder.plan_file.unlink):
        spoil()
        folder.check()
        folder.write(plan, "slurm", {"submit.sh": "2"})
        assert (folder.load().plan, folder.load().target) == (plan, "slurm")
        assert folder.submitted() == {"train 1": "7"}


def test_what_was_submitted_is_what_was_said_last(folder):
    assert folder.submitted() == {}
    folder.root.mkdir()
    folder.submitted_file.write_text("a b/c 1\t7\tt\nx\t8\tt\na b/c 1\t9\tt\nx\t8\tt\nbroken\ny\t1")
    assert folder.submitted() == {"a b/c 1": "9", "x": "8"}
    assert folder.history() == {"a b/c 1": ("7", "9"), "x": ("8",)}, "a line that is being written does not count"


def test_two_processes_do_not_hand_over_the_same_jobs(folder):
    code = (
        "import sys; from pathlib import Path; from nnunet_al.jobs.folder import JobFolder\n"
        "with JobFolder(Path(sys.argv[1])).alone(): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(folder.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(CampaignError, match="Another process hands over"), folder.alone():
            pass
        other.stdin.close()
    with folder.alone():
        pass


def test_a_dataset_knows_its_job_folders(tmp_path, folder, plan):
    al = tmp_path / "results" / "al"
    assert folders_of(al) == []
    gone, away = tmp_path / "gone", tmp_path / "not mounted" / "jobs"
    gone.mkdir()
    for one in (gone, away, gone):
        remember(al, one)
    assert folders_of(al) == [gone, away]
    gone.rmdir()
    assert folders_of(al) == [gone, away]
    remember(al, folder.root)
    assert folders_of(al) == [away, folder.root]
    assert [path.name for path in al.iterdir()] == ["jobs.json"]

    campaign = al / "2d__random__seed0/fold_0"
    assert job_folder_of(campaign) is None
    script = Script("s", "round", "t", ("x",), JobResources(0, 1, 1, 1), tmp_path / "logs", campaign=campaign)
    folder.write(Plan({"s": script}, (), (), {}, ()), "shell", {})
    assert job_folder_of(campaign) == folder.root
    assert job_folder_of(al / "2d__random__seed1/fold_0") is None
    (al / "jobs.json").write_text("{")
    assert folders_of(al) == []
