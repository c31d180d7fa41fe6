"""A strategy's own map against its scores, and a random part of the pool against the batch's own evidence."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from integration.campaigns import DATASET, Lab, read_volume
from scipy.stats import spearmanr

from nnunet_al.campaign.decisions import Options
from nnunet_al.files import read_arrays
from nnunet_al.nnunet.pool_scoring import Measure, Scorer
from nnunet_al.pool.table import by_case
from nnunet_al.report.evidence import pool_sample
from nnunet_al.report.evidence.figures import pool_figure
from nnunet_al.report.evidence.gather import gather_evidence
from nnunet_al.report.evidence.pool_sample import draw_regions
from nnunet_al.report.evidence.strategy_map import StrategyMap, is_plain_entropy
from nnunet_al.report.evidence.tables import pool_correlations, pool_samples
from nnunet_al.report.page.evidence_sections import evidence_sections
from nnunet_al.rounds.round_model import window_pool
from nnunet_al.scoring.reductions import Mean
from nnunet_al.strategies import catalog

CPU = Options(device="cpu", workers=1)
SIZES = ("-b", "5", "-initial", "8")


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Lab:
    return Lab.of_phantoms(tmp_path_factory.mktemp("maps"), cases=5, test_cases=1)


@pytest.fixture(scope="module")
def campaigns(lab):
    """One whose map has classes, in 3d, and one of slices that hold several windows each, without a score."""
    usimf = ("-passes", "2", "-set", "embedding_size=20", "fisher_samples=3", "query_size=12")
    return {
        "usimf": lab.start("3d_fullres", "usimf", *SIZES, *usimf),
        "random": lab.start("2d", "random", "-unit", "slice", *SIZES),
    }


@pytest.fixture(scope="module")
def found(lab, campaigns):
    with lab.at_work():
        return {name: gather_evidence(folder, lab.roots, CPU, 2) for name, folder in campaigns.items()}


def maps_of(context, own, numbers):
    images = context.pool_images()
    for number in numbers:
        region = context.regions[number]
        yield number, own.values(images[region.case].open()[:], context.geometries[region.case], region.box)[0]


def test_the_mean_of_a_map_with_classes_is_the_score(lab, campaigns):
    with lab.at_work():
        context = lab.context(campaigns["usimf"])
        scores = read_arrays(context.round.scores)
        score_of = dict(zip(scores["numbers_N"].tolist(), scores["scores_N"].tolist(), strict=True))
        own = StrategyMap.of(context)
        numbers = sorted(score_of)[::7][:6]
        means = {number: map_xyz.mean(dtype=float) for number, map_xyz in maps_of(context, own, numbers)}
    assert own.name == "class_variance"
    assert list(means.values()) == pytest.approx([score_of[number] for number in numbers], rel=1e-4)


@pytest.mark.parametrize("strategy", ["bald", "margin"])
def test_the_map_of_a_slice_of_many_windows_is_the_one_that_is_averaged(lab, campaigns, strategy):
    with lab.at_work():
        context = lab.context(campaigns["random"])
        context.decided = replace(context.decided, recipe=catalog.with_parameters(catalog.get(strategy)))
        own = StrategyMap.of(context)
        numbers = [0, len(context.regions) // 2]
        scorer = Scorer(own.sampler, True, {"x": Measure(own.measure.voxels, Mean())}, own.device, 8, 1)
        scored = scorer.run(window_pool(context), by_case(context.regions, numbers))
        means = [map_xyz.mean(dtype=float) for _, map_xyz in maps_of(context, own, numbers)]
    assert means == pytest.approx(Mean().finish(scored.stats["x"]).tolist(), rel=1e-4)


def test_a_slice_of_the_map_and_the_volume_show_the_same_values_inside_the_region_only(lab, campaigns):
    with lab.at_work():
        context = lab.context(campaigns["usimf"])
        own = StrategyMap.of(context)
        region = context.regions[3]
        image, geometry = context.pool_images()[region.case].open()[:], context.geometries[region.case]
        across = geometry.transpose_forward[0]
        index = sum(region.box[across]) // 2
        plane = own.on_raw_slice(image, geometry, region.box, index)
        volume = own.on_raw_image(image, geometry, region.box)
    assert np.array_equal(np.take(volume, index, across), plane, equal_nan=True)
    inside = np.zeros(volume.shape, bool)
    inside[tuple(slice(*side) for side in region.box)] = True
    assert np.isnan(volume[~inside]).all()
    assert np.isfinite(volume[inside]).all()


def test_strategies_without_a_voxel_map_have_none(lab, campaigns):
    with lab.at_work():
        assert StrategyMap.of(lab.context(campaigns["random"])) is None
    assert is_plain_entropy(catalog.get("entropy"))
    assert not is_plain_entropy(catalog.get("mc_dropout"))


def test_panels_have_the_map_where_there_is_one(found):
    assert {panel.map_name for panel in found["usimf"].panels} == {"class_variance"}
    assert all(np.isfinite(panel.map_yx).any() for panel in found["usimf"].panels)
    assert all(panel.map_yx is None for panel in found["random"].panels)


def test_the_random_part_is_of_regions_that_the_model_has_not_seen(lab, campaigns, found, monkeypatch):
    for name, folder in campaigns.items():
        context = lab.context(folder)
        drawn = [context.regions[number] for number in draw_regions(context)]
        assert [entry.region for entry in found[name].pool] == drawn
        assert not {*drawn} & context.annotated_regions
        assert len({*drawn}) == len(drawn) <= pool_sample.MOST_REGIONS
        monkeypatch.setattr(pool_sample, "MOST_CASES", 2)
        monkeypatch.setattr(pool_sample, "MOST_REGIONS", 5)
        few = [context.regions[number] for number in draw_regions(context)]
        assert len(few) == 5
        assert len({region.case for region in few}) <= 2
        monkeypatch.undo()
        context.decided = replace(context.decided, annotate=True)
        assert draw_regions(context) == []


def test_a_region_of_both_has_the_same_values_in_batch_and_pool(found):
    shared = 0
    for evidence in found.values():
        of_batch = {entry.region: entry for entry in evidence.batch}
        for entry in evidence.pool:
            other = of_batch.get(entry.region)
            if other is not None and other.new_voxels == entry.new_voxels:
                assert replace(entry, rank=0, score=None) == replace(other, rank=0, score=None)
                shared += 1
    assert shared


def test_scores_are_those_of_the_strategy_and_labels_those_of_the_dataset(lab, campaigns, found):
    scores = read_arrays(campaigns["usimf"].round(1).scores)
    context = lab.context(campaigns["usimf"])
    score_of = {context.regions[n]: s for n, s in zip(scores["numbers_N"], scores["scores_N"], strict=True)}
    assert all(entry.score == score_of[entry.region] for entry in found["usimf"].pool)
    assert all(entry.score is None for entry in found["random"].pool)
    for entry in found["random"].pool:
        label = read_volume(lab.roots.raw / DATASET / "labelsTr" / f"{entry.region.case}.nii.gz")
        part = label[tuple(slice(*side) for side in entry.region.box)]
        assert entry.new_voxels == part.size
        assert entry.foreground or not part.any()


def test_tables_figures_and_the_section(found):
    identity = {"strategy": "x"}
    usimf, random = found["usimf"], found["random"]
    with_score, without = pool_correlations([(identity, usimf), (identity, random)]).rows
    entropies, wrong = zip(*((entry.entropy, entry.misclassified) for entry in usimf.pool), strict=True)
    assert with_score["rho_entropy_misclassified"] == pytest.approx(spearmanr(entropies, wrong).statistic)
    assert without["rho_score_misclassified"] is None
    assert len(pool_samples([(identity, usimf)]).rows) == len(usimf.pool)
    alt = pool_figure("x", usimf).alt
    assert f"{len(usimf.pool)} regions drawn at random" in alt
    assert pool_figure("x", replace(usimf, pool=())) is None
    rows = [({"strategy": "x"}, replace(usimf, pool=()))]
    from nnunet_al.report.evidence.tables import evidence_tables

    tables = {table.name: table for table in evidence_tables(rows)}
    sections = evidence_sections([("x", replace(usimf, pool=()))], tables, [])
    assert "pool" not in [section.anchor for section in sections]


def test_evidence_of_an_earlier_version_is_computed_anew_where_it_can_be(lab, campaigns, found, tmp_path):
    import shutil

    own = lab.with_results(tmp_path / "results")
    shutil.copytree(lab.roots.results, own.roots.results, symlinks=True, dirs_exist_ok=True)
    folder = own.campaign("2d", "random")
    file = folder.round(1).root / "report" / "evidence.json"
    content = json.loads(file.read_text())
    del content["pool"]
    for panel in content["panels"]:
        del panel["map_name"]
    file.write_text(json.dumps(content))
    with own.at_work():
        assert gather_evidence(folder, own.roots, CPU, 2).pool == found["random"].pool
        file.write_text(json.dumps(content))
        for checkpoint in folder.root.rglob("checkpoint_final.pth"):
            checkpoint.unlink()
        kept = gather_evidence(folder, own.roots, CPU, 2)
    assert kept.pool == ()
    assert len(kept.panels) == 2
