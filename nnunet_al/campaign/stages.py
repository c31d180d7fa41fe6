"""The stages of a round and its phases, by name: their order, their markers, and the phases that a phase waits for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from nnunet_al.strategies.recipe import Recipe

PHASES = ("prepare", "train", "evaluate", "score", "merge", "fisher", "embed", "select")
"""The phases of a round: each job of a cluster does one of them."""
PREPARE, TRAIN, EVALUATE, SCORE, MERGE, FISHER, EMBED, SELECT = PHASES

PREPARATION = ("labels", "fingerprint", "plan", "preprocess", "images")
"""The stages of the phase ``prepare``."""

WEIGH_STAGE, HAND_OUT_STAGE, FINAL_STAGE = "weigh", "hand_out", "annotate"
STAGE_ORDER = (*PREPARATION, TRAIN, EVALUATE, SCORE, WEIGH_STAGE, FISHER, EMBED, SELECT, HAND_OUT_STAGE, FINAL_STAGE)
"""All stages that a round may have, in the order in which one call does them."""

PREPARE_DATASET, START, ROUND = "prepare_dataset", "start", "round"
"""Kinds of jobs beside the phases of a round: reading a dataset, round 0, and on one machine a whole round."""

HANDS_OUT = (START, SELECT, ROUND)
"""Kinds of jobs that end with a batch, which people may have to annotate."""

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
    phases = [Phase(PREPARE, (), on_device=False), Phase(TRAIN, (PREPARE,)), Phase(EVALUATE, (TRAIN,), alone=False)]
    last = TRAIN
    if SCORE in inside:
        phases.append(Phase(SCORE, (TRAIN,), sharded=True, alone=False))
        last = SCORE
    if FISHER in inside:
        phases.append(Phase(FISHER, (SCORE,), alone=False))
        last = FISHER
    elif {WEIGH_STAGE, EMBED} & set(inside):
        phases.append(Phase(MERGE, (SCORE,), alone=False, on_device=WEIGH_STAGE in inside))
        last = MERGE
    if EMBED in inside:
        phases.append(Phase(EMBED, (last,), sharded=True, alone=False))
        last = EMBED
    waits = tuple(dict.fromkeys((EVALUATE, last))) if last != TRAIN else (EVALUATE,)
    phases.append(Phase(SELECT, waits, on_device=recipe.embedding is not None))
    return tuple(phases)


def stages_of(phase: str, recipe: Recipe) -> tuple[str, ...]:
    """Return the stages of a phase in order, shards put together; ``select`` ends with all that may follow it."""
    inside = recipe.phases()
    if phase == PREPARE:
        return PREPARATION
    if phase in (MERGE, FISHER):
        return tuple(stage for stage in inside if stage in (SCORE, WEIGH_STAGE, FISHER))
    if phase == SELECT:
        return (*inside, SELECT, HAND_OUT_STAGE, FINAL_STAGE)
    return (phase,)


def part_stage(phase: str, part: int | str, parts: int | str) -> str:
    """Return the name of the stage that does one shard of a phase; with "*" a pattern for those of all shards."""
    return f"{phase}_part_{part}_of_{parts}"


def whole_stage(stage: str) -> str:
    """Return the phase of which a stage does a shard; the stage itself if it does none."""
    match = _PART_STAGE.fullmatch(stage)
    return match["phase"] if match else stage


def place_of(stage: str) -> tuple[int, bool, str]:
    """Return a key that sorts stages as a round does them, shards before the stage that puts them together."""
    whole = whole_stage(stage)
    return (STAGE_ORDER.index(whole) if whole in STAGE_ORDER else -1, stage == whole, stage)


def done_shards(stages: Iterable[str], phase: str) -> dict[int, set[int]]:
    """Return from the names of stages that are done the shards of a phase: number of shards -> those of them."""
    found: dict[int, set[int]] = {}
    for stage in stages:
        if (match := _PART_STAGE.fullmatch(stage)) and match["phase"] == phase:
            found.setdefault(int(match["parts"]), set()).add(int(match["part"]))
    return found
