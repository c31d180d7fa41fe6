"""One call of ``nnUNetv2_al_collect``: collect all batches of a campaign, take corrections, or close a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from nnunet_al.annotation.manifest import MANIFEST
from nnunet_al.campaign.commits import CLOSED, asked_regions, unanswered_regions
from nnunet_al.campaign.data import read_data
from nnunet_al.campaign.decisions import Decisions, Options
from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.campaign.stages import HAND_OUT_STAGE, is_done
from nnunet_al.collecting.batch_collector import REFUSED, BatchCollector, Outcome
from nnunet_al.collecting.collected_table import write_collected
from nnunet_al.collecting.corrections import take_correction
from nnunet_al.collecting.handed_out_batch import HandedOutBatch
from nnunet_al.collecting.open_ledger import OpenLedger, open_ledger
from nnunet_al.collecting.readings import append_consensus
from nnunet_al.collecting.returned_files import (
    UNNAMED_READER,
    ReturnedFile,
    find_corrections,
    find_returned,
    find_submitted,
)
from nnunet_al.errors import CampaignError, StorageError
from nnunet_al.nnunet.environment import Roots
from nnunet_al.pool.boxes import Region
from nnunet_al.rounds.context import RoundContext
from nnunet_al.terminal import progress


@dataclass(frozen=True)
class CollectRequest:
    """The options of one call of the command.

    Attributes
    ----------
    reader : the reader's name; None: the names of the folders
    source : folder to search for files instead of ``returned/``
    all_reviewed : treat every returned region as reviewed, regardless of the tables of marks
    round : collect only this round's batch; None: all batches that were handed out
    correct : the files in ``source`` replace the earlier annotation
    close : return the unanswered regions of the last batch to the pool
    dry_run : report the outcomes without changing anything
    """

    reader: str | None = None
    source: Path | None = None
    all_reviewed: bool = False
    round: int | None = None
    correct: bool = False
    close: bool = False
    dry_run: bool = False


@dataclass(frozen=True)
class Collection:
    """The result of a call.

    Attributes
    ----------
    outcomes : one per file
    sentences : on each consensus of several readings, and on tables that could not be written
    round : round of the last batch that was handed out; None if corrections were taken
    asked : regions of that batch by rank
    missing : those of its regions that are not annotated yet
    """

    outcomes: tuple[Outcome, ...]
    sentences: tuple[str, ...] = ()
    round: int | None = None
    asked: tuple[Region, ...] = ()
    missing: tuple[Region, ...] = ()


def collect(roots: Roots, folder: CampaignFolder, request: CollectRequest, workers: int = 1) -> Collection:
    """Collect the files that readers of a campaign returned.

    Repeating the call changes nothing. A round that is running meanwhile is trained on the annotations at its start.

    Raises CampaignError if nothing was handed out, or nothing is annotated yet that could be corrected or trained on;
    CampaignLockedError if another process has been appending to the ledger for minutes.
    """
    decided = Decisions.load(folder.decisions)
    data = read_data(roots, decided.dataset, decided.test, workers, decided.cases)
    options = Options(device="cpu", workers=workers)
    contexts = [
        RoundContext(folder, round_.number, decided, roots, data, options)
        for round_ in folder.rounds()
        if request.round in {None, round_.number}
    ]
    return _correct(contexts, request) if request.correct else _collect(contexts, request, folder)


def _collect(contexts: Sequence[RoundContext], request: CollectRequest, folder: CampaignFolder) -> Collection:
    done = [context for context in contexts if is_done(context.round.stages, HAND_OUT_STAGE)]
    handed_out = [(context, regions) for context in done if (regions := asked_regions(context.round))]
    if not handed_out:
        which = "" if request.round is None else f" in round {request.round}"
        raise CampaignError(
            f"No batch was handed out{which} of {folder.root}: run nnUNetv2_al_round --annotate, and see the progress "
            "of the campaign with nnUNetv2_al_status."
        )
    outcomes: list[Outcome] = []
    sentences: list[str] = []
    began = datetime.now().astimezone()
    with open_ledger(handed_out[0][0], request.dry_run) as ledger:
        for context, regions in handed_out:
            of_batch, on_marks = _take_batch(context, regions, request, ledger)
            sentences += [*on_marks, *append_consensus(context, regions, ledger)]
            outcomes += of_batch
            sentences += _note(context, of_batch, request, ledger, began)
        last, asked = handed_out[-1]
        if request.close:
            _close(last, request, ledger)
        missing = unanswered_regions(last.round, ledger.commits)
        kept = tuple(region for region in missing if region.case in last.decided.pool_cases)
    return Collection(tuple(outcomes), tuple(sentences), last.number, tuple(asked), kept)


def _note(
    context: RoundContext, outcomes: Sequence[Outcome], request: CollectRequest, ledger: OpenLedger, began: datetime
) -> list[str]:
    """Append outcomes to the batch's table; return a sentence if it cannot be written."""
    if request.dry_run:
        return []
    try:
        with ledger.locked():  # or two calls at once would forget each other's rows
            write_collected(context.round.hand_out, outcomes, "correct" if request.correct else "collect", began)
    except StorageError as error:  # not fatal: the ledger and the printed output are complete
        return [str(error)]
    return []


def _take_batch(
    context: RoundContext, regions: Sequence[Region], request: CollectRequest, ledger: OpenLedger
) -> tuple[list[Outcome], list[str]]:
    """Take the returned files of one batch; return also sentences on the tables of marks."""
    folder, source, decided = context.round.hand_out, request.source, context.decided
    if source is not None and (source / MANIFEST).is_file():
        folder = source  # the whole batch folder was moved
    elif not folder.is_dir():
        raise CampaignError(f"The batch folder {folder} is missing: restore it, or give its path with -i.")
    batch = HandedOutBatch(context, folder, regions)
    submitted = decided.hand_out == "monailabel" and (source is None or source == folder)
    on_marks: list[str] = []
    if submitted:
        files = find_submitted(folder, regions, request.reader, batch.grids)
    else:
        own_marks = decided.readings > 1
        files, on_marks = find_returned(folder, regions, source, request.reader, request.all_reviewed, own_marks)
    collector = BatchCollector(context, batch, regions, ledger)
    outcomes = [collector.take(file) for file in progress(files, "returned files")]
    if not submitted:  # MONAI Label may edit its copies
        outcomes += [_changed_in_place(context, path) for path in batch.changed_in_place()]
    return outcomes, on_marks


def _changed_in_place(context: RoundContext, path: Path) -> Outcome:
    sentence = f"{path.name} was edited in place: save the edited segmentation as a new file in the folder returned."
    return Outcome(path, "", UNNAMED_READER, context.number, REFUSED, sentences=(sentence,))


def _close(context: RoundContext, request: CollectRequest, ledger: OpenLedger) -> None:
    with ledger.locked():
        if not any(commit.counts for commit in ledger.commits):
            raise CampaignError(
                "--close: nothing is annotated yet, so no model can be trained; collect returned files first."
            )
        if unanswered_regions(context.round, ledger.commits):
            ledger.append(context.number, CLOSED, request.reader or UNNAMED_READER, (), {})


def _correct(contexts: Sequence[RoundContext], request: CollectRequest) -> Collection:
    assert request.source is not None
    cases = contexts[-1].annotated_now if contexts else []
    if not cases:
        raise CampaignError("--correct: nothing is annotated yet, so there is nothing to correct.")
    context = contexts[-1]
    only = None if request.round is None else asked_regions(context.round)
    files: list[ReturnedFile] = find_corrections(request.source, cases, request.reader)
    began = datetime.now().astimezone()
    with open_ledger(context, request.dry_run) as ledger:
        outcomes = tuple(take_correction(context, ledger, file, only) for file in progress(files, "corrections"))
        handed_out = [of_round for of_round in contexts if of_round.round.hand_out.is_dir()]
        sentences = _note(handed_out[-1], outcomes, request, ledger, began) if handed_out else []
    return Collection(outcomes, tuple(sentences))
