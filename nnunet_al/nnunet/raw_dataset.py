"""A raw dataset of nnU-Net: its labels, its channels and the files of each case."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nnunet_al.errors import DatasetError

LabelValue = int | tuple[int, ...]

_COLOUR_ENDINGS = {".png", ".bmp", ".tif", ".tiff"}


@dataclass(frozen=True)
class CaseFiles:
    """The files of one case: one image per channel, and the label, which is None if the case is not labelled."""

    images: tuple[Path, ...]
    label: Path | None


@dataclass(frozen=True)
class RawDataset:
    """The content of ``dataset.json`` and the files in the folders beside it; no image is opened.

    Attributes
    ----------
    labels : label value of each declared name, background and ignore included; a tuple of values for a region
    cases, test_cases : files of each case, sorted by case id as in nnU-Net
    """

    name: str
    folder: Path
    dataset_json: dict[str, Any] = field(repr=False)
    file_ending: str
    channels: tuple[str, ...]
    labels: dict[str, LabelValue]
    cases: dict[str, CaseFiles] = field(repr=False)
    test_cases: dict[str, CaseFiles] = field(repr=False)

    @classmethod
    def read(cls, folder: Path) -> RawDataset:
        """Read ``folder/dataset.json`` and list the cases from its ``dataset`` key or from imagesTr and labelsTr.

        Raises DatasetError if ``dataset.json`` is missing, unreadable or incomplete, or if an image is missing.
        """
        content = _read_dataset_json(folder)
        ending = content["file_ending"]
        channels = tuple(str(name) for name in content["channel_names"].values())
        if "dataset" in content:
            cases = _listed_cases(folder, content["dataset"], ending, len(channels))
        else:
            cases = _cases_in(folder, "Tr", ending, len(channels))
            if not cases:
                raise DatasetError(
                    f"{folder / 'imagesTr'} holds no image named like case_0000{ending}: put the pool's images there."
                )
        tests = _cases_in(folder, "Ts", ending, len(channels))
        labels = _read_labels(folder / "dataset.json", content)
        return cls(folder.name, folder, content, ending, channels, labels, cases, tests)

    @property
    def ignore_label(self) -> int | None:
        """The value of the ignore label that the dataset declares, if it declares one."""
        value = self.labels.get("ignore")
        return value if isinstance(value, int) else None

    @property
    def label_values(self) -> tuple[int, ...]:
        """All declared values without ignore, sorted."""
        return _values(value for name, value in self.labels.items() if name != "ignore")

    @property
    def effective_ignore(self) -> int:
        """The value of unannotated voxels: the declared ignore label, or the largest label plus one."""
        return self.label_values[-1] + 1 if self.ignore_label is None else self.ignore_label

    @property
    def classes(self) -> dict[str, LabelValue]:
        """The foreground classes (or regions) by name: all labels except background and ignore."""
        return {name: value for name, value in self.labels.items() if name != "ignore" and _values([value]) != (0,)}

    @property
    def has_regions(self) -> bool:
        """Whether a label name stands for several values, so that nnU-Net trains overlapping regions."""
        return any(isinstance(value, tuple) and len(value) > 1 for value in self.labels.values())


def _read_dataset_json(folder: Path) -> dict[str, Any]:
    path = folder / "dataset.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DatasetError(f"{path} is missing: every nnU-Net dataset needs one.") from None
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} cannot be read ({error}): correct it.") from error
    if not isinstance(content, dict):
        raise DatasetError(f"{path} holds no JSON object: write it as nnU-Net's documentation says.")
    if "channel_names" not in content and "modality" in content:  # the name before nnU-Net v2
        content = {**content, "channel_names": content["modality"]}
    missing = [key for key in ("channel_names", "labels", "file_ending") if not content.get(key)]
    if missing:
        raise DatasetError(f"{path} has no {' and no '.join(missing)}: add them as nnU-Net's documentation says.")
    if not isinstance(content["channel_names"], dict) or not isinstance(content["labels"], dict):
        raise DatasetError(f"{path} must hold channel_names and labels as objects, like {{'0': 'CT'}}: correct it.")
    if not isinstance(content["file_ending"], str) or not content["file_ending"].startswith("."):
        raise DatasetError(f"file_ending in {path} must be a text that starts with a dot, like '.nii.gz': correct it.")
    return content


def _read_labels(path: Path, content: dict[str, Any]) -> dict[str, LabelValue]:
    labels: dict[str, LabelValue] = {}
    for name, value in content["labels"].items():
        try:
            labels[name] = tuple(int(part) for part in value) if isinstance(value, list) else int(value)
        except (TypeError, ValueError):
            raise DatasetError(f"Label {name!r} in {path} has the value {value!r}: give whole numbers.") from None
    if labels.get("background") != 0:
        raise DatasetError(f"{path} must declare the label 'background' with value 0: add it.")
    values = _values(value for name, value in labels.items() if name != "ignore")
    if values != tuple(range(len(values))) or len(values) < 2:
        raise DatasetError(
            f"The labels in {path} must be 0, 1, 2, ... without a gap, but are {list(values)}: renumber."
        )
    if "ignore" in labels and labels["ignore"] != values[-1] + 1:
        raise DatasetError(f"The ignore label in {path} must be {values[-1] + 1}, one above the others: correct it.")
    n_regions = sum(name != "ignore" and _values([value]) != (0,) for name, value in labels.items())
    if any(isinstance(value, tuple) and len(value) > 1 for value in labels.values()):
        order = content.get("regions_class_order")
        if not isinstance(order, list) or len(order) != n_regions:
            raise DatasetError(f"{path} declares regions, so regions_class_order must list {n_regions} values: add it.")
    return labels


def _values(values: Any) -> tuple[int, ...]:
    return tuple(sorted({part for value in values for part in (value if isinstance(value, tuple) else (value,))}))


def _cases_in(folder: Path, part: str, ending: str, n_channels: int) -> dict[str, CaseFiles]:
    images, labels = folder / f"images{part}", folder / f"labels{part}"
    if not images.is_dir():
        if part == "Tr":
            raise DatasetError(f"{images} is missing: put the pool's images there, or list them in dataset.json.")
        return {}
    pattern = re.compile(r"(.+)_(\d{4})" + re.escape(ending))
    found: dict[str, dict[int, Path]] = {}
    for name in sorted(file.name for file in images.iterdir()):
        if name.startswith(".") or not name.endswith(ending):
            continue
        match = pattern.fullmatch(name)
        if match is None:
            raise DatasetError(f"{images / name} has no channel number: name images like case_0000{ending}.")
        found.setdefault(match[1], {})[int(match[2])] = images / name
    cases = {}
    for case, by_channel in sorted(found.items()):
        wanted = 1 if _is_one_colour_image(ending, by_channel) else n_channels
        if sorted(by_channel) != list(range(wanted)):
            missing = [images / f"{case}_{c:04d}{ending}" for c in range(wanted) if c not in by_channel]
            fault = f"{missing[0]} is missing" if missing else f"{by_channel[max(by_channel)]} is one channel too many"
            raise DatasetError(f"{fault}: dataset.json declares {n_channels} channel(s); add or remove the file.")
        label = labels / (case + ending)
        cases[case] = CaseFiles(tuple(by_channel[c] for c in range(wanted)), label if label.is_file() else None)
    return cases


def _listed_cases(folder: Path, listed: Any, ending: str, n_channels: int) -> dict[str, CaseFiles]:
    path = folder / "dataset.json"
    if not isinstance(listed, dict) or not listed:
        raise DatasetError(f"The key 'dataset' in {path} lists no case: fill it, or remove it to use imagesTr.")
    cases = {}
    for case, entry in sorted(listed.items()):
        images = entry.get("images") if isinstance(entry, Mapping) else None
        if (
            not isinstance(images, list)
            or (len(images) != n_channels and not _is_one_colour_image(ending, images))
            or "/" in case
            or os.sep in case
        ):
            raise DatasetError(
                f"Case {case!r} in {path} must be a plain name with {n_channels} image(s) under 'images': correct it."
            )
        files = tuple(_expand(folder, image) for image in images)
        for file in files:
            if not file.is_file():
                raise DatasetError(f"{file}, an image of case {case} in {path}, does not exist: correct the path.")
        label = _expand(folder, entry["label"]) if entry.get("label") else None
        cases[case] = CaseFiles(files, label if label is not None and label.is_file() else None)
    return cases


def _is_one_colour_image(ending: str, images: Sized) -> bool:
    """Whether a case has one image in a format for colour images, from which nnU-Net reads all channels."""
    return ending in _COLOUR_ENDINGS and len(images) == 1


def _expand(folder: Path, text: str) -> Path:
    return Path(os.path.abspath(folder / os.path.expandvars(text)))  # noqa: PTH100 -- keeps links, like nnU-Net
