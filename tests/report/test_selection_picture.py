from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from nnunet_al.report.drawing import selection_picture as module
from nnunet_al.report.drawing.selection_picture import (
    PREDICTION,
    READER,
    REGION,
    Panel,
    dashes_of,
    display_range,
    region_picture,
    selection_picture,
)

from .pictures import n_pixels_like


def panel(**changes):
    image = np.random.default_rng(0).normal(100, 10, (20, 30))
    classes = np.zeros((20, 30), dtype=int)
    classes[5:12, 8:20] = 1
    classes[7:9, 10:14] = 2
    values = {
        "title": "entropy · round 1\ncase · slice 3",
        "image_yx": image,
        "prediction_yx": np.roll(classes, 4, 0),
        "reference_yx": classes,
        "box": ((2, 15), (3, 25)),
        "spacing_yx": (2.0, 1.0),
        "score": 0.25,
    }
    return Panel(**{**values, **changes})


@pytest.mark.parametrize("left_out, colour", [("prediction_yx", PREDICTION), ("reference_yx", READER)])
def test_each_outline_is_drawn_where_it_is_known(tmp_path, left_out, colour):
    selection_picture([panel()], tmp_path / "all.png")
    selection_picture([panel(**{left_out: None})], tmp_path / "less.png")
    everything, less = n_pixels_like(tmp_path / "all.png", colour), n_pixels_like(tmp_path / "less.png", colour)
    assert everything > less + 200
    assert n_pixels_like(tmp_path / "less.png", REGION) > 200


def test_classes_are_told_apart_by_their_dashes_and_named(tmp_path):
    """In the picture and in a tile of the report; names of classes are no formulas and may begin anyhow."""
    plain, named = panel(prediction_yx=None), panel(prediction_yx=None, classes={1: "_organ $", 2: "lesion $x$"})
    assert [dashes_of(named, value) for value in (1, 2)] == list(dict.fromkeys(dashes_of(named, v) for v in (1, 2)))
    assert dashes_of(plain, 2) == dashes_of(named, 1) == "-"
    for name, drawn in (("plain", plain), ("named", named)):
        selection_picture([drawn], tmp_path / f"{name}.png")
        (tmp_path / f"{name}_tile.png").write_bytes(region_picture(drawn, 1.0))
        assert n_pixels_like(tmp_path / f"{name}_tile.png", "0.25") > 500  # the ground of the legend
        axes = Figure().add_subplot()
        module._draw(axes, drawn)
        assert len({str(lines.get_linestyle()) for lines in axes.collections}) == (1 if drawn is plain else 2)
    assert [handle.get_label() for handle in module._handles([named])[3:]] == [" _organ $", "lesion $x$"]
    assert len(module._handles([plain])) == 3


def test_the_box_of_a_whole_slice_and_outlines_at_the_border_are_seen(tmp_path):
    path = tmp_path / "whole.png"
    selection_picture([panel(box=((0, 20), (0, 30)), reference_yx=np.ones((20, 30), int))], path)
    assert n_pixels_like(path, REGION) > 200
    assert n_pixels_like(path, READER) > 200


@pytest.mark.parametrize("n_panels", [1, 3, 4, 5, 9])
def test_any_number_of_panels(tmp_path, n_panels):
    path = tmp_path / "grid.png"
    selection_picture([panel(score=None) for _ in range(n_panels)], path, title="Batch of round 1")
    first = path.read_bytes()
    assert first.startswith(b"\x89PNG")
    selection_picture([panel(score=None) for _ in range(n_panels)], path, title="Batch of round 1")
    assert path.read_bytes() == first
    assert list(tmp_path.iterdir()) == [path]


def test_odd_images_and_no_panels(tmp_path):
    flat, broken = np.zeros((20, 30)), np.full((20, 30), np.nan)
    odd = [panel(image_yx=flat), panel(image_yx=broken), panel(spacing_yx=(30.0, 1.0)), panel(score=float("nan"))]
    selection_picture(odd, tmp_path / "odd.png")
    selection_picture([], tmp_path / "none.png")
    assert len(list(tmp_path.iterdir())) == 2


def test_display_range_leaves_out_air_and_outliers():
    image = np.concatenate([np.zeros(1000), np.linspace(100, 200, 1000), [1e6]])
    low, high = display_range(image)
    assert 60 < low < 100
    assert 190 < high < 210
    assert display_range(np.zeros((3, 3))) == (0.0, 1.0)
    low, high = display_range(np.full((3, 3), 7.0))
    assert low < 7 < high
