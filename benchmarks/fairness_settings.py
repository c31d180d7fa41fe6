"""Settings of an experiment on fairness: the presets, and the options that override them."""

from __future__ import annotations

import shlex
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nnunet_al.errors import StrategyError
from nnunet_al.files import read_json, write_json
from nnunet_al.strategies import catalog

WEIGHTED = "weighted_localized_entropy"
STRATEGIES = ("random", "mean_entropy", "localized_entropy", WEIGHTED)
PLANNER = "nnUNetPlannerALTwoStages"
TRAINER = "nnUNetTrainerALNoMirroring"  # in a mirrored image the left caudate looks like the right one
NO_AUGMENTATION = "nnUNetTrainerALNoAugmentation"
CONFIGURATION = "3d_fullres"
GROUPS = ("group1", "group2")  # group 1 has the larger caudate

PAPER: dict[str, Any] = {
    "strengths": ("strong", "weak"),
    "initial": ("50/50", "80/20", "20/80"),
    "strategies": STRATEGIES,
    "seeds": 5,
    "cases": 252,  # with the test cases the 312 of the paper: per group 126 to train on, 30 to test on
    "test_cases": 60,
    "spacing": (1.0, 1.0, 1.0),
    "shape": None,
    "start": 10,
    "step": 4,
    "to": 86,
    "epochs": 200,
    "iterations": 20,  # about one pass through 86 cases
    "batch_size": 4,
    "optimizer": "adamw",
    "learning_rate": None,
    "loss": "dice_ce",
    "trainer": TRAINER,
    "population": None,
    "component_sign": 1,
    "subject": "independent",
    "appearance": "scanner",
}
REDUCED = {
    **PAPER,
    "strengths": ("strong",),
    "initial": ("20/80",),
    "seeds": 3,
    "cases": 120,
    "test_cases": 30,
    "spacing": (2.0, 2.0, 2.0),
    "shape": (24, 32, 32),
    "to": 34,
    "epochs": 10,
    "iterations": 50,
    "batch_size": 2,  # with one thread, torch convolves a single volume twice as slowly as two
}
PROTOCOL = {  # images and training as the paper and SimBA describe them, at the size of the reduced form
    **REDUCED,
    "epochs": 200,
    "iterations": 20,
    "optimizer": "adam",
    "loss": "ce",
    "trainer": NO_AUGMENTATION,
    "subject": "one_factor",
    "appearance": "plain",
}
QUICK = {
    **REDUCED,
    "strategies": ("random", WEIGHTED),
    "seeds": 1,
    "cases": 16,
    "test_cases": 4,
    "spacing": (4.0, 4.0, 4.0),
    "shape": (16, 24, 24),
    "start": 5,
    "step": 2,
    "to": 7,
    "epochs": 2,
    "iterations": 6,
}
PRESETS = {"quick": QUICK, "reduced": REDUCED, "protocol": PROTOCOL}
OF_COHORT = ("cases", "test_cases", "spacing", "shape", "population", "component_sign", "subject", "appearance")
OF_TRAINING = ("epochs", "iterations", "batch_size", "optimizer", "learning_rate", "loss")


@dataclass(frozen=True)
class Settings:
    """One experiment; the fields are those of the presets."""

    strengths: tuple[str, ...]
    initial: tuple[str, ...]
    strategies: tuple[str, ...]
    seeds: int
    cases: int
    test_cases: int
    spacing: tuple[float, ...]
    shape: tuple[int, ...] | None
    start: int
    step: int
    to: int
    epochs: int
    iterations: int
    batch_size: int
    optimizer: str
    learning_rate: float | None
    loss: str
    trainer: str
    population: str | None
    component_sign: int
    subject: str
    appearance: str
    template: str | None
    cohort_seed: int

    @classmethod
    def of(cls, arguments: Namespace) -> Settings:
        """Return the preset with the given options."""
        preset = next((preset for name, preset in PRESETS.items() if getattr(arguments, name)), PAPER)
        given = {name: value for name, value in vars(arguments).items() if name in preset and value is not None}
        merged = {name: tuple(v) if isinstance(v, list) else v for name, v in {**preset, **given}.items()}
        if merged["population"] is not None:
            merged["population"] = str(Path(merged["population"]).absolute())
        template = None if arguments.template is None else str(Path(arguments.template).absolute())
        settings = cls(**merged, template=template, cohort_seed=arguments.cohort_seed)
        settings.check()
        return settings

    def check(self) -> None:
        if self.to < self.start or (self.to - self.start) % self.step:
            raise SystemExit(f"-to {self.to}: {self.start} cases and {self.step} more a step never make {self.to}.")
        if self.component_sign != 1 and self.population is None:
            raise SystemExit("-component_sign means nothing without -population: name a folder of label maps.")
        if self.to + self.step > self.cases:
            raise SystemExit(f"-to {self.to}: {self.cases} cases are too few; name more with -cases.")
        for shares in self.initial:
            self.initial_groups(shares)

    @property
    def rounds(self) -> int:
        """Number of the last round, whose model is trained on the largest number of cases."""
        return (self.to - self.start) // self.step + 1

    @property
    def table_cases(self) -> int:
        """Training cases of each model of table 3: the number of training cases of one group."""
        return self.cases // 2

    def initial_groups(self, shares: str) -> dict[str, int]:
        """Return the number of initial cases per group: 20/80 of ten gives two and eight."""
        percent = [int(share) for share in shares.split("/")]
        counts = [self.start * share / 100 for share in percent]
        if any(count != int(count) for count in counts):
            raise SystemExit(f"-initial {shares}: {self.start} cases cannot be shared out so; choose another -start.")
        return {group: int(count) for group, count in zip(GROUPS, counts, strict=True)}

    def to_json(self) -> dict[str, Any]:
        """Return the settings; of template and population the name alone, without its folder."""
        content = asdict(self)
        for name in ("template", "population"):
            if content[name] is not None:
                content[name] = Path(content[name]).name
        fixed = {"configuration": CONFIGURATION, "planner": PLANNER, "unit": "case"}
        return {**content, **fixed, "table_cases": self.table_cases, "rounds": self.rounds}

    def check_same_settings(self, folder: Path) -> None:
        """Refuse settings that need other data or trainings than those in the folder; additional ones are allowed."""
        binding = (*OF_COHORT, *OF_TRAINING, "trainer", "start", "step", "template", "cohort_seed")
        wanted = {name: value for name, value in self.to_json().items() if name in binding}
        file = folder / "settings.json"
        if not file.is_file():
            write_json(file, wanted)
        found = read_json(file)
        for name, value in wanted.items():
            value = list(value) if isinstance(value, tuple) else value
            if found.get(name, PAPER.get(name)) != value:  # an experiment begun before there was such a setting
                raise SystemExit(f"{folder} holds an experiment with {name} {found.get(name)}: name another with -o.")


def make_parser(description: str | None) -> ArgumentParser:
    parser = ArgumentParser(description=description, formatter_class=RawDescriptionHelpFormatter)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--reduced", action="store_true", help="hours on two cores: strong bias, 20/80, 2 mm, cropped")
    size.add_argument(
        "--protocol",
        action="store_true",
        help="the size of --reduced, images and training as in the paper and SimBA; give -population, too",
    )
    size.add_argument("--quick", action="store_true", help="minutes: tiny volumes, one step, as a check that it runs")
    parser.add_argument("-o", metavar="FOLDER", help="output folder (default: benchmark_results/fairness_PRESET)")
    parser.add_argument("-results", metavar="FOLDER", help="folder for a copy of tables, pictures and numbers")
    parser.add_argument("--json", metavar="FILE", help="file for a copy of all numbers")
    parser.add_argument("-device", default="cpu", choices=["cpu", "cuda", "mps"])
    parser.add_argument("-np", type=int, default=2, help="campaigns at the same time, one thread each (default: 2)")
    parser.add_argument("--no_table", action="store_true", help="omit table 3")
    parser.add_argument("--no_gate", action="store_true", help="run the campaigns also where the premise is absent")

    design = parser.add_argument_group("these override the preset")
    design.add_argument("-strengths", nargs="+", choices=["strong", "weak", "none"])
    design.add_argument(
        "-initial", nargs="+", type=_shares, metavar="A/B", help="percent of groups 1 and 2, like 20/80"
    )
    design.add_argument("-s", dest="strategies", nargs="+", type=_strategy, metavar="STRATEGY")
    design.add_argument("-seeds", type=int, help="campaigns per setting: seeds 0, 1, ...")
    design.add_argument("-cases", type=int, help="training cases, half of them in each group")
    design.add_argument("-test_cases", type=int, help="test cases, half of them in each group")
    design.add_argument("-spacing", type=float, nargs=3, metavar=("Z", "Y", "X"), help="mm")
    design.add_argument("-shape", type=int, nargs=3, metavar=("Z", "Y", "X"), help="voxels around the caudates")
    design.add_argument("-start", type=int, help="cases annotated at first")
    design.add_argument("-step", type=int, help="cases annotated in a round")
    design.add_argument("-to", type=int, help="training cases of the last model")
    design.add_argument("-epochs", type=int)
    design.add_argument("-iterations", type=int, help="training steps per epoch")
    design.add_argument("-batch_size", type=int)
    design.add_argument("-optimizer", choices=["sgd", "adamw", "adam"])
    design.add_argument("-learning_rate", type=float)
    design.add_argument("-loss", choices=["dice_ce", "ce"])
    design.add_argument("-trainer", choices=[TRAINER, NO_AUGMENTATION])
    design.add_argument("-population", metavar="FOLDER", help="label maps that say how group 1's caudate is deformed")
    design.add_argument("-component_sign", type=int, choices=[1, -1])
    design.add_argument("-subject", choices=["independent", "one_factor"])
    design.add_argument("-appearance", choices=["scanner", "plain"])
    design.add_argument("-template", metavar="FILE", help="label map of a brain (default: the built-in phantom)")
    design.add_argument("-cohort_seed", type=int, default=0, help="seed of the images (default: 0)")
    return parser


def command() -> str:
    """Return the command as it was typed, with paths shortened to their last part."""
    words = [Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:]]
    return shlex.join(["python", "benchmarks/fairness.py", *words])


def _shares(text: str) -> str:
    parts = text.split("/")
    if len(parts) != 2 or not all(part.isdigit() for part in parts) or sum(map(int, parts)) != 100:
        raise ArgumentTypeError(f"{text!r}: write the percent of group 1 and of group 2, for example 20/80.")
    return text


def _strategy(text: str) -> str:
    try:
        catalog.get(text)
    except StrategyError as error:
        raise ArgumentTypeError(str(error)) from None
    return text
