"""Phantoms, and models trained on them once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.nnunet.environment import Roots

from .campaigns import SIZES, USIMF, Lab


@pytest.fixture(scope="session")
def lab(tmp_path_factory) -> Lab:
    """MRI phantoms; campaigns are shared."""
    return Lab.of_phantoms(tmp_path_factory.mktemp("lab"), cases=6, test_cases=2)


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
