"""A training ends by a rule that depends on nothing but the logged history."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from nnunet_al.nnunet.training_length import (
    ENOUGH_CASES,
    SHORTEST,
    PlateauSchedule,
    constant_epochs,
    held_out,
    longest_constant,
    shortest_constant,
    total_epochs,
)

FLAT = [0.5] * 400


def falling_until(plateau: int, n: int = 400) -> list[float]:
    """A loss that falls by 0.1 each epoch up to ``plateau``."""
    return [1.0 - 0.1 * min(epoch, plateau) for epoch in range(n)]


def test_a_training_that_gains_nothing_ends_as_soon_as_it_is_judged():
    assert constant_epochs(FLAT, FLAT, SHORTEST, 300) == SHORTEST
    assert constant_epochs([math.nan] * 20, [math.nan] * 20, SHORTEST, 300) == SHORTEST, "it diverged"


@pytest.mark.parametrize("iterations, epochs", [(250, 8), (63, 8), (50, 10), (20, 25), (1, 500)])
def test_it_is_judged_after_eight_epochs_and_500_iterations(iterations, epochs):
    assert shortest_constant(iterations) == epochs


@pytest.mark.parametrize("plateau", [10, 20, 40])
def test_the_plateau_is_found_some_time_after_it_begins(plateau):
    found = constant_epochs(falling_until(plateau), FLAT, SHORTEST, 300)
    assert found is not None
    # the quarter before the last one has to lie behind the plateau but for a small part of the gain
    assert plateau < found <= 2 * plateau + 2


def test_a_gain_in_dice_keeps_it_going_while_the_loss_stands_still():
    rising = [-value for value in falling_until(30)]
    found = constant_epochs(FLAT, rising, SHORTEST, 300)
    assert found is not None
    assert 30 < found <= 62


def test_only_what_was_logged_before_counts():
    losses = falling_until(25)
    found = constant_epochs(losses, FLAT, SHORTEST, 300)
    assert found is not None
    for n in range(len(losses)):
        expected = None if n < found else found
        assert constant_epochs(losses[:n], FLAT[:n], SHORTEST, 300) == expected, "each later look gives the same answer"


@pytest.mark.parametrize("longest", [1, 2, 3, 5, 8, 13, 300])
def test_the_bound_holds_with_the_decay(longest):
    steep = [-float(epoch) for epoch in range(400)]
    constant = constant_epochs(steep, FLAT, SHORTEST, longest)
    assert constant == longest_constant(longest)
    assert 1 <= constant <= total_epochs(constant, longest) <= longest
    assert total_epochs(None, longest) == longest


def test_the_rate_is_constant_and_then_falls_to_nearly_nothing():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=7.0)
    known = {"constant": None, "total": 300}
    schedule = PlateauSchedule(optimizer, 0.1, lambda: (known["constant"], known["total"]))

    def rate(epoch):
        schedule.step(epoch)
        return optimizer.param_groups[0]["lr"]

    assert {rate(epoch) for epoch in range(12)} == {0.1}
    known.update(constant=12, total=total_epochs(12, 300))
    assert [rate(epoch) for epoch in range(12, 24)] == pytest.approx([0.1 * (12 - k) / 13 for k in range(12)])
    assert known["total"] == 24


def test_a_tenth_is_held_out_where_there_are_enough_cases():
    cases = [f"case_{number:03d}" for number in range(100)]
    assert held_out(cases[: ENOUGH_CASES - 1]) == []
    assert len(held_out(cases[:ENOUGH_CASES])) == ENOUGH_CASES // 10
    assert {*held_out(cases)} < {*cases}
    for a, b in itertools.pairwise(held_out(cases)):
        assert cases.index(b) - cases.index(a) == 10
