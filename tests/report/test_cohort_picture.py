from __future__ import annotations

import numpy as np
import pytest
import SimpleITK

from nnunet_al.report.drawing.cohort_picture import cohort_picture
from nnunet_al.report.drawing.palette import BLUE, VERMILLION

from .pictures import n_pixels_like


def make(folder, empty=(), spacing=(1.0, 1.0, 2.0)):
    rng = np.random.default_rng(0)
    lines = ["case,group,smallest_jacobian,left_caudate"]
    for number, (group, radius) in enumerate((("group1", 6), ("group2", 4), ("group1", 7), ("group2", 3))):
        name = f"sub-{number:04d}"
        z, y, x = np.ogrid[:30, :40, :40]
        label = ((z - 15) ** 2 + (y - 20) ** 2 + (x - 26) ** 2 < radius**2).astype(np.uint8)
        label[:] *= name not in empty
        image = (100 + 50 * label + rng.normal(0, 3, label.shape)).astype(np.int16)
        for sub_folder, stem, array in (("imagesTr", f"{name}_0000", image), ("labelsTr", name, label)):
            (folder / sub_folder).mkdir(parents=True, exist_ok=True)
            picture = SimpleITK.GetImageFromArray(array)
            picture.SetSpacing(spacing)
            SimpleITK.WriteImage(picture, folder / sub_folder / f"{stem}.nii.gz")
        lines.append(f"{name},{group},0.5,{label.sum() * 2}")
    (folder / "volumes.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_both_groups_are_outlined_and_counted(tmp_path):
    folder = make(tmp_path / "data")
    cohort_picture(folder, tmp_path / "a.png")
    cohort_picture(folder, tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    empty = make(tmp_path / "empty", empty=[f"sub-{number:04d}" for number in range(4)])
    cohort_picture(empty, tmp_path / "empty.png")
    for colour in (BLUE, VERMILLION):
        outlined, not_outlined = (n_pixels_like(tmp_path / name, colour) for name in ("a.png", "empty.png"))
        assert outlined > not_outlined + 150


@pytest.mark.parametrize("wrong, step", [("sub-0000", 1.0), ("sub-0001", 50.0)])
def test_a_case_without_a_label_does_not_stop_it(tmp_path, wrong, step):
    """The middle of the image is shown, wherever that is: 50 mm are more than there are voxels."""
    cohort_picture(make(tmp_path / "data", [wrong], (step, step, step)), tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 10000
