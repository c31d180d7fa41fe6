"""`nnUNetv2_al_report` on two small campaigns."""

from __future__ import annotations

import csv
import os
import re
import shutil
from html import unescape
from pathlib import Path

import numpy as np
import pytest
import torch
from integration.campaigns import DATASET, Lab
from report.browser import check_page
from tiny_rounds import run_command, run_round, snapshot

from nnunet_al.cli.report import main
from nnunet_al.files import read_json, write_json
from nnunet_al.nnunet.environment import nnunet_folders
from nnunet_al.report.evidence import gather as evidence

from .annotation_project import IGNORE, Project, collect
from .readers import in_itk_snap

SIZES = ("-b", "4", "-initial", "6")


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Lab:
    """Two strategies on one dataset, two rounds each."""
    here = Lab.of_phantoms(tmp_path_factory.mktemp("report"), cases=5, test_cases=1)
    for strategy in ("entropy", "random"):
        here.start("2d", strategy, *SIZES)
    return here


@pytest.fixture
def own(lab, tmp_path) -> Lab:
    """The same campaigns, to be changed."""
    here = lab.with_results(tmp_path / "nnUNet_results")
    shutil.copytree(lab.roots.results, here.roots.results, symlinks=True, dirs_exist_ok=True)
    return here


def report(lab, *arguments, dataset="901"):
    with nnunet_folders(lab.roots):
        return run_command(main, "-d", dataset, "-device", "cpu", "-np", "1", *arguments)


def page_of(folder):
    return (folder / "report.html").read_text(encoding="utf-8")


def words_of(page):
    return unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page)))


@pytest.fixture(scope="module")
def made(lab, tmp_path_factory):
    """The folder of a report, and the files of nnU-Net's folders before it."""
    before = snapshot(lab.roots.raw, lab.roots.results)
    folder = tmp_path_factory.mktemp("output") / "of" / "mine"
    assert report(lab, "-o", folder, "-regions", "2") == 0
    return folder, before


def test_every_section_is_there_and_every_table_has_its_file(made):
    folder, _ = made
    page = page_of(folder)
    titles = re.findall(r'<h2 id="([a-z]+)-title">', page)
    assert titles == [
        "summary", "curves", "budget", "area", "penalty", "distances", "classes", "cost", "batches", "embeddings",
        "errors", "pool", "redundancy", "time", "settings", "remarks", "files",
    ]  # fmt: skip
    named = set(re.findall(r'<span class="file">(\w+\.csv)</span>', page))
    listed = {word for word in words_of(page).split(" Files ")[-1].split() if word.endswith(".csv")}
    there = {path.name for path in folder.iterdir()} - {"report.html"}
    assert named <= there
    assert there == listed
    assert {"rounds.csv", "curves.csv", "batches.csv", "embedding_map.csv", "redundancy.csv", "settings.csv"} <= there
    for path in folder.glob("*.csv"):
        with path.open(encoding="utf-8", newline="") as file:
            assert list(csv.DictReader(file)), path


def test_the_numbers_are_those_of_the_campaigns(lab, made):
    folder, _ = made
    with (folder / "rounds.csv").open(encoding="utf-8", newline="") as file:
        rows = {(row["strategy"], row["round"]): row for row in csv.DictReader(file)}
    with (folder / "batches.csv").open(encoding="utf-8", newline="") as file:
        batches = list(csv.DictReader(file))
    for strategy in ("entropy", "random"):
        round_ = lab.campaign("2d", strategy).round(1)
        assert float(rows[strategy, "1"]["dice"]) == read_json(round_.metrics)["foreground_mean"]["dice"]
        cases = [region["case"] for region in read_json(round_.batch)["regions"]]
        assert [row["region"].partition("[")[0] for row in batches if row["strategy"] == strategy] == cases
    scores = [(row["score"], row["entropy"]) for row in batches if row["strategy"] == "entropy"]
    assert scores
    assert all(score == entropy for score, entropy in scores)


def test_the_page_is_whole_in_a_browser(made):
    target = os.environ.get("NNUNET_AL_TEST_SCREENSHOTS")
    check_page(made[0] / "report.html", screenshots=Path(target) if target else None)


def test_the_campaigns_stay_as_they_are_and_no_file_names_this_machine(lab, made):
    folder, before = made
    after = snapshot(lab.roots.raw, lab.roots.results)
    new = {Path(path).relative_to(lab.roots.results).parts[-2:] for path in after.keys() - before.keys()}
    assert {parts for parts in new if "report" not in parts} == set()
    assert {path: after[path] for path in before} == before
    for path in folder.iterdir():
        content = path.read_text(encoding="utf-8")
        assert str(lab.roots.results.parent) not in content, path
        assert str(Path.home()) not in content or str(Path.home()) == "/", path


def test_maps_are_volumes_on_the_grid_of_the_images_with_values_in_the_batch_alone(own, tmp_path):
    import SimpleITK as sitk  # noqa: N813

    assert report(own, "-o", tmp_path / "output", "-regions", "1", "--maps") == 0
    campaign = own.campaign("2d", "entropy").round(1)
    regions = read_json(campaign.batch)["regions"]
    files = sorted((tmp_path / "output" / "maps").rglob("*.nii.gz"))
    assert {path.name.removesuffix("_entropy.nii.gz") for path in files} == {region["case"] for region in regions}
    for path in files:
        case = path.name.removesuffix("_entropy.nii.gz")
        shown = sitk.ReadImage(str(path))
        image = sitk.ReadImage(str(own.roots.raw / DATASET / "imagesTr" / f"{case}_0000.nii.gz"))
        assert shown.GetSize() == image.GetSize()
        for of_volume in ("GetOrigin", "GetSpacing", "GetDirection"):
            assert getattr(shown, of_volume)() == pytest.approx(getattr(image, of_volume)())
        values, inside = sitk.GetArrayFromImage(shown), np.zeros(image.GetSize()[::-1], bool)
        for region in regions:
            if region["case"] == case:
                inside[tuple(slice(*side) for side in region["box"])] = True
        assert (values[~inside] == 0).all()
        assert (values[inside] > 0).mean() > 0.9
    words = words_of(page_of(tmp_path / "output"))
    assert "2d__random__seed0/fold_0: the strategy has no map of its own, and no file." in words


def test_a_second_report_computes_nothing_and_says_the_same(own, made, tmp_path, monkeypatch):
    folder, _ = made
    monkeypatch.setattr(evidence, "_compute", None)
    assert report(own, "-o", tmp_path / "again", "-regions", "2") == 0
    for path in folder.iterdir():
        again = (tmp_path / "again" / path.name).read_text(encoding="utf-8")
        assert re.sub("Written on [0-9-]+", "", again) == re.sub("Written on [0-9-]+", "", path.read_text("utf-8")), (
            path
        )


def test_without_models_the_rest_is_still_there(own, tmp_path):
    for checkpoint in own.roots.results.rglob("checkpoint_*.pth"):
        checkpoint.unlink()
    for kept in own.roots.results.rglob("round_001/report"):
        shutil.rmtree(kept)
    assert report(own, "-o", tmp_path / "gone") == 0
    page = words_of(page_of(tmp_path / "gone"))
    assert page.count("its checkpoint is needed for this") == 2
    assert report(own, "-o", tmp_path / "left_out", "--no_evidence", "-s", "random") == 0
    page = words_of(page_of(tmp_path / "left_out"))
    assert "are left out (--no_evidence)" in page
    assert "entropy" not in page.partition("Contents")[0]
    assert not (tmp_path / "left_out" / "batches.csv").exists()


def test_a_campaign_that_has_only_begun_and_a_broken_file_stop_nothing(own, tmp_path):
    random, entropy = (own.campaign("2d", name) for name in ("random", "entropy"))
    shutil.rmtree(random.round(1).root)
    entropy.round(1).metrics.write_text('{"mean": ')
    assert report(own, "-o", tmp_path / "out", "--no_evidence") == 0
    page = words_of(page_of(tmp_path / "out"))
    assert "No round has been evaluated yet" in page
    assert "metrics.json cannot be read" in page
    check_page(tmp_path / "out" / "report.html", (390,))


def test_names_from_outside_are_shown_as_they_are(own, tmp_path):
    """A class of the dataset can have any name."""
    name = "<b>&\"organ'</b>"
    for strategy in ("entropy", "random"):
        metrics = read_json(own.campaign("2d", strategy).round(1).metrics)
        metrics["mean"] = {name: next(iter(metrics["mean"].values()))}
        write_json(own.campaign("2d", strategy).round(1).metrics, metrics)
    assert report(own, "-o", tmp_path / "out", "--no_evidence") == 0
    page = page_of(tmp_path / "out")
    assert "<b>" not in page
    assert name in unescape(page)


@pytest.mark.parametrize(
    "arguments, word",
    [
        (("-s", "usimf"), "nnUNetv2_al_status -d 901"),
        (("-seed", "7"), "No campaign on Dataset901_Phantom fits"),
        (("-s", "nonsense"), "nonsense"),
        (("-regions", "-1"), "-regions -1"),
        (("-full_dice", "1.2"), "-full_dice 1.2"),
        (("--maps", "--no_evidence"), "--maps"),
        (("-np", "0"), "-np 0"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(lab, tmp_path, capsys, arguments, word):
    assert report(lab, "-o", tmp_path / "out", *arguments) == 2
    said = capsys.readouterr().err
    assert word in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_way_and_an_unknown_dataset_are_said(lab, tmp_path, capsys):
    (tmp_path / "out").write_text("a file")
    assert report(lab, "-o", tmp_path / "out", "--no_evidence") == 2
    assert "choose another" in capsys.readouterr().err
    assert report(lab, "-o", tmp_path / "other", dataset="902") == 2
    assert "There is no dataset 902" in capsys.readouterr().err


@pytest.mark.slow
def test_a_campaign_that_people_annotate(make_roots, tmp_path):
    """Two readers, who do not agree on lesions: what counts as annotated is what both said, in one entry a region."""
    roots = make_roots(cases=6)
    shutil.move(roots.raw / "Dataset501_Phantom" / "labelsTr", tmp_path / "truth")
    project = Project(roots, tmp_path / "truth")
    for number in (0, 1):
        assert run_round("--annotate", "-readings", 2, "-consensus", "majority", "-unit", "slice", "-b", 3) == 3
        for reader in ("anna", "ben"):
            folder = project.batch(number) / "returned" / reader
            folder.mkdir()
            for case in project.asked(number):
                truth = project.drawn(case)
                drawn = truth if reader == "anna" else np.minimum(truth, 1)
                in_itk_snap(project.image(number, case), drawn, folder / f"{case}.nii.gz")
        assert collect("--reviewed") == 0
    assert run_round("-round", 1, "-unit", "slice", "-b", 3) == 0
    arguments = ("-d", "501", "-device", "cpu", "-np", "1", "-regions", "3")
    assert run_command(main, *arguments, "-o", tmp_path / "report") == 0
    with (tmp_path / "report" / "batches.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    asked = read_json(project.campaign.round(1).batch)["regions"]
    assert len(rows) == len(asked) == 3
    for row, region in zip(rows, asked, strict=True):
        box = tuple(slice(*side) for side in region["box"])
        truth = project.drawn(region["case"])[box]
        assert int(row["new_voxels"]) == np.count_nonzero(truth != 2)
        assert np.array_equal(project.annotated(region["case"])[box], np.where(truth == 2, IGNORE, truth))


NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="the GPU that the test does without is there")


def trained_on(lab, device: str | None, strategy: str = "*") -> None:
    """Let campaigns say that this device has trained them, and forget what reports have computed of them."""
    for path in lab.roots.results.glob("*/al/*/fold_*/round_*/report"):
        shutil.rmtree(path)
    for path in lab.roots.results.glob(f"*/al/*__{strategy}__*/fold_*/round_*/network.json"):
        path.unlink() if device is None else write_json(path, {**read_json(path), "device": device})


def report_without_gpu(lab, folder: Path, *arguments: object) -> int:
    with nnunet_folders(lab.roots):
        return run_command(main, "-d", "901", "-np", "1", "-regions", "1", "-o", folder, *arguments)


@NO_GPU
@pytest.mark.parametrize(
    "trained, asked",
    [
        ("cuda (NVIDIA H200)", ()),
        ("mps", ()),
        (None, ()),
        ("cuda", ("--maps",)),
        ("cuda", ("-device", "cuda")),
        ("cpu", ("-device", "mps")),
    ],
)
def test_without_its_gpu_a_report_leaves_out_what_needs_a_model(own, tmp_path, capsys, trained, asked):
    trained_on(own, trained)
    before = snapshot(own.roots.results)
    assert report_without_gpu(own, tmp_path / "report", *asked) == 0
    out, err = capsys.readouterr()
    (line,) = [line for line in out.splitlines() if "left out of the report" in line]
    assert "of 2 campaigns" in line
    assert ("-device cpu" in line) or ("use cpu" in line)
    assert not err
    said = words_of(page_of(tmp_path / "report"))
    reason = line.partition("campaigns. ")[2]
    assert said.count(reason) == 2, "of each campaign"
    made_files = {path.name for path in (tmp_path / "report").iterdir()}
    assert {"report.html", "curves.csv", "standings.csv"} <= made_files
    assert "batches.csv" not in made_files
    assert snapshot(own.roots.results) == before


@NO_GPU
def test_a_model_that_was_trained_on_a_cpu_runs_there_and_another_if_asked(own, tmp_path, capsys):
    trained_on(own, "cuda (NVIDIA A100)", "random")
    assert report_without_gpu(own, tmp_path / "auto") == 0
    out = capsys.readouterr().out
    assert "of 1 campaign." in out
    assert "2d__entropy__seed0" in next(line for line in out.splitlines() if "on the CPU" in line and "Looking" in line)
    assert report_without_gpu(own, tmp_path / "cpu", "-device", "cpu") == 0
    assert "left out of the report" not in capsys.readouterr().out
    # what was computed is kept, and needs no device any more
    assert report_without_gpu(own, tmp_path / "again") == 0
    assert "left out of the report" not in capsys.readouterr().out
    assert (tmp_path / "again" / "batches.csv").read_bytes() == (tmp_path / "cpu" / "batches.csv").read_bytes()
