"""The settings of a campaign: one table, whose lines are the fields of dataclasses.

A line says which option sets it, which values it takes and its default. The options of the commands, requests, the
decisions of campaigns, the settings of trainers, and the command lines of jobs and reports are all made from it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from nnunet_al.errors import CampaignError

DEFAULT_TRAINER = "nnUNetTrainerAL"
_NAME = re.compile(r"[A-Za-z0-9]+([-._][A-Za-z0-9]+)*")  # becomes part of a folder's name


@dataclass(frozen=True)
class Setting:
    """One line of the table.

    Attributes
    ----------
    name : the field of decisions, requests and ``campaign.json``
    flag : the option that sets it
    type : of its value, or a function that reads it: bool (an option without value), int, float, str, Path (an existing
        file, kept as str), tuple (several words) or dict (several ``NAME=N``)
    help : for the command line
    default : of a new campaign; None where it follows from others, see `Request.decide`
    choices, metavar : as argparse has them
    check : raises CampaignError for a value that cannot be used; gets flag and value
    read : makes a value from the words of a tuple or dict
    """

    name: str
    flag: str
    type: Callable[[Any], Any]
    help: str
    default: Any = None
    choices: tuple[str, ...] | None = None
    metavar: str | None = None
    check: Callable[[str, Any], None] = lambda flag, value: None
    read: Callable[[list[str]], Any] = tuple

    @property
    def argument(self) -> str:
        """Name of the option's value among parsed arguments."""
        return self.flag.lstrip("-")

    def words(self, value: Any) -> list[str]:
        """Return the option with this value, as it is typed; nothing where the value is open or none."""
        if value is None or value is False or value in ("", (), {}):
            return []
        if self.type is bool:
            return [self.flag]
        if self.type is tuple:
            return [self.flag, *value]
        if self.type is dict:
            return [self.flag, *(f"{key}={number}" for key, number in value.items())]
        return [self.flag, str(Path(value).absolute() if self.type is Path else value)]


def setting(flag: str, type: Callable[[Any], Any], help: str, **others: Any) -> Any:
    """Return a dataclass field that is a line of the table.

    ``before`` is the value of campaigns that began before there was such a setting, if that is not the default.
    """
    before = others.pop("before", others.get("default"))
    line = Setting("", flag, type, help, **others)
    if isinstance(before, dict):
        return field(default_factory=lambda: dict(before), metadata={"setting": line})
    return field(default=before, metadata={"setting": line})


def settings_of(part: type) -> tuple[Setting, ...]:
    """Return the lines of one part of the table, in order."""
    return tuple(replace(f.metadata["setting"], name=f.name) for f in fields(part) if "setting" in f.metadata)


def words(settings: Iterable[Setting], values: object, *types: Callable[[Any], Any]) -> list[str]:
    """Return the options that give settings of these types the values that are attributes of ``values``."""
    return [word for line in settings if line.type in types for word in line.words(getattr(values, line.name))]


def check_name(flag: str, value: str) -> None:
    """Refuse a name that cannot be part of a folder's name."""
    if not _NAME.fullmatch(value):
        raise CampaignError(f"{flag} '{value}': use letters and digits, with single '-', '_' or '.' between them.")


def _count(flag: str, value: int) -> None:
    if value < 1:
        raise CampaignError(f"{flag} {value}: give at least 1.")


def epochs(typed: str) -> int | str:
    """Read a number of epochs, or "auto"; the name of this function is that of the value in argparse's messages."""
    return typed if typed == "auto" else int(typed)


def _epochs_or_auto(flag: str, value: int | str) -> None:
    if value != "auto":
        _count(flag, int(value))


def _positive(flag: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise CampaignError(f"{flag} {value}: give a number above 0.")


def _share(flag: str, value: float) -> None:
    if not 0 <= value < 1:
        raise CampaignError(f"{flag} {value}: give a share from 0 to below 1.")


def _probability(flag: str, value: float) -> None:
    if not 0 < value < 1:
        raise CampaignError(f"{flag} {value}: give a probability above 0 and below 1.")


def _file(flag: str, value: str) -> None:
    if not Path(value).is_file():
        raise CampaignError(f"{flag}: there is no file {value}.")


def _group_counts(typed: list[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for pair in typed:
        group, separator, text = pair.rpartition("=")  # a group's name may hold "=" itself
        if not separator or not text.isdecimal() or group in counts:
            raise CampaignError(f"-initial_groups {pair}: write GROUP=N once for each group, for example F=5 M=5.")
        counts[group] = int(text)
    if not any(counts.values()):
        raise CampaignError("-initial_groups: ask for at least one region.")
    return counts


# fmt: off
@dataclass(frozen=True)
class Batches:
    """Which regions a round asks for."""

    unit: str = setting("-unit", str, "unit of annotation (default: patch)",
                        choices=("patch", "slice", "case"), default="patch")
    budget: int = setting("-b", int, "regions per round (default: 100, cases: 4)", metavar="BUDGET", check=_count)
    candidates: int | None = setting(
        "-candidates", int,
        "score and embed only a random part of the pool in each round: N regions, shared among the cases (default: "
        "all)",
        metavar="N", check=_count)
    initial: int = setting("-initial", int, "regions of round 0 (default: 100, cases: 10)", check=_count)
    initial_strategy: str = setting(
        "-initial_strategy", str,
        "how round 0 chooses: at random (default), or spread out by image features",
        choices=("random", "core_set"), default="random")
    overlap: float = setting("-overlap", float, "share by which neighbouring patches overlap (default: 0.5)",
                             default=0.5, check=_share)
    rounds: int = setting("-rounds", int, "planned rounds, over which schedules run (default: 10)",
                          default=10, check=_count)
    test: str = setting(
        "-test", str, "test on the fold's validation cases (default), on imagesTs and labelsTs, or on nothing",
        choices=("fold", "ts", "none"), default="fold")
    full: bool = setting(
        "--full", bool,
        "train on the whole pool at once: the reference to which the budgets of the other campaigns refer",
        default=False)
    labels_are_oracle: bool = setting(
        "--labels_are_oracle", bool,
        "the labels of a dataset that is labelled throughout, but ignores voxels (nnU-Net's ignore label), answer the "
        "batches; ignored voxels stay unannotated (default: such a campaign starts from all of these labels)",
        default=False)
    disable_tta: bool = setting(
        "--disable_tta", bool,
        "predict test cases and pre-segmentations without mirroring, as nnU-Net's option of that name: 4 times faster "
        "in 2d, 8 times in 3d, and less accurate",
        default=False, before=True)


@dataclass(frozen=True)
class Machinery:
    """Who selects, scores, trains and plans.

    ``engine`` is None where the strategy has no use for it; ``precision`` is decided because it changes last digits;
    ``plans`` is empty until the first plan, for the planner's own name.
    """

    engine: str | None = setting(
        "-engine", str,
        "optimiser of FLQMI: our own (default: streaming), or submodlib's, which are slower",
        choices=("submodlib", "streaming"))
    precision: str = setting(
        "-precision", str,
        "number type of training and scoring: half is float16 on a GPU and bfloat16 on a CPU; auto (default) is half "
        "on a GPU and on a CPU with instructions for bfloat16 (AMX, AVX512-BF16, ARM), else float32",
        choices=("auto", "half", "float32"), before="float32")
    trainer: str = setting("-tr", str, f"trainer (default: {DEFAULT_TRAINER})", metavar="TRAINER")
    planner: str = setting("-pl", str, "planner (default: nnUNetPlannerAL)", metavar="PLANNER",
                           default="nnUNetPlannerAL")
    plans: str = setting("-p", str, "name of the plans (default: the planner's)", metavar="PLANS",
                         default="", check=check_name)


@dataclass(frozen=True)
class Training:
    """All settings of the trainer, by an option or as a constant; `TrainerSettings` adds those of a round."""

    epochs: int | str = setting(
        "-epochs", epochs,
        "epochs of a round's training, or auto, which ends it once it has stopped gaining (default: auto on a CPU, "
        "else nnU-Net's 1000)",
        before=1000, metavar="EPOCHS", check=_epochs_or_auto)
    max_epochs: int = setting("-max_epochs", int, "most epochs of -epochs auto (default: 300)",
                              default=300, check=_count)
    iterations: int = setting("-iterations", int, "iterations of an epoch (default: 250)", default=250, check=_count)
    batch_size: int | None = setting("-batch_size", int, "training batch size (default: the plan's)", check=_count)
    optimizer: str = setting(
        "-optimizer", str, "sgd is nnU-Net's (default); adamw learns faster in short trainings; adam decays no weights",
        choices=("sgd", "adamw", "adam"), default="sgd")
    learning_rate: float | None = setting(
        "-learning_rate", float, "at the first epoch (default: 0.01 for sgd, 0.001 for adamw, 0.0001 for adam)",
        metavar="RATE", check=_positive)
    loss: str = setting(
        "-loss", str, "nnU-Net's Dice + cross-entropy (default), or cross-entropy alone (binary for one class)",
        choices=("dice_ce", "ce"), default="dice_ce")
    dropout: str = setting(
        "-dropout", str,
        "where dropout is: bottleneck and decoder (default), the last two stages of the decoder, whose samples cost a "
        "third, or every stage",
        choices=("decoder", "last", "all"), default="decoder")
    dropout_p: float = setting(
        "-dropout_p", float, "probability that a channel is dropped, in training and in sampling (default: 0.1)",
        metavar="P", default=0.1, check=_probability)
    dropout_of: str = setting(
        "-dropout_of", str, "what is dropped: whole channels (default), or single elements, as the code of USIM does",
        choices=("channels", "elements"), default="channels")


@dataclass(frozen=True)
class Succession:
    """The weights and statistics that a round takes over from the one before."""

    pretrained_weights: str | None = setting(
        "-pretrained_weights", Path,
        "checkpoint of nnU-Net to start round 1 from; one of other classes without its output heads",
        metavar="FILE", check=_file)
    trust_weights: bool = setting(
        "--trust_weights", bool,
        "read -pretrained_weights whatever they hold, although such a file could run any program (default: only what "
        "nnU-Net's own checkpoints hold)",
        default=False)
    from_scratch: bool = setting("--from_scratch", bool, "do not fine-tune the model of the round before",
                                 default=False)
    fine_tuning_epochs: int | str | None = setting(
        "-fine_tuning_epochs", epochs,
        "epochs of a round that goes on from the model of the round before, or auto (default: those of -epochs)",
        metavar="EPOCHS", check=_epochs_or_auto)
    update_intensities: bool = setting(
        "--update_intensities", bool,
        "let the intensity statistics of CT follow the annotations (default: they stay those of the first ones)",
        default=False)


@dataclass(frozen=True)
class CaseGroups:
    """The columns that define groups of cases, regions of round 0 from each group, and the classes to compare by."""

    group_by: tuple[str, ...] = setting(
        "-group_by", tuple,
        "columns that define the groups, several for their intersection; numbers in bins: age:40,60 cuts at these "
        "values, age:q4 makes four groups of about equal size",
        metavar="COLUMN", default=())
    missing_group: str | None = setting(
        "-missing_group", str,
        "what becomes of cases without a value in such a column (n/a): leave them out of the campaign, or make a group "
        "unknown of them (default: refuse)",
        choices=("leave_out", "unknown"))
    initial_groups: dict[str, int] = setting(  # noqa: RUF009 -- it returns a field
        "-initial_groups", dict, "regions of round 0 from each group (default: -initial from the whole pool)",
        metavar="GROUP=N", default={}, read=_group_counts)
    roi_classes: tuple[str, ...] = setting(
        "-roi_classes", tuple,
        "classes that groups are compared by, and whose prediction the add-on localized looks at (default: all)",
        metavar="CLASS", default=(), read=lambda typed: tuple(dict.fromkeys(typed)))


@dataclass(frozen=True)
class Readers:
    """Whether people answer the batches, not the dataset's own labels, and how."""

    annotate: bool = setting(
        "--annotate", bool,
        "people annotate, not the dataset's labels: the round ends with a folder for them, round_00k/batch, and "
        "exit code 3 until nnUNetv2_al_collect has taken all of it back",
        default=False)
    hand_out: str = setting(
        "-format", str, "form of a batch: a folder for 3D Slicer and ITK-SNAP (default), or MONAI Label's datastore",
        choices=("folder", "monailabel"), default="folder")
    readings: int = setting("-readings", int, "independent readings of each region, by N readers (default: 1)",
                            metavar="N", default=1, check=_count)
    consensus: str = setting("-consensus", str, "how several readings become one (default: staple)",
                             choices=("staple", "majority"), default="staple")
# fmt: on


@dataclass(frozen=True)
class Settings(Readers, CaseGroups, Succession, Training, Machinery, Batches):
    """All that a campaign decides by an option and keeps until its end."""


SETTINGS = settings_of(Settings)
READERS = settings_of(Readers)
