"""What a round wants from the trainer, in a file beside the plans: nnU-Net gives trainers no arguments of their own."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from nnunet_al.errors import SetupError
from nnunet_al.files import read_json, write_json
from nnunet_al.settings import Training, settings_of

SETTINGS_FILE = "nnUNetTrainerAL.json"

_LEARNING_RATES = {"sgd": 1e-2, "adamw": 1e-3}
_WEIGHT_DECAYS = {"sgd": 3e-5, "adamw": 1e-2}


@dataclass(frozen=True)
class TrainerSettings(Training):
    """Settings of ``nnUNetTrainerAL``; the defaults are nnU-Net's own, plus dropout.

    Attributes
    ----------
    epochs, iterations
        number of epochs and of training steps an epoch; a fifth as many validation steps follow each epoch.
    batch_size
        patches a step; ``None`` takes the plans'.
    optimizer
        ``"sgd"`` is nnU-Net's (Nesterov momentum 0.99, weight decay 3e-5); ``"adamw"`` uses weight decay 1e-2, the
        default of its authors (Loshchilov and Hutter, 2019). The learning rate of both decays polynomially to 0.
    learning_rate
        at the first epoch; ``None`` takes 1e-2 for sgd and 1e-3 for adamw.
    seed, round
        the campaign's seed and the round, from which each epoch is seeded, together with the fold that is trained;
        ``None`` leaves the generators alone.
    initial_weights
        checkpoint whose network weights, heads included, a new training starts from (with the loss module, where the
        trainer trains one and the checkpoint holds it).
    dropout_p, dropout
        probability that a channel is dropped in training, and where: ``"decoder"`` (with the bottleneck) or ``"all"``.
    save_every_epoch
        write ``checkpoint_latest`` after each epoch rather than after every 50th.
    """

    learning_rate: float | None = None
    seed: int | None = None
    round: int = 0
    initial_weights: str | None = None
    save_every_epoch: bool = True

    def __post_init__(self) -> None:
        """Refuse values that no training can be run with.

        Raises
        ------
        SetupError
            naming the setting and what it may be.
        """
        for setting in settings_of(Training):
            value = getattr(self, setting.name)
            counts = _is_number(value) and isinstance(value, int) and value > 0
            if setting.type is int and not counts and (value is not None or setting.default is not None):
                raise SetupError(f"The trainer's {setting.name} is {value!r}: choose a whole number above 0.")
            if setting.choices is not None and value not in setting.choices:
                choices = ", ".join(setting.choices)
                raise SetupError(f"The trainer's {setting.name} is {value!r}: choose one of {choices}.")
        if self.learning_rate is not None and not (_is_number(self.learning_rate) and self.learning_rate > 0):
            raise SetupError(f"The trainer's learning_rate is {self.learning_rate!r}: choose a number above 0.")
        if not (_is_number(self.dropout_p) and 0 <= self.dropout_p < 1):
            raise SetupError(f"The trainer's dropout_p is {self.dropout_p!r}: choose a probability in [0, 1).")

    @property
    def validation_iterations(self) -> int:
        """Number of validation steps an epoch: nnU-Net's share of one to five training steps."""
        return max(1, self.iterations // 5)

    @property
    def initial_learning_rate(self) -> float:
        """Learning rate of the first epoch, the optimiser's default where none was asked for."""
        return _LEARNING_RATES[self.optimizer] if self.learning_rate is None else self.learning_rate

    @property
    def weight_decay(self) -> float:
        """Weight decay of the optimiser."""
        return _WEIGHT_DECAYS[self.optimizer]

    def to_json(self) -> dict[str, Any]:
        """Return the settings as a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> TrainerSettings:
        """Read settings from a JSON object; what it does not name keeps its default.

        Raises
        ------
        SetupError
            if it names a setting that does not exist or a value that cannot be used.
        """
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(content) - known)
        if unknown:
            raise SetupError(f"The trainer has no setting {unknown[0]!r}: choose from {', '.join(sorted(known))}.")
        return cls(**content)

    def write(self, preprocessed_dataset: Path) -> Path:
        """Write the settings beside the plans in ``nnUNet_preprocessed/DatasetXXX_Name`` and return the file."""
        path = preprocessed_dataset / SETTINGS_FILE
        write_json(path, self.to_json())
        return path

    @classmethod
    def read(cls, preprocessed_dataset: Path) -> TrainerSettings:
        """Read the settings beside the plans; the defaults where there are none (the trainer used on its own).

        Raises
        ------
        SetupError
            if the file cannot be read or holds settings that do not exist.
        """
        path = preprocessed_dataset / SETTINGS_FILE
        if not path.is_file():
            return cls()
        try:
            return cls.from_json(dict(read_json(path)))
        except (json.JSONDecodeError, UnicodeDecodeError, TypeError, ValueError) as error:
            raise SetupError(f"{path} is not a JSON object ({error}): mend it or delete it.") from error
        except SetupError as error:
            raise SetupError(f"{path}: {error}") from error


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
