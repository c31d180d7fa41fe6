from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from nnunet_al.report.drawing.svg import Figure
from nnunet_al.report.page.html import (
    MOST_ROWS,
    OPEN_ROWS,
    STYLE,
    Section,
    bullets,
    commands,
    definitions,
    figure,
    figures,
    heading,
    page,
    paragraph,
    pictures,
    table,
)
from nnunet_al.report.tables.table import Table

from .browser import check_page

HOSTILE = "<script>alert('x')</script> \"quoted\" & </style></pre><img src=http://127.0.0.1:9/x onerror=alert(1)>"
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="400" height="200"><rect width="400" height="200"/></svg>'
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360f8cf50"
    "0f0003860180345a3d6b0000000049454e44ae426082"
)
VOID = {"meta", "link", "img", "br"}


class Reader(HTMLParser):
    """Reads a page strictly: everything that is opened is closed, in order."""

    def __init__(self, content):
        super().__init__()
        self.open, self.elements, self.words = [], [], []
        self.feed(content)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        assert len({name for name, _ in attrs}) == len(attrs), (tag, attrs)
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open, tag
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def rows(count, **changes):
    return [
        {"dataset": "Dataset501_A", "tag": None, "strategy": f"s{n}", "dice": n / 7, "regions": n} | changes
        for n in range(count)
    ]


def whole(words="plain words", title="plain words"):
    drawing = Figure("curves", words, words, SVG)
    listed = Table("rounds", words, [{**row, "strategy": words} for row in rows(3)], titles={"dice": title})
    blocks = (
        paragraph(words), heading(words), bullets([words, words]), commands(words), definitions([(words, words)]),
        figure(drawing), figures([drawing, drawing]), pictures([(PNG, words), (PNG, words)], words), table(listed),
    )  # fmt: skip
    return page(words, words, [Section("one", words, blocks), Section("two", words, (paragraph(words),))], words)


def test_the_page_is_whole_and_every_reference_leads_somewhere():
    read = Reader(whole())
    ids = [attributes["id"] for _, attributes in read.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    named = [attributes["aria-labelledby"] for _, attributes in read.elements if "aria-labelledby" in attributes]
    described = [attributes["aria-describedby"] for _, attributes in read.elements if "aria-describedby" in attributes]
    assert {"one-title", "two-title", "table-rounds-title"} <= set(named) <= set(ids)
    assert set(described) == {"table-rounds"} <= set(ids)
    assert [link["href"] for link in read.all("a")] == ["#one", "#two"]
    assert {"#one", "#two"} <= {f"#{name}" for name in ids}
    assert read.all("html") == [{"lang": "en"}]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in read.all("meta")
    levels = [int(tag[1]) for tag, _ in read.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert len(read.all("img")) == 5
    assert all(image["alt"] for image in read.all("img"))
    assert {cell["scope"] for cell in read.all("th")} == {"col", "row"}


def test_the_page_asks_for_nothing():
    read = Reader(whole())
    assert not read.all("script")
    for _, attributes in read.elements:
        for name in ("src", "href", "srcset", "action", "data"):
            assert attributes.get(name, "#").startswith(("#", "data:")), attributes
    assert "url(" not in STYLE
    assert "@import" not in STYLE


def test_words_are_never_markup():
    plain, hostile = Reader(whole()), Reader(whole(HOSTILE, HOSTILE))
    assert [tag for tag, _ in hostile.elements] == [tag for tag, _ in plain.elements]
    assert "".join(hostile.words).count(HOSTILE) == "".join(plain.words).count("plain words")
    assert {image["alt"] for image in hostile.all("img")} == {HOSTILE}


def test_columns_that_name_one_campaign_go_into_the_caption_and_only_those():
    words = "".join(Reader(table(Table("t", "All.", rows(3, dice=0.5)))).words)
    assert "All. In all rows: dataset Dataset501_A. File: t.csv" in words
    assert words.split("t.csv")[1].strip().startswith("strategydiceregions")
    single = "".join(Reader(table(Table("t", "All.", rows(1)))).words)
    assert "In all rows" not in single
    mixed = [*rows(2), *rows(1, dataset="Dataset502_B")]
    assert "Dataset502_B" in "".join(Reader(table(Table("t", "All.", mixed))).words)


@pytest.mark.parametrize("count", [0, 1, OPEN_ROWS, OPEN_ROWS + 1, MOST_ROWS + 5])
def test_long_tables_are_folded_and_very_long_ones_cut_with_a_word(count):
    read = Reader(table(Table("t", "All.", rows(count))))
    words = " ".join(read.words)
    assert len(read.all("tr")) == (min(count, MOST_ROWS) + 1 if count else 0)
    assert bool(read.all("details")) is (count > OPEN_ROWS)
    assert (f"the first {MOST_ROWS} of {count}" in words) is (count > MOST_ROWS)
    assert ("nothing to list" in words) is (count == 0)


def test_numbers_are_flush_right_and_words_are_not():
    read = Reader(table(Table("t", "All.", rows(2))))
    kinds = [cell.get("class") for cell in read.all("td")]
    assert kinds == ["number", "number"] * 2
    assert [cell.get("class") for cell in read.all("th")] == [None, "number", "number", None, None]


def test_a_screen_reader_hears_a_short_name_and_which_row_it_is_in():
    """Neither figure, table nor what scrolls is called by its caption, and none is a landmark of its own."""
    caption = "What a row is, and how its numbers were made, at length. " * 5
    listed = [{"dataset": "d", "strategy": name, "fold": 0, "round": 1, "dice": 0.5} for name in "ab"]
    content = table(Table("error_vs_uncertainty", caption, [*listed, {**listed[0], "dataset": "e"}]))
    read = Reader(content)
    for tag in ("figure", "div", "table"):
        (attributes,) = read.all(tag)
        assert attributes["aria-labelledby"] == "table-error-vs-uncertainty-title"
        assert attributes.get("role") in (None, "group")
    assert read.all("table")[0]["aria-describedby"] == "table-error-vs-uncertainty"
    (title,) = re.findall(r'id="table-error-vs-uncertainty-title">([^<]*)<', content)
    assert title == "Table: error vs uncertainty."
    assert [cell["scope"] for cell in read.all("th")] == ["col"] * 4 + ["row", "row", "row"] * 3
    assert re.search(
        r'<tr><th scope="row">d</th><th scope="row">a</th><th scope="row" class="number">1</th><td', content
    )


def luminance(colour):
    parts = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("name", ["ink", "quiet", "link"])
def test_letters_stand_out_from_their_ground(name):
    """WCAG 2, level AA: 4.5 to 1; black on white is 21 to 1."""
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", STYLE))
    assert (luminance("#ffffff") + 0.05) / (luminance("#000000") + 0.05) == pytest.approx(21)
    for ground in ("#ffffff", colours["tint"]):
        assert (luminance(ground) + 0.05) / (luminance(colours[name]) + 0.05) >= 4.5


def test_the_page_is_whole_in_a_browser_also_with_hostile_and_long_words(tmp_path):
    path = tmp_path / "hostile.html"
    folded = table(Table("folded", "More rows than are shown at once.", rows(OPEN_ROWS + 1)))
    path.write_text(whole(HOSTILE + "a" * 300).replace("</main>", f"{folded}</main>"), encoding="utf-8")
    check_page(path, (390,), tmp_path / "pictures")
    assert sorted(picture.name for picture in (tmp_path / "pictures").iterdir()) == [
        "hostile_390.png",
        "hostile_print.png",
    ]


@pytest.mark.parametrize(
    "bad",
    [
        "<img src='http://127.0.0.1:9/x.png' alt='x'>",
        "<script>console.error('x')</script>",
        "<details><summary>x</summary><div style='width:2000px'>x</div></details>",
        "<style>@media print { p { width: 2000px } }</style>",
        "<img src='data:image/png;base64,aaaa' alt='broken'>",
        "<style>@media print { details p { display: none } }</style><details><p>x</p></details>",
        "<style>details::details-content { content-visibility: hidden !important }</style><details><p>x</p></details>",
    ],
)
def test_the_browser_notices(tmp_path, bad):
    path = tmp_path / "bad.html"
    path.write_text(whole().replace("</main>", f"{bad}</main>"), encoding="utf-8")
    with pytest.raises(AssertionError):
        check_page(path, (390,))
