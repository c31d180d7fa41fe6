"""The first batch: a draw, or regions that are spread out by what their images look like."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK
from scipy.spatial.distance import cdist
from tiny_rounds import DATASET, campaign_folder, run_round

from nnunet_al.campaign.data import read_data
from nnunet_al.campaign.decisions import Decisions, Options
from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.campaign.request import Request
from nnunet_al.files import read_json
from nnunet_al.rounds.context import RoundContext
from nnunet_al.rounds.stages import select_initial
from nnunet_al.rounds.stages.select_initial import pool_features
from nnunet_al.rounds.start import start


@pytest.fixture
def context_of(make_roots):
    """A function from decisions that differ from the defaults to the context of round 0."""

    def build(number: int = 0, workers: int = 1, roots=None, **decided) -> RoundContext:
        roots = roots or make_roots(channels=2)
        requested = replace(Request(DATASET, "2d", 0, 0, f"t{number}", "random").decide(), initial=6, **decided)
        folder = CampaignFolder.of(roots, DATASET, "2d", "random", 0, f"t{number}", 0)
        data = read_data(roots, DATASET, "fold", 1)
        requested = start(folder, requested, roots, data, 1)
        return RoundContext(folder, 0, requested, roots, data, Options("cpu", workers))

    return build


def another(context: RoundContext, **changes) -> RoundContext:
    """The same campaign with other decisions."""
    decided = replace(context.decided, **changes)
    return RoundContext(context.folder, 0, decided, context.roots, context.data, context.options)


def batch_of(context: RoundContext) -> list[tuple[str, str, float | None]]:
    select_initial.select_initial(context)
    return [(e["case"], str(e["box"]), e["score"]) for e in read_json(context.round.batch)["regions"]]


def test_the_command_spreads_the_batch_out(roots, capsys):
    assert run_round("-initial_strategy", "core_set") == 0
    folder = campaign_folder(roots)
    assert read_json(folder / "campaign.json")["initial_strategy"] == "core_set"
    asked = read_json(folder / "round_000" / "batch.json")["regions"]
    assert len(asked) == 6
    distances = [region["score"] for region in asked]
    assert distances[0] == 0
    assert distances[1:] == sorted(distances[1:], reverse=True)
    assert distances[-1] > 0


def test_each_region_is_the_farthest_from_those_before(context_of):
    context = context_of(initial_strategy="core_set")
    batch = batch_of(context)
    numbers = np.arange(len(context.regions))
    features = pool_features(context, numbers)
    assert features.shape == (len(numbers), 2 * 10 + 5)  # each is one slice of equally many: that says nothing
    np.testing.assert_allclose(features.mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(features.std(0), 1)
    row = {(region.case, str([list(side) for side in region.box])): n for n, region in enumerate(context.regions)}
    chosen = [row[case, box] for case, box, _ in batch]
    assert len(set(chosen)) == 6
    for count in range(1, 6):
        nearest = cdist(features, features[chosen[:count]]).min(1)
        assert nearest[chosen[count]] == pytest.approx(nearest.max())
        assert batch[count][2] == pytest.approx(nearest.max())
    # better spread than a draw: no region is as far from the batch as from a random one
    drawn = [row[case, box] for case, box, _ in batch_of(another(context, initial_strategy="random"))]
    assert cdist(features, features[chosen]).min(1).max() < cdist(features, features[drawn]).min(1).max()


def test_a_seed_decides_where_it_begins(context_of):
    context = context_of(initial_strategy="core_set")
    first = [batch_of(another(context, seed=seed))[0][:2] for seed in range(4)]
    assert len(set(first)) > 1
    assert batch_of(another(context, seed=3))[0][:2] == first[3]


def test_neither_the_order_of_the_pool_nor_the_workers_change_anything(context_of, monkeypatch):
    context = context_of(initial_strategy="core_set")
    expected = batch_of(context)
    numbers = np.arange(len(context.regions))
    features = pool_features(context, numbers)
    shuffled = np.random.default_rng(0).permutation(numbers)
    np.testing.assert_array_equal(pool_features(context, shuffled), features[shuffled])
    turned = another(context)
    turned.regions = context.regions[::-1]
    assert batch_of(turned) == expected

    def elsewhere(function, jobs, workers, *rest, **more):
        """Jobs in another order, after the way to another process and back."""
        assert workers == 3
        there = [pickle.loads(pickle.dumps((function, job))) for job in jobs]
        return [function(*job) for function, job in reversed(there)][::-1]

    monkeypatch.setattr(select_initial, "run_jobs", elsewhere)
    many = RoundContext(context.folder, 0, context.decided, context.roots, context.data, Options("cpu", workers=3))
    assert batch_of(many) == expected


@pytest.mark.parametrize("strategy", ["core_set", "random"])
def test_groups_get_what_they_were_promised(context_of, strategy):
    context = context_of(initial_strategy=strategy)
    pool = context.decided.pool_cases
    groups = {case: "few" if case in pool[:2] else "many" for case in pool}
    batch = batch_of(another(context, groups=groups, initial_groups={"many": 2, "few": 4}))
    assert [groups[case] for case, *_ in batch] == ["few"] * 4 + ["many"] * 2
    assert len(set(batch)) == 6


@pytest.mark.parametrize("strategy", ["core_set", "random"])
def test_a_withdrawn_case_is_no_candidate(context_of, strategy):
    context = context_of(initial_strategy=strategy)
    case = batch_of(context)[0][0]
    pool = tuple(other for other in context.decided.pool_cases if other != case)
    less = another(context, pool_cases=pool, withdrawn_cases=(case,), initial=10_000)
    batch = batch_of(less)
    assert {found for found, *_ in batch} == set(pool)
    assert len(batch) == sum(region.case != case for region in context.regions)


def test_only_the_images_decide(context_of, roots):
    first = batch_of(context_of(1, roots=roots, initial_strategy="core_set"))
    for label in (roots.raw / DATASET / "labelsTr").iterdir():
        image = roots.raw / DATASET / "imagesTr" / label.name.replace(".nii.gz", "_0000.nii.gz")
        reference = SimpleITK.ReadImage(str(image))
        blank = SimpleITK.Image(reference.GetSize(), SimpleITK.sitkUInt8)
        blank.CopyInformation(reference)
        SimpleITK.WriteImage(blank, str(label))
    assert batch_of(context_of(2, roots=roots, initial_strategy="core_set")) == first


def test_slices_and_whole_cases_have_features(context_of):
    for number, unit in enumerate(("slice", "case")):
        context = context_of(number, initial_strategy="core_set", unit=unit)
        assert len(batch_of(context)) == 6


def test_the_first_batch_of_an_older_campaign_stays_a_draw(context_of, tmp_path):
    context = context_of()
    path = tmp_path / "campaign.json"
    context.decided.save(path)
    content = read_json(path)
    del content["initial_strategy"], content["pool_changes"], content["left_out_cases"]
    path.write_text(json.dumps(content))
    older = Decisions.load(path)
    assert (older.initial_strategy, older.pool_changes, older.left_out_cases) == ("random", (), ())
