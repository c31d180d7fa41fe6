"""What readers return is taken where it answers what was asked, else refused with a sentence; files stay as they were.

slicerio writes as 3D Slicer does, SimpleITK and nibabel as ITK-SNAP and 3D Slicer's export do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
import slicerio

from nnunet_al.annotation.cost import annotation_cost
from nnunet_al.annotation.expected_case import ExpectedCase
from nnunet_al.annotation.fusion import fuse
from nnunet_al.annotation.grids import Grid
from nnunet_al.annotation.import_check import Reading, check_returned
from nnunet_al.annotation.review_sheet import read_sheet
from nnunet_al.annotation.segments import Segment
from nnunet_al.annotation.volumes import write_nifti, write_seg_nrrd
from nnunet_al.errors import ReturnError
from nnunet_al.pool.boxes import to_slices

SEGMENTS = (
    Segment(1, "left_kidney", (230, 159, 0)),
    Segment(2, "right_kidney", (86, 180, 233)),
    Segment(3, "Tumour", (0, 158, 115)),
)
IGNORE = 4
SIZE_IJK = (14, 12, 10)
SHAPE = SIZE_IJK[::-1]
TURN = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]])
GRID = Grid(SIZE_IJK, (0.7, 0.9, 2.5), (-12.5, 30.25, 7.0), tuple(TURN.ravel()))
BOXES = {1: ((0, 4), (0, 12), (0, 14)), 5: ((6, 9), (2, 10), (1, 13))}
SLICER_ORDER = ((1, "left_kidney"), (2, "right_kidney"), (3, "Tumour"))


def organs(shift: int = 0) -> np.ndarray:
    """Two kidneys and a tumour in a box of labels; another case has them somewhere else."""
    labels = np.zeros(SHAPE, np.int32)
    labels[1:8, 2 + shift : 6 + shift, 1:5] = 1
    labels[1:8, 2 + shift : 6 + shift, 8:12] = 2
    labels[2:8, 3 + shift : 5 + shift, 9:11] = 3
    return labels


def corrected() -> np.ndarray:
    """What a reader makes of it: changes inside of both regions only."""
    labels = organs()
    labels[1:4, 6, 1:5] = 1
    labels[7, 3:5, 9:11] = 2
    return labels


@pytest.fixture
def asked() -> ExpectedCase:
    return ExpectedCase("case_a", GRID, organs(), np.full(SHAPE, IGNORE, np.int32), IGNORE, BOXES)


@pytest.fixture(autouse=True)
def files_stay_as_they_were(tmp_path: Path) -> Iterator[None]:
    yield
    for path, digest in WRITTEN.items():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == digest, f"{path} was changed"
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == set(WRITTEN), "the gate writes nothing"
    WRITTEN.clear()


WRITTEN: dict[Path, str] = {}


def written(path: Path) -> Path:
    WRITTEN[path] = hashlib.sha256(path.read_bytes()).hexdigest()
    return path


def slicer(
    folder: Path,
    layers_kji: np.ndarray | Sequence[np.ndarray],
    segments: Sequence[tuple[int, str] | tuple[int, str, int]] = SLICER_ORDER,
    case: str | None = None,
    name: str = "case_a.seg.nrrd",
    extent_kji: Sequence[tuple[int, int]] | None = None,
) -> Path:
    """Save as 3D Slicer does: (value, name[, layer]) of each segment, cropped to an extent where one is given."""
    layers = [layers_kji] if isinstance(layers_kji, np.ndarray) else list(layers_kji)
    start_kji = [0, 0, 0]
    if extent_kji is not None:
        layers = [layer[to_slices(tuple(extent_kji))] for layer in layers]
        start_kji = [low for low, _ in extent_kji]
    matrix = np.eye(4)
    matrix[:3, :3] = GRID.matrix
    matrix[:3, 3] = GRID.points_mm([start_kji[::-1]])[0]
    voxels = np.stack([layer.transpose(2, 1, 0) for layer in layers]).astype(np.uint8)
    tags = {"nnunet_al.case": case} if case else {}
    content = {
        "voxels": voxels if len(layers) > 1 else voxels[0],
        "ijkToLPS": matrix,
        "containedRepresentationNames": ["Binary labelmap", "Closed surface"],
        "segments": [
            {"id": f"Segment_{n}", "name": name, "labelValue": value, "layer": (*more, 0)[0], "tags": tags}
            for n, (value, name, *more) in enumerate(segments)
        ],
    }
    slicerio.write_segmentation(str(folder / name), content)
    return written(folder / name)


def snap(folder: Path, labels_kji: np.ndarray, name: str = "case_a.nii.gz", grid: Grid = GRID) -> Path:
    """Save as ITK-SNAP does: numbers only, 16 bits."""
    SimpleITK.WriteImage(grid.image(labels_kji.astype(np.int16)), folder / name)
    return written(folder / name)


def renumbered(labels: np.ndarray, numbers: Mapping[int, int]) -> np.ndarray:
    result = np.zeros_like(labels)
    for old, new in numbers.items():
        result[labels == old] = new
    return result


def take(path: Path, asked: ExpectedCase, reviewed: Sequence[int] = (1, 5), **options: object) -> Reading:
    return check_returned(path, asked, SEGMENTS, reviewed, options.pop("others", ()), **options)


def refusal(path: Path, asked: ExpectedCase, reviewed: Sequence[int] = (1, 5), **options: object) -> str:
    with pytest.raises(ReturnError) as caught:
        take(path, asked, reviewed, **options)
    sentence = str(caught.value)
    assert path.name in sentence
    assert sentence.endswith(".")
    assert str(path.parent) not in sentence
    return sentence


def expected(labels: np.ndarray, ranks: Sequence[int] = (1, 5)) -> np.ndarray:
    result = np.full(SHAPE, IGNORE)
    for rank in ranks:
        result[to_slices(BOXES[rank])] = labels[to_slices(BOXES[rank])]
    return result


def check(reading: Reading, labels: np.ndarray, ranks: Sequence[int] = (1, 5)) -> None:
    assert reading.case == "case_a"
    assert reading.ranks == tuple(ranks)
    assert np.array_equal(reading.labels_kji, expected(labels, ranks))


class TestWhatIsTaken:
    def test_inside_the_regions_only(self, tmp_path, asked):
        reading = take(slicer(tmp_path, corrected()), asked)
        check(reading, corrected())
        assert (reading.edits_outside, reading.disagreements, reading.remarks) == (0, 0, ())

    @pytest.mark.parametrize("order", permutations((1, 2, 3)))
    def test_segments_renumbered_and_in_any_order(self, tmp_path, asked, order):
        numbers = dict(zip((1, 2, 3), order, strict=True))
        names = [(numbers[segment.value], segment.name) for segment in SEGMENTS]
        check(take(slicer(tmp_path, renumbered(corrected(), numbers), sorted(names)), asked), corrected())

    @pytest.mark.parametrize("name", ["Left Kidney", "LEFT_KIDNEY", " left  kidney"])
    def test_names_but_for_case_blanks_and_underscores(self, tmp_path, asked, name):
        path = slicer(tmp_path, corrected(), [(1, name), (2, "right_kidney"), (3, "tumour")])
        check(take(path, asked), corrected())

    def test_the_exact_name_goes_first(self, tmp_path, asked):
        segments = (Segment(1, "A b", (0, 0, 0)), Segment(2, "a_b", (0, 0, 1)))
        labels = np.where(organs() == 3, 2, organs())
        path = slicer(tmp_path, renumbered(labels, {1: 2, 2: 1}), [(1, "a_b"), (2, "A b")])
        reading = check_returned(path, replace(asked, ignore=3, earlier_kji=np.full(SHAPE, 3)), segments, [1], ())
        inside = to_slices(BOXES[1])
        assert np.array_equal(reading.labels_kji[inside], labels[inside])

    def test_a_file_cropped_to_its_segments(self, tmp_path, asked):
        labels = corrected()
        extent = [(int(at.min()), int(at.max()) + 1) for at in np.nonzero(labels)]
        check(take(slicer(tmp_path, labels, extent_kji=extent), asked), labels)

    def test_segments_on_several_layers(self, tmp_path, asked):
        labels = corrected()
        layers = [np.where(labels == 1, 1, 0) + np.where(labels == 3, 2, 0), np.where(labels == 2, 1, 0)]
        names = [(1, "left_kidney", 0), (2, "Tumour", 0), (1, "right_kidney", 1)]
        check(take(slicer(tmp_path, layers, names), asked), labels)

    def test_our_own_file_with_other_labels(self, tmp_path, asked):
        write_seg_nrrd(tmp_path / "case_a.seg.nrrd", corrected(), GRID, SEGMENTS, "case_a")
        check(take(written(tmp_path / "case_a.seg.nrrd"), asked), corrected())

    @pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha"])
    def test_numbers_where_nothing_is_named(self, tmp_path, asked, ending):
        check(take(snap(tmp_path, corrected(), "case_a" + ending), asked), corrected())

    def test_as_nibabel_writes_it(self, tmp_path, asked):
        affine = np.eye(4)
        affine[:3, :3], affine[:3, 3] = GRID.matrix, GRID.origin_mm
        ras = np.diag([-1, -1, 1, 1]) @ affine
        image = nibabel.Nifti1Image(corrected().transpose(2, 1, 0).astype(np.float32), ras)
        nibabel.save(image, tmp_path / "case_a.nii.gz")
        check(take(written(tmp_path / "case_a.nii.gz"), asked), corrected())

    @pytest.mark.parametrize("axes", ["LPS", "RAS", "PIR", "SAL"])
    def test_axes_in_another_order(self, tmp_path, asked, axes):
        straight = replace(GRID, direction=tuple(np.eye(3).ravel()))
        turned = SimpleITK.DICOMOrient(straight.image(corrected().astype(np.uint8)), axes)
        SimpleITK.WriteImage(turned, tmp_path / "case_a.nii.gz")
        check(take(written(tmp_path / "case_a.nii.gz"), replace(asked, grid=straight)), corrected())

    def test_a_label_table_beside_the_file_gives_the_names(self, tmp_path, asked):
        numbers = {1: 2, 2: 3, 3: 1}
        path = snap(tmp_path, renumbered(corrected(), numbers))
        table = tmp_path / "case_a.label"
        names = {numbers[segment.value]: segment.name for segment in SEGMENTS}
        table.write_text("".join(f'{value} 1 2 3 1 1 1 "{name}"\n' for value, name in names.items()))
        written(table)
        check(take(path, asked), corrected())

    def test_names_known_from_elsewhere(self, tmp_path, asked):
        path = snap(tmp_path, renumbered(corrected(), {1: 2, 2: 3, 3: 1}))
        check(take(path, asked, names={2: "left kidney", 3: "right kidney", 1: "tumour"}), corrected())

    def test_in_round_0_nothing_was_handed_out(self, tmp_path, asked):
        empty = replace(asked, handed_out_kji=np.zeros(SHAPE, np.int32))
        labels = np.where(expected(corrected()) == IGNORE, 0, corrected())
        reading = take(snap(tmp_path, labels), empty, others=[empty])
        check(reading, corrected())
        assert reading.edits_outside == 0

    def test_a_background_segment_is_background(self, tmp_path, asked):
        labels = np.where(corrected() == 0, 4, corrected())
        check(take(slicer(tmp_path, labels, [*SLICER_ORDER, (4, "Background")]), asked), corrected())

    def test_inputs_stay_as_they_were(self, tmp_path, asked):
        for array in (asked.handed_out_kji, asked.earlier_kji):
            array.setflags(write=False)
        check(take(slicer(tmp_path, corrected()), asked), corrected())


class TestWhatIsRemarked:
    def test_changes_outside_are_counted_and_not_used(self, tmp_path, asked):
        labels = corrected()
        labels[9] = 3  # 12 x 14 voxels of a slice that belongs to no region
        labels[4, 2, 1] = 0  # one voxel of a kidney between the regions
        reading = take(snap(tmp_path, labels), asked)
        check(reading, labels)
        assert reading.edits_outside == 12 * 14 + 1
        assert reading.remarks == ("Changes outside the requested regions are not used: 169 voxels.",)

    def test_what_lies_outside_of_the_image_is_counted_and_not_used(self, tmp_path, asked):
        larger = np.zeros((12, 12, 14), np.int32)
        larger[:10] = corrected()
        larger[11, 0, :5] = 1
        reading = take(slicer(tmp_path, larger), asked)
        check(reading, corrected())
        assert reading.edits_outside == 5

    def test_a_region_that_is_not_reviewed_is_not_taken(self, tmp_path, asked):
        reading = take(slicer(tmp_path, corrected()), asked, reviewed=(5, 77))
        check(reading, corrected(), ranks=(5,))
        assert reading.edits_outside == 0, "changes in a region asked for lie not outside"
        assert reading.remarks == ("Not marked as reviewed and not used: rank 1.",)

    def test_the_first_annotation_stands(self, tmp_path, asked):
        earlier = asked.earlier_kji.copy()
        earlier[0:2] = organs()[0:2]
        earlier[5] = organs()[5]  # in no region
        labels = corrected()
        labels[5, 0, 0:2] = 1
        reading = take(slicer(tmp_path, labels), replace(asked, earlier_kji=earlier))
        wanted = expected(labels)
        wanted[0:2] = IGNORE
        assert np.array_equal(reading.labels_kji, wanted)
        assert reading.disagreements == 4  # the reader's row of the left kidney in slice 1
        assert reading.edits_outside == 2
        assert reading.remarks[-1] == ("Earlier annotations are kept where the file has another label: 4 voxels.")

    def test_a_region_annotated_before_in_full_is_answered_with_nothing_new(self, tmp_path, asked):
        reading = take(slicer(tmp_path, organs()), replace(asked, earlier_kji=organs()))
        assert reading.ranks == (1, 5)
        assert (reading.labels_kji == IGNORE).all()
        assert reading.remarks == ("Everything in the reviewed regions was annotated before.",)

    def test_an_untouched_file_is_an_answer_once_it_is_reviewed(self, tmp_path, asked):
        reading = take(slicer(tmp_path, organs()), asked)
        check(reading, organs())
        assert reading.remarks == (
            "Nothing was changed in the reviewed regions: they are used as they were handed out.",
        )

    def test_empty_segments_may_have_any_name(self, tmp_path, asked):
        reading = take(slicer(tmp_path, corrected(), [*SLICER_ORDER, (4, "Segment_4"), (5, "tumour")]), asked)
        check(reading, corrected())
        assert reading.remarks == ("Empty segments that the dataset does not have were ignored: 'Segment_4'.",)

    def test_a_class_that_has_gone_is_told(self, tmp_path, asked):
        labels = np.where(corrected() == 3, 2, corrected())
        reading = take(slicer(tmp_path, labels, SLICER_ORDER[:2]), asked)
        check(reading, labels)
        assert reading.remarks[-1] == "Handed out in the reviewed regions and missing in the file: 'Tumour'."


class TestWhatIsRefused:
    def test_a_truncated_file(self, tmp_path, asked):
        for whole in (slicer(tmp_path, corrected()), snap(tmp_path, corrected())):
            content = whole.read_bytes()
            whole.write_bytes(content[: len(content) * 2 // 3])
            refusal(written(whole), asked)

    def test_a_file_of_another_case_by_its_tag(self, tmp_path, asked):
        sentence = refusal(slicer(tmp_path, corrected(), case="case_b"), asked)
        assert "case_b" in sentence
        check(take(slicer(tmp_path, corrected(), case="case_a"), asked), corrected())

    @pytest.mark.parametrize(
        "other",
        [
            replace(GRID, spacing_mm=(0.7, 0.9, 2.6)),
            replace(GRID, origin_mm=(-12.5, 30.25, 8.0)),
            replace(GRID, direction=tuple(np.eye(3).ravel())),
        ],
    )
    def test_another_geometry(self, tmp_path, asked, other):
        assert "The grid is not the image's" in refusal(snap(tmp_path, corrected(), grid=other), asked)

    def test_another_size(self, tmp_path, asked):
        refusal(snap(tmp_path, corrected()[:9], grid=replace(GRID, size_ijk=(14, 12, 9))), asked)

    def test_an_unknown_name(self, tmp_path, asked):
        sentence = refusal(slicer(tmp_path, corrected(), [*SLICER_ORDER[:2], (3, "Segment_3")]), asked)
        assert "'Segment_3'" in sentence
        assert "'left_kidney', 'right_kidney', 'Tumour'" in sentence

    def test_voxels_without_a_name(self, tmp_path, asked):
        assert "number 3" in refusal(slicer(tmp_path, corrected(), SLICER_ORDER[:2]), asked)

    def test_a_class_twice(self, tmp_path, asked):
        labels = corrected()
        labels[0, 0, 0] = 4
        sentence = refusal(slicer(tmp_path, labels, [*SLICER_ORDER, (4, "tumour")]), asked)
        assert "'Tumour' and 'tumour'" in sentence

    def test_overlapping_segments(self, tmp_path, asked):
        labels = corrected()
        tumour = np.zeros_like(labels)
        tumour[2:4, 3:5, 4:7] = 1  # 2 x 2 voxels of them, of two slices, in the left kidney: 4
        kidneys = np.where(labels == 3, 0, labels)
        names = [(1, "left_kidney", 0), (2, "right_kidney", 0), (1, "Tumour", 1)]
        sentence = refusal(slicer(tmp_path, [kidneys, tumour], names), asked)
        assert "4 voxels" in sentence
        assert "'left_kidney' and in 'Tumour'" in sentence

    @pytest.mark.parametrize("number", [5, 300, -1])
    def test_an_undeclared_number(self, tmp_path, asked, number):
        labels = corrected()
        labels[0, 0, 0] = number
        sentence = refusal(snap(tmp_path, labels), asked)
        assert f"number {number}," in sentence
        assert "1 (left_kidney), 2 (right_kidney), 3 (Tumour)" in sentence

    def test_ignore_is_never_painted(self, tmp_path, asked):
        labels = corrected()
        labels[0, 0, 0] = IGNORE
        assert "never painted" in refusal(snap(tmp_path, labels), asked)
        assert "never painted" in refusal(slicer(tmp_path, labels, [*SLICER_ORDER, (4, "ignore")]), asked)

    @pytest.mark.parametrize("numbers", [{1: 2, 2: 1, 3: 3}, {1: 3, 2: 1, 3: 2}, {2: 1, 3: 2}, {2: 1}])
    def test_numbers_given_anew_on_export(self, tmp_path, asked, numbers):
        path = snap(tmp_path, renumbered(corrected(), numbers))
        assert "renumbered" in refusal(path, asked)
        (tmp_path / "labels.txt").write_text("".join(f'{s.value} 1 2 3 1 1 1 "{s.name}"\n' for s in SEGMENTS))
        written(tmp_path / "labels.txt")
        assert "renumbered" in refusal(path, asked), "a table for all files proves nothing"

    def test_what_is_marked_nowhere(self, tmp_path, asked):
        path = slicer(tmp_path, corrected())
        for reviewed in ([], [2, 77]):
            assert "not marked as reviewed in batch.csv" in refusal(path, asked, reviewed=reviewed)

    def test_a_file_of_another_case_by_its_looks(self, tmp_path, asked):
        other = replace(asked, case="case_b", handed_out_kji=organs(shift=5))
        small = replace(asked, case="small", handed_out_kji=organs()[:5])
        labels = organs(shift=5)
        labels[2, 10, 1:5] = 1
        assert "looks like the pre-segmentation of case_b" in refusal(
            snap(tmp_path, labels), asked, others=[asked, small, other]
        )
        check(take(slicer(tmp_path, labels, case="case_a"), asked, others=[other]), labels)


class TestWhatIsNotMistaken:
    def test_a_border_between_classes_that_moves(self, tmp_path, asked):
        """The model called both kidneys left; the reader calls one of them right."""
        labels = organs()
        handed_out = np.where(labels == 2, 1, labels)
        check(take(snap(tmp_path, labels), replace(asked, handed_out_kji=handed_out)), labels)

    def test_classes_swapped_by_a_reader_who_says_so(self, tmp_path, asked):
        labels = renumbered(organs(), {1: 2, 2: 1, 3: 3})
        (tmp_path / "case_a.label").write_text("".join(f'{s.value} 1 2 3 1 1 1 "{s.name}"\n' for s in SEGMENTS))
        written(tmp_path / "case_a.label")
        check(take(snap(tmp_path, labels), asked), labels)

    def test_a_class_that_takes_the_place_of_another_as_well(self, tmp_path, asked):
        labels = np.where(organs() == 2, 1, organs())
        check(take(snap(tmp_path, labels), asked), labels)

    def test_small_segments(self, tmp_path, asked):
        handed_out, labels = np.zeros((2, *SHAPE), np.int32)
        handed_out[0, 0, :10] = 1
        labels[0, 0, :10] = 2
        check(take(snap(tmp_path, labels), replace(asked, handed_out_kji=handed_out)), labels)

    def test_a_case_that_looks_like_another_and_like_itself(self, tmp_path, asked):
        twin = replace(asked, case="case_b")
        check(take(snap(tmp_path, corrected()), asked, others=[twin]), corrected())

    def test_everything_removed(self, tmp_path, asked):
        empty = replace(asked, case="case_b", handed_out_kji=np.zeros(SHAPE, np.int32))
        labels = np.zeros(SHAPE, np.int32)
        reading = take(snap(tmp_path, labels), asked, others=[empty])
        check(reading, labels)

    def test_others_are_not_read_without_need(self, tmp_path, asked):
        def unread() -> Iterator[ExpectedCase]:
            raise AssertionError("nobody asked for it")
            yield

        check(take(snap(tmp_path, corrected()), asked, others=unread()), corrected())


def test_two_readers_from_their_files_to_one_label(tmp_path, asked):
    """One in 3D Slicer, one in ITK-SNAP; the second has reviewed one region of two."""
    other = corrected()
    other[1:3, 0, 0] = 1
    folders = [tmp_path / "reader_1", tmp_path / "reader_2"]
    for folder in folders:
        folder.mkdir()
    numbers = {1: 3, 2: 1, 3: 2}
    names = [(numbers[segment.value], segment.name) for segment in SEGMENTS]
    files = [slicer(folders[0], renumbered(corrected(), numbers), names, case="case_a"), snap(folders[1], other)]
    sheets = ["rank;case;reviewed;minutes\r\n1;case_a;x;7,5\r\n5;case_a;x;\r\n", "CASE,RANK,REVIEWED\ncase_a,1,yes\n"]
    readings = []
    for folder, file, text in zip(folders, files, sheets, strict=True):
        (folder / "batch.csv").write_text(text)
        written(folder / "batch.csv")
        reviews = read_sheet(folder / "batch.csv")
        readings.append(take(file, asked, [rank for (_, rank), review in reviews.items() if review.reviewed]))
    assert [reading.ranks for reading in readings] == [(1, 5), (1,)]
    consensus = fuse([reading.labels_kji for reading in readings], "staple", IGNORE)
    wanted = expected(corrected())
    wanted[1:3, 0, 0] = IGNORE  # nobody can tell who is right
    assert np.array_equal(consensus.labels_kji, wanted)
    assert (consensus.differing_voxels, consensus.undecided_voxels) == (2, 2)
    cost = annotation_cost(consensus.labels_kji, GRID.spacing_mm[::-1], IGNORE)
    assert cost.annotated_voxels == 4 * 12 * 14 + 3 * 8 * 12 - 2


def test_a_nifti_of_ours_bears_its_case(tmp_path, asked):
    write_nifti(tmp_path / "case_a.nii.gz", corrected(), GRID, "case_b")
    assert "case_b" in refusal(written(tmp_path / "case_a.nii.gz"), asked)


def test_taking_a_file_twice_gives_the_same(tmp_path, asked):
    path = slicer(tmp_path, corrected())
    first, again = take(path, asked), take(path, asked)
    assert np.array_equal(first.labels_kji, again.labels_kji)
    assert replace(first, labels_kji=None) == replace(again, labels_kji=None)
