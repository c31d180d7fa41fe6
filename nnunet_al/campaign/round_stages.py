"""The stages of a round, in order, and which of them each of its phases runs."""

from __future__ import annotations

from pathlib import Path

from nnunet_al.campaign import batch_stages, embedding_stages, group_stages, model_stages, scoring_stages
from nnunet_al.campaign.context import RoundContext
from nnunet_al.campaign.decisions import Decisions
from nnunet_al.campaign.hand_out import hand_out
from nnunet_al.campaign.initial_batch import select_initial
from nnunet_al.campaign.round_phases import EVALUATE, PREPARE, SELECT, TRAIN, Phase, done_shards, part_stage
from nnunet_al.campaign.stages import Stage
from nnunet_al.campaign.status import FINAL_STAGE, HAND_OUT_STAGE

Stages = list[Stage[RoundContext]]

_PREPARATION: Stages = [
    Stage("labels", "composing labels from the ledger", model_stages.compose_labels),
    Stage("fingerprint", "extracting the fingerprint", model_stages.fingerprint),
    Stage("plan", "planning", model_stages.plan_round),
    Stage("preprocess", "preprocessing", model_stages.preprocess),
    Stage("images", "", model_stages.preprocess_images),
]
_TRAIN = Stage("train", "training", model_stages.train)
_EVALUATE = Stage("evaluate", "evaluating on the test cases", model_stages.evaluate)
MODEL_STAGES: Stages = [*_PREPARATION, _TRAIN, _EVALUATE]
_MODEL_PHASES = {PREPARE: _PREPARATION, TRAIN: [_TRAIN], EVALUATE: [_EVALUATE]}

ANNOTATE = Stage(FINAL_STAGE, "annotating", batch_stages.annotate)
HAND_OUT = Stage(HAND_OUT_STAGE, "handing the batch out", hand_out)
SELECT_INITIAL = Stage("select", "drawing the initial batch", select_initial)

SHARDED = {
    "score": ("scoring the pool", scoring_stages.score_part, scoring_stages.score_merge),
    "embed": ("embedding the pool", embedding_stages.embed_part, embedding_stages.embed_merge),
}
"""Phase -> sentence, the work of one shard, what puts the shards together."""

_WHOLE = {
    "weigh": Stage("weigh", "weighing the groups", group_stages.weigh),
    "fisher": Stage("fisher", "averaging squared gradients", embedding_stages.fisher),
    "select": Stage("select", "selecting the batch", batch_stages.select),
}


def first_round(decided: Decisions) -> Stages:
    """Return the stages of round 0, which has no model."""
    return [SELECT_INITIAL, *_answered_by(decided)]


def selection_stages(decided: Decisions, parts: int = 1, part: int = 0) -> Stages:
    """Return the stages behind the evaluation: the phases of the strategy's recipe for one shard, select, annotate."""
    stages = []
    for phase in (*decided.recipe.phases(), "select"):
        if phase in SHARDED:
            sentence, work, merge = SHARDED[phase]
            stages.append(Stage(part_stage(phase, part, parts), sentence, work))
            stages.append(Stage(phase, "putting the parts together" if parts > 1 else "", merge))
        else:
            stages.append(_WHOLE[phase])
    return [*stages, *_answered_by(decided)]


def phase_stages(phase: Phase, decided: Decisions, parts: int, part: int) -> Stages:
    """Return the stages of one phase: of a sharded one a share of it, else with putting shards together before."""
    if phase.name in _MODEL_PHASES:
        return _MODEL_PHASES[phase.name]
    stages = selection_stages(decided, parts, part)
    if phase.sharded:
        return [stage for stage in stages if stage.name == part_stage(phase.name, part, parts)]
    whole = [stage for stage in stages if "_part_" not in stage.name]
    return whole if phase.name == SELECT else [stage for stage in whole if stage.name in {"score", "weigh", "fisher"}]


def finished_parts(markers: Path, phase: str) -> int | None:
    """Return the number of shards in which a phase was done completely; None while it was not."""
    done = done_shards((marker.stem for marker in markers.glob("[!.]*.json")), phase)
    return min((parts for parts, found in done.items() if len(found) == parts), default=None)


def _answered_by(decided: Decisions) -> Stages:
    return [HAND_OUT, ANNOTATE] if decided.annotate else [ANNOTATE]
