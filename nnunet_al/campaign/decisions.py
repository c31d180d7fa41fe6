"""The decisions of a campaign's start, which hold until its end (``campaign.json``), and how a call runs."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nnunet_al.checksums import SEAL, is_sealed, seal
from nnunet_al.errors import CampaignError
from nnunet_al.files import read_json, write_json
from nnunet_al.settings import SETTINGS, Settings
from nnunet_al.strategies import compatibility
from nnunet_al.strategies.recipe import Recipe

SCHEMA = 1
_IN_EVERY_FILE = (
    *("dataset", "configuration", "fold", "seed", "tag", "recipe", "unit", "overlap", "budget", "initial", "rounds"),
    *("engine", "test", "trainer", "planner", "plans", "epochs", "iterations", "batch_size", "optimizer", "dropout"),
    *("from_scratch", "pretrained_weights", "update_intensities"),
)
_SELDOM = {"pretrained_heads": "kept", "pretrained_checksum": None}  # written only where they say something else
_ORDER = (  # in which they are written; settings that are not named here come last
    *_IN_EVERY_FILE,
    *("precision", "starts_from", "pool_cases", "test_cases", "hashes", "group_by", "groups", "initial_groups"),
    *("roi_classes", "annotate", "hand_out", "readings", "consensus", "initial_strategy", "withdrawn_cases"),
    *("left_out_cases", "pool_changes", "training_precision", "ties", "regions_checksum", "plan_checksum"),
)
_TIES = ("seeded", "names")
_TRAINING_PRECISIONS = ("stock", "half", "float32")
_DECIDED_AT_THE_START = (  # a command names the settings again, which are compared; nobody names these again
    *("engine", "plans", "starts_from", "pool_cases", "test_cases", "hashes", "groups", "withdrawn_cases"),
    *("left_out_cases", "pool_changes", "regions_checksum", "plan_checksum"),
)


@dataclass(frozen=True, kw_only=True)
class Decisions(Settings):
    """Everything that the choice of a batch depends on, beside the data: the settings, and the fields listed here.

    Attributes
    ----------
    starts_from : "nothing", or "dataset" where the dataset is annotated in part
    pool_cases, test_cases : case ids
    withdrawn_cases : cases that were taken out of the campaign after it had begun; nothing of them is used any more
    left_out_cases : cases that the dataset had when the campaign began and that are in neither part
    pool_changes : additions and withdrawals since, in order: first round that each holds for, cases, reason, and
        whether a batch was waiting
    groups : case -> its group, of pool and test cases
    training_precision : "half" or "float32", as ``precision``; "stock", which is nnU-Net's own, in campaigns that began
        when ``-precision`` was of the scoring alone
    pretrained_checksum : of the file ``pretrained_weights``; None where there is none, or nobody wrote it down
    pretrained_heads : "kept"; "left_out" where ``pretrained_weights`` were trained on other classes
    ties : "seeded": equal scores are in an order that the seed draws; "names" in campaigns that began before
    regions_checksum, plan_checksum : of the regions, and of the first plan; None until an old campaign goes on
    """

    dataset: str
    configuration: str
    fold: int
    seed: int
    tag: str | None
    recipe: Recipe
    starts_from: str = "nothing"
    pool_cases: tuple[str, ...] = ()
    test_cases: tuple[str, ...] = ()
    hashes: dict[str, str] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    withdrawn_cases: tuple[str, ...] = ()
    left_out_cases: tuple[str, ...] = ()
    pool_changes: tuple[dict[str, Any], ...] = ()
    training_precision: str = "stock"
    pretrained_checksum: str | None = None
    pretrained_heads: str = "kept"
    ties: str = "names"
    regions_checksum: str | None = None
    plan_checksum: str | None = None

    @property
    def cases(self) -> tuple[str, ...]:
        """Pool and test cases: all that the campaign looks at."""
        return (*self.pool_cases, *self.test_cases)

    @property
    def options(self) -> str:
        """The options that name the campaign in every command."""
        number = int(self.dataset.removeprefix("Dataset").partition("_")[0])
        words = (
            f"-d {number} -s {shlex.quote(self.recipe.name)} -c {self.configuration} -f {self.fold} -seed {self.seed}"
        )
        return words + (f" -tag {self.tag}" if self.tag else "")

    def save(self, path: Path) -> None:
        """Write the decisions; this is the moment in which a campaign begins to exist."""
        names = dict.fromkeys([*_ORDER, *(setting.name for setting in SETTINGS)])
        content = {name: getattr(self, name) for name in names}
        content |= {name: value for name, usual in _SELDOM.items() if (value := getattr(self, name)) != usual}
        content = {"schema": SCHEMA, **content, "recipe": self.recipe.to_json()}
        write_json(path, seal(content, _DECIDED_AT_THE_START))

    def add_checksums(self, path: Path) -> None:
        """Add the checksums to a file of an earlier version, which keeps all else as it is."""
        found = {"regions_checksum": self.regions_checksum, "plan_checksum": self.plan_checksum}
        write_json(path, seal(read_json(path) | found, _DECIDED_AT_THE_START))

    @classmethod
    def load(cls, path: Path) -> Decisions:
        """Read the decisions of a campaign.

        Raises CampaignError if they were written by a newer version, or cannot be read.
        """
        try:
            content = read_json(path)
            schema = content.pop("schema")
            if schema == SCHEMA:
                if missing := {*_IN_EVERY_FILE} - {*content}:
                    raise KeyError(*missing)
                if content.keys() >= {*_DECIDED_AT_THE_START} and not is_sealed(content, _DECIDED_AT_THE_START):
                    raise CampaignError(f"{path} is damaged, or was changed by hand: restore it from a backup.")
                content.pop(SEAL, None)
                decided: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in content.items()}
                found = cls(**decided | {"recipe": compatibility.read(content["recipe"])})
                if found.ties not in _TIES or found.training_precision not in _TRAINING_PRECISIONS:
                    raise ValueError(found.ties, found.training_precision)
                return found
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
    keep : "all", "last" or "none": checkpoints to keep; the one that the next round starts from always stays
    verbose : show nnU-Net's output
    keep_predictions : number of test cases, the first ones, whose predictions a round keeps
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
    keep_predictions: int = 0

    def check(self) -> None:
        """Refuse numbers that mean nothing.

        Raises CampaignError naming the option.
        """
        for flag, value in {
            "-np": self.workers,
            "-scoring_batch_size": self.scoring_batch_size,
            "-num_gpus": self.gpus,
            "-num_parts": self.parts,
        }.items():
            if value < 1:
                raise CampaignError(f"{flag} {value}: give at least 1.")
        if self.keep_predictions < 0:
            raise CampaignError(f"-keep_predictions {self.keep_predictions}: give a number of test cases, from 0.")
        if not 0 <= self.part < self.parts:
            raise CampaignError(f"-part_id {self.part}: with -num_parts {self.parts} give 0 to {self.parts - 1}.")
