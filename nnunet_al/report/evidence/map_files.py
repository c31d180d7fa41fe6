"""The strategy's own maps of a batch as volumes, for 3D Slicer or ITK-SNAP."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import SimpleITK

from nnunet_al.annotation.grids import read_grid
from nnunet_al.campaign.commits import asked_regions
from nnunet_al.campaign.decisions import Options
from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.files import write_atomically
from nnunet_al.nnunet.environment import Roots
from nnunet_al.pool.boxes import Region
from nnunet_al.report.evidence.strategy_map import StrategyMap
from nnunet_al.rounds.reopen import open_round
from nnunet_al.terminal import progress
from nnunet_al.text import count


def write_maps(folder: CampaignFolder, number: int, output: Path, roots: Roots, options: Options) -> str:
    """Write the map of each case of a round's batch into a folder, and return a sentence on it.

    A volume lies on the grid of the case's image, float32: the map inside the regions of the batch (the larger value
    where they overlap), 0 outside.

    Raises NnunetALError if the round's model or data are not there; StorageError if a file cannot be written.
    """
    context = open_round(folder, roots, number, options)
    own = StrategyMap.of(context)
    if own is None:
        return f"{folder.name}: the strategy has no map of its own, and no file."
    regions: dict[str, list[Region]] = {}
    for region in asked_regions(context.round):
        if region.case in context.geometries and region.case in context.data.dataset.cases:
            regions.setdefault(region.case, []).append(region)
    stored = context.pool_images()
    for case, of_case in progress(sorted(regions.items()), "maps"):
        image = context.data.dataset.cases[case].images[0]
        grid = read_grid(image)
        image_C_xyz, geometry = stored[case].open()[:], context.geometries[case]
        if grid.shape_kji != geometry.raw_shape:
            return f"{folder.name}: {image.name} is no volume whose axes nnU-Net keeps, so that there are no map files."
        whole_xyz = np.full(geometry.raw_shape, np.nan, np.float32)
        for region in of_case:
            whole_xyz = np.fmax(whole_xyz, own.on_raw_image(image_C_xyz, geometry, region.box))
        volume = grid.image(np.nan_to_num(whole_xyz, nan=0.0))
        path = output / f"{case}_{own.name}.nii.gz"
        write_atomically(path, partial(_write, volume))
    return f"{folder.name}, round {number}: maps of {own.name} for {count(len(regions), 'case')}."


def _write(volume: SimpleITK.Image, path: Path) -> None:
    SimpleITK.WriteImage(volume, str(path), True)
