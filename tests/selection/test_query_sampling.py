from __future__ import annotations

import numpy as np

from nnunet_al.selection.query import QuerySet
from nnunet_al.selection.query_sampling import query_sampling

from .pools import chosen, counts_of_first, names, p_value


def test_multiplicities_count():
    query = QuerySet(np.array([0, 2, 3]), np.array([1, 5, 2]))
    counts_N = counts_of_first(lambda rng: query_sampling(query, np.ones(4), names(4), 1, rng), 4, 3000)
    assert p_value(counts_N, [1, 0, 5, 2]) > 0.01
    assert p_value(counts_N, [1, 0, 1, 1]) < 1e-6


def test_the_next_one_is_drawn_from_the_draws_of_the_others():
    query = QuerySet(np.array([0, 1, 2]), np.array([1, 6, 3]))
    rng, second = np.random.default_rng(0), []
    for _ in range(4000):
        one, two = query_sampling(query, np.ones(3), names(3), 2, rng).indices_B
        if one == 1:
            second.append(two)
    assert p_value(np.bincount(second, minlength=3), [1, 0, 3]) > 0.01


def test_the_scores_of_the_query_set_do_not_matter():
    query = QuerySet(np.array([1, 2, 4]), np.array([1, 1, 2]))
    batches = [
        query_sampling(query, scores_N, names(5), 2, np.random.default_rng(0)).indices_B
        for scores_N in (np.arange(5.0), np.arange(5.0)[::-1])
    ]
    np.testing.assert_array_equal(*batches)


def test_a_small_query_set_is_filled_by_score():
    names_N = ["e", "d", "c", "b", "a"]
    scores_N = np.array([1.0, 9, 0, 1, 5])
    selection = query_sampling(QuerySet(np.array([2]), np.array([40])), scores_N, names_N, 4, np.random.default_rng(0))
    assert chosen(selection, names_N) == ["c", "d", "a", "b"]
    np.testing.assert_array_equal(selection.gains_B, [0, 9, 5, 1])


def test_the_order_inside_the_query_set_changes_nothing():
    names_N, scores_N = ["c", "a", "d", "b"], np.ones(4)
    batches = [
        query_sampling(QuerySet(indices, times), scores_N, names_N, 2, np.random.default_rng(5)).indices_B
        for indices, times in ((np.array([0, 1, 3]), np.array([1, 2, 3])), (np.array([3, 0, 1]), np.array([3, 1, 2])))
    ]
    np.testing.assert_array_equal(*batches)
