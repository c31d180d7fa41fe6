"""Campaigns for tests of plans: requests, decisions and markers, without any image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nnunet_al.campaign.decisions import Decisions, Options
from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.campaign.planned import plan_campaigns
from nnunet_al.campaign.request import Request
from nnunet_al.files import write_json
from nnunet_al.jobs.request import JobsRequest
from nnunet_al.nnunet.devices import device_defaults
from nnunet_al.nnunet.environment import Roots

DATASET = "Dataset004_Hippocampus"
PREPARED = ("labels", "fingerprint", "plan", "preprocess", "images")


def campaign_request(strategy: str, **others: Any) -> Request:
    named = {"dataset": DATASET, "configuration": "2d", "fold": 0, "seed": 0, "tag": None}
    return Request(**{**named, **others}, strategy=strategy)


def jobs_request(
    roots: Roots, *requests: Request, target: str = "slurm", device: str = "cuda", **others: Any
) -> JobsRequest:
    options = Options(
        device=device,
        parts=others.pop("parts", 1),
        gpus=others.pop("num_gpus", 1),
        share_first=others.pop("share_first", False),
    )
    planned = tuple(plan_campaigns(roots, requests))
    return JobsRequest(planned, roots, options, target, datasets={DATASET: "4"}, **others)


def begin(request: JobsRequest, **decisions: Any) -> CampaignFolder:
    """Write the decisions of the request's one campaign, as its start does."""
    (campaign,) = request.campaigns
    decided = campaign.request.decide(**device_defaults(request.options.device))
    Decisions(**{**vars(decided), **decisions}).save(campaign.folder.decisions)
    return campaign.folder


def mark(folder: CampaignFolder, number: int, *stages: str) -> None:
    for stage in stages:
        write_json(folder.round(number).stages / f"{stage}.json", {"stage": stage, "seconds": 1.0})


def ask_for(folder: CampaignFolder, number: int, cases: tuple[str, ...] = ("case_1",)) -> None:
    """Write a batch that asks for one region of each of these cases."""
    regions = [{"case": case, "box": [[0, 1], [0, 4], [0, 4]], "score": None} for case in cases]
    write_json(folder.round(number).batch, {"regions": regions})


def check_dataset(roots: Roots) -> None:
    """Leave behind what the check of the dataset leaves."""
    write_json(Path(roots.preprocessed, DATASET, "al_images", "facts.json"), {})
