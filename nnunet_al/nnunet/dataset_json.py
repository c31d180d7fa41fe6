"""The content of a raw dataset's ``dataset.json``: read, and checked for shape and types."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nnunet_al.errors import DatasetError
from nnunet_al.text import joined
from nnunet_al.user_files import read_user_json

LabelValue = int | tuple[int, ...]


def read_dataset_json(folder: Path) -> dict[str, Any]:
    """Read ``folder/dataset.json``.

    Raises DatasetError if it is missing, unreadable or incomplete, or if a value has a type that nnU-Net cannot use.
    """
    path = folder / "dataset.json"
    if not os.path.lexists(path):
        raise DatasetError(f"{path} is missing: every nnU-Net dataset needs one.")
    content = read_user_json(path)
    if not isinstance(content, dict):
        raise DatasetError(f"{path} holds no JSON object: write it as nnU-Net's documentation says.")
    if "channel_names" not in content and "modality" in content:  # the name before nnU-Net v2
        content = {**content, "channel_names": content["modality"]}
    missing = [key for key in ("channel_names", "labels", "file_ending") if not content.get(key)]
    if missing:
        raise DatasetError(f"{path} has no {' and no '.join(missing)}: add them as nnU-Net's documentation says.")
    if not isinstance(content["channel_names"], dict) or not isinstance(content["labels"], dict):
        raise DatasetError(f"{path} must hold channel_names and labels as objects, like {{'0': 'CT'}}: correct it.")
    for number, name in content["channel_names"].items():
        if not isinstance(name, str) or (name.isdecimal() and not number.isdecimal()):
            raise DatasetError(
                f"channel_names in {path} holds {number!r}: {name!r}, but must give each channel's number a name, like "
                "{'0': 'CT'}: correct it."
            )
    ending = content["file_ending"]
    if not isinstance(ending, str) or not ending.startswith(".") or "/" in ending:
        raise DatasetError(f"file_ending in {path} must be a text that starts with a dot, like '.nii.gz': correct it.")
    if not isinstance(content.get("overwrite_image_reader_writer", ""), str):
        raise DatasetError(
            f"overwrite_image_reader_writer in {path} is {content['overwrite_image_reader_writer']!r}: give the name "
            "of one of nnU-Net's readers, like 'SimpleITKIO', or remove the key."
        )
    return content


def read_labels(path: Path, content: Mapping[str, Any]) -> dict[str, LabelValue]:
    """Return the value of each label name; a tuple for a region.

    Raises DatasetError if nnU-Net could not use them.
    """
    labels = {name: _value(path, name, value) for name, value in content["labels"].items()}
    if labels.get("background") != 0:
        raise DatasetError(f"{path} must declare the label 'background' with value 0: add it.")
    values = all_values(value for name, value in labels.items() if name != "ignore")
    if values != tuple(range(len(values))) or len(values) < 2:
        raise DatasetError(
            f"The labels in {path} must be 0, 1, 2, ... without a gap, but are {list(values)}: renumber."
        )
    if "ignore" in labels and (labels["ignore"] != values[-1] + 1 or isinstance(content["labels"]["ignore"], str)):
        raise DatasetError(f"The ignore label in {path} must be {values[-1] + 1}, one above the others: correct it.")
    if any(isinstance(value, tuple) and len(value) > 1 for value in labels.values()):
        n_regions = len(foreground(labels))
        order = content.get("regions_class_order")
        if not isinstance(order, list) or len(order) != n_regions or not all(type(value) is int for value in order):
            raise DatasetError(f"{path} declares regions, so regions_class_order must list {n_regions} values: add it.")
        if texts := [name for name, value in content["labels"].items() if isinstance(value, str)]:
            raise DatasetError(
                f"Label {texts[0]!r} in {path} has the value {content['labels'][texts[0]]!r}: give whole numbers, "
                "without quotation marks where regions are declared."
            )
    return labels


def label_faults(path: Path, labels: Mapping[str, LabelValue], order: list[int] | None) -> list[str]:
    """Return a sentence if two names stand for one value, or if regions do not give each label back.

    nnU-Net turns regions into labels in ``order``: each region overwrites the ones before it with its value.
    """
    regions = foreground(labels)
    if order is None or not any(isinstance(value, tuple) and len(value) > 1 for value in labels.values()):
        of_value: dict[tuple[int, ...], list[str]] = {}
        for name, value in labels.items():
            of_value.setdefault(all_values([value]), []).append(name)
        same = next((names for names in of_value.values() if len(names) > 1), None)
        return [f"The labels {joined(same)} in {path} have one value: give each its own."] if same else []
    wrong = []
    for label in all_values(regions.values()):
        inside = [value for region, value in zip(regions.values(), order, strict=True) if label in all_values([region])]
        if inside and inside[-1] != label and label != 0:
            wrong.append(f"{label} comes back as {inside[-1]}")
    if not wrong:
        return []
    return [
        f"regions_class_order {order} in {path} does not give the labels back that the regions {joined(list(regions))} "
        f"are made of ({', '.join(wrong)}): list for each region, in the order in which they are declared, the label "
        "that is left when later regions have overwritten theirs, outer regions first."
    ]


def foreground(labels: Mapping[str, LabelValue]) -> dict[str, LabelValue]:
    """Return the foreground classes (or regions): all labels except background and ignore."""
    return {name: value for name, value in labels.items() if name != "ignore" and all_values([value]) != (0,)}


def all_values(values: Iterable[LabelValue]) -> tuple[int, ...]:
    """Return the label values in several labels and regions, sorted."""
    return tuple(sorted({part for value in values for part in (value if isinstance(value, tuple) else (value,))}))


def _value(path: Path, name: str, value: Any) -> LabelValue:
    if isinstance(value, list) and value and all(type(part) is int for part in value):
        return tuple(value)
    if type(value) is int or (isinstance(value, float) and value.is_integer()):
        return int(value)
    if isinstance(value, str) and value.isdecimal():
        return int(value)
    hint = " of each name, like {'background': 0, 'organ': 1}" if name.isdecimal() else ""
    raise DatasetError(f"Label {name!r} in {path} has the value {value!r}: give whole numbers{hint}.")
