"""What was decided at the start of a campaign and holds until its end (``campaign.json``), and how a call runs."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from nnunet_al.errors import CampaignError
from nnunet_al.files import read_json, write_json
from nnunet_al.strategies import compatibility
from nnunet_al.strategies.recipe import Recipe

SCHEMA = 1
DEFAULT_TRAINER = "nnUNetTrainerAL"
_TUPLES = (
    *("pool_cases", "test_cases", "withdrawn_cases", "left_out_cases"),
    *("group_by", "roi_classes", "pool_changes"),
)


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
    test : "fold" (validation cases of the fold), "ts" (imagesTs, labelsTs) or "none"
    plans : name of the plans; empty until the first plan, for the planner's own
    starts_from : "nothing", or "dataset" where the dataset is annotated in part
    pool_cases, test_cases : case ids
    withdrawn_cases : cases that were taken out of the campaign after it had begun; nothing of them is used any more
    annotate : whether people answer the batches, not the dataset's own labels
    hand_out : form of the folder that they get, "folder" or "monailabel"
    readings : independent annotations that each region gets
    consensus : how several readings become one, "staple" or "majority"
    initial_strategy : how round 0 chooses, "random" or "core_set" (spread out by image features)
    left_out_cases : cases that the dataset had when the campaign began and that are in neither part
    pool_changes : what was added and withdrawn since, in order: first round that it holds for, cases, reason,
        and whether a batch was waiting
    group_by : columns of the participants' table that define the groups of cases; none where there are no groups
    groups : case -> its group, of pool and test cases
    initial_groups : group -> regions of round 0 from its cases; empty where the whole pool is drawn from
    roi_classes : foreground classes that groups are compared by and that `localized` looks at; none: all
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
    group_by: tuple[str, ...] = ()
    groups: dict[str, str] = field(default_factory=dict)
    initial_groups: dict[str, int] = field(default_factory=dict)
    roi_classes: tuple[str, ...] = ()
    annotate: bool = False
    hand_out: str = "folder"
    readings: int = 1
    consensus: str = "staple"
    initial_strategy: str = "random"
    withdrawn_cases: tuple[str, ...] = ()
    left_out_cases: tuple[str, ...] = ()
    pool_changes: tuple[dict[str, Any], ...] = ()

    @property
    def cases(self) -> tuple[str, ...]:
        """Pool and test cases: all that the campaign looks at."""
        return (*self.pool_cases, *self.test_cases)

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
            if they were written by a newer version, or cannot be read.
        """
        try:
            content = read_json(path)
            schema = content.pop("schema")
            if schema == SCHEMA:
                content["recipe"] = compatibility.read(content["recipe"])
                for name in _TUPLES:
                    content[name] = tuple(content.get(name, ()))
                return cls(**content)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CampaignError(f"{path} cannot be read: restore it from a backup.") from error
        raise CampaignError(f"{path} has schema {schema}, this version reads {SCHEMA}: update nnunet-al.")


@dataclass(frozen=True)
class Options:
    """Where and how a round runs; nothing here changes a batch.

    Attributes
    ----------
    device : "cuda", "cpu" or "mps"
    workers : processes for preprocessing, threads for reading
    scoring_batch_size : windows held at a time while scoring
    gpus : of this machine, that a training uses at once
    parts, part : number of shards in which the pool is scored, and the one of this call
    keep : "all", "last" or "none": checkpoints to keep; what the next round starts from always stays
    verbose : show what nnU-Net prints
    share_first : take the first model from a campaign that has trained on the very same, rather than train it again
    """

    device: str = "cuda"
    workers: int = 2
    scoring_batch_size: int = 64
    gpus: int = 1
    parts: int = 1
    part: int = 0
    keep: str = "all"
    verbose: bool = False
    share_first: bool = False

    def check(self) -> None:
        """Refuse numbers that mean nothing.

        Raises
        ------
        CampaignError
            naming the option.
        """
        for flag, value in {
            "-np": self.workers,
            "-scoring_batch_size": self.scoring_batch_size,
            "-num_gpus": self.gpus,
            "-num_parts": self.parts,
        }.items():
            if value < 1:
                raise CampaignError(f"{flag} {value}: give at least 1.")
        if not 0 <= self.part < self.parts:
            raise CampaignError(f"-part_id {self.part}: with -num_parts {self.parts} give 0 to {self.parts - 1}.")
