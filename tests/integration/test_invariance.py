"""The same model, pool and seed give the same batch, however the work is cut; and it is what the formulas say."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from nnunet_al.files import read_arrays
from nnunet_al.nnunet import workers
from nnunet_al.rounds.stages import embed, fisher as stage_fisher, score
from nnunet_al.selection.top_k import top_k

from .campaigns import DATASET, copy_unselected, list_cases, outcome
from .reference import Reference

PLAIN = ("usimf", "bald", "entropy", "random_foreground")
OTHERS = (
    "weighted_localized_entropy",
    "entropy+tta+localized",
    "learning_loss",
    "core_set",
    "badge",
    "clasp_pe",
    "selective",
)
PLACES = [(configuration, unit) for configuration in ("2d", "3d_fullres") for unit in ("patch", "slice", "case")]
EVERYWHERE = [(*place, strategy) for place in PLACES for strategy in PLAIN]
EVERYWHERE += [(*place, strategy) for place in (("2d", "case"), ("3d_fullres", "patch")) for strategy in OTHERS]


@pytest.mark.slow
@pytest.mark.parametrize("configuration, unit, strategy", EVERYWHERE)
def test_how_the_work_is_cut_changes_no_batch(
    trained, new_results, tmp_path, monkeypatch, configuration, unit, strategy
):
    base, source = trained(configuration, unit)

    def redo(*calls, raw=None):
        lab = new_results(base)
        lab = lab if raw is None else lab.with_raw(raw)
        campaign = copy_unselected(source, lab, configuration, strategy)
        for call in calls:
            assert lab.round(configuration, strategy, "-round", "1", *call) == 0
        return outcome(campaign)

    expected = outcome(source) if strategy == "usimf" else redo(())
    assert len(expected["batch"]) > 0

    parts = [("-num_parts", "3", "-part_id", part, "-scoring_batch_size", "1") for part in "201" * 3]
    assert redo(*parts) == expected, "three shards, the last one first, with the smallest chunks"

    raw = tmp_path / "listed"
    list_cases(base.roots.raw / DATASET, raw / DATASET)
    iterdir = Path.iterdir

    def shuffled(path):
        entries = list(iterdir(path))
        random.Random(5).shuffle(entries)
        return iter(entries)

    monkeypatch.setattr(Path, "iterdir", shuffled)
    monkeypatch.setattr(workers, "MAX_VOXELS_IN_PROCESS", 0)  # so little work would be done in this process
    assert redo(("-np", "2", "-scoring_batch_size", "65"), raw=raw) == expected, "larger chunks, files in another order"


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["bald", "entropy+tta+localized", "learning_loss"])
def test_half_precision_ranks_as_float32_and_no_cut_changes_it(trained, new_results, strategy):
    base, source = trained("3d_fullres", "patch")

    def scores(precision, *calls):
        lab = new_results(base)
        campaign = copy_unselected(source, lab, "3d_fullres", strategy, precision=precision)
        for call in calls:
            assert lab.round("3d_fullres", strategy, "-round", "1", *call) == 0
        return outcome(campaign), read_arrays(campaign.round(1).scores)["scores_N"]

    half, half_N = scores("half", ())
    parts = [("-num_parts", "2", "-part_id", part, "-scoring_batch_size", "1") for part in "10" * 2]
    assert scores("half", *parts)[0] == half
    _, full_N = scores("float32", ())
    assert not np.array_equal(half_N, full_N)
    assert spearmanr(half_N, full_N).statistic > 0.98


@pytest.mark.slow
@pytest.mark.parametrize("configuration, unit", [("2d", "slice"), ("3d_fullres", "patch"), ("3d_fullres", "case")])
@pytest.mark.parametrize("strategy", PLAIN)
def test_scores_are_those_of_a_plain_loop_over_regions(trained, new_results, configuration, unit, strategy):
    base, source = trained(configuration, unit)
    lab = new_results(base)
    campaign = copy_unselected(source, lab, configuration, strategy)
    with lab.at_work():
        context = lab.context(campaign)
        score.score_part(context)
        score.score_merge(context)
        found = read_arrays(context.round.scores)
        plain = Reference(context)
        assert found["numbers_N"].tolist() == plain.candidates()
        scores, foreground = plain.scores()
    np.testing.assert_array_equal(found["foreground_N"], foreground)
    if strategy != "random_foreground":
        np.testing.assert_allclose(found["scores_N"], scores, rtol=1e-5, atol=1e-5 * np.abs(scores).max())
    if strategy in {"bald", "entropy"}:
        names_N = [context.regions[number].name for number in found["numbers_N"]]
        fast, slow = (set(top_k(scores_N, names_N, 5).indices_B.tolist()) for scores_N in (found["scores_N"], scores))
        assert fast == slow


@pytest.mark.slow
@pytest.mark.parametrize("configuration, unit", [("2d", "slice"), ("3d_fullres", "case")])
def test_embeddings_are_those_of_plain_backpropagation(trained, new_results, configuration, unit):
    base, source = trained(configuration, unit)
    lab = new_results(base)
    campaign = copy_unselected(source, lab, configuration, "usimf")
    with lab.at_work():
        context = lab.context(campaign, scoring_batch_size=5)
        for module, stage in (
            (score, "score_part"),
            (score, "score_merge"),
            (stage_fisher, "fisher"),
            (embed, "embed_part"),
            (embed, "embed_merge"),
        ):
            getattr(module, stage)(context)
        embeddings_N_d = np.load(context.round.embeddings)
        fisher = read_arrays(context.round.fisher)
        plain = Reference(context)
        numbers = plain.candidates()
        assert len(embeddings_N_d) == len(numbers)

        entries = {name.removeprefix("entries/"): part for name, part in fisher.items() if "/" in name}
        assert all(name.startswith("decoder.") for name in entries)
        query = read_arrays(context.round.query)
        draws = np.repeat(query["indices_Q"], query["multiplicities_Q"])
        subset = context.rng("fisher subset").choice(draws, min(5, len(draws)), replace=False)
        gradients = {
            index: plain.gradient(numbers[index], int(fisher["heads"]))
            for index in {*subset.tolist(), *range(0, len(numbers), 3)}
        }

    f_d = np.mean([_flat(gradients[index], entries) ** 2 for index in subset.tolist()], axis=0)
    scale_d = 1 / np.sqrt(f_d + 1e-3 * f_d.mean())
    np.testing.assert_allclose(fisher["scale_d"], scale_d, rtol=1e-3)
    for index, gradient in gradients.items():
        expected_d = _flat(gradient, entries) * scale_d
        np.testing.assert_allclose(embeddings_N_d[index], expected_d, rtol=2e-3, atol=1e-3 * np.abs(expected_d).max())


def _flat(gradient, entries):
    return np.concatenate([gradient[name].ravel()[part] for name, part in entries.items() if len(part)])
