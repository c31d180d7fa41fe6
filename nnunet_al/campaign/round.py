"""One round in one call, or in one call for each shard of the pool."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack, suppress

from nnunet_al.campaign.context import RoundContext
from nnunet_al.campaign.data import Data, reading_alone
from nnunet_al.campaign.decisions import Decisions
from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.campaign.lock import campaign_lock, shared_lock
from nnunet_al.campaign.options import Options
from nnunet_al.campaign.pool_state import say_new
from nnunet_al.campaign.prepare import start
from nnunet_al.campaign.round_order import choose_round, continued, finish_handed_out, finish_round
from nnunet_al.campaign.round_phases import part_stage
from nnunet_al.campaign.round_stages import MODEL_STAGES, SHARDED, first_round, selection_stages
from nnunet_al.campaign.stages import is_done, run_stages
from nnunet_al.campaign.status import FINAL_STAGE
from nnunet_al.campaign.wishes import Wishes
from nnunet_al.errors import CampaignLockedError, StorageError
from nnunet_al.file_locks import file_lock, remove_empty
from nnunet_al.files import remove_temporary_files
from nnunet_al.nnunet.environment import Roots
from nnunet_al.progress import say


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
    from nnunet_al.nnunet.distributed import check_gpus
    from nnunet_al.nnunet.training import torch_device

    wishes.check()
    options.check()
    wished = wishes.decide(options.device)
    folder = CampaignFolder.decided_by(roots, wished)
    decided = continued(folder, wishes)
    check_gpus(torch_device(options.device), options.gpus)
    try:
        with ExitStack() as reading:
            data = reading.enter_context(_reading(roots, wished, decided, options))
            reading.enter_context(campaign_lock(folder.lock))
            before, decided = decided, continued(folder, wishes)
            if before and decided and before.cases != decided.cases:  # somebody has just added or withdrawn some
                data = reading.enter_context(_reading(roots, wished, decided, options))
            say_new(decided, data)
            if decided:
                known = decided
                finish_handed_out(folder, number, lambda last: RoundContext(folder, last, known, roots, data, options))
            chosen = choose_round(folder, number)
            if chosen is None:
                return
            decided = decided or start(folder, wished, roots, data, options.workers, wishes.read_groups)
            context = RoundContext(folder, chosen, decided, roots, data, options)
            data.remember()  # not before, since a refusal leaves every file as it was
            remove_temporary_files(folder.root)
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
        finish_round(context)


def _run_part(context: RoundContext) -> None:
    """Do this shard's share of each phase, and whatever becomes possible when all shards are there."""
    parts, part = context.options.parts, context.options.part
    markers = context.round.stages
    for stage in selection_stages(context.decided, parts, part):
        if is_done(markers, stage.name):
            continue
        phase = stage.name.partition("_part_")[0]
        if stage.name != phase:
            with shared_lock(context.folder.lock, f"{part}_of_{parts}"):
                run_stages([stage], context, markers)
            continue
        names = {other: part_stage(phase, other, parts) for other in range(parts)}
        missing = [other for other, name in names.items() if phase in SHARDED and not is_done(markers, name)]
        if missing:
            say(f"Part {part} of {parts} is done; the others ({', '.join(map(str, missing))}) must {phase} first.")
            return
        try:
            with campaign_lock(context.folder.lock):
                run_stages([stage], context, markers)
        except CampaignLockedError:
            say(f"Part {part} of {parts} is done; the call for another part goes on.")
            return


def _reading(
    roots: Roots, wished: Decisions, decided: Decisions | None, options: Options
) -> AbstractContextManager[Data]:
    cases = None if decided is None else decided.cases
    return reading_alone(roots, wished.dataset, (decided or wished).test, options.workers, cases)


def _forget_unborn(folder: CampaignFolder) -> None:
    """Remove the folders of a campaign that could not be started, so that nothing of the attempt is left."""
    if folder.decisions.is_file() or not folder.root.is_dir():
        return
    with suppress(TimeoutError, StorageError), file_lock(folder.lock):  # or another process starts it
        if {path.name for path in folder.root.iterdir()} <= {"lock", "lock.json"}:
            folder.lock.unlink()
    remove_empty([folder.root, *list(folder.root.parents)[:3]])
