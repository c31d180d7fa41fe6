"""What the command line asks for, and how it becomes what a campaign has decided."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from nnunet_al.campaign.decisions import DEFAULT_TRAINER, Decisions
from nnunet_al.errors import CampaignError
from nnunet_al.evaluation.groups import read_groups
from nnunet_al.strategies import catalog

_NAME = re.compile(r"[A-Za-z0-9]+([-._][A-Za-z0-9]+)*")  # becomes part of a folder's name
_DEFAULT_BUDGET = {"patch": 100, "slice": 100, "case": 4}
_DEFAULT_INITIAL = {"patch": 100, "slice": 100, "case": 10}


@dataclass(frozen=True)
class Request:
    """What the command line asks for; None where it leaves the decision to the campaign or to the default."""

    dataset: str
    configuration: str
    fold: int
    seed: int
    tag: str | None
    strategy: str
    posterior: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    unit: str | None = None
    overlap: float | None = None
    budget: int | None = None
    initial: int | None = None
    rounds: int | None = None
    engine: str | None = None
    test: str | None = None
    trainer: str | None = None
    planner: str | None = None
    plans: str | None = None
    epochs: int | None = None
    iterations: int | None = None
    batch_size: int | None = None
    optimizer: str | None = None
    dropout: str | None = None
    from_scratch: bool | None = None
    pretrained_weights: str | None = None
    update_intensities: bool | None = None
    precision: str | None = None
    groups: str | None = None
    group_by: tuple[str, ...] | None = None
    initial_groups: dict[str, int] | None = None
    roi_classes: tuple[str, ...] | None = None
    annotate: bool | None = None
    hand_out: str | None = None
    readings: int | None = None
    consensus: str | None = None
    initial_strategy: str | None = None

    def check(self) -> None:
        """Refuse requests that no campaign can fulfil.

        Raises
        ------
        CampaignError
            if a number is out of its range.
        """
        for flag, value in {
            "-b": self.budget, "-initial": self.initial, "-rounds": self.rounds, "-epochs": self.epochs,
            "-iterations": self.iterations, "-batch_size": self.batch_size, "-readings": self.readings,
        }.items():  # fmt: skip
            if value is not None and value < 1:
                raise CampaignError(f"{flag} {value}: give at least 1.")
        if self.overlap is not None and not 0 <= self.overlap < 1:
            raise CampaignError(f"-overlap {self.overlap}: give a share from 0 to below 1.")
        if self.fold < 0 or self.seed < 0:
            raise CampaignError("-f and -seed are numbers from 0.")
        for flag, name in {"-c": self.configuration, "-p": self.plans, "-tag": self.tag}.items():
            if name is not None and not _NAME.fullmatch(name):
                raise CampaignError(
                    f"{flag} '{name}': use letters and digits, with single '-', '_' or '.' between them."
                )
        if (self.groups is None) != (self.group_by is None):
            raise CampaignError("-groups FILE and -group_by COLUMN go together: give both, or neither.")
        if self.groups is not None and not Path(self.groups).is_file():
            raise CampaignError(f"-groups '{self.groups}': there is no such file; give the table of participants.")
        if self.initial_groups is not None:
            wanted = sum(self.initial_groups.values())
            if self.initial is not None and self.initial != wanted:
                raise CampaignError(
                    f"-initial {self.initial}: -initial_groups asks for {wanted} regions; leave -initial out."
                )
        if self.hand_out == "monailabel" and (self.readings or 1) > 1:
            raise CampaignError("-readings: MONAI Label keeps one label of an image; leave -format monailabel out.")
        if self.pretrained_weights is not None and not Path(self.pretrained_weights).is_file():
            raise CampaignError(f"-pretrained_weights: there is no file {self.pretrained_weights}.")

    def decide(self, device: str = "cpu") -> Decisions:
        """Fill in the defaults for a new campaign; pool and test cases are decided by the dataset later.

        On a GPU a network scores in half precision, else in float32.
        """
        unit = self.unit or "patch"
        defaults: dict[str, Any] = {
            "unit": unit, "overlap": 0.5, "budget": _DEFAULT_BUDGET[unit], "initial": _DEFAULT_INITIAL[unit],
            "rounds": 10, "test": "fold", "trainer": DEFAULT_TRAINER, "planner": "nnUNetPlannerAL",
            "plans": "", "epochs": 1000, "iterations": 250, "optimizer": "sgd", "dropout": "decoder",
            "from_scratch": False, "update_intensities": False,
            "precision": "half" if device == "cuda" else "float32",
            "group_by": (), "initial_groups": {}, "roi_classes": (),
            "annotate": False, "hand_out": "folder", "readings": 1, "consensus": "staple", "initial_strategy": "random",
        }  # fmt: skip
        if self.initial_groups is not None:
            defaults["initial"] = sum(self.initial_groups.values())
        wished: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "groups"}
        recipe = catalog.get(wished.pop("strategy"), wished.pop("posterior"))
        wished["recipe"] = catalog.with_parameters(recipe, **wished.pop("parameters"))
        defaults["trainer"] = recipe.trainer or DEFAULT_TRAINER
        if wished["pretrained_weights"] is not None:
            wished["pretrained_weights"] = str(Path(wished["pretrained_weights"]).resolve())
        chosen: dict[str, Any] = {
            name: defaults.get(name) if value is None else value for name, value in wished.items()
        }
        return Decisions(**chosen)

    def read_groups(self, cases: Sequence[str]) -> dict[str, str]:
        """Read the group of each case from the participants' table, if one was given.

        Raises
        ------
        GroupsError
            if the table cannot be used.
        """
        if self.groups is None or self.group_by is None:
            return {}
        return read_groups(Path(self.groups), self.group_by, cases)

    def compare(self, decided: Decisions, place: Path) -> None:
        """Refuse to continue a campaign that was started otherwise.

        Raises
        ------
        CampaignError
            naming each difference, with what the campaign was started with.
        """
        wished = self.decide()
        differences = [
            f"{_flag(f.name)} {_shown(getattr(wished, f.name))} (started with {_shown(getattr(decided, f.name))})"
            for f in fields(self)
            if f.name not in {"strategy", "posterior", "parameters", "groups"} and getattr(self, f.name) is not None
            if getattr(wished, f.name) != getattr(decided, f.name)
        ]
        differences += [
            f"{name}={value} (started with {decided.recipe.parameters.get(name)})"
            for name, value in wished.recipe.parameters.items()
            if name in self.parameters and decided.recipe.parameters.get(name) != value
        ]
        if self.group_by == decided.group_by:
            differences += _moved(self.read_groups(list(decided.groups)), decided.groups)
        if differences:
            raise CampaignError(
                f"The campaign {place} was started otherwise: {', '.join(differences)}; leave these options out to "
                "continue it, or keep the two apart with -tag."
            )


def _moved(wished: Mapping[str, str], decided: Mapping[str, str]) -> list[str]:
    moved = [case for case, group in decided.items() if wished.get(case, group) != group]
    return [f"-groups that puts {moved[0]} into {wished[moved[0]]} (started with {decided[moved[0]]})"] if moved else []


_FLAGS = {
    "budget": "-b",
    "planner": "-pl",
    "trainer": "-tr",
    "plans": "-p",
    "from_scratch": "--from_scratch",
    "update_intensities": "--update_intensities",
    "annotate": "--annotate",
    "hand_out": "-format",
}


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        value = tuple(f"{key}={number}" for key, number in value.items())
    return (" ".join(value) or "none") if isinstance(value, tuple) else str(value)


def _flag(name: str) -> str:
    return _FLAGS.get(name, f"-{name}")
