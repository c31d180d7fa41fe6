"""The trained model of a round, for scoring and prediction: the network and its plans."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.label_handling.label_handling import LabelManager, determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunet_al.errors import ModelError
from nnunet_al.nnunet.checkpoints import load_network_weights


@dataclass(frozen=True)
class Plan:
    """nnU-Net's managers of one plans file, configuration and dataset.json."""

    plans: PlansManager
    configuration: ConfigurationManager
    labels: LabelManager
    dataset_json: dict[str, Any]

    @classmethod
    def of(cls, plans: dict[str, Any], dataset_json: dict[str, Any], configuration: str) -> Plan:
        """Read the plans of one configuration."""
        manager = PlansManager(plans)
        return cls(
            manager, manager.get_configuration(configuration), manager.get_label_manager(dataset_json), dataset_json
        )

    @property
    def patch_size(self) -> tuple[int, ...]:
        """Planned patch in network voxels: two entries in the 2d configuration, else three."""
        return tuple(int(length) for length in self.configuration.patch_size)

    @property
    def exclusive(self) -> bool:
        """Whether classes exclude each other (softmax) or are nnU-Net's regions (one sigmoid per region)."""
        return not self.labels.has_regions

    @property
    def heads(self) -> tuple[int | tuple[int, ...], ...]:
        """The label of each foreground output of the network: a class, or a region as a tuple of classes."""
        return tuple(self.labels.foreground_regions if self.labels.has_regions else self.labels.foreground_labels)


def count_parameters(plan: Plan) -> int:
    """Return the number of parameters of nnU-Net's network of ``plan``, with its heads of deep supervision."""
    return sum(parameter.numel() for parameter in network_of(plan).parameters())


def load_network(plan: Plan, checkpoint: Path, device: torch.device) -> torch.nn.Module:
    """Build nnU-Net's network of ``plan``, in evaluation mode with one output, and load the weights of a checkpoint.

    Raises ModelError if the checkpoint cannot be read, does not fit the plans, or its training diverged.
    """
    network = network_of(plan)
    load_network_weights(network, checkpoint, plan.plans.plans_name)
    if not all(torch.isfinite(weight).all() for weight in network.state_dict().values()):
        raise ModelError(
            f"The weights of {checkpoint} are not finite, so its training diverged: start another campaign with -tag "
            "and, for example, -optimizer adamw."
        )
    return network.to(device).eval()


def network_of(plan: Plan) -> torch.nn.Module:
    """Build nnU-Net's network of ``plan`` on the CPU, with one output and without trained weights."""
    network: torch.nn.Module = get_network_from_plans(
        plan.configuration.network_arch_class_name,
        plan.configuration.network_arch_init_kwargs,
        plan.configuration.network_arch_init_kwargs_req_import,
        determine_num_input_channels(plan.plans, plan.configuration, plan.dataset_json),
        plan.labels.num_segmentation_heads,
        allow_init=False,
        deep_supervision=False,
    )
    return network
