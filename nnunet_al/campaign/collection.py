"""One call of ``nnUNetv2_al_collect``: all batches of a campaign, its corrections, and the end of a batch."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from nnunet_al.campaign.batch import asked_regions, unanswered_regions
from nnunet_al.campaign.batch_collector import REFUSED, BatchCollector, Outcome, now
from nnunet_al.campaign.context import RoundContext
from nnunet_al.campaign.corrections import take_correction
from nnunet_al.campaign.data import read_data
from nnunet_al.campaign.decisions import Decisions
from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.campaign.hand_out import changed_in_place
from nnunet_al.campaign.ledger import CLOSED, Ledger
from nnunet_al.campaign.lock import PATIENCE_SECONDS, campaign_lock
from nnunet_al.campaign.options import Options
from nnunet_al.campaign.returned import NOBODY, ReturnedFile, find_returned, find_submitted
from nnunet_al.errors import CampaignError
from nnunet_al.files import write_table
from nnunet_al.nnunet.environment import Roots
from nnunet_al.pool.boxes import Region
from nnunet_al.progress import progress

TABLE = "collected.csv"


@dataclass(frozen=True)
class Request:
    """What a call of the command asks for.

    Attributes
    ----------
    reader : who annotated; None: the names of the folders
    source : look for files here, not in ``returned/``
    all_reviewed : every returned region was reviewed, whatever the tables of marks say
    round : only this round's batch; None: all that were handed out
    correct : the files in ``source`` take the place of what was annotated before
    close : the regions of the last batch that nobody answered go back to the pool
    dry_run : say what would happen and change nothing
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
    """What came of a call: of each file, and of the last batch that was handed out.

    ``round`` is that batch's, None where nothing was ever handed out; ``asked`` and ``missing`` are its regions, all
    of them and those that nobody has annotated yet.
    """

    outcomes: tuple[Outcome, ...]
    round: int | None
    asked: int
    missing: tuple[Region, ...]


def collect(roots: Roots, folder: CampaignFolder, request: Request, workers: int = 1) -> Collection:
    """Take back what readers of a campaign returned.

    The same call again changes nothing. A round that is running meanwhile is trained on what there was when it began.

    Raises
    ------
    CampaignError
        if nothing was handed out, or the request makes no sense.
    CampaignLockedError
        if another process has been appending to the ledger for minutes.
    """
    decided = Decisions.load(folder.decisions)
    data = read_data(roots, decided.dataset, decided.test, workers, decided.cases)
    options = Options(device="cpu", workers=workers)
    contexts = [
        RoundContext(folder, round_.number, decided, roots, data, options)
        for round_ in folder.rounds()
        if round_.hand_out.is_dir() and request.round in {None, round_.number}
    ]
    if request.correct:
        contexts = [RoundContext(folder, folder.rounds()[-1].number, decided, roots, data, options)]
    elif not contexts:
        which = "" if request.round is None else f" in round {request.round}"
        raise CampaignError(
            f"Nothing was handed out{which} of {folder.root}: start the campaign with --annotate, or see "
            "nnUNetv2_al_status."
        )
    lock = nullcontext() if request.dry_run else campaign_lock(folder.ledger_lock, PATIENCE_SECONDS)
    with lock, _ledger(contexts[0], request.dry_run) as ledger:
        outcomes: list[Outcome] = []
        for context in contexts:
            files = _files(context, request)
            if request.correct:
                outcomes += [take_correction(context, ledger, file) for file in progress(files, "corrections")]
                continue
            collector = BatchCollector(context, ledger)
            own = [collector.take(file) for file in progress(files, "returned files")]
            own += [_in_place(context, path) for path in changed_in_place(context.round.hand_out)]
            if not request.dry_run:
                _write_table(context.round.hand_out / TABLE, own)
            outcomes += own
        last = contexts[-1]
        missing = [r for r in _missing(last, ledger) if r.case not in decided.withdrawn_cases]
        if request.close and missing:
            ledger.append(last.number, CLOSED, request.reader or NOBODY, (), {}, collected=now())
            missing = []
        handed_out = last.round.hand_out.is_dir()
        asked = len(asked_regions(last.round)) if handed_out else 0
        return Collection(tuple(outcomes), last.number if handed_out else None, asked, tuple(missing))


def _in_place(context: RoundContext, path: Path) -> Outcome:
    sentence = f"{path.name} was changed where it lies: save it as a file of its own in returned."
    return Outcome(path, "", NOBODY, context.number, REFUSED, 0, (sentence,))


def _missing(context: RoundContext, ledger: Ledger) -> list[Region]:
    return unanswered_regions(context.round, ledger.commits()) if context.round.batch.is_file() else []


def _files(context: RoundContext, request: Request) -> list[ReturnedFile]:
    if request.correct:
        assert request.source is not None
        whole = [Region(case, ((0, 0),)) for case in context.annotated_now]
        return find_returned(request.source, whole, request.source, request.reader, all_reviewed=True)
    regions = asked_regions(context.round)
    if context.decided.hand_out == "monailabel" and request.source is None:
        return find_submitted(context.round.hand_out, regions, request.reader)
    return find_returned(context.round.hand_out, regions, request.source, request.reader, request.all_reviewed)


@contextmanager
def _ledger(context: RoundContext, dry_run: bool) -> Iterator[Ledger]:
    """Yield the campaign's ledger, or one that looks like it and may be written without a trace."""
    if not dry_run:
        yield context.ledger
        return
    with TemporaryDirectory() as temporary:
        for path in sorted(context.folder.ledger.glob("[0-9]*")) if context.folder.ledger.is_dir() else []:
            target = Path(temporary) / path.name
            target.symlink_to(path) if path.is_dir() else shutil.copyfile(path, target)
        dataset = context.data.dataset
        yield Ledger(Path(temporary), context.label_format, dataset.file_ending, context.ignore)


def _write_table(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Write what became of each file of a batch, as it stands now."""
    rows = [
        {
            "file": str(outcome.path.relative_to(path.parent) if path.parent in outcome.path.parents else outcome.path),
            "case": outcome.case,
            "reader": outcome.reader,
            "state": outcome.state,
            "regions": outcome.regions,
            "reason": " ".join(outcome.sentences),
        }
        for outcome in outcomes
    ]
    if rows:
        write_table(path, rows)
