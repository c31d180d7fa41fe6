from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from strategy_combinations import spellings

from nnunet_al.report.drawing.learning_curves import learning_curves
from nnunet_al.report.drawing.palette import BLUE, LINE_COLOURS, VERMILLION, YELLOW
from nnunet_al.report.reading.lines import mean_curve
from nnunet_al.report.reading.runs import read_runs

from .faked_campaigns import fake_campaign
from .pictures import n_pixels_like

X = np.array([10.0, 20.0, 30.0])


def test_mean_and_band_worked_out_by_hand():
    mean = mean_curve([(X, np.array([0.2, 0.4, 0.6])), (X, np.array([0.4, 0.4, 0.8]))])
    assert np.allclose(mean.budget_P, X)
    assert np.allclose(mean.mean_P, [0.3, 0.4, 0.7])
    assert np.allclose(mean.sd_P, [np.sqrt(0.02), 0, np.sqrt(0.02)])
    assert mean.n == 2


def test_a_single_run_is_its_own_mean():
    mean = mean_curve([(X, X / 100)])
    assert np.array_equal(mean.mean_P, X / 100)
    assert not mean.sd_P.any()
    assert mean_curve([]).n == 0


def test_the_mean_ends_where_the_shortest_run_ends_and_interpolates_between():
    mean = mean_curve([(X, np.array([0.1, 0.2, 0.3])), (np.array([10.0, 15.0]), np.array([0.1, 0.15]))])
    assert np.allclose(mean.budget_P, [10, 15])
    assert np.allclose(mean.mean_P, [0.1, 0.15])


@pytest.mark.parametrize("seed", range(10))
def test_the_mean_does_not_depend_on_the_order_of_runs_and_lies_between_them(seed):
    rng = np.random.default_rng(seed)
    runs = [(np.sort(rng.choice(50, 6, replace=False)).astype(float), rng.random(6)) for _ in range(4)]
    mean, reversed_mean = mean_curve(runs), mean_curve(runs[::-1])
    assert np.allclose(mean.mean_P, reversed_mean.mean_P)
    values = np.array([np.interp(mean.budget_P, *run) for run in runs])
    assert (mean.mean_P >= values.min(0) - 1e-12).all()
    assert (mean.mean_P <= values.max(0) + 1e-12).all()


def test_a_picture_is_written_with_a_line_per_strategy(tmp_path):
    path = tmp_path / "folder" / "curves.png"
    curves = read_runs(
        [
            fake_campaign(tmp_path, "entropy", [0.2, 0.5, 0.6], classes={"organ": 0.1, "lesion": -0.1}),
            fake_campaign(tmp_path, "entropy", [0.3, 0.4, 0.6], seed=1),
            fake_campaign(tmp_path, "random", [0.2, 0.3, 0.4]),
        ]
    )
    learning_curves(curves, path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [entry.name for entry in path.parent.iterdir()] == ["curves.png"]
    assert n_pixels_like(path, BLUE) > 500
    assert n_pixels_like(path, VERMILLION) > 500
    first = path.read_bytes()
    learning_curves(curves, path)
    assert path.read_bytes() == first


def test_more_strategies_than_colours_nan_rounds_and_no_rounds_are_drawn(tmp_path):
    names = list(spellings())[: len(LINE_COLOURS) + 3]
    many = [fake_campaign(tmp_path, name, [0.1, 0.2, index / 20]) for index, name in enumerate(names)]
    assert len(many) == len(LINE_COLOURS) + 3
    learning_curves(read_runs(many), tmp_path / "many.png")
    empty = [fake_campaign(tmp_path / "empty", "entropy", [np.nan] * 3), fake_campaign(tmp_path / "empty", "bald", [])]
    learning_curves(read_runs(empty), tmp_path / "nan.png")
    learning_curves([], tmp_path / "none.png")
    assert len(list(tmp_path.glob("*.png"))) == 3
    assert YELLOW not in LINE_COLOURS


def test_no_window_and_no_global_figures():
    """Whoever draws with pyplot in the same process keeps their backend and figures."""
    code = (
        "import sys, nnunet_al.report.drawing.learning_curves, nnunet_al.report.drawing.selection_picture;"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
