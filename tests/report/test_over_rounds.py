from __future__ import annotations

import numpy as np
import pytest

from nnunet_al.report.drawing.learning_figures import campaign_figures
from nnunet_al.report.reading.lines import comparisons
from nnunet_al.report.reading.runs import read_runs
from nnunet_al.report.tables.all_tables import campaign_tables, penalties_of

from .faked_campaigns import fake_campaign

# strategy -> seed -> Dice of rounds 1 to 3; HD95 is 10 - 5 Dice (`faked_campaigns.metrics`)
DICE = {
    "entropy": {0: [0.50, 0.60, 0.70], 1: [0.52, 0.62, 0.74]},
    "random": {0: [0.10, 0.55, 0.60], 1: [0.52, 0.57, 0.72]},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("results")
    return read_runs([fake_campaign(root, name, dice, seed=s) for name, of in DICE.items() for s, dice in of.items()])


def tables(runs):
    compared = comparisons(runs)
    return {table.name: table for table in campaign_tables(runs, compared, penalties_of(compared))}


def test_means_over_rounds_are_without_the_first(runs):
    first, second = tables(runs)["over_rounds"].rows
    assert (first["strategy"], second["strategy"]) == ("entropy", "random")
    assert first["dice"] == pytest.approx((0.60 + 0.70 + 0.62 + 0.74) / 4)
    assert first["dice_sd"] == pytest.approx(np.std([0.60, 0.70, 0.62, 0.74], ddof=1))
    assert second["dice"] == pytest.approx(0.61)  # the 0.10 of round 1 is not in it
    assert first["hd95_mm"] == pytest.approx(10 - 5 * first["dice"])
    assert first["hd95_mm_sd"] == pytest.approx(5 * first["dice_sd"])
    assert (first["cells"], first["runs"]) == (4, 2)


def test_only_cells_that_all_strategies_have_are_averaged(tmp_path):
    rounds = {"entropy": [0.5, 0.6, 0.7, 0.9], "random": [0.5, 0.6, 0.7]}
    found = tables(read_runs([fake_campaign(tmp_path, name, dice) for name, dice in rounds.items()]))["over_rounds"]
    assert [row["dice"] for row in found.rows] == pytest.approx([0.65, 0.65])
    assert {row["cells"] for row in found.rows} == {2}


def test_permutation_worked_out_by_hand(runs):
    """Differences 0.05, 0.10, 0.05, 0.02 have one sign: 2 of 16, and over the two runs 2 of 4."""
    by_dice, by_hd95 = tables(runs)["permutation"].rows
    assert (by_dice["measure"], by_dice["strategy"], by_dice["other"]) == ("dice", "entropy", "random")
    assert by_dice["difference"] == pytest.approx(0.055)
    assert (by_dice["cells"], by_dice["p_over_cells"]) == (4, 2 / 16)
    assert (by_dice["runs"], by_dice["p_over_runs"]) == (2, 2 / 4)
    assert (by_hd95["measure"], by_hd95["strategy"]) == ("hd95_mm", "entropy")  # the smaller distance is the better
    assert by_hd95["difference"] == pytest.approx(-5 * 0.055)
    assert by_hd95["p_over_cells"] == 2 / 16


def test_models_on_different_numbers_of_regions_are_no_pair(tmp_path):
    found = [
        fake_campaign(tmp_path, "entropy", [0.5, 0.6, 0.7]),
        fake_campaign(tmp_path, "random", [0.5] * 3, budget=7),
    ]
    assert not tables(read_runs(found))["permutation"].rows


def test_a_single_round_leaves_nothing_to_average(tmp_path):
    found = tables(read_runs([fake_campaign(tmp_path, name, [0.5]) for name in ("entropy", "random")]))
    assert not found["over_rounds"].rows
    assert not found["permutation"].rows


def test_distances_are_compared_as_dice_is_with_the_smallest_first(runs):
    found = tables(runs)
    first, second = found["standings_hd95"].rows
    assert (first["strategy"], second["strategy"]) == ("entropy", "random")
    assert first["hd95_mm"] == pytest.approx(10 - 5 * 0.72)
    assert second["difference"] == pytest.approx(5 * 0.06)
    dice = found["standings"].rows[1]
    assert second["difference_low"] == pytest.approx(-5 * dice["difference_high"])
    assert [row["hd95_mm"] for row in found["curves_hd95"].rows if row["axis"] == "regions"] == pytest.approx(
        [10 - 5 * row["dice"] for row in found["curves"].rows if row["axis"] == "regions"]
    )
    by_dice, by_hd95 = (
        {(row["strategy"], row["beats"]): row["wins"] for row in found[name].rows}
        for name in ("penalty", "penalty_hd95")
    )
    assert by_dice == by_hd95  # a straight line turns every better Dice into a better distance


def test_campaigns_without_distances_lose_only_these(tmp_path):
    from nnunet_al.files import read_json, write_json

    folder = fake_campaign(tmp_path, "entropy", [0.5, 0.6])
    for number in (1, 2):
        content = read_json(folder.round(number).metrics)
        del content["foreground_mean"]["hd95_mm"]
        write_json(folder.round(number).metrics, content)
    found = tables(read_runs([folder]))
    assert len(found["standings"].rows) == 1
    assert not found["standings_hd95"].rows
    assert found["over_rounds"].rows[0]["hd95_mm"] is None


def test_the_figures_of_distances_lead_with_the_smallest(runs):
    compared = comparisons(runs)
    matrices = penalties_of(compared)
    made = {table.name: table for table in campaign_tables(runs, compared, matrices)}
    drawn = {figure.name: figure for figure in campaign_figures(compared, made, matrices)}
    alt = drawn["curves_hd95_regions_Dataset501_Phantom"].alt
    assert alt.index("entropy 6.4000") < alt.index("random 6.7000")
    assert "entropy is 0.3000 below random" in alt
    assert "HD95" in drawn["penalty_hd95"].caption


def test_the_dice_of_slices_is_beside_that_of_volumes_where_it_is_known(tmp_path):
    from nnunet_al.files import read_json, write_json

    folders = [fake_campaign(tmp_path, "entropy", [0.5, 0.6, 0.7]), fake_campaign(tmp_path, "random", [0.5, 0.5, 0.6])]
    assert "slice_dice" not in tables(read_runs(folders))["over_rounds"].rows[0]
    for number in (1, 2, 3):
        content = read_json(folders[0].round(number).metrics)
        content["foreground_mean"]["slice_dice"] = content["foreground_mean"]["dice"] - 0.1
        write_json(folders[0].round(number).metrics, content)
    found = tables(read_runs(folders))
    with_it, without = found["over_rounds"].rows
    assert with_it["slice_dice"] == pytest.approx(0.55)
    assert without["slice_dice"] is None
    assert "label or prediction" in found["over_rounds"].caption
    assert found["rounds"].rows[3]["slice_dice"] == pytest.approx(0.6)
