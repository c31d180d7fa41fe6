"""nnU-Net's three folders: read from and set in the environment variables, and the datasets in them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from nnunet_al.errors import DatasetError, SetupError
from nnunet_al.text import first_names

_DATASET_NAME = re.compile(r"Dataset(\d{3})_.+")
_SHOWN_NAMES = 20


@dataclass(frozen=True)
class Roots:
    """nnU-Net's folders ``nnUNet_raw``, ``nnUNet_preprocessed`` and ``nnUNet_results``."""

    raw: Path
    preprocessed: Path
    results: Path

    @classmethod
    def from_environment(cls) -> Roots:
        """Read the three variables as nnU-Net does.

        Raises SetupError if a variable is unset or names a folder that does not exist.
        """
        return cls(*map(_folder, ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")))

    @classmethod
    def below(cls, folder: Path) -> Roots:
        """Return the three folders of a view inside ``folder``; nothing is created."""
        return cls(folder / "nnUNet_raw", folder / "nnUNet_preprocessed", folder / "nnUNet_results")

    def create(self) -> Roots:
        """Create the folders that do not exist and return the roots."""
        for folder in (self.raw, self.preprocessed, self.results):
            folder.mkdir(parents=True, exist_ok=True)
        return self


@contextmanager
def nnunet_folders(roots: Roots, **extra_env: str | None) -> Iterator[None]:
    """Set nnU-Net's folders to ``roots`` within the block and restore all variables after it.

    nnU-Net 2.8 reads its variables when it needs them, so this also works after nnU-Net was imported; processes started
    within the block inherit the variables. ``extra_env`` sets further variables; None unsets one.
    """
    with environment_variables(
        nnUNet_raw=os.fspath(roots.raw),
        nnUNet_preprocessed=os.fspath(roots.preprocessed),
        nnUNet_results=os.fspath(roots.results),
        **extra_env,
    ):
        yield


@contextmanager
def environment_variables(**values: str | None) -> Iterator[None]:
    """Set environment variables within the block (None unsets one) and restore them after it."""
    before = {variable: os.environ.get(variable) for variable in values}
    try:
        _set(values)
        yield
    finally:
        _set(before)


@contextmanager
def quiet(log: Path | None = None) -> Iterator[None]:
    """Append nnU-Net's output within the block to the file ``log``, or discard it."""
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)
    with Path(log or os.devnull).open("a", encoding="utf-8") as sink, redirect_stdout(sink):
        yield


def dataset_name(id_or_name: int | str, roots: Roots) -> str:
    """Resolve ``501``, ``"501"`` or ``"Dataset501_Name"`` to the name of a folder in ``nnUNet_raw``.

    Raises DatasetError if the text is neither, if no such dataset exists (the message lists those that do), or if one
    number has more than one name in the three folders, which nnU-Net refuses.
    """
    text = str(id_or_name).strip()
    existing = _names_in(roots.raw)
    if text.isdigit():
        number = int(text)
        everywhere = {*existing, *_names_in(roots.preprocessed), *_names_in(roots.results)}
        candidates = sorted(name for name in everywhere if int(name[7:10]) == number)
        if len(candidates) > 1:
            raise DatasetError(
                f"Dataset number {number} has more than one name ({', '.join(candidates)}) in {roots.raw}, "
                f"{roots.preprocessed} and {roots.results}: rename or remove all but one."
            )
        found = candidates[0] if candidates else None
    elif _DATASET_NAME.fullmatch(text):
        found = text
    else:
        raise DatasetError(
            f"{text!r} is not a dataset: give its number, like 501, or its name, like Dataset501_Name; "
            f"{_list(existing)}"
        )
    if found is None or found not in existing:
        raise DatasetError(f"There is no dataset {found or text} in {roots.raw}; {_list(existing)}")
    return found


def _folder(variable: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        raise SetupError(f"The variable {variable} is not set: export {variable}=/path/to/{variable}, as for nnU-Net.")
    folder = Path(value)
    if not folder.is_dir():
        raise SetupError(
            f"The variable {variable} names {folder}, which is no folder: create it or export another one."
        )
    return folder.absolute()


def _set(values: dict[str, str | None]) -> None:
    for variable, value in values.items():
        if value is None:
            os.environ.pop(variable, None)
        else:
            os.environ[variable] = value


def _names_in(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(entry.name for entry in folder.iterdir() if _DATASET_NAME.fullmatch(entry.name) and entry.is_dir())


def _list(names: list[str]) -> str:
    if not names:
        return "the folder holds none."
    return f"there are {first_names(names, _SHOWN_NAMES)}."
