"""What a round prepares for training costs what has changed, and is the same as if everything were made anew."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import numpy as np
import pytest
from tiny_rounds import DATASET, snapshot

from nnunet_al.campaign.data import read_data
from nnunet_al.campaign.decisions import Decisions, Options
from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.campaign.ledger import CaseAnnotation
from nnunet_al.campaign.request import Request
from nnunet_al.nnunet import image_store, intensity_samples, round_view
from nnunet_al.pool.boxes import Region, to_slices
from nnunet_al.rounds import composed
from nnunet_al.rounds.context import RoundContext
from nnunet_al.rounds.run_stages import Stage, run_stages
from nnunet_al.rounds.stages import fingerprint, labels, plan, preprocess
from nnunet_al.rounds.start import start

STAGES = [
    Stage(work.__name__, "", work)
    for work in (labels.compose_labels, fingerprint.fingerprint, plan.plan_round, preprocess.preprocess)
]


class Campaign:
    """A campaign whose batches are chosen by hand and whose rounds stop before the training."""

    def __init__(self, roots) -> None:
        self.roots = roots
        requested = Request(DATASET, "2d", 0, 0, None, "random").decide()
        self.folder = CampaignFolder.of(roots, DATASET, "2d", "random", 0, None, 0)
        start(self.folder, requested, roots, read_data(roots, DATASET, "fold", 1), 1)
        self.cases = Decisions.load(self.folder.decisions).pool_cases

    def context(self, number: int) -> RoundContext:
        decided = Decisions.load(self.folder.decisions)
        data = read_data(self.roots, DATASET, "fold", 1)
        return RoundContext(self.folder, number, decided, self.roots, data, Options("cpu", 1))

    def annotate(self, number: int, cases, slab) -> None:
        context = self.context(number)
        annotations, regions = {}, []
        for case in cases:
            full_xyz, properties = context.label_format.read_with_properties(context.data.dataset.cases[case].label)
            box = (slab, *((0, length) for length in full_xyz.shape[1:]))
            labels_xyz = np.full_like(full_xyz, context.ignore)
            labels_xyz[to_slices(box)] = full_xyz[to_slices(box)]
            annotations[case] = CaseAnnotation(labels_xyz, properties)
            regions.append(Region(case, box))
        context.ledger.append(number, "oracle", "oracle", tuple(regions), annotations)

    def do(self, number: int) -> None:
        context = self.context(number)
        run_stages(STAGES, context, context.round.stages)

    def prepared(self, number: int) -> dict[str, str]:
        """What a round has written for nnU-Net, and the samples that the campaign keeps."""
        view = self.folder.round(number).view
        return snapshot(view.raw, view.preprocessed, self.folder.root / "intensities")


@pytest.fixture
def campaign(roots) -> Campaign:
    """Two rounds are annotated, of which the first is done; the second has news of one case."""
    made = Campaign(roots)
    made.annotate(0, made.cases[:5], (8, 20))
    made.do(1)
    made.annotate(1, made.cases[2:3], (4, 8))
    return made


@pytest.fixture
def touched(monkeypatch) -> dict[str, list[str]]:
    """What is done with which cases, as it is done."""
    found: dict[str, list[str]] = {"composed": [], "drawn": [], "label": [], "image": []}

    def note(module, name: str, what: str, case_of: Callable[..., str]) -> None:
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a: found[what].append(case_of(*a)) or real(*a))

    note(composed, "compose", "composed", lambda job: job.case)
    note(intensity_samples, "draw_sample", "drawn", lambda images, label, *rest: label.name.removesuffix(".nii.gz"))
    note(round_view, "preprocess_label", "label", lambda job: job.facts.case)
    note(image_store, "ensure_image", "image", lambda files, stored, *rest: stored.case)
    return found


def test_a_round_works_on_the_cases_with_news(campaign, touched):
    campaign.do(2)
    changed = [campaign.cases[2]]
    assert touched == {"composed": changed, "drawn": changed, "label": changed, "image": []}
    kept = [path.name.rpartition("-")[0] for path in (campaign.folder.root / "intensities").iterdir()]
    assert sorted(kept) == sorted(campaign.cases[:5])


def test_samples_that_are_lost_are_drawn_again_and_change_nothing(campaign, touched):
    campaign.do(2)
    expected = campaign.prepared(2)
    shutil.rmtree(campaign.folder.root / "intensities")
    shutil.rmtree(campaign.folder.round(2).root)
    touched["drawn"].clear()
    campaign.do(2)
    assert campaign.prepared(2) == expected
    assert touched["drawn"] == list(campaign.cases[:5])
