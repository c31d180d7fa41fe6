"""What a round's model says of its batch, against answers worked out otherwise."""

from __future__ import annotations

import json
import math
import os
import shutil
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from integration.campaigns import DATASET, Lab, read_volume
from sklearn.metrics.pairwise import cosine_similarity

from nnunet_al.campaign.commits import CORRECTION, READER, READING, asked_regions
from nnunet_al.campaign.decisions import Decisions, Options
from nnunet_al.campaign.ledger import CaseAnnotation
from nnunet_al.errors import SetupError, StorageError
from nnunet_al.files import read_arrays, read_json
from nnunet_al.pool.boxes import Region, to_slices
from nnunet_al.pool.geometry import CaseGeometry
from nnunet_al.report.evidence import gather as module, record as evidence_record
from nnunet_al.report.evidence.batch_overlays import new_labels, region_error
from nnunet_al.report.evidence.campaign_pictures import panels_of
from nnunet_al.report.evidence.embedding_map import FEWEST, choose_regions, tsne_map
from nnunet_al.report.evidence.error_vs_uncertainty import rank_correlation
from nnunet_al.report.evidence.figures import POOL, error_figure, map_figure, redundancy_figure
from nnunet_al.report.evidence.gather import gather_evidence
from nnunet_al.report.evidence.raw_slices import network_slice, on_raw_slice
from nnunet_al.report.evidence.redundancy import mean_similarity, redundancy, unit_vectors, voxels_twice

CPU = Options(device="cpu", workers=1)
SIZES = ("-b", "5", "-initial", "8")


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Lab:
    return Lab.of_phantoms(tmp_path_factory.mktemp("evidence"), cases=5, test_cases=1)


@pytest.fixture(scope="module")
def campaigns(lab):
    """Two campaigns with one round each; not to be changed."""
    usimf = ("-passes", "2", "-set", "embedding_size=20", "fisher_samples=3", "query_size=12")
    return {"entropy": lab.start("2d", "entropy", *SIZES), "usimf": lab.start("3d_fullres", "usimf", *SIZES, *usimf)}


@pytest.fixture(scope="module")
def found(lab, campaigns):
    with lab.at_work():
        return {name: gather_evidence(folder, lab.roots, CPU, 3) for name, folder in campaigns.items()}


@pytest.fixture
def own(lab, campaigns, tmp_path):
    """A copy of the entropy campaign, with its evidence, in a lab of its own."""
    here = lab.with_results(tmp_path / "results")
    target = here.campaign("2d", "entropy")
    shutil.copytree(campaigns["entropy"].root, target.root, symlinks=True)
    return here, target


def gather(here, folder, pictures=3):
    with here.at_work():
        return gather_evidence(folder, here.roots, CPU, pictures)


def forbid(*_):
    raise RuntimeError("computed again")


# --- the batch -------------------------------------------------------------------------------------------------------


def test_the_entropies_are_those_that_the_strategy_entropy_ranked_by(found, campaigns):
    batch = read_json(campaigns["entropy"].round(1).batch)["regions"]
    assert [entry.region.case for entry in found["entropy"].batch] == [region["case"] for region in batch]
    assert [entry.entropy for entry in found["entropy"].batch] == [region["score"] for region in batch]


@pytest.mark.parametrize("name", ["entropy", "usimf"])
def test_what_is_new_are_the_datasets_labels_in_the_batch_that_were_not_annotated_before(lab, campaigns, found, name):
    with lab.at_work():
        context = lab.context(campaigns[name])
        first = [
            Region(r["case"], tuple(map(tuple, r["box"]))) for r in read_json(campaigns[name].round(0).batch)["regions"]
        ]
        for entry in found[name].batch:
            case = entry.region.case
            labels_xyz = read_volume(lab.roots.raw / DATASET / "labelsTr" / f"{case}.nii.gz").astype(int)
            asked_xyz = np.zeros(labels_xyz.shape, bool)
            for other in found[name].batch:
                if other.region.case == case:
                    asked_xyz[to_slices(other.region.box)] = True
            for region in first:
                if region.case == case:
                    asked_xyz[to_slices(region.box)] = False
            new_xyz = new_labels(context, case)
            assert np.array_equal(new_xyz, np.where(asked_xyz, labels_xyz, context.ignore))
            assert entry.new_voxels == np.count_nonzero(asked_xyz[to_slices(entry.region.box)])


def test_pictures_come_by_rank_and_show_the_model_the_region_and_what_was_drawn(lab, campaigns, found):
    for name, seen in found.items():
        context = lab.context(campaigns[name])
        assert len(seen.panels) == 3
        for panel, entry in zip(seen.panels, seen.batch, strict=False):
            assert panel.title.startswith(f"{entry.rank}: {entry.region.case}, slice ")
            shape = panel.image_yx.shape
            assert panel.prediction_yx.shape == panel.reference_yx.shape == panel.uncertainty_yx.shape == shape
            geometry = context.geometries[entry.region.case]
            across = geometry.transpose_forward[0]
            y, x = (axis for axis in range(3) if axis != across)
            seen_by_network = np.zeros(shape, bool)
            seen_by_network[to_slices((geometry.raw_crop_box[y], geometry.raw_crop_box[x]))] = True
            assert np.array_equal(np.isfinite(panel.uncertainty_yx), seen_by_network)
            assert np.nanmin(panel.uncertainty_yx) >= 0
            assert np.nanmax(panel.uncertainty_yx) <= math.log(3) + 1e-3  # background and two classes


def test_the_map_of_a_2d_network_is_the_one_that_all_slices_together_give(lab, campaigns, found):
    """It is predicted from one slice alone; nnU-Net's window weights are the same for each slice."""
    from nnunet_al.report.evidence.batch_overlays import _entropy_map
    from nnunet_al.rounds.round_model import load_round_model

    with lab.at_work():
        context = lab.context(campaigns["entropy"])
        model = load_round_model(context, context.checkpoint(context.round))
        region = found["entropy"].batch[0].region
        geometry = context.geometries[region.case]
        whole = _entropy_map(model, context.pool_images()[region.case].open()[:])
    index = sum(region.box[geometry.transpose_forward[0]]) // 2
    expected = on_raw_slice(whole, geometry, index)
    assert np.allclose(found["entropy"].panels[0].uncertainty_yx, expected, atol=1e-3, equal_nan=True)


# --- kept ------------------------------------------------------------------------------------------------------------


def same(a, b):
    fields = ("round", "batch", "points", "of_role")
    pictures = [
        np.array_equal(x.uncertainty_yx, y.uncertainty_yx, equal_nan=True)
        for x, y in zip(a.panels, b.panels, strict=True)
    ]
    repeats = all(np.array_equal(a.redundancy[key], b.redundancy[key]) for key in a.redundancy)
    return all(getattr(a, name) == getattr(b, name) for name in fields) and all(pictures) and repeats


def test_it_is_computed_once(own, found, monkeypatch):
    here, folder = own
    monkeypatch.setattr(module, "_compute", forbid)
    assert same(gather(here, folder), found["entropy"])
    assert len(gather(here, folder, 1).panels) == 1
    with pytest.raises(RuntimeError):
        gather(here, folder, 4)  # more pictures than are kept


def test_the_same_again_gives_the_same(own, found):
    here, folder = own
    shutil.rmtree(folder.round(1).root / "report")
    assert same(gather(here, folder), found["entropy"])


@pytest.mark.parametrize("what", ["checkpoint", "ledger", "batch", "decisions", "half"])
def test_it_is_computed_anew_when_what_it_depends_on_has_changed(own, monkeypatch, what):
    here, folder = own
    monkeypatch.setattr(module, "_compute", forbid)
    round_ = folder.round(1)
    if what == "checkpoint":
        (checkpoint,) = round_.view.results.glob("*/*/fold_0/checkpoint_final.pth")
        os.utime(checkpoint, (1, 1))
    elif what == "half":
        (round_.root / "report" / "panels.npz").write_bytes(b"PK half of it")
    elif what == "ledger":
        append(here.context(folder), 1, CORRECTION, batch_region(folder), 1)
    elif what == "decisions":
        replace(Decisions.load(folder.decisions), seed=1).save(folder.decisions)
    else:
        round_.batch.write_text(round_.batch.read_text() + "\n")
    with pytest.raises(RuntimeError):
        gather(here, folder)


def batch_region(folder, number=1, index=0):
    entry = read_json(folder.round(number).batch)["regions"][index]
    return Region(entry["case"], tuple(map(tuple, entry["box"])))


def append(context, number, source, region, value):
    """Somebody says that all voxels of a region are of one class."""
    labels_xyz = np.full(context.data.facts[region.case].raw_shape, context.ignore)
    labels_xyz[to_slices(region.box)] = value
    properties = context.label_format.image_properties(context.data.dataset.cases[region.case].images)
    context.ledger.append(number, source, "anna", (region,), {region.case: CaseAnnotation(labels_xyz, properties)})


def test_what_comes_later_leaves_it_as_it_is_also_without_its_checkpoint(own, found):
    """An answer to the next batch, a single reading, a case that came, a test case that went."""
    here, folder = own
    context, region = here.context(folder), batch_region(folder)
    append(context, 2, READER, region, 1)
    append(context, 1, READING, region, 1)
    change = {"round": 2, "added": [], "withdrawn": ["x"], "test": ["x"], "reason": ""}
    decided = Decisions.load(folder.decisions)
    replace(decided, withdrawn_cases=("x",), pool_changes=(change,)).save(folder.decisions)
    for checkpoint in folder.root.rglob("checkpoint_*.pth"):
        checkpoint.unlink()
    seen = gather(here, folder)
    assert same(seen, found["entropy"])
    assert not seen.remark
    # a correction changes what is shown, and there is no model to make it anew with
    append(context, 3, CORRECTION, region, 2)
    seen = gather(here, folder)
    assert same(seen, found["entropy"])
    assert "Labels of these cases were corrected after this was computed" in seen.remark
    # what a withdrawn case is part of is never shown again
    pool = tuple(case for case in decided.pool_cases if case != region.case)
    replace(decided, pool_cases=pool, withdrawn_cases=(region.case,)).save(folder.decisions)
    assert isinstance(gather(here, folder), str)


def test_a_case_that_came_later_is_not_on_the_map(own):
    here, folder = own
    context = here.context(folder)
    late = batch_region(folder).case
    change = {"round": 2, "added": [late], "withdrawn": [], "test": [], "reason": ""}
    context.decided = replace(context.decided, pool_changes=(change,))
    shown = choose_regions(context)
    assert len(shown.numbers_N)
    assert late not in {context.regions[number].case for number in shown.numbers_N.tolist()}


def test_labels_of_people_are_composed_of_answers_and_corrections_and_nothing_else(own):
    """Overlays and errors of round 1; its batch was answered by the dataset, and people disagree later."""
    here, folder = own
    context, region = here.context(folder), batch_region(folder)
    case, box = region.case, to_slices(region.box)
    before_xyz = new_labels(context, case)
    new_xyz = before_xyz != context.ignore
    assert new_xyz[box].any()
    append(context, 1, READING, region, 2)
    append(context, 2, READER, region, 2)
    assert np.array_equal(new_labels(context, case), before_xyz)
    other = next(r for r in asked_regions(folder.round(0)))
    append(context, 1, CORRECTION, other, 2)  # the model has learned from it: it is not new
    assert (new_labels(context, other.case)[to_slices(other.box)] == context.ignore).all()
    expected = new_labels(context, case)
    append(context, 4, CORRECTION, region, 2)
    expected[box] = np.where(new_xyz[box], 2, context.ignore)
    assert np.array_equal(new_labels(context, case), expected)
    with here.at_work():
        (panel, *_) = panels_of(context, 1)
    index = sum(region.box[context.geometries[case].transpose_forward[0]]) // 2
    across = context.geometries[case].transpose_forward[0]
    shown = np.take(expected, index, across)
    assert np.array_equal(panel.reference_yx, np.where(shown == context.ignore, 0, shown))


def test_a_broken_entry_of_the_batch_costs_the_pictures_and_not_the_report(own):
    here, folder = own
    content = read_json(folder.round(1).batch)
    del content["regions"][0]["box"]
    folder.round(1).batch.write_text(json.dumps(content))
    sentence = gather(here, folder)
    assert isinstance(sentence, str)
    assert "cannot be read" in sentence


def test_it_outlives_its_checkpoint_and_without_both_there_is_a_sentence(own, found):
    here, folder = own
    for checkpoint in folder.root.rglob("checkpoint_*.pth"):
        checkpoint.unlink()
    assert same(gather(here, folder), found["entropy"])
    shutil.rmtree(folder.round(1).root / "report")
    assert gather(here, folder) == "No complete round has a model any more: its checkpoint is needed for this."


def test_a_case_or_file_that_is_gone_and_a_round_that_is_not_complete_give_sentences(own, lab, tmp_path):
    here, folder = own
    shutil.rmtree(folder.round(1).root / "report")
    raw = tmp_path / "raw"
    shutil.copytree(lab.roots.raw, raw)
    gone = sorted((raw / DATASET / "imagesTr").iterdir())[0]
    gone.unlink()
    sentence = gather(here.with_raw(raw), folder)
    assert isinstance(sentence, str)
    assert gone.name.removesuffix("_0000.nii.gz") in sentence

    regions = folder.root / "regions.npz"
    regions.rename(tmp_path / "regions.npz")
    sentence = gather(here.with_raw(raw), folder)  # they cannot be cut again without the case
    assert isinstance(sentence, str)
    (tmp_path / "regions.npz").rename(regions)

    (folder.round(1).stages / "annotate.json").unlink()
    assert isinstance(gather(here, folder), str)


def test_a_folder_that_cannot_be_written_changes_nothing_and_a_missing_device_is_said(own, found, monkeypatch):
    here, folder = own
    shutil.rmtree(folder.round(1).root / "report")

    def refuse(*_, **__):
        raise StorageError("no")

    with monkeypatch.context() as patch:
        patch.setattr(evidence_record, "write_arrays", refuse)
        assert same(gather(here, folder), found["entropy"])

    def no_device(*_):
        raise SetupError("no such device")

    monkeypatch.setattr(module, "_compute", no_device)
    with pytest.raises(SetupError):
        gather(here, folder)


# --- map -------------------------------------------------------------------------------------------------------------


def test_each_region_has_one_role_and_batch_and_query_set_are_on_the_map_in_full(lab, campaigns, found):
    for name, seen in found.items():
        context = lab.context(campaigns[name])
        assert sum(seen.of_role.values()) == len(context.regions) == len(seen.points)
        by_role = {role: {p.region for p in seen.points if p.role == role} for role in seen.of_role}
        assert by_role["batch"] == {entry.region for entry in seen.batch}
        assert {role: len(regions) for role, regions in by_role.items()} == seen.of_role
        assert context.annotated_regions <= by_role["annotated"]
    round_ = campaigns["usimf"].round(1)
    numbers = read_arrays(round_.scores)["numbers_N"][read_arrays(round_.query)["indices_Q"]]
    query = {lab.context(campaigns["usimf"]).regions[number] for number in numbers.tolist()}
    roles = {point.region: point.role for point in found["usimf"].points}
    assert {roles[region] for region in query} <= {"query", "batch"}
    assert found["entropy"].of_role["query"] == 0


def test_a_large_pool_is_drawn_from(lab, campaigns):
    context = lab.context(campaigns["usimf"])
    everything, some = choose_regions(context), choose_regions(context, 30)
    assert everything.drawn_N.all()
    assert len(some.numbers_N) <= 30
    kept = set(everything.numbers_N[everything.roles_N >= 2].tolist())
    assert kept <= set(some.numbers_N.tolist())
    assert some.of_role == everything.of_role
    assert np.array_equal(some.numbers_N, choose_regions(context, 30).numbers_N)
    assert some.drawn_N.sum() == 30 - len(kept)


def test_t_sne_keeps_clusters_apart_and_gives_the_same_again():
    rng = np.random.default_rng(0)
    features = np.concatenate([rng.normal(0, 0.1, (20, 6)), rng.normal(50, 0.1, (20, 6))]).astype(np.float32)
    places = tsne_map(features, 3)
    assert places.shape == (40, 2)
    assert np.array_equal(places, tsne_map(features, 3))
    within = np.linalg.norm(places[:20] - places[:20].mean(0), axis=1).max()
    assert np.linalg.norm(places[:20].mean(0) - places[20:].mean(0)) > 2 * within


def test_too_few_regions_or_equal_ones_have_no_map():
    rng = np.random.default_rng(0)
    assert tsne_map(rng.random((FEWEST - 1, 5)), 0) is None
    assert tsne_map(rng.random((FEWEST, 5)), 0) is not None
    assert tsne_map(np.ones((30, 5)), 0) is None
    assert tsne_map(rng.random((30, 1)), 0) is None
    assert tsne_map(np.full((30, 5), np.nan), 0) is None


# --- redundancy ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_mean_similarity_is_that_of_all_pairs(seed):
    vectors = np.random.default_rng(seed).normal(size=(7, 4))
    expected = np.mean([cosine_similarity(vectors)[i, j] for i, j in combinations(range(7), 2)])
    assert mean_similarity(unit_vectors(vectors)) == pytest.approx(expected)
    assert unit_vectors(np.zeros((2, 3))) is None


def test_redundancy_worked_out_by_hand():
    """Four regions: two that point the same way, one the other way, one across; their mean is 0."""
    features = np.array([[1.0, 0.0], [1.0, 0.0], [-2.0, 3.0], [0.0, -3.0]]) + 10
    regions = [Region("a", ((0, 1), (0, 4), (0, 4))), Region("a", ((0, 1), (0, 4), (2, 6)))]
    regions += [Region("b", ((0, 1), (0, 2), (0, 2))), Region("c", ((0, 1), (0, 2), (0, 2)))]
    shapes = dict.fromkeys("abc", (1, 8, 8))
    found = redundancy(features, regions, np.arange(4), np.array([0, 1]), shapes, np.random.default_rng(0))
    assert found.similarity == pytest.approx(1)
    assert (found.regions, found.pool, found.cases, found.largest_share) == (2, 4, 1, 1.0)
    assert found.voxels_twice == pytest.approx(8 / 32)
    # of the 6 pairs, one lies in one case
    assert found.random_cases == pytest.approx(2 - 1 / 6, abs=0.05)
    assert found.random_largest_share == pytest.approx((1 + 5 * 0.5) / 6, abs=0.05)
    pairs = [cosine_similarity(features - 10)[i, j] for i, j in combinations(range(4), 2)]
    mean, low, high = found.random_similarity
    assert mean == pytest.approx(np.mean(pairs), abs=0.06)
    assert (low, high) == (pytest.approx(min(pairs)), pytest.approx(max(pairs)))


def test_small_pools_and_batches_leave_open_what_cannot_be_said():
    regions = [Region("a", ((0, 1), (0, 2), (0, 2))), Region("a", ((0, 1), (2, 4), (0, 2)))]
    features, shapes, rng = np.array([[0.0, 1.0], [1.0, 0.0]]), {"a": (1, 4, 4)}, np.random.default_rng(0)
    alone = redundancy(features, regions, np.arange(2), np.array([1]), shapes, rng)
    assert alone.similarity is None
    assert alone.random_cases == 1
    assert alone.voxels_twice == 0
    short = redundancy(features, regions, np.array([0]), np.array([0, 1]), shapes, rng)
    assert short.random_similarity is None
    assert short.random_cases is None
    assert redundancy(features * 0, regions, np.arange(2), np.arange(2), shapes, rng).similarity is None


@pytest.mark.parametrize("seed", range(5))
def test_voxels_twice_is_what_counting_voxels_gives(seed):
    rng = np.random.default_rng(seed)
    regions = []
    for _ in range(6):
        low = rng.integers(0, 5, 3)
        box = tuple((int(a), int(a + b)) for a, b in zip(low, rng.integers(1, 4, 3), strict=True))
        regions.append(Region("ab"[rng.integers(2)], box))
    asked = [
        (r.case, *v)
        for r in regions
        for v in np.ndindex(8, 8, 8)
        if all(a <= i < b for i, (a, b) in zip(v, r.box, strict=True))
    ]
    assert voxels_twice(regions, {"a": (8, 8, 8), "b": (8, 8, 8)}) == pytest.approx(1 - len(set(asked)) / len(asked))


# --- error and correlation -------------------------------------------------------------------------------------------


def test_region_error_worked_out_by_hand():
    classes, ignore = {"organ": (1, 2), "lesion": 2}, 3
    labels = np.array([[1, 1, 2, 0, 3, 3]])
    assert region_error(labels, labels, classes, ignore) == 0
    # organ: 2 * 2 / (3 + 2); lesion: nothing of it predicted; voxels without annotation do not count
    assert region_error(np.array([[1, 0, 1, 0, 2, 2]]), labels, classes, ignore) == pytest.approx(1 - (0.8 + 0) / 2)
    assert region_error(np.zeros((1, 6), int), np.array([[0, 0, 0, 0, 3, 3]]), classes, ignore) == 0
    assert region_error(np.array([[1, 0, 0, 0, 0, 0]]), np.array([[0, 0, 0, 0, 3, 3]]), classes, ignore) == 1
    assert region_error(labels, np.full((1, 6), 3), classes, ignore) is None


def test_rank_correlation_by_hand_and_where_there_is_none():
    assert rank_correlation([1, 2, 3, 4], [10, 20, 30, 1000]).rho == pytest.approx(1)
    assert rank_correlation([1, 2, 3, 4], [4, 3, 2, 1]).rho == pytest.approx(-1)
    # ranks 1 2 3 4 and 1 3 2 4: 1 - 6 * 2 / (4 * 15)
    assert rank_correlation([1, 2, 3, 4], [1, 3, 2, 4]).rho == pytest.approx(0.8)
    ignored = rank_correlation([1, 2, None, 3, 4], [1, 3, 0, 2, 4])
    assert (ignored.rho, ignored.n) == (pytest.approx(0.8), 4)
    assert rank_correlation([1, 2], [1, 2]).rho is None
    assert rank_correlation([1, 2, 3], [1, 1, 1]).why == "all values are the same"


# --- maps on raw slices ----------------------------------------------------------------------------------------------


def geometry(raw=(6, 8, 10), transpose=(0, 1, 2), crop=None, network=None):
    transposed = tuple(raw[axis] for axis in transpose)
    crop = crop or tuple((0, length) for length in transposed)
    network = network or tuple(high - low for low, high in crop)
    return CaseGeometry("a", raw, (1.0, 1.0, 1.0), transpose, crop, network)


@pytest.mark.parametrize("transpose", [(0, 1, 2), (2, 0, 1), (1, 0, 2), (0, 2, 1), (2, 1, 0)])
def test_a_map_without_resampling_is_the_transposed_and_cropped_image(transpose):
    raw_xyz = np.random.default_rng(0).random((6, 8, 10))
    shape = raw_xyz.transpose(transpose).shape
    crop = ((1, shape[0]), (2, shape[1] - 1), (0, shape[2] - 3))
    network_xyz = raw_xyz.transpose(transpose)[to_slices(crop)]
    where = geometry(transpose=transpose, crop=crop)
    for index in range(shape[0]):
        plane = on_raw_slice(network_xyz, where, index)
        expected = np.full((6, 8, 10), np.nan)
        inside = to_slices(where.raw_crop_box)
        expected[inside] = raw_xyz[inside]
        assert np.allclose(plane, np.take(expected, index, transpose[0]), equal_nan=True)


def test_a_map_that_was_resampled_is_interpolated_with_borders_that_coincide():
    """A ramp over 4 network voxels on 8 raw voxels: raw centres lie a quarter of a network voxel beside."""
    ramp_xyz = np.broadcast_to(np.arange(4.0), (6, 8, 4))
    where = geometry(raw=(6, 8, 8), network=(6, 8, 4))
    plane = on_raw_slice(ramp_xyz, where, 2)
    assert np.allclose(plane[3], [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3])  # held at the ends
    thick = geometry(raw=(6, 8, 8), network=(2, 8, 8))
    assert [network_slice(thick, index) for index in range(6)] == [0, 0, 0, 1, 1, 1]
    assert network_slice(geometry(crop=((2, 4), (0, 8), (0, 10))), 1) is None


def test_a_part_of_the_map_is_enough():
    whole = np.random.default_rng(0).random((6, 8, 10))
    assert np.array_equal(on_raw_slice(whole[3:4], geometry(), 3, 3), on_raw_slice(whole, geometry(), 3))


# --- figures ---------------------------------------------------------------------------------------------------------


def test_figures_say_in_words_what_they_show(found):
    seen = found["usimf"]
    plane = map_figure("usimf, fold 0", seen)
    assert plane.svg.startswith("<svg")
    assert f"{seen.of_role['query']} of {seen.of_role['query']} query set" in plane.alt
    cloud = error_figure("usimf, fold 0", seen)
    assert "n = 5" in cloud.alt
    bars = redundancy_figure([("usimf, fold 0", seen), ("entropy, fold 0", found["entropy"])])
    assert f"usimf, fold 0, round 1: {seen.redundancy['similarity']:.3f}" in bars.alt
    for drawn in (plane, cloud, bars):
        assert "<script" not in drawn.svg
        assert drawn.alt
    assert map_figure("usimf, fold 0", seen) == plane


def test_marks_stand_out_from_white():
    """WCAG 1.4.11: 3 to 1, and a grey g has the luminance ((g + 0.055) / 1.055) ** 2.4."""
    luminance = ((float(POOL) + 0.055) / 1.055) ** 2.4
    assert 1.05 / (luminance + 0.05) >= 3


def test_without_a_map_a_batch_or_answers_there_is_no_figure(found):
    seen = found["usimf"]
    assert map_figure("a", replace(seen, points=())) is None
    assert error_figure("a", replace(seen, batch=tuple(replace(entry, error=None) for entry in seen.batch))) is None
    assert redundancy_figure([("a", replace(seen, redundancy=None))]) is None
