"""A raw dataset of nnU-Net: its labels, its channels and the files of each case."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nnunet_al.errors import DatasetError
from nnunet_al.nnunet.case_files import CaseFiles, cases_in, listed_cases
from nnunet_al.nnunet.dataset_json import (
    LabelValue,
    all_values,
    foreground,
    label_faults,
    read_dataset_json,
    read_labels,
)
from nnunet_al.nnunet.unused_files import Account


@dataclass(frozen=True)
class RawDataset:
    """The content of ``dataset.json`` and the files in the folders beside it; no image is opened.

    Attributes
    ----------
    labels : label value of each declared name, background and ignore included; a tuple of values for a region
    cases, test_cases : files of each case, sorted by case id as in nnU-Net
    account, test_account : whatever else lies in the folders, or is declared and does not fit
    """

    name: str
    folder: Path
    dataset_json: dict[str, Any] = field(repr=False)
    file_ending: str
    channels: tuple[str, ...]
    labels: dict[str, LabelValue]
    cases: dict[str, CaseFiles] = field(repr=False)
    test_cases: dict[str, CaseFiles] = field(repr=False)
    account: Account = field(repr=False, default=Account())
    test_account: Account = field(repr=False, default=Account())

    @classmethod
    def read(cls, folder: Path) -> RawDataset:
        """Read ``folder/dataset.json`` and list the cases from its ``dataset`` key or from imagesTr and labelsTr.

        Raises DatasetError if ``dataset.json`` is missing, unreadable or incomplete, or if an image is missing.
        """
        content = read_dataset_json(folder)
        labels = read_labels(folder / "dataset.json", content)
        ending = content["file_ending"]
        channels = tuple(str(name) for name in content["channel_names"].values())
        if "dataset" in content:
            cases, account = listed_cases(folder, content["dataset"], ending, len(channels))
        else:
            images = folder / "imagesTr"
            if not images.is_dir():
                raise DatasetError(f"{images} is missing: put the pool's images there, or list them in dataset.json.")
            cases, account = cases_in(folder, "Tr", ending, len(channels))
            if not cases:
                raise DatasetError(
                    f"{images} holds no image named like case_0000{ending}: put the pool's images there."
                )
        try:
            tests, test_account = cases_in(folder, "Ts", ending, len(channels))
        except DatasetError as error:
            tests, test_account = {}, Account((str(error),))
        faults = label_faults(folder / "dataset.json", labels, content.get("regions_class_order"))
        remarks = []
        if (declared := content.get("numTraining", len(cases))) != len(cases):
            remarks = [
                f"{folder / 'dataset.json'} gives numTraining as {declared!r}, but there are {len(cases)} cases."
            ]
        account = Account((*faults, *account.faults), (*remarks, *account.remarks))
        return cls(folder.name, folder, content, ending, channels, labels, cases, tests, account, test_account)

    def accounts(self, test: str) -> list[Account]:
        """Return the accounts of the folders that a campaign looks at: those of the test cases only with ``ts``."""
        return [self.account, self.test_account] if test == "ts" else [self.account]

    @property
    def ignore_label(self) -> int | None:
        """The value of the ignore label that the dataset declares, if it declares one."""
        value = self.labels.get("ignore")
        return value if isinstance(value, int) else None

    @property
    def label_values(self) -> tuple[int, ...]:
        """All declared values without ignore, sorted."""
        return all_values(value for name, value in self.labels.items() if name != "ignore")

    @property
    def effective_ignore(self) -> int:
        """The value of unannotated voxels: the declared ignore label, or the largest label plus one."""
        return self.label_values[-1] + 1 if self.ignore_label is None else self.ignore_label

    @property
    def classes(self) -> dict[str, LabelValue]:
        """The foreground classes (or regions) by name: all labels except background and ignore."""
        return foreground(self.labels)

    @property
    def has_regions(self) -> bool:
        """Whether a label name stands for several values, so that nnU-Net trains overlapping regions."""
        return any(isinstance(value, tuple) and len(value) > 1 for value in self.labels.values())
