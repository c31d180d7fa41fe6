"""Lines on campaigns and jobs: redrawn in place on a terminal, or appended to a file where they have changed."""

from __future__ import annotations

import os
import re
import shutil
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TextIO

from nnunet_al.campaign.overview import progress_lines
from nnunet_al.jobs.job_states import DONE, FAILED, NOT_SUBMITTED, READERS, RUNS, SILENT, STATES, WAITS, JobState
from nnunet_al.jobs.watching import CampaignView, FolderView, View
from nnunet_al.text import count

_WORDS = {  # of one job, of several
    DONE: ("done", "done"),
    RUNS: ("runs", "run"),
    WAITS: ("waits", "wait"),
    FAILED: ("failed", "failed"),
    READERS: ("waits for readers", "wait for readers"),
    NOT_SUBMITTED: ("not submitted", "not submitted"),
}
NOTHING = "There is no such campaign, and there are no jobs."


def count_line(folder: FolderView) -> str:
    """Return "jobs in FOLDER: 12 done, 1 runs, 30 wait, 1 failed"."""
    if folder.broken:
        return f"jobs in {folder.root} cannot be read: {folder.broken}"
    counts = folder.counts()
    shown = [f"{counts[state]} {words[counts[state] != 1]}" for state, words in _WORDS.items() if counts[state]]
    silent = any(job.detail == SILENT for job in folder.states)
    return f"jobs in {folder.root}: {', '.join(shown) or 'none'}{f'; {SILENT}' if silent else ''}"


def campaign_lines(campaigns: Sequence[CampaignView]) -> list[str]:
    """Return a line for each campaign under a head, failed and running ones first."""
    return progress_lines((c.title, c.last, c.rounds, c.dice, c.now) for c in sorted(campaigns, key=_place))


def failure_lines(job: JobState) -> list[str]:
    """Return the lines on a job that failed, with the last lines of its log."""
    part = "" if job.part is None else f", part {job.part}"
    return [f"{job.key}{part}: {job.detail}", f"  {job.log}", *(f"    {line}" for line in job.last)]


def lines_of(view: View, title: str, height: int | None = None) -> list[str]:
    """Return all lines of a view, or at most ``height`` lines, of which failures get up to half."""
    fixed = [title, *map(count_line, view.folders), *([] if view.campaigns or view.folders else [NOTHING])]
    campaigns = campaign_lines(view.campaigns) if view.campaigns else []
    failed = [job for folder in view.folders for job in folder.states if job.state == FAILED]
    failures = [line for job in failed for line in failure_lines(job)]
    whole = [*fixed, *campaigns, *failures]
    if height is None or len(whole) <= height:
        return whole
    fixed = fixed[: max(1, height // 2)]
    rows = height - len(fixed)
    for_failures = min(len(failures), max(rows // 2, rows - len(campaigns)))
    return [
        *fixed,
        *_cut(campaigns, rows - for_failures, "more campaigns"),
        *_cut(failures, for_failures, f"more lines on {count(len(failed), 'failed job')}"),
    ]


@dataclass
class Terminal:
    """Draws each view over the one before; the last one whole."""

    out: TextIO
    _drawn: int = 0

    def show(self, view: View, title: str, is_last: bool) -> None:
        """Draw a view."""
        columns, rows = _size(self.out)
        if is_last:
            lines = lines_of(view, title)
        else:  # a line that wraps would count as two when it is drawn over
            lines = [fitted(line, columns - 1) for line in lines_of(view, title, rows - 1)]
        back = f"\x1b[{self._drawn}F" if self._drawn else ""
        self.out.write(back + "\x1b[J" + "".join(f"{line}\n" for line in lines))
        self.out.flush()
        self._drawn = len(lines)


@dataclass
class Log:
    """Writes the lines that have changed since the last view, each with the time."""

    out: TextIO
    _said: dict[str, list[str]] = field(default_factory=dict)

    def show(self, view: View, time: str) -> None:
        """Write the changed lines of a view."""
        campaigns = sorted(view.campaigns, key=_place)
        news = {f"campaign {campaign.title}": [_in_words(campaign)] for campaign in campaigns}
        news |= {f"folder {folder.root}": [count_line(folder)] for folder in view.folders}
        for folder in view.folders:
            for job in folder.states:
                if job.state == FAILED:
                    news[f"job {folder.root} {job.key} {job.part}"] = failure_lines(job)
        if not news:
            news["nothing"] = [NOTHING]
        for about, lines in news.items():
            if self._said.get(about) != lines:
                self.out.write("".join(f"{time}  {line}\n" for line in lines))
        self._said = news
        self.out.flush()


def fitted(line: str, columns: int) -> str:
    """Cut a line to the columns of a terminal; some characters take two."""
    taken = 0
    for position, character in enumerate(line):
        taken += 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if taken > columns:
            return line[:position]
    return line


def _size(out: TextIO) -> tuple[int, int]:
    try:
        size = os.get_terminal_size(out.fileno())
    except (OSError, ValueError):
        size = shutil.get_terminal_size()
    return (size.columns or 80, size.lines or 24)


def _in_words(campaign: CampaignView) -> str:
    dice = "" if campaign.dice is None else f", Dice {campaign.dice:.4f}"
    reached = f"round {campaign.last} of {campaign.rounds}{dice}; " if campaign.last >= 0 else ""
    return f"{campaign.title}: {reached}{campaign.now}"


def _place(campaign: CampaignView) -> tuple[int, list[tuple[int, str]]]:
    """Return a key that sorts by the importance of the state, then by title, seed 2 before seed 10."""
    words = re.split(r"(\d+)", campaign.title)
    return STATES.index(campaign.state), [(int(word), "") if word.isdigit() else (-1, word) for word in words]


def _cut(lines: Sequence[str], number: int, more: str) -> list[str]:
    if len(lines) <= number:
        return list(lines)
    return [*lines[: number - 1], f"  ... and {len(lines) - number + 1} {more}"] if number else []
