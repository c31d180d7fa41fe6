"""Names and colours of what readers paint, and the label tables that their programs keep."""

from __future__ import annotations

from pathlib import Path

import pytest

from nnunet_al.annotation.segments import Segment, colours, normalised, read_label_file, segments_of, write_label_file
from nnunet_al.errors import DatasetError, ReturnError

BRATS = {"background": 0, "whole tumour": (1, 2, 3), "tumour core": (2, 3), "enhancing": (3,)}


def names(labels: dict) -> dict[int, str]:
    return {segment.value: segment.name for segment in segments_of(labels)}


def test_plain_labels_keep_their_names_and_are_sorted():
    assert names({"background": 0, "spleen": 2, "liver": 1, "ignore": 3}) == {1: "liver", 2: "spleen"}
    assert list(names({"background": 0, "spleen": 2, "liver": 1})) == [1, 2]


def test_a_value_of_regions_is_called_by_all_of_them_the_largest_first():
    assert names(BRATS) == {
        1: "whole tumour",
        2: "whole tumour + tumour core",
        3: "whole tumour + tumour core + enhancing",
    }
    other_way_round = dict(reversed(BRATS.items()))
    assert names(other_way_round) == names(BRATS)


def test_values_of_the_same_regions_are_numbered():
    assert names({"background": 0, "lesion": (1, 2), "organ": 3}) == {1: "lesion (1)", 2: "lesion (2)", 3: "organ"}


def test_a_region_that_holds_the_background_names_no_background():
    assert names({"background": 0, "all": (0, 1, 2), "organ": 2}) == {1: "all", 2: "all + organ"}


def test_a_name_that_a_header_would_not_keep_is_put_in_order_or_refused():
    assert names({"background": 0, " left \n kidney": 1}) == {1: "left kidney"}
    for bad in ("", " \n", "a\x00b", "a\u202eb"):
        with pytest.raises(DatasetError, match="cannot be shown to readers"):
            segments_of({"background": 0, bad: 1})


@pytest.mark.parametrize(
    "one, other",
    [("Liver", "liver"), ("left kidney", "left_kidney"), ("a  b", "a b"), ("Clear Label", "x"), ("Ignore", "x")],
)
def test_names_that_programs_would_mix_up_are_refused(one, other):
    with pytest.raises(DatasetError, match=r"only by case, blanks or underscores.*: rename one"):
        segments_of({"background": 0, one: 1, other: 2})


def test_normalised_names_are_alike_and_stay_so():
    alike = {normalised(name) for name in ("Left  Kidney", "left_kidney", " LEFT kidney ", "left\tkidney")}
    assert alike == {"left kidney"}
    assert normalised("Straße") == normalised("STRASSE")
    assert normalised("left kidney 1") != normalised("left kidney 2")


def test_colours_differ_and_do_not_change_with_their_number():
    many = colours(255)
    assert len(set(many)) == 255
    assert all(0 <= part <= 255 for colour in many for part in colour)
    assert all(colours(n) == many[:n] for n in range(20))
    assert many[:2] == [(230, 159, 0), (86, 180, 233)]


def test_the_label_file_is_itk_snaps_letter_by_letter(tmp_path):
    write_label_file(tmp_path / "labels.txt", [Segment(1, "liver", (230, 159, 0)), Segment(12, 'a "b"', (0, 0, 255))])
    assert (tmp_path / "labels.txt").read_text().splitlines() == [
        "################################################",
        "# ITK-SnAP Label Description File",
        "# File format: ",
        "# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL",
        "# Fields: ",
        "#    IDX:   Zero-based index ",
        "#    -R-:   Red color component (0..255)",
        "#    -G-:   Green color component (0..255)",
        "#    -B-:   Blue color component (0..255)",
        "#    -A-:   Label transparency (0.00 .. 1.00)",
        "#    VIS:   Label visibility (0 or 1)",
        "#    IDX:   Label mesh visibility (0 or 1)",
        "#  LABEL:   Label description ",
        "################################################",
        '    0     0    0    0        0  0  0    "Clear Label"',
        '    1   230  159    0        1  1  1    "liver"',
        "   12     0    0  255        1  1  1    \"a 'b'\"",
    ]


def test_what_is_written_is_read_back(tmp_path):
    segments = segments_of({"background": 0, "Tumör (links)": 1, "# odd": 2, "rest": 3})
    write_label_file(tmp_path / "labels.txt", segments)
    assert read_label_file(tmp_path / "labels.txt") == {
        0: "Clear Label",
        **{each.value: each.name for each in segments},
    }


def table(folder: Path, name: str, text: str, encoding: str = "utf-8") -> Path:
    (folder / name).write_bytes(text.encode(encoding))
    return folder / name


def test_tables_of_3d_slicer(tmp_path):
    ctbl = "# Color table file /x/S-label_ColorTable.ctbl\n# 2\n0 Background 0 0 0 0\n1 tumour_+_core 128 174 128 255\n"
    assert read_label_file(table(tmp_path, "a.ctbl", ctbl)) == {0: "Background", 1: "tumour_+_core"}
    quoted = '0 "Background" 0 0 0 0\r\n2 "left kidney" 128 174 128 255\r\n'
    assert read_label_file(table(tmp_path, "b.ctbl", quoted)) == {0: "Background", 2: "left kidney"}
    csv = (
        'LabelValue,Name,Color_R,Color_G,Color_B,Color_A\n2,"kidney, left",1,2,3,255\n1,liver,1,2,3,255\n7,,1,2,3,255\n'
    )
    assert read_label_file(table(tmp_path, "c.csv", csv, "utf-8-sig")) == {2: "kidney, left", 1: "liver"}


@pytest.mark.parametrize(
    "name, text",
    [
        ("a.txt", "I was unsure about the second region.\n"),
        ("a.txt", ""),
        ("a.txt", "# only a comment\n"),
        ("a.label", '1 255 0 0 1 1 1 "liver\n'),
        ("a.label", '1 255 0 0 1 1 1 "liver"\n1 255 0 0 1 1 1 "spleen"\n'),
        ("a.csv", "rank,case,region,reviewed\n1,a,,yes\n"),
        ("a.csv", "LabelValue,Name\none,liver\n"),
        ("a.csv", "LabelValue,Name\n1\n"),
        ("a.csv", ""),
        ("a.ctbl", "0.5 1 1 1\n"),
    ],
)
def test_what_is_no_label_table_is_refused_by_name(tmp_path, name, text):
    with pytest.raises(ReturnError, match=rf"{name} is not a label table"):
        read_label_file(table(tmp_path, name, text))


def test_a_table_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(ReturnError, match=r"b\.label cannot be read"):
        read_label_file(tmp_path / "b.label")
    with pytest.raises(ReturnError, match=r"c\.label cannot be read"):
        read_label_file(table(tmp_path, "c.label", '1 255 0 0 1 1 1 "Tumör"\n', "cp1252"))
