"""Pool and test cases of a fold."""

import json

import pytest
from nnunetv2.utilities.crossval_split import generate_crossval_split

from nnunet_al.errors import DatasetError
from nnunet_al.nnunet.splits import member_splits, pool_and_test, training_split

CASES = [f"case_{index:02d}" for index in range(13)]


def test_the_folds_are_nnunets_and_share_nothing():
    tested = []
    for fold in range(5):
        pool, test = pool_and_test(CASES, CASES, fold, [])
        assert sorted(pool + test) == CASES
        assert set(test) == set(generate_crossval_split(CASES, seed=12345, n_splits=5)[fold]["val"])
        tested += test
    assert sorted(tested) == CASES


def test_cases_without_label_are_pool_and_never_test():
    labelled = CASES[::2]
    for fold in range(5):
        pool, test = pool_and_test(CASES, labelled, fold, [])
        assert set(test) <= set(labelled)
        assert set(CASES) - set(labelled) <= set(pool)


def test_a_split_file_decides_and_what_it_leaves_out_stays_out(tmp_path):
    file = tmp_path / "splits_final.json"
    file.write_text(json.dumps([{"train": CASES[2:6], "val": CASES[:2]}]))
    assert pool_and_test(CASES, CASES, 0, [tmp_path / "absent.json", file]) == (CASES[2:6], CASES[:2])
    with pytest.raises(DatasetError, match="1 folds"):
        pool_and_test(CASES, CASES, 1, [file])
    file.write_text(json.dumps([{"train": ["stranger"], "val": CASES[:2]}]))
    with pytest.raises(DatasetError, match="stranger"):
        pool_and_test(CASES, CASES, 0, [file])


@pytest.mark.parametrize("cases, fold, sentence", [(CASES[:4], 0, "fewer"), (CASES, 5, "-f 5")])
def test_too_few_cases_and_folds_that_do_not_exist_are_refused(cases, fold, sentence):
    with pytest.raises(DatasetError, match=sentence):
        pool_and_test(cases, cases, fold, [])


def test_every_annotated_case_is_trained_on_and_watched_cases_are_among_them():
    training, watched = training_split(CASES[::-1])
    assert training == CASES
    assert watched
    assert set(watched) <= set(CASES)
    assert training_split(["only"]) == (["only"], ["only"])


def test_members_are_nnunets_cross_validation_of_the_annotated_cases():
    splits = member_splits(CASES[::-1], 4)
    assert len(splits) == 4
    for training, left_out in splits:
        assert sorted(training + left_out) == CASES
        assert training
        assert left_out
    assert sorted(case for _, left_out in splits for case in left_out) == CASES


def test_with_few_cases_members_share_splits():
    assert member_splits(CASES[:2], 3) == [*member_splits(CASES[:2], 2), member_splits(CASES[:2], 2)[0]]
    assert member_splits(["only"], 2) == [(["only"], ["only"])] * 2
    assert member_splits(CASES, 0) == []
