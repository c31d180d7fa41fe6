"""Files in the folders of a raw dataset that are neither an image nor a label of a case."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from unicodedata import normalize

from nnunet_al.text import count, first_names

_IMAGE = re.compile(
    r"\.(nii|nrrd|nhdr|mha|mhd|hdr|img|gipl|mgh|mgz|mnc|dcm|vtk|png|bmp|tiff?|jpe?g|gif|webp|npy|npz|h5|hdf5|b2nd)"
    r"(\.(gz|bz2|xz|zst|zip|part|partial|filepart|crdownload))*$",
    re.IGNORECASE,
)
"""Endings of images, also packed or in the middle of a download."""

_DATA_FILES = {".img": (".hdr",), ".hdr": (".img",), ".mhd": (".raw", ".zraw"), ".nhdr": (".raw", ".raw.gz")}
_SYSTEM_FILES = {"thumbs.db", "desktop.ini", "__macosx", "@eadir", "lost+found"}
_SHOWN = 5


@dataclass(frozen=True)
class Account:
    """Sentences on files that no case uses: faults keep a campaign from starting, remarks are only said."""

    faults: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def account_for(
    there: Mapping[Path, Sequence[os.DirEntry[str]]],
    used: Mapping[Path, Collection[str]],
    cases: Sequence[str],
    ending: str,
) -> Account:
    """Account for every entry of the folders of images and labels that is not ``used``.

    An image or a label that got lost, under another name or ending, is a fault. What cannot be an image (hidden files,
    files of the system, other endings), or is another form of a file that is used, is a remark.
    """
    faults, ignored = [], []
    folder = next(iter(there)).parent
    unused = {place: [entry for entry in entries if entry.name not in used[place]] for place, entries in there.items()}
    alike = {_plain(case): case for case in cases} if any(unused.values()) else {}
    for place, entries in unused.items():
        names = {entry.name for entry in there[place]} if entries else set()
        for entry in entries:
            name = f"{place.name}/{entry.name}"
            reason = _reason(entry, alike, ending, names, place.name.startswith("labels"))
            if reason is None:
                ignored.append(name)
            else:
                faults.append(f"{name} ({reason})")
    fault = (
        f"{folder} holds {count(len(faults), 'file')} that no case uses: {first_names(faults, _SHOWN, '; ')}: rename, "
        "convert or move what is named, so that nothing is left out by mistake."
    )
    remark = f"Ignored in {folder}: {first_names(sorted(ignored, key=_is_hidden), _SHOWN)}."
    return Account((fault,) if faults else (), (remark,) if ignored else ())


def _reason(
    entry: os.DirEntry[str], alike: Mapping[str, str], ending: str, names: Collection[str], is_label: bool
) -> str | None:
    """Return why an entry, of a folder with ``names``, may be an image or a label that got lost; else None."""
    name = entry.name
    if name.startswith(".") or name.lower() in _SYSTEM_FILES or name.endswith("~"):
        return None
    stem = name.removesuffix(ending) if name.endswith(ending) else _IMAGE.sub("", name)
    case = _case_of(stem, alike)
    if entry.is_dir():
        is_lost = is_label and case is not None and case + ending not in names
        return f"a folder with the name of the case {case}" if is_lost else None
    if not name.endswith(ending):
        belongs = any(name.lower().endswith(other) for other in _DATA_FILES.get(ending, ())) and case is not None
        looks_like_one = _IMAGE.search(name) or ("." not in name and case is not None)
        is_lost = looks_like_one and not belongs and stem + ending not in names
        return f"it does not end in {ending}" if is_lost else None
    if case is None:
        return "no case has this name"
    if _plain(stem) != _plain(case):
        return f"a label has no channel number, so it is not that of {case}"
    form = "capitals" if normalize("NFC", stem) != normalize("NFC", case) else "the Unicode form of its letters"
    return f"its name differs from {case} in {form}"


def _case_of(stem: str, alike: Mapping[str, str]) -> str | None:
    """Return the case whose name this is, but for capitals, Unicode form, and a channel number."""
    return alike.get(_plain(stem)) or alike.get(_plain(re.sub(r"_\d{4}$", "", stem)))


def _is_hidden(name: str) -> bool:
    return name.partition("/")[2].startswith(".")


def _plain(name: str) -> str:
    return normalize("NFC", normalize("NFC", name).casefold())
