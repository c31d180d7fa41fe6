from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.remove_label import RemoveLabelTransform
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2, nnUNetDatasetNumpy
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_al.nnunet.loading import OUTSIDE_MASK, PADDING_AWARE, PaddingAwareSegmentation, clamp_patch_centres
from nnunet_al.nnunet.trainer import nnUNetTrainerAL

from .conftest import CASES, IGNORE, PATCH

ROTATION = (-0.5, 0.5)


def training(trainer=nnUNetTrainerAL, ignore_label=IGNORE, scales=None, **more):
    return trainer.get_training_transforms(
        PATCH, ROTATION, scales, (0, 1, 2), False, use_mask_for_norm=[True], ignore_label=ignore_label, **more
    )


def validation(trainer=nnUNetTrainerAL, ignore_label=IGNORE, scales=None, **more):
    return trainer.get_validation_transforms(scales, ignore_label=ignore_label, **more)


def segmentation_of_everything():
    """-2 outside the mask, -1 padding, then the labels and the ignore label, one plane each."""
    values = torch.tensor([OUTSIDE_MASK, -1, 0, 1, 2, IGNORE], dtype=torch.int16)
    return values.reshape(1, -1, 1, 1).repeat(1, 1, 4, 4)


class AlwaysTheSame:
    """A dataset of one case: image of ones, labels of ones but for a third outside the nonzero mask."""

    def __init__(self, aware: bool, shape=(10, 14, 12)):
        self.identifiers = ["case"]
        self.segmentation = np.ones((1, *shape), np.int16)
        self.segmentation[:, : shape[0] // 3] = -1
        self.image = np.ones((1, *shape), np.float32)
        self.aware = aware

    def load_case(self, identifier):
        inside = np.argwhere(self.segmentation == 1)
        places = {1: inside, (-1, 0, 1, 2): inside}
        seg = PaddingAwareSegmentation(self.segmentation) if self.aware else self.segmentation
        return self.image, seg, None, {"class_locations": places}


def batch(aware, transforms, patch=PATCH, final=PATCH, size=4):
    labels = LabelManager({"background": 0, "a": 1, "b": 2, "ignore": IGNORE}, None)
    np.random.seed(1)
    torch.manual_seed(1)
    loader = nnUNetDataLoader(AlwaysTheSame(aware), size, patch, final, labels, 0.33, None, None, transforms=transforms)
    made = next(loader)
    return made["data"], made["target"]


@pytest.mark.parametrize("shape", [(16, 20, 18), (16, 30, 9), (40, 33, 21)])
@pytest.mark.parametrize(
    "patch, loaded", [((16, 16, 16), (16, 16, 16)), ((16, 16, 16), (22, 24, 26)), ((12, 20), (12, 20))]
)
def test_patches_reach_over_a_border_no_further_than_nnunets_random_ones(shape, patch, loaded):
    labels = [LabelManager({"background": 0, "a": 1, **ignore}, None) for ignore in ({"ignore": 2}, {})]
    places = np.argwhere(np.ones((1, *shape), bool))
    moved = clamp_patch_centres({1: places, (-1, 0, 1): places, 2: []}, shape, patch)
    assert len(moved[2]) == 0
    ours, stock = (
        nnUNetDataLoader(AlwaysTheSame(True, shape), 1, loaded, patch, own, 0.33, None, None) for own in labels
    )
    np.random.seed(0)
    for ours_forces in (False, True):
        lows = np.array([ours.get_bbox(shape, ours_forces, moved)[0] for _ in range(3000)])
        random_lows = np.array([stock.get_bbox(shape, False, None)[0] for _ in range(3000)])
        assert (lows.min(0) >= random_lows.min(0)).all()
        assert (lows.max(0) - random_lows.max(0) <= 1).all(), "odd paddings may differ by a voxel"
    untouched = np.array([ours.get_bbox(shape, False, {(-1, 0, 1): places})[0] for _ in range(3000)])
    assert (untouched.max(0) - lows.max(0)).max() >= 4, "nnU-Net has mended it"


def test_a_moved_patch_still_holds_its_voxel_and_others_stay():
    places = np.array([[0, 2, 9, 11], [0, 7, 3, 0], [0, 9, 9, 11]])
    moved = clamp_patch_centres({1: places}, (10, 10, 12), (8, 10, 12))[1]
    assert moved.tolist() == [[0, 2, 5, 6], [0, 6, 3, 0], [0, 6, 5, 6]]
    assert places[2].tolist() == [0, 9, 9, 11], "what was read is not changed"
    assert clamp_patch_centres({1: places}, (10, 10, 12), (10, 12))[1].tolist() == [
        [0, 2, 5, 6],
        [0, 7, 3, 0],
        [0, 9, 5, 6],
    ]


def test_a_block_reads_as_stored_but_for_the_outside_of_the_mask():
    stored = np.random.default_rng(0).integers(-1, 4, (1, 6, 7, 8)).astype(np.int16)
    read = PaddingAwareSegmentation(stored)
    assert (read.shape, read.dtype, read.ndim) == (stored.shape, stored.dtype, 4)
    block = read[:, 1:5, ::2]
    assert np.array_equal(block, np.where(stored == -1, OUTSIDE_MASK, stored)[:, 1:5, ::2])
    block[:] = 9
    assert stored.max() < 9, "the stored array was changed"


def test_cropping_beyond_the_border_pads_with_what_no_voxel_of_the_image_holds():
    stored = np.full((1, 4, 4, 4), -1, np.int16)
    stored[:, 2:] = 1
    box = [[-2, 3], [1, 6], [0, 4]]
    ours = crop_and_pad_nd(PaddingAwareSegmentation(stored), box, -1, cast_cropped_to=np.int16)
    stock = crop_and_pad_nd(stored, box, -1, cast_cropped_to=np.int16)
    beyond = crop_and_pad_nd(np.zeros_like(stored), box, 1).astype(bool)
    assert np.array_equal(ours == -1, beyond)
    assert np.array_equal(np.where(ours == OUTSIDE_MASK, -1, ours), stock)


def test_validation_labels_by_hand():
    found = validation()(image=torch.zeros(1, 6, 4, 4), segmentation=segmentation_of_everything())["segmentation"]
    assert found[0, :, 0, 0].tolist() == [0, IGNORE, 0, 1, 2, IGNORE]
    stock = validation(nnUNetTrainer)(image=torch.zeros(1, 6, 4, 4), segmentation=segmentation_of_everything())
    assert stock["segmentation"][0, :, 0, 0].tolist()[1:] == [0, 0, 1, 2, IGNORE], "nnU-Net's padding is background"


def test_regions_of_padding_are_flagged_and_those_outside_the_mask_are_background():
    transforms = validation(regions=[(1, 2), 2])
    found = transforms(image=torch.zeros(1, 6, 4, 4), segmentation=segmentation_of_everything())["segmentation"]
    whole, core, ignored = (channel[:, 0, 0].int().tolist() for channel in found)
    assert whole == [0, 0, 0, 1, 1, 0]
    assert core == [0, 0, 0, 0, 1, 0]
    assert ignored == [0, 1, 0, 0, 0, 1]


def test_padding_of_loaded_patches_is_ignored_and_nothing_else_differs_from_nnunet():
    image, ours = batch(True, validation())
    stock_image, stock = batch(False, validation(nnUNetTrainer))
    padding = image == 0  # the image is 1 everywhere
    assert torch.equal(image, stock_image)
    assert padding.any()
    assert (ours == 0).any(), "voxels outside the nonzero mask are background"
    assert torch.equal(ours == IGNORE, padding)
    assert (stock[padding] == 0).all()
    assert torch.equal(ours[~padding], stock[~padding])


def test_augmented_padding_is_ignored():
    steps = [s for s in training().transforms if isinstance(s, (SpatialTransform, RemoveLabelTransform))]
    steps[0].p_rotation = steps[0].p_scaling = 1
    image, target = batch(True, ComposeTransforms(steps), patch=(22, 22, 22), size=8)
    assert (target[image < 0.01] == IGNORE).all()
    assert (target[image > 0.99] != IGNORE).all()
    assert (target == 0).any()
    assert set(target.unique().tolist()) == {0, 1, IGNORE}


def test_masked_augmentation_still_sees_the_outside_of_the_mask():
    segmentation = torch.full((1, *PATCH), OUTSIDE_MASK, dtype=torch.int16)
    segmentation[:, :8] = 1
    torch.manual_seed(0)
    np.random.seed(0)
    pipeline = training()
    pipeline.transforms = [s for s in pipeline.transforms if not isinstance(s, SpatialTransform)]
    made = pipeline(image=torch.ones(1, *PATCH), segmentation=segmentation)
    assert (made["image"][made["segmentation"] == 0] == 0).all()
    assert (made["segmentation"] == 0).sum() == (segmentation == OUTSIDE_MASK).sum()


def test_the_blur_does_not_look_at_the_clock():
    def blurs(trainer):
        inner = [getattr(step, "transform", step) for step in training(trainer).transforms]
        return [step.benchmark for step in inner if isinstance(step, GaussianBlurTransform)]

    assert blurs(nnUNetTrainer) == [True], "nnU-Net has changed its augmentation: look whether ours is reproducible"
    assert blurs(nnUNetTrainerAL) == [False]


def test_without_an_ignore_label_the_steps_are_nnunets():
    for make in (training, validation):
        ours, stock = (make(trainer, ignore_label=None).transforms for trainer in (nnUNetTrainerAL, nnUNetTrainer))
        assert [repr(type(step)) for step in ours] == [repr(type(step)) for step in stock]


@pytest.mark.parametrize("stock", [nnUNetDatasetBlosc2, nnUNetDatasetNumpy])
def test_the_dataset_reads_what_nnunets_reads_and_survives_pickling(stock, tiny_preprocessed, tmp_path):
    folder = str(tiny_preprocessed.data_folder)
    if stock is nnUNetDatasetNumpy:
        data, seg, _, properties = nnUNetDatasetBlosc2(folder).load_case(CASES[0])
        folder = str(tmp_path)
        stock.save_case(data[:], seg[:], properties, str(tmp_path / CASES[0]))
    reader = pickle.loads(pickle.dumps(PADDING_AWARE[stock](folder, [CASES[0]])))
    image, ours, previous, properties = reader.load_case(CASES[0])
    stock_image, theirs, _, _ = stock(folder, [CASES[0]]).load_case(CASES[0])
    theirs = theirs[:]
    assert previous is None
    assert "class_locations" in properties
    assert np.array_equal(image[:], stock_image[:])
    assert (theirs == -1).any()
    assert np.array_equal(ours[:], np.where(theirs == -1, OUTSIDE_MASK, theirs))
