"""A round adds its commits to the labels of the round before, which gives the bytes of composing all from scratch."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny_rounds import DATASET, snapshot

from nnunet_al.campaign.ledger import CaseAnnotation
from nnunet_al.files import write_json
from nnunet_al.nnunet.label_io import LabelFormat
from nnunet_al.rounds import composed
from nnunet_al.rounds.candidates import candidate_numbers
from nnunet_al.rounds.stages.labels import compose_labels

from .test_preparation import Campaign

pytestmark = pytest.mark.slow


@pytest.fixture
def campaign(roots, monkeypatch) -> Campaign:
    """Four rounds: slabs that overlap, a correction, and labels outside the nonzero mask, of which the last is new."""
    real = composed.nonzero_mask

    def mask(*arguments) -> np.ndarray:
        inside_xyz = real(*arguments)
        inside_xyz[:, :3] = False
        return inside_xyz

    monkeypatch.setattr(composed, "nonzero_mask", mask)
    made = Campaign(roots)
    first, second, third = made.cases[:3]
    made.annotate(0, (first, second), (8, 14))
    made.annotate(1, (first, third), (12, 18))
    context = made.context(1)
    labels_xyz, properties = context.label_format.read_with_properties(context.data.dataset.cases[first].label)
    for number, source, where, value in ((2, "correction", np.s_[9:13, 5:9], 1), (3, "oracle", np.s_[:, 1:2], 2)):
        new_xyz = np.full_like(labels_xyz, context.ignore)
        new_xyz[where] = value
        context.ledger.append(number, source, source, (), {first: CaseAnnotation(new_xyz, properties)})
    write_marks(made, range(1, 5))
    return made


def write_marks(campaign: Campaign, numbers) -> None:
    for number in numbers:
        mark = campaign.folder.round(number).ledger_mark
        mark.parent.mkdir(parents=True, exist_ok=True)
        write_json(mark, {"entries": number})


def compose(campaign: Campaign, number: int) -> dict[str, str]:
    """Compose a round's labels; the hash of each file by its name."""
    context = campaign.context(number)
    compose_labels(context)
    return {Path(name).name: mark for name, mark in snapshot(context.round.view.raw / DATASET / "labelsTr").items()}


def from_scratch(campaign: Campaign, number: int) -> dict[str, str]:
    campaign.folder.round(number - 1).composed.unlink(missing_ok=True)
    shutil.rmtree(campaign.folder.round(number).root)
    write_marks(campaign, [number])
    return compose(campaign, number)


def test_labels_are_those_of_composing_from_scratch(campaign, monkeypatch):
    read, real = [], LabelFormat.read_with_properties

    def read_with_properties(self, path):
        read.append(path)
        return real(self, path)

    monkeypatch.setattr(LabelFormat, "read_with_properties", read_with_properties)
    found = {}
    for number in range(1, 5):
        read.clear()
        found[number] = compose(campaign, number)
        assert number == 4 or len(read) == len(set(read))
        volumes = [path for path in read if path.parent.parent == campaign.folder.ledger]
        assert number == 4 or {path.parent.name for path in volumes} == {f"{number - 1:03d}"}
        read.clear()
        candidates = candidate_numbers(campaign.context(number))
        assert not read
        measured = composed.measures(campaign.context(number))
        campaign.folder.round(number).composed.rename(aside := campaign.folder.root / "aside")
        assert candidate_numbers(campaign.context(number)) == candidates
        again = composed.measures(campaign.context(number))
        assert {case: (m["complete"], m["voxels"]) for case, m in measured.items()} == {
            case: (m["complete"], m["voxels"]) for case, m in again.items()
        }
        aside.rename(campaign.folder.round(number).composed)
    assert len({found[number][f"{campaign.cases[0]}.nii.gz"] for number in found}) == 4
    for number in (4, 3, 2):
        assert from_scratch(campaign, number) == found[number], number


def test_a_label_that_is_not_as_recorded_is_not_continued(campaign):
    compose(campaign, 1)
    expected = compose(campaign, 2)
    folder = campaign.folder.round(1).view.raw / DATASET / "labelsTr"
    for case, other in (campaign.cases[:2], campaign.cases[1::-1]):
        shutil.copy(folder / f"{other}.nii.gz", campaign.folder.root / case)
    for case in campaign.cases[:2]:
        (campaign.folder.root / case).replace(folder / f"{case}.nii.gz")
    shutil.rmtree(campaign.folder.round(2).root)
    write_marks(campaign, [2])
    assert compose(campaign, 2) == expected
    campaign.folder.round(1).composed.write_text('{"half a rec')
    assert compose(campaign, 2) == expected
