"""Tables of the experiment on fairness, from the numbers of its rounds."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from fairness_settings import WEIGHTED

from nnunet_al.evaluation.fairness import paired_difference

Rows = Sequence[dict[str, Any]]

MEASURES = {
    "dice": "DSC",
    "dice_group1": "DSC group 1",
    "dice_group2": "DSC group 2",
    "delta": "Δ",
    "essp": "ESSP",
    "share_group1": "group 1's share",
}
AGAINST = ("mean_entropy", "localized_entropy", "random")
COMPARED = ("delta", "essp", "dice")
_OF_TABLE = ("dice_group1", "dice_group2", "dice", "essp", "delta")
_TRAINED_ON = {"pooled": "both groups", "group1": "group 1", "group2": "group 2"}


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))


def of_setting(rows: Rows) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Return the rounds of the campaigns by (strength, initial composition), in order of appearance."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        if row["training"] == "active":
            found.setdefault((row["strength"], row["initial"]), []).append(row)
    return found


def composition_table(rows: Rows) -> str:
    """Table 3: models trained once on both groups or on one of them; mean and range over the seeds."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in (row for row in rows if row["training"] != "active"):
        found.setdefault((row["strength"], row["training"]), []).append(row)
    lines = []
    for (strength, training), seeds in found.items():
        counts = [group["annotated_regions"] for group in seeds[0]["by_group"].values()]
        trained_on = f"{_TRAINED_ON[training]} ({' + '.join(str(count) for count in counts if count)})"
        lines.append([strength, trained_on, *(spread([row[name] for row in seeds]) for name in _OF_TABLE)])
    head = ["bias", "trained on (cases)", *(MEASURES[name] for name in _OF_TABLE)]
    return markdown(head, lines) if lines else ""


def summaries(rows: Rows) -> list[dict[str, Any]]:
    """Return each measure of each strategy at the last step and averaged over all steps, one value per seed.

    Only steps at which every campaign of the setting has been evaluated are used, so that strategies of an unfinished
    experiment are compared at the same steps.
    """
    found = []
    for (strength, initial), selected in of_setting(rows).items():
        steps = common_steps(selected)
        for strategy, when in itertools.product(dict.fromkeys(row["strategy"] for row in selected), ("last", "mean")):
            chosen = steps[-1:] if when == "last" else steps
            seeds = _by_seed(selected, strategy, chosen)
            values = {name: [float(np.mean([row[name] for row in rows])) for rows in seeds] for name in MEASURES}
            entry = {"strength": strength, "initial": initial, "strategy": strategy, "when": when, "labelled": chosen}
            found.append({**entry, "seeds": len(seeds), "values": values})
    return found


def summary_table(summary: Rows, when: str) -> str:
    head = ["bias", "initial", "strategy", "cases", *MEASURES.values()]
    lines = []
    for entry in (entry for entry in summary if entry["when"] == when and entry["labelled"]):
        labelled = entry["labelled"]
        cases = str(labelled[0]) if len(labelled) == 1 else f"{labelled[0]} to {labelled[-1]}"
        cells = [spread(values) for values in entry["values"].values()]
        lines.append([entry["strength"], entry["initial"], f"`{entry['strategy']}`", cases, *cells])
    return markdown(head, lines)


def differences(rows: Rows, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Compare the weighted strategy with the others, seed by seed and step by step.

    The first step, where all strategies have the same training set, is left out. ``interval`` is a bootstrap interval
    over seeds and steps, ``interval_seeds`` one over the means of the seeds.
    """
    found = []
    for (strength, initial), selected in of_setting(rows).items():
        steps = common_steps(selected)[1:]
        strategies = {row["strategy"] for row in selected}
        for other, name in itertools.product(AGAINST, COMPARED):
            if not steps or not {WEIGHTED, other} <= strategies:
                continue
            ours, theirs = (
                np.array([[row[name] for row in rows] for rows in _by_seed(selected, strategy, steps)])
                for strategy in (WEIGHTED, other)
            )
            mean, interval = paired_difference(ours.ravel(), theirs.ravel(), rng)
            _, interval_seeds = paired_difference(ours.mean(axis=1), theirs.mean(axis=1), rng)
            found.append(
                {
                    "strength": strength,
                    "initial": initial,
                    "other": other,
                    "measure": name,
                    "labelled": steps,
                    "seeds": len(ours),
                    "pairs": ours.size,
                    "mean": mean,
                    "interval": interval,
                    "interval_seeds": interval_seeds,
                    "of_each_seed": (ours - theirs).mean(axis=1),
                    "last_of_each_seed": (ours - theirs)[:, -1],
                    "better_pairs": int(((ours < theirs) if name == "delta" else (ours > theirs)).sum()),
                }
            )
    return found


def difference_table(found: Rows) -> str:
    head = ["bias", "initial", f"`{WEIGHTED}` less", "measure", "mean (95 % over pairs)", "pairs", "better in"]
    lines = []
    for one in found:
        low, high = one["interval"]
        seeds = ", ".join(f"{value:+.3f}" for value in one["of_each_seed"])
        mean = f"{one['mean']:+.4f} ({low:+.4f} to {high:+.4f})"
        where = [one["strength"], one["initial"], f"`{one['other']}`", MEASURES[one["measure"]]]
        lines.append([*where, mean, seeds, str(one["pairs"]), str(one["better_pairs"])])
    return markdown([*head[:5], "mean of each seed", *head[5:]], lines) if lines else ""


def common_steps(rows: Rows) -> list[int]:
    """Return the numbers of labelled cases at which every strategy and seed of these rounds was evaluated."""
    campaigns: dict[tuple[str, int], set[int]] = {}
    for row in rows:
        campaigns.setdefault((row["strategy"], row["seed"]), set()).add(row["labelled"])
    return sorted(set.intersection(*campaigns.values()))


def spread(values: Sequence[float]) -> str:
    """Format a mean and, for several values, their range."""
    mean = f"{np.mean(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.3f} to {max(values):.3f})"


def _by_seed(rows: Rows, strategy: str, steps: Sequence[int]) -> list[list[dict[str, Any]]]:
    """Return the rounds of a strategy at the given steps, per seed."""
    selected = {(row["seed"], row["labelled"]): row for row in rows if row["strategy"] == strategy}
    return [[selected[seed, step] for step in steps] for seed in sorted({seed for seed, _ in selected})]
