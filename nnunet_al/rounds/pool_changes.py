"""Cases that are added to a campaign, or withdrawn from it, between its rounds."""

from __future__ import annotations

import re
from contextlib import nullcontext
from dataclasses import replace

from nnunet_al.campaign.commits import Commit, read_commits
from nnunet_al.campaign.data import read_data
from nnunet_al.campaign.decisions import Decisions, Options
from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.campaign.lock import campaign_lock
from nnunet_al.campaign.pool_request import PoolChange, PoolRequest, decide
from nnunet_al.campaign.progress import CampaignProgress
from nnunet_al.campaign.remaining_data import kept_pictures, remove_kept_pictures
from nnunet_al.campaign.stages import HAND_OUT_STAGE, SELECT
from nnunet_al.errors import CampaignError, DatasetError
from nnunet_al.evaluation.groups import read_groups
from nnunet_al.files import hash_json, remove_temporary_files
from nnunet_al.nnunet.environment import Roots
from nnunet_al.pool.boxes import Region
from nnunet_al.pool.table import append_regions, checksum_of, load_regions
from nnunet_al.rounds.context import RoundContext
from nnunet_al.terminal import say

_QUANTILES = re.compile(r":q\d+$")


def change_pool(roots: Roots, folder: CampaignFolder, request: PoolRequest, workers: int = 1) -> PoolChange:
    """Add and withdraw cases; the campaign's decisions are rewritten in one step, last, so that a kill leaves no half.

    An added case is verified as at the start and cut with the patch of the campaign's first plan; its regions get
    numbers behind all others. Nothing of a withdrawn case is looked at any more; its annotations stay in the
    ledger, and the folders that reports keep in those of the rounds are removed. The same call again changes nothing.

    Raises CampaignError, DatasetError, GroupsError if a round is being done, or the request does not fit; everything is
    as it was then; StorageError if a file cannot be written or removed; the same call finishes it.
    """
    with nullcontext() if request.dry_run else campaign_lock(folder.lock):
        decided = Decisions.load(folder.decisions)
        _check_at_rest(folder, decided)
        change = decide(roots, folder, decided, request)
        if request.withdraw:  # also of cases that are out already: a report may have been at work meanwhile
            change = replace(change, cleared=tuple(kept_pictures(folder)))
        if change.decided == decided:
            if not request.dry_run and change.cleared:
                remove_kept_pictures(folder)
            return change
        regions: list[Region] = []
        context = None
        if change.added or change.put_back:
            from nnunet_al.rounds.first_plan import cut_regions  # loads nnU-Net's planners

            change, context = _with_data(roots, folder, change, request, workers)
            regions = cut_regions(change.decided, context.first_plans, context.data, change.added, workers)
        if request.dry_run:
            return replace(change, regions=len(regions))
        remove_temporary_files(folder.root)
        if context is not None:
            file, known = folder.root / "regions.npz", {*decided.pool_cases, *decided.withdrawn_cases}
            append_regions(file, regions, known)
            change = replace(change, decided=replace(change.decided, regions_checksum=checksum_of(load_regions(file))))
            context.decided = change.decided
            if change.with_labels:
                from nnunet_al.rounds.stages.annotate import commit_existing

                commit_existing(context, change.with_labels)
        if change.cleared:
            remove_kept_pictures(folder)
        change.decided.save(folder.decisions)
        if context is not None:
            context.data.remember()
        return replace(change, regions=len(regions))


def _check_at_rest(folder: CampaignFolder, decided: Decisions) -> None:
    """Refuse while a round has begun and its batch is not out: candidates and labels of its stages would disagree.

    A batch that waits for annotation is no obstacle, and neither is a round of which no stage is complete, since it
    begins anew.
    """
    progress = CampaignProgress(folder.root)
    for round_ in progress.rounds[-1:]:
        markers = progress.markers(round_.number)
        is_out = (HAND_OUT_STAGE if decided.annotate else SELECT) in markers
        if markers and not is_out and not progress.is_complete(round_.number):
            raise CampaignError(
                f"Round {round_.number} of {folder.root} has begun: finish it with nnUNetv2_al_round first (or remove "
                f"{round_.root}, in which nothing is annotated yet, to do it again afterwards)."
            )


def _with_data(
    roots: Roots, folder: CampaignFolder, change: PoolChange, request: PoolRequest, workers: int
) -> tuple[PoolChange, RoundContext]:
    """Verify the images of added cases and complete the decisions by their hashes and groups."""
    after = change.decided
    data = read_data(roots, after.dataset, after.test, workers, after.cases)
    facts = {**data.test_facts, **data.facts}
    for case in change.put_back:
        if case not in facts:
            raise CampaignError(f"-add {case}: its image is not in {data.dataset.folder}; put it back first.")
        if hash_json(facts[case].image_hashes) != after.hashes[case]:
            raise CampaignError(
                f"-add {case}: its image is not the one that was withdrawn, to which its annotations belong; add it "
                "under another name."
            )
    hashes = {case: hash_json(facts[case].image_hashes) for case in change.added}
    after = replace(after, hashes={**after.hashes, **hashes}, groups=_groups(folder, change, request))
    last = max(CampaignProgress(folder.root).complete - 1, 0)
    context = RoundContext(folder, last, after, roots, data, Options(device="cpu", workers=workers))
    commits = read_commits(folder.ledger)
    _check_annotations(context, commits, change.put_back)
    with_labels: tuple[str, ...] = ()
    if after.starts_from == "dataset" and context.ledger.commit_of_round(0) is not None:
        known = {case for commit in commits for case in commit.labels}
        states = {case: facts[case].label_state for case in change.added if case not in known}
        with_labels = tuple(case for case, state in states.items() if state in {"complete", "partial"})
    return replace(change, decided=after, with_labels=with_labels), context


def _check_annotations(context: RoundContext, commits: list[Commit], cases: tuple[str, ...]) -> None:
    for commit in commits:
        for case in sorted(commit.labels.keys() & {*cases}):
            try:
                context.ledger.volume(commit, case)
            except DatasetError as error:
                raise CampaignError(
                    f"-add {case}: what was annotated of it is gone from the ledger ({error}); restore it from a "
                    "backup, or add the image under another name."
                ) from error


def _groups(folder: CampaignFolder, change: PoolChange, request: PoolRequest) -> dict[str, str]:
    """Return the groups with those of added cases; the others keep theirs, also where bins are quantiles."""
    after, fresh = change.decided, [*change.added, *change.put_back]
    if not after.groups:
        return {}
    if request.groups is None:
        raise CampaignError(
            f"The campaign {folder.root} has groups of cases by {' '.join(after.group_by)}: say with -groups FILE to "
            f"which of them {fresh[0]} belongs."
        )
    cases = sorted({*after.groups, *fresh})
    found = read_groups(request.groups, after.group_by, cases, after.missing_group, after.groups, say)
    if without := sorted({*cases} - {*found}):
        raise CampaignError(
            f"{request.groups} has no value of {' '.join(after.group_by)} for {without[0]}, and the campaign leaves "
            "such cases out: fill it in."
        )
    moved = [case for case, group in sorted(after.groups.items()) if found[case] != group]
    if moved and not any(_QUANTILES.search(text) for text in after.group_by):
        raise CampaignError(
            f"{request.groups} puts {moved[0]} into another group than when the campaign began: put the table in order."
        )
    return {**after.groups, **{case: found[case] for case in fresh}}
