"""Consensus worked out by hand and compared with SimpleITK's filters used plainly."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import SimpleITK

from nnunet_al.annotation.fusion import METHODS, fuse

IGNORE = 9
UNDECIDED = 99


def row(*labels: int) -> np.ndarray:
    return np.array(labels, np.int32).reshape(1, 1, -1)


def labels_of(*readings: np.ndarray, method: str = "majority") -> list[int]:
    return fuse(readings, method, IGNORE).labels_kji.ravel().tolist()


def readings_of(seed: int, count: int, error: float = 0.1) -> list[np.ndarray]:
    """Readers of one truth, blocks of four classes, who err in some voxels."""
    rng = np.random.default_rng(seed)
    truth = np.kron(rng.integers(0, 4, (3, 4, 4)), np.ones((2, 4, 4), int))
    readings = []
    for reader in range(count):
        errs = rng.random(truth.shape) < error * (1 + reader)
        readings.append(np.where(errs, rng.integers(0, 4, truth.shape), truth).astype(np.int32))
    return readings


def plainly(readings: list[np.ndarray], method: str) -> np.ndarray:
    images = [SimpleITK.GetImageFromArray(reading.astype(np.uint8)) for reading in readings]
    fuse_images = SimpleITK.LabelVoting if method == "majority" else SimpleITK.MultiLabelSTAPLE
    fused = SimpleITK.GetArrayFromImage(fuse_images(images, UNDECIDED)).astype(int)
    return np.where(fused == UNDECIDED, IGNORE, fused)


def staple_by_its_formula(readings: list[np.ndarray], classes: int) -> np.ndarray:
    """Rohlfing, Russakoff and Maurer 2004: E and M steps from the majority; voxels on which votes tie are not counted.

    W[c] = prior[c] prod_r theta[r][vote of r, c];  theta[r][j, c] = sum of W[c] where r votes j / sum of W[c]
    """
    votes = np.stack([reading.ravel() for reading in readings])
    counts = np.stack([(votes == c).sum(0) for c in range(classes)])
    majority = np.where((counts == counts.max(0)).sum(0) == 1, counts.argmax(0), -1)
    weights = (np.arange(classes)[:, None] == majority).astype(float)
    prior = np.array([(votes == c).mean() for c in range(classes)])
    for _ in range(1000):
        theta = np.array([[weights[:, vote == j].sum(1) for j in range(classes)] for vote in votes])
        theta /= np.maximum(theta.sum(1, keepdims=True), 1e-300)
        likelihood = prior[:, None] * np.prod([theta[r][vote].T for r, vote in enumerate(votes)], axis=0)
        before, weights = weights, likelihood / np.maximum(likelihood.sum(0), 1e-300)
        if np.abs(weights - before).max() < 1e-7:
            break
    decided = likelihood.max(0) > 0
    return np.where(decided, likelihood.argmax(0), IGNORE).reshape(readings[0].shape)


def test_three_readers_vote():
    a, b, c = row(0, 1, 1, 2, 0, 1), row(0, 1, 2, 2, 1, 2), row(0, 1, 1, 0, 2, 2)
    consensus = fuse([a, b, c], "majority", IGNORE)
    assert consensus.labels_kji.ravel().tolist() == [0, 1, 1, 2, IGNORE, 2]
    assert consensus.differing_voxels == 4
    assert consensus.undecided_voxels == 1


def test_two_readers_who_differ_decide_nothing():
    consensus = fuse([row(0, 1, 1, 2), row(0, 1, 2, 2)], "majority", IGNORE)
    assert consensus.labels_kji.ravel().tolist() == [0, 1, IGNORE, 2]
    assert (consensus.differing_voxels, consensus.undecided_voxels) == (1, 1)


def test_agreement_is_the_mean_dice_of_pairs():
    a, b, c = row(1, 1, 1, 0), row(1, 1, 0, 0), row(0, 0, 0, 2)
    agreement = fuse([a, b, c], "majority", IGNORE).agreement
    # value 1: a and b 2 * 2 / 5, a and c 0, b and c 0; value 2: a and b both without (1), the others 0
    assert agreement == pytest.approx({1: 0.8 / 3, 2: 1 / 3})


def test_agreement_looks_only_where_both_annotate():
    a, b = row(1, 1, IGNORE, 3, 0), row(1, 0, 1, IGNORE, 0)
    assert fuse([a, b], "majority", IGNORE).agreement == pytest.approx({1: 2 / 3})  # a: 2, b: 1, both: 1


@pytest.mark.parametrize("method", METHODS)
def test_a_voxel_has_the_votes_of_those_who_annotate_it(method):
    a = row(1, 1, IGNORE, IGNORE, 2, 2)
    b = row(1, IGNORE, 2, IGNORE, 2, 1)
    c = row(1, IGNORE, IGNORE, IGNORE, 2, 1)
    consensus = fuse([a, b, c], method, IGNORE)
    assert consensus.labels_kji.ravel().tolist()[:5] == [1, 1, 2, IGNORE, 2]
    assert consensus.differing_voxels == 1
    if method == "majority":
        assert consensus.labels_kji.ravel()[5] == 1
        assert consensus.undecided_voxels == 0


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("seed", range(3))
def test_majority_as_simpleitk_does_it(seed, count):
    readings = readings_of(seed, count)
    assert np.array_equal(fuse(readings, "majority", IGNORE).labels_kji, plainly(readings, "majority"))


@pytest.mark.parametrize("seed", range(3))
def test_staple_as_simpleitk_does_it_where_votes_never_tie(seed):
    readings = [np.minimum(reading, 1) for reading in readings_of(seed, 3)]
    assert np.array_equal(fuse(readings, "staple", IGNORE).labels_kji, plainly(readings, "staple"))


@pytest.mark.parametrize("count", [3, 4])
@pytest.mark.parametrize("seed", range(3))
def test_staple_as_its_formula_says_where_votes_tie_too(seed, count):
    readings = readings_of(seed, count)
    expected = staple_by_its_formula(readings, 4)
    offered = (np.stack(readings) == expected).any(0)
    unanimous = (np.stack(readings) == readings[0]).all(0)
    assert np.array_equal(expected[unanimous], readings[0][unanimous])
    assert offered.mean() > 0.99
    differing = fuse(readings, "staple", IGNORE).labels_kji != np.where(offered, expected, IGNORE)
    assert differing.mean() < 0.002, "SimpleITK counts in single precision"


@pytest.mark.parametrize("method", METHODS)
def test_no_tie_favours_the_background(method):
    """Plain SimpleITK gives the label 0 to voxels that one reader calls 1 and the other 3."""
    readings = readings_of(0, 2)
    a, b = readings
    fused = fuse(readings, method, IGNORE)
    assert (fused.labels_kji[a != b] == IGNORE).all()
    assert fused.undecided_voxels == fused.differing_voxels == (a != b).sum() > 0


@pytest.mark.parametrize("method", METHODS)
def test_unannotated_voxels_are_in_no_estimate(method):
    readings = readings_of(5, 3)
    shape = tuple(2 * length for length in readings[0].shape)
    inside = tuple(slice(1, 1 + length) for length in readings[0].shape)
    wide = [np.full(shape, IGNORE, np.int32) for _ in readings]
    for around, reading in zip(wide, readings, strict=True):
        around[inside] = reading
    consensus, around = fuse(readings, method, IGNORE), fuse(wide, method, IGNORE)
    assert np.array_equal(around.labels_kji[inside], consensus.labels_kji)
    assert (around.labels_kji != IGNORE).sum() == (consensus.labels_kji != IGNORE).sum()
    assert around.undecided_voxels == consensus.undecided_voxels
    assert around.agreement == consensus.agreement


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("count", [2, 3])
def test_the_order_of_the_readings_changes_nothing(method, count):
    readings = readings_of(7, count, error=0.3)
    readings[0][0] = IGNORE
    first = fuse(readings, method, IGNORE)
    for order in permutations(readings):
        again = fuse(order, method, IGNORE)
        assert np.array_equal(again.labels_kji, first.labels_kji)
        assert again.agreement == pytest.approx(first.agreement, abs=0)


def test_rounding_does_not_depend_on_the_order_either():
    """Found by search: plain STAPLE decides a near tie otherwise when the readings come in another order."""
    readings = [
        row(1, 0, 1, 1, 0, 1, 0, 0),
        row(0, 0, 0, 1, 1, 0, 0, 0),
        row(0, 1, 0, 0, 1, 1, 1, 0),
        row(0, 0, 1, 1, 1, 1, 1, 1),
    ]
    assert len({tuple(labels_of(*order, method="staple")) for order in permutations(readings)}) == 1


def test_staple_overrules_nobody_where_all_agree():
    """Found by search: plain STAPLE calls voxels 0 that three random readings call 1."""
    a = row(1, 1, 1, 0, 1, 1, 1, 1, 0, 1, 1)
    b = row(0, 1, 0, 1, 0, 1, 1, 1, 0, 0, 0)
    c = row(0, 1, 1, 0, 0, 0, 0, 1, 1, 0, 0)
    fused = labels_of(a, b, c, method="staple")
    assert fused[1] == fused[7] == 1


def test_staple_invents_no_label():
    """Found by search: plain STAPLE calls a voxel 1 that the readers call 2, 0 and 3."""
    a = row(2, 2, 2, 1, 1, 2, 0, 0, 3, 1)
    b = row(1, 0, 0, 2, 1, 1, 0, 1, 0, 0)
    c = row(1, 3, 1, 1, 3, 1, 1, 0, 3, 1)
    fused = fuse([a, b, c], "staple", IGNORE)
    assert fused.labels_kji[0, 0, 1] == IGNORE
    assert fused.undecided_voxels >= 1


@pytest.mark.parametrize("method", METHODS)
def test_numbers_of_the_labels_do_not_matter(method):
    """Large ones, up to the largest of 16 bits, and gaps between them."""
    readings = readings_of(3, 3)
    values = np.array([0, 7, 300, 65534], np.uint16)
    small, large = fuse(readings, method, IGNORE), fuse([values[reading] for reading in readings], method, 65535)
    assert np.array_equal(large.labels_kji, np.append(values, [0] * 5 + [65535])[small.labels_kji])
    assert large.agreement == {int(values[value]): dice for value, dice in small.agreement.items()}


@pytest.mark.parametrize("method", METHODS)
def test_more_classes_than_a_byte_holds(method):
    labels = np.arange(1, 601).reshape(1, 20, 30)
    other = labels.copy()
    other[0, 0, 0] = 600
    fused = fuse([labels, labels, other], method, 999).labels_kji
    assert np.array_equal(fused.ravel()[1:], labels.ravel()[1:])
    assert fused[0, 0, 0] in (1, 999)


@pytest.mark.parametrize("method", METHODS)
class TestWhatHasLittleToEstimate:
    def test_one_reading_stands(self, method):
        (reading,) = readings_of(0, 1)
        consensus = fuse([reading], method, IGNORE)
        assert np.array_equal(consensus.labels_kji, reading)
        assert (consensus.differing_voxels, consensus.undecided_voxels, consensus.agreement) == (0, 0, {})

    @pytest.mark.parametrize("count", [2, 3])
    def test_equal_readings_stand(self, method, count):
        reading = readings_of(1, 1)[0]
        consensus = fuse([reading] * count, method, IGNORE)
        assert np.array_equal(consensus.labels_kji, reading)
        assert consensus.agreement == {1: 1.0, 2: 1.0, 3: 1.0}

    @pytest.mark.parametrize("value", [0, 3])
    def test_one_value_only(self, method, value):
        assert labels_of(*[row(value, value)] * 3, method=method) == [value, value]

    def test_nothing_annotated(self, method):
        consensus = fuse([row(IGNORE, IGNORE)] * 2, method, IGNORE)
        assert consensus.labels_kji.ravel().tolist() == [IGNORE, IGNORE]
        assert (consensus.undecided_voxels, consensus.agreement) == (0, {})

    def test_readings_that_share_nothing(self, method):
        assert labels_of(row(1, IGNORE), row(IGNORE, 2), method=method) == [1, 2]

    def test_readings_that_differ_everywhere(self, method):
        consensus = fuse([row(1, 1, 1), row(2, 2, 2)], method, IGNORE)
        assert consensus.labels_kji.ravel().tolist() == [IGNORE] * 3
        assert consensus.undecided_voxels == consensus.differing_voxels == 3

    def test_a_class_that_one_reader_alone_sees_overrules_nobody(self, method):
        a = np.zeros((4, 10, 10), np.int32)
        b = a.copy()
        b[1, 2:5, 2:5] = 1
        fused = fuse([a, a, b], method, IGNORE).labels_kji
        assert (fused[a == b] == 0).all()
        assert np.isin(fused[a != b], [0, IGNORE]).all()

    def test_a_single_voxel(self, method):
        assert labels_of(row(1), row(1), row(0), method=method)[0] in (1, IGNORE)


def test_staple_trusts_the_readers_who_err_less():
    """Two careless readers agree by chance in some voxels; three careful ones are hardly outvoted anyway."""
    rng = np.random.default_rng(0)
    truth = np.kron(rng.integers(0, 2, (4, 8, 8)), np.ones((2, 3, 3), int)).astype(np.int32)
    readings = [np.where(rng.random(truth.shape) < error, 1 - truth, truth) for error in (0.02, 0.4, 0.4)]
    right = {method: (fuse(readings, method, IGNORE).labels_kji == truth).mean() for method in ("staple", "majority")}
    assert right["staple"] > right["majority"] + 0.05


@pytest.mark.parametrize("method", METHODS)
def test_readings_stay_as_they_were(method):
    readings = readings_of(2, 3)
    before = [reading.copy() for reading in readings]
    for reading in readings:
        reading.setflags(write=False)
    fuse(readings, method, IGNORE)
    assert all(np.array_equal(a, b) for a, b in zip(readings, before, strict=True))
