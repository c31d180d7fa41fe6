"""The first plan of a campaign, and the regions that its pool is cut into."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nnunet_al.campaign.data import Data
from nnunet_al.campaign.decisions import Decisions
from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.errors import CampaignError
from nnunet_al.nnunet.fingerprint import extract_fingerprint
from nnunet_al.nnunet.geometry import case_geometry
from nnunet_al.nnunet.nonzero import regions_in_image
from nnunet_al.nnunet.planning import PlannerSettings, plan
from nnunet_al.nnunet.round_view import write_round_view
from nnunet_al.nnunet.workers import run_jobs
from nnunet_al.pool.boxes import Region
from nnunet_al.pool.geometry import CaseGeometry
from nnunet_al.pool.tiling import tile_case
from nnunet_al.pool.windows import windows_of


def plan_pool(folder: CampaignFolder, decided: Decisions, data: Data, cases: Iterable[str]) -> dict[str, Any]:
    """Write and return the first plan, which is made from the geometry of the pool's ``cases`` alone."""
    facts, dataset, view = {case: data.facts[case] for case in cases}, data.dataset, folder.prepared.view
    fingerprint = extract_fingerprint({}, facts, len(dataset.channels), len(facts), dataset.effective_ignore)
    write_round_view(view, dataset, dict.fromkeys(facts), fingerprint)
    settings, log = PlannerSettings(len(facts)), folder.prepared.logs / "plan.txt"
    return plan(view, decided.dataset, decided.planner, settings, plans_name=decided.plans or None, log=log)


def cut_regions(
    decided: Decisions, plans: Mapping[str, Any], data: Data, cases: Iterable[str], workers: int
) -> list[Region]:
    """Cut cases into the regions that may be asked for, with the patch of the campaign's first plan.

    Raises CampaignError if a region is too large for the strategy's vectors.
    """
    facts = {case: data.facts[case] for case in cases}
    patch_size = tuple(plans["configurations"][decided.configuration]["patch_size"])
    geometries = {case: case_geometry(known, plans, decided.configuration) for case, known in facts.items()}
    jobs = []
    for case, known in facts.items():
        tiles = tile_case(geometries[case], decided.unit, patch_size, decided.overlap)
        jobs.append((tiles, data.dataset.cases[case], known.reader))
    sizes = [math.prod(known.raw_shape) for known in facts.values()]
    imaged = run_jobs(regions_in_image, jobs, workers, "cutting regions", voxels=sizes)
    regions = [region for some in imaged for region in some]
    if decided.recipe.parameters.get("pooling") == "flatten":
        _check_single_windows(regions, geometries, patch_size)
    return regions


def _check_single_windows(
    regions: Sequence[Region], geometries: Mapping[str, CaseGeometry], patch_size: Sequence[int]
) -> None:
    for region in regions:
        geometry = geometries[region.case]
        if len(windows_of(geometry.to_network(region.box), patch_size, geometry.network_shape)) > 1:
            raise CampaignError(
                f"pooling=flatten compares regions voxel by voxel, and {region.name} is larger than the network's "
                "patch: leave it out, or choose -unit patch."
            )
