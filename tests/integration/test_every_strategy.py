"""Every strategy selects through the command's own code from one shared trained round, in 2d and in 3d."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from nnunet_al.campaign.decisions import Decisions
from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.files import read_json, write_json
from nnunet_al.nnunet.environment import Roots
from nnunet_al.pool.boxes import Region, as_box
from nnunet_al.rounds.candidates import candidate_numbers
from nnunet_al.strategies.catalog import CATALOG, with_parameters
from nnunet_al.synthetic.phantom import make_phantom_dataset

from .campaigns import DATASET, SIZES, USIMF, Lab, copy_unselected, read_volume, rewrite_volume

COMPOSED = (
    "entropy+tta+localized",
    "margin+mc_dropout+target+stochastic_batches",
    "least_confidence+boundary",
    "bald+selective+softrank",
    "mean_std+ensemble+usimc",
    "entropy+localized+usimf",
    "learning_loss+stochastic_batches",
    "class_variance+tta",
    "bald+selective+fair",
)


def selects(base: Lab, source: CampaignFolder, lab: Lab, configuration: str, strategy: str, budget: int) -> None:
    """Let a strategy select in round 1 of a copy of ``source``, and look at what it asks for."""
    campaign = copy_unselected(source, lab, configuration, strategy)
    with lab.at_work():
        context = lab.context(campaign)
        candidates = {context.regions[number] for number in candidate_numbers(context)}
    assert lab.round(configuration, strategy, "-round", "1") == 0
    batch = read_json(campaign.round(1).batch)
    chosen = [Region(entry["case"], as_box(entry["box"])) for entry in batch["regions"]]
    assert len(chosen) == len(set(chosen)) == min(budget, len(candidates))
    assert set(chosen) <= candidates, "something annotated came back"
    assert context.ledger.commit_of_round(1) is not None


PLACES = [(configuration, unit) for configuration in ("2d", "3d_fullres") for unit in ("patch", "slice", "case")]
EVERYWHERE = [(*place, strategy) for place in PLACES for strategy in CATALOG]
EVERYWHERE += [(*place, strategy) for place in (("2d", "slice"), ("3d_fullres", "case")) for strategy in COMPOSED]


@pytest.mark.slow
@pytest.mark.parametrize("configuration, unit, strategy", EVERYWHERE)
def test_a_strategy_selects_from_the_trained_round(trained, new_results, configuration, unit, strategy):
    base, source = trained(configuration, unit)
    selects(base, source, new_results(base), configuration, strategy, SIZES[unit][1])


@pytest.mark.slow
@pytest.mark.parametrize("configuration", ["2d", "3d_fullres"])
@pytest.mark.parametrize(
    "strategy, variant",
    [
        ("core_set", {"pooling": "flatten"}),
        ("usimc", {"compression": "count_sketch"}),
        ("badge", {"compression": "count_sketch"}),
        ("usimf", {"heads": "full", "layers": "all"}),
        ("usimf", {"heads": "trained"}),
        ("usimf", {"query_mode": "max", "query_size": 30, "eta": 10.0}),
        ("usimf", {"query_mode": "uniform", "greedy": "naive"}),
        ("stochastic_batches", {"num_batches": 4}),
    ],
)
def test_variants_of_a_method_choose_otherwise(trained, new_results, configuration, strategy, variant):
    base, source = trained(configuration, "patch")
    batches = []
    for parameters in ({}, variant):
        lab = new_results(base)
        campaign = copy_unselected(source, lab, configuration, strategy)
        decided = Decisions.load(campaign.decisions)
        replace(decided, recipe=with_parameters(decided.recipe, **parameters)).save(campaign.decisions)
        assert lab.round(configuration, strategy, "-round", "1") == 0
        batches.append(read_json(campaign.round(1).batch)["regions"])
    assert len(batches[0]) == len(batches[1])
    assert batches[0] != batches[1]


@pytest.fixture(scope="module")
def unusual(tmp_path_factory) -> Callable[[str], tuple[Lab, CampaignFolder]]:
    """A function from a kind of dataset to a campaign on it with round 1 done."""
    made: dict[str, tuple[Lab, CampaignFolder]] = {}

    def get(kind: str) -> tuple[Lab, CampaignFolder]:
        if kind not in made:
            roots = Roots.below(tmp_path_factory.mktemp("unusual")).create()
            folder = roots.raw / DATASET
            several = {"regions": True, "channels": 2} if kind == "regions and two channels" else {}
            make_phantom_dataset(folder, cases=5, shape=(16, 20, 12), **several)
            if kind == "one class":
                content = read_json(folder / "dataset.json")
                write_json(folder / "dataset.json", {**content, "labels": {"background": 0, "organ": 1}})
                for file in (folder / "labelsTr").iterdir():
                    rewrite_volume(file, np.minimum(read_volume(file), 1))
            lab = Lab(roots)
            made[kind] = lab, lab.start("2d", "usimf", "-unit", "slice", "-initial", "6", "-b", "3", *USIMF)
        return made[kind]

    return get


UNUSUAL = [("regions and two channels", strategy) for strategy in (*CATALOG, *COMPOSED)]
UNUSUAL += [
    ("one class", strategy) for strategy in ("margin", "usimf", "selective", "badge", "learning_loss", "clasp_pe")
]


@pytest.mark.slow
@pytest.mark.parametrize("kind, strategy", UNUSUAL)
def test_on_other_kinds_of_classes_and_channels(unusual, new_results, kind, strategy):
    base, source = unusual(kind)
    selects(base, source, new_results(base), "2d", strategy, 3)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["usimf", "usimc", "core_set", "badge", "kmeans_bald", "selective", "clasp_pe"])
def test_the_last_regions_and_then_none(trained, new_results, strategy, capsys):
    base, source = trained("2d", "case")
    lab = new_results(base)
    campaign = copy_unselected(source, lab, "2d", strategy)
    replace(Decisions.load(campaign.decisions), budget=99).save(campaign.decisions)
    left = len(read_json(campaign.root / "round_000" / "batch.json")["regions"])
    with lab.at_work():
        left = len(lab.context(campaign).regions) - left
    assert lab.round("2d", strategy, "-round", "1") == 0
    assert len(read_json(campaign.round(1).batch)["regions"]) == left
    assert lab.round("2d", strategy, "-round", "2") == 0, "a last model, trained on everything"
    assert read_json(campaign.round(2).batch)["regions"] == []
    assert lab.round("2d", strategy) == 0
    assert "nothing is left to annotate" in capsys.readouterr().out
