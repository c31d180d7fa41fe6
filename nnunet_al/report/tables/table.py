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
    """A column: its key in each row (and in the CSV), what stands over it on the page, and what its cells are."""

    name: str
    title: str
    kind: Kind


@dataclass(frozen=True)
class Table:
    """Rows with the same keys in the same order; a cell is text, a number, or None where something is not known.

    Attributes
    ----------
    name : name of the CSV file, less ``.csv``
    caption : what a row is, and how its numbers were made
    rows : may be none
    titles : column -> what stands over it on the page, where that is not its name with blanks
    digits : column -> digits behind the point on the page, where that is not ``DIGITS``; the CSV has them all
    """

    name: str
    caption: str
    rows: Sequence[Mapping[str, Any]]
    titles: Mapping[str, str] = field(default_factory=dict)
    digits: Mapping[str, int] = field(default_factory=dict)

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns, each of the narrowest kind that all of its cells have; none where there is no row."""
        names = list(self.rows[0]) if self.rows else []
        return tuple(Column(name, self.titles.get(name, name.replace("_", " ")), self._kind(name)) for name in names)

    def text(self, row: Mapping[str, Any], name: str) -> str:
        """Return a cell as people read it: a dash where nothing is known, thousands set apart in large numbers."""
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
        """Write ``<name>.csv``, cells without a value empty; a table without rows gives no file and None.

        Raises
        ------
        StorageError
            if the file cannot be written.
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
