"""The work of each stage of a round, and the stages of a round and of its phases as lists of work.

Names and order are those of `nnunet_al.campaign.stages`. Below, "reads" leaves out ``campaign.json`` and
the raw dataset, which every stage reads. Paths are those of the round's folder, "view" are nnU-Net's three folders in
it (see `nnunet_al.campaign.folders`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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
from nnunet_al.rounds.stages import outputs

Stages = list[Stage[RoundContext]]


def _work(place: str) -> Callable[[RoundContext], None]:
    """Return the function "module:name" of a stage; the module is loaded when the stage runs, since most load torch."""
    module, name = place.split(":")

    def work(context: RoundContext) -> None:
        getattr(import_module(f"nnunet_al.rounds.stages.{module}"), name)(context)

    return work


@dataclass(frozen=True)
class Sharded:
    """A pass over the pool, of which each of several calls may do a shard.

    Attributes
    ----------
    sentence, work, merge : of a shard, and the work of putting all together
    kind : how the names of the shards' files begin
    reads : the stages whose files a shard reads
    merged : attribute of the round's folder for the file of all shards together
    """

    sentence: str
    work: Callable[[RoundContext], None]
    merge: Callable[[RoundContext], None]
    kind: str
    reads: tuple[str, ...]
    merged: str

    def stages(self, phase: str, parts: int, part: int) -> Stages:
        """Return the stage of one shard, and the one that puts the shards together."""
        sentence = "putting the parts together" if parts > 1 else ""
        reads = (*self.reads, part_stage(phase, "*", parts))
        return [
            Stage(
                part_stage(phase, part, parts), self.sentence, self.work, outputs.of_shard(self.kind, part), self.reads
            ),
            Stage(phase, sentence, self.merge, outputs.inside(self.merged), reads),
        ]


_MODEL = ("labels", "plan", TRAIN)
"""The stages whose files every pass with the round's model reads."""

_LABELS = Stage("labels", "composing labels from the ledger", _work("labels:compose_labels"), outputs.of_labels)
"""Reads ``ledger/`` and the labels of the round before; writes ``ledger_entries.json``, ``composed_labels.json``, and
the view's ``labelsTr``, ``dataset.json`` and splits."""
_FINGERPRINT = Stage(
    "fingerprint", "extracting the fingerprint", _work("fingerprint:fingerprint"), outputs.of_fingerprint, ("labels",)
)
"""Reads ``labelsTr``; writes the view's ``dataset_fingerprint.json``, and the campaign's ``intensities/``."""
_PLAN = Stage("plan", "planning", _work("plan:plan_round"), outputs.of_plan, ("fingerprint",))
"""Reads the fingerprint and the first plan in ``prepared/``; writes the view's plans, and how a fresh plan differs."""
_PREPROCESS = Stage(
    "preprocess", "preprocessing", _work("preprocess:preprocess"), outputs.of_preprocess, ("labels", "plan")
)
"""Reads plans and ``labelsTr``; writes the view's preprocessed cases, ``lost_annotations.json``, and images."""
_IMAGES = Stage("images", "", _work("images:preprocess_images"), reads=("labels", "plan"))
"""Reads the plans; writes the images of pool and test cases that the dataset's store does not have yet."""
_TRAIN = Stage(
    TRAIN, "training", _work("train:train"), outputs.of_train, ("labels", "fingerprint", "plan", "preprocess")
)
"""Reads the preprocessed cases and the checkpoint before; writes the view's checkpoints and ``network.json``."""
_EVALUATE = Stage(
    EVALUATE, "evaluating on the test cases", _work("evaluate:evaluate"), outputs.inside("metrics"), _MODEL
)
"""Reads the checkpoint and the test cases; writes ``metrics.json``, and the campaign's ``results.csv``."""

SHARDED = {
    SCORE: Sharded(
        "scoring the pool", _work("score:score_part"), _work("score:score_merge"), "scores", _MODEL, "scores"
    ),
    EMBED: Sharded(
        "embedding the pool",
        _work("embed:embed_part"),
        _work("embed:embed_merge"),
        "embedded",
        (*_MODEL, SCORE, FISHER),
        "embeddings",
    ),
}
"""Phases of which each call may do a shard.

The shards of ``score`` read the checkpoint and the pool's images and write ``parts/scores*``; together they become
``scores.npz``. Those of ``embed`` read ``scores.npz``, too, and ``fisher.npz``, and write ``parts/embed*``; together
they become ``embeddings.npy``.
"""
_WEIGH = Stage(WEIGH_STAGE, "weighing the groups", _work("weigh:weigh"), outputs.inside("group_weights"), _MODEL)
"""Reads the checkpoint and ``labelsTr``; writes ``group_weights.json``."""
_FISHER = Stage(
    FISHER, "averaging squared gradients", _work("fisher:fisher"), outputs.of_fisher, (*_MODEL, SCORE, WEIGH_STAGE)
)
"""Reads the checkpoint and ``scores.npz``; writes ``query.npz`` and ``fisher.npz``."""
_SELECT = Stage(
    SELECT,
    "selecting the batch",
    _work("select:select"),
    outputs.inside("batch"),
    ("labels", "plan", SCORE, WEIGH_STAGE, FISHER, EMBED),
)
"""Reads ``scores.npz``, ``group_weights.json``, ``embeddings.npy`` and ``query.npz``; writes ``batch.json``."""
_SELECT_INITIAL = Stage(
    SELECT, "drawing the initial batch", _work("select_initial:select_initial"), outputs.inside("batch")
)
"""Reads the campaign's ``regions.npz``; writes ``batch.json`` of round 0."""
_HAND_OUT = Stage(HAND_OUT_STAGE, "handing the batch out", _work("hand_out:hand_out"), reads=(*_MODEL, SELECT))
"""Reads ``batch.json`` and the checkpoint; writes ``batch/``, the folder that readers get."""
ANNOTATE = Stage(FINAL_STAGE, "annotating", _work("annotate:annotate"), outputs.of_annotate, (SELECT,))
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
    stages: Stages = []
    for phase in (*decided.recipe.phases(), SELECT):
        if phase in SHARDED:
            stages += SHARDED[phase].stages(phase, parts, part)
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
