"""Stage `train`: the round's model, and the other members of an ensemble of folds."""

from __future__ import annotations

from dataclasses import fields

from nnunet_al.errors import SetupError
from nnunet_al.files import read_json, write_json
from nnunet_al.nnunet.devices import device_name, torch_device
from nnunet_al.nnunet.model import Plan, count_parameters
from nnunet_al.nnunet.trainer_settings import TrainerSettings
from nnunet_al.nnunet.training import train as train_model
from nnunet_al.rounds.context import RoundContext
from nnunet_al.rounds.sharing import first_model
from nnunet_al.settings import Training
from nnunet_al.strategies.ingredients import LOSS_MODULE, parameters_of
from nnunet_al.terminal import say


def train(context: RoundContext) -> None:
    """Train on the annotated cases, from the weights of the round before unless asked otherwise.

    The members of an ensemble of folds are trained before, so that the settings that stay beside the plans are those
    of the round's own model.
    """
    for member, fold in enumerate(context.member_folds, start=1):
        say(f"    member {member} of {len(context.member_folds)}")
        _train_fold(context, fold, f"train_member_{member}")
    _train_fold(context, context.decided.fold, "train")
    dataset_json = read_json(context.round.view.preprocessed / context.decided.dataset / "dataset.json")
    parameters = count_parameters(Plan.of(context.plans, dataset_json, context.decided.configuration))
    devices = {"device": device_name(context.options.device), "gpus": context.options.gpus}
    write_json(context.round.network, {"parameters": parameters, **devices})


def _train_fold(context: RoundContext, fold: int, log: str) -> None:
    decided = context.decided
    before = _model_before(context, fold)
    chosen = {f.name: getattr(decided, f.name) for f in fields(Training)}
    if before is not None and decided.fine_tuning_epochs is not None:
        chosen["epochs"] = decided.fine_tuning_epochs
    settings = TrainerSettings(
        **chosen,
        seed=decided.seed,
        round=context.number,
        initial_weights=decided.pretrained_weights if before is None else before,
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


def _model_before(context: RoundContext, fold: int) -> str | None:
    """Return the checkpoint of the round before, from which this one goes on; None where it begins anew."""
    if context.number < 2 or context.decided.from_scratch:
        return None
    assert context.previous is not None
    before = context.checkpoint(context.previous, fold)
    if not before.is_file():
        raise SetupError(
            f"The checkpoint {before} to fine-tune from is missing: restore the file, or delete train.json and "
            f"annotate.json in {context.previous.stages} and run the command with -round {context.previous.number}."
        )
    return str(before)
