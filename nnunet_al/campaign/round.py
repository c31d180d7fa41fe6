"""One round: which one it is, and its stages in order."""

from __future__ import annotations

import shutil

from nnunet_al.campaign import batch_stages, embedding_stages, group_stages, model_stages, scoring_stages
from nnunet_al.campaign.context import RoundContext
from nnunet_al.campaign.data import Data, read_data
from nnunet_al.campaign.decisions import Decisions
from nnunet_al.campaign.folders import CampaignFolder, RoundFolder
from nnunet_al.campaign.hand_out import hand_out
from nnunet_al.campaign.initial_batch import select_initial
from nnunet_al.campaign.lock import campaign_lock
from nnunet_al.campaign.options import Options
from nnunet_al.campaign.pool_state import added_after, say_new
from nnunet_al.campaign.prepare import start
from nnunet_al.campaign.stages import Stage, is_done, run_stages
from nnunet_al.campaign.status import FINAL_STAGE, HAND_OUT_STAGE
from nnunet_al.campaign.wishes import Wishes
from nnunet_al.errors import CampaignError, CampaignLockedError
from nnunet_al.files import read_json, remove_temporary_files
from nnunet_al.nnunet.environment import Roots
from nnunet_al.progress import say

Stages = list[Stage[RoundContext]]

MODEL_STAGES: Stages = [
    Stage("labels", "composing labels from the ledger", model_stages.compose_labels),
    Stage("fingerprint", "extracting the fingerprint", model_stages.fingerprint),
    Stage("plan", "planning", model_stages.plan_round),
    Stage("preprocess", "preprocessing", model_stages.preprocess),
    Stage("train", "training", model_stages.train),
    Stage("evaluate", "evaluating on the test cases", model_stages.evaluate),
]
ANNOTATE = Stage(FINAL_STAGE, "annotating", batch_stages.annotate)

HAND_OUT = Stage(HAND_OUT_STAGE, "handing the batch out", hand_out)
SELECT_INITIAL = Stage("select", "drawing the initial batch", select_initial)


def do_round(roots: Roots, wishes: Wishes, options: Options, number: int | None = None) -> None:
    """Start the campaign if there is none, continue an interrupted round, else do the next one.

    With ``number`` that round is done, and nothing when it is complete. A round that only waited for its readers is
    followed by the next one once they are done.

    Raises
    ------
    NnunetALError
        of the kind that says what is in the way; the campaign stays as it was.
    WaitingForReaders
        if people, or the dataset's labels, have not annotated all of the batch yet.
    """
    wishes.check()
    options.check()
    wished = wishes.decide(options.device)
    folder = CampaignFolder.of(
        roots, wished.dataset, wished.configuration, wished.recipe.name, wished.seed, wished.tag, wished.fold
    )
    decided = _continued(folder, wishes)
    _check_device(options)
    data = _read(roots, wished, decided, options)
    try:
        with campaign_lock(folder.lock):
            before, decided = decided, _continued(folder, wishes)
            if before and decided and before.cases != decided.cases:  # somebody has just added or withdrawn some
                data = _read(roots, wished, decided, options)
            say_new(decided, data)
            chosen = _choose_round(folder, number)
            if chosen is None:
                return
            decided = decided or start(folder, wished, roots, data, options.workers, wishes.read_groups)
            context = RoundContext(folder, chosen, decided, roots, data, options)
            data.remember()  # not before, since a refusal leaves every file as it was
            remove_temporary_files(folder.root)
            if number is None and is_done(context.round.stages, HAND_OUT_STAGE):
                run_stages([ANNOTATE], context, context.round.stages)
                _finish(context)
                chosen = _choose_round(folder, None)
                if chosen is None:
                    return
                context = RoundContext(folder, chosen, decided, roots, data, options)
            say(f"Round {chosen} of {folder.root}")
            alone = options.parts == 1
            run_stages(MODEL_STAGES if chosen else first_round(decided), context, context.round.stages)
            if alone and chosen:
                run_stages(selection_stages(decided), context, context.round.stages)
        if not alone and chosen:
            _run_part(context)
    finally:
        _forget_unborn(folder)
    if is_done(context.round.stages, FINAL_STAGE):
        _finish(context)


def selection_stages(decided: Decisions, parts: int = 1, part: int = 0) -> Stages:
    """Return the stages behind the evaluation: the phases of the strategy's recipe for one shard, select, annotate."""
    stages = []
    for phase in (*decided.recipe.phases(), "select"):
        if phase in _SHARDED:
            sentence, work, merge = _SHARDED[phase]
            stages.append(Stage(_part_stage(phase, part, parts), sentence, work))
            stages.append(Stage(phase, "putting the parts together" if parts > 1 else "", merge))
        else:
            stages.append(_WHOLE[phase])
    return [*stages, *_answered_by(decided)]


def first_round(decided: Decisions) -> Stages:
    """Return the stages of round 0, which has no model."""
    return [SELECT_INITIAL, *_answered_by(decided)]


def _answered_by(decided: Decisions) -> Stages:
    return [HAND_OUT, ANNOTATE] if decided.annotate else [ANNOTATE]


_SHARDED = {
    "score": ("scoring the pool", scoring_stages.score_part, scoring_stages.score_merge),
    "embed": ("embedding the pool", embedding_stages.embed_part, embedding_stages.embed_merge),
}
_WHOLE = {
    "weigh": Stage("weigh", "weighing the groups", group_stages.weigh),
    "fisher": Stage("fisher", "averaging squared gradients", embedding_stages.fisher),
    "select": Stage("select", "selecting the batch", batch_stages.select),
}


def _part_stage(phase: str, part: int, parts: int) -> str:
    return f"{phase}_part_{part}_of_{parts}"


def _run_part(context: RoundContext) -> None:
    """Do this shard's share of each phase, and whatever becomes possible when all shards are there."""
    parts, part = context.options.parts, context.options.part
    markers = context.round.stages
    for stage in selection_stages(context.decided, parts, part):
        if is_done(markers, stage.name):
            continue
        phase = stage.name.partition("_part_")[0]
        if stage.name != phase:
            with campaign_lock(context.folder.root / f"lock_part_{part}_of_{parts}"):
                run_stages([stage], context, markers)
            continue
        missing = [
            other
            for other in range(parts)
            if phase in _SHARDED and not is_done(markers, _part_stage(phase, other, parts))
        ]
        if missing:
            say(f"Part {part} of {parts} is done; the others ({', '.join(map(str, missing))}) must {phase} first.")
            return
        try:
            with campaign_lock(context.folder.lock):
                run_stages([stage], context, markers)
        except CampaignLockedError:
            say(f"Part {part} of {parts} is done; the call for another part goes on.")
            return


def _continued(folder: CampaignFolder, wishes: Wishes) -> Decisions | None:
    if not folder.decisions.is_file():
        return None
    decided = Decisions.load(folder.decisions)
    wishes.compare(decided, folder.root)
    return decided


def _read(roots: Roots, wished: Decisions, decided: Decisions | None, options: Options) -> Data:
    cases = None if decided is None else decided.cases
    return read_data(roots, wished.dataset, (decided or wished).test, options.workers, cases)


def _check_device(options: Options) -> None:
    from nnunet_al.nnunet.training import torch_device

    torch_device(options.device)


def _choose_round(folder: CampaignFolder, number: int | None) -> int | None:
    """Return the round to do, or None when there is nothing left to do, which is said."""
    rounds = folder.rounds()
    complete = [round_ for round_ in rounds if is_done(round_.stages, FINAL_STAGE)]
    upcoming = len(complete)
    if number is not None and number < 0:
        raise CampaignError(f"-round {number}: rounds are counted from 0.")
    if number is not None and number < upcoming:
        say(f"Round {number} of {folder.root} is done already.")
        return None
    if number is not None and number > upcoming:
        raise CampaignError(f"-round {number}: round {upcoming} of {folder.root} comes first.")
    used_up = complete and complete[-1].number > 0 and not read_json(complete[-1].batch)["regions"]
    if used_up and not added_after(Decisions.load(folder.decisions), complete[-1].number):
        say(f"The pool of {folder.root} is used up: nothing is left to annotate.")
        return None
    return upcoming


def _forget_unborn(folder: CampaignFolder) -> None:
    """Remove the folders of a campaign that could not be started, so that nothing of the attempt is left."""
    if folder.decisions.is_file() or not folder.root.is_dir():
        return
    if any(path.name not in {"lock", "lock.json"} for path in folder.root.iterdir()):
        return  # another process is at it
    shutil.rmtree(folder.root)
    for parent in list(folder.root.parents)[:3]:
        if any(parent.iterdir()):
            break
        parent.rmdir()


def _finish(context: RoundContext) -> None:
    decided, number = context.decided, context.number
    parameters = decided.recipe.parameters
    fine_tuned = 0 if decided.from_scratch else 1
    in_ensemble = parameters["members"] - 1 if parameters.get("ensemble_of") == "rounds" else 0
    kept = max({"all": number, "last": 1, "none": 0}[context.options.keep], fine_tuned, in_ensemble)
    for round_ in context.folder.rounds():
        if 0 < round_.number <= number - kept:
            _remove_checkpoints(context, round_)
    say(f"Round {number} is done.")


def _remove_checkpoints(context: RoundContext, round_: RoundFolder) -> None:
    for fold in (context.decided.fold, *context.member_folds):
        for checkpoint in context.checkpoint(round_, fold).parent.glob("checkpoint_*.pth"):
            checkpoint.unlink()
