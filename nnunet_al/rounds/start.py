"""Start a campaign: check the data, choose pool and test cases, make the first plan and cut the regions."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nnunet_al.annotation.grids import read_grid
from nnunet_al.annotation.segments import segments_of
from nnunet_al.campaign.data import Data, labels_line
from nnunet_al.campaign.decisions import Decisions
from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.checksums import checksum
from nnunet_al.errors import CampaignError, DatasetError, SetupError
from nnunet_al.files import hash_json, read_json
from nnunet_al.nnunet.environment import Roots
from nnunet_al.nnunet.given_weights import check_given_weights
from nnunet_al.nnunet.model import Plan
from nnunet_al.nnunet.splits import pool_and_test
from nnunet_al.nnunet.training import require_trainer
from nnunet_al.pool.boxes import Region
from nnunet_al.pool.table import save_regions
from nnunet_al.rounds.first_plan import cut_regions, plan_pool
from nnunet_al.rounds.rebuild import with_checksums
from nnunet_al.selection.flqmi_submodlib import submodlib_available
from nnunet_al.settings import DEFAULT_TRAINER
from nnunet_al.stopping import stop_if_interrupted
from nnunet_al.terminal import say
from nnunet_al.text import count, first_names

_NAMED = 5
ReadGroups = Callable[[Sequence[str], Callable[[str], None]], dict[str, str]]
"""From cases, and what says sentences, to the group of each case."""

_VOLUMES = (".nii.gz", ".nii", ".nrrd", ".mha")


def start(
    folder: CampaignFolder,
    decided: Decisions,
    roots: Roots,
    data: Data,
    workers: int,
    read_groups: ReadGroups = lambda cases, note: {},
) -> Decisions:
    """Prepare a campaign; it exists once its decisions are written, which is the last thing done.

    ``read_groups`` returns the groups of the given cases, or nothing where no groups are wanted; cases that it leaves
    out are left out of the campaign.

    Raises DatasetError, CampaignError, GroupsError, ModelError if the campaign cannot be started; nothing of it is left
    behind.
    """
    decided = _with_groups(choose_cases(decided, roots, data), roots, data, read_groups)
    _check_hand_out(decided, data)
    say(labels_line(data.facts) + (" The campaign starts from them." if decided.starts_from == "dataset" else ""))
    if decided.starts_from == "dataset" and all(data.facts[case].label_hash for case in decided.pool_cases):
        say("With --labels_are_oracle they would answer its batches instead, as those of a simulation.")
    say(f"Starting a campaign on {len(decided.pool_cases)} cases, {len(decided.test_cases)} are kept for the test.")
    check_groups(decided, data.dataset.classes)
    try:
        return _prepare(folder, decided, data, workers)
    except BaseException:
        for path in (folder.prepared.root, folder.root / "regions.npz"):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        raise


def _with_groups(decided: Decisions, roots: Roots, data: Data, read_groups: ReadGroups) -> Decisions:
    cases = sorted({*decided.cases})
    groups = read_groups(cases, say)
    without = [case for case in cases if case not in groups] if groups else []
    if without:
        left = f"{count(len(without), 'case')} without a group"
        say(f"{left} {'is' if len(without) == 1 else 'are'} left out of the campaign: {first_names(without, _NAMED)}.")
        decided = choose_cases(decided, roots, data, without)
    return replace(decided, groups=groups)


def choose_cases(decided: Decisions, roots: Roots, data: Data, without: Collection[str] = ()) -> Decisions:
    """Decide pool and test cases, and whether the campaign starts from annotations that the dataset has.

    Cases in ``without`` are in neither part; the others are where they would be with them.

    Raises DatasetError if there is nothing to test on, unless people annotate a dataset without any label.
    """
    labelled = {case for case, facts in data.facts.items() if facts.label_state in {"complete", "partial"}}
    if decided.test == "none" or (decided.test == "fold" and decided.annotate and not labelled):
        decided = replace(decided, test="none")
        pool, test = sorted(data.facts), []
    elif decided.test == "ts":
        pool = sorted(data.facts)
        test = sorted(case for case, facts in data.test_facts.items() if facts.label_hash is not None)
        if not test:
            raise DatasetError(
                f"-test ts: {data.dataset.folder} has no imagesTs with labelsTs; add them or leave it out."
            )
    else:
        split_files = [root / decided.dataset / "splits_final.json" for root in (roots.preprocessed, roots.raw)]
        pool, test = pool_and_test(sorted(data.facts), labelled, decided.fold, split_files)
    if without:
        kept = [[case for case in some if case not in without] for some in (pool, test)]
        if not kept[0] or (test and not kept[1]):
            part = "test set" if kept[0] else "pool"
            raise DatasetError(
                f"-missing_group leave_out: no case of the {part} in {data.dataset.folder} has a group: fill the table "
                "in, or use -missing_group unknown."
            )
        pool, test = kept
    if decided.labels_are_oracle:
        _check_oracle(decided, pool, data)
    complete = decided.labels_are_oracle or all(data.facts[case].label_state == "complete" for case in pool)
    if decided.annotate and not labelled.intersection(pool):
        complete = True  # there is nothing to start from
    elif not complete and not labelled.intersection(pool):
        raise DatasetError(
            f"No case of the pool in {data.dataset.folder} has an annotation: label some cases in labelsTr, or let "
            "people annotate it with --annotate."
        )
    if decided.full and not complete:
        raise DatasetError(
            f"--full needs the labels of the whole pool, and {data.dataset.folder} is annotated in part."
        )
    everything = {**data.facts, **data.test_facts} if decided.test == "ts" else {**data.test_facts, **data.facts}
    return replace(
        decided,
        pool_cases=tuple(pool),
        test_cases=tuple(test),
        starts_from="nothing" if complete else "dataset",
        left_out_cases=tuple(sorted({*data.facts}.difference(pool, test))),
        hashes={case: hash_json(everything[case].image_hashes) for case in (*pool, *test)},
    )


def _check_oracle(decided: Decisions, pool: Sequence[str], data: Data) -> None:
    without = [case for case in pool if data.facts[case].label_hash is None]
    if without:
        raise DatasetError(
            f"--labels_are_oracle: {first_names(without, _NAMED)} in {data.dataset.folder} would answer nothing, "
            f"because {'it has' if len(without) == 1 else 'they have'} no label file: add it, or take the images out."
        )


def _check_hand_out(decided: Decisions, data: Data) -> None:
    ending = data.dataset.file_ending
    if decided.annotate and ending not in _VOLUMES:
        raise CampaignError(
            f"--annotate hands out volumes that 3D Slicer and ITK-SNAP read ({', '.join(_VOLUMES)}), and "
            f"{decided.dataset} has {ending}: convert it, or label it in labelsTr and leave --annotate out."
        )
    if decided.annotate:
        segments_of(data.dataset.labels)  # refuses names that readers' programs would mix up
        files = data.dataset.cases[decided.pool_cases[0]]
        if len(read_grid(files.images[0]).size_ijk) != 3:
            raise CampaignError(f"--annotate hands out volumes, and {files.images[0]} is a picture: convert it.")
    if not decided.test_cases:
        say("No case is kept for the test, so no round will say how good its model is; -test ts with labelled cases in")
        say("imagesTs and labelsTs would, and so would five labelled cases or more in labelsTr.")


def check_groups(decided: Decisions, classes: Iterable[str]) -> None:
    """Refuse options that do not fit the groups and classes; say which group cannot be tested.

    Raises CampaignError naming the option.
    """
    groups = decided.groups
    pool, test = ({groups[c] for c in cases if groups} for cases in (decided.pool_cases, decided.test_cases))
    if decided.recipe.weighting is not None and not pool:
        raise CampaignError(
            f"-s {decided.recipe.name} weights groups of cases: say which they are with -groups FILE -group_by COLUMN."
        )
    if decided.initial_groups and decided.starts_from == "dataset":
        raise CampaignError(
            f"-initial_groups: {decided.dataset} comes with annotations to start from, so that round 0 asks for "
            "nothing; leave it out."
        )
    for group, wanted in decided.initial_groups.items():
        if group not in pool:
            raise CampaignError(
                f"-initial_groups {group}={wanted}: the groups of the pool are "
                f"{', '.join(sorted(pool)) or 'not given; name them with -groups FILE -group_by COLUMN'}."
            )
    known = list(classes)
    for name in decided.roi_classes:
        if name not in known:
            raise CampaignError(f"-roi_classes {name}: {decided.dataset} has the classes {', '.join(known)}.")
    if decided.recipe.weighting is not None and len(pool) == 1:
        say(f"All cases of the pool are in the group {next(iter(pool))}: there is nothing to weight.")
    for group in sorted(pool ^ test) if decided.test_cases else ():
        where = "the pool, so nothing of it can be asked for" if group in test else "the test set"
        say(f"No case of the group {group} is in {where}.")


def _check_initial(decided: Decisions, regions: Sequence[Region]) -> None:
    for group, wanted in decided.initial_groups.items():
        there = sum(decided.groups[region.case] == group for region in regions)
        if there < wanted:
            raise CampaignError(f"-initial_groups {group}={wanted}: the pool holds {count(there, 'region')} of it.")


def _prepare(folder: CampaignFolder, decided: Decisions, data: Data, workers: int) -> Decisions:
    if decided.trainer != DEFAULT_TRAINER or decided.recipe.trainer is not None:
        require_trainer(decided.trainer, decided.recipe.trainer)
    view = folder.prepared.view
    plans = plan_pool(folder, decided, data, decided.pool_cases)
    decided = replace(decided, plans=plans["plans_name"])
    if decided.configuration not in plans["configurations"]:
        raise CampaignError(f"-c {decided.configuration}: {decided.dataset} has {', '.join(plans['configurations'])}.")
    if "previous_stage" in plans["configurations"][decided.configuration]:
        raise CampaignError(f"-c {decided.configuration}: cascades are not supported; use 2d, 3d_lowres or 3d_fullres.")
    if decided.pretrained_weights is not None:
        decided = _with_weights(decided, plans, view)
    _check_stages(decided, plans)
    regions = cut_regions(decided, plans, data, decided.pool_cases, workers)
    _check_initial(decided, regions)
    if decided.full:
        decided = replace(decided, initial=len(regions))
    save_regions(folder.root / "regions.npz", regions)
    decided = with_checksums(folder, with_engine(decided))
    if decided.pretrained_weights is not None:
        decided = replace(decided, pretrained_checksum=checksum(Path(decided.pretrained_weights)))
    say(f"The pool holds {len(regions)} regions ({decided.unit}).")
    stop_if_interrupted()
    decided.save(folder.decisions)
    return decided


def with_engine(decided: Decisions) -> Decisions:
    """Decide who maximises FLQMI: the streaming engine, unless submodlib was asked for.

    Both take the same regions where they look at all candidates. The streaming engine is seeded, is faster, and is
    there on every system: a batch does not depend on whether a package is installed.

    Raises SetupError if submodlib was asked for and cannot be imported.
    """
    if decided.recipe.selector != "flqmi":
        return decided
    if decided.engine == "submodlib" and not submodlib_available():
        raise SetupError("-engine submodlib: it cannot be imported here; install submodlib-py, or leave -engine out.")
    return replace(decided, engine=decided.engine or "streaming")


def _with_weights(decided: Decisions, plans: dict, view: Roots) -> Decisions:
    """Check the given weights, and decide whether their output heads are kept, which is said if not."""
    dataset_json = read_json(view.preprocessed / decided.dataset / "dataset.json")
    checkpoint = Path(str(decided.pretrained_weights))
    plan = Plan.of(plans, dataset_json, decided.configuration)
    if reason := check_given_weights(plan, checkpoint, decided.trust_weights):
        say(f"{reason}: its output heads are left out, as nnU-Net does, and all other weights are kept.")
    return replace(decided, pretrained_heads="left_out" if reason else "kept")


def _check_stages(decided: Decisions, plans: Mapping[str, Any]) -> None:
    """Refuse images so small that nnU-Net plans a network of one stage, which has no decoder and cannot be trained."""
    chosen = plans["configurations"][decided.configuration]
    if chosen.get("architecture", {}).get("arch_kwargs", {}).get("n_stages", 2) < 2:
        size = " x ".join(str(length) for length in chosen["patch_size"])
        raise DatasetError(
            f"-c {decided.configuration}: after cropping and resampling most images of {decided.dataset} have only "
            f"{size} voxels, too few for a U-Net of two stages: use another configuration, or larger images."
        )
