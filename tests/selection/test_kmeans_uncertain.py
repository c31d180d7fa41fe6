from __future__ import annotations

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from nnunet_al.selection.kmeans_plusplus import kmeans_plusplus
from nnunet_al.selection.kmeans_uncertain import kmeans_uncertain, standardised

from .pools import chosen, names


def test_only_the_most_uncertain_of_each_case_can_be_chosen():
    names_N = ["a1", "a2", "a3", "b1", "b2", "b3", "c1"]
    cases_N = [name[0] for name in names_N]
    scores_N = np.array([0.9, 0.8, 0.7, 0.3, 0.1, 0.3, 0.0])
    features = np.random.default_rng(0).normal(size=(7, 3))
    seen = set()
    for seed in range(60):
        # round(.5 · 2) = 1 of each case; of the two equal ones of b the earlier name
        rng = np.random.default_rng(seed)
        seen |= set(chosen(kmeans_uncertain(scores_N, features, cases_N, names_N, 2, rng, per_case=0.5), names_N))
    assert seen == {"a1", "b1", "c1"}


def test_the_number_of_each_case_grows_until_the_budget_is_reached():
    cases_N = ["big"] * 9 + ["small"]
    scores_N = np.arange(10.0)[::-1]
    features = np.random.default_rng(0).normal(size=(10, 3))
    for seed in range(20):
        rng = np.random.default_rng(seed)
        selection = kmeans_uncertain(scores_N, features, cases_N, names(10), 5, rng, per_case=0.2)
        assert set(selection.indices_B) == {0, 1, 2, 3, 9}  # one each are 2: grows to four of the big case


def test_it_is_kmeans_plusplus_on_the_standardised_kept_rows():
    rng = np.random.default_rng(0)
    scores_N, features = rng.random(40), rng.normal(size=(40, 5)) * [1, 100, 1e-6, 3, 1] + 7
    cases_N = [f"case {index % 2}" for index in range(40)]
    kept = np.sort(np.concatenate([np.arange(c, 40, 2)[np.argsort(-scores_N[c::2])[:12]] for c in (0, 1)]))
    expected = kmeans_plusplus(
        StandardScaler().fit_transform(features[kept]),
        [names(40)[index] for index in kept],
        6,
        np.random.default_rng(3),
        first="uniform",
    )
    selection = kmeans_uncertain(scores_N, features, cases_N, names(40), 6, np.random.default_rng(3))
    np.testing.assert_array_equal(selection.indices_B, kept[expected.indices_B])
    np.testing.assert_allclose(selection.gains_B, expected.gains_B, rtol=1e-9)


def test_standardised_is_scikit_learns():
    features = np.random.default_rng(0).normal(size=(50, 4)) * [1, 1e3, 1e-5, 2] + [0, 5, 1, -3]
    np.testing.assert_allclose(standardised(features), StandardScaler().fit_transform(features), atol=1e-10)


def test_constant_dimensions_become_zero():
    # the float64 mean of 0.1s is not 0.1, so their deviation is not 0
    features = np.stack([np.full(49, 0.1), np.arange(49.0), np.full(49, 1e300)], axis=1)
    scaled = standardised(features)
    assert (scaled[:, [0, 2]] == 0).all()
    assert scaled[:, 1].std() == pytest.approx(1)
    assert (standardised(np.array([[3.0, 4.0]])) == 0).all()


def test_units_of_a_feature_do_not_matter():
    rng = np.random.default_rng(0)
    scores_N, features, cases_N = rng.random(30), rng.normal(size=(30, 3)), ["one"] * 30
    batches = [
        kmeans_uncertain(scores_N, f, cases_N, names(30), 5, np.random.default_rng(1)).indices_B
        for f in (features, features * [1024, 1, 2**-20])
    ]
    np.testing.assert_array_equal(*batches)


def test_features_must_be_finite():
    with pytest.raises(AssertionError, match="not finite"):
        kmeans_uncertain(np.ones(2), np.array([[0.0], [np.inf]]), ["a", "a"], names(2), 1, np.random.default_rng(0))
