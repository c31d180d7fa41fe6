"""Sentences on the progress of campaigns that people annotate."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from statistics import fmean

from nnunet_al.campaign.commits import CLOSED, CONSENSUS, CORRECTION, READER, READING, Commit, total_cost
from nnunet_al.report.reading.runs import Run
from nnunet_al.text import count

_DIFFERING = re.compile(r" differ in (\d+) voxels of (\d+) region")
_AGREEMENT = re.compile(r"\(Dice between them: (.*)\)")


def annotation_progress(runs: Sequence[Run]) -> list[str]:
    """Return sentences on the progress of each campaign that people annotate; none for other campaigns."""
    return [sentence for run in runs if run.decided.annotate for sentence in _of_run(run)]


def _of_run(run: Run) -> list[str]:
    cost = total_cost(run.commits, run.decided.withdrawn_cases)
    readers = _readers(run.commits)
    by = f" by {count(len(readers), 'reader')} ({', '.join(readers)})" if readers else ""
    hours = "" if cost.minutes is None else f", in {cost.minutes:,.0f} minutes, as far as readers gave their time"
    found = [
        f"{run.name}: {count(cost.regions, 'region')} of {count(cost.cases, 'case')} "
        f"{'is' if cost.regions == 1 else 'are'} annotated{by}{hours}; {_where(run)}."
    ]
    consensus = [commit for commit in run.commits if commit.source == CONSENSUS]
    if consensus:
        found.append(_double_readings(run, [said for commit in consensus for said in commit.disagreements]))
    corrections = sum(commit.source == CORRECTION for commit in run.commits)
    if corrections:
        found.append(f"{run.name}: {count(corrections, 'correction')} replaced earlier labels.")
    return found


def _where(run: Run) -> str:
    last = run.rounds[-1] if run.rounds else None
    if last is None or last.asked_regions is None:
        return "no batch has been handed out" if last is None else f"round {last.number} has no batch yet"
    if last.complete:
        return f"round {last.number} is complete, and no batch is waiting"
    if any(commit.source == CLOSED and commit.round == last.number for commit in run.commits):
        return f"the batch of round {last.number} was closed, and the next call continues"
    if not last.waits_for:
        return f"the batch of round {last.number} is annotated, and the next call continues"
    return f"round {last.number} waits for {last.waits_for} of the {last.asked_regions} regions of its batch"


def _readers(commits: Iterable[Commit]) -> list[str]:
    return sorted({commit.reader for commit in commits if commit.source in {READER, READING, CORRECTION}})


def _double_readings(run: Run, sentences: Sequence[str]) -> str:
    """Summarise the disagreements between readings of the same regions, as the ledger's entries describe them."""
    counts = [match.groups() for said in sentences if (match := _DIFFERING.search(said))]
    voxels, regions = (sum(int(pair[place]) for pair in counts) for place in (0, 1))
    dice: dict[str, list[float]] = {}
    for said in sentences:
        match = _AGREEMENT.search(said)
        for name, share in re.findall(r"(?:^|, )(.+?) (\d\.\d+|nan)(?=, |$)", match[1]) if match else ():
            if share != "nan":
                dice.setdefault(name, []).append(float(share))
    agreement = ", ".join(f"{name} {fmean(shares):.3f}" for name, shares in sorted(dice.items()))
    return (
        f"{run.name}: readers of the same regions differ in {count(voxels, 'voxel')} of {count(regions, 'region')}"
        + (f"; mean Dice between them, over {count(len(counts), 'consensus')}: {agreement}." if agreement else ".")
    ).replace("consensuss", "consensuses")
