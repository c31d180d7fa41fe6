"""The files of each case of a raw dataset, and an account of all other files beside them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_al.errors import DatasetError
from nnunet_al.nnunet.unused_files import Account, account_for
from nnunet_al.text import count, first_names
from nnunet_al.user_files import list_folder

_COLOUR_ENDINGS = {".png", ".bmp", ".tif", ".tiff"}
_SIDECAR_ENDINGS = {".tif", ".tiff"}
_CHANNEL = len("_0000")
_SHOWN = 5


@dataclass(frozen=True)
class CaseFiles:
    """The files of one case: one image per channel, and the label, which is None if the case is not labelled."""

    images: tuple[Path, ...]
    label: Path | None

    def image_sidecar(self) -> Path | None:
        """Return the file with the spacing of a 3D TIFF, as nnU-Net names it, if there is one."""
        image = self.images[0]
        return _existing(image, image.name[: -len(image.suffix) - _CHANNEL])

    def label_sidecar(self) -> Path | None:
        """Return the same for the label."""
        return None if self.label is None else _existing(self.label, self.label.stem)

    @property
    def all(self) -> list[Path]:
        """Every file that the case is read from."""
        return [path for path in (*self.images, self.label, self.image_sidecar(), self.label_sidecar()) if path]


def cases_in(folder: Path, part: str, ending: str, n_channels: int) -> tuple[dict[str, CaseFiles], Account]:
    """List the cases in ``images<part>`` and ``labels<part>``, sorted, and account for all other files there.

    Links and folders that bear the name of an image or a label count as that file; they are opened later.

    Raises DatasetError if an image has no channel number, or a case lacks a channel or has one too many.
    """
    images, labels = folder / f"images{part}", folder / f"labels{part}"
    there = list_folder(images)
    pattern = re.compile(r"(.+)_(\d{4})" + re.escape(ending))
    found: dict[str, dict[int, Path]] = {}
    for name in (entry.name for entry in there):
        if name.startswith(".") or not name.endswith(ending):
            continue
        match = pattern.fullmatch(name)
        if match is None:
            raise DatasetError(f"{images / name} has no channel number: name images like case_0000{ending}.")
        found.setdefault(match[1], {})[int(match[2])] = images / name
    label_entries = list_folder(labels)
    label_names = {entry.name for entry in label_entries}
    cases = {}
    for case, by_channel in sorted(found.items()):
        wanted = 1 if _is_one_colour_image(ending, by_channel) else n_channels
        if sorted(by_channel) != list(range(wanted)):
            raise DatasetError(_channel_fault(images, case, by_channel, wanted, n_channels, ending))
        label = labels / (case + ending) if case + ending in label_names else None
        cases[case] = CaseFiles(tuple(by_channel[c] for c in range(wanted)), label)
    used = {images: {path.name for by_channel in found.values() for path in by_channel.values()}}
    used[labels] = {case + ending for case in cases}
    if ending in _SIDECAR_ENDINGS:
        for names in used.values():
            names |= {f"{case}.json" for case in cases}
    return cases, account_for({images: there, labels: label_entries}, used, list(cases), ending)


def listed_cases(folder: Path, listed: Any, ending: str, n_channels: int) -> tuple[dict[str, CaseFiles], Account]:
    """List the cases under the key ``dataset`` of ``dataset.json``, sorted, and account for declared and other files.

    Raises DatasetError if an entry is no case, or an image does not exist.
    """
    path = folder / "dataset.json"
    if not isinstance(listed, dict) or not listed:
        raise DatasetError(f"The key 'dataset' in {path} lists no case: fill it, or remove it to use imagesTr.")
    cases, absent = {}, []
    for case, entry in sorted(listed.items()):
        images = entry.get("images") if isinstance(entry, Mapping) else None
        if (
            not isinstance(images, list)
            or not all(isinstance(image, str) for image in images)
            or (len(images) != n_channels and not _is_one_colour_image(ending, images))
            or case in {"", ".", ".."}
            or "/" in case
            or os.sep in case
        ):
            raise DatasetError(
                f"Case {case!r} in {path} must be a plain name with {n_channels} image(s) under 'images': correct it."
            )
        files = tuple(_expand(folder, image) for image in images)
        for file in files:
            if not os.path.lexists(file):
                raise DatasetError(f"{file}, an image of case {case} in {path}, does not exist: correct the path.")
        declared = entry.get("label")
        if declared and not isinstance(declared, str):
            raise DatasetError(f"The label of case {case!r} in {path} is {declared!r}: give the path of a file.")
        label = _expand(folder, declared) if declared else None
        if label is not None and not os.path.lexists(label):
            absent.append(f"{label} (of {case})")
            label = None
        cases[case] = CaseFiles(files, label)
    faults = []
    if absent:
        faults.append(
            f"{path} names labels that do not exist: {first_names(absent, _SHOWN)}; correct the path, or leave out "
            "'label' where a case has none."
        )
    faults += _shared_files(path, cases)
    return cases, Account(tuple(faults), tuple(_not_listed(folder, cases, ending)))


def name_collision(cases: Iterable[str]) -> str | None:
    """Return a sentence if a file that nnU-Net or a batch folder derives from one case is that of another case.

    nnU-Net keeps the label of ``A`` as ``A_seg.b2nd``, which is the image of a case ``A_seg``; readers return
    ``A.seg.nrrd``, which is also a volume of a case ``A.seg``.
    """
    names = set(cases)
    for case in sorted(names):
        for ending, kept in (("_seg", "nnU-Net keeps the label"), (".seg", "readers return the segmentation")):
            if case + ending in names:
                return (
                    f"The cases {case} and {case + ending} cannot be in one dataset, because {kept} of the first under "
                    f"the name of the second: rename {case + ending}, its images and its label."
                )
    return None


def _channel_fault(
    images: Path, case: str, by_channel: Mapping[int, Path], wanted: int, n_channels: int, ending: str
) -> str:
    declared = f"dataset.json declares {count(n_channels, 'channel')}"
    highest = by_channel[max(by_channel)]
    if max(by_channel) >= wanted:
        return (
            f"{highest} is one channel too many, because its name says channel {max(by_channel)} of case {case} and "
            f"{declared}: remove it, correct channel_names or, if it is a case of its own, name it "
            f"{highest.name.removesuffix(ending)}_0000{ending}."
        )
    missing = next(channel for channel in range(wanted) if channel not in by_channel)
    return f"{images / f'{case}_{missing:04d}{ending}'} is missing: {declared}; add the file or correct channel_names."


def _shared_files(path: Path, cases: Mapping[str, CaseFiles]) -> list[str]:
    owner: dict[Path, str] = {}
    for case, files in cases.items():
        for file in filter(None, [*files.images, files.label]):
            if owner.setdefault(file, case) != case:
                return [f"{path} names {file} for {owner[file]} and for {case}: correct the path of one of them."]
    return []


def _not_listed(folder: Path, cases: Mapping[str, CaseFiles], ending: str) -> list[str]:
    used = {file for files in cases.values() for file in files.all}
    rest = [
        f"{place.name}/{entry.name}"
        for place in (folder.absolute() / "imagesTr", folder.absolute() / "labelsTr")
        for entry in (list_folder(place) if place.is_dir() else [])
        if entry.name.endswith(ending) and not entry.name.startswith(".") and place / entry.name not in used
    ]
    some = first_names(rest, _SHOWN)
    return [f"Left alone in {folder}, because dataset.json lists other files: {some}."] if rest else []


def _is_one_colour_image(ending: str, images: Sized) -> bool:
    """Whether a case has one image in a format for colour images, from which nnU-Net reads all channels."""
    return ending in _COLOUR_ENDINGS and len(images) == 1


def _existing(image: Path, stem: str) -> Path | None:
    sidecar = image.with_name(f"{stem}.json")
    return sidecar if image.suffix.lower() in _SIDECAR_ENDINGS and os.path.lexists(sidecar) else None


def _expand(folder: Path, text: str) -> Path:
    return Path(os.path.abspath(folder / os.path.expandvars(text)))  # noqa: PTH100 -- keeps links, like nnU-Net
