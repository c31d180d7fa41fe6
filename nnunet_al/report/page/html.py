"""One self-contained HTML file: no network, no script, no other file. All text is escaped."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from itertools import takewhile
from string import Template

from nnunet_al.report.drawing.svg import Figure
from nnunet_al.report.tables.table import Table

OPEN_ROWS = 14
"""A table with more rows is collapsed."""

MOST_ROWS = 200
"""Most rows of a table on the page; its CSV file has all of them."""

_FILES = files(__package__)
STYLE = _FILES.joinpath("style.css").read_text(encoding="utf-8")
_PAGE = Template(_FILES.joinpath("page.html").read_text(encoding="utf-8"))
_MOST_COLUMNS = 12  # of a table that is printed without breaking words and numbers
_OF_ROWS = ("strategy", "round", "rank")  # with _NAMES: columns that identify a row
_NAMES = ("dataset", "configuration", "unit", "tag", "fold", "seed")


@dataclass(frozen=True)
class Section:
    """A part of the page: its id (letters, digits and ``-``), its heading, and its content as HTML."""

    anchor: str
    title: str
    blocks: tuple[str, ...]


def page(title: str, lead: str, sections: Sequence[Section], footer: str) -> str:
    """Return the whole page; ``lead`` is the text under the title, ``footer`` that at the end, both plain text."""
    entries = "\n".join(f'<li><a href="#{section.anchor}">{text(section.title)}</a></li>' for section in sections)
    body = "\n".join(
        f'<section id="{section.anchor}" aria-labelledby="{section.anchor}-title">\n'
        f'<h2 id="{section.anchor}-title">{text(section.title)}</h2>\n' + "\n".join(section.blocks) + "\n</section>"
        for section in sections
    )
    return _PAGE.substitute(
        title=text(title), style=STYLE, lead=text(lead), contents=entries, sections=body, footer=text(footer)
    )


def text(words: object) -> str:
    """Return words as escaped HTML."""
    return escape(str(words), quote=True)


def paragraph(words: str) -> str:
    """Return a paragraph."""
    return f"<p>{text(words)}</p>"


def heading(words: str) -> str:
    """Return a heading inside a section."""
    return f"<h3>{text(words)}</h3>"


def bullets(items: Iterable[str]) -> str:
    """Return a list of sentences."""
    return "<ul>\n" + "\n".join(f"<li>{text(item)}</li>" for item in items) + "\n</ul>"


def commands(lines: str) -> str:
    """Return a block of shell commands; long lines scroll."""
    return f'<pre tabindex="0"><code>{text(lines)}</code></pre>'


def definitions(pairs: Iterable[tuple[str, str]]) -> str:
    """Return a list of names and their values."""
    entries = "\n".join(f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>" for name, value in pairs)
    return f"<dl>\n{entries}\n</dl>"


def figure(drawing: Figure) -> str:
    """Return a figure with its caption; as an image, so that ids inside it do not clash with those of other figures."""
    source = data_uri(drawing.svg.encode("utf-8"), "image/svg+xml")
    return (
        f'<figure>\n<img src="{source}" alt="{text(drawing.alt)}">\n'
        f"<figcaption>{text(drawing.caption)}</figcaption>\n</figure>"
    )


def pictures(images: Sequence[tuple[bytes, str]], caption: str, wide: bool = False) -> str:
    """Return PNG pictures with their alternative texts under one caption: side by side, ``wide`` ones in a column."""
    shown = "\n".join(f'<img src="{data_uri(png, "image/png")}" alt="{text(alt)}">' for png, alt in images)
    return (
        f'<figure class="tiles">\n<div class="tiles{" wide" if wide else ""}">\n{shown}\n</div>\n'
        f"<figcaption>{text(caption)}</figcaption>\n</figure>"
    )


def data_uri(content: bytes, media_type: str) -> str:
    """Return content as a data address, which a page carries in itself."""
    return f"data:{media_type};base64,{b64encode(content).decode('ascii')}"


def figures(drawings: Sequence[Figure]) -> str:
    """Return figures side by side, as many as fit."""
    return '<div class="figures">\n' + "\n".join(map(figure, drawings)) + "\n</div>" if drawings else ""


def table(content: Table, shown: int = MOST_ROWS) -> str:
    """Return a table that scrolls horizontally where the screen is narrow.

    Its name, as words, is the title; the caption describes it. The first column, and those after it that identify a
    row, are headings. Columns of numbers are aligned right. Columns that name a campaign and have one value in all rows
    go into the caption. A table of more than ``OPEN_ROWS`` rows is collapsed, with its first ``shown`` rows. A table
    without rows becomes a sentence.
    """
    if not content.rows:
        return paragraph(f"{content.caption} There is nothing to list.")
    same = _same_in_all_rows(content)
    columns = [
        (column, "" if column.kind == "text" else ' class="number"')
        for column in content.columns
        if column.name not in same
    ]
    named_by = [column.name for column, _ in columns]
    headings = 1 + sum(1 for _ in takewhile(lambda name: name in (*_NAMES, *_OF_ROWS), named_by[1:]))
    head = "".join(f'<th scope="col"{kind}>{text(column.title)}</th>' for column, kind in columns)
    lines = []
    for row in content.rows[:shown]:
        cells = [(kind, text(content.text(row, column.name))) for column, kind in columns]
        first = (f'<th scope="row"{kind}>{words}</th>' for kind, words in cells[:headings])
        others = (f"<td{kind}>{words}</td>" for kind, words in cells[headings:])
        lines.append(f"<tr>{''.join(first)}{''.join(others)}</tr>")
    body = "\n".join(lines)
    wide = ' class="wide"' if len(columns) > _MOST_COLUMNS else ""
    anchor = "table-" + re.sub(r"[^A-Za-z0-9]+", "-", content.name).strip("-")
    grid = (
        f'<div class="scroll" role="group" tabindex="0" aria-labelledby="{anchor}-title">\n'
        f'<table{wide} aria-labelledby="{anchor}-title" aria-describedby="{anchor}">\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody>\n</table>\n</div>"
    )
    if len(content.rows) > OPEN_ROWS:
        cut = f", the first {shown} of {len(content.rows)}" if len(content.rows) > shown else f", {len(content.rows)}"
        grid = f"<details>\n<summary>Show the rows{cut}</summary>\n{grid}\n</details>"
    named = ", ".join(f"{column} {value}" for column, value in same.items() if value)
    caption = f"{content.caption}{f' In all rows: {named}.' if named else ''}"
    # a screen reader would read the whole caption as the name of a figure without a label
    return (
        f'<figure class="table" aria-labelledby="{anchor}-title">\n<figcaption>'
        f'<span class="title" id="{anchor}-title">Table: {text(content.name.replace("_", " "))}.</span> '
        f'<span id="{anchor}">{text(caption)}</span> File: '
        f'<span class="file">{text(content.name)}.csv</span></figcaption>\n{grid}\n</figure>'
    )


def _same_in_all_rows(content: Table) -> dict[str, str]:
    """Return the columns that name campaigns and hold one value in all rows, with this value; "" for None."""
    found = {}
    for column in content.columns if len(content.rows) > 1 else ():
        values = {row[column.name] for row in content.rows} if column.name in _NAMES else set()
        if len(values) == 1:
            (value,) = values
            found[column.name] = "" if value is None else str(value)
    return found
