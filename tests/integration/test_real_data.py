"""Two rounds on real MRI."""

from __future__ import annotations

import json
import shutil

import pytest

from nnunet_al.files import read_json
from nnunet_al.nnunet.environment import Roots

from .campaigns import USIMF, Lab

NAME = "Dataset004_Hippocampus"


@pytest.mark.slow
def test_two_rounds_on_the_hippocampus(hippocampus, tmp_path):
    roots = Roots.below(tmp_path).create()
    target = roots.raw / NAME
    for folder in ("imagesTr", "labelsTr"):
        (target / folder).mkdir(parents=True)
        for file in sorted((hippocampus / folder).iterdir())[:8]:
            shutil.copy(file, target / folder)
    content = json.loads((hippocampus / "dataset.json").read_text())
    content.pop("dataset", None)
    (target / "dataset.json").write_text(json.dumps({**content, "numTraining": 8}))

    lab = Lab(roots, NAME, patches=())
    campaign = lab.start("2d", "usimf", "-initial", "20", "-b", "20", *USIMF, rounds=2)
    decided = read_json(campaign.decisions)
    seen = []
    for number in (0, 1, 2):
        batch = read_json(campaign.round(number).batch)["regions"]
        assert len(batch) == 20
        seen += [(region["case"], json.dumps(region["box"])) for region in batch]
    assert len(set(seen)) == len(seen) == 60
    assert {case for case, _ in seen} <= set(decided["pool_cases"])
    assert not {case for case, _ in seen} & set(decided["test_cases"])
    for number in (1, 2):
        mean = read_json(campaign.round(number).metrics)["foreground_mean"]
        assert 0 <= mean["dice"] <= 1
