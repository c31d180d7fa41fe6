"""What happens in weeks: cases come and go, images and classes change; it works, or is refused, never by halves."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from tiny_rounds import DATASET, ENVIRONMENT, hurry, run_command, run_round, set_roots, snapshot

from nnunet_al.campaign.commits import read_commits
from nnunet_al.campaign.decisions import Decisions
from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.campaign.pool_request import PoolRequest
from nnunet_al.campaign.pool_state import pool_of_round
from nnunet_al.campaign.remaining_data import remaining_data
from nnunet_al.campaign.request import Request
from nnunet_al.cli.export import main as export
from nnunet_al.cli.pool import main as pool
from nnunet_al.cli.status import main as status
from nnunet_al.files import read_arrays, read_json, write_json
from nnunet_al.nnunet.environment import Roots
from nnunet_al.pool.table import checksum_of, load_regions
from nnunet_al.rounds import pool_changes
from nnunet_al.rounds.pool_changes import change_pool
from nnunet_al.rounds.stages import annotate

from .kill_lab import forked, kill_at, moments_of, some_of, wait

NEW = ("phantom_008", "phantom_009")
KILLS = 16


@dataclass(frozen=True)
class Lab:
    """A dataset of eight cases with campaigns `random` and `entropy` after round 1; two more cases lie aside."""

    base: Path

    @property
    def roots(self) -> Roots:
        return Roots.below(self.base)

    @property
    def dataset(self) -> Path:
        return self.roots.raw / DATASET

    def folder(self, strategy: str = "random") -> CampaignFolder:
        return CampaignFolder.of(self.roots, DATASET, "2d", strategy, 0, None, 0)

    def decided(self, strategy: str = "random") -> Decisions:
        return Decisions.load(self.folder(strategy).decisions)

    def files(self, case: str) -> list[Path]:
        return [self.dataset / "imagesTr" / f"{case}_0000.nii.gz", self.dataset / "labelsTr" / f"{case}.nii.gz"]

    def bring(self, *cases: str) -> None:
        """Put new cases into the dataset."""
        for case in cases:
            for file in self.files(case):
                shutil.copy(self.base / "aside" / file.name, file)

    def batch(self, number: int, strategy: str = "random") -> list:
        return read_json(self.folder(strategy).round(number).batch)["regions"]

    def everything(self) -> dict[str, str]:
        return snapshot(self.roots.raw, self.roots.preprocessed, self.roots.results)

    def annotated(self, strategy: str = "random") -> list[str]:
        """Cases of the pool of which something is annotated."""
        cases = {case for commit in read_commits(self.folder(strategy).ledger) for case in commit.labels}
        return sorted(cases)


@pytest.fixture(scope="module")
def prepared(phantom_variants, tmp_path_factory) -> Path:
    base = tmp_path_factory.mktemp("pool") / "lab"
    with pytest.MonkeyPatch.context() as patch:
        hurry(patch.setattr)
        lab = Lab(base)
        shutil.copytree(phantom_variants(), base / "nnUNet_raw")
        for name, value in {**ENVIRONMENT, **set_roots(base)}.items():
            patch.setenv(name, value)
        (base / "aside").mkdir()
        for case in NEW:
            for file in lab.files(case):
                shutil.move(file, base / "aside" / file.name)
        for strategy in ("random", "entropy"):
            assert [run_round("-s", strategy), run_round("-s", strategy)] == [0, 0]
    shutil.copytree(base, base.parent / "saved")
    return base


@pytest.fixture
def lab(prepared, monkeypatch) -> Iterator[Lab]:
    """The lab as it was, in the same place."""
    shutil.rmtree(prepared)
    shutil.copytree(prepared.parent / "saved", prepared)
    hurry(monkeypatch.setattr)
    for name, value in {**ENVIRONMENT, **set_roots(prepared)}.items():
        monkeypatch.setenv(name, value)
    return Lab(prepared)


def brighten(image: Path) -> None:
    """Make it another image of the same geometry."""
    content = nibabel.load(image)
    brighter = nibabel.Nifti1Image(np.asarray(content.dataobj) * 1.5, content.affine, content.header)
    image.unlink()
    nibabel.save(brighter, image)


def restore(lab: Lab, strategy: str = "random") -> None:
    """Bring the campaign back to where it was after round 1."""
    root = lab.folder(strategy).root
    shutil.rmtree(root)
    shutil.copytree(lab.base.parent / "saved" / root.relative_to(lab.base), root)


def al_pool(*arguments: object, strategy: str = "random") -> int:
    return run_command(pool, "-d", 501, "-s", strategy, *arguments)


def without(lab: Lab, strategy: str = "random") -> dict:
    """campaign.json less the history of changes, and its checksum."""
    content = read_json(lab.folder(strategy).decisions)
    del content["pool_changes"], content["checksum"]
    return content


# cases that come


def test_a_round_says_that_there_are_new_cases_and_leaves_them_alone(lab, capsys):
    lab.bring(NEW[0])
    (lab.dataset / "imagesTr" / "phantom_777_0000.nii.gz").write_bytes(b"half a file, still being copied")
    before = lab.decided()
    assert run_round() == 0
    said = capsys.readouterr().out
    assert "2 cases were added to the dataset since the campaign began; nnUNetv2_al_pool --add takes them into" in said
    assert lab.decided() == before
    assert lab.batch(2)


def test_adding_moves_no_number_and_touches_nothing_that_is_annotated(lab, capsys):
    lab.bring(*NEW)
    before, decided = snapshot(lab.folder().root), lab.decided()
    regions = load_regions(lab.folder().root / "regions.npz")
    assert al_pool("--add", "-reason", "second centre") == 0
    assert "Added: phantom_008, phantom_009, with " in capsys.readouterr().out
    after = snapshot(lab.folder().root)
    changed = {path for path in {*before, *after} if before.get(path) != after.get(path)}
    assert changed == {str(lab.folder().decisions), str(lab.folder().root / "regions.npz")}
    now = load_regions(lab.folder().root / "regions.npz")
    assert now[: len(regions)] == regions
    assert {region.case for region in now[len(regions) :]} == set(NEW)
    assert now[len(regions) :] == sorted(now[len(regions) :])
    fresh = lab.decided()
    assert fresh.pool_cases == tuple(sorted([*decided.pool_cases, *NEW]))
    assert {case: fresh.hashes[case] for case in decided.hashes} == decided.hashes
    assert set(fresh.hashes) == {*decided.hashes, *NEW}
    assert fresh.pool_changes == (
        {"round": 2, "added": list(NEW), "withdrawn": [], "test": [], "reason": "second centre"},
    )
    assert fresh.regions_checksum == checksum_of(now)
    kept = {name: getattr(decided, name) for name in ("pool_cases", "hashes", "regions_checksum")}
    assert replace(fresh, **kept, pool_changes=()) == decided
    # a campaign that begins with all cases cuts them the same way
    assert run_round("-tag", "all", "-round", 0) == 0
    whole = CampaignFolder.of(lab.roots, DATASET, "2d", "random", 0, "all", 0).root / "regions.npz"
    theirs = load_regions(whole)
    shared = {region.case for region in theirs} & {*NEW}
    assert shared
    assert [r for r in theirs if r.case in shared] == [r for r in now if r.case in shared]


def test_the_order_of_names_changes_nothing(lab):
    lab.bring(*NEW)
    assert al_pool("-add", *NEW, "-withdraw", "phantom_001", "phantom_002") == 0
    expected = read_json(lab.folder().decisions), load_regions(lab.folder().root / "regions.npz")
    restore(lab)
    assert al_pool("-withdraw", "phantom_002", "phantom_001", "-add", *NEW[::-1]) == 0
    assert (read_json(lab.folder().decisions), load_regions(lab.folder().root / "regions.npz")) == expected


def test_added_cases_are_candidates(lab):
    lab.bring(*NEW)
    assert al_pool("--add", strategy="entropy") == 0
    assert run_round("-s", "entropy") == 0
    regions = load_regions(lab.folder("entropy").root / "regions.npz")
    scored = read_arrays(lab.folder("entropy").round(2).scores)["numbers_N"].tolist()
    assert {n for n, region in enumerate(regions) if region.case in NEW} <= set(scored)
    assert al_pool("--add", strategy="entropy") == 0  # nothing is left to add


@pytest.mark.parametrize("strategy", ["random", "entropy"])
def test_added_and_withdrawn_untouched_is_as_if_it_had_never_come(lab, strategy):
    assert run_round("-s", strategy) == 0
    expected = lab.batch(2, strategy)
    restore(lab, strategy)
    lab.bring(*NEW)
    assert al_pool("--add", strategy=strategy) == 0
    assert al_pool("-withdraw", *NEW, strategy=strategy) == 0
    assert run_round("-s", strategy) == 0
    assert lab.batch(2, strategy) == expected


def test_a_pool_that_was_used_up_goes_on_with_new_cases(lab, capsys):
    last = lab.folder().round(1).batch
    last.write_text(json.dumps({**read_json(last), "regions": []}))
    lab.bring(NEW[0])
    assert run_round() == 0
    said = capsys.readouterr().out
    assert "is used up" in said
    assert "1 case was added to the dataset since" in said
    assert not lab.folder().round(2).root.exists()
    assert al_pool("--add") == 0
    assert run_round() == 0
    assert lab.batch(2)


def test_labels_that_come_with_a_case_count_where_the_campaign_began_with_labels(lab):
    lab.bring(*NEW)
    lab.files(NEW[1])[1].unlink()
    replace(lab.decided(), starts_from="dataset").save(lab.folder().decisions)
    assert al_pool("--add") == 0
    commits = read_commits(lab.folder().ledger)
    assert len(commits) == 3
    assert (commits[2].source, list(commits[2].labels)) == ("dataset", [NEW[0]])
    assert {region.case for region in commits[2].regions} == {NEW[0]}
    assert al_pool("-withdraw", NEW[0]) == al_pool("-add", NEW[0]) == 0
    assert len(read_commits(lab.folder().ledger)) == 3
    assert run_round() == 0
    view = lab.folder().round(2).view.raw / DATASET
    labels = read_json(view / "dataset.json")["dataset"]
    assert set(labels) == set(lab.annotated())
    assert NEW[0] in labels
    whole = np.asarray(nibabel.load(lab.files(NEW[0])[1]).dataobj)
    np.testing.assert_array_equal(np.asarray(nibabel.load(view / "labelsTr" / f"{NEW[0]}.nii.gz").dataobj), whole)
    assert NEW[0] not in {region["case"] for region in lab.batch(2)}


def test_groups_of_new_cases_have_to_be_said(lab, tmp_path, capsys):
    decided = lab.decided()
    groups = {case: "ab"[number % 2] for number, case in enumerate(sorted(decided.cases))}
    replace(decided, group_by=("sex",), groups=groups).save(lab.folder().decisions)
    lab.bring(*NEW)
    before = lab.everything()
    assert al_pool("--add") == 2
    assert "has groups of cases by sex: say with -groups FILE" in capsys.readouterr().err
    table = tmp_path / "participants.tsv"

    def write(**values: str) -> None:
        lines = [f"{case}\t{values.get(case, group)}" for case, group in {**groups, NEW[0]: "b", NEW[1]: "a"}.items()]
        table.write_text("\n".join(["participant_id\tsex", *lines]))

    write(phantom_001="a" if groups["phantom_001"] == "b" else "b")
    assert al_pool("--add", "-groups", table) == 2
    assert "puts phantom_001 into another group" in capsys.readouterr().err
    assert lab.everything() == before
    write()
    assert al_pool("--add", "-groups", table) == 0
    assert lab.decided().groups == {**groups, NEW[0]: "b", NEW[1]: "a"}
    # consent that is taken back takes the group along; the row of the table may be gone too
    assert al_pool("-withdraw", NEW[1]) == 0
    assert lab.decided().groups == {**groups, NEW[0]: "b"}


# cases that go


def test_nothing_of_a_withdrawn_case_is_opened_again(lab, capsys):
    """Not its images, its labels, what was annotated of it, or what was made of these: they are gone from the disk."""
    folder, decided = lab.folder("entropy"), lab.decided("entropy")
    gone = (lab.annotated("entropy")[0], decided.test_cases[0])
    assert al_pool("-withdraw", *gone, "-reason", "consent", strategy="entropy") == 0
    said = capsys.readouterr().out
    assert "from now on models are tested on 1 case" in said
    for path in [*lab.dataset.rglob("*"), *lab.roots.preprocessed.rglob("*"), *folder.root.rglob("*")]:
        if path.is_file() and path.name.startswith(gone):
            assert str(path.parent) in said, "a file that nobody was told of"
            path.unlink()
    assert run_round("-s", "entropy") == 0
    after = lab.decided("entropy")
    assert after.withdrawn_cases == tuple(sorted(gone))
    assert not {*after.cases} & {*gone}
    view = folder.round(2).view.raw / DATASET
    trained_on = set(lab.annotated("entropy")) - {*gone}
    assert set(read_json(view / "dataset.json")["dataset"]) == trained_on
    metrics = read_json(folder.round(2).metrics)
    assert list(metrics["cases"]) == [decided.test_cases[1]]
    assert metrics["trained_on_cases"] == len(trained_on)
    assert gone[0] not in {region["case"] for region in lab.batch(2, "entropy")}
    regions = load_regions(folder.root / "regions.npz")
    scored = {regions[n].case for n in read_arrays(folder.round(2).scores)["numbers_N"]}
    assert scored == set(after.pool_cases)
    assert not [path for path in folder.round(2).root.rglob("*") if path.name.startswith(gone)]
    # what was annotated stays readable in the ledger's entries, and other commands work
    assert gone[0] in lab.annotated("entropy")
    assert run_command(status, "-d", 501) == run_command(export, "-d", 501, "-s", "entropy", "-o", 601) == 0
    assert not [path for path in lab.roots.raw.rglob("Dataset601*/*/*") if path.name.startswith(gone)]
    capsys.readouterr()
    assert al_pool("-add", gone[0], strategy="entropy") == 2
    assert "its image is not in" in capsys.readouterr().err


def test_a_scan_that_cannot_be_read_any_more_can_be_withdrawn(lab, capsys):
    bad = lab.decided().pool_cases[0]
    lab.files(bad)[0].write_bytes(b"no image")
    assert run_round() == 2
    assert "cannot be read" in capsys.readouterr().err
    assert al_pool("-withdraw", bad, "-reason", "bad scan") == 0
    assert run_round() == 0


def test_withdrawn_and_put_back_is_as_if_nothing_had_been(lab):
    assert run_round() == 0
    expected, labels = lab.batch(2), snapshot(lab.folder().round(2).view.raw / DATASET / "labelsTr")
    restore(lab)
    before = without(lab)
    cases = (lab.annotated()[0], lab.decided().test_cases[0])
    assert al_pool("-withdraw", *cases) == 0
    assert without(lab) != before
    assert al_pool("-add", *cases) == 0  # the test case becomes one again, and never one of the pool
    assert without(lab) == before
    assert run_round() == 0
    assert lab.batch(2) == expected
    assert snapshot(lab.folder().round(2).view.raw / DATASET / "labelsTr") == labels


def test_another_image_or_lost_annotations_are_not_put_back(lab, capsys):
    case, other = lab.annotated()[:2]
    assert al_pool("-withdraw", case, other) == 0
    brighten(lab.files(case)[0])
    next(lab.folder().ledger.glob(f"*/{other}.nii.gz")).unlink()
    before = lab.everything()
    capsys.readouterr()
    assert al_pool("-add", case) == 2
    assert "its image is not the one that was withdrawn" in capsys.readouterr().err
    assert al_pool("-add", other) == 2
    assert "what was annotated of it is gone from the ledger" in capsys.readouterr().err
    assert lab.everything() == before


def test_a_batch_that_waits_is_not_waited_for_a_withdrawn_case(lab, capsys):
    words = ("-tag", "people", "--annotate", "-unit", "case", "-initial", 2)
    assert run_round(*words) == 3
    folder = CampaignFolder.of(lab.roots, DATASET, "2d", "random", 0, "people", 0)
    asked = [region["case"] for region in read_json(folder.round(0).batch)["regions"]]
    assert "2 of 2 regions" in capsys.readouterr().out
    assert run_command(pool, "-d", 501, "-tag", "people", "-withdraw", asked[0]) == 0
    assert f"{folder.round(0).hand_out} (round 0)" in capsys.readouterr().out
    assert run_round(*words) == 3
    assert "1 of 1 regions" in capsys.readouterr().out
    assert run_command(pool, "-d", 501, "-tag", "people") == 0
    said = capsys.readouterr().out
    assert f"waiting for annotation     1  {asked[1]}" in said
    assert f"while the batch of round 0 waited: withdrawn {asked[0]}" in said  # its batch is what changed
    assert "before round" not in said
    # with the other one gone as well nobody is waited for, and there is nothing to train on
    assert run_command(pool, "-d", 501, "-tag", "people", "-withdraw", asked[1]) == 0
    assert run_round(*words) == 2
    assert "is annotated, so that there is nothing to train on" in capsys.readouterr().err
    assert not folder.round(1).root.exists()


def test_an_answer_that_waits_for_labels_is_not_waited_for_a_withdrawn_case(lab, capsys):
    words = ("-tag", "late", "-unit", "case", "-initial", 2)
    assert run_round(*words, "-round", 0) == 0
    folder = CampaignFolder.of(lab.roots, DATASET, "2d", "random", 0, "late", 0)
    asked = [region["case"] for region in read_json(folder.round(0).batch)["regions"]]
    # as if the label of one of them had not been there
    (folder.round(0).stages / "annotate.json").unlink()
    shutil.rmtree(folder.ledger)
    lab.files(asked[0])[1].unlink()
    assert run_round(*words) == 3
    assert run_command(pool, "-d", 501, "-tag", "late", "-withdraw", asked[0]) == 0
    for file in lab.files(asked[0])[:1]:
        file.unlink()
    assert run_round(*words) == 0
    (commit,) = read_commits(folder.ledger)
    assert [region.case for region in commit.regions] == list(commit.labels) == [asked[1]]


def test_what_reports_keep_of_a_withdrawn_case_goes_and_the_rest_is_listed(lab, capsys):
    """The pictures of a report hold slices of images, under a name that does not tell whose."""
    gone = lab.annotated()[0]
    kept = lab.folder().round(1).root / "report"

    def report() -> None:
        kept.mkdir(exist_ok=True)
        (kept / "panels.npz").write_bytes(b"slices")
        (kept / "evidence.json").write_text(json.dumps({"title": f"1: {gone}, slice 3"}))

    report()
    sentence = "The pictures and maps that reports keep of 1 round are removed, since they may show what was withdrawn."
    assert al_pool("-withdraw", gone, "--dry_run") == 0
    assert sentence in capsys.readouterr().out
    assert kept.is_dir()
    assert al_pool("-withdraw", gone) == 0
    said = capsys.readouterr().out
    assert sentence in said
    assert not kept.exists()
    assert "reports that were written before may show it" in said
    (names,) = (line for line in said.splitlines() if "only its name" in line)
    assert {"campaign.json", "regions.npz", "batch.json", "dataset.json"} <= set(names.replace(",", "").split())
    for path in lab.folder().root.rglob("*.json"):  # what names it is named
        if gone in path.read_text():
            assert path.name in names, path
    # files named after it may be deleted as the command says; what is left holds its name, and that is said
    for path in [*lab.base.joinpath("nnUNet_raw").rglob("*"), *lab.roots.preprocessed.rglob("*")]:
        if path.is_file() and path.name.startswith(gone):
            path.unlink()
    report()  # one that was at work meanwhile
    assert al_pool("-withdraw", gone) == 0
    assert not kept.exists()
    others = {*lab.decided().cases}
    assert any("only its name" in line for line in remaining_data(lab.roots, lab.folder(), lab.decided(), gone, others))
    found = remaining_data(lab.roots, lab.folder("entropy"), lab.decided("entropy"), gone, others)
    assert f"the campaign {lab.folder().root}, from which it was withdrawn too" in "\n".join(found)
    assert al_pool("-add", NEW[0]) == 2  # and a call that is refused removes nothing
    report()
    assert al_pool("-add", NEW[0], "-withdraw", lab.annotated()[1]) == 2
    assert kept.is_dir()


def test_a_test_case_that_is_put_back_is_not_said_to_be_annotated(lab, capsys):
    test, annotated = lab.decided().test_cases[0], lab.annotated()[0]
    assert al_pool("-withdraw", test, annotated) == 0
    capsys.readouterr()
    assert al_pool("-add", test, annotated) == 0
    said = capsys.readouterr().out
    assert f"Put back, with what was annotated of them: {annotated}.\n" in said
    assert f"Put back, to test on as before: {test}; models are tested on 2 cases again.\n" in said


def test_the_pool_of_a_round_is_told_from_the_changes_after_it(lab):
    def change(number: int, added: tuple = (), withdrawn: tuple = ()) -> dict:
        return {"round": number, "added": list(added), "withdrawn": list(withdrawn), "test": [], "reason": ""}

    decided = replace(
        lab.decided(),
        pool_cases=("always", "back", "late", "twice"),
        pool_changes=(
            change(1, withdrawn=("back",)), change(2, added=("late",)), change(3, added=("back",)),
            change(3, withdrawn=("twice",)), change(4, added=("twice",)),
        ),
    )  # fmt: skip
    assert pool_of_round(decided, 0) == {"always", "back", "twice"}
    assert pool_of_round(decided, 1) == {"always", "twice"}
    assert pool_of_round(decided, 2) == {"always", "late", "twice"}
    assert pool_of_round(decided, 3) == {"always", "late", "back"}
    assert pool_of_round(decided, 4) == {"always", "late", "back", "twice"}


def test_where_data_of_a_case_lies_is_told_by_whole_names(tmp_path):
    roots = Roots.below(tmp_path).create()
    folder = CampaignFolder(roots.results / DATASET / "al" / "2d__random__seed0" / "fold_0")
    for name in (
        *("ledger/000/head_1.nii.gz", "ledger/001/head_1.nii.gz", "ledger/000/head_10.nii.gz"),
        *("round_000/batch/images/head_1_0000.nii.gz", "round_000/batch/roi/head_1_3.mrk.json"),
        *("round_000/batch/returned/anna/head_1_b.nii.gz", "round_000/batch/returned/head_1/anna.nii.gz"),
        "intensities/head_1_b-0123.npz",
        "round_000/batch/returned/carl/scan.nrrd",
    ):
        file = folder.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")
    Request(DATASET, "2d", 0, 0, None, "random").decide().save(folder.decisions)
    decided = Decisions.load(folder.decisions)
    table = folder.round(0).hand_out / "collected.csv"
    table.write_text("file,case\nreturned/carl/scan.nrrd,head_1\nreturned/anna/gone.nrrd,head_1\nx.nrrd,head_10\n")
    write_json(folder.ledger / "000.json", {"labels": {"head_10": {}, "head_1_b": {}}})
    write_json(folder.ledger / "001.json", {"disagreements": ["head_1: 3 voxels"]})
    found = remaining_data(roots, folder, decided, "head_1", {"head_10", "head_1_b"})
    assert found == [
        f"1 file in {folder.ledger / '000'} (the ledger)",
        f"1 file in {folder.ledger / '001'} (the ledger)",
        f"3 files in {folder.round(0).hand_out} (round 0)",
        f"{folder.round(0).hand_out / 'returned/carl/scan.nrrd'}, which a reader returned under another name (round 0)",
        f"only its name, and numbers such as its Dice: 001.json, collected.csv in {folder.root}",
    ]


# what is refused, and what is left of it


def test_a_dry_run_writes_nothing(lab, capsys):
    lab.bring(*NEW)
    before = lab.everything()
    assert al_pool("--add", "-withdraw", "phantom_001", "--dry_run") == 0
    said = capsys.readouterr().out
    assert al_pool() == 0
    assert lab.everything() == before
    assert al_pool("--add", "-withdraw", "phantom_001") == 0
    done = capsys.readouterr().out
    what_it_says = said.replace("Nothing was changed: this was a dry run.\n", "")
    assert what_it_says != said
    assert done.endswith(what_it_says)


@pytest.mark.parametrize(
    "words, sentence",
    [
        (("-withdraw", "phantom_099"), "-withdraw phantom_099: the campaign"),
        (("-add", "phantom_099"), "has no such case; put its images there first"),
        (("-add", "phantom_008", "-withdraw", "phantom_008"), "cannot be added and withdrawn at once"),
        (("-withdraw", "POOL"), "nothing of the pool of"),
        (("-withdraw", "TEST"), "no test case of"),
        (("-add", "TEST"), "it is a test case"),
        (("-add", "phantom_777"), "phantom_777_0000.nii.gz cannot be read"),
        (("-groups", "x.tsv", "-add", "phantom_008"), "has no groups of cases"),
        (("-reason", "none"), "Nothing is to be changed"),
    ],
)  # fmt: skip
def test_refusals_change_nothing(lab, capsys, words, sentence):
    lab.bring(*NEW)
    (lab.dataset / "imagesTr" / "phantom_777_0000.nii.gz").write_bytes(b"no image")
    names = {"POOL": lab.decided().pool_cases, "TEST": lab.decided().test_cases}
    before = lab.everything()
    assert al_pool(*[name for word in words for name in names.get(word, (word,))]) == 2
    assert sentence in capsys.readouterr().err
    assert lab.everything() == before


def test_not_while_a_round_is_being_done(lab, capsys):
    begun = lab.folder().round(2).stages / "labels.json"
    begun.parent.mkdir(parents=True)
    begun.write_text("{}")
    assert al_pool("-withdraw", "phantom_001") == 2
    assert "has begun: finish it with nnUNetv2_al_round first" in capsys.readouterr().err
    begun.unlink()
    assert al_pool("-withdraw", "phantom_001", "--dry_run") == 0
    hold = (
        "from pathlib import Path\nfrom nnunet_al.campaign.lock import campaign_lock\n"
        f"with campaign_lock(Path({str(lab.folder().lock)!r})):\n    print('held', flush=True)\n    input()"
    )
    words = [sys.executable, "-c", hold]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        assert al_pool("-withdraw", "phantom_001") == 2
        other.communicate("\n")
    assert "Another process works on the campaign" in capsys.readouterr().err
    assert al_pool("-withdraw", "phantom_001") == 0


@pytest.mark.parametrize("step", ["append_regions", "commit_existing", "save"])
def test_killed_anywhere_the_same_call_finishes(lab, monkeypatch, step):
    """And another call, or a round, does not stumble over what the killed one has left."""
    lab.bring(*NEW)
    replace(lab.decided(), starts_from="dataset").save(lab.folder().decisions)
    change_pool(lab.roots, lab.folder(), PoolRequest(add=(NEW[0],)))
    expected = snapshot(lab.folder().root)
    restore(lab)
    replace(lab.decided(), starts_from="dataset").save(lab.folder().decisions)

    class Killed(BaseException):
        pass

    def killed(*_):
        raise Killed

    def kill(request: PoolRequest) -> None:
        with monkeypatch.context() as patch:
            if step == "save":
                patch.setattr(Decisions, "save", killed)
            else:
                patch.setattr(annotate if step == "commit_existing" else pool_changes, step, killed)
            with pytest.raises(Killed):
                change_pool(lab.roots, lab.folder(), request)

    before = lab.decided()
    kill(PoolRequest(add=(NEW[1],)))
    assert lab.decided() == before
    kill(PoolRequest(add=(NEW[0],)))
    assert lab.decided() == before
    if step != "save":  # else the ledger knows both, of which only one is in the pool
        change_pool(lab.roots, lab.folder(), PoolRequest(add=(NEW[0],)))
        assert snapshot(lab.folder().root) == expected
        return
    assert run_round() == 0
    labels = lab.folder().round(2).view.raw / DATASET / "labelsTr"
    assert not {f"{case}.nii.gz" for case in NEW} & {path.name for path in labels.iterdir()}
    change_pool(lab.roots, lab.folder(), PoolRequest(add=NEW))
    assert [commit.source for commit in read_commits(lab.folder().ledger)].count("dataset") == 2
    assert run_round() == 0
    labels = lab.folder().round(3).view.raw / DATASET / "labelsTr"
    assert {f"{case}.nii.gz" for case in NEW} <= {path.name for path in labels.iterdir()}


@pytest.mark.slow
def test_killed_at_any_change_and_repeated_is_undisturbed(lab, tmp_path):
    """Added, put back and withdrawn in one call, which a kill stops before one of its writes."""
    lab.bring(*NEW)
    before, after, back = lab.annotated()[:2], lab.decided(), lab.decided().test_cases[0]
    replace(after, starts_from="dataset").save(lab.folder().decisions)
    assert al_pool("-withdraw", before[1], back) == 0
    kept = lab.folder().round(1).root / "report"
    kept.mkdir()
    (kept / "panels.npz").write_bytes(b"slices")
    shutil.copytree(lab.base, tmp_path / "before", symlinks=True)
    log = tmp_path / "log.txt"

    def found() -> dict[str, str]:
        files = snapshot(lab.roots.results, lab.roots.raw)
        return {path: mark for path, mark in files.items() if "/lock" not in path}

    def change() -> int:
        return al_pool("-add", *NEW, before[1], back, "-withdraw", before[0])

    moments = moments_of(lab.roots.results, change, log)
    wanted = found()
    assert not kept.exists()
    for moment in some_of(moments, KILLS):
        shutil.rmtree(lab.base)
        shutil.copytree(tmp_path / "before", lab.base, symlinks=True)
        kill_at(lab.roots.results, moment, change, log)
        decided = lab.decided()
        assert NEW[0] not in decided.cases or before[0] in decided.withdrawn_cases, "half of it was decided"
        assert wait(forked(change, log)) == 0, (moment, log.read_text())
        assert found() == wanted, moment


def test_an_image_that_was_replaced_is_refused(lab, capsys):
    case = lab.annotated()[0]
    brighten(lab.files(case)[0])
    lab.bring(*NEW)
    before = lab.everything()
    for command in (run_round, lambda: al_pool("--add")):
        assert command() == 2
        said = capsys.readouterr().err
        assert f"The image of {case}" in said
        assert "is not the one that the campaign" in said
        assert f"nnUNetv2_al_pool -withdraw {case}" in said
    assert lab.everything() == before
    # as it says: the case goes, and the new image may come under a name of its own
    for file, other in zip(lab.files(case), lab.files("phantom_100"), strict=True):
        shutil.move(file, other)
    assert al_pool("-withdraw", case, "-add", "phantom_100") == 0
    assert run_round() == 0


@pytest.mark.parametrize(
    "labels",
    [
        {"background": 0, "organ": 1, "lesion": 2, "vessel": 3},
        {"background": 0, "lesion": 1, "organ": 2},
        {"background": 0, "organ": 1, "tumour": 2},
    ],
    ids=["added", "renumbered", "renamed"],
)
def test_classes_that_changed_are_refused(lab, capsys, labels):
    file = lab.dataset / "dataset.json"
    assert read_json(file)["labels"] == {"background": 0, "organ": 1, "lesion": 2}
    file.write_text(json.dumps({**read_json(file), "labels": labels}))
    lab.bring(*NEW)
    before = lab.everything()
    for code in (run_round(), al_pool("--add")):
        assert code == 2
    assert capsys.readouterr().err.count("is not as it was when the campaign") == 2
    assert lab.everything() == before


def test_an_ignore_label_that_is_declared_later_changes_nothing(lab):
    assert run_round("-s", "entropy") == 0
    expected, metrics = lab.batch(2, "entropy"), read_json(lab.folder("entropy").round(2).metrics)
    restore(lab, "entropy")
    file = lab.dataset / "dataset.json"
    content = read_json(file)
    file.write_text(json.dumps({**content, "labels": {**content["labels"], "ignore": 3}}))
    assert run_round("-s", "entropy") == 0
    assert lab.batch(2, "entropy") == expected
    assert read_json(lab.folder("entropy").round(2).metrics) == metrics


# what is shown


def test_the_pool_is_shown(lab, capsys):
    lab.bring(NEW[1])
    annotated = lab.annotated()
    untouched = sorted(set(lab.decided().pool_cases) - set(annotated))
    assert al_pool() == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["annotated", str(len(annotated)), *", ".join(annotated).split()] in lines
    assert not untouched or ["untouched", str(len(untouched)), *", ".join(untouched).split()] in lines
    assert lines[-1][-2:] == ["1", NEW[1]]
    assert al_pool("-withdraw", annotated[0], "-reason", "blurred by motion") == 0
    capsys.readouterr()
    assert al_pool() == 0
    said = capsys.readouterr().out
    assert f"before round 2: withdrawn {annotated[0]} (blurred by motion)" in said
    assert al_pool("-withdraw", annotated[0]) == 0
    assert f"As asked for already: {annotated[0]}." in capsys.readouterr().out
    assert len(lab.decided().pool_changes) == 1


def test_cases_that_a_split_file_leaves_out_are_not_new(lab, capsys):
    lab.bring(NEW[0])
    cases = sorted(path.name.removesuffix("_0000.nii.gz") for path in (lab.dataset / "imagesTr").iterdir())
    split = {"train": cases[2:-1], "val": cases[:2]}
    file = lab.roots.preprocessed / DATASET / "splits_final.json"
    file.write_text(json.dumps([split]))
    assert run_round("-tag", "split") == 0
    lab.bring(NEW[1])
    assert run_command(pool, "-d", 501, "-tag", "split") == 0
    said = capsys.readouterr().out
    assert f"left out when it began                       1  {NEW[0]}" in said
    assert run_command(pool, "-d", 501, "-tag", "split", "--add") == 0
    folder = CampaignFolder.of(lab.roots, DATASET, "2d", "random", 0, "split", 0)
    assert Decisions.load(folder.decisions).left_out_cases == (NEW[0],)
    assert NEW[1] in Decisions.load(folder.decisions).pool_cases
    assert run_command(pool, "-d", 501, "-tag", "split", "-add", NEW[0]) == 0
    assert Decisions.load(folder.decisions).left_out_cases == ()
