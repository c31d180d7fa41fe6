"""What a case contributes to the fingerprint is drawn once, kept, and drawn again when anything about it changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nnunet_al.nnunet import intensity_samples as module, workers
from nnunet_al.nnunet.environment import Roots
from nnunet_al.nnunet.fingerprint import extract_fingerprint
from nnunet_al.nnunet.intensity_samples import SampleRule, case_samples
from nnunet_al.nnunet.raw_dataset import RawDataset
from nnunet_al.nnunet.verification import verify_dataset

from .phantoms import compose, make_dataset

IGNORE = 3
RULE = SampleRule(700, IGNORE)
PART = [((0, 12), (0, 18), (0, 11))]


@pytest.fixture
def dataset(tmp_path):
    roots = Roots.below(tmp_path / "roots").create()
    return RawDataset.read(make_dataset(roots.raw / "Dataset501_Toy", "ct", n_channels=2))


@pytest.fixture
def annotated(dataset, tmp_path):
    """Per case its images and a composed label."""
    return {case: (files.images, annotate(dataset, tmp_path, case, PART)) for case, files in dataset.cases.items()}


@pytest.fixture
def facts(dataset):
    return verify_dataset(dataset)


@pytest.fixture
def drawn(monkeypatch):
    """The cases that are drawn."""
    cases, real = [], module.draw_sample
    monkeypatch.setattr(
        module, "draw_sample", lambda images, label, *rest: cases.append(label.name[:7]) or real(images, label, *rest)
    )
    return cases


def annotate(dataset, folder, case, boxes):
    files = dataset.cases[case]
    return compose(files.label, files.images[0], boxes, IGNORE, folder / "labels" / f"{case}.nii.gz")


def plain(samples):
    return [[(part.values_M.tolist(), part.counts_M.tolist()) for part in case] for case in samples]


def test_kept_samples_are_those_that_would_be_drawn(annotated, facts, tmp_path, drawn):
    folder = tmp_path / "intensities"
    expected = plain(case_samples(annotated, facts, RULE))
    assert [sum(counts) for case in expected for _, counts in case] == [RULE.samples] * 2 * len(annotated)
    assert not folder.exists()
    drawn.clear()
    assert plain(case_samples(annotated, facts, RULE, folder)) == expected
    assert drawn == sorted(annotated)
    files = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert len(files) == len(annotated)
    drawn.clear()
    assert plain(case_samples(dict(reversed(annotated.items())), facts, RULE, folder)) == expected
    assert drawn == []
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == files


def test_only_a_case_with_another_label_is_drawn_again(dataset, annotated, facts, tmp_path, drawn):
    folder = tmp_path / "intensities"
    before = plain(case_samples(annotated, facts, RULE, folder))
    annotate(dataset, tmp_path, "case_02", None)
    drawn.clear()
    after = plain(case_samples(annotated, facts, RULE, folder))
    assert drawn == ["case_02"]
    changed = sorted(annotated).index("case_02")
    assert [a != b for a, b in zip(after, before, strict=True)] == [i == changed for i in range(len(annotated))]
    assert after == plain(case_samples(annotated, facts, RULE))
    assert len(list(folder.iterdir())) == len(annotated), "the sample of the old label has gone"


def test_whatever_a_sample_depends_on_makes_it_another(annotated, facts, tmp_path, drawn, monkeypatch):
    folder = tmp_path / "intensities"
    one = {"case_01": annotated["case_01"]}
    other_image = {"case_01": replace(facts["case_01"], image_hashes=("0", "1"))}
    case_samples(one, facts, RULE, folder)
    for rule, known in ((RULE._replace(samples=5), facts), (RULE._replace(ignore=2), facts), (RULE, other_image)):
        drawn.clear()
        case_samples(one, known, rule, folder)
        assert drawn == ["case_01"]
    case_samples(one, facts, RULE, folder)
    monkeypatch.setattr(module, "version", lambda _: "2.9.9")
    drawn.clear()
    case_samples(one, facts, RULE, folder)
    assert drawn == ["case_01"]


@pytest.mark.parametrize("harm", ["gone", "empty", "cut", "other content"])
def test_missing_and_broken_samples_are_drawn_again(annotated, facts, tmp_path, drawn, harm):
    folder = tmp_path / "intensities"
    expected = plain(case_samples(annotated, facts, RULE, folder))
    victim = next(folder.glob("case_03-*.npz"))
    content = victim.read_bytes()
    if harm == "gone":
        victim.unlink()
    elif harm == "other content":
        np.savez(victim, values_0=np.zeros(3), something=np.zeros(3))
    else:
        victim.write_bytes(b"" if harm == "empty" else content[: len(content) // 2])
    drawn.clear()
    assert plain(case_samples(annotated, facts, RULE, folder)) == expected
    assert drawn == ["case_03"]
    assert victim.read_bytes() == content


def test_a_kill_leaves_what_is_complete(annotated, facts, tmp_path, drawn, monkeypatch):
    folder = tmp_path / "intensities"
    expected = plain(case_samples(annotated, facts, RULE))
    real, calls = module.write_arrays, []

    def killed(path, **arrays):
        calls.append(path)
        if len(calls) == 3:
            raise KeyboardInterrupt
        real(path, **arrays)

    monkeypatch.setattr(module, "write_arrays", killed)
    with pytest.raises(KeyboardInterrupt):
        case_samples(annotated, facts, RULE, folder)
    assert len(list(folder.iterdir())) == 2
    drawn.clear()
    assert plain(case_samples(annotated, facts, RULE, folder)) == expected
    assert drawn == sorted(annotated)[2:]


def test_a_fingerprint_from_kept_samples_is_the_same(dataset, annotated, facts, tmp_path, drawn):
    arguments = (annotated, facts, 2, len(facts), IGNORE)
    plain_one = extract_fingerprint(*arguments, max_voxels=1e4)
    kept = [extract_fingerprint(*arguments, max_voxels=1e4, samples=tmp_path / "kept") for _ in range(2)]
    assert kept == [plain_one] * 2
    assert len(drawn) == 2 * len(annotated)
    annotate(dataset, tmp_path, "case_00", [])  # a case without foreground makes nnU-Net's voxels double precision
    assert extract_fingerprint(*arguments, max_voxels=1e4, samples=tmp_path / "kept") == extract_fingerprint(
        *arguments, max_voxels=1e4
    )


@pytest.mark.slow
def test_processes_draw_and_keep_the_same(annotated, facts, tmp_path, monkeypatch):
    expected = plain(case_samples(annotated, facts, RULE, tmp_path / "here"))
    monkeypatch.setattr(workers, "MAX_VOXELS_IN_PROCESS", 0)
    assert plain(case_samples(annotated, facts, RULE, tmp_path / "there", workers=2)) == expected
    for path in (tmp_path / "here").iterdir():
        assert (tmp_path / "there" / path.name).read_bytes() == path.read_bytes()
