"""The text of a table as spreadsheets save it: UTF-8, UTF-16 or Windows-1252, with Excel's line on the delimiter."""

from __future__ import annotations

import codecs
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from nnunet_al.errors import GroupsError

_MARKS = (  # the longer ones first: that of UTF-32 begins like that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # .xlsx and .ods, .xls
_DELIMITER_LINE = re.compile(r'[ \t]*"?sep=([^\r\n])"?\1*[ \t]*(?=\r|\n|$)', re.IGNORECASE)
_BLANKS = set("\t\n\r\v\f\x1a")  # the last one ends files of old programs


@dataclass(frozen=True)
class TableText:
    """The text of a table, without a byte order mark.

    Attributes
    ----------
    delimiter : that of Excel's first line ``sep=;``, which is blank in ``text``; None without one
    encoding : "Windows-1252" where that is a guess, because the file is in no Unicode; else empty
    """

    text: str
    delimiter: str | None
    encoding: str


def read_table_text(path: Path) -> TableText:
    """Read a table of any common encoding.

    Raises GroupsError if there is no such file, or it cannot be read as text; the message holds nothing of the table.
    """
    if not path.is_file():
        raise GroupsError(f"There is no table of participants {path}: check the path.")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise GroupsError(f"{path} cannot be read ({error.strerror}): check its permissions.") from None
    if content.startswith(_WORKBOOKS):
        raise GroupsError(f"{path} is a workbook of a spreadsheet program: save the table as CSV in UTF-8.")
    try:
        text, encoding = _decoded(content)
    except UnicodeDecodeError:
        text, encoding = "\0", ""
    if any(unicodedata.category(letter) == "Cc" and letter not in _BLANKS for letter in set(text)):
        raise unreadable(path)
    first = _DELIMITER_LINE.match(text)
    return TableText(text[first.end() :] if first else text, first[1] if first else None, encoding)


def unreadable(path: Path) -> GroupsError:
    """Return the error of a file that is no table; without its cause, whose text may hold something of the table."""
    return GroupsError(f"{path} is not readable as text: save it as CSV or TSV in UTF-8.")


def _decoded(content: bytes) -> tuple[str, str]:
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return content.decode(encoding), ""
    if b"\0" in content:  # UTF-16 without a mark: the high bytes of nearly all letters are 0
        first, second = content[::2].count(0), content[1::2].count(0)
        return content.decode("utf-16-le" if second > first else "utf-16-be"), ""
    try:
        return content.decode("utf-8-sig"), ""
    except UnicodeDecodeError:
        return content.decode("cp1252"), "Windows-1252"
