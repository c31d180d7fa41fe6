"""One phase of a round, as a job of a cluster does it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from nnunet_al.campaign.data import reading_alone
from nnunet_al.campaign.decisions import Decisions, Options
from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.campaign.lock import PATIENCE_SECONDS, campaign_lock, shared_lock
from nnunet_al.campaign.progress import CampaignProgress
from nnunet_al.campaign.request import Request
from nnunet_al.campaign.stages import EMBED, FINAL_STAGE, SCORE, SELECT, TRAIN, Phase, is_done, phases_of
from nnunet_al.errors import CampaignError
from nnunet_al.files import remove_temporary_files
from nnunet_al.nnunet.devices import check_devices
from nnunet_al.nnunet.environment import Roots
from nnunet_al.rounds.checks import check_before_work
from nnunet_al.rounds.context import RoundContext
from nnunet_al.rounds.network_delay import look_anew, wait_while
from nnunet_al.rounds.round import choose_round, continued, finish_handed_out, finish_round, record, tidy
from nnunet_al.rounds.run_stages import run_stages
from nnunet_al.rounds.stages.order import phase_stages
from nnunet_al.terminal import say


def do_phase(roots: Roots, request: Request, options: Options, number: int, name: str) -> None:
    """Do one phase of round ``number``, or a shard of it; nothing when it is done, or the pool was used up before.

    Raises NnunetALError of the kind that names the obstacle, such as a phase that comes before; WaitingForReaders if
    people, or the dataset's labels, have not annotated all of a batch yet.
    """
    request.check()
    options.check()
    requested = request.decide()
    folder = CampaignFolder.decided_by(roots, requested)
    folders = _folders(folder, number)
    wait_while(lambda: "" if folder.decisions.is_file() else str(folder.decisions), folders)
    decided = continued(folder, request)
    if decided is None:
        raise CampaignError(f"-phase {name}: the campaign {folder.root} has not begun; start it with -round 0.")
    phase = _phase_of(decided, name, number, options)
    if _is_over(folder, decided, options, number, phase):
        tidy(folder)
        return
    if phase.on_device:
        check_devices(options.device, options.gpus if phase.name == TRAIN else 1)
    began_with = decided
    wait_while(lambda: _not_complete(folder, began_with, phase, number), folders)
    with _lock(folder, phase, options):
        look_anew(folders)
        decided = continued(folder, request)
        assert decided is not None
        _do(roots, folder, decided, options, number, phase)


def _do(roots: Roots, folder: CampaignFolder, decided: Decisions, options: Options, number: int, phase: Phase) -> None:
    if _is_over(folder, decided, options, number, phase):
        return
    markers = folder.round(number).stages
    with reading_alone(roots, decided.dataset, decided.test, options.workers, decided.cases) as data:

        def context_of(round_number: int) -> RoundContext:
            return RoundContext(folder, round_number, decided, roots, data, options)

        if phase.alone:
            finish_handed_out(folder, number, context_of)
        if choose_round(folder, number) is None:
            return
        if missing := _not_complete(folder, decided, phase, number):
            raise CampaignError(f"-phase {phase.name}: {missing} of {folder.root} comes first.")
        if not phase.sharded:
            last_pass = EMBED if EMBED in decided.recipe.phases() and phase.name == SELECT else SCORE
            shards = CampaignProgress(folder.root).shards(last_pass, number)
            options = replace(options, parts=shards or 1, part=0)
        data.remember()
        if phase.alone:
            record(folder, decided)
            remove_temporary_files(folder.root)
        share = f", part {options.part} of {options.parts}" if phase.sharded and options.parts > 1 else ""
        say(f"Round {number} of {folder.root}, phase {phase.name}{share}")
        context = context_of(number)
        if phase.alone:
            check_before_work(context)
        run_stages(phase_stages(phase, decided, options.parts, options.part), context, markers)
        if is_done(markers, FINAL_STAGE):
            finish_round(context)


def _is_over(folder: CampaignFolder, decided: Decisions, options: Options, number: int, phase: Phase) -> bool:
    """Tell from the markers alone whether nothing is left to do, and say so."""
    progress = CampaignProgress(folder.root)
    if number < progress.complete or progress.used_up:
        return choose_round(folder, number) is None
    stages = {stage.name for stage in phase_stages(phase, decided, options.parts, options.part)}
    over = progress.is_phase_complete(phase.name, number) or stages <= progress.markers(number)
    if over:
        say(f"Phase {phase.name} of round {number} of {folder.root} is done already.")
    return over


def _phase_of(decided: Decisions, name: str, number: int, options: Options) -> Phase:
    known = {phase.name: phase for phase in phases_of(decided.recipe)}
    if name not in known:
        raise CampaignError(f"-phase {name}: a round of {decided.recipe.name} has {', '.join(known)}.")
    if number < 1:
        raise CampaignError(f"-phase {name}: round {number} is one call without -phase.")
    if options.parts > 1 and not known[name].sharded:
        sharded = ", ".join(phase.name for phase in known.values() if phase.sharded) or "none of its phases"
        raise CampaignError(f"-num_parts {options.parts}: {name} is one call; shards are for {sharded}.")
    return known[name]


def _not_complete(folder: CampaignFolder, decided: Decisions, phase: Phase, number: int) -> str:
    """Name the round or phase that must be complete before a phase; nothing where it may begin."""
    progress = CampaignProgress(folder.root)
    if progress.used_up:
        return ""
    if number > progress.complete:
        is_next = number == progress.complete + 1 == progress.handed_out
        return "" if is_next and not phase.after else f"round {progress.complete}"
    earlier = [other.name for other in phases_of(decided.recipe) if other.name in phase.after]
    missing = [name for name in earlier if not progress.is_phase_complete(name, number)]
    return f"phase {missing[0]} of round {number}" if missing else ""


def _lock(folder: CampaignFolder, phase: Phase, options: Options) -> AbstractContextManager[None]:
    if phase.alone:
        return campaign_lock(folder.lock, PATIENCE_SECONDS)
    part = f"{phase.name}_{options.part}_of_{options.parts}" if phase.sharded else phase.name
    return shared_lock(folder.lock, part, PATIENCE_SECONDS)


def _folders(folder: CampaignFolder, number: int) -> list[Path]:
    """Return the folders in which other hosts write the files that a phase reads."""
    round_ = folder.round(number)
    return [folder.root, folder.ledger, folder.round(number - 1).stages, round_.root, round_.stages, round_.parts]
