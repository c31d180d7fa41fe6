"""What readers may return that cannot be taken, each with its sentence: no traceback, and nothing enters the ledger."""

from __future__ import annotations

import gzip
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 -- the name everybody knows
from tiny_rounds import DATASET, campaign_folder, run_command, run_round, snapshot

from nnunet_al.annotation.grids import read_grid
from nnunet_al.annotation.segment_header import case_tag, short_tag
from nnunet_al.annotation.volumes import write_nifti
from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.cli.collect import main as collect_main
from nnunet_al.files import read_json
from nnunet_al.synthetic.image_file import write_image

pytestmark = pytest.mark.slow

SHAPE = (8, 24, 20)
NRRD = """NRRD0004
type: uint8
dimension: 3
space: left-posterior-superior
sizes: 20 24 8
space directions: (1,0,0) (0,1,0) (0,0,2)
space origin: (0,0,0)
encoding: {encoding}
"""
META = """ObjectType = Image
NDims = 3
BinaryData = True
CompressedData = False
TransformMatrix = 1 0 0 0 1 0 0 0 1
Offset = 0 0 0
ElementSpacing = 1 1 2
DimSize = 20 24 8
ElementType = MET_UCHAR
"""


@dataclass
class Lab:
    """A batch of slices that was handed out in round 0, of cases whose images have one grid."""

    folder: CampaignFolder

    def __post_init__(self) -> None:
        self.batch = self.folder.round(0).hand_out
        self.returned = self.batch / "returned"
        self.asked: dict[str, list[list[int]]] = {}
        for region in read_json(self.folder.round(0).batch)["regions"]:
            self.asked.setdefault(region["case"], []).append(region["box"])
        # two cases of which each has regions that the other does not have
        pairs = [(a, b) for a in sorted(self.asked) for b in sorted(self.asked) if a != b]
        self.case, self.other = next(
            (a, b) for a, b in pairs if self.alone(a, b) and self.alone(b, a) and "case_x" not in a
        )

    def alone(self, case: str, other: str) -> list[list[int]]:
        return [box for box in self.asked[case] if box not in self.asked[other]]

    def drawn(self, boxes: list[list[int]] | None = None, value: int = 1) -> np.ndarray:
        """Labels in regions, by default in those of the case."""
        labels = np.zeros(SHAPE, np.uint8)
        for box in self.asked[self.case] if boxes is None else boxes:
            labels[tuple(slice(*side) for side in box)][..., 4:9, 4:9] = value
        return labels

    def path(self, ending: str, case: str | None = None) -> Path:
        return self.returned / f"{case or self.case}{ending}"

    def image(self, labels: np.ndarray) -> sitk.Image:
        return read_grid(self.batch / "images" / f"{self.case}_0000.nii.gz").image(labels)

    def save(self, ending: str, labels: np.ndarray | None = None, case: str | None = None, **tags: str) -> Path:
        image = self.image(self.drawn() if labels is None else labels)
        for key, value in tags.items():
            image.SetMetaData(key, value)
        sitk.WriteImage(image, self.path(ending, case), useCompression=ending.endswith("gz"))
        return self.path(ending, case)

    def detached(self, names: str, encoding: str = "raw") -> None:
        self.path(".nrrd").write_text(NRRD.format(encoding=encoding) + names)

    def meta(self, names: str, head: str = META) -> None:
        self.path(".mhd").write_text(f"{head}ElementDataFile = {names}\n")

    def raw(self, name: str, content: bytes | None = None) -> Path:
        path = self.returned / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(self.drawn().tobytes() if content is None else content)
        return path

    def mark(self, text: str, folder: Path | None = None) -> Path:
        path = (folder or self.returned) / "batch.csv"
        path.write_text(text)
        return path


@pytest.fixture(scope="module")
def lab(module_roots) -> Lab:
    folder = module_roots.raw / DATASET
    shutil.rmtree(folder / "labelsTr")
    for number, path in enumerate(sorted((folder / "imagesTr").iterdir())):
        array = np.random.default_rng(number).random(SHAPE, np.float32) + 1
        write_image(path, array, (1.0, 1.0, 2.0), [0.0, 0.0, 0.0], np.eye(3).ravel().tolist())
    assert run_round("--annotate", "-unit", "slice", "-initial", 24) == 3
    return Lab(CampaignFolder(campaign_folder(module_roots)))


@pytest.fixture(autouse=True)
def empty_again(lab) -> Iterator[None]:
    yield
    shutil.rmtree(lab.returned)
    lab.returned.mkdir()
    assert not list(lab.folder.ledger.glob("*.json"))


def linked_out(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "outside.raw").write_bytes(lab.drawn().tobytes())
    (lab.returned / "in.raw").symlink_to(tmp_path / "outside.raw")


# --- the table: a name, what is returned, and what is said of it -----------------------------------------------------

Make = Callable[[Lab, Path], object]
BAD: dict[str, tuple[Make, str]] = {
    # volumes of several files
    "mhd, absolute path": (
        lambda lab, tmp: lab.meta(str(lab.raw("a.raw"))),
        r"has its voxels in /.*a\.raw, which is not in the folder that was returned",
    ),
    "mhd, a folder above": (
        lambda lab, tmp: ((lab.batch / "a.raw").write_bytes(lab.drawn().tobytes()), lab.meta("../a.raw")),
        r"in \.\./a\.raw, which is not in the folder that was returned",
    ),
    "mhd, out and in again": (
        lambda lab, tmp: (lab.raw("a.raw"), lab.meta("../returned/a.raw")),
        r"which is not in the folder that was returned",
    ),
    "mhd, a link out": (
        lambda lab, tmp: (linked_out(lab, tmp), lab.meta("in.raw")),
        r"in in\.raw, which is not in the folder that was returned",
    ),
    "mhd, a folder that is a link out": (
        lambda lab, tmp: (
            (tmp / "a.raw").write_bytes(lab.drawn().tobytes()),
            (lab.returned / "there").symlink_to(tmp),
            lab.meta("there/a.raw"),
        ),
        r"in there/a\.raw, which is not in the folder that was returned",
    ),
    "mhd, missing": (lambda lab, tmp: lab.meta("a.raw"), r"a\.raw, which is missing: return that file"),
    "mhd, a folder for its voxels": (
        lambda lab, tmp: ((lab.returned / "a.raw").mkdir(), lab.meta("a.raw")),
        r"a\.raw, which is missing: return that file",
    ),
    "mha, missing": (
        lambda lab, tmp: lab.path(".mha").write_text(f"{META}ElementDataFile = a.zraw\n"),
        r"a\.zraw, which is missing",
    ),
    "mhd, a list, one missing": (
        lambda lab, tmp: (
            [lab.raw(f"s{k}.raw", lab.drawn()[k].tobytes()) for k in range(7)],
            lab.meta("LIST\n" + "\n".join(f"s{k}.raw" for k in range(8))),
        ),
        r"s7\.raw, which is missing",
    ),
    "mhd, a list of volumes": (
        lambda lab, tmp: (lab.raw("a.raw"), lab.meta("LIST 3D\na.raw")),
        r"in a way that is not known \('LIST 3D'\): save the segmentation as one file",
    ),
    "mhd, a pattern that crashes MetaIO": (
        lambda lab, tmp: ([lab.raw(f"s{k}.raw", lab.drawn()[k].tobytes()) for k in range(8)], lab.meta("s%d.raw 0 7")),
        r"in a way that is not known",
    ),
    "mhd, cut short": (
        lambda lab, tmp: (lab.raw("a.raw", b"\0" * 99), lab.meta("a.raw")),
        r"cannot be read, because it is cut short or has another format",
    ),
    "nrrd, absolute path": (
        lambda lab, tmp: lab.detached(f"data file: {lab.raw('a.raw')}\n"),
        r"in /.*a\.raw, which is not in the folder that was returned",
    ),
    "nrrd, a folder above": (
        lambda lab, tmp: lab.detached("datafile: ../batch.csv\n"),
        r"in \.\./batch\.csv, which is not in the folder that was returned",
    ),
    "nrrd, a link out": (
        lambda lab, tmp: (linked_out(lab, tmp), lab.detached("Data File: in.raw\n")),
        r"in in\.raw, which is not in the folder that was returned",
    ),
    "nrrd, missing": (lambda lab, tmp: lab.detached("data file: a.raw\n"), r"a\.raw, which is missing"),
    "nrrd, a list that leads out": (
        lambda lab, tmp: lab.detached("data file: LIST\n" + "\n".join(f"/tmp/s{k}.raw" for k in range(8))),
        r"in /tmp/s0\.raw, which is not in the folder that was returned",
    ),
    "nrrd, a pattern, one missing": (
        lambda lab, tmp: (
            [lab.raw(f"s{k}.raw", lab.drawn()[k].tobytes()) for k in range(7)],
            lab.detached("data file: s%d.raw 0 7 1\n"),
        ),
        r"s7\.raw, which is missing",
    ),
    "nrrd, standard input": (lambda lab, tmp: lab.detached("data file: -\n"), r"in a way that is not known \('-'\)"),
    "nrrd, packed voxels cut short": (
        lambda lab, tmp: (
            lab.raw("a.raw.gz", gzip.compress(lab.drawn().tobytes())[:-9]),
            lab.detached("data file: a.raw.gz\n", "gzip"),
        ),
        r"is cut short or damaged",
    ),
    "nifti, the header of a pair": (
        lambda lab, tmp: (
            nibabel.Nifti1Pair(lab.drawn().T, np.eye(4)).to_filename(lab.path(".img")),
            lab.path(".hdr").rename(lab.path(".nii")),
        ),
        r"is a header whose voxels are in another file: save it as one \.nii\.gz",
    ),
    "a file of voxels without its header": (lambda lab, tmp: lab.raw("a.raw"), r"a\.raw has no header beside it"),
    "analyze": (
        lambda lab, tmp: nibabel.Nifti1Pair(lab.drawn().T, np.eye(4)).to_filename(lab.path(".img")),
        r"\.hdr is not a segmentation: save it as",
    ),
    "nhdr": (lambda lab, tmp: lab.save(".nhdr"), r"\.nhdr is not a segmentation: save it as"),
    # another case's file
    "tagged in the description": (
        lambda lab, tmp: write_nifti(lab.path(".nii.gz"), lab.drawn(), lab_grid(lab), lab.other),
        r"was drawn on the case {other} and not on {case}",
    ),
    "tagged where a program wrote its own description": (
        lambda lab, tmp: lab.save(".nii.gz", aux_file=short_tag(lab.other), ITK_FileNotes="FSL5.0"),
        r"was drawn on the case {other} and not on {case}",
    ),
    "tagged with a case of no batch": (
        lambda lab, tmp: lab.save(".nii", aux_file=short_tag("nobody")),
        r"was drawn on another case and not on {case}",
    ),
    "tagged in a field of nrrd": (
        lambda lab, tmp: lab.save(".nrrd", **{"nnunet_al.case": case_tag(lab.other)}),
        r"was drawn on the case {other} and not on {case}",
    ),
    "tagged in a nifti that was saved as mha": (
        lambda lab, tmp: (
            write_nifti(tmp / "a.nii.gz", lab.drawn(), lab_grid(lab), lab.other),
            sitk.WriteImage(sitk.ReadImage(tmp / "a.nii.gz"), lab.path(".mha")),
        ),
        r"was drawn on the case {other} and not on {case}",
    ),
    "the pre-segmentation of another case": (
        lambda lab, tmp: shutil.copy(lab.batch / "preseg" / f"{lab.other}.seg.nrrd", lab.path(".seg.nrrd")),
        r"was drawn on the case {other} and not on {case}",
    ),
    "drawn in another case's regions": (
        lambda lab, tmp: lab.save(".nii.gz", lab.drawn(lab.alone(lab.other, lab.case))),
        r"has most of its changes in regions of (?!{case}).*, which are none of {case}",
    ),
    "drawn in another case's regions, on the own pre-segmentation": (
        lambda lab, tmp: write_nifti(
            lab.path(".nii.gz"), lab.drawn(lab.alone(lab.other, lab.case)), lab_grid(lab), lab.case
        ),
        r"has most of its changes in regions of (?!{case}).*, which are none of {case}",
    ),
    # two files of one case
    "two formats": (
        lambda lab, tmp: (lab.save(".nii.gz"), lab.save(".mha")),
        r"{case}\.mha and {case}\.nii\.gz are files of the same case, {case}, from reader: keep the one that counts",
    ),
    "two spellings": (
        lambda lab, tmp: (lab.save(".nii.gz"), lab.save(".nii.gz", case=lab.case.upper())),
        r"are files of the same case",
    ),
    "a header and a whole file": (
        lambda lab, tmp: (lab.save(".nrrd"), lab.save(".mhd")),
        r"{case}\.mhd and {case}\.nrrd are files of the same case",
    ),
    "two folders of one name": (
        lambda lab, tmp: ((lab.returned / "reader").mkdir(), shutil.copy(lab.save(".nii.gz"), lab.returned / "reader")),
        r"returned/{case}\.nii\.gz and reader/{case}\.nii\.gz are files of the same case",
    ),
    # files that are no segmentation of the case
    "another grid": (
        lambda lab, tmp: (lab.save(".nii.gz"), respaced(lab.path(".nii.gz"))),
        r"The grid is not the image's \(its voxels measure",
    ),
    "four dimensions": (
        lambda lab, tmp: sitk.WriteImage(sitk.JoinSeries([lab.image(lab.drawn())] * 2), lab.path(".nii.gz")),
        r"has 4 dimensions and not 3",
    ),
    "colours": (
        lambda lab, tmp: sitk.WriteImage(sitk.Compose([lab.image(lab.drawn())] * 3), lab.path(".mha")),
        r"has colours or vectors as voxels",
    ),
    "fractions": (
        lambda lab, tmp: lab.save(".nii.gz", lab.drawn().astype(np.float32) / 2),
        r"holds values that are not whole numbers",
    ),
    "not numbers": (
        lambda lab, tmp: lab.save(".nii.gz", np.where(lab.drawn() > 0, np.nan, 0).astype(np.float32)),
        r"holds values that are not numbers",
    ),
    "unknown numbers": (lambda lab, tmp: lab.save(".nii.gz", lab.drawn(value=9)), r"the dataset's numbers are 1"),
    "ignore painted": (lambda lab, tmp: lab.save(".nii.gz", lab.drawn(value=3)), r"is never painted"),
    "cut short": (
        lambda lab, tmp: lab.path(".nii.gz").write_bytes(lab.save(".nii.gz").read_bytes()[:-20]),
        r"cannot be read|is cut short or damaged",
    ),
    "empty": (lambda lab, tmp: lab.path(".nii.gz").touch(), r"cannot be read"),
    "text": (lambda lab, tmp: lab.path(".nii.gz").write_text("see the other mail"), r"cannot be read"),
    "another format under the name": (
        lambda lab, tmp: lab.save(".mha").rename(lab.path(".seg.nrrd")),
        r"cannot be read, because it is cut short or has another format",
    ),
    "a link to nothing": (
        lambda lab, tmp: lab.path(".nii.gz").symlink_to(tmp / "gone.nii.gz"),
        r"cannot be read \(No such file or directory\)",
    ),
    "more layers than segments": (
        lambda lab, tmp: sitk.WriteImage(
            tagged(sitk.Compose([lab.image(lab.drawn())] * 3), Segment0_Name="organ"), lab.path(".seg.nrrd")
        ),
        r"The segments in .* header contradict each other",
    ),
    "nobody's": (lambda lab, tmp: lab.save(".nii.gz", case="nobody"), r"is not named after a case of this batch"),
    "a label table that is none": (
        lambda lab, tmp: (lab.save(".nii.gz"), lab.path(".label").write_text("1 organ\n")),
        r"is not a label table",
    ),
    "in a folder too deep": (
        lambda lab, tmp: (
            (lab.returned / "anna" / "new").mkdir(parents=True),
            shutil.move(lab.save(".nii.gz"), lab.returned / "anna" / "new"),
        ),
        r"is in a subfolder of the folder anna",
    ),
    "a workbook": (lambda lab, tmp: lab.raw(f"{lab.case}.xlsx", b"PK\3\4"), r"is not a segmentation"),
}


def lab_grid(lab: Lab) -> object:
    return read_grid(lab.batch / "images" / f"{lab.case}_0000.nii.gz")


def respaced(path: Path) -> None:
    image = sitk.ReadImage(path)
    image.SetSpacing([1.0, 1.0, 2.5])
    sitk.WriteImage(image, path)


def tagged(image: sitk.Image, **tags: str) -> sitk.Image:
    for key, value in tags.items():
        image.SetMetaData(key, value)
    return image


@pytest.mark.parametrize("name", BAD)
def test_each_bad_file_gets_one_sentence_and_nothing_is_taken(lab, tmp_path, capfd, name):
    make, sentence = BAD[name]
    make(lab, tmp_path)
    before = snapshot(lab.folder.root)
    assert run_command(collect_main, "-d", "501", "--reviewed", "--dry_run") == 3
    said, errors = capfd.readouterr()
    assert re.search(sentence.format(case=lab.case, other=lab.other) if "{" in sentence else sentence, said), said
    assert not re.search(r"accepted|kept|in part|Traceback", said + errors)
    assert said.count("has no header beside it") == (name in ALONE)
    assert snapshot(lab.folder.root) == before


ALONE = {"a file of voxels without its header", "mhd, a folder that is a link out"}
MARKS = {
    "a workbook": (b"PK\3\4 and so on", r"is a workbook and not text"),
    "no columns": (b"phantom_000,1,yes\n", r"has no column"),
    "an unknown mark": (b"case,rank,reviewed\nx,1,perhaps\n", r"is neither yes nor no"),
    "a rank that is none": (b"case,rank,reviewed\nx,first,yes\n", r"is not a whole number"),
    "a minute that is none": (b"case,rank,reviewed,minutes\nx,1,yes,long\n", r"is not a number"),
    "two marks for a region": (b"case,rank,reviewed\nx,1,yes\nx,1,no\n", r"has an earlier row with another mark"),
    "of another batch": (b"case,rank,reviewed\nelsewhere,1,yes\n", r"which does not belong to this batch"),
    "empty": (b"", r"is empty"),
}


@pytest.mark.parametrize("name", MARKS)
def test_each_bad_table_of_marks_gets_one_sentence(lab, capfd, name):
    content, sentence = MARKS[name]
    (lab.returned / "batch.csv").write_bytes(content)
    lab.save(".nii.gz")
    assert run_command(collect_main, "-d", "501", "--dry_run") == 3
    said, errors = capfd.readouterr()
    assert re.search(sentence, said), said
    assert not re.search(r"accepted|kept|in part|Traceback", said + errors)


# --- what must be taken ----------------------------------------------------------------------------------------------

GOOD: dict[str, Make] = {
    "nifti without a tag": lambda lab, tmp: lab.save(".nii.gz"),
    "mhd": lambda lab, tmp: (lab.raw("a.raw"), lab.meta("a.raw")),
    "mhd in a folder": lambda lab, tmp: (lab.raw("sub/a.raw"), lab.meta("sub/a.raw")),
    "mhd, voxels of an unknown ending": lambda lab, tmp: (lab.raw("a.dat"), lab.meta("a.dat")),
    "mhd, a link inside": lambda lab, tmp: ((lab.returned / "b.raw").symlink_to(lab.raw("a.raw")), lab.meta("b.raw")),
    "mhd, a list": lambda lab, tmp: (
        [lab.raw(f"s{k}.raw", lab.drawn()[k].tobytes()) for k in range(8)],
        lab.meta("LIST\n" + "\n".join(f"s{k}.raw" for k in range(8))),
    ),
    "mhd, a pattern": lambda lab, tmp: (
        [lab.raw(f"s{k:02d}.raw", lab.drawn()[k].tobytes()) for k in range(8)],
        lab.meta("s%02d.raw 0 7 1"),
    ),
    "mha in itself": lambda lab, tmp: lab.save(".mha"),
    "nrrd in itself": lambda lab, tmp: lab.save(".nrrd"),
    "detached nrrd": lambda lab, tmp: (lab.raw("a.raw"), lab.detached("data file: a.raw\n")),
    "detached nrrd, a list": lambda lab, tmp: (
        [lab.raw(f"s{k}.raw", lab.drawn()[k].tobytes()) for k in range(8)],
        lab.detached("data file: LIST 2\n" + "".join(f"s{k}.raw\n" for k in range(8))),
    ),
    "detached nrrd, a pattern": lambda lab, tmp: (
        [lab.raw(f"s{k}.raw", lab.drawn()[k].tobytes()) for k in range(8)],
        lab.detached("data file: s%d.raw 0 7 1\n"),
    ),
    "detached nrrd, packed": lambda lab, tmp: (
        lab.raw("a.raw.gz", gzip.compress(lab.drawn().tobytes())),
        lab.detached("data file: a.raw.gz\n", "gzip"),
    ),
    "drawn everywhere": lambda lab, tmp: lab.save(".nii.gz", np.ones(SHAPE, np.uint8)),
    "drawn in the neighbours as well": lambda lab, tmp: lab.save(
        ".nii.gz", lab.drawn([*lab.asked[lab.case], *lab.asked[lab.other]])
    ),
    "empty": lambda lab, tmp: lab.save(".nii.gz", np.zeros(SHAPE, np.uint8)),
    "the own pre-segmentation": lambda lab, tmp: shutil.copy(
        lab.batch / "preseg" / f"{lab.case}.nii.gz", lab.path(".nii.gz")
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_what_is_in_order_is_taken_as_before(lab, tmp_path, capfd, name):
    GOOD[name](lab, tmp_path)
    assert run_command(collect_main, "-d", "501", "--reviewed", "--dry_run") == 3
    said = capfd.readouterr().out
    assert re.search(rf"accepted +round 0, reader: {lab.case}", said), said
    assert "refused" not in said


def test_a_file_of_many_voxels_is_refused_by_its_header_alone(lab, capfd, monkeypatch):
    """1.4 G voxels in some bytes: of each format only the header is read."""
    head = NRRD.replace("20 24 8", "1200 1200 1000").format(encoding="gzip")
    lab.path(".nrrd", lab.case).write_bytes(head.encode() + b"\n" + gzip.compress(b"\0" * 99))
    others = [case for case in sorted(lab.asked) if case != lab.case][:4]
    lab.path(".seg.nrrd", others[0]).write_bytes(
        (head[:-1] + "\nSegment0_Name:=organ\n").encode() + b"\n" + gzip.compress(b"\0" * 99)
    )
    meta = META.replace("20 24 8", "1200 1200 1000").replace("CompressedData = False", "CompressedData = True")
    lab.path(".mha", others[1]).write_text(f"{meta}ElementDataFile = LOCAL\n")
    lab.raw("a.zraw", b"\0")
    lab.path(".mhd", others[2]).write_text(f"{meta}ElementDataFile = a.zraw\n")
    header = nibabel.Nifti1Header()
    header.set_data_shape((1200, 1200, 1000))
    header.set_data_dtype(np.int16)
    header["magic"], header["vox_offset"] = b"n+1", 352
    lab.path(".nii.gz", others[3]).write_bytes(gzip.compress(header.binaryblock + b"\0" * 999))

    def guarded(read: Callable[..., object]) -> Callable[..., object]:
        def guard(path: object, *more: object, **options: object) -> object:
            assert lab.returned not in Path(str(path)).parents, f"the voxels of {path} were read"
            return read(path, *more, **options)

        return guard

    monkeypatch.setattr(sitk, "ReadImage", guarded(sitk.ReadImage))
    monkeypatch.setattr(nibabel, "load", guarded(nibabel.load))
    assert run_command(collect_main, "-d", "501", "--reviewed", "--dry_run") == 3
    said = capfd.readouterr().out
    assert said.count("The grid is not the image's") == 5, said
    assert "1200 x 1200 x 1000 voxels instead of 20 x 24 x 8" in said
