"""An evaluation that was cut goes on with the cases that are left, unless the model or a label is another by now."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from nnunet_al.campaign.decisions import Options
from nnunet_al.campaign.folders import RoundFolder
from nnunet_al.files import read_json
from nnunet_al.rounds import evaluation, shards
from nnunet_al.rounds.stages import evaluate
from nnunet_al.strategies import catalog

CASES = ("a", "b", "c", "d")


class Killed(BaseException):
    """Stands for SIGKILL: nothing handles it."""


class Evaluated:
    """A round with four test cases, whose predictions follow from the checkpoint's text and the case."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.round = RoundFolder(folder, 1)
        self.checkpoint = folder / "checkpoint_final.pth"
        self.checkpoint.parent.mkdir(parents=True)
        self.checkpoint.write_text("1")
        self.part = self.round.parts / "evaluated.npz"
        self.label_hashes = dict(zip(CASES, "wxyz", strict=True))
        self.disable_tta = False
        self.axes = 2
        self.keep = 0
        self.predicted: list[str] = []
        self.killed_before: str | None = None
        for case in CASES:
            (folder / f"{case}.txt").touch()
        monkeypatch.setattr(evaluation, "make_predictor", lambda *_, **__: self._predict)
        monkeypatch.setattr(evaluation, "total_cost", lambda *_: SimpleNamespace(to_json=lambda _: {}))
        monkeypatch.setattr(evaluate, "write_results", lambda _: None)

    def do(self, killed_before: str | None = None) -> dict[str, Any]:
        """Evaluate, or die in front of a case; returns the metrics."""
        self.predicted, self.killed_before = [], killed_before
        if killed_before is not None:
            with pytest.raises(Killed):
                evaluate.evaluate(self._context())
            return {}
        evaluate.evaluate(self._context())
        assert not self.part.exists(), "nobody reads it again"
        return read_json(self.round.metrics)

    def _predict(self, case: str) -> np.ndarray:
        if case == self.killed_before:
            raise Killed
        self.predicted.append(case)
        rng = np.random.default_rng([CASES.index(case), int(self.checkpoint.read_text())])
        return rng.integers(0, 3, (3, 5, 7))

    @staticmethod
    def _write(path: Path, labels_xyz: np.ndarray, _: dict[str, Any]) -> None:
        path.parent.mkdir(exist_ok=True)
        with path.open("wb") as file:
            np.save(file, labels_xyz)

    def _context(self) -> Any:
        folder = self.round.root
        facts = {
            case: SimpleNamespace(spacing_mm=(1.0, 0.3, 0.7), label_hash=mark)
            for case, mark in self.label_hashes.items()
        }
        dataset = SimpleNamespace(file_ending=".txt", classes={"one": 1, "two": 2}, ignore_label=None)
        tests = {case: SimpleNamespace(label=folder / f"{case}.txt", images=()) for case in CASES}
        decided = SimpleNamespace(
            test_cases=CASES, groups={}, withdrawn_cases=(), recipe=catalog.get("random"), seed=0, configuration="2d",
            dropout="decoder", precision="float32", roi_classes=(), disable_tta=self.disable_tta,
        )  # fmt: skip
        return SimpleNamespace(
            round=self.round, number=1, configuration={"patch_size": [4] * self.axes},
            decided=decided, options=Options(device="cpu", keep_predictions=self.keep), folder=None, commits=[],
            checkpoint=lambda _: self.checkpoint, plans={"transpose_forward": [2, 0, 1]},
            test_images=lambda: {},
            data=SimpleNamespace(dataset=dataset, tests=tests, test_facts=facts),
            label_format=SimpleNamespace(
                read=lambda _: np.arange(105).reshape(3, 5, 7) % 3,
                write=self._write,
                image_properties=lambda _: {},
            ),
        )  # fmt: skip


@pytest.fixture
def lab(tmp_path, monkeypatch) -> Evaluated:
    monkeypatch.setattr(shards, "SECONDS_BETWEEN_WRITES", 0.0)
    return Evaluated(tmp_path / "round_001", monkeypatch)


def test_cut_and_continued_is_undisturbed(lab, capsys):
    expected = lab.do()
    lab.do(killed_before="b")
    lab.do(killed_before="d")
    assert lab.predicted == ["b", "c"]
    assert lab.do() == expected
    assert list(expected["cases"]) == list(CASES)
    assert lab.predicted == ["d"]
    assert "3 test cases of 4 measured before" in capsys.readouterr().out


@pytest.mark.parametrize("what", ["model", "mirroring", "label", "file"])
def test_metrics_of_anything_else_are_not_used(lab, what):
    lab.do(killed_before="d")
    if what == "model":
        lab.checkpoint.write_text("2")
    elif what == "mirroring":
        lab.disable_tta = True
    elif what == "label":
        lab.label_hashes["a"] = "another"
    else:
        lab.part.write_bytes(lab.part.read_bytes()[:-20])
    lab.do()
    assert lab.predicted == [*CASES]


def test_a_2d_network_has_the_dice_of_slices_across_its_own_axis(lab):
    """The network's slices are those of the raw axis 2; each of 7 slices holds the class 1 in labels of 3 x 5."""
    metrics = lab.do()
    labels = np.arange(105).reshape(3, 5, 7) % 3
    dices = []
    for case in CASES:
        rng = np.random.default_rng([CASES.index(case), 1])
        predicted = rng.integers(0, 3, (3, 5, 7))
        for index in range(7):
            a, b = predicted[:, :, index] == 1, labels[:, :, index] == 1
            dices.append(2 * (a & b).sum() / (a.sum() + b.sum()))
    assert metrics["mean"]["one"]["slice_dice"] == pytest.approx(np.mean(dices))
    assert metrics["mean"]["one"]["slices"] == 28
    both = [metrics["mean"][name]["slice_dice"] for name in ("one", "two")]
    assert metrics["foreground_mean"]["slice_dice"] == pytest.approx(np.mean(both))


def test_a_3d_network_has_none(lab):
    lab.axes = 3
    metrics = lab.do()
    assert "slice_dice" not in metrics["foreground_mean"]
    assert set(metrics["mean"]["one"]) == {"dice", "hd95_mm"}


def test_the_first_predictions_are_kept_also_by_an_evaluation_that_was_cut(lab):
    without = lab.do()
    assert not lab.round.predictions.exists()
    lab.do(killed_before="b")
    lab.keep = 2
    assert lab.do() == without
    assert lab.predicted == [*CASES], "the first case was measured before, and not kept"
    assert sorted(path.name for path in lab.round.predictions.iterdir()) == ["a.txt", "b.txt"]
    expected = np.random.default_rng([1, 1]).integers(0, 3, (3, 5, 7))
    assert (np.load(lab.round.predictions / "b.txt") == expected).all()
