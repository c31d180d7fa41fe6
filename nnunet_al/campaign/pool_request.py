"""A request to change a campaign's pool, and the change that follows from the names of the cases."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from nnunet_al.campaign.decisions import Decisions
from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.campaign.pool_state import new_cases
from nnunet_al.campaign.progress import CampaignProgress
from nnunet_al.errors import CampaignError
from nnunet_al.nnunet.environment import Roots
from nnunet_al.nnunet.raw_dataset import RawDataset


@dataclass(frozen=True)
class PoolRequest:
    """The request of one call.

    Attributes
    ----------
    add, withdraw : names of cases, in any order
    add_new : add every case that came to the dataset since the campaign began
    reason : kept with the change
    groups : table of participants, for the groups of added cases
    dry_run : report the change without making it
    """

    add: tuple[str, ...] = ()
    withdraw: tuple[str, ...] = ()
    add_new: bool = False
    reason: str = ""
    groups: Path | None = None
    dry_run: bool = False


@dataclass(frozen=True)
class PoolChange:
    """The result of a call, each tuple sorted.

    Attributes
    ----------
    decided : the campaign's decisions after it
    added : cases that the campaign had never had
    put_back : cases that were withdrawn and count again
    withdrawn : cases that were taken out
    unchanged : cases that were asked for and are so already
    regions : how many the added cases are cut into
    with_labels : added cases whose labels in the dataset were taken as annotations
    cleared : folders of rounds in which reports kept pictures, removed since they may show withdrawn cases
    """

    decided: Decisions
    added: tuple[str, ...] = ()
    put_back: tuple[str, ...] = ()
    withdrawn: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    regions: int = 0
    with_labels: tuple[str, ...] = ()
    cleared: tuple[Path, ...] = ()


def decide(roots: Roots, folder: CampaignFolder, decided: Decisions, request: PoolRequest) -> PoolChange:
    """Return the change as the names alone tell it, so that images that are gone or broken can be withdrawn.

    Hashes and groups of added cases are still missing.

    Raises CampaignError if a name or an option does not fit the campaign; DatasetError if ``dataset.json`` cannot be
    read.
    """
    if both := sorted({*request.add} & {*request.withdraw}):
        raise CampaignError(f"{both[0]} cannot be added and withdrawn at once: name it in one of -add and -withdraw.")
    if request.groups is not None and not decided.groups:
        raise CampaignError(f"-groups: the campaign {folder.root} has no groups of cases; leave it out.")
    wanted = _wanted(roots, decided, request)
    for case in sorted(request.withdraw):
        if case not in {*decided.cases, *decided.withdrawn_cases}:
            raise CampaignError(
                f"-withdraw {case}: the campaign {folder.root} has no such case; without -withdraw this command lists "
                "those that it has."
            )
    out, out_before = {*request.withdraw} - {*decided.withdrawn_cases}, {*decided.withdrawn_cases}
    added, put_back = wanted - {*decided.cases} - out_before, wanted & out_before
    unchanged = (wanted & {*decided.cases}) | ({*request.withdraw} & out_before)
    if not (out or added or put_back):
        return PoolChange(decided, unchanged=tuple(sorted(unchanged)))
    were_tests = {case for change in decided.pool_changes for case in change["test"]}
    pool = {*decided.pool_cases, *added, *(put_back - were_tests)} - out
    test = {*decided.test_cases, *(put_back & were_tests)} - out
    if not pool:
        raise CampaignError(f"-withdraw: nothing of the pool of {folder.root} would be left; start another campaign.")
    if decided.test_cases and not test:
        raise CampaignError(
            f"-withdraw: no test case of {folder.root} would be left, and models of the rounds to come could not be "
            "compared with those before; start another campaign with other test cases."
        )
    progress = CampaignProgress(folder.root)
    entry = {
        "round": max((r.number for r in progress.rounds if progress.markers(r.number)), default=-1) + 1,
        "added": sorted({*added, *put_back}),
        "withdrawn": sorted(out),
        "test": sorted((out & {*decided.test_cases}) | (put_back & were_tests)),
        "reason": request.reason,
    }
    if progress.open_batch is not None:
        entry["while_waiting"] = progress.open_batch.number
    after = replace(
        decided,
        pool_cases=tuple(sorted(pool)),
        test_cases=tuple(sorted(test)),
        withdrawn_cases=tuple(sorted((out_before | out) - put_back)),
        left_out_cases=tuple(sorted({*decided.left_out_cases} - added)),
        groups={case: group for case, group in decided.groups.items() if case not in out},
        pool_changes=(*decided.pool_changes, entry),
    )
    return PoolChange(
        after, tuple(sorted(added)), tuple(sorted(put_back)), tuple(sorted(out)), tuple(sorted(unchanged))
    )


def _wanted(roots: Roots, decided: Decisions, request: PoolRequest) -> set[str]:
    if not request.add and not request.add_new:
        return set()
    dataset = RawDataset.read(roots.raw / decided.dataset)
    back = {case for change in decided.pool_changes for case in {*change["added"]} & {*change["test"]}}
    for case in sorted(request.add):
        if case in decided.test_cases and case not in back:  # put back by this very call, before it was killed
            raise CampaignError(f"-add {case}: it is a test case, and what models are tested on is not trained on.")
        if case not in {*dataset.cases, *decided.pool_cases, *decided.withdrawn_cases}:
            raise CampaignError(f"-add {case}: {dataset.folder} has no such case; put its images there first.")
    return {*request.add, *(new_cases(decided, dataset.cases) if request.add_new else ())}
