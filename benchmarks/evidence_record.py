"""What a round's model expects of its own segmentations, and what is true: kept for later studies of such estimates.

For some regions of the pool, the regions that were chosen, and the test cases, for each foreground class: its true
size, and for two predictions, of the plain network and of the mean over dropout samples, the predicted size, the true
intersection, and both as the probabilities expect them. So estimates of Dice without labels can be fitted offline.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from evidence_settings import Protocol

from nnunet_al.files import hash_file, hash_json, read_arrays, read_json, write_arrays
from nnunet_al.nnunet.geometry import case_geometry
from nnunet_al.nnunet.image_store import StoredImage
from nnunet_al.nnunet.pool_scoring import pool_batches
from nnunet_al.nnunet.raw_dataset import CaseFiles
from nnunet_al.nnunet.window_stream import Pool
from nnunet_al.pool.boxes import Region, as_box, to_slices, whole
from nnunet_al.pool.geometry import CaseGeometry
from nnunet_al.pool.table import by_case
from nnunet_al.rounds.context import RoundContext
from nnunet_al.rounds.round_model import load_round_model
from nnunet_al.scoring.dropout import insert_dropout
from nnunet_al.scoring.fast_network import fast_network
from nnunet_al.scoring.samplers import DeterministicSampler, DropoutSampler
from nnunet_al.seeding import generator
from nnunet_al.selection.random_draw import random_draw

POOL, BATCH, TEST = range(3)
PREDICTIONS = ("plain", "averaged")
_CHUNK = 256

Sampler = Callable[[torch.Tensor], torch.Tensor]
Sums = dict[str, np.ndarray]


def record_round(context: RoundContext, protocol: Protocol, file: Path) -> None:
    """Write the record of a round, whose checkpoint is there, into an npz file.

    One row N for each region or test case, C foreground classes in the order of the labels::

        kind_N                     0 of the pool, 1 of the batch, 2 test case
        number_N                   of the region in the campaign; of the test case among the sorted ones
        annotated_N                whether the model was trained on it
        voxels_N                   those that count
        true_N_C                   true size
        plain_size_N_C             predicted by the plain network; averaged_...: by the mean over dropout samples
        plain_intersection_N_C     voxels of the class in prediction and label
        plain_expected_size_N_C            Σ p over the region: the size that the probabilities expect
        plain_expected_intersection_N_C    Σ p over the voxels predicted as the class
        averaged_sd_size_N_C, averaged_sd_intersection_N_C      standard deviation of these two over the samples

    Regions of the pool are drawn by the campaign's seed: the same ones in all rounds and strategies.
    """
    checkpoint = context.checkpoint(context.round)
    shared = context.folder.root.parents[1] / "records_of_first_models"
    key = hash_json([hash_file(checkpoint), context.decided.seed, protocol.regions, protocol.passes])
    kept = shared / f"{key[:24]}.npz" if context.number == 1 else None
    sampler, prepared = None, None
    if kept is not None and kept.is_file():
        parts = [read_arrays(kept)]
    else:
        prepared = samplers(context, protocol.passes)
        plain, sampler = prepared
        pool, numbers = pool_of(context), drawn_regions(context, protocol.regions)
        parts = [
            _rows(POOL, measure(pool, numbers, plain, sampler)),
            _rows(TEST, measure(*tests_of(context), plain, sampler)),
        ]
        if kept is not None:
            write_arrays(kept, **_joined(parts))
    numbers = batch_numbers(context)
    if numbers:
        plain, sampler = prepared or samplers(context, protocol.passes)
        parts.append(_rows(BATCH, measure(pool_of(context), numbers, plain, sampler)))
    found = _joined(parts)
    annotated = {number for number, region in enumerate(context.regions) if region in context.annotated_regions}
    known_N = np.isin(found["number_N"], sorted(annotated)) & (found["kind_N"] != TEST)
    write_arrays(file, **found, annotated_N=known_N)


def samplers(context: RoundContext, passes: int) -> tuple[Sampler, Sampler]:
    """Return functions from windows to probs_T_B_C_xyz: of the plain network, and of dropout samples."""
    plan, network, _ = load_round_model(context, context.checkpoint(context.round))
    assert plan.exclusive, "the record is of classes that exclude each other"
    network, decided = fast_network(network, context.decided.precision), context.decided
    insert_dropout(network, decided.dropout_p, decided.dropout, decided.dropout_of)
    plain = DeterministicSampler(network, True)
    sampler = DropoutSampler(network, True, passes, context.rng("record"))
    return (lambda data: plain(data).probs_T_B_C_xyz), (lambda data: sampler(data).probs_T_B_C_xyz)


def measure(pool: Pool, numbers: Sequence[int], plain: Sampler, sampler: Sampler) -> Sums:
    """Measure regions of a pool whose images have the true labels as their last channel."""
    row = {number: index for index, number in enumerate(sorted(numbers))}
    found: Sums = {}
    spread: Sums = {}
    with closing(pool_batches(pool, by_case(pool.regions, numbers), _CHUNK, 1)) as batches:
        for owners, data, mask, _, _, _ in batches:
            image, truth = data[:, :-1].contiguous(), data[:, -1].round().long()
            sums, samples = window_sums(plain(image), sampler(image), truth, mask)
            for target, source in ((found, sums), (spread, samples)):
                for name, values in source.items():
                    for index, owner in enumerate(owners):
                        values_of = target.setdefault(name, np.zeros((len(row), *values.shape[1:])))
                        values_of[row[owner]] += values[index]
    for name, values_N_C_T in spread.items():  # of a whole region, so behind the sum over its windows
        found[name] = values_N_C_T.std(axis=2)
    return {"number_N": np.array(sorted(numbers), np.int64), **found}


def window_sums(
    plain_T_B_C_xyz: torch.Tensor, sampled_T_B_C_xyz: torch.Tensor, truth_B_xyz: torch.Tensor, mask_B_xyz: torch.Tensor
) -> tuple[Sums, Sums]:
    """Return sums over the voxels of each window that count: (B,) or (B, C), and (B, C, T) of the samples."""
    count = plain_T_B_C_xyz.shape[2]
    mask_B_v = mask_B_xyz.flatten(1)

    def one_hot(labels_B_xyz: torch.Tensor) -> torch.Tensor:
        classes_B_C_v = torch.stack([labels_B_xyz.flatten(1) == value for value in range(1, count)], dim=1)
        return (classes_B_C_v & mask_B_v[:, None]).float()

    true_B_C_v = one_hot(truth_B_xyz)
    sums = {"voxels_N": mask_B_v.sum(1), "true_N_C": true_B_C_v.sum(2)}
    samples: dict[str, torch.Tensor] = {}
    for name, probs_T_B_C_xyz in zip(PREDICTIONS, (plain_T_B_C_xyz, sampled_T_B_C_xyz), strict=True):
        mean_B_C_xyz = probs_T_B_C_xyz.mean(0)
        predicted_B_C_v = one_hot(mean_B_C_xyz.argmax(1))
        probs_B_C_v = mean_B_C_xyz[:, 1:].flatten(2) * mask_B_v[:, None]
        sums |= {
            f"{name}_size_N_C": predicted_B_C_v.sum(2),
            f"{name}_intersection_N_C": (predicted_B_C_v * true_B_C_v).sum(2),
            f"{name}_expected_size_N_C": probs_B_C_v.sum(2),
            f"{name}_expected_intersection_N_C": (probs_B_C_v * predicted_B_C_v).sum(2),
        }
        if name == "averaged":
            probs_T_B_C_v = probs_T_B_C_xyz[:, :, 1:].flatten(3) * mask_B_v[:, None]
            samples = {
                "averaged_sd_size_N_C": probs_T_B_C_v.sum(3).permute(1, 2, 0),
                "averaged_sd_intersection_N_C": (probs_T_B_C_v * predicted_B_C_v).sum(3).permute(1, 2, 0),
            }
    return _as_arrays(sums), _as_arrays(samples)


def drawn_regions(context: RoundContext, wanted: int) -> list[int]:
    """Return the numbers of regions of the pool, drawn by the campaign's seed alone."""
    pool = set(context.decided.pool_cases)
    numbers = [number for number, region in enumerate(context.regions) if region.case in pool]
    rng = generator(context.decided.seed, 0, "record of the pool")
    drawn = random_draw([context.regions[number].name for number in numbers], wanted, rng).indices_B
    return sorted(numbers[index] for index in drawn.tolist())


def batch_numbers(context: RoundContext) -> list[int]:
    """Return the numbers of the regions that the round chose; none where it chose nothing."""
    if not context.round.batch.is_file():
        return []
    number_of = {region: number for number, region in enumerate(context.regions)}
    asked = read_json(context.round.batch)["regions"]
    return sorted(number_of[Region(entry["case"], as_box(entry["box"]))] for entry in asked)


def pool_of(context: RoundContext) -> Pool:
    """Return the pool with the true labels as a further channel of each image."""
    files, images = context.data.dataset.cases, context.pool_images()
    return _labelled(context, context.regions, context.geometries, images, files)


def tests_of(context: RoundContext) -> tuple[Pool, list[int]]:
    """Return the test cases, each one region, and their numbers."""
    cases, facts = sorted(context.decided.test_cases), context.data.test_facts
    geometries = {c: case_geometry(facts[c], context.first_plans, context.decided.configuration) for c in cases}
    regions = [Region(case, whole(facts[case].raw_shape)) for case in cases]
    pool = _labelled(context, regions, geometries, context.test_images(), context.data.tests)
    return pool, list(range(len(regions)))


def labels_on_network_grid(labels_xyz: np.ndarray, geometry: CaseGeometry) -> np.ndarray:
    """Return a raw label map on the grid of the preprocessed image: transposed, cropped, the nearest voxel."""
    cropped = labels_xyz.transpose(geometry.transpose_forward)[to_slices(geometry.crop_box)]
    nearest = [
        (2 * np.arange(new) + 1) * old // (2 * new)
        for old, new in zip(cropped.shape, geometry.network_shape, strict=True)
    ]
    return cropped[np.ix_(*nearest)]


def _labelled(
    context: RoundContext,
    regions: Sequence[Region],
    geometries: Mapping[str, CaseGeometry],
    images: Mapping[str, StoredImage],
    files: Mapping[str, CaseFiles],
) -> Pool:
    def read(case: str) -> np.ndarray:
        label = files[case].label
        assert label is not None, f"{case} has no label"
        truth = labels_on_network_grid(context.label_format.read(label), geometries[case])
        return np.concatenate([images[case].open()[:], truth[None].astype(np.float32)])

    return Pool(regions, geometries, read, tuple(context.configuration["patch_size"]))


def _rows(kind: int, sums: Sums) -> Sums:
    return {"kind_N": np.full(len(sums["number_N"]), kind), **sums}


def _joined(parts: Sequence[Sums]) -> Sums:
    """Join rows in small types: counts as whole numbers, expectations to a hundredth of a voxel."""
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return {name: _small(name, values) for name, values in joined.items()}


def _small(name: str, values: np.ndarray) -> np.ndarray:
    if name == "kind_N":
        return values.astype(np.uint8)
    if "expected" in name or "_sd_" in name:
        return np.round(values, 2).astype(np.float32)
    return np.round(values).astype(np.int32)


def _as_arrays(tensors: Mapping[str, Any]) -> Sums:
    return {name: tensor.double().numpy() for name, tensor in tensors.items()}
