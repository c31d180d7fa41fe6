"""The bash that scripts consist of: files in ``templates/``, with names to fill in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

_NAME = re.compile(r"__([A-Z]+(?:_[A-Z]+)*)__")
_OWN_LINE = re.compile(rf"( *){_NAME.pattern}")


def fill_template(name: str, **values: str | Sequence[str]) -> list[str]:
    """Return the lines of a file in ``templates/`` with values in place of its names, written ``__LIKE_THIS__``.

    A value is text within a line, or any number of lines where the name has a line of its own, with its indentation.
    """
    template = _read(name)
    assert values.keys() == set(_NAME.findall(template)), f"{name}: {sorted(values)}"
    lines: list[str] = []
    for line in template.splitlines():
        alone = _OWN_LINE.fullmatch(line)
        if alone:
            value = values[alone[2]]
            block = [value] if isinstance(value, str) else value
            lines += [f"{alone[1]}{one}" if one else "" for one in block]
        else:
            lines.append(_NAME.sub(lambda found: str(values[found[1]]), line))
    return lines


@cache
def _read(name: str) -> str:
    return (files(__package__) / "templates" / name).read_text(encoding="utf-8")
