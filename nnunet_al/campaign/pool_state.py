"""Which cases a campaign has, how far each of them is, and which ones the dataset has beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nnunet_al.campaign.commits import awaited_regions, read_commits
from nnunet_al.campaign.decisions import Decisions
from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.campaign.progress import CampaignProgress
from nnunet_al.nnunet.environment import Roots
from nnunet_al.nnunet.raw_dataset import RawDataset
from nnunet_al.terminal import say
from nnunet_al.text import count, first_names


@dataclass(frozen=True)
class PoolState:
    """The cases of a campaign; each is in one tuple, sorted.

    Attributes
    ----------
    waiting : cases of the pool of which the last batch asks for something that is not annotated yet
    annotated : the other cases of which something is annotated
    untouched : the rest of the pool
    test : cases that models are tested on
    withdrawn : cases that were taken out
    new : training cases of the dataset that came after the campaign had begun
    left_out : training cases that were there when it began, and that a split file left out
    """

    waiting: tuple[str, ...]
    annotated: tuple[str, ...]
    untouched: tuple[str, ...]
    test: tuple[str, ...]
    withdrawn: tuple[str, ...]
    new: tuple[str, ...]
    left_out: tuple[str, ...]


def pool_state(roots: Roots, folder: CampaignFolder, decided: Decisions) -> PoolState:
    """Look at a campaign and its dataset; only names are read of the images.

    Raises DatasetError, CampaignError if ``dataset.json`` or the ledger cannot be read.
    """
    there = RawDataset.read(roots.raw / decided.dataset).cases
    commits = read_commits(folder.ledger)
    pool = set(decided.pool_cases)
    batch = CampaignProgress(folder.root).open_batch
    waiting = {region.case for region in awaited_regions(batch, commits, pool)} if batch else set()
    annotated = {case for commit in commits if commit.counts for case in commit.labels} & pool
    return PoolState(
        waiting=tuple(sorted(waiting)),
        annotated=tuple(sorted(annotated - waiting)),
        untouched=tuple(sorted(pool - annotated - waiting)),
        test=decided.test_cases,
        withdrawn=decided.withdrawn_cases,
        new=tuple(new_cases(decided, there)),
        left_out=decided.left_out_cases,
    )


def new_cases(decided: Decisions, cases: Iterable[str]) -> list[str]:
    """Return those of the dataset's training cases that came after the campaign had begun, sorted."""
    return sorted(set(cases).difference(decided.cases, decided.withdrawn_cases, decided.left_out_cases))


def say_new(decided: Decisions | None, cases: Iterable[str]) -> None:
    """Say how many of the dataset's cases came since the campaign began; a campaign does not add them by itself."""
    if decided is not None and (new := new_cases(decided, cases)):
        were, them = ("was", "it") if len(new) == 1 else ("were", "them")
        say(
            f"{count(len(new), 'case')} {were} added to the dataset since the campaign began; nnUNetv2_al_pool --add "
            f"takes {them} into the pool."
        )


def pool_of_round(decided: Decisions, number: int) -> set[str]:
    """Return the cases that were in the pool when a round chose its batch, less those that are out now.

    A change is entered under the round that came next; the first one after the round tells the state before.
    """
    out = set()
    for case in decided.pool_cases:
        changes = [change for change in decided.pool_changes if case in (*change["added"], *change["withdrawn"])]
        later = [change for change in changes if change["round"] > number]
        if later and case in later[0]["added"]:
            out.add(case)
    return {*decided.pool_cases} - out


def state_table(folder: CampaignFolder, decided: Decisions, state: PoolState) -> str:
    """Format the cases of a campaign, and the changes of its pool, for a person."""
    rows = {
        "annotated": state.annotated,
        "waiting for annotation": state.waiting,
        "untouched": state.untouched,
        "withdrawn": state.withdrawn,
        "kept for the test": state.test,
        "new in the dataset (--add takes them in)": state.new,
        "left out when it began": state.left_out,
    }
    shown = {title: cases for title, cases in rows.items() if cases or title == "annotated"}
    width = max(map(len, shown))
    lines = [f"{folder.root}: {count(len(decided.pool_cases), 'case')} in the pool"]
    lines += [f"  {title:<{width}}  {len(cases):>4}  {named(cases)}".rstrip() for title, cases in shown.items()]
    for change in decided.pool_changes:
        done = [f"{word} {named(change[word])}" for word in ("added", "withdrawn") if change[word]]
        reason = f" ({change['reason']})" if change["reason"] else ""
        lines.append(f"  {_when(change)}: {'; '.join(done)}{reason}")
    return "\n".join(lines)


def _when(change: Mapping[str, Any]) -> str:
    """Return when a change was made; in campaigns of earlier versions it does not say that a batch was waiting."""
    waiting = change.get("while_waiting")
    return f"before round {change['round']}" if waiting is None else f"while the batch of round {waiting} waited"


def named(cases: Sequence[str]) -> str:
    """Return the names of the first ten cases, and how many more there are."""
    return first_names(cases, 10)
