"""Settings of our trainers, in a file beside the plans, because nnU-Net passes no further arguments to trainers."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from nnunet_al.errors import SetupError
from nnunet_al.files import hash_json, read_json, write_json
from nnunet_al.nnunet.round_view import read_record
from nnunet_al.settings import Training, settings_of

SETTINGS_FILE = "nnUNetTrainerAL.json"

_PRECISIONS = ("stock", "half", "float32")
_LEARNING_RATES = {"sgd": 1e-2, "adamw": 1e-3, "adam": 1e-4}
_WEIGHT_DECAYS = {"sgd": 3e-5, "adamw": 1e-2, "adam": 0.0}


def training_hash(preprocessed_dataset: Path, configuration: str, fold: int | str) -> str:
    """Return a hash that tells a training from others: its cases with their labels, seed, round, fold and so on.

    Checkpoints hold it, so that a training never goes on from one of another training.
    """
    settings = TrainerSettings.read(preprocessed_dataset)
    inputs = {
        identifier: {case: [entry["inputs"], entry["image"]] for case, entry in cases.items()}
        for identifier, cases in read_record(preprocessed_dataset).items()
    }
    return hash_json([configuration, str(fold), settings.seed, settings.round, inputs])


@dataclass(frozen=True)
class TrainerSettings(Training):
    """Settings of ``nnUNetTrainerAL``; the defaults are nnU-Net's, plus dropout.

    Attributes
    ----------
    epochs, iterations : number of epochs, and of training steps per epoch; a fifth as many validation steps follow.
        ``"auto"``: until the training has stopped gaining, see ``training_length``, at most ``max_epochs``
    batch_size : patches per step; None: as in the plans
    optimizer : ``"sgd"`` is nnU-Net's (Nesterov momentum 0.99, weight decay 3e-5); ``"adamw"`` uses weight decay 1e-2,
        the default of its authors (Loshchilov and Hutter, 2019); ``"adam"`` (Kingma and Ba, 2015) uses none. Their
        learning rate decays polynomially to 0.
    learning_rate : at the first epoch; None: 1e-2 for sgd, 1e-3 for adamw, 1e-4 for adam (Danaee et al. 2026)
    loss : ``"dice_ce"`` is nnU-Net's; ``"ce"`` is its cross-entropy alone (`CrossEntropy`)
    seed, round : the campaign's seed and the round, from which each epoch is seeded together with the fold; None: not
        seeded
    initial_weights : checkpoint from whose network weights a new training starts; also from its loss module, if the
        trainer trains one and the checkpoint holds one
    initial_heads : whether its output heads are ``"kept"``, or ``"left_out"`` because they are of other classes
    trust_initial_weights : read whatever the checkpoint holds, although that could run any program; else only what
        nnU-Net's own checkpoints hold
    dropout_p, dropout, dropout_of : probability that a channel is dropped in training, where: ``"decoder"`` (with the
        bottleneck), ``"last"`` (its last two stages) or ``"all"``, and whether it is ``"channels"`` or ``"elements"``
    precision : ``"half"`` computes the network in half precision (float16 on a GPU, bfloat16 on a CPU) and
        ``"float32"`` in single precision; ``"stock"`` is nnU-Net's own: half on a GPU, else single. Weights, loss and
        optimiser are always float32
    loss_features, loss_margin : of ``nnUNetTrainerALLearningLoss``: the part of the network, ``"decoder"`` or
        ``"encoder"`` (with the bottleneck), whose features the loss module reads; smallest difference of a ranked pair
    save_every_epoch : write ``checkpoint_latest`` after each epoch instead of every 50th
    """

    seed: int | None = None
    round: int = 0
    initial_weights: str | None = None
    initial_heads: str = "kept"
    trust_initial_weights: bool = False
    precision: str = "stock"
    loss_features: str = "decoder"
    loss_margin: float = 1.0
    save_every_epoch: bool = True

    def __post_init__(self) -> None:
        """Check the values.

        Raises SetupError if a value is not allowed; the message names the setting and its allowed values.
        """
        for setting in settings_of(Training):
            value = getattr(self, setting.name)
            counts = _is_number(value) and isinstance(value, int) and value > 0
            if setting.name == "epochs" and value != "auto" and not counts:
                raise SetupError(f"The trainer's epochs are {value!r}: choose a whole number above 0, or auto.")
            if setting.type is int and not counts and (value is not None or setting.default is not None):
                raise SetupError(f"The trainer's {setting.name} is {value!r}: choose a whole number above 0.")
            if setting.choices is not None and value not in setting.choices:
                choices = ", ".join(setting.choices)
                raise SetupError(f"The trainer's {setting.name} is {value!r}: choose one of {choices}.")
        if self.precision not in _PRECISIONS:
            raise SetupError(f"The trainer's precision is {self.precision!r}: choose one of {', '.join(_PRECISIONS)}.")
        if self.initial_heads not in {"kept", "left_out"}:
            raise SetupError(f"The trainer's initial_heads are {self.initial_heads!r}: choose kept or left_out.")
        if self.learning_rate is not None and not (_is_number(self.learning_rate) and self.learning_rate > 0):
            raise SetupError(f"The trainer's learning_rate is {self.learning_rate!r}: choose a number above 0.")
        if self.loss_features not in {"decoder", "encoder"}:
            raise SetupError(f"The trainer's loss_features are {self.loss_features!r}: choose decoder or encoder.")
        if not (_is_number(self.loss_margin) and self.loss_margin >= 0):
            raise SetupError(f"The trainer's loss_margin is {self.loss_margin!r}: choose a number from 0 on.")
        if not (_is_number(self.dropout_p) and 0 <= self.dropout_p < 1):
            raise SetupError(f"The trainer's dropout_p is {self.dropout_p!r}: choose a probability in [0, 1).")

    @property
    def most_epochs(self) -> int:
        """Number of epochs; the largest where the training ends by itself."""
        return self.max_epochs if isinstance(self.epochs, str) else self.epochs

    @property
    def validation_iterations(self) -> int:
        """Number of validation steps per epoch: one per five training steps, as in nnU-Net."""
        return max(1, self.iterations // 5)

    @property
    def initial_learning_rate(self) -> float:
        """Learning rate of the first epoch: ``learning_rate``, or the optimiser's default."""
        return _LEARNING_RATES[self.optimizer] if self.learning_rate is None else self.learning_rate

    @property
    def weight_decay(self) -> float:
        """Weight decay of the optimiser."""
        return _WEIGHT_DECAYS[self.optimizer]

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> TrainerSettings:
        """Read settings from a JSON object; missing settings keep their defaults.

        Raises SetupError if it names a setting that does not exist or a value that is not allowed.
        """
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(content) - known)
        if unknown:
            raise SetupError(f"The trainer has no setting {unknown[0]!r}: choose from {', '.join(sorted(known))}.")
        return cls(**content)

    def write(self, preprocessed_dataset: Path) -> Path:
        """Write the settings beside the plans in ``nnUNet_preprocessed/DatasetXXX_Name`` and return the file."""
        path = preprocessed_dataset / SETTINGS_FILE
        write_json(path, asdict(self))
        return path

    @classmethod
    def read(cls, preprocessed_dataset: Path) -> TrainerSettings:
        """Read the settings beside the plans; without a file, as in training outside a campaign, the defaults.

        Raises SetupError if the file cannot be read or holds settings that do not exist.
        """
        path = preprocessed_dataset / SETTINGS_FILE
        if not path.is_file():
            return cls()
        try:
            return cls.from_json(dict(read_json(path)))
        except (json.JSONDecodeError, UnicodeDecodeError, TypeError, ValueError) as error:
            raise SetupError(f"{path} is not a JSON object ({error}): fix it or delete it.") from error
        except SetupError as error:
            raise SetupError(f"{path}: {error}") from error


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
