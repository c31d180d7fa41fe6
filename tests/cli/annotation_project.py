"""An annotation project as a test sees it: what was asked for, what is true, and what the ledger holds."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813 -- the name everybody knows
from tiny_rounds import DATASET, campaign_folder, run_command

from nnunet_al.campaign.data import read_data
from nnunet_al.campaign.decisions import Decisions, Options
from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.cli.collect import main as collect_main
from nnunet_al.files import read_json
from nnunet_al.rounds.context import RoundContext

IGNORE = 3


def collect(*arguments: object) -> int:
    return run_command(collect_main, "-d", "501", *arguments)


@dataclass
class Project:
    """An annotation project: nnU-Net's folders, and the true labels, which only the readers know."""

    roots: object
    truth: Path

    @property
    def campaign(self) -> CampaignFolder:
        return CampaignFolder(campaign_folder(self.roots))

    def batch(self, number: int) -> Path:
        return self.campaign.round(number).hand_out

    def asked(self, number: int) -> dict[str, list[tuple[slice, ...]]]:
        """Case -> the boxes asked for."""
        boxes: dict[str, list[tuple[slice, ...]]] = {}
        for region in read_json(self.campaign.round(number).batch)["regions"]:
            boxes.setdefault(region["case"], []).append(tuple(slice(*side) for side in region["box"]))
        return boxes

    def drawn(self, case: str) -> np.ndarray:
        return sitk.GetArrayFromImage(sitk.ReadImage(str(self.truth / f"{case}.nii.gz"))).astype(int)

    def image(self, number: int, case: str) -> Path:
        return self.batch(number) / "images" / f"{case}_0000.nii.gz"

    def image_of(self, folder: CampaignFolder, case: str) -> Path:
        """The image of a case in the first batch of a campaign of several."""
        return folder.round(0).hand_out / "images" / f"{case}_0000.nii.gz"

    def preseg(self, number: int, case: str) -> Path:
        return self.batch(number) / "preseg" / f"{case}.seg.nrrd"

    def annotated(self, case: str) -> np.ndarray:
        """What the ledger holds of a case by now."""
        decided = Decisions.load(self.campaign.decisions)
        data = read_data(self.roots, DATASET, decided.test, 1)
        context = RoundContext(self.campaign, 0, decided, self.roots, data, Options(device="cpu", workers=1))
        return context.ledger.labels(case, data.facts[case].raw_shape, context.ledger.commits())

    def expect(self, *answered: tuple[int, str]) -> None:
        """The ledger holds the truth in the regions of these (round, case), and nothing anywhere else."""
        for case in sorted(path.name.removesuffix(".nii.gz") for path in self.truth.iterdir()):
            truth = self.drawn(case)
            inside = np.zeros(truth.shape, bool)
            for number, of in answered:
                for box in self.asked(number).get(case, []) if of == case else []:
                    inside[box] = True
            np.testing.assert_array_equal(self.annotated(case), np.where(inside, truth, IGNORE), err_msg=case)

    def states(self, number: int) -> dict[str, str]:
        """File -> what became of it in the last call, from the table beside the batch."""
        return {row["file"]: row["state"] for row in self.collected(number)}

    def collected(self, number: int) -> list[dict[str, str]]:
        """The rows of the table beside the batch."""
        with (self.batch(number) / "collected.csv").open(newline="", encoding="utf-8") as table:
            return list(csv.DictReader(table))

    def reason(self, number: int, file: str) -> str:
        """Why, in the last call."""
        return [row["reason"] for row in self.collected(number) if row["file"].startswith(file)][-1]
