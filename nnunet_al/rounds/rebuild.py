"""Make the first plan and the regions of a campaign again, where their files are damaged or gone."""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

from nnunet_al.campaign.decisions import Decisions
from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.errors import CampaignError
from nnunet_al.files import hash_json, read_json
from nnunet_al.nnunet.round_view import IGNORE_ADDED
from nnunet_al.pool.boxes import Region
from nnunet_al.pool.table import checksum_of, load_regions, save_in_order
from nnunet_al.terminal import say

if TYPE_CHECKING:
    from nnunet_al.campaign.data import Data

_BROKEN = (OSError, ValueError, KeyError, TypeError, EOFError, IndexError, BadZipFile, zlib.error, NotImplementedError)


def plan_checksum(plans: Mapping[str, Any], dataset_json: Mapping[str, Any]) -> str:
    """Return a hash of the first plan and of the classes that the campaign began with."""
    return hash_json([plans, dataset_json["labels"], bool(dataset_json.get(IGNORE_ADDED))])


def read_first_plan(folder: CampaignFolder, decided: Decisions) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Return the first plan and its ``dataset.json``; None if they are damaged or gone."""
    view = folder.prepared.view
    try:
        plans = read_json(view.preprocessed / decided.dataset / f"{decided.plans}.json")
        dataset_json = read_json(view.raw / decided.dataset / "dataset.json")
        found = plan_checksum(plans, dataset_json)
    except _BROKEN:
        return None
    return (plans, dataset_json) if decided.plan_checksum in {None, found} else None


def first_plan(folder: CampaignFolder, decided: Decisions, data: Data) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the first plan and its ``dataset.json``; they are made again if they are damaged or gone.

    Raises CampaignError if that gives another plan.
    """
    found = read_first_plan(folder, decided)
    if found is not None:
        return found
    place = folder.prepared.root
    say(f"{place} is damaged or gone: the first plan is made again")
    cases = next(cases_cut(decided))[1]
    if decided.plan_checksum is not None and data.facts.keys() >= {*cases}:
        from nnunet_al.rounds.first_plan import plan_pool  # loads nnU-Net's planners

        shutil.rmtree(place, ignore_errors=True)
        plan_pool(folder, decided, data, cases)
        found = read_first_plan(folder, decided)
    if found is None:
        raise CampaignError(
            f"The first plan in {place} is damaged or gone, and cannot be made again as it was: restore the folder "
            "from a backup."
        )
    return found


def read_regions(folder: CampaignFolder, decided: Decisions) -> list[Region] | None:
    """Return the campaign's regions; None if their file is damaged or gone."""
    try:
        regions = load_regions(folder.root / "regions.npz")
    except _BROKEN:
        return None
    return regions if decided.regions_checksum in {None, checksum_of(regions)} else None


def campaign_regions(
    folder: CampaignFolder, decided: Decisions, data: Data, plans: Callable[[], Mapping[str, Any]], workers: int
) -> list[Region]:
    """Return the campaign's regions; they are cut again if their file is damaged or gone.

    Raises CampaignError if that gives others.
    """
    regions = read_regions(folder, decided)
    if regions is not None:
        return regions
    file = folder.root / "regions.npz"
    say(f"{file} is damaged or gone: the regions are cut again")
    again: list[Region] = []
    there = all(data.facts.keys() >= {*cases} for _, cases in cases_cut(decided))
    if decided.regions_checksum is not None and there:
        from nnunet_al.rounds.first_plan import cut_regions  # loads nnU-Net's planners

        for _, cases in cases_cut(decided):
            again += sorted(cut_regions(decided, plans(), data, cases, workers))
    if not again or checksum_of(again) != decided.regions_checksum:
        raise CampaignError(f"{file} is damaged or gone, and cannot be made again as it was: restore it from a backup.")
    save_in_order(file, again)
    return again


def cases_cut(decided: Decisions) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield the cases whose regions were cut together: those of the start (0), then those of each change (1, ...)."""
    tests = {*decided.test_cases}.union(*(change["test"] for change in decided.pool_changes))
    pool = {*decided.pool_cases, *decided.withdrawn_cases} - tests
    added: list[list[str]] = []
    out: set[str] = set()
    for change in decided.pool_changes:
        added.append([case for case in change["added"] if case in pool and case not in out])
        out |= {*change["withdrawn"]}
    yield 0, tuple(sorted(pool.difference(*added)))
    yield from ((number, tuple(cases)) for number, cases in enumerate(added, start=1) if cases)


def with_checksums(folder: CampaignFolder, decided: Decisions) -> Decisions:
    """Return the decisions with the checksums of the first plan and the regions as they are now.

    Decisions that have them, and those of campaigns whose files cannot be read, are returned as they are.
    """
    plan, regions = read_first_plan(folder, decided), read_regions(folder, decided)
    if decided.regions_checksum is not None or plan is None or regions is None:
        return decided
    return replace(decided, plan_checksum=plan_checksum(*plan), regions_checksum=checksum_of(regions))
