"""campaign.json: what was decided at the start of a campaign and holds until its end."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from nnunet_al.errors import CampaignError
from nnunet_al.files import read_json, write_json
from nnunet_al.strategies import catalog
from nnunet_al.strategies.recipe import Recipe

SCHEMA = 1
UNITS = ("patch", "slice", "case")
DEFAULT_TRAINER = "nnUNetTrainerAL"
_NAME = re.compile(r"[A-Za-z0-9]+([-._][A-Za-z0-9]+)*")  # becomes part of a folder's name
_DEFAULT_BUDGET = {"patch": 100, "slice": 100, "case": 4}
_DEFAULT_INITIAL = {"patch": 100, "slice": 100, "case": 10}


@dataclass(frozen=True)
class Decisions:
    """Everything that the choice of a batch depends on, beside the data.

    Attributes
    ----------
    unit : what one annotation is: "patch", "slice" or "case"
    overlap : share by which neighbouring patches overlap
    budget, initial : regions asked for in a round, and in round 0
    rounds : planned number of rounds, which schedules read
    engine : who maximises FLQMI, "submodlib" or "streaming"; None where the strategy has no use for it
    precision : number type of the network that scores, "float32" or "half"; fixed, because it changes last digits
    test : "fold" (validation cases of the fold) or "ts" (imagesTs, labelsTs)
    plans : name of the plans; empty until the first plan, for the planner's own
    starts_from : "nothing", or "dataset" where the dataset is annotated in part
    pool_cases, test_cases : case ids
    """

    dataset: str
    configuration: str
    fold: int
    seed: int
    tag: str | None
    recipe: Recipe
    unit: str
    overlap: float
    budget: int
    initial: int
    rounds: int
    engine: str | None
    test: str
    trainer: str
    planner: str
    plans: str
    epochs: int
    iterations: int
    batch_size: int | None
    optimizer: str
    dropout: str
    from_scratch: bool
    pretrained_weights: str | None
    update_intensities: bool
    precision: str = "float32"
    starts_from: str = "nothing"
    pool_cases: tuple[str, ...] = ()
    test_cases: tuple[str, ...] = ()
    hashes: dict[str, str] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write the decisions; this is the moment in which a campaign begins to exist."""
        content = {f.name: getattr(self, f.name) for f in fields(self)}
        write_json(path, {"schema": SCHEMA, **content, "recipe": self.recipe.to_json()})

    @classmethod
    def load(cls, path: Path) -> Decisions:
        """Read the decisions of a campaign.

        Raises
        ------
        CampaignError
            if they were written by a newer version.
        """
        content = read_json(path)
        if (schema := content.pop("schema")) != SCHEMA:
            raise CampaignError(f"{path} has schema {schema}, this version reads {SCHEMA}: update nnunet-al.")
        content["recipe"] = Recipe.from_json(content["recipe"])
        for name in ("pool_cases", "test_cases"):
            content[name] = tuple(content[name])
        return cls(**content)


@dataclass(frozen=True)
class Wishes:
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

    def check(self) -> None:
        """Refuse wishes that no campaign can fulfil.

        Raises
        ------
        CampaignError
            if a number is out of its range.
        """
        for flag, value in {
            "-b": self.budget, "-initial": self.initial, "-rounds": self.rounds, "-epochs": self.epochs,
            "-iterations": self.iterations, "-batch_size": self.batch_size,
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
        }  # fmt: skip
        wished: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        recipe = catalog.get(wished.pop("strategy"), wished.pop("posterior"))
        wished["recipe"] = recipe.with_parameters(**wished.pop("parameters"))
        defaults["trainer"] = recipe.trainer or DEFAULT_TRAINER
        if wished["pretrained_weights"] is not None:
            wished["pretrained_weights"] = str(Path(wished["pretrained_weights"]).resolve())
        chosen: dict[str, Any] = {
            name: defaults.get(name) if value is None else value for name, value in wished.items()
        }
        return Decisions(**chosen)

    def compare(self, decided: Decisions, place: Path) -> None:
        """Refuse to continue a campaign that was started otherwise.

        Raises
        ------
        CampaignError
            naming each difference, with what the campaign was started with.
        """
        wished = self.decide()
        differences = [
            f"{_flag(f.name)} {getattr(wished, f.name)} (started with {getattr(decided, f.name)})"
            for f in fields(self)
            if f.name not in {"strategy", "posterior", "parameters"} and getattr(self, f.name) is not None
            if getattr(wished, f.name) != getattr(decided, f.name)
        ]
        differences += [
            f"{name}={value} (started with {decided.recipe.parameters.get(name)})"
            for name, value in wished.recipe.parameters.items()
            if name in self.parameters and decided.recipe.parameters.get(name) != value
        ]
        if differences:
            raise CampaignError(
                f"The campaign {place} was started otherwise: {', '.join(differences)}; leave these options out to "
                "continue it, or keep the two apart with -tag."
            )


_FLAGS = {
    "budget": "-b",
    "planner": "-pl",
    "trainer": "-tr",
    "plans": "-p",
    "from_scratch": "--from_scratch",
    "update_intensities": "--update_intensities",
}


def _flag(name: str) -> str:
    return _FLAGS.get(name, f"-{name}")
