"""A table of the report: the same rows as a CSV file and, formatted, on the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from nnunet_al.files import write_table

Kind = Literal["text", "whole", "number"]
DIGITS = 4
ABSENT = "–"


@dataclass(frozen=True)
class Column:
    """A column: its key in each row (and in the CSV), its title on the page, and the kind of its cells."""

    name: str
    title: str
    kind: Kind


@dataclass(frozen=True)
class Table:
    """Rows with the same keys in the same order; a cell is text, a number, or None where the value is not known.

    Attributes
    ----------
    name : name of the CSV file, without ``.csv``
    caption : meaning of a row, and how its numbers were computed
    rows : may be empty
    titles : column -> its title on the page, where that is not its name with blanks
    digits : column -> decimals on the page, where they are not ``DIGITS``; the CSV has all of them
    """

    name: str
    caption: str
    rows: Sequence[Mapping[str, Any]]
    titles: Mapping[str, str] = field(default_factory=dict)
    digits: Mapping[str, int] = field(default_factory=dict)

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns, each of the narrowest kind that fits all of its cells; none where there are no rows."""
        names = list(self.rows[0]) if self.rows else []
        return tuple(Column(name, self.titles.get(name, name.replace("_", " ")), self._kind(name)) for name in names)

    def text(self, row: Mapping[str, Any], name: str) -> str:
        """Return a cell as the page shows it: a dash for None, and a narrow space between thousands."""
        value = row[name]
        if value is None:
            return ABSENT
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, int):
            return f"{value:,}".replace(",", "\u202f")
        if isinstance(value, float):
            return f"{value:,.{self.digits.get(name, DIGITS)}f}".replace(",", "\u202f")
        return str(value)

    def write(self, folder: Path) -> Path | None:
        """Write ``<name>.csv``, with None as an empty cell; a table without rows gives no file and None.

        Raises StorageError if the file cannot be written.
        """
        if not self.rows:
            return None
        path = folder / f"{self.name}.csv"
        write_table(path, self.rows)
        return path

    def _kind(self, name: str) -> Kind:
        values = [row[name] for row in self.rows if row[name] is not None]
        if any(isinstance(value, bool) or not isinstance(value, (int, float)) for value in values):
            return "text"
        return "whole" if values and all(isinstance(value, int) for value in values) else "number"
