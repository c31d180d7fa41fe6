"""A table of raw datasets with faults, each with the words of its sentence; and of datasets with none."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest
import SimpleITK
from tiny_rounds import ENVIRONMENT, run_command, run_round, snapshot

from .tiny_raw import (
    CASES,
    NAME,
    case_arrays,
    change_json,
    converted,
    image,
    into_folder,
    label,
    listed,
    load,
    make_raw,
    rename_case,
    roots_for,
    save,
    unlink_to,
    write_json,
)

Harm = Callable[[Path], object]
NFC, NFD = normalize("NFC", "é"), normalize("NFD", "é")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    return make_raw(tmp_path_factory.mktemp("tiny") / NAME)


@pytest.fixture
def folder(tiny, tmp_path, monkeypatch) -> Path:
    """A copy of the dataset in nnU-Net's folders, which the environment names."""
    for name, value in {**ENVIRONMENT, **roots_for(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    return Path(shutil.copytree(tiny, tmp_path / "nnUNet_raw" / NAME))


def prepare(*arguments: object) -> int:
    from nnunet_al.cli.prepare import main

    return run_command(main, "-d", 501, "-np", 1, *arguments)


def check_refused(folder: Path, capfd, call: Callable[[], int], words: tuple[str, ...]) -> None:
    """Call a command that must refuse with one sentence that holds `words`, and change no file."""
    before = snapshot(folder.parents[1])
    capfd.readouterr()
    code = call()
    printed = capfd.readouterr().err.strip()
    assert code == 2, printed
    assert printed.startswith("Error: ")
    assert "\n" not in printed
    assert printed.endswith((".", ")"))
    assert all(word in printed for word in words), printed
    assert snapshot(folder.parents[1]) == before


def colours(folder: Path, label_of: Callable[[np.ndarray], np.ndarray], channels: int = 1) -> None:
    """Turn the dataset into pictures; `label_of` makes the array of a label file."""
    from skimage import io

    for number, case in enumerate(CASES):
        image_yx, label_yx = (array_zyx[3] for array_zyx in case_arrays(number))
        for path in (image(folder, number), label(folder, number)):
            path.unlink()
        picture = image_yx.clip(0, 255).astype(np.uint8)
        picture = picture if channels == 1 else np.stack([picture] * channels, -1)
        io.imsave(folder / f"imagesTr/{case}_0000.png", picture, check_contrast=False)
        io.imsave(folder / f"labelsTr/{case}.png", label_of(label_yx).astype(np.uint8), check_contrast=False)
    change_json(folder, file_ending=".png", channel_names={str(channel): "R" for channel in range(channels)})


def with_palette(folder: Path) -> None:
    from PIL import Image

    colours(folder, lambda label_yx: label_yx)
    for number, case in enumerate(CASES):
        picture = Image.fromarray(case_arrays(number)[1][3]).convert("P")
        picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0] + [0] * 759)
        picture.save(folder / f"labelsTr/{case}.png")


def regions(folder: Path, order: object, **labels: object) -> None:
    change_json(folder, labels={"background": 0, **labels}, regions_class_order=order)


def tiffs(folder: Path, spacing: object, label_spacing: object = None) -> None:
    """Turn the dataset into 3D TIFF with a file for the spacing."""
    import tifffile

    for number, case in enumerate(CASES):
        for path in (image(folder, number), label(folder, number)):
            tifffile.imwrite(str(path).replace(".nii.gz", ".tif"), load(path))
            path.unlink()
        write_json(folder / f"imagesTr/{case}.json", spacing)
        write_json(folder / f"labelsTr/{case}.json", label_spacing or spacing)
    change_json(folder, file_ending=".tif")


def decomposed(folder: Path) -> None:
    rename_case(folder, CASES[3], f"caf{NFC}")
    (folder / f"labelsTr/caf{NFC}.nii.gz").rename(folder / f"labelsTr/caf{NFD}.nii.gz")


def moved(folder: Path, **header: object) -> None:
    """Write all images and labels as .nrrd, the labels with another header."""
    for path in folder.glob("*Tr/*"):
        save(
            load(path), Path(str(path).replace(".nii.gz", ".nrrd")), **(header if "labels" in path.parent.name else {})
        )
        path.unlink()
    change_json(folder, file_ending=".nrrd")


def repeated_key(folder: Path) -> None:
    text = (folder / "dataset.json").read_text()
    (folder / "dataset.json").write_text(text.replace('"organ": 1', '"organ": 1, "organ": 2'))


REFUSED: dict[str, tuple[Harm, tuple[str, ...]]] = {
    # 1: one case's files under another's name
    "case A and A_seg": (lambda f: rename_case(f, CASES[1], "case_00_seg"), ("case_00 and case_00_seg", "rename")),
    "case A_seg and A_seg_seg": (
        lambda f: (rename_case(f, CASES[0], "a_seg"), rename_case(f, CASES[1], "a_seg_seg")),
        ("a_seg and a_seg_seg",),
    ),
    "case A and A.seg": (lambda f: rename_case(f, CASES[1], "case_00.seg"), ("case_00.seg", "readers return")),
    # 2: what is there and not recognised
    "label with channel number": (
        lambda f: label(f).rename(f / "labelsTr/case_03_0000.nii.gz"),
        ("labelsTr/case_03_0000.nii.gz", "no channel number", "case_03"),
    ),
    "label with channel number of another": (
        lambda f: label(f).rename(f / "labelsTr/case_03_0007.nii.gz"),
        ("case_03_0007",),
    ),
    "label in capitals": (lambda f: label(f).rename(f / "labelsTr/Case_03.nii.gz"), ("Case_03", "capitals")),
    "ending in capitals": (lambda f: label(f).rename(f / "labelsTr/case_03.NII.GZ"), ("case_03.NII.GZ", "end in")),
    "label without ending": (lambda f: label(f).rename(f / "labelsTr/case_03"), ("labelsTr/case_03", "end in .nii.gz")),
    "label of a copy": (lambda f: label(f).rename(f / "labelsTr/case_03 (1).nii.gz"), ("case_03 (1).nii.gz",)),
    "label with a suffix": (lambda f: label(f).rename(f / "labelsTr/case_03_final.nii.gz"), ("case_03_final",)),
    "label half downloaded": (lambda f: label(f).rename(f / "labelsTr/case_03.nii.gz.part"), ("case_03.nii.gz.part",)),
    "label in a folder": (
        lambda f: ((f / "labelsTr/case_03").mkdir(), label(f).rename(f / "labelsTr/case_03/x.nii.gz")),
        ("labelsTr/case_03", "a folder"),
    ),
    "label of a case without image": (
        lambda f: image(f).unlink(),
        ("labelsTr/case_03.nii.gz", "no case has this name"),
    ),
    "label in another Unicode form": (decomposed, ("Unicode", "labelsTr/caf")),
    "cases end in .nii": (
        lambda f: [converted(path(f, number), ".nii") for path in (image, label) for number in (2, 3)],
        ("4 files", "imagesTr/case_02_0000.nii (it does not end in .nii.gz)", "labelsTr/case_02.nii"),
    ),
    "one image is .nrrd": (lambda f: converted(image(f), ".nrrd"), ("imagesTr/case_03_0000.nrrd",)),
    "label is a link to nowhere": (lambda f: unlink_to(label(f), "../none"), ("case_03.nii.gz", "link to ../none")),
    "labelsTr is a link to nowhere": (
        lambda f: (shutil.rmtree(f / "labelsTr"), (f / "labelsTr").symlink_to("../none")),
        ("labelsTr is a link to ../none",),
    ),
    "label path with a typo": (
        lambda f: listed(f, case_03={"label": "labelTr/case_03.nii.gz"}),
        ("labelTr/case_03.nii.gz (of case_03)", "do not exist"),
    ),
    "label path of a file that was renamed": (
        lambda f: listed(f, case_05={"label": "labelsTr/case_5.nii.gz"}),
        ("case_5.nii.gz (of case_05)",),
    ),
    "one label for two cases": (
        lambda f: listed(f, case_05={"label": "labelsTr/case_04.nii.gz"}),
        ("case_04.nii.gz for case_04 and for case_05",),
    ),
    "declared label is a link to nowhere": (lambda f: (listed(f), unlink_to(label(f), "gone")), ("link to gone",)),
    # 3: regions that do not give the labels back
    "regions swap two labels": (lambda f: regions(f, [1, 2], WT=[1, 2], ET=1), ("[1, 2]", "1 comes back as 2")),
    "an order with a label that is none": (lambda f: regions(f, [1, 7], whole=[1, 2], core=2), ("2 comes back as 7",)),
    "inner region first": (lambda f: regions(f, [2, 1], core=2, whole=[1, 2]), ("2 comes back as 1",)),
    "regions merge two labels": (lambda f: regions(f, [1], whole=[1, 2]), ("2 comes back as 1",)),
    "three regions in a circle": (
        lambda f: regions(f, [1, 2, 3], WT=[1, 2, 3], TC=[1, 2], ET=1),
        ("1 comes back as 3", "3 comes back as 1"),
    ),
    # 4: labels with several channels
    "a class in each colour": (
        lambda f: colours(f, lambda a: np.stack([a == 1, 2 * (a == 2), 0 * a], -1)),
        ("case_00.png", "3 channels"),
    ),
    "colours with transparency": (
        lambda f: colours(f, lambda a: np.stack([a, a == 1, 0 * a, 0 * a + 255], -1)),
        ("4 channels",),
    ),
    "a palette": (with_palette, ("3 channels", "in grey")),
    "label of two volumes": (
        lambda f: save(np.stack([load(label(f))] * 2), label(f), Spacing=(1,) * 4),
        ("2 channels",),
    ),
    # 5: files that belong to an image
    "no spacing in its file": (lambda f: tiffs(f, {"Spacing": [1, 1, 1]}), ("imagesTr/case_00.json", "three positive")),
    "two numbers of spacing": (lambda f: tiffs(f, {"spacing": [1, 1]}), ("case_00.json",)),
    "spacing of text": (lambda f: tiffs(f, {"spacing": ["1", "1", "1"]}), ("case_00.json",)),
    "spacing of zero": (lambda f: tiffs(f, {"spacing": [1, 1, 1]}, {"spacing": [0, 1, 1]}), ("labelsTr/case_00.json",)),
    # 6: files of users
    "image is a link to nowhere": (
        lambda f: unlink_to(image(f), "../.git/annex/objects/none.nii.gz"),
        ("case_03_0000.nii.gz is a link", "git annex get"),
    ),
    "the first image is one": (lambda f: unlink_to(image(f, 0), "gone"), ("case_00_0000.nii.gz is a link to gone",)),
    "image is a link to itself": (lambda f: unlink_to(image(f), "case_03_0000.nii.gz"), ("case_03_0000.nii.gz",)),
    "image is a folder": (lambda f: into_folder(image(f)), ("case_03_0000.nii.gz is a folder",)),
    "label is a folder": (lambda f: into_folder(label(f)), ("labelsTr/case_03.nii.gz is a folder",)),
    "dataset.json is a folder": (lambda f: into_folder(f / "dataset.json"), ("dataset.json is a folder",)),
    "dataset.json is a link": (lambda f: unlink_to(f / "dataset.json", "x"), ("dataset.json is a link to x",)),
    "imagesTr is a file": (
        lambda f: (shutil.rmtree(f / "imagesTr"), (f / "imagesTr").write_text("")),
        ("imagesTr is missing",),
    ),
    "image is not fetched from Git LFS": (
        lambda f: image(f).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
        ("case_03_0000.nii.gz only names its content",),
    ),
    "channels the wrong way round": (lambda f: change_json(f, channel_names={"MR": 0}), ("channel_names", "'MR': 0")),
    "the same as text": (lambda f: change_json(f, channel_names={"CT": "0"}), ("channel_names", "'CT': '0'")),
    "a channel without name": (lambda f: change_json(f, channel_names={"0": None}), ("channel_names",)),
    "no reader": (lambda f: change_json(f, overwrite_image_reader_writer=None), ("overwrite_image_reader_writer",)),
    "a reader that is a list": (
        lambda f: change_json(f, overwrite_image_reader_writer=["SimpleITKIO"]),
        ("overwrite_image_reader_writer",),
    ),
    "label 1.5": (lambda f: change_json(f, labels={"background": 0, "a": 1.5, "b": 2}), ("'a'", "1.5", "whole")),
    "label true": (lambda f: change_json(f, labels={"background": 0, "a": True}), ("'a'", "True")),
    "label null": (lambda f: change_json(f, labels={"background": 0, "a": None}), ("'a'", "None")),
    "a region of nothing": (lambda f: regions(f, [1], a=1, b=[]), ("'b'", "[]")),
    "a region of 1.5": (lambda f: regions(f, [1, 2], a=[1, 2], b=[1.5]), ("'b'", "1.5")),
    "labels the wrong way round": (
        lambda f: change_json(f, labels={"0": "background", "1": "organ"}),
        ("'0'", "{'background': 0, 'organ': 1}"),
    ),
    "ignore as text": (
        lambda f: change_json(f, labels={"background": 0, "a": 1, "b": 2, "ignore": "3"}),
        ("ignore label", "must be 3"),
    ),
    "two names for one label": (
        lambda f: change_json(f, labels={"background": 0, "a": 1, "b": 2, "c": 2}),
        ("b and c", "one value"),
    ),
    "a name twice": (repeated_key, ("dataset.json", "'organ' twice")),
    "an order of text": (lambda f: regions(f, ["1", "2"], whole=[1, 2], core=2), ("regions_class_order",)),
    "images that are numbers": (lambda f: listed(f, case_03={"images": [3]}), ("'case_03'", "images")),
    "a label that is a list": (lambda f: listed(f, case_03={"label": ["x"]}), ("label of case 'case_03'",)),
    # 7: what is really elsewhere
    "label moved by a tenth of a voxel": (lambda f: moved(f, Origin=(0.1, 0, 0)), ("The origin of", "0.1")),
    "label turned by one degree": (
        lambda f: moved(f, Direction=(0.99985, -0.01745, 0, 0.01745, 0.99985, 0, 0, 0, 1)),
        ("The direction of",),
    ),
    # 8: the advice
    "image whose number is no channel": (
        lambda f: image(f).rename(f / "imagesTr/case_0003.nii.gz"),
        ("case_0003.nii.gz", "channel 3 of case case", "name it case_0003_0000.nii.gz"),
    ),
    "label that is nearly 1": (
        lambda f: save(load(label(f)).astype(np.float32) * np.float32(1.0000001), label(f)),
        ("1.00000012", "no whole numbers"),
    ),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_each_fault_has_its_sentence(folder, capfd, fault):
    harm, words = REFUSED[fault]
    harm(folder)
    check_refused(folder, capfd, prepare, words)


def with_ignore(folder: Path) -> None:
    label_zyx = load(label(folder))
    label_zyx[:3] = 3
    save(label_zyx, label(folder))
    change_json(folder, labels={"background": 0, "organ": 1, "core": 2, "ignore": 3})


def links(folder: Path) -> None:
    place = folder.parents[1] / "elsewhere"
    place.mkdir()
    for path in folder.glob("*Tr/*"):
        path.rename(place / f"{path.parent.name}_{path.name}")
        path.symlink_to(place / f"{path.parent.name}_{path.name}")


def with_other_files(folder: Path) -> None:
    for name in (".DS_Store", "._case_01.nii.gz", "notes.txt", "Thumbs.db", "case_01.nii.gz~", "checksums.md5"):
        (folder / "labelsTr" / name).write_text("x")
    (folder / "imagesTr/.ipynb_checkpoints").mkdir()
    (folder / "imagesTr/old").mkdir()


ACCEPTED: dict[str, tuple[Harm, tuple[str, ...]]] = {
    "as it is": (lambda f: None, ("8 of 8 cases have labels.",)),
    "annotated in part": (lambda f: label(f).unlink(), ("7 of 8 cases have labels (none: case_03).",)),
    "nothing annotated": (lambda f: shutil.rmtree(f / "labelsTr"), ("0 of 8 cases have labels",)),
    "ignore label": (with_ignore, ("8 of 8 cases have labels (annotated in part: 1).",)),
    "links that lead somewhere": (links, ("8 of 8",)),
    "files that are no images": (with_other_files, ("Ignored in", "notes.txt", "old", "8 of 8")),
    "copies in another format": (
        lambda f: [SimpleITK.WriteImage(SimpleITK.ReadImage(str(p)), str(p)[:-3]) for p in (image(f), label(f))],
        ("Ignored in", "imagesTr/case_03_0000.nii, labelsTr/case_03.nii", "8 of 8"),
    ),
    "pictures": (lambda f: colours(f, lambda label_yx: label_yx), ("8 of 8",)),
    "pictures in colours": (lambda f: colours(f, lambda label_yx: label_yx, 3), ("8 of 8",)),
    "grey labels saved in colours": (lambda f: colours(f, lambda a: np.stack([a] * 3, -1)), ("8 of 8",)),
    "TIFF with spacing": (lambda f: tiffs(f, {"spacing": [4, 1.0, 0.5]}), ("8 of 8",)),
    "nested regions": (lambda f: regions(f, [1, 2], whole=[1, 2], core=2), ("8 of 8",)),
    "listed cases, one without label": (lambda f: listed(f, case_03={"label": ...}), ("7 of 8", "Left alone in")),
    "numTraining of another version": (lambda f: change_json(f, numTraining=10), ("numTraining as 10", "8 cases")),
    "a byte order mark": (
        lambda f: (f / "dataset.json").write_text("\ufeff" + (f / "dataset.json").read_text(), encoding="utf-8"),
        ("8 of 8",),
    ),
    "direction up to 2e-8": (lambda f: moved(f, Direction=(1, 2e-8, 0, -2e-8, 1, 0, 0, 0, 1)), ("8 of 8",)),
    "turned by less than a hundredth of a voxel": (
        lambda f: moved(f, Direction=(1, 2e-4, 0, -2e-4, 1, 0, 0, 0, 1)),
        ("8 of 8",),
    ),
    "moved by less than a hundredth of a voxel": (lambda f: moved(f, Origin=(0.009, 0, 0.02)), ("8 of 8",)),
    "unused faults beside the test images": (
        lambda f: ((f / "imagesTs").mkdir(), (f / "imagesTs/x.nii").write_text("")),
        ("8 of 8",),
    ),
}


@pytest.mark.parametrize("kind", ACCEPTED)
def test_what_is_in_order_is_taken_and_what_is_left_alone_is_said(folder, capfd, kind):
    change, words = ACCEPTED[kind]
    change(folder)
    code, printed = prepare(), capfd.readouterr()
    assert (code, printed.err) == (0, "")
    assert all(word in printed.out for word in words), printed.out


def test_the_folders_of_test_cases_are_accounted_for_where_they_are_used(folder, capfd):
    for part in ("images", "labels"):
        shutil.copytree(folder / f"{part}Tr", folder / f"{part}Ts")
        for path in (folder / f"{part}Ts").iterdir():
            path.rename(path.with_name(f"t_{path.name}"))
    (folder / "labelsTs/t_case_03.nii.gz").rename(folder / "labelsTs/case_03.nii.gz")
    check_refused(folder, capfd, lambda: prepare("-test", "ts"), ("labelsTs/case_03.nii.gz",))


SPLITS = {
    "no val": ([{"train": CASES[:6]}], "'val' in fold 0"),
    "no train": ([{"val": CASES[:6]}], "'train' in fold 0"),
    "an object": ({"0": {"train": CASES[:6], "val": CASES[6:]}}, "a list of folds"),
    "no fold": ([], "a list of folds"),
    "a fold that is a list": ([[CASES[:6], CASES[6:]]], "'train' in fold 0"),
    "a name instead of a list": ([{"train": CASES[:6], "val": CASES[6]}], "'val' in fold 0"),
    "numbers": ([{"train": [0, 1, 2], "val": [3]}], "'train' in fold 0"),
    "null": (None, "a list of folds"),
    "a case in both": ([{"train": CASES[:6], "val": CASES[5:]}], "case_05 in 'train' and in 'val'"),
    "nothing to train on": ([{"train": [], "val": CASES}], "keeps every case"),
    "nothing to test on": ([{"train": CASES, "val": []}], "no labelled validation case"),
    "names with endings": ([{"train": [f"{c}.nii.gz" for c in CASES[:6]], "val": CASES[6:]}], "case_00.nii.gz"),
}


@pytest.mark.parametrize("fault", SPLITS)
def test_a_split_file_made_by_hand(folder, capfd, fault):
    content, words = SPLITS[fault]
    path = folder.parents[1] / "nnUNet_preprocessed" / NAME / "splits_final.json"
    path.parent.mkdir()
    write_json(path, content)
    check_refused(
        folder,
        capfd,
        run_round,
        (words, "-f 0" if "nothing" in fault else str(path))[: 1 + (fault != "nothing to test on")],
    )


@pytest.mark.parametrize("harm", [lambda p: p.write_text("[{"), Path.mkdir, lambda p: p.symlink_to("gone")])
def test_a_split_file_that_cannot_be_read(folder, capfd, harm):
    path = folder / "splits_final.json"
    harm(path)
    check_refused(folder, capfd, run_round, (str(path),))


@pytest.mark.slow
@pytest.mark.parametrize(
    "shape, configuration", [((3, 4, 5), "3d_fullres"), ((3, 4, 5), "2d"), ((5, 5, 5), "3d_fullres")]
)
def test_volumes_too_small_for_a_network(folder, capfd, shape, configuration):
    for path in folder.glob("*Tr/*"):
        middle = load(path)[tuple(slice(1, 1 + n) if axis == 0 else slice(5, 5 + n) for axis, n in enumerate(shape))]
        save(middle, path)
    check_refused(folder, capfd, lambda: run_round("-c", configuration), (f"-c {configuration}", "too few"))


def test_a_campaign_that_has_begun_goes_on_and_names_what_it_does_not_use(folder, capfd):
    assert run_round("--annotate") == 3
    assert "8 of 8 cases have labels." in capfd.readouterr().out
    label(folder).rename(folder / "labelsTr/case_03_0000.nii.gz")
    assert run_round("--annotate") == 3
    assert "labelsTr/case_03_0000.nii.gz (a label has no channel number" in capfd.readouterr().out


def test_a_campaign_on_a_dataset_annotated_in_part_says_so_when_it_starts(folder, capfd):
    for number in (1, 4):
        label(folder, number).unlink()
    assert run_round() == 0
    line = "6 of 8 cases have labels (none: case_01, case_04). The campaign starts from them."
    assert line in capfd.readouterr().out


def test_a_case_that_is_broken_can_still_be_withdrawn(folder, capfd):
    from nnunet_al.cli.pool import main

    assert run_round("--annotate", "-test", "none") == 3
    unlink_to(image(folder), "gone")
    check_refused(folder, capfd, lambda: run_round("--annotate"), ("case_03_0000.nii.gz is a link to gone",))
    assert run_command(main, "-d", 501, "-withdraw", "case_03") == 0
    assert run_round("--annotate") == 3


def test_real_scribbles_with_an_ignore_label_are_taken(hippocampus, folder, capfd):
    source = hippocampus.parent / "Dataset027_ACDCsmall"
    if not (source / "scribblesTr").is_dir():
        pytest.skip(f"{source} with scribblesTr is not there")
    for path in folder.glob("*Tr/*"):
        path.unlink()
    for path in sorted((source / "scribblesTr").iterdir())[:6]:
        (folder / "labelsTr" / path.name).symlink_to(path)
        name = path.name.replace(".nii.gz", "_0000.nii.gz")
        (folder / "imagesTr" / name).symlink_to(source / "imagesTr" / name)
    change_json(folder, labels={"background": 0, "RV": 1, "MYO": 2, "LV": 3, "ignore": 4}, numTraining=6)
    assert prepare() == 0
    assert "6 of 6 cases have labels (annotated in part: 6)." in capfd.readouterr().out


def test_nnunets_own_conversion_agrees_on_which_labels_come_back():
    """Random regions and orders: ours refuses exactly where nnU-Net gives another label back."""
    from nnunetv2.utilities.label_handling.label_handling import LabelManager

    from nnunet_al.nnunet.dataset_json import label_faults, read_labels

    rng = np.random.default_rng(0)
    outcomes = set()
    for _ in range(300):
        n_labels = int(rng.integers(2, 4))
        chosen = [rng.choice(n_labels, rng.integers(1, n_labels + 1), False) + 1 for _ in range(3)]
        names = {f"region {k}": sorted(map(int, values)) for k, values in enumerate(chosen)}
        labels = {"background": 0, "all": list(range(1, n_labels + 1)), **names}
        order = [int(value) for value in rng.integers(1, n_labels + 1, 4)]
        read = read_labels(Path("x"), {"labels": labels, "regions_class_order": order})
        manager = LabelManager(labels, order)
        inside = np.array([[float(label in r) for label in range(1, n_labels + 1)] for r in manager.foreground_regions])
        back = manager.convert_probabilities_to_segmentation(inside[:, None, None, :])[0, 0]
        same = back.tolist() == list(range(1, n_labels + 1))
        assert (not label_faults(Path("x"), read, order)) == same
        outcomes.add(same)
    assert outcomes == {True, False}


def test_a_tiff_keeps_its_spacing_and_no_other_files(folder, capfd):
    tiffs(folder, {"spacing": [4.0, 1.0, 0.5]})
    assert run_round() == 0
    root = folder.parents[1]
    ledger = next(root.glob("nnUNet_results/*/al/*/fold_0/ledger/000"))
    assert {path.suffix for path in ledger.iterdir()} == {".tif", ".json"}
    assert not list(root.rglob("*.tmp.*"))
    from nnunet_al.cli.export import main

    assert run_command(main, "-d", 501, "-o", 601) == 0
    assert capfd.readouterr().err == ""
    exported = root / "nnUNet_raw/Dataset601_Tiny"
    for part in ("imagesTr", "labelsTr"):
        found = [json.loads(path.read_text()) for path in (exported / part).glob("*.json")]
        assert found
        assert all(content == {"spacing": [4.0, 1.0, 0.5]} for content in found)
    assert run_command(prepare_601, "-d", 601) == 0


def prepare_601(argv) -> int:
    from nnunet_al.cli.prepare import main

    return main(argv)


def test_an_export_into_a_read_only_folder_is_refused(folder, capfd, monkeypatch):
    assert run_round() == 0
    from nnunet_al import new_folder
    from nnunet_al.cli.export import main

    real = Path.mkdir

    def read_only(path: Path, *arguments: object, **options: object) -> None:
        if folder.parent in path.parents:
            raise OSError(30, "Read-only file system", str(path))
        real(path, *arguments, **options)

    monkeypatch.setattr(new_folder.Path, "mkdir", read_only)
    check_refused(folder, capfd, lambda: run_command(main, "-d", 501, "-o", 601), ("Dataset601_Tiny", "Read-only"))


def test_oblique_volumes_saved_with_a_quaternion_only_are_taken(folder):
    """NIfTI's qform keeps a rotation as three float32; returned files differ by up to some thousandths of a voxel."""
    from nnunet_al.annotation.grids import Grid, place

    rng = np.random.default_rng(0)
    for number in range(40):
        matrix = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        grid = Grid((400, 420, 3), (0.7, 0.7, 3.0), tuple(rng.uniform(-200, 200, 3)), tuple(matrix.ravel()))
        path = folder.parent / f"{number}.nii"
        SimpleITK.WriteImage(grid.image(np.ones(grid.shape_kji, np.uint8)), str(path))
        header = bytearray(path.read_bytes())
        header[254:256] = bytes(2)  # sform_code
        path.write_bytes(header)
        assert place(SimpleITK.ReadImage(str(path)), grid, False)[0].all()
