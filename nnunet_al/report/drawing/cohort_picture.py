"""A picture of a biased cohort: an example of each group, and the volumes of the left caudate in both."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from nnunet_al.report.drawing.palette import LINE_COLOURS, new_figure, own_style, save

_STRUCTURE = "left_caudate"
_HALF_WIDTH_MM = 55.0


def cohort_picture(folder: Path, path: Path) -> None:
    """Draw a dataset made by ``nnUNetv2_al_synth --biased`` into a PNG file.

    Rows are the groups. The example of a group is its training case whose left caudate has the group's median volume;
    it is shown in axial and coronal slices through the middle of that caudate (of the image where its label is empty),
    the patient's left on the right, with the label's contour. A histogram beside them shows the volumes of all cases.

    Raises StorageError if the picture cannot be written.
    """
    with (folder / "volumes.csv").open(encoding="utf-8", newline="") as file:
        rows = [(row["case"], row["group"], float(row[_STRUCTURE]) / 1000) for row in csv.DictReader(file)]
    groups = sorted({group for _, group, _ in rows})
    with own_style():
        figure = new_figure(11.5, 3.1 * len(groups))
        axes: dict[str, Axes] = figure.subplot_mosaic(
            [[f"axial {group}", f"coronal {group}", "volumes"] for group in groups], width_ratios=(1, 1.1, 1.2)
        )
        for group, colour in zip(groups, LINE_COLOURS, strict=False):
            there = [(volume, case) for case, of, volume in rows if of == group and _label(folder, case).exists()]
            volume, case = sorted(there)[(len(there) - 1) // 2]
            title = f"{group}, {case}: {volume:.1f} ml"
            _draw_slices(folder, case, [axes[f"axial {group}"], axes[f"coronal {group}"]], colour, title)
        _draw_volumes(axes["volumes"], {group: [ml for _, of, ml in rows if of == group] for group in groups})
        save(figure, path)


def _label(folder: Path, case: str) -> Path:
    return folder / "labelsTr" / f"{case}.nii.gz"


def _draw_slices(folder: Path, case: str, axes: Sequence[Axes], colour: str, title: str) -> None:
    label = SimpleITK.ReadImage(str(_label(folder, case)))
    label_zyx = SimpleITK.GetArrayFromImage(label)
    image_zyx = SimpleITK.GetArrayFromImage(
        SimpleITK.ReadImage(str(folder / "imagesTr" / f"{case}_0000.nii.gz"))
    ).astype(float)
    spacing = np.array(label.GetSpacing()[::-1])
    shown = np.argwhere(label_zyx > 0) if label_zyx.any() else np.array([label_zyx.shape]) // 2
    z, y, _ = np.round(shown.mean(0)).astype(int)
    brightest = np.percentile(image_zyx[image_zyx > 0], 99) if (image_zyx > 0).any() else 1
    middle = (image_zyx.shape[2] - 1) / 2 * spacing[2]
    views = (
        ("axial", image_zyx[z], label_zyx[z], spacing[1], y * spacing[1]),
        ("coronal", image_zyx[:, y], label_zyx[:, y], spacing[0], z * spacing[0]),
    )
    for axis, (plane, picture, contour, step, centre) in zip(axes, views, strict=True):
        height, width = picture.shape
        edges = (-spacing[2] / 2, (width - 0.5) * spacing[2])
        sides = (-step / 2, (height - 0.5) * step)
        axis.imshow(picture, cmap="gray", vmin=0, vmax=brightest, extent=(*edges, *sides), origin="lower")
        if contour.any():
            columns, lines = np.arange(width) * spacing[2], np.arange(height) * step
            axis.contour(columns, lines, contour, levels=[0.5], colors=[colour], linewidths=1.4)
        axis.set_xlim(max(edges[0], middle - _HALF_WIDTH_MM), min(edges[1], middle + _HALF_WIDTH_MM))
        low, high = max(sides[0], centre - _HALF_WIDTH_MM), min(sides[1], centre + _HALF_WIDTH_MM)
        axis.set_ylim(*((high, low) if plane == "axial" else (low, high)))  # the front and the top are up
        axis.set_title(f"{title}, axial" if plane == "axial" else plane, fontsize=9)
        axis.set_axis_off()


def _draw_volumes(axis: Axes, volumes: dict[str, list[float]]) -> None:
    everything = [value for values in volumes.values() for value in values]
    bins = int(np.clip(len(everything) / 6, 6, 30))
    edges = np.linspace(min(everything), max(everything) + 1e-9, bins + 1).tolist()
    for (group, values), colour in zip(volumes.items(), LINE_COLOURS, strict=False):
        label = f"{group}: {np.mean(values):.2f} ± {np.std(values):.2f} ml, n = {len(values)}"
        axis.hist(values, edges, color=colour, alpha=0.55, label=label)
        axis.axvline(float(np.mean(values)), color=colour, linewidth=1.6)
    axis.set_xlabel("volume of the left caudate [ml]")
    axis.set_ylabel("cases")
    axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_ylim(top=1.18 * axis.get_ylim()[1])  # room for the legend
    axis.legend(fontsize=8, loc="upper center", framealpha=1)
