"""`nnUNetv2_al_status --json`, `campaign.json`, `results.csv`: what scripts read."""

from __future__ import annotations

import csv
import json

import pytest
from rounds import TINY_ROUND, TINY_USIMF, campaign_folder, run_command, snapshot

from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.campaign.results import write_results
from nnunet_al.cli import status
from nnunet_al.files import write_json


@pytest.fixture
def ask(capsys):
    def run(*arguments: str) -> dict:
        capsys.readouterr()
        assert run_command(status.main, "-d", "501", "--json", *arguments) == 0
        return json.loads(capsys.readouterr().out)

    return run


def test_no_campaign_is_no_error(roots, ask, capsys):
    assert ask() == {"campaigns": []}
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
    assert ask("-s", "bald") == {"campaigns": []}
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
