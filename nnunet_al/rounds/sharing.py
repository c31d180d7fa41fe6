"""One first model for campaigns that differ in their strategy only: the same initial batch, the same training."""

from __future__ import annotations

import os
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.campaign.progress import FIRST_TRAINING, recorded_training
from nnunet_al.campaign.stage_markers import is_as_left
from nnunet_al.campaign.stages import TRAIN, is_done
from nnunet_al.errors import StorageError
from nnunet_al.files import hash_file, hash_json, read_json, write_json
from nnunet_al.nnunet.blosc_files import link_or_copy
from nnunet_al.nnunet.checkpoints import can_continue
from nnunet_al.nnunet.round_view import RECORD_FILE
from nnunet_al.nnunet.trainer_settings import TrainerSettings, training_hash
from nnunet_al.rounds.context import RoundContext
from nnunet_al.terminal import say

_PACKAGES = ("nnunet-al", "nnunetv2", "torch")
_MODEL_FILES = ("plans.json", "dataset.json", "dataset_fingerprint.json")


def first_model(context: RoundContext, settings: TrainerSettings) -> bool:
    """Put the model of a campaign that has trained on the very same in place of round 1's own training.

    The inputs of the training are written down before it begins, so that other campaigns can find this one. A model
    is taken over only where that is asked for and this campaign's own training has not begun; the checkpoint named
    final, which says that a model is complete, comes last. True if the model is there and nothing is left to train.
    """
    if context.number != 1 or context.member_folds:
        return False
    decided, record = context.decided, context.round.root / FIRST_TRAINING
    inputs = training_inputs(context, settings)
    final = context.checkpoint(context.round)
    folder = context.preprocessed
    if final.is_file() and can_continue(final, training_hash(folder, decided.configuration, decided.fold)):
        return True
    if (final.parent / "checkpoint_latest.pth").is_file():
        if recorded_training(record).get("inputs") != inputs:
            record.unlink(missing_ok=True)  # it goes on otherwise than it began: nobody else would train like this
        return False
    source = _sibling(context, inputs) if context.options.share_first else None
    taken_from = None if source is None else str(source.root.relative_to(context.folder.root.parents[1]))
    write_json(record, {"inputs": inputs, "taken_from": taken_from})
    if source is None:
        return False
    if not _take_over(context, source.round(1).root):
        write_json(record, {"inputs": inputs, "taken_from": None})
        return False
    say(f"    the model of {taken_from} is taken over: its training is the same")
    return True


def training_inputs(context: RoundContext, settings: TrainerSettings) -> dict[str, Any]:
    """Return everything that the training of this round depends on, as plain JSON.

    Files are given by their hashes, since the paths of two campaigns differ.
    """
    decided = context.decided
    folder = context.round.view.preprocessed / decided.dataset
    dataset_json = read_json(folder / "dataset.json")
    names = dataset_json.pop("dataset")
    cases: dict[str, Any] = read_json(folder / RECORD_FILE)[context.configuration["data_identifier"]]
    start = settings.initial_weights
    trained_with = {name: value for name, value in asdict(settings).items() if name != "trust_initial_weights"}
    return {
        **{name: getattr(decided, name) for name in ("dataset", "configuration", "fold", "trainer")},
        "settings": {**trained_with, "initial_weights": None if start is None else hash_file(Path(start))},
        "plans": hash_json(context.plans),
        "dataset_json": hash_json(dataset_json),
        "splits": hash_json(read_json(folder / "splits_final.json")),
        "cases": hash_json({case: [cases[case]["inputs"], cases[case]["image"]] for case in names}),
        "device": context.options.device,
        "gpus": context.options.gpus,
        "augmentation_processes": os.environ.get("nnUNet_n_proc_DA"),
        "versions": {package: version(package) for package in _PACKAGES},
    }


def _sibling(context: RoundContext, inputs: dict[str, Any]) -> CampaignFolder | None:
    """Return the first campaign of the dataset whose round 1 is trained on the same, and still has its model."""
    checkpoint = context.checkpoint(context.round).relative_to(context.round.root)
    for other in CampaignFolder.of_dataset(context.roots, context.decided.dataset):
        trained = other.round(1)
        has_model = is_done(trained.stages, TRAIN) and is_as_left(trained.stages, TRAIN, trained.root / checkpoint)
        if other.root == context.folder.root or not has_model:
            continue
        if recorded_training(trained.root / FIRST_TRAINING).get("inputs") == inputs:
            return other
    return None


def _take_over(context: RoundContext, source: Path) -> bool:
    """Link the checkpoints of ``source``, another campaign's round 1, and copy the files that nnU-Net needs there.

    False if they were not there: the other campaign may just be removing them.
    """
    write_model_files(context)
    final = context.checkpoint(context.round)
    theirs = source / final.parent.relative_to(context.round.root)
    for name in ("checkpoint_best.pth", final.name):
        if not (theirs / name).is_file():
            continue
        try:
            link_or_copy(theirs / name, final.parent / name, context.round.root)
        except StorageError:
            if (theirs / name).is_file():
                raise
    return final.is_file()


def write_model_files(context: RoundContext) -> None:
    """Write the files that nnU-Net needs beside the folds of a model, where they are not there."""
    folder, model = context.preprocessed, context.checkpoint(context.round).parents[1]
    own = (context.plans_file(context.round), folder / "dataset.json", folder / "dataset_fingerprint.json")
    for name, file in zip(_MODEL_FILES, own, strict=True):
        if not (model / name).is_file():
            write_json(model / name, read_json(file))
