from __future__ import annotations

import pytest

from nnunet_al.files import write_json
from nnunet_al.report.reading.runs import read_runs
from nnunet_al.report.tables.settings import settings

from .faked_campaigns import fake_campaign

PLANS = {
    "configurations": {
        "2d": {
            "patch_size": [40, 56],
            "spacing": [1.0, 0.9765625],
            "batch_size": 12,
            "architecture": {
                "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
                "arch_kwargs": {"n_stages": 4, "features_per_stage": [32, 64, 128, 256]},
            },
        },
        "small": {"inherits_from": "2d", "patch_size": [20, 28]},
    }
}


@pytest.fixture
def make(tmp_path):
    def make(**decided):
        folder = fake_campaign(tmp_path, "entropy", [0.5, 0.6], **decided)
        view = folder.prepared.view
        write_json(view.preprocessed / "Dataset501_Phantom" / "nnUNetPlans.json", PLANS)
        return folder

    return make


def values(*folders):
    return {row["setting"]: row["value"] for row in settings(read_runs(folders)).rows}


def test_the_network_is_the_planned_one_with_what_was_trained(make):
    folder = make()
    write_json(folder.round(1).network, {"parameters": 1234567, "device": "cuda (NVIDIA A100)", "gpus": 1})
    write_json(folder.round(2).network, {"parameters": 1234567, "device": "cuda (NVIDIA H200)", "gpus": 2})
    found = values(folder)
    assert found["network"] == "PlainConvUNet"
    assert (found["patch [voxels]"], found["spacing [mm]"]) == ("40 x 56", "1 x 0.9766")
    assert (found["stages"], found["features of the stages"]) == ("4", "32, 64, 128, 256")
    assert found["batch size of the training"] == "12"
    assert found["parameters"] == "1,234,567"
    assert found["device of the training"] == "cuda (NVIDIA A100), 2 x cuda (NVIDIA H200)"


def test_a_decided_batch_size_goes_before_the_planned_one_and_configurations_inherit(make):
    found = values(make(batch_size=2, configuration="small"))
    assert (found["batch size of the training"], found["patch [voxels]"], found["stages"]) == ("2", "20 x 28", "4")
    assert "parameters" not in found
    assert "device of the training" not in found


def test_without_plans_the_table_is_as_it_was(tmp_path):
    assert not {"network", "patch [voxels]", "parameters"} & {*values(fake_campaign(tmp_path, "entropy", [0.5]))}
