"""`nnUNetv2_al_status --json`, `campaign.json`, `results.csv`: what scripts read."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
import time

import pytest
from jobs.fake_cluster import BEGAN, DATASET, ENDED, Cluster, close_batch
from jobs.small_plans import RANDOM, USIMF
from report.faked_campaigns import fake_round
from tiny_rounds import TINY_ROUND, TINY_USIMF, campaign_folder, run_command, snapshot

from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.campaign.results import write_results
from nnunet_al.cli import status
from nnunet_al.files import write_json
from nnunet_al.jobs import watching
from nnunet_al.jobs.registry import remember
from nnunet_al.jobs.targets.queue import Seen


@pytest.fixture
def ask(capsys):
    def run(*arguments: str) -> dict:
        capsys.readouterr()
        assert run_command(status.main, "-d", "501", "--json", *arguments) == 0
        return json.loads(capsys.readouterr().out)

    return run


def test_no_campaign_is_no_error(roots, ask, capsys):
    assert ask() == {"campaigns": [], "jobs": []}
    assert run_command(status.main, "-d", "501") == 0
    assert "No campaign" in capsys.readouterr().out


@pytest.mark.slow
def test_what_scripts_read(roots, al_round, ask, capsys):
    assert al_round(*TINY_USIMF) == 0
    assert al_round(*TINY_USIMF) == 0
    assert al_round("-tag", "other", "-seed", 3) == 0
    before = snapshot(roots.raw.parent)
    (campaign,) = ask("-s", "usimf")["campaigns"]
    keys = ("strategy", "configuration", "fold", "seed", "tag")
    assert [campaign[key] for key in keys] == ["usimf", "2d", 0, 0, None]
    assert campaign["stage"] == "round 1: annotate done"
    first, second = campaign["rounds"]
    assert [(r["round"], r["annotated"], len(r["batch"])) for r in (first, second)] == [(0, 6, 6), (1, 11, 5)]
    assert first["metrics"] is None
    assert set(second["metrics"]["foreground_mean"]) >= {"dice", "hd95_mm"}
    for region in (*first["batch"], *second["batch"]):
        assert set(region) == {"case", "box", "score"}
        assert len(region["box"]) == 3
        assert all(low < high for low, high in region["box"])
    assert all(region["score"] is None for region in first["batch"])
    assert all(isinstance(region["score"], float) for region in second["batch"])

    (other,) = ask("-seed", "3")["campaigns"]
    assert (other["tag"], other["seed"], other["strategy"]) == ("other", 3, "random")
    assert len(ask()["campaigns"]) == 2
    assert ask("-s", "bald") == {"campaigns": [], "jobs": []}
    assert run_command(status.main, "-d", "501") == 0
    table = capsys.readouterr().out
    assert "usimf" in table
    assert "tag other" in table
    assert snapshot(roots.raw.parent) == before

    with (roots.results / "Dataset501_Phantom/al/2d__usimf__seed0/fold_0/results.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["round"] == "1"
    assert row["trained_on_regions"] == "6"
    assert float(row["dice"]) == pytest.approx(second["metrics"]["foreground_mean"]["dice"], abs=1e-4)
    for name in ("organ", "lesion"):
        assert 0 <= float(row[f"dice_{name}"]) <= 1
        assert float(row[f"hd95_mm_{name}"]) >= 0


def test_a_round_that_is_not_complete_says_so(roots, al_round, ask):
    assert al_round() == 0
    folder = campaign_folder(roots)
    (folder / "round_000" / "stages" / "annotate.json").unlink()
    (campaign,) = ask()["campaigns"]
    assert campaign["stage"] == "round 0: select done"
    assert campaign["rounds"][0]["annotated"] == 0
    assert campaign["rounds"][0]["complete"] is False


def test_the_table_of_results_has_a_row_for_each_evaluated_round(tmp_path):
    folder = CampaignFolder(tmp_path)
    write_results(folder)
    assert not folder.results.exists()
    for number in (1, 2, 10):
        values = {"dice": number / 16, "hd95_mm": float(number)}
        write_json(
            folder.round(number).metrics,
            {
                "round": number,
                "trained_on_regions": 5 * number,
                "trained_on_voxels": 50 * number,
                "foreground_mean": values,
                "mean": {"organ": values},
            },
        )
    folder.round(3).root.mkdir()  # begun, not evaluated
    write_results(folder)
    with folder.results.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["round"] for row in rows] == ["1", "2", "10"]
    assert rows[1]["dice_organ"] == "0.1250"
    assert rows[2]["trained_on_voxels"] == "500"


def test_help_is_for_everybody(roots, capsys):
    from nnunet_al.cli import round as round_command

    for command in (status, round_command):
        assert run_command(command.main, "-h") == 0
        assert "-d DATASET" in capsys.readouterr().out
    assert run_command(round_command.main, *TINY_ROUND, "-s") == 2


def test_a_campaign_of_a_package_that_is_gone_is_left_out_with_its_reason(roots, al_round, ask, capsys):
    assert al_round() == 0
    assert al_round("-tag", "theirs") == 0
    theirs = next(roots.results.glob("*/al/*theirs/fold_0/campaign.json"))
    content = json.loads(theirs.read_text())
    content["recipe"] |= {"name": "gini", "metric": "gini", "reduction": "mean", "selector": "top_k"}
    content["recipe"] |= {"posterior": "deterministic"}
    write_json(theirs, content)
    (campaign,) = ask()["campaigns"]
    assert campaign["tag"] is None
    assert run_command(status.main, "-d", "501") == 0
    said = capsys.readouterr()
    assert "gini" in said.err
    assert str(theirs.parent) in said.err
    assert "Traceback" not in said.err


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Jobs of two campaigns that nobody has handed over yet, in a folder that the dataset knows of."""
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        (tmp_path / name / DATASET).mkdir(parents=True)
        monkeypatch.setenv(name, str(tmp_path / name))
    found = Cluster(tmp_path, rounds=1)
    remember(tmp_path / "nnUNet_results" / DATASET / "al", found.folder.root)
    monkeypatch.setattr(watching, "ask", lambda target, ids: found.queue if found.answers else None)
    return found


def call(*arguments):
    return run_command(status.main, "-d", "4", *arguments)


def test_jobs(cluster, capsys):
    cluster.check()
    cluster.start()
    cluster.submit(prepare__1=Seen("runs"), train__1=None, score__1={1: Seen("waits", "for other jobs")})
    log = cluster.log("train 1", BEGAN.format("n1") + ENDED.format(1))
    before = snapshot(cluster.root)
    assert call() == 0
    said = capsys.readouterr().out
    assert "2d usimf slice, fold 0, seed 0: 3 cases" in said
    line = f"jobs in {cluster.folder.root}: 2 done, 1 runs, 1 waits, 1 failed, 9 not submitted"
    assert said.splitlines()[-1] == line
    assert call("--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert len(content["campaigns"]) == 1
    jobs = {(job["key"], job["part"]): job for job in content["jobs"]}
    assert len(jobs) == len(content["jobs"]) == 1 + 1 + 9 + 1 + 4
    assert jobs[(f"{USIMF}/train 1", None)] == {
        "key": f"{USIMF}/train 1",
        "part": None,
        "state": "failed",
        "detail": "ended with exit code 1",
        "log": str(log),
        "folder": str(cluster.folder.root),
    }
    assert jobs[(f"{USIMF}/score 1", 1)]["detail"] == f"{USIMF}/train 1 has failed"
    assert call("--json", "-s", "random") == 0
    content = json.loads(capsys.readouterr().out)
    shared = f"{DATASET}/prepare"
    assert {job["key"] for job in content["jobs"] if not job["key"].startswith(RANDOM)} == {shared}
    assert content["campaigns"] == []
    assert call("--json", "-f", "1") == 0
    assert [job["key"] for job in json.loads(capsys.readouterr().out)["jobs"]] == [shared]
    assert snapshot(cluster.root) == before


def test_a_job_folder_that_is_gone_is_one_line(cluster, capsys):
    shutil.rmtree(cluster.folder.root)
    assert call() == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[-1] == f"jobs in {cluster.folder.root} cannot be read: it was moved or deleted."
    assert call("--json") == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == {"campaigns": [], "jobs": []}
    assert said.err.startswith(f"jobs in {cluster.folder.root} cannot be read: ")


@pytest.fixture
def meanwhile(monkeypatch):
    """A function that says what happens while `--watch` sleeps, step by step; it must not sleep more often."""

    def happens(*steps):
        left = iter(steps)
        slept = []

        def sleep(seconds):
            slept.append(seconds)
            next(left)()

        monkeypatch.setattr(time, "sleep", sleep)
        return slept

    return happens


def test_watch_until_all_is_done(cluster, meanwhile, capsys):
    def begin():
        cluster.check()
        cluster.start()
        cluster.submit(prepare__1=Seen("runs"))

    def finish():
        for name in (USIMF, RANDOM):
            cluster.start(name.split("__")[1], rounds=1)
            fake_round(cluster.campaign(name), 1, 5, {"annotate": 0.1})

    slept = meanwhile(begin, finish)
    assert call("--watch", "-every", "5") == 0
    assert slept == [5, 5]
    said = [line.split("  ", 1)[1] for line in capsys.readouterr().out.splitlines()]
    jobs = f"jobs in {cluster.folder.root}"
    assert said == [
        "2d__random__seed0/fold_0: not submitted: start",
        "2d__usimf__seed0/fold_0: not submitted: start",
        f"{jobs}: 14 not submitted",
        "2d__usimf__seed0/fold_0: round 0 of 10; runs: prepare 1",
        f"{jobs}: 2 done, 1 runs, 11 not submitted",
        "2d__random__seed0/fold_0: round 1 of 1; done",
        "2d__usimf__seed0/fold_0: round 1 of 1; done",
        f"{jobs}: 14 done",
    ]


def test_watch_until_nothing_goes_on(cluster, meanwhile, capsys):
    cluster.note(f"{DATASET}/prepare", "7")
    cluster.queue = {"7": {None: Seen("runs")}}

    def fail():
        cluster.queue.clear()
        log = cluster.plan.log(cluster.plan.by_key[f"{DATASET}/prepare"])
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("its last words\n" + ENDED.format(2))

    slept = meanwhile(fail, lambda: None)
    assert call("--watch") == 2
    assert slept == [30, 30]
    assert capsys.readouterr().out.count("its last words") == 1


def test_watch_until_readers_are_waited_for(cluster, meanwhile, capsys):
    shutil.rmtree(cluster.folder.root)
    campaign = cluster.start(annotate=True)
    (campaign.round(0).stages / "annotate.json").unlink()
    cluster.mark(0, "hand_out")
    meanwhile(lambda: None)
    assert call("--watch") == 3
    close_batch(campaign, 0)
    cluster.mark(0, "annotate")
    cluster.mark(1, "select")

    def leave():
        raise KeyboardInterrupt

    capsys.readouterr()
    meanwhile(lambda: None, lambda: None, leave)
    assert call("--watch") == 130
    said = capsys.readouterr()
    assert "nobody works on it; round 1: select done" in said.out
    assert said.err == "Interrupted. What was shown goes on where it runs.\n"


def test_watch_of_nothing_says_so(cluster, capsys):
    shutil.rmtree(cluster.folder.root.parent / "nnUNet_results")
    (cluster.folder.root.parent / "nnUNet_results").mkdir()
    assert call("--watch") == 0
    assert capsys.readouterr().out.endswith("There is no such campaign, and there are no jobs.\n")


def test_a_wrong_strategy_does_not_pass_for_jobs_that_are_done(cluster, capsys):
    for how in ("--watch", "--json"):
        assert call(how, "-s", "nonsense") == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert "There is no strategy 'nonsense'" in said.err


def test_watch_fails_where_jobs_cannot_be_read(cluster, meanwhile, capsys):
    cluster.folder.plan_file.write_text("{")
    meanwhile(lambda: None)
    assert call("--watch") == 2
    assert f"{cluster.folder.plan_file} cannot be read: repeat the call with -d" in capsys.readouterr().out


@pytest.mark.parametrize("every", ["0", "-1", "nan", "inf", "soon"])
def test_how_often_to_look(cluster, every, capsys):
    assert call("--watch", "-every", every) == 2
    assert "-every" in capsys.readouterr().err


def test_watch_is_for_people_and_json_for_scripts(cluster):
    assert call("--watch", "--json") == 2


def test_status_starts_without_what_takes_seconds_to_load():
    heavy = {"torch", "nnunetv2", "SimpleITK", "scipy", "sklearn", "matplotlib"}
    program = f"import sys, nnunet_al.cli.status; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
