"""The oracle tells what the dataset's labels say inside the boxes asked for, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from nnunet_al.annotation.oracle import ask
from nnunet_al.pool.boxes import Region, to_slices

SHAPE = (6, 7, 8)
IGNORE = 4


@pytest.fixture
def truth() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {case: rng.integers(0, 4, SHAPE) for case in ("a", "b", "c")}


def nothing(_case: str) -> np.ndarray:
    return np.full(SHAPE, IGNORE)


def boxes_of(rng: np.random.Generator, count: int) -> list[Region]:
    regions = []
    for _ in range(count):
        low = [int(rng.integers(0, n - 1)) for n in SHAPE]
        box = tuple((lo, int(rng.integers(lo + 1, n + 1))) for lo, n in zip(low, SHAPE, strict=True))
        regions.append(Region(str(rng.choice(["a", "b"])), box))
    return regions


@pytest.mark.parametrize("seed", range(10))
def test_inside_is_the_truth_and_outside_is_ignored(truth, seed):
    asked = boxes_of(np.random.default_rng(seed), 5)
    answer = ask(asked, truth.get, nothing, IGNORE)
    assert set(answer.labels) == {region.case for region in asked}
    assert answer.unanswered == answer.disagreements == ()
    for case, labels in answer.labels.items():
        inside = np.zeros(SHAPE, bool)
        for region in asked:
            if region.case == case:
                inside[to_slices(region.box)] = True
        assert np.array_equal(labels, np.where(inside, truth[case], IGNORE))


@pytest.mark.parametrize("seed", range(5))
def test_poison_outside_the_boxes_changes_nothing(truth, seed):
    asked = boxes_of(np.random.default_rng(seed), 4)
    poisoned = {case: np.full(SHAPE, 99) for case in truth}
    for region in asked:
        inside = to_slices(region.box)
        poisoned[region.case][inside] = truth[region.case][inside]
    clean, dirty = (ask(asked, labels.get, nothing, IGNORE) for labels in (truth, poisoned))
    assert all(np.array_equal(clean.labels[case], dirty.labels[case]) for case in clean.labels)
    assert clean.unanswered == dirty.unanswered
    assert clean.disagreements == dirty.disagreements


def test_a_case_that_is_not_asked_for_is_not_read(truth):
    def read(case: str) -> np.ndarray:
        assert case == "a", "nobody asked for this case"
        return truth[case]

    ask([Region("a", ((0, 2), (0, 2), (0, 2)))], read, nothing, IGNORE)


def test_the_first_annotation_stands_and_a_disagreement_is_told(truth):
    earlier = nothing("a")
    earlier[:, :, :4] = (truth["a"][:, :, :4] + 1) % 4
    answer = ask([Region("a", ((0, 6), (0, 7), (2, 6)))], truth.get, lambda _: earlier, IGNORE)
    labels = answer.labels["a"]
    assert (labels[:, :, :4] == IGNORE).all()
    assert np.array_equal(labels[:, :, 4:6], truth["a"][:, :, 4:6])
    assert (labels[:, :, 6:] == IGNORE).all()
    (sentence,) = answer.disagreements
    assert sentence.startswith("a: 84 voxels")  # 6 x 7 x the two planes where both exist


def test_regions_that_overlap_are_both_answered(truth):
    asked = [Region("a", ((0, 6), (0, 7), (0, 4))), Region("a", ((0, 6), (0, 7), (0, 4)))]
    assert ask(asked, truth.get, nothing, IGNORE).unanswered == ()


def test_a_case_without_a_label_file_is_unanswered(truth):
    asked = [Region("a", ((0, 2), (0, 2), (0, 2))), Region("nobody", ((0, 2), (0, 2), (0, 2)))]
    answer = ask(asked, truth.get, nothing, IGNORE)
    assert answer.unanswered == (asked[1],)
    assert set(answer.labels) == {"a"}


def test_a_region_of_which_the_label_tells_nothing_new_is_unanswered(truth):
    truth["a"][:, :, 4:] = IGNORE
    known = np.where(truth["a"] == IGNORE, IGNORE, truth["a"])
    half = Region("a", ((0, 6), (0, 7), (2, 6)))
    unknown = Region("a", ((0, 6), (0, 7), (5, 8)))
    assert ask([half, unknown], truth.get, nothing, IGNORE).unanswered == (unknown,)
    # all that the label says of the first one has been annotated before
    assert ask([half, unknown], truth.get, lambda _: known, IGNORE).unanswered == (half, unknown)


def test_what_the_labels_ignore_is_an_answer_where_they_may(truth):
    labels = {case: values.copy() for case, values in truth.items()}
    labels["a"][:3] = IGNORE
    silent, half = Region("a", ((0, 3), (0, 7), (0, 8))), Region("a", ((2, 4), (0, 7), (0, 8)))
    no_file = Region("nobody", ((0, 1), (0, 1), (0, 1)))
    asked = [silent, half, no_file]
    strict = ask(asked, labels.get, nothing, IGNORE)
    assert (set(strict.unanswered), strict.ignored) == ({silent, no_file}, ())
    answer = ask(asked, labels.get, nothing, IGNORE, may_ignore=True)
    assert (answer.unanswered, answer.ignored) == ((no_file,), (silent,))
    expected = np.full(SHAPE, IGNORE)
    expected[3] = truth["a"][3]
    assert np.array_equal(answer.labels["a"], expected)
    assert set(answer.labels) == {"a"}
