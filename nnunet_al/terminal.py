"""Sentences and progress bars on a terminal; no bars in log files."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def progress(items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
    """Iterate over ``items`` with a progress bar on standard error, without one where that is not a terminal."""
    return iter(tqdm(items, desc=description, total=total, leave=False, disable=not sys.stderr.isatty()))


def say(sentence: str) -> None:
    """Print a sentence about the current step at once, also when the output goes to a file."""
    tqdm.write(sentence, file=sys.stdout)
    sys.stdout.flush()
