"""The stages of a round and its phases, by name: their order, their markers, and what a phase waits for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from nnunet_al.strategies.recipe import Recipe

HAND_OUT_STAGE = "hand_out"
FINAL_STAGE = "annotate"
STAGE_ORDER = (
    *("labels", "fingerprint", "plan", "preprocess", "images", "train", "evaluate"),
    *("score", "weigh", "fisher", "embed", "select", HAND_OUT_STAGE, FINAL_STAGE),
)
"""All stages that a round may have, in the order in which one call does them."""

PREPARE, TRAIN, EVALUATE, SCORE, MERGE, FISHER, EMBED, SELECT = (
    *("prepare", "train", "evaluate", "score", "merge", "fisher", "embed", "select"),
)
PHASES = (PREPARE, TRAIN, EVALUATE, SCORE, MERGE, FISHER, EMBED, SELECT)
"""The phases of a round: each job of a cluster does one of them."""

PREPARE_DATASET, START, ROUND = "prepare_dataset", "start", "round"
"""Kinds of jobs beside the phases of a round: reading a dataset, round 0, and on one machine a whole round."""

_PART_STAGE = re.compile(r"(?P<phase>.+)_part_(?P<part>\d+)_of_(?P<parts>\d+)")


@dataclass(frozen=True)
class Phase:
    """Some consecutive stages of a round.

    Attributes
    ----------
    name : one of ``PHASES``
    after : phases of the same round that must be complete before; the first waits for the round before
    sharded : whether each of several calls may do a share of it
    alone : whether nothing else may work on the campaign meanwhile; others may run beside each other
    on_device : whether a network is trained or asked
    """

    name: str
    after: tuple[str, ...]
    sharded: bool = False
    alone: bool = True
    on_device: bool = True


def is_done(markers: Path, name: str) -> bool:
    """Tell whether the stage's marker, written last, says that it is complete."""
    return (markers / f"{name}.json").is_file()


def phases_of(recipe: Recipe) -> tuple[Phase, ...]:
    """Return the phases of every round but round 0, each behind those that it waits for.

    Between scoring and the next pass over the pool one call puts the shards together: ``merge``, which also measures
    groups of cases, or ``fisher``, which also draws the query set and averages squared gradients. Evaluation runs
    beside all of that, however long it takes.
    """
    inside = recipe.phases()
    phases = [
        Phase(PREPARE, (), on_device=False),
        Phase(TRAIN, (PREPARE,)),
        Phase(EVALUATE, (TRAIN,), alone=False),
    ]
    last = TRAIN
    if "score" in inside:
        phases.append(Phase(SCORE, (TRAIN,), sharded=True, alone=False))
        last = SCORE
    if "fisher" in inside:
        phases.append(Phase(FISHER, (SCORE,), alone=False))
        last = FISHER
    elif {"weigh", "embed"} & set(inside):
        phases.append(Phase(MERGE, (SCORE,), alone=False, on_device="weigh" in inside))
        last = MERGE
    if "embed" in inside:
        phases.append(Phase(EMBED, (last,), sharded=True, alone=False))
        last = EMBED
    waits = tuple(dict.fromkeys((EVALUATE, last))) if last != TRAIN else (EVALUATE,)
    phases.append(Phase(SELECT, waits, on_device=recipe.embedding is not None))
    return tuple(phases)


def part_stage(phase: str, part: int, parts: int) -> str:
    """Return the name of the stage that does one shard of a phase."""
    return f"{phase}_part_{part}_of_{parts}"


def done_shards(stages: Iterable[str], phase: str) -> dict[int, set[int]]:
    """Return from the names of stages that are done the shards of a phase: number of shards -> those of them."""
    found: dict[int, set[int]] = {}
    for stage in stages:
        if (match := _PART_STAGE.fullmatch(stage)) and match["phase"] == phase:
            found.setdefault(int(match["parts"]), set()).add(int(match["part"]))
    return found
