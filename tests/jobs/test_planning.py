"""Plans: which jobs there are, what each waits for, and what is done of them."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import product
from pathlib import Path

import pytest

from nnunet_al.campaign.commits import CLOSED, Commit, commit_to_json, read_commits
from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.campaign.progress import CampaignProgress
from nnunet_al.campaign.request import Request
from nnunet_al.campaign.stages import FINAL_STAGE, phases_of
from nnunet_al.cli import prepare as prepare_command, round as round_command
from nnunet_al.cli.round_arguments import request_of
from nnunet_al.errors import CampaignError
from nnunet_al.files import write_json
from nnunet_al.jobs.commands import decided_words, start_words
from nnunet_al.jobs.done_parts import done_parts
from nnunet_al.jobs.plan import JobResources, Plan, plan_from_json, plan_to_json
from nnunet_al.jobs.planning import make_plan, waiting_campaigns
from nnunet_al.jobs.resources import Overrides, read_overrides, resources_of
from nnunet_al.nnunet.environment import Roots
from nnunet_al.strategies import catalog

from .planned_campaigns import DATASET, PREPARED, ask_for, begin, campaign_request, check_dataset, jobs_request, mark

CHECK = f"{DATASET}/prepare"


@pytest.fixture
def roots(tmp_path, monkeypatch) -> Roots:
    """nnU-Net's three folders without a dataset in them."""
    roots = Roots.below(tmp_path).create()
    for name, folder in {"raw": roots.raw, "preprocessed": roots.preprocessed, "results": roots.results}.items():
        monkeypatch.setenv(f"nnUNet_{name}", str(folder))
    for name in ("nnUNet_extTrainer", "nnUNet_n_proc_DA", "nnUNet_def_n_proc", "nnUNet_compile", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    return roots


def short(key: str) -> str:
    """A key less the names of dataset and campaign; the dataset's check becomes "check"."""
    return "check" if key == CHECK else key.rpartition("/")[2]


def table(plan: Plan) -> list[tuple[str, str, tuple[int, ...]]]:
    return [(short(job.key), " ".join(map(short, job.after)), job.missing) for job in plan.jobs]


def is_topological(plan: Plan) -> bool:
    seen: set[str] = set()
    for job in plan.jobs:
        if not seen.issuperset(job.after):
            return False
        seen.add(job.key)
    return True


ONE, TWO = (0,), (0, 1)
BEGINNING = [("check", "", ONE), ("start", "check", ONE)]


def test_usimf_by_hand(roots):
    plan = make_plan(jobs_request(roots, campaign_request("usimf", rounds=2), parts=2))
    assert table(plan) == [
        *BEGINNING,
        ("prepare 1", "start", ONE),
        ("train 1", "prepare 1", ONE),
        ("evaluate 1", "train 1", ONE),
        ("score 1", "train 1", TWO),
        ("fisher 1", "score 1", ONE),
        ("embed 1", "fisher 1", TWO),
        ("select 1", "evaluate 1 embed 1", ONE),
        ("prepare 2", "select 1", ONE),
        ("train 2", "prepare 2", ONE),
        ("evaluate 2", "train 2", ONE),
        ("score 2", "train 2", TWO),
        ("fisher 2", "score 2", ONE),
        ("embed 2", "fisher 2", TWO),
        ("select 2", "evaluate 2 embed 2", ONE),
    ]
    assert plan.jobs[3].key == f"{DATASET}/2d__usimf__seed0/fold_0/train 1"
    on_gpu = {script.phase for script in plan.scripts.values() if script.resources.gpus}
    assert on_gpu == {"train", "evaluate", "score", "fisher", "embed", "select"}
    assert {script.phase: script.parts for script in plan.scripts.values() if script.parts > 1} == {
        "score": 2,
        "embed": 2,
    }
    assert plan.done == frozenset()


@pytest.mark.parametrize(
    "strategy, jobs, on_gpu",
    [
        ("random", [("train", "prepare"), ("evaluate", "train"), ("select", "evaluate")], {"train", "evaluate"}),
        (
            "random_foreground",
            [("train", "prepare"), ("evaluate", "train"), ("score", "train"), ("select", "evaluate score")],
            {"train", "evaluate", "score"},
        ),
        (
            "entropy+fair",
            [
                *[("train", "prepare"), ("evaluate", "train"), ("score", "train"), ("merge", "score")],
                ("select", "evaluate merge"),
            ],
            {"train", "evaluate", "score", "merge"},
        ),
        (
            "core_set",
            [
                *[("train", "prepare"), ("evaluate", "train"), ("score", "train"), ("merge", "score")],
                *[("embed", "merge"), ("select", "evaluate embed")],
            ],
            {"train", "evaluate", "score", "embed", "select"},
        ),
        (
            "badge",
            [
                *[("train", "prepare"), ("evaluate", "train"), ("score", "train"), ("merge", "score")],
                *[("embed", "merge"), ("select", "evaluate embed")],
            ],
            {"train", "evaluate", "score", "embed", "select"},
        ),
    ],
)
def test_the_jobs_of_a_round_by_hand(roots, strategy, jobs, on_gpu):
    groups = {"groups": __file__, "group_by": ("sex",)} if "fair" in strategy else {}
    plan = make_plan(jobs_request(roots, campaign_request(strategy, rounds=1, **groups)))
    expected = [(f"{name} 1", " ".join(f"{before} 1" for before in after.split()), ONE) for name, after in jobs]
    assert table(plan) == [*BEGINNING, ("prepare 1", "start", ONE), *expected]
    assert {script.phase for script in plan.scripts.values() if script.resources.gpus} == on_gpu
    cpu = make_plan(jobs_request(roots, campaign_request(strategy, rounds=1, **groups), device="cpu"))
    assert table(cpu) == table(plan)
    assert not any(script.resources.gpus for script in cpu.scripts.values())


def test_first_models_are_trained_once_where_strategies_differ_only(roots):
    requests = [
        *(campaign_request(name, rounds=2) for name in ("usimf", "random", "entropy")),
        campaign_request("random", rounds=2, seed=1),
        campaign_request("learning_loss", rounds=2),
        campaign_request("entropy+ensemble", parameters={"ensemble_of": "folds", "members": 2}, rounds=2),
    ]
    plan = make_plan(jobs_request(roots, *requests, share_first=True))
    behind = {job.key.partition("2d__")[2]: job.behind for job in plan.jobs if job.behind}
    first = (f"{DATASET}/2d__usimf__seed0/fold_0/train 1",)
    assert behind == {f"{name}__seed0/fold_0/train 1": first for name in ("random", "entropy")}
    assert plan_from_json(plan_to_json(plan)) == plan
    keys = [job.key for job in plan.jobs]
    assert all(keys.index(key) < keys.index(job.key) for job in plan.jobs for key in job.behind)
    for script in plan.scripts.values():
        if script.command[0] == "nnUNetv2_al_round":
            assert parsed(script.command).share_first == (script.phase == "train"), script.name

    alone = make_plan(jobs_request(roots, *requests))
    assert not any(job.behind for job in alone.jobs)
    assert not any("--share_first" in script.command for script in alone.scripts.values())
    people = [campaign_request(name, rounds=2, annotate=True) for name in ("usimf", "random")]
    assert not any(job.behind for job in make_plan(jobs_request(roots, *people, share_first=True)).jobs)

    folder = begin(jobs_request(roots, requests[0]))
    mark(folder, 0, "select", "annotate")
    mark(folder, 1, *PREPARED, "train")
    assert not any(job.behind for job in make_plan(jobs_request(roots, *requests, share_first=True)).jobs)

    rounds = make_plan(jobs_request(roots, *requests, share_first=True, target="shell"))
    assert all("--share_first" in rounds.scripts[job.script].command for job in rounds.jobs if job.round is not None)


def test_one_machine_does_whole_rounds_all_campaigns_equally_far(roots):
    requests = [campaign_request(name, rounds=2) for name in ("usimf", "random")]
    plan = make_plan(jobs_request(roots, *requests, target="shell", gpus=("0", "2")))
    names = [job.key.removeprefix(f"{DATASET}/2d__") for job in plan.jobs]
    assert names == [
        CHECK,
        *(f"{name}__seed0/fold_0/round {number}" for number in range(3) for name in ("usimf", "random")),
    ]
    assert [job.after for job in plan.jobs[1:4]] == [(CHECK,), (CHECK,), (plan.jobs[1].key,)]
    assert plan.gpus == ("0", "2")
    assert is_topological(plan)


def test_ten_rounds_of_two_datasets_are_in_order_and_in_few_scripts(roots):
    requests = [
        campaign_request(strategy, dataset=dataset, fold=fold, seed=seed)
        for dataset, fold, seed, strategy in product(
            (DATASET, "Dataset005_Prostate"), (0, 1), (0, 1, 2), ("usimf", "random_foreground")
        )
    ]
    plan = make_plan(jobs_request(roots, *requests, parts=4))
    # each: a check of 2 datasets; 24 starts; 10 rounds of 7 and of 5 phases
    assert len(plan.jobs) == 2 + 24 + 12 * 10 * 7 + 12 * 10 * 5
    assert len(plan.by_key) == len(plan.jobs)
    assert len(plan.scripts) == 2 + 12 * 8 + 12 * 6
    assert is_topological(plan)
    assert plan_from_json(plan_to_json(plan)) == plan
    rounds = [job.round or 0 for job in plan.jobs]
    assert rounds == sorted(rounds), "all campaigns do a round before one does the next"


# Commands


def parsed(command: tuple[str, ...], *more: str) -> object:
    parser = {"nnUNetv2_al_round": round_command, "nnUNetv2_al_prepare": prepare_command}[command[0]].build_parser()
    return parser.parse_args([*command[1:], *more])


@pytest.mark.parametrize("target, device", [("slurm", "cuda"), ("lsf", "cpu"), ("shell", "cuda"), ("slurm", "mps")])
@pytest.mark.parametrize("strategy", ["usimf", "random", "core_set", "bald+localized+ensemble"])
def test_the_commands_are_read_by_the_commands(roots, strategy, target, device):
    asked = campaign_request(strategy, fold=3, seed=7, tag="a-b.c", rounds=1, configuration="3d_fullres")
    parts = 1 if target == "shell" else 3
    plan = make_plan(jobs_request(roots, asked, target=target, device=device, parts=parts))
    for job in plan.jobs:
        script = plan.scripts[job.script]
        more = [] if job.round is None else ["-round", str(job.round)]
        more += ["-num_parts", str(script.parts), "-part_id", "0"] if script.parts > 1 else []
        read = parsed(script.command, *more)
        assert read.d == "4"
        assert read.np == script.resources.cpus
        if script.phase == "prepare_dataset":
            assert read.test == "fold"
            continue
        assert (read.c, read.f, read.seed, read.tag) == ("3d_fullres", 3, 7, "a-b.c")
        assert read.round == (job.round or 0)
        assert catalog.get(read.s).name == Path(script.campaign).parent.name.split("__")[1]
        assert read.phase == (None if script.phase in ("start", "round") else script.phase)
        needs_device = script.phase == "round" or script.phase in {
            phase.name for phase in phases_of(catalog.get(strategy)) if phase.on_device
        }
        assert read.device == (device if needs_device else "cpu")


FULL = {
    "posterior": "tta",
    "parameters": {"passes": 3, "eta": 0.5, "query_mode": "max"},
    "unit": "slice",
    "overlap": 0.25,
    "budget": 7,
    "initial": 9,
    "candidates": 50,
    "rounds": 4,
    "trust_weights": True,
    "missing_group": "unknown",
    "engine": "streaming",
    "test": "ts",
    "trainer": "nnUNetTrainerAL",
    "planner": "nnUNetPlannerALResEncM",
    "plans": "plans_x",
    "epochs": "auto",
    "max_epochs": 5,
    "iterations": 6,
    "batch_size": 3,
    "optimizer": "adamw",
    "learning_rate": 0.02,
    "loss": "ce",
    "dropout": "all",
    "dropout_p": 0.25,
    "dropout_of": "elements",
    "from_scratch": True,
    "update_intensities": True,
    "disable_tta": True,
    "precision": "half",
    "group_by": ("sex", "age:40,60"),
    "initial_groups": {"F": 5, "a=b c": 4},
    "roi_classes": ("left it's", "right"),
    "annotate": True,
    "hand_out": "folder",
    "readings": 2,
    "consensus": "majority",
    "initial_strategy": "core_set",
}


def test_every_decision_is_in_the_command_as_it_was_given(tmp_path, roots):
    files = {name: str(tmp_path / f"a b {name}") for name in ("groups", "pretrained_weights")}
    for file in files.values():
        Path(file).touch()
    asked = campaign_request("usimf", tag="t", **FULL, **files)
    left = [f.name for f in fields(Request) if getattr(asked, f.name) is None]
    assert left == ["full", "labels_are_oracle", "fine_tuning_epochs"], "all others are tried, and these below"
    (campaign,) = jobs_request(roots, asked).campaigns
    for given in (asked, *(replace(asked, **{name: None}) for name in ("posterior", *FULL) if name != "parameters")):
        command = start_words(replace(campaign, request=given, strategy=given.decide().recipe.name), "4")
        read = round_command.build_parser().parse_args(command)
        found = request_of(read, DATASET, read.s, read.f, read.seed)
        assert found.decide() == given.decide()
        same = {f.name for f in fields(Request)} - {"strategy", "posterior"}
        assert {name: getattr(found, name) for name in same} == {name: getattr(given, name) for name in same}
    assert decided_words(campaign_request("usimf")) == ()


def test_a_campaign_on_the_whole_pool_keeps_its_name_and_its_option_in_every_command(roots):
    (campaign,) = jobs_request(
        roots, campaign_request("random", tag="full", full=True, labels_are_oracle=True, epochs=5)
    ).campaigns
    assert campaign.rounds == 1
    command = start_words(campaign, "4")
    assert {"--full", "full", "--labels_are_oracle"} <= {*command}
    read = round_command.build_parser().parse_args(command)
    assert request_of(read, DATASET, read.s, read.f, read.seed) == campaign.request


def test_shorter_trainings_of_later_rounds_keep_their_option_in_every_command(roots):
    asked = campaign_request("entropy", epochs=8, fine_tuning_epochs=4)
    (campaign,) = jobs_request(roots, asked).campaigns
    read = round_command.build_parser().parse_args(start_words(campaign, "4"))
    assert request_of(read, DATASET, read.s, 0, 0).decide() == asked.decide()
    with pytest.raises(CampaignError, match="--from_scratch fine-tunes nothing"):
        jobs_request(roots, replace(asked, from_scratch=True)).campaigns[0].request.check()


def test_parameters_that_make_another_strategy_keep_the_spelling(roots):
    asked = campaign_request("mc_dropout+power+class_balanced", parameters={"beta_end": 100})
    (campaign,) = jobs_request(roots, asked).campaigns
    assert campaign.strategy == "clasp_pe"
    read = round_command.build_parser().parse_args(start_words(campaign, "4"))
    assert request_of(read, DATASET, read.s, 0, 0).decide() == asked.decide()


def test_a_start_on_a_cpu_decides_the_precision_of_the_device_that_scores(roots):
    def precision(**others):
        given = others.pop("precision", None)
        plan = make_plan(jobs_request(roots, campaign_request("usimf", rounds=1, precision=given), **others))
        first = next(script for script in plan.scripts.values() if script.phase in ("start", "round"))
        return parsed(first.command).precision

    assert precision(device="cuda") == "half"
    assert precision(device="cuda", precision="float32") == "float32"
    assert precision(device="cpu") is None
    assert precision(device="cuda", target="shell") is None, "there it starts on the GPU"


def test_a_campaign_of_another_precision_goes_on_as_it_began(roots):
    request = jobs_request(roots, campaign_request("usimf", rounds=1))
    begin(request, precision="float32")
    start = make_plan(request).scripts[f"{DATASET}/2d__usimf__seed0/fold_0/start"]
    assert parsed(start.command).precision is None


def test_jobs_get_the_environment_and_the_programs(roots, monkeypatch):
    monkeypatch.setenv("nnUNet_n_proc_DA", "3")
    monkeypatch.setenv("HOME_OF_SOMEBODY", "x")
    plan = make_plan(jobs_request(roots, campaign_request("random")))
    assert plan.environment == {
        "nnUNet_raw": str(roots.raw),
        "nnUNet_preprocessed": str(roots.preprocessed),
        "nnUNet_results": str(roots.results),
        "nnUNet_n_proc_DA": "3",
    }
    assert (Path(plan.path[-1]) / "python").exists()


def test_test_cases_of_their_own_are_checked_too(roots):
    plan = make_plan(jobs_request(roots, campaign_request("random", test="ts")))
    assert parsed(plan.scripts[CHECK].command).test == "ts"


# JobResources


def test_needs_by_hand():
    assert resources_of("train", Overrides(), num_gpus=2) == JobResources(2, 16, 96, 24)
    assert resources_of("train", Overrides(), device="cpu", num_gpus=2) == JobResources(0, 8, 48, 24)
    assert resources_of("prepare", Overrides(), on_device=False).gpus == 0
    assert resources_of("round", Overrides(), most_cpus=2).cpus == 2
    asked = read_overrides(["24", "train=48.5"], ["16", "prepare=64"], ["3", "start=5", "prepare=16"])
    assert resources_of("train", asked, num_gpus=2) == JobResources(2, 3, 16, 48.5)
    assert resources_of("prepare", asked, on_device=False) == JobResources(0, 16, 64, 24)
    assert resources_of("prepare_dataset", asked, on_device=False) == JobResources(0, 16, 64, 24), (
        "it is a preparation, too"
    )
    assert resources_of("start", asked, on_device=False) == JobResources(0, 5, 64, 24)
    assert resources_of("score", asked, most_cpus=1) == JobResources(1, 3, 16, 24), (
        "what is asked for is taken as it is"
    )


@pytest.mark.parametrize("word", ["x", "0", "-1", "nan", "inf", "trian=3", "train=", "=3", "train=x"])
def test_needs_that_cannot_be_read(word):
    with pytest.raises(CampaignError, match="-hours"):
        read_overrides(hours=[word])
    with pytest.raises(CampaignError, match=r"-cpus 1\.5"):
        read_overrides(cpus=["1.5"])
    with pytest.raises(CampaignError, match="-memory train=2"):
        read_overrides(memory=["train=1", "train=2"])


@pytest.mark.parametrize(
    "others, words",
    [
        ({"gpus": ("0",)}, "-gpus: only -to shell"),
        ({"target": "shell", "parts": 2}, "-num_parts: -to shell"),
        ({"target": "shell", "limit": 2}, "-limit: -to shell"),
        ({"limit": 0}, "-limit 0"),
        ({"parts": 0}, "-num_parts 0"),
        ({"num_gpus": 0}, "-num_gpus 0"),
        ({"device": "cpu", "num_gpus": 2}, "-num_gpus: -device cpu"),
        ({"target": "shell", "device": "cpu", "gpus": ("0",)}, "-gpus: -device cpu"),
        ({"target": "shell", "gpus": ("0", "0")}, "-gpus: name each GPU once"),
        ({"target": "shell", "gpus": ("0", "1"), "num_gpus": 2}, "leave -num_gpus out"),
        ({"num_gpus": 4, "resources": Overrides(cpus={"train": 3})}, "-num_gpus 4: each of them needs a CPU"),
    ],
)
def test_what_does_not_go_together_is_refused(roots, others, words):
    with pytest.raises(CampaignError, match=words):
        make_plan(jobs_request(roots, campaign_request("random"), **others))


def test_a_campaign_that_was_started_otherwise_is_refused(roots):
    begin(jobs_request(roots, campaign_request("random", epochs=3)))
    with pytest.raises(CampaignError, match="started otherwise: -epochs 2"):
        make_plan(jobs_request(roots, campaign_request("random", epochs=2)))


# What is done


def test_what_is_done_is_left_out(roots):
    request = jobs_request(roots, campaign_request("usimf", rounds=2), parts=3)
    folder = begin(request)
    mark(folder, 0, "select", "annotate")
    mark(folder, 1, *PREPARED, "train", "score_part_1_of_3")
    plan = make_plan(request)
    jobs = table(plan)
    assert jobs[:5] == [
        ("evaluate 1", "", ONE),
        ("score 1", "", (0, 2)),
        ("fisher 1", "score 1", ONE),
        ("embed 1", "fisher 1", (0, 1, 2)),
        ("select 1", "evaluate 1 embed 1", ONE),
    ]
    assert {short(key) for key in plan.done} == {"check", "start", "prepare 1", "train 1"}
    assert plan_from_json(plan_to_json(plan)) == plan

    mark(folder, 1, "score_part_0_of_3", "score_part_2_of_3", "evaluate")
    assert table(make_plan(request))[0] == ("fisher 1", "", ONE)
    mark(folder, 1, "annotate")
    ask_for(folder, 1)
    assert table(make_plan(request))[0] == ("prepare 2", "", ONE)
    mark(folder, 2, "annotate")
    ask_for(folder, 2)
    plan = make_plan(request)
    assert plan.jobs == ()
    assert len(plan.done) == 2 + 2 * 7
    for script in plan.scripts.values():
        if script.campaign:
            assert done_parts(script, 1) == frozenset(range(script.parts))


def test_a_pass_that_was_complete_in_other_shards_is_done(roots):
    request = jobs_request(roots, campaign_request("random_foreground", rounds=1), parts=3)
    folder = begin(request)
    mark(folder, 0, "annotate")
    mark(folder, 1, *PREPARED, "train", "score_part_0_of_2", "score_part_0_of_3")
    assert table(make_plan(request))[1] == ("score 1", "", (1, 2))
    mark(folder, 1, "score_part_1_of_2")
    assert [job.key.rpartition("/")[2] for job in make_plan(request).jobs] == ["evaluate 1", "select 1"]


def test_rounds_behind_the_end_of_the_pool_are_done(roots):
    request = jobs_request(roots, campaign_request("random", rounds=5))
    folder = begin(request)
    for number, cases in enumerate([("a",), ("b",), ()]):
        mark(folder, number, "annotate")
        ask_for(folder, number, cases)
    plan = make_plan(request)
    assert plan.jobs == ()
    assert len(plan.done) == 2 + 5 * 4
    assert all(done_parts(script, 5) for script in plan.scripts.values() if script.campaign)
    change = {"round": 3, "added": ["new"], "withdrawn": []}
    begin(request, pool_changes=(change,))
    assert next(job.round for job in make_plan(request).jobs) == 3


def test_a_dataset_is_checked_once_and_only_for_campaigns_that_start(roots):
    request = jobs_request(roots, campaign_request("random", rounds=1))
    assert not done_parts(make_plan(request).scripts[CHECK], None)
    check_dataset(roots)
    plan = make_plan(request)
    assert table(plan)[0] == ("start", "", ONE)
    assert plan.done == {CHECK}
    assert done_parts(plan.scripts[CHECK], None) == {0}


def test_a_broken_batch_is_one_sentence(roots):
    request = jobs_request(roots, campaign_request("random", rounds=3))
    folder = begin(request)
    for number in range(2):
        mark(folder, number, "annotate")
    folder.round(1).batch.write_text("{")
    with pytest.raises(CampaignError, match=r"batch.json cannot be read"):
        make_plan(request)


def test_markers_mean_what_the_phases_do(roots):
    """Each phase is done exactly when the stages that it runs are, by the code that runs them."""
    from nnunet_al.nnunet.image_store import store_folder
    from nnunet_al.rounds.stages.order import phase_stages

    for number, strategy in enumerate(["random", "entropy", "entropy+fair", "core_set", "usimf", "usimf+fair"]):
        groups = {"groups": __file__, "group_by": ("sex",)} if "fair" in strategy else {}
        request = jobs_request(roots, campaign_request(strategy, seed=number, **groups))
        folder = begin(request)
        decided = CampaignProgress(folder.root).decided
        for phase in phases_of(decided.recipe):
            stages = [stage.name for stage in phase_stages(phase, decided, 1, 0)]
            expected_of: dict[str | None, bool] = {}
            for left_out in (*stages, None):
                for marker in folder.round(1).stages.glob("*"):
                    marker.unlink()
                done = [stage for stage in stages if stage != left_out]
                mark(folder, 1, *done)
                expected_of[left_out] = done == stages or FINAL_STAGE in done
                progress = CampaignProgress(folder.root)
                found = {progress.done_parts(phase.name, 1) == {0}, progress.is_phase_complete(phase.name, 1)}
                assert found == {expected_of[left_out]}, (strategy, phase.name, left_out)
            assert expected_of[None]
            assert not expected_of[stages[-1]]
    assert store_folder(roots, DATASET) == roots.preprocessed / DATASET / "al_images"


# People annotate


def test_the_plan_ends_with_the_next_batch_for_people(roots):
    request = jobs_request(roots, campaign_request("random", rounds=2, annotate=True))
    plan = make_plan(request)
    assert plan.ends_at_readers
    assert table(plan) == BEGINNING

    folder = begin(request, pool_cases=("case_1",))
    mark(folder, 0, "select", "hand_out")
    ask_for(folder, 0)
    plan = make_plan(request)
    assert plan.jobs == ()
    assert f"{DATASET}/2d__random__seed0/fold_0/start" in plan.done
    assert [campaign.strategy for campaign in waiting_campaigns(request)] == ["random"]

    answered(folder, 0)
    assert waiting_campaigns(request) == []
    expected = [("prepare 1", ""), ("train 1", "prepare 1"), ("evaluate 1", "train 1"), ("select 1", "evaluate 1")]
    assert table(make_plan(request)) == [(*job, ONE) for job in expected]

    mark(folder, 0, "annotate")
    mark(folder, 1, "annotate")
    ask_for(folder, 1)
    mark(folder, 2, *PREPARED, "train", "evaluate", "select", "hand_out")
    ask_for(folder, 2, ("case_1",))
    answered(folder, 2)
    assert table(make_plan(request)) == [("select 2", "", ONE)], "nothing comes behind it that would complete it"
    mark(folder, 2, "annotate")
    assert make_plan(request).jobs == ()


def test_a_withdrawn_case_is_not_waited_for(roots):
    request = jobs_request(roots, campaign_request("random", rounds=2, annotate=True))
    folder = begin(request, pool_cases=("case_2",))
    mark(folder, 0, "hand_out")
    ask_for(folder, 0, ("case_1",))
    assert waiting_campaigns(request) == []


def answered(folder: CampaignFolder, number: int) -> None:
    """Close a round's batch: readers are done with it."""
    place = len(read_commits(folder.ledger))
    closed = Commit(place, number, CLOSED, "nobody", (), {})
    write_json(folder.ledger / f"{place:03d}.json", commit_to_json(closed))
