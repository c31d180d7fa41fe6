"""nnU-Net's planners, with the size of the pool and the pinned plan of the campaign as additional input."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import redirect_stderr
from copy import deepcopy
from dataclasses import asdict, dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import nnunetv2
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.experiment_planning.experiment_planners.residual_unets import residual_encoder_unet_planners as resenc
from nnunetv2.paths import nnUNet_preprocessed
from nnunetv2.utilities.find_class_by_name import recursive_find_python_class
from nnunetv2.utilities.json_export import recursive_fix_for_json_export

from nnunet_al.errors import SetupError
from nnunet_al.files import read_json, write_json
from nnunet_al.nnunet.environment import Roots, environment_variables, nnunet_folders, quiet
from nnunet_al.nnunet.round_view import DIFFERENCE_FILE, IGNORE_ADDED
from nnunet_al.stopping import stop_if_interrupted

SETTINGS_FILE = "nnUNetPlannerAL.json"
"""File beside the fingerprint; without it our planners plan as nnU-Net's planners do."""

_INTENSITIES = "foreground_intensity_properties_per_channel"


@dataclass(frozen=True)
class PlannerSettings:
    """Settings of our planners, in ``SETTINGS_FILE``.

    Attributes
    ----------
    pool_size : replaces ``numTraining``, on which nnU-Net's batch size depends, so that plans do not depend on the
        number of annotated cases
    pinned_plans : the first plan of the campaign, which is kept except for the intensity statistics
    pinned_intensities : the intensity statistics of the first annotations; None: fresh statistics are used
    update_intensities : use fresh statistics even if ``pinned_intensities`` is given
    """

    pool_size: int
    pinned_plans: dict[str, Any] | None = None
    pinned_intensities: dict[str, Any] | None = None
    update_intensities: bool = False


def pin(fresh: Mapping[str, Any], settings: PlannerSettings) -> dict[str, Any]:
    """Return the plan to use: the pinned one if there is one, with the intensity statistics of ``settings``."""
    plans = deepcopy(dict(settings.pinned_plans or fresh))
    keep = settings.pinned_intensities is not None and not settings.update_intensities
    plans[_INTENSITIES] = deepcopy(settings.pinned_intensities if keep else fresh[_INTENSITIES])
    return plans


def plan_differences(pinned: Any, fresh: Any, path: str = "") -> list[dict[str, Any]]:
    """List every value that differs between two plans, as ``{"path", "pinned", "fresh"}``; None: no value."""
    if isinstance(pinned, Mapping) and isinstance(fresh, Mapping):
        found = []
        for key in [*pinned, *(key for key in fresh if key not in pinned)]:
            found += plan_differences(pinned.get(key), fresh.get(key), f"{path}/{key}" if path else str(key))
        return found
    return [] if pinned == fresh else [{"path": path, "pinned": pinned, "fresh": fresh}]


def two_stages(arch_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Reduce the arguments of a U-Net to its first two stages, with 8 and 16 features; one stage stays one stage."""
    stages = min(2, arch_kwargs["n_stages"])
    lists = ("kernel_sizes", "strides", "n_conv_per_stage")
    return {
        **arch_kwargs,
        **{name: arch_kwargs[name][:stages] for name in lists},
        "n_stages": stages,
        "features_per_stage": (8, 16)[:stages],
        "n_conv_per_stage_decoder": arch_kwargs["n_conv_per_stage_decoder"][: stages - 1],
    }


class ActiveLearningPlanning(ExperimentPlanner):
    """Mixin for nnU-Net's planners: uses the pool size and pins the plan; the plans name stock classes only."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Read the settings beside the fingerprint, if there are any; arguments are the parent's."""
        super().__init__(*args, **kwargs)
        self._folder = Path(os.fspath(nnUNet_preprocessed)) / self.dataset_name
        file = self._folder / SETTINGS_FILE
        self._settings = PlannerSettings(**read_json(file)) if file.is_file() else None
        if self._settings is not None:
            self.dataset_json["numTraining"] = self._settings.pool_size
        if self.dataset_json.get(IGNORE_ADDED):  # no output channel, so it must not cost memory in nnU-Net's estimate
            labels = self.dataset_json["labels"]
            self.dataset_json["labels"] = {name: value for name, value in labels.items() if name != "ignore"}

    def plan_experiment(self) -> dict[str, Any]:
        """Plan as the parent does, then pin; writes and returns the plan to use."""
        # nnU-Net uses this variable as a number of threads while planning, and crashes at 0
        with environment_variables(nnUNet_n_proc_DA="1"):
            return super().plan_experiment()

    def save_plans(self, plans: dict[str, Any]) -> None:
        """Write the plan to use instead of the fresh one, without configurations left over from an earlier file."""
        if self._settings is None:
            super().save_plans(plans)
            return
        recursive_fix_for_json_export(plans)
        fresh = json.loads(json.dumps(plans))
        final = pin(fresh, self._settings)
        write_json(self._folder / DIFFERENCE_FILE, plan_differences(final, fresh))
        write_json(self._folder / f"{self.plans_identifier}.json", final)
        plans.clear()
        plans.update(final)


class nnUNetPlannerAL(ActiveLearningPlanning, ExperimentPlanner):
    """nnU-Net's default planner for active learning."""


class nnUNetPlannerALResEncM(ActiveLearningPlanning, resenc.nnUNetPlannerResEncM):
    """nnU-Net's ResEnc M preset for active learning."""


class nnUNetPlannerALResEncL(ActiveLearningPlanning, resenc.nnUNetPlannerResEncL):
    """nnU-Net's ResEnc L preset for active learning."""


class nnUNetPlannerALResEncXL(ActiveLearningPlanning, resenc.nnUNetPlannerResEncXL):
    """nnU-Net's ResEnc XL preset for active learning."""


class nnUNetPlannerALTwoStages(ActiveLearningPlanning, ExperimentPlanner):
    """nnU-Net's default planner for active learning, its U-Net reduced to two stages with 8 and 16 features.

    The stages and features are those of Table 1 of Danaee et al. (MIDL 2026), with nnU-Net's norm and activation: small
    enough to be trained many times on a CPU. Patch and batch size, spacing and preprocessing stay those that nnU-Net
    plans for its larger network. Train with our trainers or with ``nnUNetTrainerNoDeepSupervision``: with two stages
    the deep supervision weights of stock ``nnUNetTrainer`` are a division by zero. Stock ``nnUNetv2_predict`` can use
    the model.
    """

    def __init__(self, *args: Any, plans_name: str = "nnUNetTwoStagesPlans", **kwargs: Any) -> None:
        """Take the parent's arguments; the plans get a separate name, like those of nnU-Net's presets."""
        super().__init__(*args, plans_name=plans_name, **kwargs)

    def generate_data_identifier(self, configuration_name: str) -> str:
        """Name preprocessed data as nnU-Net's presets do: data equal to the default planner's share its name."""
        same = configuration_name in ("2d", "3d_fullres")
        return f"{'nnUNetPlans' if same else self.plans_identifier}_{configuration_name}"

    def get_plans_for_configuration(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Plan a configuration as nnU-Net does, then keep the first two stages of its network."""
        configuration = super().get_plans_for_configuration(*args, **kwargs)
        architecture = configuration["architecture"]
        return {
            **configuration,
            "architecture": {**architecture, "arch_kwargs": two_stages(architecture["arch_kwargs"])},
        }


_RESENC = (nnUNetPlannerALResEncM, nnUNetPlannerALResEncL, nnUNetPlannerALResEncXL)
_OURS = {planner.__name__: planner for planner in (nnUNetPlannerAL, *_RESENC, nnUNetPlannerALTwoStages)}


def planner_class(name: str) -> type[ActiveLearningPlanning]:
    """Find a planner by name: one of ours, or any planner of nnU-Net combined with `ActiveLearningPlanning`.

    Raises SetupError if there is no such planner.
    """
    if name in _OURS:
        return _OURS[name]
    folder = os.path.join(nnunetv2.__path__[0], "experiment_planning")  # noqa: PTH118 -- nnU-Net wants a string
    found = recursive_find_python_class(folder, name, current_module="nnunetv2.experiment_planning")
    if not (isinstance(found, type) and issubclass(found, ExperimentPlanner)):
        raise SetupError(f"There is no planner {name}: choose one of {', '.join(_OURS)} or one of nnU-Net's.")
    if issubclass(found, ActiveLearningPlanning):
        return found
    return type(name, (ActiveLearningPlanning, found), {})


def plan(
    view: Roots,
    dataset_name: str,
    planner_class_name: str,
    settings: PlannerSettings,
    gpu_memory_gb: float | None = None,
    plans_name: str | None = None,
    log: Path | None = None,
) -> dict[str, Any]:
    """Plan in a view that holds ``dataset.json`` and the fingerprint; write and return the plan to use.

    ``settings`` are written beside the fingerprint. nnU-Net's memory target ``gpu_memory_gb`` and ``plans_name``, the
    name of the plans file without its ending, default to the planner's.

    Raises SetupError if there is no such planner.
    """
    planner = planner_class(planner_class_name)
    write_json(view.preprocessed / dataset_name / SETTINGS_FILE, asdict(settings))
    options: dict[str, Any] = {"gpu_memory_target_in_gb": gpu_memory_gb, "plans_name": plans_name}
    given = {name: value for name, value in options.items() if value is not None}
    # nnU-Net prints a traceback of each reader that does not fit the images
    with nnunet_folders(view), quiet(log), redirect_stderr(StringIO()):
        plans = planner(dataset_name, **given).plan_experiment()
    stop_if_interrupted()
    return plans
