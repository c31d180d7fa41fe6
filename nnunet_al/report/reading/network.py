"""A campaign's network as a table of settings has it, from its plans and from what its trainings wrote down."""

from __future__ import annotations

from typing import Any

from nnunet_al.campaign.decisions import Decisions
from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.files import read_json
from nnunet_al.report.reading.rounds import READ_ERRORS


def network_facts(folder: CampaignFolder, decided: Decisions) -> dict[str, Any]:
    """Return setting -> value: patch, batch size, stages, features, parameters, devices; without those not known.

    The batch size is the plan's where the campaign has not decided on one.
    """
    found: dict[str, Any] = {}
    plans = folder.prepared.view.preprocessed / decided.dataset / f"{decided.plans}.json"
    try:
        planned = _configuration(read_json(plans)["configurations"], decided.configuration)
        network = planned["architecture"]
        found["network"] = network["network_class_name"].rpartition(".")[2]
        found["patch [voxels]"] = " x ".join(map(str, planned["patch_size"]))
        found["spacing [mm]"] = " x ".join(f"{spacing:.4g}" for spacing in planned["spacing"])
        found["batch size of the training"] = decided.batch_size or planned["batch_size"]
        found["stages"] = network["arch_kwargs"]["n_stages"]
        found["features of the stages"] = ", ".join(map(str, network["arch_kwargs"]["features_per_stage"]))
    except READ_ERRORS:
        pass  # a campaign without its first plan still has its results
    devices: dict[str, None] = {}
    for round_ in folder.rounds():
        try:
            trained = read_json(round_.network)
            found["parameters"] = f"{trained['parameters']:,}"
            devices[f"{trained['gpus']} x {trained['device']}" if trained["gpus"] > 1 else trained["device"]] = None
        except READ_ERRORS:
            continue  # trained by an earlier version, or not trained
    return found | ({"device of the training": ", ".join(devices)} if devices else {})


def _configuration(configurations: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a configuration with what it inherits from another one."""
    own = dict(configurations[name])
    parent = own.pop("inherits_from", None)
    return own if parent is None else _configuration(configurations, parent) | own
