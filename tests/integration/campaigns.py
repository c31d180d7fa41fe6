"""Whole campaigns on phantoms, small enough to run many of them: tiny networks, tiny patches, a short training."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 -- the name everybody knows
import torch
from tiny_rounds import draw_no_plot

from nnunet_al.campaign.data import read_data
from nnunet_al.campaign.decisions import Decisions, Options
from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.cli.round import main
from nnunet_al.files import read_arrays, read_json
from nnunet_al.nnunet.environment import Roots, nnunet_folders
from nnunet_al.nnunet.fingerprint import extract_fingerprint
from nnunet_al.nnunet.planning import ActiveLearningPlanning
from nnunet_al.rounds.context import RoundContext
from nnunet_al.rounds.stages import fingerprint
from nnunet_al.strategies import catalog
from nnunet_al.synthetic.phantom import make_phantom_dataset

DATASET = "Dataset901_Phantom"
PATCHES = {"2d": [12, 12], "3d_fullres": [6, 12, 12]}
"""Smaller than the phantoms, so that slices and cases need several windows."""

SIZES = {"patch": (12, 5), "slice": (8, 4), "case": (2, 2)}
"""Regions of the initial batch and of a round, per unit."""

TRAINING = (
    "-epochs",
    "2",
    "-iterations",
    "4",
    "-batch_size",
    "2",
    "-optimizer",
    "adamw",
    "--disable_tta",
    "-precision",
    "float32",
)
TRAINER = "nnUNetTrainerALLearningLoss"
"""Of the campaigns that tests share: with its models every strategy can select, also by their predicted loss."""

USIMF = ("-tr", TRAINER, "-passes", "3", "-set", "embedding_size=40", "fisher_samples=5")


@contextmanager
def small_models(patches: dict[str, list[int]] | None = None) -> Iterator[None]:
    """Plan networks of a few channels with the given patches; sample few voxels for the fingerprint."""
    begin, save = ActiveLearningPlanning.__init__, ActiveLearningPlanning.save_plans

    def with_few_features(self: Any, *args: Any, **kwargs: Any) -> None:
        begin(self, *args, **kwargs)
        self.UNet_base_num_features = 4

    def with_patches(self: Any, plans: dict[str, Any]) -> None:
        for name, patch in (patches or {}).items():
            if name in plans["configurations"]:
                plans["configurations"][name]["patch_size"] = patch
        save(self, plans)

    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        torch.set_num_threads(1)
        patch.setenv("nnUNet_n_proc_DA", "0")
        draw_no_plot(patch.setattr)
        patch.setattr(ActiveLearningPlanning, "__init__", with_few_features)
        patch.setattr(ActiveLearningPlanning, "save_plans", with_patches)
        patch.setattr(fingerprint, "extract_fingerprint", partial(extract_fingerprint, max_voxels=60_000))
        try:
            yield
        finally:
            torch.set_num_threads(threads)


@dataclass(frozen=True)
class Lab:
    """nnU-Net's three roots, and the commands run on them in this process."""

    roots: Roots
    dataset: str = DATASET
    patches: tuple[tuple[str, tuple[int, ...]], ...] = tuple((name, tuple(patch)) for name, patch in PATCHES.items())

    @classmethod
    def of_phantoms(cls, folder: Path, **options: Any) -> Lab:
        """Phantoms, anisotropic, with air to crop and an axis order that nnU-Net transposes."""
        roots = Roots.below(folder).create()
        make_phantom_dataset(roots.raw / DATASET, shape=(20, 24, 12), spacing_mm=(1.0, 1.0, 2.5), **options)
        return cls(roots)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        with small_models({name: list(patch) for name, patch in self.patches}), nnunet_folders(self.roots):
            yield

    def round(self, configuration: str, strategy: str, *args: str) -> int:
        where = ("-d", self.dataset, "-c", configuration, "-s", strategy, "-device", "cpu", "-np", "1")
        with self.at_work():
            return main([*where, *args])

    def start(self, configuration: str, strategy: str, *args: str, rounds: int = 1) -> CampaignFolder:
        """Do round 0 with ``args``, then as many more rounds as asked for."""
        assert self.round(configuration, strategy, *TRAINING, *args) == 0
        for number in range(1, rounds + 1):
            assert self.round(configuration, strategy, "-round", str(number)) == 0
        tag = args[args.index("-tag") + 1] if "-tag" in args else None
        return self.campaign(configuration, strategy, tag)

    def campaign(self, configuration: str, strategy: str, tag: str | None = None) -> CampaignFolder:
        return CampaignFolder.of(self.roots, self.dataset, configuration, catalog.get(strategy).name, 0, tag, 0)

    def context(self, folder: CampaignFolder, number: int = 1, **options: Any) -> RoundContext:
        decided = Decisions.load(folder.decisions)
        data = read_data(self.roots, decided.dataset, decided.test, 1)
        return RoundContext(folder, number, decided, self.roots, data, Options(device="cpu", workers=1, **options))

    def with_results(self, results: Path) -> Lab:
        """Return a lab on the same data whose campaigns lie elsewhere."""
        results.mkdir(parents=True, exist_ok=True)
        return replace(self, roots=replace(self.roots, results=results))

    def with_raw(self, raw: Path) -> Lab:
        return replace(self, roots=replace(self.roots, raw=raw))


def copy_unselected(
    source: CampaignFolder, lab: Lab, configuration: str, strategy: str, **decided_otherwise: Any
) -> CampaignFolder:
    """Copy a campaign to another lab as it was when round 1 had been evaluated, there as one of ``strategy``."""
    target = lab.campaign(configuration, strategy)
    shutil.copytree(source.root, target.root, symlinks=True)
    round_ = target.round(1)
    for stage in round_.stages.iterdir():
        if stage.name.startswith(("score", "weigh", "fisher", "embed", "select", "annotate")):
            stage.unlink()
    shutil.rmtree(round_.root / "parts", ignore_errors=True)
    shutil.rmtree(target.ledger / "001", ignore_errors=True)
    made = (round_.scores, round_.query, round_.fisher, round_.embeddings, round_.batch, target.ledger / "001.json")
    for file in made:
        file.unlink(missing_ok=True)
    decided = Decisions.load(target.decisions)
    recipe = decided.recipe
    if recipe.name != catalog.get(strategy).name:
        recipe = catalog.get(strategy)
        small = {"passes": 3, "embedding_size": 40, "fisher_samples": 5, "boundary_width": "q0.1"}
        recipe = catalog.with_parameters(recipe, **{name: small[name] for name in small if name in recipe.parameters})
    if recipe.weighting is not None and "groups" not in decided_otherwise:
        cases = sorted({*decided.pool_cases, *decided.test_cases})
        groups = {case: ("one", "other")[index % 2] for index, case in enumerate(cases)}
        decided_otherwise |= {"group_by": ("group",), "groups": groups}
    replace(decided, recipe=recipe, **decided_otherwise).save(target.decisions)
    return target


def outcome(campaign: CampaignFolder, number: int = 1) -> dict[str, Any]:
    """Return what a selection found out and chose, to the last digit."""
    round_ = campaign.round(number)
    scores = read_arrays(round_.scores) if round_.scores.is_file() else {}
    return {"batch": read_json(round_.batch)["regions"], **{name: array.tolist() for name, array in scores.items()}}


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    content: dict[str, torch.Tensor] = torch.load(checkpoint, map_location="cpu", weights_only=False)["network_weights"]
    return content


def equal_weights(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def read_volume(path: Path) -> np.ndarray:
    array: np.ndarray = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    return array


def rewrite_volume(path: Path, array_zyx: np.ndarray) -> None:
    """Replace a volume's voxels and keep its geometry."""
    image = sitk.GetImageFromArray(array_zyx)
    image.CopyInformation(sitk.ReadImage(str(path)))
    sitk.WriteImage(image, str(path), True)


def list_cases(source: Path, target: Path) -> None:
    """Write a dataset that names the files of another one, in reversed order."""
    ending = ".nii.gz"
    cases = sorted(path.name.removesuffix(ending) for path in (source / "labelsTr").iterdir())
    content = json.loads((source / "dataset.json").read_text())
    content["dataset"] = {
        case: {
            "images": [str(source / "imagesTr" / f"{case}_0000{ending}")],
            "label": str(source / "labelsTr" / (case + ending)),
        }
        for case in reversed(cases)
    }
    target.mkdir(parents=True)
    (target / "dataset.json").write_text(json.dumps(content))
