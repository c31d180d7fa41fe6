"""What a person reads while a command runs: sentences, and progress bars at a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def progress(items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
    """Iterate over ``items`` with a bar and an estimate on standard error; quiet when that is not a terminal."""
    return iter(tqdm(items, desc=description, total=total, leave=False, disable=not sys.stderr.isatty()))


def say(sentence: str) -> None:
    """Tell the user what happens now, at once also when the output goes to a file."""
    tqdm.write(sentence, file=sys.stdout)
    sys.stdout.flush()
