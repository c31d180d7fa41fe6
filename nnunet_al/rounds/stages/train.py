"""Stage `train`: the round's model, and the other members of an ensemble of folds."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from nnunet_al.campaign.stage_markers import is_as_left
from nnunet_al.campaign.stages import TRAIN
from nnunet_al.checksums import is_intact
from nnunet_al.errors import SetupError
from nnunet_al.files import read_json, write_json
from nnunet_al.nnunet.devices import device_name, torch_device
from nnunet_al.nnunet.image_store import StoredImage, damaged_images
from nnunet_al.nnunet.model import Plan, count_parameters
from nnunet_al.nnunet.round_view import read_record
from nnunet_al.nnunet.trainer_settings import TrainerSettings
from nnunet_al.nnunet.training import train as train_model
from nnunet_al.rounds.context import RoundContext
from nnunet_al.rounds.sharing import first_model, write_model_files
from nnunet_al.rounds.stages.preprocess import preprocess
from nnunet_al.settings import Training
from nnunet_al.strategies.ingredients import LOSS_MODULE, parameters_of
from nnunet_al.terminal import say


def train(context: RoundContext) -> None:
    """Train on the annotated cases, from the weights of the round before unless asked otherwise.

    The members of an ensemble of folds are trained before, so that the settings that stay beside the plans are those
    of the round's own model.
    """
    _check_images(context)
    for member, fold in enumerate(context.member_folds, start=1):
        say(f"    member {member} of {len(context.member_folds)}")
        _train_fold(context, fold, f"train_member_{member}")
    _train_fold(context, context.decided.fold, "train")
    write_model_files(context)  # where the model was there, and they were damaged
    dataset_json = read_json(context.round.view.preprocessed / context.decided.dataset / "dataset.json")
    parameters = count_parameters(Plan.of(context.plans, dataset_json, context.decided.configuration))
    devices = {"device": device_name(context.options.device), "gpus": context.options.gpus}
    write_json(context.round.network, {"parameters": parameters, **devices})


def _check_images(context: RoundContext) -> None:
    """Check the images that are trained on, which nnU-Net's loader reads in parts; damaged ones are made anew."""
    cases = read_record(context.preprocessed)[context.configuration["data_identifier"]]
    stored = [StoredImage(context.store, case, entry["image"]) for case, entry in cases.items()]
    if damaged := damaged_images(stored, context.options.workers):
        for image in damaged:
            say(f"    {image.array_path} is damaged or gone: it is made anew")
            image.discard()
        preprocess(context)


def _train_fold(context: RoundContext, fold: int, log: str) -> None:
    decided = context.decided
    chosen = {f.name: getattr(decided, f.name) for f in fields(Training)}
    if context.number > 1 and not decided.from_scratch and decided.fine_tuning_epochs is not None:
        chosen["epochs"] = decided.fine_tuning_epochs
    settings = TrainerSettings(
        **chosen,
        seed=decided.seed,
        round=context.number,
        **initial_weights(context, fold),
        precision=decided.training_precision,
        **{name: value for name, value in decided.recipe.parameters.items() if name in parameters_of(LOSS_MODULE)},
    )
    settings.write(context.round.view.preprocessed / decided.dataset)
    if first_model(context, settings):
        return
    train_model(
        context.round.view,
        decided.dataset,
        decided.configuration,
        fold,
        decided.trainer,
        decided.plans,
        torch_device(context.options.device),
        context.checkpoint(context.round, fold),
        None if context.options.verbose else context.log(log),
        context.options.gpus,
    )


def initial_weights(context: RoundContext, fold: int) -> dict[str, Any]:
    """Return the settings of the weights to start from: those of the round before, or those that the user gave.

    Raises SetupError if those of the round before are missing or not as that round left them, or the user's changed.
    """
    decided = context.decided
    if context.number > 1 and not decided.from_scratch:
        assert context.previous is not None
        before = context.checkpoint(context.previous, fold)
        if not is_as_left(context.previous.stages, TRAIN, before):
            raise SetupError(
                f"The checkpoint {before} to fine-tune from is missing or damaged: restore the file, or delete "
                f"train.json and annotate.json in {context.previous.stages} and run the command with -round "
                f"{context.previous.number}."
            )
        return {"initial_weights": str(before), "trust_initial_weights": True}  # it is our own
    given = decided.pretrained_weights
    expected = decided.pretrained_checksum
    if given is not None and expected is not None and not is_intact(Path(given), expected):
        raise SetupError(
            f"-pretrained_weights {given} is missing, or not the file that the campaign began with: put it back."
        )
    trusted = decided.trust_weights
    return {"initial_weights": given, "initial_heads": decided.pretrained_heads, "trust_initial_weights": trusted}
