"""Splits of the cases: pool and test set by nnU-Net's folds, and the training and validation lists of a round."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path

from nnunet_al.errors import DatasetError
from nnunet_al.text import first_names
from nnunet_al.user_files import read_user_json

FOLDS = 5
_SPLITS_FORM = (
    'must be a list of folds like [{"train": ["case_1"], "val": ["case_2"]}]: correct it, or remove it to have '
    "nnU-Net's folds."
)
_SHOWN = 5
_SEED = 12345  # nnU-Net's seed, so that the folds equal those of nnU-Net


def pool_and_test(
    cases: Sequence[str], labelled: Collection[str], fold: int, split_files: Sequence[Path]
) -> tuple[list[str], list[str]]:
    """Split the training cases into pool and test set of a fold.

    The split is that of the first existing file of ``split_files`` (nnU-Net's ``splits_final.json``), else nnU-Net's
    seeded five-fold split of the labelled cases. Cases without a label cannot be tested on, so they belong to the pool.

    Raises DatasetError if there are fewer labelled cases than folds, no such fold, or a split file names cases that do
    not exist.
    """
    file = next((path for path in split_files if os.path.lexists(path)), None)
    if file is not None:
        split = read_split(file, fold)
        named = {*split["train"], *split["val"]}
        if unknown := sorted(named - set(cases)):
            raise DatasetError(
                f"{file} names {unknown[0]} ({len(unknown)} such cases), which is not in the dataset: bring the two "
                "into line or remove the split file."
            )
        validation = split["val"]
        left_out = set(cases) - named
    else:
        candidates = sorted(set(cases) & set(labelled))
        if len(candidates) < FOLDS:
            raise DatasetError(
                f"The dataset has {len(candidates)} labelled cases, fewer than nnU-Net's {FOLDS} folds: label more, or "
                "test on imagesTs and labelsTs with -test ts."
            )
        if fold >= FOLDS:
            raise DatasetError(f"-f {fold}: nnU-Net makes {FOLDS} folds, counted from 0.")
        validation = _folds(candidates, FOLDS)[fold]["val"]
        left_out = set()
    test = sorted(set(validation) & set(labelled))
    if file is not None and not set(cases) - set(test) - left_out:
        raise DatasetError(f"-f {fold}: {file} keeps every case for the test: leave some to train on.")
    if not test:
        raise DatasetError(f"Fold {fold} has no labelled validation case to test on: label one or use -test ts.")
    return sorted(set(cases) - set(test) - left_out), test


def read_split(file: Path, fold: int) -> dict[str, list[str]]:
    """Read the names of one fold's training and validation cases (``train``, ``val``) from a ``splits_final.json``.

    Raises DatasetError if the file cannot be read, has another form, has no such fold, or names a case in both lists.
    """
    splits = read_user_json(file)
    if not isinstance(splits, list) or not splits:
        raise DatasetError(f"{file} {_SPLITS_FORM}")
    if fold >= len(splits):
        raise DatasetError(f"-f {fold}: {file} holds {len(splits)} folds, counted from 0.")
    split = splits[fold]
    for key in ("train", "val"):
        names = split.get(key) if isinstance(split, dict) else None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise DatasetError(f"{file} holds no list of names {key!r} in fold {fold}; it {_SPLITS_FORM}")
    if both := sorted({*split["train"]} & {*split["val"]}):
        raise DatasetError(
            f"{file} names {first_names(both, _SHOWN)} in 'train' and in 'val' of fold {fold}, but what models are "
            "tested on is not trained on: remove each from one of the lists."
        )
    return split


def training_split(annotated: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return nnU-Net's training and validation list of a round, both of annotated cases.

    Training uses every annotated case. The validation list, which nnU-Net uses only to monitor the training, is an
    evenly spaced fifth of the same cases: test cases must not be used, and held-out annotations would be wasted.
    """
    training = sorted(annotated)
    return training, training[::FOLDS]


def member_splits(annotated: Sequence[str], members: int) -> list[tuple[list[str], list[str]]]:
    """Return the training and validation lists of an ensemble's members, by nnU-Net's cross-validation.

    Each member leaves out a different 1 / ``members`` of the annotated cases. With fewer cases than members, members
    share a split; with a single case, all train on it.
    """
    cases = sorted(annotated)
    if len(cases) < 2:
        return [(cases, cases)] * members
    folds = _folds(cases, min(max(members, 2), len(cases)))
    chosen = [folds[member % len(folds)] for member in range(members)]
    return [(sorted(fold["train"]), sorted(fold["val"])) for fold in chosen]


def _folds(cases: Sequence[str], count: int) -> list[dict[str, list[str]]]:
    from nnunetv2.utilities.crossval_split import generate_crossval_split  # loads scikit-learn

    return generate_crossval_split(cases, seed=_SEED, n_splits=count)
