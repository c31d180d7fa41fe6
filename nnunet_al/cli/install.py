"""nnUNetv2_al_install: put trainer and planner where nnU-Net looks for its own, or take them out again."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from functools import partial

from nnunet_al.cli.command import run
from nnunet_al.nnunet.dropin import install, remove
from nnunet_al.terminal import say


def build_parser() -> ArgumentParser:
    """Describe the arguments."""
    parser = ArgumentParser(
        prog="nnUNetv2_al_install",
        description="Puts nnUNetTrainerAL and nnUNetPlannerAL into the nnU-Net install, so that nnUNetv2_train -tr "
        "nnUNetTrainerAL and nnUNetv2_plan_experiment -pl nnUNetPlannerAL (or one of our other trainers and "
        "planners) find them. Our own commands do not need this.",
    )
    flag = partial(parser.add_mutually_exclusive_group().add_argument, action="store_true")
    flag("--link", help="[OPTIONAL] Link to the files of nnunet-al instead of copying them.")
    flag("--remove", help="[OPTIONAL] Take the files out again. Do this before you uninstall nnunet-al or nnunetv2.")
    return parser


def work(arguments: Namespace) -> None:
    """Install or remove, and list the files."""
    if not arguments.remove:
        for path in install(arguments.link):
            say(f"Installed {path}")
        return
    removed, foreign = remove()
    for path in removed:
        say(f"Removed {path}")
    for path in foreign:
        say(f"Left {path}: it is not a file of nnunet-al's.")
    if not removed and not foreign:
        say("There is nothing to remove.")


main = partial(run, build_parser, work)
