from __future__ import annotations

import json
import os

import numpy as np
import pytest
import torch
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.experiment_planning.experiment_planners.residual_unets import residual_encoder_unet_planners as resenc
from nnunetv2.experiment_planning.plan_and_preprocess_api import plan_experiment_dataset
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

from nnunet_al.errors import SetupError
from nnunet_al.nnunet import planning
from nnunet_al.nnunet.environment import Roots, nnunet_folders, quiet
from nnunet_al.nnunet.fingerprint import extract_fingerprint
from nnunet_al.nnunet.planning import (
    DIFFERENCE_FILE,
    PlannerSettings,
    plan,
    plan_differences,
    planner_class,
    two_stages,
)
from nnunet_al.nnunet.raw_dataset import RawDataset
from nnunet_al.nnunet.round_view import write_round_view
from nnunet_al.nnunet.verification import verify_dataset

from .phantoms import make_dataset

NAME = "Dataset501_Toy"
INTENSITIES = "foreground_intensity_properties_per_channel"
KERNELS = (("kernel_sizes", 0), ("kernel_sizes", 1), ("strides", 1))
POOL = 5000  # so large that nnU-Net's cap at 5 % of the dataset decides nothing


@pytest.fixture
def dataset(tmp_path):
    roots = Roots.below(tmp_path / "roots").create()
    return RawDataset.read(make_dataset(roots.raw / NAME, "ct"))


def fingerprint(dataset, cases=()):
    facts = verify_dataset(dataset)
    annotated = {case: (dataset.cases[case].images, dataset.cases[case].label) for case in cases}
    return extract_fingerprint(annotated, facts, len(dataset.channels), len(facts), None, max_voxels=1e4)


def make_view(folder, dataset, cases=(), labels=None) -> Roots:
    view = Roots.below(folder)
    named = labels or dict.fromkeys(dataset.cases)
    write_round_view(view, dataset, named, fingerprint(dataset, cases))
    return view


def stock_plan(folder, dataset, planner, pool_size):
    """Let nnU-Net plan the dataset itself, without an ignore label, as if it had `pool_size` cases."""
    roots = Roots.below(folder).create()
    for parent in (roots.raw, roots.preprocessed):
        (parent / NAME).mkdir()
    content = {**dataset.dataset_json, "numTraining": pool_size}
    content["dataset"] = {
        case: {"images": [str(file) for file in files.images], "label": str(files.label)}
        for case, files in dataset.cases.items()
    }
    (roots.raw / NAME / "dataset.json").write_text(json.dumps(content))
    (roots.preprocessed / NAME / "dataset_fingerprint.json").write_text(json.dumps(fingerprint(dataset)))
    with nnunet_folders(roots, nnUNet_n_proc_DA="1"), quiet():
        _, name = plan_experiment_dataset(501, planner)
    return json.loads((roots.preprocessed / NAME / f"{name}.json").read_text())


@pytest.mark.parametrize(
    "ours, stock",
    [
        ("nnUNetPlannerAL", ExperimentPlanner),
        ("nnUNetPlannerALResEncM", resenc.nnUNetPlannerResEncM),
        ("nnUNetPlannerALResEncL", resenc.nnUNetPlannerResEncL),
        ("nnUNetPlannerALResEncXL", resenc.nnUNetPlannerResEncXL),
    ],
)
def test_the_first_plan_is_nnunets_for_the_whole_pool(dataset, tmp_path, ours, stock):
    two = dict.fromkeys(list(dataset.cases)[:2])
    view = make_view(tmp_path / "view", dataset, labels=two)
    found = plan(view, NAME, ours, PlannerSettings(POOL))
    theirs = stock_plan(tmp_path / "stock", dataset, stock, POOL)
    assert found.pop("experiment_planner_used") == ours
    assert theirs.pop("experiment_planner_used") == stock.__name__
    assert json.loads(json.dumps(found)) == theirs
    assert "nnunet_al" not in json.dumps(found)
    few = stock_plan(tmp_path / "few", dataset, stock, 2)["configurations"]["2d"]["batch_size"]
    assert few < found["configurations"]["2d"]["batch_size"], "the phantoms must be able to tell"


NETWORK = ("n_stages", "features_per_stage", "kernel_sizes", "strides", "n_conv_per_stage", "n_conv_per_stage_decoder")


def test_two_stages_are_cut_from_the_default_plan_and_nothing_else_changes(dataset, tmp_path):
    found = plan(make_view(tmp_path / "a", dataset), NAME, "nnUNetPlannerALTwoStages", PlannerSettings(POOL))
    whole = plan(make_view(tmp_path / "b", dataset), NAME, "nnUNetPlannerAL", PlannerSettings(POOL))
    assert "nnunet_al" not in json.dumps(found)
    assert (found["plans_name"], whole["plans_name"]) == ("nnUNetTwoStagesPlans", "nnUNetPlans")
    assert set(found["configurations"]) == set(whole["configurations"]) == {"2d", "3d_fullres"}
    for name, configuration in found["configurations"].items():
        ours, theirs = ({**plans["configurations"][name]["architecture"]["arch_kwargs"]} for plans in (found, whole))
        assert theirs["n_stages"] > 2, "the phantoms must be able to tell"
        cut = {key: ours.pop(key) for key in NETWORK}
        first = {key: theirs.pop(key) for key in NETWORK}
        assert cut == {
            "n_stages": 2,
            "features_per_stage": [8, 16],
            "kernel_sizes": first["kernel_sizes"][:2],
            "strides": first["strides"][:2],
            "n_conv_per_stage": [2, 2],
            "n_conv_per_stage_decoder": [2],
        }
        assert ours == theirs
        rest = {**whole["configurations"][name], "architecture": configuration["architecture"]}
        assert configuration == rest, "patch, batch size, spacing and preprocessed data are nnU-Net's"


@pytest.mark.parametrize("configuration", ["2d", "3d_fullres"])
def test_nnunet_builds_the_two_stages_and_they_run_on_the_planned_patch(dataset, tmp_path, configuration):
    plans = plan(make_view(tmp_path, dataset), NAME, "nnUNetPlannerALTwoStages", PlannerSettings(POOL))
    planned = plans["configurations"][configuration]
    names = ("network_class_name", "arch_kwargs", "_kw_requires_import")
    network = get_network_from_plans(*(planned["architecture"][name] for name in names), 1, 3, deep_supervision=False)
    assert list(network.encoder.output_channels) == [8, 16]
    assert len(network.decoder.stages) == 1
    # worked out by hand: convolutions and norms of 8 and 16 features, k voxels in a kernel and s in a stride
    k, k2, s = (int(np.prod(planned["architecture"]["arch_kwargs"][name][i])) for name, i in KERNELS)
    encoder = (1 * k + 3) * 8 + (8 * k + 3) * 8 + (8 * k2 + 3) * 16 + (16 * k2 + 3) * 16
    decoder = (16 * s * 8 + 8) + (16 * k + 3) * 8 + (8 * k + 3) * 8 + (8 * 3 + 3)
    assert sum(weight.numel() for weight in set(network.parameters())) == encoder + decoder
    patch = planned["patch_size"]
    with torch.no_grad():
        assert network(torch.zeros(1, 1, *patch)).shape == (1, 3, *patch)


def test_two_stages_are_pinned_like_any_plan(dataset, tmp_path):
    view = make_view(tmp_path, dataset)
    first = plan(view, NAME, "nnUNetPlannerALTwoStages", PlannerSettings(POOL))
    assert json.loads((view.preprocessed / NAME / "nnUNetTwoStagesPlans.json").read_text()) == first
    second = plan(view, NAME, "nnUNetPlannerALTwoStages", PlannerSettings(POOL // 100, first))
    assert second == first
    changes = json.loads((view.preprocessed / NAME / DIFFERENCE_FILE).read_text())
    batch_sizes = {f"configurations/{name}/batch_size" for name in ("2d", "3d_fullres")}
    assert {change["path"] for change in changes} == batch_sizes, "both plans are cut alike"
    other = plan(view, NAME, "nnUNetPlannerALTwoStages", PlannerSettings(POOL), plans_name="other")
    assert other["plans_name"] == "other"


def test_a_network_of_one_stage_keeps_it():
    one = {
        "n_stages": 1,
        "features_per_stage": [32],
        "kernel_sizes": [[1, 3]],
        "strides": [[1, 1]],
        "n_conv_per_stage": [2],
        "n_conv_per_stage_decoder": [],
        "conv_bias": True,
    }
    assert two_stages(one) == {**one, "features_per_stage": (8,)}


def test_what_is_returned_is_what_is_written(dataset, tmp_path):
    view = make_view(tmp_path / "view", dataset)
    found = plan(view, NAME, "nnUNetPlannerAL", PlannerSettings(POOL), plans_name="other", log=tmp_path / "log.txt")
    assert json.loads((view.preprocessed / NAME / "other.json").read_text()) == found
    assert found["plans_name"] == "other"
    assert json.loads((view.preprocessed / NAME / DIFFERENCE_FILE).read_text()) == []
    assert "2D U-Net configuration" in (tmp_path / "log.txt").read_text()


def test_a_memory_target_reaches_nnunet(dataset, tmp_path):
    view = make_view(tmp_path / "view", dataset)
    sizes = [
        plan(view, NAME, "nnUNetPlannerAL", PlannerSettings(10 * POOL), gpu)["configurations"]["2d"]["batch_size"]
        for gpu in (0.05, 0.1)
    ]
    assert sizes[0] < sizes[1]


def test_everything_but_the_first_intensities_is_pinned(dataset, tmp_path):
    first = plan(make_view(tmp_path / "0", dataset), NAME, "nnUNetPlannerAL", PlannerSettings(POOL))

    second_view = make_view(tmp_path / "1", dataset, ["case_00"])
    second = plan(second_view, NAME, "nnUNetPlannerAL", PlannerSettings(POOL, first))
    assert second[INTENSITIES] == fingerprint(dataset, ["case_00"])[INTENSITIES] != first[INTENSITIES]
    assert {**second, INTENSITIES: None} == {**first, INTENSITIES: None}
    assert json.loads((second_view.preprocessed / NAME / DIFFERENCE_FILE).read_text()) == []

    third_view = make_view(tmp_path / "2", dataset, ["case_00", "case_01"])
    pinned = PlannerSettings(POOL // 100, first, second[INTENSITIES])  # a pool that shrank would change the batch
    third = plan(third_view, NAME, "nnUNetPlannerAL", pinned)
    assert third == second
    changes = json.loads((third_view.preprocessed / NAME / DIFFERENCE_FILE).read_text())
    by_path = {change["path"]: change for change in changes}
    new_mean = fingerprint(dataset, ["case_00", "case_01"])[INTENSITIES]["0"]["mean"]
    assert by_path[f"{INTENSITIES}/0/mean"]["fresh"] == new_mean
    assert by_path[f"{INTENSITIES}/0/mean"]["pinned"] == second[INTENSITIES]["0"]["mean"]
    assert by_path["configurations/2d/batch_size"]["pinned"] == first["configurations"]["2d"]["batch_size"]
    assert by_path["configurations/2d/batch_size"]["fresh"] < by_path["configurations/2d/batch_size"]["pinned"]

    moving = PlannerSettings(POOL, first, second[INTENSITIES], update_intensities=True)
    fourth = plan(third_view, NAME, "nnUNetPlannerAL", moving)
    assert fourth[INTENSITIES]["0"]["mean"] == new_mean
    assert fourth["configurations"] == first["configurations"]


def test_configurations_of_an_older_file_do_not_leak(dataset, tmp_path):
    view = make_view(tmp_path / "view", dataset)
    file = view.preprocessed / NAME / "nnUNetPlans.json"
    file.write_text(json.dumps({"configurations": {"left_over": {}}}))
    assert "left_over" not in plan(view, NAME, "nnUNetPlannerAL", PlannerSettings(POOL))["configurations"]


def test_without_settings_ours_is_the_stock_planner(dataset, tmp_path):
    """As `nnUNetv2_plan_experiment -pl nnUNetPlannerAL` runs it in anybody's folders."""
    theirs = stock_plan(tmp_path / "stock", dataset, ExperimentPlanner, 4)
    ours = stock_plan(tmp_path / "ours", dataset, planning.nnUNetPlannerAL, 4)
    assert {**ours, "experiment_planner_used": "ExperimentPlanner"} == theirs
    folder = tmp_path / "ours" / "nnUNet_preprocessed" / NAME
    file = folder / "nnUNetPlans.json"
    file.write_text(json.dumps({**ours, "configurations": {**ours["configurations"], "custom": {}}}))
    with nnunet_folders(Roots.below(tmp_path / "ours")), quiet():
        again, _ = plan_experiment_dataset(501, planning.nnUNetPlannerAL)
    assert "custom" in again["configurations"], "a user's own configurations stay, as nnU-Net keeps them"
    assert not (folder / DIFFERENCE_FILE).exists()


def test_planning_survives_a_set_up_without_augmentation_workers(dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    plan(make_view(tmp_path / "view", dataset), NAME, "nnUNetPlannerAL", PlannerSettings(POOL))
    assert dict(os.environ)["nnUNet_n_proc_DA"] == "0"


def test_any_planner_of_nnunets_can_be_pinned(dataset, tmp_path):
    view = make_view(tmp_path / "view", dataset)
    first = plan(view, NAME, "nnUNetPlannerResEncM", PlannerSettings(POOL))
    assert first["experiment_planner_used"] == "nnUNetPlannerResEncM"
    assert first["plans_name"] == "nnUNetResEncUNetMPlans"
    assert plan(view, NAME, "nnUNetPlannerResEncM", PlannerSettings(3, first)) == first


@pytest.mark.parametrize("wrong", ["nnUNetPlannerNobody", "get_pool_and_conv_props"])
def test_an_unknown_planner_is_named(wrong):
    with pytest.raises(SetupError, match=f"no planner {wrong}: choose one of nnUNetPlannerAL, "):
        planner_class(wrong)


def test_differences_of_plans():
    old, new = (
        {"a": 1, "b": {"c": [1, 2], "d": 3}, "gone": 0},
        {"a": 1, "b": {"c": [1, 3], "d": 3}, "new": None, "x": 5},
    )
    assert plan_differences(old, new) == [
        {"path": "b/c", "pinned": [1, 2], "fresh": [1, 3]},
        {"path": "gone", "pinned": 0, "fresh": None},
        {"path": "x", "pinned": None, "fresh": 5},
    ]
    assert plan_differences(old, old) == []
