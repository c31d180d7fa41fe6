"""The gate before the campaigns of the experiment on fairness: is the premise of the paper there?

Danaee et al. 2026, table 3: trained on group 2 alone, a model is 0.18 (strong bias) and 0.04 (weak) of Dice worse on
group 1 than a model trained on both. Where that is not so, weights by group have nothing to mend.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from fairness_campaigns import Campaign, dataset_of
from fairness_settings import GROUPS

from nnunet_al.evaluation.fairness import paired_difference
from nnunet_al.files import read_json
from nnunet_al.nnunet.environment import Roots

PLATEAU = 0.02
"""Largest gain in pseudo Dice over the last fifth of a training that has converged."""
_WINDOW = 0.2


@dataclass(frozen=True)
class Gate:
    """The premise for one strength of the bias.

    Attributes
    ----------
    harm, interval : Dice of group 1 by the model trained on both groups minus that of the model trained on group 2,
        mean over the test cases and its bootstrap interval
    gains : of each training, pseudo Dice in its last fifth minus that in the fifth before
    is_open : whether the campaigns are worth their hours
    sentence : the same in words
    """

    strength: str
    harm: float
    interval: tuple[float, float]
    gains: dict[str, float]
    is_open: bool
    sentence: str


def is_of_gate(campaign: Campaign) -> bool:
    """Tell whether a training is one of table 3 with the first seed."""
    return campaign.training != "active" and campaign.seed == 0


def gate_of(strength: str, campaigns: Sequence[Campaign], roots: Roots) -> Gate:
    """Judge the trainings of one strength, which are done."""
    dice, gains = {}, {}
    for campaign in (one for one in campaigns if is_of_gate(one) and one.strength == strength):
        round_ = campaign.folder(roots).round(1)
        dice[campaign.training] = dice_of_cases(read_json(round_.metrics)["cases"])
        (checkpoint,) = round_.view.results.rglob("checkpoint_final.pth")
        gains[campaign.training] = last_gain(pseudo_dice(checkpoint))
    table = roots.raw / dataset_of(strength) / "participants.tsv"
    rows = csv.DictReader(table.read_text(encoding="utf-8").splitlines(), delimiter="\t")
    group_of = {row["participant_id"]: row["group"] for row in rows}
    return judge(strength, dice["pooled"], dice["group2"], group_of, gains)


def judge(
    strength: str,
    pooled: Mapping[str, float],
    other: Mapping[str, float],
    group_of: Mapping[str, str],
    gains: dict[str, float],
) -> Gate:
    """Compare the Dice of group 1's test cases by the two models; the gate opens if all trainings have converged."""
    cases = sorted(case for case in pooled if group_of[case] == GROUPS[0])
    pairs = ([pooled[case] for case in cases], [other[case] for case in cases])
    harm, interval = paired_difference(*pairs, np.random.default_rng(0))
    measured = f"{strength}: without group 1 its Dice falls by {harm:.3f} ({interval[0]:.3f} to {interval[1]:.3f})"
    gaining = [training for training, gain in gains.items() if gain > PLATEAU]
    if gaining:
        verdict = f"but trainings had not converged ({', '.join(gaining)}): give more -epochs"
    elif interval[0] > 0:
        verdict = "the premise is there"
    else:
        verdict = "the premise is absent, so no campaign follows"
    return Gate(strength, harm, interval, gains, not gaining and interval[0] > 0, f"{measured}; {verdict}.")


def dice_of_cases(cases: Mapping[str, Mapping[str, Mapping[str, float]]]) -> dict[str, float]:
    """Return the Dice of the one class of each case of ``metrics.json``."""
    return {case: next(iter(classes.values()))["dice"] for case, classes in cases.items()}


def pseudo_dice(checkpoint: Path) -> list[float]:
    """Return the pseudo Dice of each epoch of a training, which is measured on its training cases here."""
    logged = torch.load(checkpoint, map_location="cpu", weights_only=False)["logging"]["mean_fg_dice"]
    return [float(value) for value in logged]


def last_gain(dice: Sequence[float]) -> float:
    """Return the mean over the last fifth of the epochs minus that over the fifth before."""
    window = max(1, round(_WINDOW * len(dice)))
    return float(np.mean(dice[-window:]) - np.mean(dice[-2 * window : -window] or dice[:window]))
