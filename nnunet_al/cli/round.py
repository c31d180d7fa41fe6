"""``nnUNetv2_al_round``: one round of active learning."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import Any

from nnunet_al.cli.arguments import add_dataset, make_parser
from nnunet_al.cli.command import run
from nnunet_al.errors import CampaignError, StrategyError

_DESCRIPTION = """\
Does one round of active learning: starts the campaign if there is none, continues an interrupted round, else does the
next one. Round 0 asks for an initial batch; every later round trains on what is annotated, evaluates on the test cases,
scores the pool and asks for the next batch, which the dataset's own labels answer.
"""

_EPILOG = """\
What a campaign was started with holds until its end: options that are left out later take the campaign's values.
nnU-Net's variables nnUNet_raw, nnUNet_preprocessed and nnUNet_results must be set.
"""


def build_parser() -> ArgumentParser:
    """Return the command's parser."""
    parser = make_parser("nnUNetv2_al_round", _DESCRIPTION, _EPILOG)
    add_dataset(parser)
    parser.add_argument(
        "-s",
        required=True,
        metavar="STRATEGY",
        help="a name or METRIC[+ADDON...]; nnUNetv2_al_strategies lists them",
    )
    parser.add_argument(
        "-posterior",
        choices=["mc_dropout", "tta", "ensemble"],
        help="where samples come from (default: the strategy's); the same as the add-on of that name in -s",
    )
    parser.add_argument("-c", default="2d", metavar="CONFIGURATION", help="2d or 3d_fullres (default: 2d)")
    parser.add_argument(
        "-f", type=int, default=0, metavar="FOLD", help="fold whose validation cases are the test set (default: 0)"
    )
    parser.add_argument("-seed", type=int, default=0, help="seed of every draw (default: 0)")
    parser.add_argument("-tag", help="keeps campaigns apart that differ in anything else")
    parser.add_argument("-round", type=int, metavar="K", help="do round K, and nothing when it is done")

    decided = parser.add_argument_group("decided when the campaign starts")
    decided.add_argument("-unit", choices=["patch", "slice", "case"], help="what one annotation is (default: patch)")
    decided.add_argument("-b", type=int, metavar="BUDGET", help="regions a round (default: 100, cases: 4)")
    decided.add_argument("-initial", type=int, help="random regions of round 0 (default: 100, cases: 10)")
    decided.add_argument("-overlap", type=float, help="share by which neighbouring patches overlap (default: 0.5)")
    decided.add_argument("-rounds", type=int, help="planned rounds, which schedules read (default: 10)")
    decided.add_argument(
        "-test", choices=["fold", "ts"], help="test on the fold's validation cases or on imagesTs, labelsTs"
    )
    decided.add_argument("-passes", type=int, help="posterior samples (default: the strategy's)")
    decided.add_argument(
        "-set",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="other parameters of the strategy's recipe",
    )
    decided.add_argument(
        "-engine",
        choices=["submodlib", "streaming"],
        help="who maximises FLQMI: our own engine (default: streaming), or submodlib's optimisers, which are slower",
    )
    decided.add_argument(
        "-precision",
        choices=["float32", "half"],
        help="in which the network scores: half is float16 on a GPU (the default there) and "
        "bfloat16 on a CPU, several times faster where it has AMX or AVX512-BF16; float32 is the default elsewhere",
    )
    decided.add_argument("-tr", metavar="TRAINER", help="trainer (default: nnUNetTrainerAL)")
    decided.add_argument("-pl", metavar="PLANNER", help="planner (default: nnUNetPlannerAL)")
    decided.add_argument("-p", metavar="PLANS", help="name of the plans (default: the planner's)")
    decided.add_argument("-epochs", type=int, help="epochs of a round's training (default: 1000)")
    decided.add_argument("-iterations", type=int, help="iterations of an epoch (default: 250)")
    decided.add_argument("-batch_size", type=int, help="training batch size (default: the plan's)")
    decided.add_argument(
        "-optimizer", choices=["sgd", "adamw"], help="sgd is nnU-Net's; adamw learns faster in short trainings"
    )
    decided.add_argument(
        "-dropout",
        choices=["decoder", "all"],
        help="where dropout is: bottleneck and decoder (default), or every stage",
    )
    decided.add_argument("-pretrained_weights", metavar="FILE", help="checkpoint to start round 1 from")
    decided.add_argument(
        "--from_scratch", action="store_true", default=None, help="do not fine-tune the model of the round before"
    )
    decided.add_argument(
        "--update_intensities",
        action="store_true",
        default=None,
        help="let the intensity statistics follow the annotations",
    )

    groups = parser.add_argument_group("groups of cases (decided when the campaign starts)")
    groups.add_argument(
        "-groups",
        metavar="FILE",
        help="table of participants, as BIDS has it (participants.tsv) or as CSV; only case and group are kept",
    )
    groups.add_argument(
        "-group_by",
        nargs="+",
        metavar="COLUMN",
        help="columns that define the groups, several for their intersection; numbers in bins: age:40,60 cuts at these "
        "values, age:q4 makes four groups of about equal size",
    )
    groups.add_argument(
        "-initial_groups",
        nargs="+",
        metavar="GROUP=N",
        help="regions of round 0 from each group (default: -initial from the whole pool)",
    )
    groups.add_argument(
        "-roi_classes",
        nargs="+",
        metavar="CLASS",
        help="classes that groups are compared by, and whose prediction the add-on localized looks at (default: all)",
    )

    here = parser.add_argument_group("where and how it runs (changes no batch)")
    here.add_argument("-device", default="cuda", choices=["cuda", "cpu", "mps"], help="default: cuda")
    here.add_argument("-np", type=int, default=2, help="worker processes for preprocessing and reading (default: 2)")
    here.add_argument("-scoring_batch_size", type=int, default=64, help="regions scored at a time (default: 64)")
    here.add_argument("-num_parts", type=int, default=1, help="score in this many shards, one call each")
    here.add_argument("-part_id", type=int, default=0, help="the shard of this call, from 0")
    here.add_argument(
        "-keep",
        choices=["all", "last", "none"],
        default="all",
        help="checkpoints to keep, beside what the next round starts from (default: all)",
    )
    here.add_argument("--verbose", action="store_true", help="show what nnU-Net prints")
    return parser


def work(arguments: Namespace) -> None:
    """Do the round."""
    from nnunet_al.campaign.options import Options
    from nnunet_al.campaign.round import do_round
    from nnunet_al.campaign.wishes import Wishes
    from nnunet_al.nnunet.environment import Roots, dataset_name

    roots = Roots.from_environment()
    parameters = recipe_parameters(arguments.set)
    if arguments.passes is not None:
        if "passes" in parameters:
            raise StrategyError("-passes and -set passes=...: give one of them.")
        parameters["passes"] = arguments.passes
    wishes = Wishes(
        dataset=dataset_name(arguments.d, roots),
        configuration=arguments.c,
        fold=arguments.f,
        seed=arguments.seed,
        tag=arguments.tag,
        strategy=arguments.s,
        posterior=arguments.posterior,
        parameters=parameters,
        unit=arguments.unit,
        overlap=arguments.overlap,
        budget=arguments.b,
        initial=arguments.initial,
        rounds=arguments.rounds,
        engine=arguments.engine,
        test=arguments.test,
        trainer=arguments.tr,
        planner=arguments.pl,
        plans=arguments.p,
        epochs=arguments.epochs,
        iterations=arguments.iterations,
        batch_size=arguments.batch_size,
        optimizer=arguments.optimizer,
        dropout=arguments.dropout,
        from_scratch=arguments.from_scratch,
        pretrained_weights=arguments.pretrained_weights,
        update_intensities=arguments.update_intensities,
        precision=arguments.precision,
        groups=arguments.groups,
        group_by=tuple(arguments.group_by) if arguments.group_by else None,
        initial_groups=group_counts(arguments.initial_groups) if arguments.initial_groups else None,
        roi_classes=tuple(dict.fromkeys(arguments.roi_classes)) if arguments.roi_classes else None,
    )
    options = Options(
        device=arguments.device,
        workers=arguments.np,
        scoring_batch_size=arguments.scoring_batch_size,
        parts=arguments.num_parts,
        part=arguments.part_id,
        keep=arguments.keep,
        verbose=arguments.verbose,
    )
    do_round(roots, wishes, options, arguments.round)


def recipe_parameters(settings: list[str]) -> dict[str, Any]:
    """Read ``name=value`` pairs; numbers become numbers.

    Raises
    ------
    StrategyError
        if a setting holds no "=", or a name stands twice.
    """
    parameters: dict[str, Any] = {}
    for setting in settings:
        name, separator, text = setting.partition("=")
        if not separator:
            raise StrategyError(f"-set {setting}: write NAME=VALUE, for example eta=0.5.")
        if name in parameters:
            raise StrategyError(f"-set {setting}: '{name}' is set already, to {parameters[name]}; give it once.")
        parameters[name] = _number(text)
    return parameters


def group_counts(settings: list[str]) -> dict[str, int]:
    """Read ``GROUP=N`` pairs; a group's name may hold "=" itself.

    Raises
    ------
    CampaignError
        if a setting is no such pair, or a group stands twice.
    """
    counts: dict[str, int] = {}
    for setting in settings:
        group, separator, text = setting.rpartition("=")
        if not separator or not text.isdecimal() or group in counts:
            raise CampaignError(f"-initial_groups {setting}: write GROUP=N once for each group, for example F=5 M=5.")
        counts[group] = int(text)
    if not any(counts.values()):
        raise CampaignError("-initial_groups: ask for at least one region.")
    return counts


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run(build_parser, work, argv)
