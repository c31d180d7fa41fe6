"""Shared by the commands that do rounds: their options, and the request that these make."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace, _ActionsContainer
from typing import Any

from nnunet_al.campaign.decisions import Options
from nnunet_al.campaign.request import Request
from nnunet_al.cli.settings import group_counts, recipe_parameters
from nnunet_al.errors import StrategyError


def add_campaigns(parser: ArgumentParser, required: bool) -> None:
    """Add the options that name many campaigns: datasets, strategies, folds and seeds."""
    parser.add_argument(
        "-d",
        required=required,
        nargs="+",
        metavar="DATASET",
        help="datasets, by number (501) or name (Dataset501_Name)",
    )
    parser.add_argument(
        "-s",
        required=required,
        nargs="+",
        metavar="STRATEGY",
        help="names or METRIC[+ADDON...]; nnUNetv2_al_strategies lists them",
    )
    parser.add_argument(
        "-f",
        type=int,
        nargs="+",
        default=[0],
        metavar="FOLD",
        help="folds whose validation cases are the test set (default: 0)",
    )
    parser.add_argument(
        "-seeds", type=int, nargs="+", default=[0], metavar="SEED", help="seeds of every draw (default: 0)"
    )


def add_names(parser: ArgumentParser, several: bool = False) -> None:
    """Add the options that name a campaign, or ``several``, beside its dataset, strategy, fold and seed."""
    parser.add_argument(
        "-posterior",
        choices=["mc_dropout", "tta", "ensemble"],
        help="source of posterior samples (default: the strategy's); the same as the add-on of that name in -s",
    )
    parser.add_argument(
        "-c",
        nargs="+" if several else None,
        default=["2d"] if several else "2d",
        metavar="CONFIGURATION",
        help="2d or 3d_fullres (default: 2d)",
    )
    parser.add_argument("-tag", help="keeps campaigns apart that differ in anything else")


def add_decided(parser: ArgumentParser) -> None:
    """Add the options that are decided when a campaign starts, those of groups of cases included."""
    decided = parser.add_argument_group("decided when the campaign starts")
    decided.add_argument("-unit", choices=["patch", "slice", "case"], help="unit of annotation (default: patch)")
    decided.add_argument("-b", type=int, metavar="BUDGET", help="regions per round (default: 100, cases: 4)")
    decided.add_argument("-initial", type=int, help="regions of round 0 (default: 100, cases: 10)")
    decided.add_argument(
        "-initial_strategy",
        choices=["random", "core_set"],
        help="how round 0 chooses: at random (default), or spread out by image features",
    )
    decided.add_argument("-overlap", type=float, help="share by which neighbouring patches overlap (default: 0.5)")
    decided.add_argument("-rounds", type=int, help="planned rounds, over which schedules run (default: 10)")
    decided.add_argument(
        "-test",
        choices=["fold", "ts", "none"],
        help="test on the fold's validation cases (default), on imagesTs and labelsTs, or on nothing",
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
        help="optimiser of FLQMI: our own (default: streaming), or submodlib's, which are slower",
    )
    decided.add_argument(
        "-precision",
        choices=["float32", "half"],
        help="number type of scoring: half is float16 on a GPU (the default there) and "
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
        help="let the intensity statistics of CT follow the annotations (default: they stay those of the first ones)",
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


def add_readers(parser: ArgumentParser) -> None:
    """Add the options of campaigns that people annotate."""
    readers = parser.add_argument_group("annotation by people (decided when the campaign starts)")
    readers.add_argument(
        "--annotate",
        action="store_true",
        default=None,
        help="people annotate, not the dataset's labels: the round ends with a folder for them, round_00k/batch, and "
        "exit code 3 until nnUNetv2_al_collect has taken all of it back",
    )
    readers.add_argument(
        "-format",
        choices=["folder", "monailabel"],
        help="form of a batch: a folder for 3D Slicer and ITK-SNAP (default), or MONAI Label's datastore",
    )
    readers.add_argument(
        "-readings", type=int, metavar="N", help="independent readings of each region, by N readers (default: 1)"
    )
    readers.add_argument(
        "-consensus", choices=["staple", "majority"], help="how several readings become one (default: staple)"
    )


def add_where(parser: ArgumentParser, many: bool = False) -> None:
    """Add the options that say where and how rounds run.

    One campaign may be scored in several calls; ``many`` campaigns of one call may share their first model.
    """
    here = parser.add_argument_group("where and how it runs (changes no batch)")
    add_running(here)
    here.add_argument("-np", type=int, default=2, help="worker processes for preprocessing and reading (default: 2)")
    if many:
        here.add_argument(
            "--no_sharing",
            action="store_true",
            help="train each campaign's first model, also where another campaign has trained on the same data",
        )
    else:
        here.add_argument(
            "-num_parts", type=int, default=1, help="number of shards of scoring, one call for each (default: 1)"
        )
        here.add_argument("-part_id", type=int, default=0, help="shard of this call, from 0 (default: 0)")


def add_running(parser: _ActionsContainer) -> None:
    """Add the options that say how rounds run wherever they do; jobs of a cluster have them too."""
    parser.add_argument("-device", default="cuda", choices=["cuda", "cpu", "mps"], help="default: cuda")
    parser.add_argument(
        "-num_gpus", type=int, default=1, help="GPUs of one machine to train on, as nnU-Net does (default: 1)"
    )
    parser.add_argument("-scoring_batch_size", type=int, default=64, help="regions scored at a time (default: 64)")
    parser.add_argument(
        "-keep",
        choices=["all", "last", "none"],
        default="all",
        help="checkpoints to keep, besides the one that the next round starts from (default: all)",
    )
    parser.add_argument("--verbose", action="store_true", help="show nnU-Net's output")


def request_of(arguments: Namespace, dataset: str, strategy: str, fold: int, seed: int) -> Request:
    """Return what the options ask of one campaign; options that the command does not have are left open.

    Raises
    ------
    StrategyError, CampaignError
        if a setting cannot be read.
    """
    return Request(
        dataset=dataset,
        configuration=arguments.c,
        fold=fold,
        seed=seed,
        tag=arguments.tag,
        strategy=strategy,
        posterior=arguments.posterior,
        parameters=parameters_of(arguments),
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
        annotate=getattr(arguments, "annotate", None),
        hand_out=getattr(arguments, "format", None),
        readings=getattr(arguments, "readings", None),
        consensus=getattr(arguments, "consensus", None),
        initial_strategy=arguments.initial_strategy,
    )


def parameters_of(arguments: Namespace) -> dict[str, Any]:
    """Return what ``-set`` and ``-passes`` ask of the strategy's recipe.

    Raises
    ------
    StrategyError
        if a setting cannot be read, or the passes are given twice.
    """
    parameters = recipe_parameters(arguments.set)
    if arguments.passes is not None:
        if "passes" in parameters:
            raise StrategyError("-passes and -set passes=...: give one of them.")
        parameters["passes"] = arguments.passes
    return parameters


def options_of(arguments: Namespace) -> Options:
    """Return where and how the rounds run."""
    return Options(
        device=arguments.device,
        workers=getattr(arguments, "np", 1),
        gpus=arguments.num_gpus,
        scoring_batch_size=arguments.scoring_batch_size,
        parts=getattr(arguments, "num_parts", 1),
        part=getattr(arguments, "part_id", 0),
        keep=arguments.keep,
        verbose=arguments.verbose,
        share_first=not getattr(arguments, "no_sharing", True),
    )
