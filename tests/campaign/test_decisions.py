"""What was decided at the start holds; a request that differs is refused, and one that is left out asks for nothing."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest

from nnunet_al.campaign.decisions import Decisions
from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.campaign.request import Request
from nnunet_al.errors import CampaignError, StrategyError
from nnunet_al.files import read_json, write_json
from nnunet_al.nnunet.environment import Roots
from nnunet_al.settings import SETTINGS

MINIMAL = Request("Dataset501_X", "2d", 0, 0, None, "usimf")
PLACE = Path("/somewhere/fold_0")
OTHERWISE = {
    "unit": "case", "overlap": 0.25, "budget": 3, "initial": 4, "rounds": 5, "engine": "streaming", "test": "ts",
    "trainer": "OtherTrainer", "planner": "OtherPlanner", "plans": "OtherPlans", "epochs": 7, "iterations": 8,
    "batch_size": 9, "optimizer": "adamw", "dropout": "all", "from_scratch": True, "update_intensities": True,
    "precision": "half", "dropout_p": 0.3, "disable_tta": True, "max_epochs": 12, "candidates": 200,
    "dropout_of": "elements",
}  # fmt: skip


def test_decisions_survive_the_disk(tmp_path):
    decided = replace(
        MINIMAL.decide(), pool_cases=("a", "b"), test_cases=("c",), hashes={"a": "1", "b": "2", "c": "3"}, tag="x"
    )
    decided.save(tmp_path / "campaign.json")
    assert Decisions.load(tmp_path / "campaign.json") == decided


def test_every_parameter_of_the_recipe_is_written_in_full(tmp_path):
    MINIMAL.decide().save(tmp_path / "campaign.json")
    recipe = read_json(tmp_path / "campaign.json")["recipe"]
    assert recipe["parameters"]["eta"] == MINIMAL.decide().recipe.parameters["eta"]
    assert {"passes", "embedding_size", "fisher_samples", "eta"} <= set(recipe["parameters"])


@pytest.mark.parametrize("asked", [None, "auto", "half", "float32"])
@pytest.mark.parametrize("of_the_device", ["half", "float32"])
def test_training_and_scoring_have_one_precision(asked, of_the_device):
    request = replace(MINIMAL, precision=asked)
    decided = request.decide(precision=of_the_device)
    assert decided.precision == decided.training_precision == (of_the_device if asked in (None, "auto") else asked)
    request.compare(decided, PLACE)
    MINIMAL.compare(decided, PLACE)


def test_a_campaign_is_not_continued_in_another_precision():
    with pytest.raises(CampaignError, match=r"-precision float32 \(started with half\)"):
        replace(MINIMAL, precision="float32").compare(MINIMAL.decide(precision="half"), PLACE)


def test_a_campaign_from_before_there_was_a_choice_keeps_its_precision(tmp_path):
    path = tmp_path / "campaign.json"
    MINIMAL.decide(precision="half").save(path)
    content = read_json(path)
    del content["training_precision"]
    write_json(path, content)
    assert (Decisions.load(path).precision, Decisions.load(path).training_precision) == ("half", "stock")
    del content["precision"]
    write_json(path, content)
    assert Decisions.load(path).precision == "float32"


FIRST_SETTINGS = {
    "unit", "overlap", "budget", "initial", "rounds", "engine", "test", "trainer", "planner", "plans", "epochs",
    "iterations", "batch_size", "optimizer", "dropout", "from_scratch", "pretrained_weights", "update_intensities",
}  # fmt: skip


def test_a_campaign_from_before_there_was_a_setting_has_its_default(tmp_path):
    path = tmp_path / "campaign.json"
    MINIMAL.decide().save(path)
    content = read_json(path)
    write_json(path, {key: content[key] for key in content if key not in {s.name for s in SETTINGS} - FIRST_SETTINGS})
    before = {"disable_tta": True}  # nothing was mirrored then
    assert Decisions.load(path) == replace(MINIMAL.decide(), **before)


@pytest.mark.parametrize("name", sorted(FIRST_SETTINGS))
def test_a_file_without_what_every_campaign_has_is_refused(tmp_path, name):
    path = tmp_path / "campaign.json"
    MINIMAL.decide().save(path)
    content = read_json(path)
    del content[name]
    write_json(path, content)
    with pytest.raises(CampaignError, match="restore it"):
        Decisions.load(path)


def test_every_setting_is_written_once_and_nothing_else_of_the_training(tmp_path):
    path = tmp_path / "campaign.json"
    MINIMAL.decide().save(path)
    keys = list(read_json(path))
    assert keys[:8] == ["schema", "dataset", "configuration", "fold", "seed", "tag", "recipe", "unit"]
    facts = {"starts_from", "pool_cases", "test_cases", "withdrawn_cases", "left_out_cases", "pool_changes"}
    facts |= {"hashes", "groups", "training_precision", "ties", "regions_checksum", "plan_checksum", "checksum"}
    assert {*keys[7:]} == {s.name for s in SETTINGS} | facts


def test_a_newer_schema_is_refused(tmp_path):
    path = tmp_path / "campaign.json"
    MINIMAL.decide().save(path)
    write_json(path, {**read_json(path), "schema": 99})
    with pytest.raises(CampaignError, match="schema 99"):
        Decisions.load(path)


def test_a_request_that_is_left_out_fits_every_campaign():
    for name, value in OTHERWISE.items():
        MINIMAL.compare(replace(MINIMAL.decide(), **{name: value}), PLACE)


@pytest.mark.parametrize("name", OTHERWISE)
def test_a_request_that_was_decided_otherwise_is_refused_with_both_values(name):
    decided = MINIMAL.decide()
    with pytest.raises(CampaignError) as caught:
        replace(MINIMAL, **{name: OTHERWISE[name]}).compare(decided, PLACE)
    sentence = str(caught.value)
    assert f" {OTHERWISE[name]} (started with {getattr(decided, name)})" in sentence
    assert "-tag" in sentence
    assert str(PLACE) in sentence
    replace(MINIMAL, **{name: OTHERWISE[name]}).compare(replace(decided, **{name: OTHERWISE[name]}), PLACE)


@pytest.mark.parametrize(
    "name, value, told",
    [
        ("group_by", ("sex", "age:40,60"), "-group_by sex age:40,60"),
        ("initial_groups", {"F": 2, "M": 3}, "-initial_groups F=2 M=3"),
        ("roi_classes", ("left caudate",), "-roi_classes left caudate"),
    ],
)
def test_what_concerns_groups_is_compared_and_told_as_it_is_typed(name, value, told):
    request = replace(MINIMAL, **{name: value})
    with pytest.raises(CampaignError) as caught:
        request.compare(MINIMAL.decide(), PLACE)
    assert f"{told} (started with none)" in str(caught.value)
    decided = request.decide()
    request.compare(decided, PLACE)
    MINIMAL.compare(decided, PLACE)
    assert decided.initial == (5 if name == "initial_groups" else 100)


def test_a_campaign_from_before_there_were_groups_has_none(tmp_path):
    path = tmp_path / "campaign.json"
    MINIMAL.decide().save(path)
    content = read_json(path)
    for name in ("groups", "group_by", "initial_groups", "roi_classes"):
        del content[name]
    del content["recipe"]["weighting"]
    write_json(path, content)
    assert Decisions.load(path) == MINIMAL.decide()


@pytest.mark.parametrize("strategy", ["usimf", "random", "entropy+power", "clasp_pe"])
@pytest.mark.parametrize("rounds", [None, 3, 10, 20])
def test_more_rounds_may_be_planned_where_no_schedule_runs_over_them(strategy, rounds):
    decided = replace(MINIMAL, strategy=strategy).decide()
    request = replace(MINIMAL, strategy=strategy, rounds=rounds)
    scheduled = strategy == "clasp_pe"
    if rounds == 3:
        with pytest.raises(CampaignError, match=r"-rounds 3 \(started with 10\)"):
            request.continued(decided, PLACE)
    elif rounds == 20 and scheduled:
        with pytest.raises(CampaignError, match=r"planned for 10, .*beta from 1.0 to 100.0.*-tag\.$") as caught:
            request.continued(decided, PLACE)
        assert str(PLACE) in str(caught.value)
    else:
        assert request.continued(decided, PLACE) == replace(decided, rounds=rounds or 10)


@pytest.mark.parametrize("parameters", [{"beta_end": 5.0}, {"beta_end": "none"}])
def test_a_schedule_is_what_the_recipe_says(parameters):
    request = replace(MINIMAL, strategy="clasp_pe", parameters=parameters)
    decided = request.decide()
    longer = replace(request, rounds=11)
    if parameters["beta_end"] == "none":
        assert longer.continued(decided, PLACE).rounds == 11
    else:
        with pytest.raises(CampaignError, match="beta from"):
            longer.continued(decided, PLACE)


def test_what_a_campaign_grew_to_is_not_taken_back():
    decided = replace(MINIMAL.decide(), rounds=20)
    assert MINIMAL.continued(decided, PLACE) == decided
    assert replace(MINIMAL, rounds=20).continued(decided, PLACE) == decided
    with pytest.raises(CampaignError, match=r"-rounds 10 \(started with 20\)"):
        replace(MINIMAL, rounds=10).continued(decided, PLACE)


def test_weights_may_be_trusted_later_and_stay_so():
    decided = MINIMAL.decide()
    trusted = replace(MINIMAL, trust_weights=True).continued(decided, PLACE)
    assert trusted == replace(decided, trust_weights=True)
    assert MINIMAL.continued(trusted, PLACE) == trusted


def test_the_option_is_named_as_it_is_typed():
    from nnunet_al.cli.round import build_parser

    options = {option for action in build_parser()._actions for option in action.option_strings}
    for name, value in OTHERWISE.items():
        with pytest.raises(CampaignError) as caught:
            replace(MINIMAL, **{name: value}).compare(MINIMAL.decide(), PLACE)
        named = str(caught.value).partition("otherwise: ")[2].split()[0]
        assert named in options, f"{name} is told as {named}, which is no option"


def test_a_parameter_of_the_recipe_is_compared_only_if_it_is_given():
    decided = replace(MINIMAL, parameters={"passes": 3}).decide()
    MINIMAL.compare(decided, PLACE)
    replace(MINIMAL, parameters={"passes": 3}).compare(decided, PLACE)
    with pytest.raises(CampaignError, match=r"passes=4 \(started with 3\)"):
        replace(MINIMAL, parameters={"passes": 4}).compare(decided, PLACE)


def test_all_differences_are_told_at_once():
    with pytest.raises(CampaignError) as caught:
        replace(MINIMAL, budget=1, unit="case", parameters={"passes": 2}).compare(MINIMAL.decide(), PLACE)
    assert all(part in str(caught.value) for part in ("-b 1", "-unit case", "passes=2"))


def test_the_folder_is_named_by_what_tells_campaigns_apart():
    roots = Roots(Path("/raw"), Path("/preprocessed"), Path("/results"))

    def folder(request: Request) -> Path:
        d = request.decide()
        return CampaignFolder.of(roots, d.dataset, d.configuration, d.recipe.name, d.seed, d.tag, d.fold).root

    assert folder(MINIMAL) == Path("/results/Dataset501_X/al/2d__usimf__seed0/fold_0")
    assert folder(replace(MINIMAL, tag="x", seed=3, fold=2)) == Path(
        "/results/Dataset501_X/al/2d__usimf__seed3__x/fold_2"
    )
    assert folder(replace(MINIMAL, parameters={"passes": 3}, budget=7)) == folder(MINIMAL)


def test_all_that_is_requested_becomes_a_decision():
    assert {f.name for f in fields(Request)} - {"strategy", "posterior", "parameters"} <= {
        f.name for f in fields(Decisions)
    }


@pytest.mark.parametrize("unit, budget, initial", [("patch", 100, 100), ("slice", 100, 100), ("case", 4, 10)])
def test_the_budget_follows_the_unit(unit, budget, initial):
    decided = replace(MINIMAL, unit=unit).decide()
    assert (decided.budget, decided.initial) == (budget, initial)


@pytest.mark.parametrize("tag", ["a", "lr-3", "v1.0", "big_budget"])
def test_a_tag_that_can_be_part_of_a_folders_name(tag):
    replace(MINIMAL, tag=tag).check()


@pytest.mark.parametrize("tag", ["", " ", "a b", "a/b", "..", ".a", "a__b", "_a", "a\nb", "ä"])
def test_a_tag_that_cannot(tag):
    with pytest.raises(CampaignError, match="-tag"):
        replace(MINIMAL, tag=tag).check()


@pytest.mark.parametrize("p", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_a_dropout_that_drops_nothing_or_everything_is_refused(p):
    with pytest.raises(CampaignError, match=f"^-dropout_p {p}: give a probability above 0 and below 1.$"):
        replace(MINIMAL, dropout_p=p).check()
    replace(MINIMAL, dropout_p=0.5).check()


@pytest.mark.parametrize("given, candidates", [({}, 100), ({"budget": 20}, 20), ({"unit": "case"}, 4)])
def test_candidates_that_leave_nothing_to_choose_are_refused(given, candidates):
    replace(MINIMAL, **given, candidates=candidates + 1).check()
    with pytest.raises(CampaignError, match=f"-candidates {candidates}: ") as caught:
        replace(MINIMAL, **given, candidates=candidates).check()
    assert "\n" not in str(caught.value)


def test_an_unknown_parameter_is_refused():
    with pytest.raises(StrategyError, match="nobody"):
        replace(MINIMAL, parameters={"nobody": 1}).decide()


def test_the_plans_are_named_by_the_planner_unless_a_name_is_given():
    request = Request("Dataset501_X", "2d", 0, 0, None, "random", planner="nnUNetPlannerALResEncM")
    assert request.decide().plans == ""
    assert replace(request, plans="Mine").decide().plans == "Mine"


def test_settings_add_up_and_the_posterior_names_the_recipe():
    from nnunet_al.cli.round import build_parser
    from nnunet_al.cli.settings import recipe_parameters

    arguments = build_parser().parse_args(["-d", "1", "-s", "bald", "-set", "passes=3", "-set", "noise_variance=0"])
    assert recipe_parameters(arguments.set) == {"passes": 3, "noise_variance": 0}
    recipe = replace(MINIMAL, strategy="bald", posterior="tta", parameters={"passes": 3}).decide().recipe
    assert (recipe.name, recipe.posterior, recipe.passes) == ("tta", "tta", 3)
