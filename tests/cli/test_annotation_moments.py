"""What status and report say of a campaign that people annotate, at each moment of its first rounds."""

from __future__ import annotations

import json
import shutil

import pytest
from tiny_rounds import DATASET, run_command, run_round

from nnunet_al.campaign.decisions import Options
from nnunet_al.cli import status
from nnunet_al.report.evidence.gather import gather_evidence
from nnunet_al.report.page.annotation_progress import annotation_progress
from nnunet_al.report.reading.runs import read_runs

from .annotation_project import Project, collect
from .readers import in_itk_snap

pytestmark = pytest.mark.slow


class Watcher:
    """Asks for the state of a project's rounds, and for what the report says of it."""

    def __init__(self, project: Project, capsys: pytest.CaptureFixture[str]) -> None:
        self.project, self.capsys = project, capsys

    def states(self) -> list[tuple[str, int, int]]:
        """State, annotated regions and regions waited for of each round; the table says the same as the JSON."""
        self.capsys.readouterr()
        assert run_command(status.main, "-d", "501", "--json") == 0
        (campaign,) = json.loads(self.capsys.readouterr().out)["campaigns"]
        assert run_command(status.main, "-d", "501") == 0
        table = self.capsys.readouterr().out
        states = [round_["state"] for round_ in campaign["rounds"]]
        for state, words in (
            ("under way", "(not complete)"),
            ("annotated", "(annotated; "),
            ("closed", "(closed; "),
            ("waits for readers", "(waits for readers: "),
        ):
            assert table.count(words) == states.count(state)
        return [(round_["state"], round_["annotated"], round_["waits_for"]) for round_ in campaign["rounds"]]

    def evidence(self) -> str:
        found = gather_evidence(self.project.campaign, self.project.roots, Options(device="cpu"), 0)
        assert isinstance(found, str)
        return found

    def progress(self) -> str:
        return annotation_progress(read_runs([self.project.campaign]))[0].rpartition("; ")[2]

    def hand_in(self, number: int, *cases: str) -> None:
        for case in cases:
            path = self.project.batch(number) / "returned" / f"{case}.nii.gz"
            in_itk_snap(self.project.image(number, case), self.project.drawn(case), path)


def test_a_project_without_labels(project, capsys):
    watcher = Watcher(project, capsys)
    assert run_round("--annotate") == 3
    first, *others = sorted(project.asked(0))
    of_first = len(project.asked(0)[first])
    assert watcher.states() == [("waits for readers", 0, 6)]
    assert watcher.evidence().endswith("once readers have annotated the initial batch.")

    watcher.hand_in(0, first)
    assert collect("--reviewed") == 3
    assert watcher.states() == [("waits for readers", of_first, 6 - of_first)]
    assert watcher.progress() == f"round 0 waits for {6 - of_first} of the 6 regions of its batch."

    watcher.hand_in(0, *others)
    assert collect("--reviewed") == 0
    assert watcher.states() == [("annotated", 6, 0)]
    assert watcher.progress() == "the batch of round 0 is annotated, and the next call continues."
    assert watcher.evidence().endswith("round 1 trains the first one, with the next call of nnUNetv2_al_round.")

    assert run_round("-round", 1, "-phase", "prepare") == 0
    assert watcher.states() == [("complete", 6, 0), ("under way", 6, 0)]
    assert watcher.evidence() == "There is no model yet: round 1 has not finished its training."
    assert watcher.progress() == "round 1 has no batch yet."

    assert run_round("-round", 1, "-phase", "train") == 0
    assert watcher.evidence() == "Round 1, the first with a model, is shown here once it is complete."
    assert run_round() == 3
    assert watcher.states() == [("complete", 6, 0), ("waits for readers", 6, 5)]
    assert "is shown here once readers have annotated 5 regions more" in watcher.evidence()

    first, *others = sorted(project.asked(1))
    watcher.hand_in(1, first)
    assert collect("--reviewed") == 3
    done = len(project.asked(1)[first])
    assert collect("--close") == 0
    assert watcher.states() == [("complete", 6, 0), ("closed", 6 + done, 0)]
    assert watcher.progress() == "the batch of round 1 was closed, and the next call continues."
    watcher.hand_in(1, *others)
    assert collect("--reviewed") == 0
    assert watcher.states() == [("complete", 6, 0), ("annotated", 11, 0)]
    assert "is shown here once the next call of nnUNetv2_al_round has completed it" in watcher.evidence()


def test_a_project_that_is_annotated_in_part(make_roots, tmp_path, capsys):
    roots = make_roots(cases=10)
    shutil.copytree(roots.raw / DATASET / "labelsTr", tmp_path / "truth")
    for path in sorted((roots.raw / DATASET / "labelsTr").iterdir())[6:]:
        path.unlink()
    project = Project(roots, tmp_path / "truth")
    watcher = Watcher(project, capsys)
    assert run_round("--annotate") == 0  # the dataset's own labels answer round 0
    ((state, annotated, waits_for),) = watcher.states()
    assert (state, waits_for) == ("complete", 0)
    assert annotated > 0
    assert watcher.evidence().endswith("round 1 trains the first one, with the next call of nnUNetv2_al_round.")
    assert watcher.progress() == "round 0 is complete, and no batch is waiting."
    assert run_round() == 3
    assert watcher.states() == [("complete", annotated, 0), ("waits for readers", annotated, 5)]
    watcher.hand_in(1, *project.asked(1))
    assert collect("--reviewed") == 0
    assert watcher.states() == [("complete", annotated, 0), ("annotated", annotated + 5, 0)]
