"""One round in one call, or in one call for each shard of the pool: which one comes next, its stages, its end."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, suppress

from nnunet_al.campaign.data import Data, reading_alone, say_faults
from nnunet_al.campaign.decisions import Decisions, Options
from nnunet_al.campaign.folders import CampaignFolder, RoundFolder
from nnunet_al.campaign.lock import campaign_lock, shared_lock
from nnunet_al.campaign.pool_state import say_new
from nnunet_al.campaign.progress import CampaignProgress
from nnunet_al.campaign.request import Request
from nnunet_al.campaign.stages import FINAL_STAGE, is_done, part_stage, whole_stage
from nnunet_al.errors import CampaignError, CampaignLockedError, StorageError
from nnunet_al.file_locks import file_lock, remove_empty
from nnunet_al.files import remove_temporary_files
from nnunet_al.nnunet.devices import check_devices, device_defaults
from nnunet_al.nnunet.environment import Roots
from nnunet_al.nnunet.raw_dataset import RawDataset
from nnunet_al.rounds.checks import check_before_work
from nnunet_al.rounds.context import RoundContext
from nnunet_al.rounds.rebuild import with_checksums
from nnunet_al.rounds.run_stages import run_stages
from nnunet_al.rounds.stages.order import ANNOTATE, MODEL_STAGES, SHARDED, first_round, selection_stages
from nnunet_al.terminal import say


def do_round(roots: Roots, request: Request, options: Options, number: int | None = None) -> None:
    """Start the campaign if there is none, continue an interrupted round, else do the next one.

    With ``number`` that round is done, and nothing when it is complete. A round that only waited for its readers is
    followed by the next one once they are done.

    Raises NnunetALError of the kind that names the obstacle; the campaign stays as it was; WaitingForReaders if
    people, or the dataset's labels, have not annotated all of the batch yet.
    """
    request.check()
    options.check()
    requested = request.decide()
    folder = CampaignFolder.decided_by(roots, requested)
    decided = continued(folder, request)
    if decided and _nothing_left(roots, decided, folder, number):
        if decided != Decisions.load(folder.decisions):
            with campaign_lock(folder.lock):
                record(folder, continued(folder, request) or decided)
        return
    check_devices(options.device, options.gpus)
    try:
        with ExitStack() as reading:
            data = reading.enter_context(_reading(roots, requested, decided, options))
            reading.enter_context(campaign_lock(folder.lock))
            before, decided = decided, continued(folder, request)
            if before and decided and before.cases != decided.cases:  # somebody has just added or withdrawn some
                data = reading.enter_context(_reading(roots, requested, decided, options))
            say_new(decided, data.others)
            if decided:
                known = decided
                say_faults(data.dataset, decided.test)
                finish_handed_out(folder, number, lambda last: RoundContext(folder, last, known, roots, data, options))
            chosen = choose_round(folder, number)
            if chosen is None:
                return
            if decided is not None:
                record(folder, decided)
            else:
                from nnunet_al.rounds.start import start  # loads nnU-Net's planners and trainers

                requested = request.decide(**device_defaults(options.device))
                decided = start(folder, requested, roots, data, options.workers, request.read_groups)
            if decided.regions_checksum is None and (sealed := with_checksums(folder, decided)) != decided:
                sealed.add_checksums(folder.decisions)  # begun by an earlier version
                decided = sealed
            context = RoundContext(folder, chosen, decided, roots, data, options)
            check_before_work(context)
            data.remember()  # not before, since a refusal leaves every file as it was
            remove_temporary_files(folder.root)
            say(f"Round {chosen} of {folder.root}")
            alone = options.parts == 1
            run_stages(MODEL_STAGES if chosen else first_round(decided), context, context.round.stages)
            if alone and chosen:
                run_stages(selection_stages(decided), context, context.round.stages, MODEL_STAGES)
        if not alone and chosen:
            _run_part(context)
    finally:
        _forget_unborn(folder)
    if is_done(context.round.stages, FINAL_STAGE):
        finish_round(context)


def continued(folder: CampaignFolder, request: Request) -> Decisions | None:
    """Return a campaign's decisions, with what the request may change of them; None before it has begun.

    Raises CampaignError if it was started otherwise than requested.
    """
    if not folder.decisions.is_file():
        return None
    return request.continued(Decisions.load(folder.decisions), folder.root)


def record(folder: CampaignFolder, decided: Decisions) -> None:
    """Write down what a call has changed of the campaign's decisions; the caller has the campaign's lock."""
    before = Decisions.load(folder.decisions)
    if before == decided:
        return
    if decided.rounds > before.rounds:
        say(f"{folder.root} is now planned for {decided.rounds} rounds, before for {before.rounds}.")
    decided.save(folder.decisions)


def tidy(folder: CampaignFolder) -> None:
    """Remove what a killed process left behind, its name in the lock too, unless another one works on the campaign."""
    with suppress(CampaignLockedError), campaign_lock(folder.lock):
        remove_temporary_files(folder.root)


def _nothing_left(roots: Roots, decided: Decisions, folder: CampaignFolder, number: int | None) -> bool:
    """Tell from the markers alone whether nothing is left to do, and say so: no device and no image is looked at."""
    progress = CampaignProgress(folder.root)
    if not progress.used_up and (number is None or number >= progress.complete):
        return False
    tidy(folder)
    say_new(decided, RawDataset.read(roots.raw / decided.dataset).cases)
    return choose_round(folder, number) is None


def choose_round(folder: CampaignFolder, number: int | None) -> int | None:
    """Return the round to do, or None when there is nothing left to do, which is said.

    Raises CampaignError if ``number`` is none, or others come before it.
    """
    progress = CampaignProgress(folder.root)
    upcoming = progress.complete
    if number is not None and number < 0:
        raise CampaignError(f"-round {number}: rounds are counted from 0.")
    if number is not None and number < upcoming:
        say(f"Round {number} of {folder.root} is done already.")
        return None
    if progress.used_up:
        say(f"The pool of {folder.root} is used up: nothing is left to annotate.")
        return None
    if number is not None and number > upcoming:
        raise CampaignError(f"-round {number}: round {upcoming} of {folder.root} comes first.")
    return upcoming


def finish_handed_out(folder: CampaignFolder, number: int | None, context_of: Callable[[int], RoundContext]) -> None:
    """Complete the last round if it only waits for its readers and the one behind it is wanted.

    Raises WaitingForReaders if they are not done yet.
    """
    progress = CampaignProgress(folder.root)
    last = progress.complete
    if number in {None, last + 1} and progress.handed_out > last:
        context = context_of(last)
        decided = context.decided
        before = [*MODEL_STAGES, *selection_stages(decided)] if last else first_round(decided)
        run_stages([ANNOTATE], context, context.round.stages, before)
        finish_round(context)


def finish_round(context: RoundContext) -> None:
    """Remove the checkpoints that nobody wants to keep, and say that the round is done."""
    decided, number = context.decided, context.number
    parameters = decided.recipe.parameters
    fine_tuned = 0 if decided.from_scratch else 1
    in_ensemble = parameters["members"] - 1 if parameters.get("ensemble_of") == "rounds" else 0
    kept = max({"all": number, "last": 1, "none": 0}[context.options.keep], fine_tuned, in_ensemble)
    for round_ in context.folder.rounds():
        if 0 < round_.number <= number - kept:
            _remove_checkpoints(context, round_)
    say(f"Round {number} is done.")


def _run_part(context: RoundContext) -> None:
    """Do this shard's share of each phase, and whatever becomes possible when all shards are there."""
    parts, part = context.options.parts, context.options.part
    markers = context.round.stages
    for stage in selection_stages(context.decided, parts, part):
        if is_done(markers, stage.name):
            continue
        phase = whole_stage(stage.name)
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
    roots: Roots, requested: Decisions, decided: Decisions | None, options: Options
) -> AbstractContextManager[Data]:
    cases = None if decided is None else decided.cases
    return reading_alone(roots, requested.dataset, (decided or requested).test, options.workers, cases)


def _forget_unborn(folder: CampaignFolder) -> None:
    """Remove the folders of a campaign that could not be started, so that nothing of the attempt is left."""
    if folder.decisions.is_file() or not folder.root.is_dir():
        return
    with suppress(TimeoutError, StorageError), file_lock(folder.lock):  # or another process starts it
        if {path.name for path in folder.root.iterdir()} <= {"lock", "lock.json"}:
            folder.lock.unlink()
    remove_empty([folder.root, *list(folder.root.parents)[:3]])


def _remove_checkpoints(context: RoundContext, round_: RoundFolder) -> None:
    for fold in (context.decided.fold, *context.member_folds):
        for checkpoint in context.checkpoint(round_, fold).parent.glob("checkpoint_*.pth"):
            checkpoint.unlink(missing_ok=True)
