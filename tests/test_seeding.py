"""Every purpose has its own stream, the same on every machine."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from nnunet_al.seeding import derive_seed, generator


def test_the_stream_depends_on_its_three_names_alone():
    first = generator(3, 2, "query").random(5)
    generator(3, 2, "dropout").random(100)
    np.random.seed(0)
    assert np.array_equal(generator(3, 2, "query").random(5), first)


def test_different_names_give_different_streams():
    names = list(itertools.product((0, 1, 11), (0, 1, 11), ("query", "select", "initial batch")))
    draws = {tuple(generator(*name).integers(0, 2**63, 4).tolist()) for name in names}
    assert len(draws) == len(names)


def test_names_do_not_run_into_each_other():
    assert derive_seed(1, 11, "x") != derive_seed(11, 1, "x")
    assert derive_seed(1, "1x") != derive_seed(11, "x")


@pytest.mark.parametrize("seed", [0, 1, 12345, 2**40])
def test_a_derived_seed_fits_every_library(seed):
    derived = derive_seed(seed, 7, "epoch", 3)
    assert 0 <= derived < 2**32
    assert derived == derive_seed(seed, 7, "epoch", 3)


def test_streams_stay_what_they_were():
    # a campaign that was begun with an earlier version must be continued with the same draws
    assert derive_seed(0, 1, "query") == 102319631
    assert generator(0, 1, "query").integers(0, 1000, 4).tolist() == [647, 921, 635, 208]
