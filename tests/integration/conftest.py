"""Phantoms, and models trained on them once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.nnunet.environment import Roots
from nnunet_al.synthetic.phantom import make_phantom_dataset

from .campaigns import DATASET, SIZES, USIMF, Lab


@pytest.fixture(scope="session")
def lab(tmp_path_factory) -> Lab:
    """MRI phantoms, anisotropic, with air to crop and an axis order that nnU-Net transposes; campaigns are shared."""
    roots = Roots.below(tmp_path_factory.mktemp("lab")).create()
    make_phantom_dataset(roots.raw / DATASET, cases=6, shape=(20, 24, 12), spacing_mm=(1.0, 1.0, 2.5), test_cases=2)
    return Lab(roots)


@pytest.fixture(scope="session")
def trained(lab) -> Callable[[str, str], tuple[Lab, CampaignFolder]]:
    """A function (configuration, unit) -> a usimf campaign with round 1 done, to copy and not to change."""
    made: dict[tuple[str, str], tuple[Lab, CampaignFolder]] = {}

    def get(configuration: str, unit: str) -> tuple[Lab, CampaignFolder]:
        if (configuration, unit) not in made:
            here = lab.with_results(lab.roots.results / f"{configuration}-{unit}")
            initial, budget = SIZES[unit]
            sizes = ("-unit", unit, "-initial", str(initial), "-b", str(budget), "-f", "0")
            made[configuration, unit] = here, here.start(configuration, "usimf", *sizes, *USIMF)
        return made[configuration, unit]

    return get


@pytest.fixture
def fresh_lab(lab, tmp_path) -> Lab:
    """The phantoms with preprocessed and results folders of one's own."""
    own = Roots.below(tmp_path).create()
    return Lab(Roots(lab.roots.raw, own.preprocessed, own.results))


@pytest.fixture
def new_results(tmp_path) -> Callable[[Lab], Lab]:
    """A function lab -> a lab on the same data with an empty results folder."""
    return lambda here: here.with_results(tmp_path / f"results_{len(list(Path(tmp_path).iterdir()))}")
