"""The work of each stage of a round, and the stages of a round and of its phases as lists of work.

Names and order are those of `nnunet_al.campaign.stages`. Below, "reads" leaves out ``campaign.json`` and
the raw dataset, which every stage reads. Paths are those of the round's folder, "view" are nnU-Net's three folders in
it (see `nnunet_al.campaign.folders`).
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from nnunet_al.campaign.decisions import Decisions
from nnunet_al.campaign.stages import (
    EMBED,
    EVALUATE,
    FINAL_STAGE,
    FISHER,
    HAND_OUT_STAGE,
    PREPARATION,
    SCORE,
    SELECT,
    TRAIN,
    WEIGH_STAGE,
    Phase,
    part_stage,
    stages_of,
)
from nnunet_al.rounds.context import RoundContext
from nnunet_al.rounds.run_stages import Stage

Stages = list[Stage[RoundContext]]


def _work(place: str) -> Callable[[RoundContext], None]:
    """Return the function "module:name" of a stage; the module is loaded when the stage runs, since most load torch."""
    module, name = place.split(":")

    def work(context: RoundContext) -> None:
        getattr(import_module(f"nnunet_al.rounds.stages.{module}"), name)(context)

    return work


_LABELS = Stage("labels", "composing labels from the ledger", _work("labels:compose_labels"))
"""Reads ``ledger/`` and the labels of the round before; writes ``ledger_entries.json``, ``composed_labels.json``, and
the view's ``labelsTr``, ``dataset.json`` and splits."""
_FINGERPRINT = Stage("fingerprint", "extracting the fingerprint", _work("fingerprint:fingerprint"))
"""Reads ``labelsTr``; writes the view's ``dataset_fingerprint.json``, and the campaign's ``intensities/``."""
_PLAN = Stage("plan", "planning", _work("plan:plan_round"))
"""Reads the fingerprint and the first plan in ``prepared/``; writes the view's plans, and how a fresh plan differs."""
_PREPROCESS = Stage("preprocess", "preprocessing", _work("preprocess:preprocess"))
"""Reads plans and ``labelsTr``; writes the view's preprocessed cases, ``lost_annotations.json``, and images."""
_IMAGES = Stage("images", "", _work("images:preprocess_images"))
"""Reads the plans; writes the images of pool and test cases that the dataset's store does not have yet."""
_TRAIN = Stage(TRAIN, "training", _work("train:train"))
"""Reads the preprocessed cases and the checkpoint before; writes the view's checkpoints and ``network.json``."""
_EVALUATE = Stage(EVALUATE, "evaluating on the test cases", _work("evaluate:evaluate"))
"""Reads the checkpoint and the test cases; writes ``metrics.json``, and the campaign's ``results.csv``."""

SHARDED = {
    SCORE: ("scoring the pool", _work("score:score_part"), _work("score:score_merge")),
    EMBED: ("embedding the pool", _work("embed:embed_part"), _work("embed:embed_merge")),
}
"""Phase -> sentence, the work of one shard, the merge of the shards.

The shards of ``score`` read the checkpoint and the pool's images and write ``parts/scores*``; together they become
``scores.npz``. Those of ``embed`` read ``scores.npz``, too, and ``fisher.npz``, and write ``parts/embed*``; together
they become ``embeddings.npy``.
"""
_WEIGH = Stage(WEIGH_STAGE, "weighing the groups", _work("weigh:weigh"))
"""Reads the checkpoint and ``labelsTr``; writes ``group_weights.json``."""
_FISHER = Stage(FISHER, "averaging squared gradients", _work("fisher:fisher"))
"""Reads the checkpoint and ``scores.npz``; writes ``query.npz`` and ``fisher.npz``."""
_SELECT = Stage(SELECT, "selecting the batch", _work("select:select"))
"""Reads ``scores.npz``, ``group_weights.json``, ``embeddings.npy`` and ``query.npz``; writes ``batch.json``."""
_SELECT_INITIAL = Stage(SELECT, "drawing the initial batch", _work("select_initial:select_initial"))
"""Reads the campaign's ``regions.npz``; writes ``batch.json`` of round 0."""
_HAND_OUT = Stage(HAND_OUT_STAGE, "handing the batch out", _work("hand_out:hand_out"))
"""Reads ``batch.json`` and the checkpoint; writes ``batch/``, the folder that readers get."""
ANNOTATE = Stage(FINAL_STAGE, "annotating", _work("annotate:annotate"))
"""Reads ``batch.json``; writes the ledger's next entry, or waits until readers have; removes ``embeddings.npy``."""

_ALL = (_LABELS, _FINGERPRINT, _PLAN, _PREPROCESS, _IMAGES, _TRAIN, _EVALUATE, _WEIGH, _FISHER, _SELECT)
_BY_NAME = {stage.name: stage for stage in _ALL}
MODEL_STAGES: Stages = [_BY_NAME[name] for name in (*PREPARATION, TRAIN, EVALUATE)]
"""The stages before the passes over the pool, in every round but round 0."""


def first_round(decided: Decisions) -> Stages:
    """Return the stages of round 0, which has no model."""
    return [_SELECT_INITIAL, *_answered_by(decided)]


def selection_stages(decided: Decisions, parts: int = 1, part: int = 0) -> Stages:
    """Return the stages behind the evaluation: the phases of the strategy's recipe for one shard, select, annotate."""
    stages = []
    for phase in (*decided.recipe.phases(), SELECT):
        if phase in SHARDED:
            sentence, work, merge = SHARDED[phase]
            stages.append(Stage(part_stage(phase, part, parts), sentence, work))
            stages.append(Stage(phase, "putting the parts together" if parts > 1 else "", merge))
        else:
            stages.append(_BY_NAME[phase])
    return [*stages, *_answered_by(decided)]


def phase_stages(phase: Phase, decided: Decisions, parts: int, part: int) -> Stages:
    """Return the stages of one phase: of a sharded one a share of it, else with putting shards together before."""
    if phase.sharded:
        wanted: tuple[str, ...] = (part_stage(phase.name, part, parts),)
    else:
        wanted = stages_of(phase.name, decided.recipe)
    return [stage for stage in (*MODEL_STAGES, *selection_stages(decided, parts, part)) if stage.name in wanted]


def _answered_by(decided: Decisions) -> Stages:
    return [_HAND_OUT, ANNOTATE] if decided.annotate else [ANNOTATE]
