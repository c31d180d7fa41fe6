from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from urllib.parse import urlparse

import matplotlib
import numpy as np
import pytest

from nnunet_al.evaluation.penalty import penalty_matrix
from nnunet_al.report.drawing import panel_figures
from nnunet_al.report.drawing.bar_figures import area_figure, time_figure
from nnunet_al.report.drawing.learning_figures import campaign_figures, learning_figure
from nnunet_al.report.drawing.palette import BLUE, VERMILLION
from nnunet_al.report.drawing.panel_figures import each_figure, fairness_figure, group_figure
from nnunet_al.report.drawing.penalty_figure import penalty_figure
from nnunet_al.report.drawing.svg import looks, shared_legend
from nnunet_al.report.reading.lines import changes_of_tests, comparisons
from nnunet_al.report.reading.runs import read_runs
from nnunet_al.report.tables.all_tables import campaign_tables, penalties_of
from nnunet_al.report.tables.times import times
from nnunet_al.strategies import catalog

from .faked_campaigns import fake_campaign

GROUPS = {"F": (0.1, 0.25), "M": (-0.1, 0.75)}


def fake_runs(root, strategies, runs=2, rounds=3, **options):
    rng = np.random.default_rng(0)
    values = 0.5 + 0.1 * np.arange(rounds)
    return read_runs(
        [
            fake_campaign(root, strategy, list(values + 0.01 * rng.random(rounds) - 0.02 * index), seed=seed, **options)
            for index, strategy in enumerate(strategies)
            for seed in range(runs)
        ]
    )


def drawn(runs, **options):
    return {figure.name: figure for figure in figures_of(runs, **options)}


def figures_of(runs, **options):
    compared = comparisons(runs)
    matrices = penalties_of(compared)
    tables = {table.name: table for table in campaign_tables(runs, compared, matrices, **options)}
    return campaign_figures(compared, tables, matrices)


def learning(runs, axis="regions"):
    return first(runs, lambda comparison, styles: learning_figure(comparison, axis, styles))


def first(runs, draw):
    """The figure of the first comparison."""
    comparison = comparisons(runs)[0]
    return draw(comparison, looks([line.label for line in comparison.lines]))


def numbers_in(text):
    return [float(number) for number in re.findall(r"\d+\.\d{4}", text)]


@pytest.fixture(scope="module")
def some(tmp_path_factory):
    return drawn(
        fake_runs(tmp_path_factory.mktemp("some"), ["entropy", "random"], classes={"a": 0.1, "b": -0.1}, groups=GROUPS)
    )


def test_each_figure_is_there_once_with_words(some):
    kinds = {name.removesuffix("_Dataset501_Phantom") for name in some}
    axes = {"curves_regions", "curves_voxels", "curves_foreground_voxels", "curves_contour_mm"}
    assert kinds == axes | {
        "budget_regions",
        "budget_contour_mm",
        "area",
        "penalty",
        "curves_hd95_regions",
        "penalty_hd95",
        "classes",
        "groups",
        "fairness",
        "time",
    }
    for figure in some.values():
        assert figure.caption.endswith(".")
        assert len(figure.alt) > 60


def test_svg_is_whole_small_and_asks_for_nothing(some):
    for figure in some.values():
        assert figure.svg.startswith("<svg")
        tree = ET.fromstring(figure.svg)
        width, height = (float(tree.get(name).removesuffix("pt")) for name in ("width", "height"))
        assert width == 360
        assert height < 800
        assert "<text" not in figure.svg  # letters are outlines: no font has to be there
        assert "<image" not in figure.svg
        for value in (value for element in tree.iter() for value in element.attrib.values()):
            assert not urlparse(value).netloc, value
        assert "<metadata" not in figure.svg
        assert len(figure.svg) < 100_000, figure.name


def test_the_same_numbers_give_the_same_bytes(tmp_path):
    runs = fake_runs(tmp_path, ["entropy", "random"], groups=GROUPS)
    for draw in (fairness_figure, lambda comparison, _: time_figure(comparison.title, times([comparison]).rows)):
        with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.fonttype": "none"}):
            figure = first(runs, draw)
        assert figure == first(runs, draw)


def test_the_alternative_text_says_who_leads_and_by_how_much(tmp_path):
    clear = [
        fake_campaign(tmp_path, strategy, [0.5, value + 0.001 * seed], seed=seed)
        for strategy, value in (("entropy", 0.8), ("random", 0.6))
        for seed in range(3)
    ]
    alt = learning(read_runs(clear)).alt
    assert "With 20 annotated regions" in alt
    assert "entropy is 0.2000 above random and leads" in alt
    assert {0.801, 0.601} <= set(numbers_in(alt))
    single = learning(read_runs(clear[::3]), "contour_mm")
    assert "With 1,750 mm of annotated contours" in single.alt
    assert "too few runs" in single.alt
    assert "and leads" not in single.alt
    assert "single run" in single.caption


def test_no_lead_is_claimed_where_intervals_overlap(tmp_path):
    runs = [
        fake_campaign(tmp_path, strategy, [0.5, value + 0.1 * seed], seed=seed)
        for strategy, value in (("entropy", 0.61), ("random", 0.6))
        for seed in range(2)
    ]
    alt = learning(read_runs(runs)).alt
    assert "0.0100 above random; their 95 % intervals overlap" in alt
    assert "leads" not in alt


def test_lower_is_better_for_delta(tmp_path):
    runs = [
        fake_campaign(tmp_path, strategy, [0.5], seed=seed, groups={"F": (gap, 0.5), "M": (-gap, 0.5)})
        for strategy, gap in (("entropy", 0.1), ("random", 0.2))
        for seed in range(2)
    ]
    assert "entropy is 0.2000 below random" in first(read_runs(runs), fairness_figure).alt


def test_groups_in_some_campaigns_only(tmp_path):
    runs = fake_runs(tmp_path, ["entropy"], groups=GROUPS) + fake_runs(tmp_path, ["random"])
    figure = first(runs, group_figure)
    assert "entropy" in figure.alt
    assert "random" not in figure.alt


def test_one_campaign_with_one_round(tmp_path):
    found = drawn(fake_runs(tmp_path, ["entropy"], runs=1, rounds=1))
    assert "curves_regions_Dataset501_Phantom" in found
    assert "penalty" not in found
    assert "1 run" in found["curves_regions_Dataset501_Phantom"].alt


def test_one_round_of_several_runs_has_an_interval(tmp_path):
    figure = learning(fake_runs(tmp_path, ["entropy"], runs=3, rounds=1))
    assert "3 runs" in figure.alt
    assert figure.svg.count("LineCollection") == 1  # the bar that stands for the band


def test_nothing_evaluated(tmp_path):
    runs = read_runs([fake_campaign(tmp_path, "entropy", [None, None], test="none", test_cases=())])
    assert list(drawn(runs)) == ["time_Dataset501_Phantom"]
    assert figures_of([]) == []


def test_a_campaign_that_has_just_begun(tmp_path):
    assert figures_of(read_runs([fake_campaign(tmp_path, "entropy", [])])) == []


def test_many_strategies_look_different_and_get_a_panel_each(tmp_path):
    runs = fake_runs(tmp_path, list(catalog.CATALOG)[:12], rounds=2)
    figure = first(runs, each_figure)
    assert "6 more in the table" in figure.alt
    assert figure.svg.count('id="axes_') == 12
    assert "hide each other" in learning(runs).caption
    assert first(runs[:6], each_figure) is None  # three strategies fit into one picture
    styles = list(looks([str(number) for number in range(28)]).values())
    assert len({(look.colour, look.dashes) for look in styles}) == 28
    assert [look.colour for look in styles[:2]] == [BLUE, VERMILLION]


def test_names_are_drawn_as_they_are(tmp_path):
    """Neither a formula nor markup, and nothing that matplotlib leaves out of a legend."""
    classes = {"_a $x^2$ <b>": 0.1, "$\\frac": -0.1}
    found = drawn(fake_runs(tmp_path, ["entropy"], 1, tag="$a_$&<", classes=classes, old=True))
    for figure in found.values():
        ET.fromstring(figure.svg)
    assert "_a $x^2$ <b>" in found["classes_Dataset501_Phantom"].alt
    assert re.fullmatch(r"\w+", "".join(found))


def test_two_datasets_and_units(tmp_path):
    runs = (
        fake_runs(tmp_path, ["entropy"], 1, unit="case", old=True)
        + fake_runs(tmp_path, ["random"], 1, unit="slice", old=True)
        + fake_runs(tmp_path, ["random"], 1, dataset="Dataset601_Other", old=True)
    )
    figures = figures_of(runs)
    found = {figure.name for figure in figures}
    assert "curves_regions_Dataset501_Phantom_unit_case" in found
    assert "curves_regions_Dataset501_Phantom_unit_slice" in found
    assert "curves_voxels_Dataset501_Phantom" in found  # a voxel is a voxel
    assert "curves_regions_Dataset601_Other" in found
    assert len(found) == len(figures)


def test_a_line_is_where_its_numbers_are(tmp_path):
    """The first path of the line's colour rises as Dice does: by hand, from the coordinates in the file."""
    figure = learning(read_runs([fake_campaign(tmp_path, "entropy", [0.2, 0.4, 0.8])]))
    path = re.search(rf'<path d="(M [^"]+)"[^>]*style="[^"]*stroke: {BLUE.lower()}', figure.svg)[1]
    points = np.array([[float(number) for number in pair] for pair in re.findall(r"([\d.]+) ([\d.]+)", path)])
    steps = -np.diff(points[:, 1])
    assert np.allclose(np.diff(points[:, 0]), points[1, 0] - points[0, 0], atol=1e-3)
    assert steps[1] == pytest.approx(2 * steps[0], rel=1e-3)


def test_a_legend_names_lines_that_are_not_in_every_panel(tmp_path, monkeypatch):
    """Two campaigns with other groups share no panel."""
    named = []
    monkeypatch.setattr(panel_figures, "shared_legend", lambda figure, *axes: named.extend(shared(figure, *axes)))

    def shared(figure, *axes):
        shared_legend(figure, *axes)
        return [text.get_text() for text in figure.legends[0].get_texts()]

    runs = fake_runs(tmp_path, ["entropy"], 1, groups=GROUPS)
    runs += fake_runs(tmp_path, ["random"], 1, groups={"x": (0.1, 0.5), "y": (-0.1, 0.5)})
    first(runs, group_figure)
    assert named == ["entropy (1 run)", "random (1 run)"]


def test_equal_values_are_no_lead(tmp_path):
    runs = read_runs(
        [
            fake_campaign(tmp_path, strategy, [0.5, 0.6 + above], seed=seed)
            for strategy, above in (("entropy", 1e-6), ("random", 0.0))
            for seed in (0, 1)
        ]
    )
    found = drawn(runs)
    alt = found["curves_regions_Dataset501_Phantom"].alt
    assert "entropy and random are equal to four digits." in alt
    assert "0.0000" not in alt
    assert "leads" not in alt


def test_both_ends_of_the_penalties_are_named_only_where_they_differ():
    def cells(above):
        return {"only": {"a": {0: 0.5 + above, 1: 0.6 + above}, "b": {0: 0.5, 1: 0.6}}}

    assert "of 0.0 %, and b most, with 50.0 %." in penalty_figure(penalty_matrix(cells(0.1))).alt
    assert "All have the same column mean, 0.0 %." in penalty_figure(penalty_matrix(cells(0))).alt


def test_where_test_cases_change_there_is_a_mark(tmp_path):
    change = {"round": 3, "added": [], "withdrawn": ["t2"], "test": ["t2"], "reason": ""}
    plain = learning(read_runs([fake_campaign(tmp_path / "a", "entropy", [0.5, 0.6, 0.7])]))
    changed = read_runs([fake_campaign(tmp_path / "b", "entropy", [0.5, 0.6, 0.7], pool_changes=(change,))])
    assert changes_of_tests(comparisons(changed)[0].lines[0], "regions") == [30]
    figure = learning(changed)
    assert "Dotted vertical lines: from there on runs of entropy are tested on other cases." in figure.caption
    assert "Dotted" not in plain.caption
    assert figure.svg.count(BLUE.lower()) == plain.svg.count(BLUE.lower()) + 1


def test_captions_of_bars_and_penalties_do_not_repeat_the_tables(some):
    for name in ("budget_regions_Dataset501_Phantom", "penalty"):
        assert len(some[name].caption) < 200
    assert "length of annotated contours" in some["budget_contour_mm_Dataset501_Phantom"].caption


def test_areas_are_drawn_where_they_can_be_compared(tmp_path):
    def row(strategy, area, high=30.0):
        return {"dataset": "D", "strategy": strategy, "axis": "regions", "from": 10.0, "to": high, "area": area} | {
            "low": None, "high": None
        }  # fmt: skip

    assert area_figure("D", [row("a", 0.5)]) is None
    assert area_figure("D", [row("a", 0.5), row("b", 0.6, high=40.0)]) is None
    figure = area_figure("D", [row("a", 0.5), row("b", 0.6), row("c", 0.9, high=40.0)])
    assert "from 10 to 30 annotated regions: b 0.6000, a 0.5000." in figure.alt


def test_the_dice_with_all_data_is_a_level_that_the_picture_holds(tmp_path):
    runs = fake_runs(tmp_path, ["entropy"])
    plain = learning(runs)
    with_level = first(runs, lambda one, styles: learning_figure(one, "regions", styles, full=0.9))
    assert "0.9000, with all data" in with_level.alt
    assert "all data" not in plain.alt
    assert with_level.svg != plain.svg
