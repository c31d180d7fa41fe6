"""Many campaigns in one call, and the report of all of them as a browser shows it."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest
from report.browser import check_page

from nnunet_al.cli.report import main as report
from nnunet_al.cli.run import main as run
from nnunet_al.nnunet.environment import Roots
from nnunet_al.synthetic.phantom import make_phantom_dataset

from .campaigns import TRAINING, Lab

pytestmark = pytest.mark.slow

STRATEGIES = ("random", "entropy", "class_variance+query_sampling")
FOLDS, SEEDS, ROUNDS = (0, 1), (0, 1), 4
CASES = 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The report of 3 strategies x 2 folds x 2 seeds x 4 rounds: on Hippocampus where it is there, else on phantoms."""
    work = tmp_path_factory.mktemp("many")
    roots = Roots.below(work).create()
    given = os.environ.get("NNUNET_AL_TEST_DATA")
    if given:
        dataset = "Dataset004_Hippocampus"
        source = Path(given).resolve() / dataset
        content = json.loads((source / "dataset.json").read_text())
        labels = sorted((source / "labelsTr").glob("*.nii.gz"))[:CASES]
        content["dataset"] = {
            label.name[:-7]: {"images": [str(source / f"imagesTr/{label.name[:-7]}_0000.nii.gz")], "label": str(label)}
            for label in labels
        }
        (roots.raw / dataset).mkdir()
        (roots.raw / dataset / "dataset.json").write_text(json.dumps(content))
    else:
        dataset = "Dataset901_Phantom"
        make_phantom_dataset(roots.raw / dataset, cases=CASES, shape=(20, 24, 12), spacing_mm=(1.0, 1.0, 2.5))
    lab = Lab(roots, dataset, (("2d", (24, 24)),))
    where = ("-d", dataset, "-device", "cpu", "-np", "1")
    campaigns = ("-s", *STRATEGIES, "-f", *map(str, FOLDS), "-seeds", *map(str, SEEDS), "-rounds", str(ROUNDS))
    sizes = ("-unit", "slice", "-initial", "12", "-b", "6", "-passes", "2", *TRAINING)
    with lab.at_work():
        assert run([*where, *campaigns, *sizes]) == 0
        assert report([*where, "-o", str(work / "report"), "-regions", "3"]) == 0
    return work / "report"


def rows(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_round_of_every_campaign_is_in_its_tables(folder):
    rounds = rows(folder, "rounds")
    assert len(rounds) == len(STRATEGIES) * len(FOLDS) * len(SEEDS) * (ROUNDS + 1)
    tested = [row for row in rounds if row["dice"]]
    assert len(tested) == len(STRATEGIES) * len(FOLDS) * len(SEEDS) * ROUNDS
    # campaigns of a fold and seed share their first model
    first = {(row["fold"], row["seed"]): row["dice"] for row in tested if row["round"] == "1"}
    assert all(first[row["fold"], row["seed"]] == row["dice"] for row in tested if row["round"] == "1")
    curves = rows(folder, "curves")
    assert {row["runs"] for row in curves} == {str(len(FOLDS) * len(SEEDS))}
    assert {row["strategy"] for row in curves} == {"random", "entropy", "query_sampling"}
    for name in ("budget", "area", "penalty", "classes", "cost", "stages", "settings"):
        assert rows(folder, name), name


def test_a_browser_shows_it(folder):
    """At the width of a desk and of a telephone; screenshots go where the variable says, to be looked at."""
    screenshots = os.environ.get("NNUNET_AL_TEST_SCREENSHOTS")
    check_page(folder / "report.html", (1280, 390), Path(screenshots) if screenshots else None)
