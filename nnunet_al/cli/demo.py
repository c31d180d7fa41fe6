"""``nnUNetv2_al_demo``: a whole campaign on generated data, on a CPU, in minutes."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_al.cli.arguments import make_parser
from nnunet_al.cli.command import run
from nnunet_al.terminal import say

if TYPE_CHECKING:
    from nnunet_al.campaign.decisions import Options
    from nnunet_al.campaign.folders import CampaignFolder
    from nnunet_al.nnunet.environment import Roots

_DESCRIPTION = """\
Makes a small dataset of phantoms and runs active learning on it with two strategies: an initial batch and three rounds
each, on the CPU by default. Writes learning curves, a picture of the selected regions, and the report. After an
interruption the same command continues.
"""

DATASET, NAME = 999, "Dataset999_PhantomDemo"
STRATEGIES = ("random", "usimf")
ROUNDS = 3
TRAINING: dict[str, Any] = {"epochs": 5, "iterations": 20, "batch_size": 12, "optimizer": "adamw", "disable_tta": True}
_ASKED: dict[str, Any] = {"configuration": "2d", "fold": 0, "seed": 0, "tag": None, "budget": 20, "initial": 20}


def build_parser() -> ArgumentParser:
    """Return the command's parser."""
    parser = make_parser("nnUNetv2_al_demo", _DESCRIPTION)
    parser.add_argument(
        "-o", default="nnunet_al_demo", metavar="FOLDER", help="output folder (default: nnunet_al_demo)"
    )
    parser.add_argument("-device", default="cpu", choices=["cpu", "cuda", "mps"], help="default: cpu")
    return parser


def work(arguments: Namespace) -> None:
    """Run the demo."""
    from nnunet_al.campaign.decisions import Options
    from nnunet_al.campaign.folders import CampaignFolder
    from nnunet_al.campaign.overview import campaign_overview, overview_table
    from nnunet_al.campaign.request import Request
    from nnunet_al.nnunet.environment import Roots, nnunet_folders
    from nnunet_al.report.page.report import write_report
    from nnunet_al.rounds.round import do_round

    output = Path(arguments.o).absolute()
    roots = Roots.below(output).create()
    options = Options(device=arguments.device, workers=1)
    # as many processes for augmentation as nnU-Net takes by itself only slow a short training down
    with nnunet_folders(roots, nnUNet_n_proc_DA=os.environ.get("nnUNet_n_proc_DA", "0")):
        make_dataset(roots.raw / NAME)
        for strategy in STRATEGIES:
            request = Request(dataset=NAME, strategy=strategy, **_ASKED, **TRAINING)
            for number in range(ROUNDS + 1):
                do_round(roots, request, options, number)
        folders = [CampaignFolder.of(roots, NAME, "2d", strategy, 0, None, 0) for strategy in STRATEGIES]
        draw(folders, roots, options, output)
        page = write_report(folders, output / "report", pictures=4, evidence=(roots, options))
    print(overview_table([campaign_overview(folder) for folder in folders]))
    say(f"Learning curves: {output / 'learning_curves.png'}\nSelected regions: {output / 'selection.png'}")
    say(f"Report: {page}")


def make_dataset(folder: Path) -> None:
    """Make the phantoms, unless they are there from a demo that was interrupted."""
    from nnunet_al.synthetic.phantom import make_phantom_dataset

    if not folder.exists():
        make_phantom_dataset(folder, cases=16)


def draw(folders: list[CampaignFolder], roots: Roots, options: Options, output: Path) -> None:
    """Draw the learning curves of the campaigns, and the regions of their last batches."""
    from nnunet_al.report.drawing.learning_curves import learning_curves
    from nnunet_al.report.drawing.selection_picture import selection_picture
    from nnunet_al.report.evidence.campaign_pictures import panels_of
    from nnunet_al.report.reading.runs import read_runs
    from nnunet_al.rounds.reopen import open_round

    learning_curves(read_runs(folders), output / "learning_curves.png")
    panels = [panel for folder in folders for panel in panels_of(open_round(folder, roots, ROUNDS, options), 4)]
    selection_picture(panels, output / "selection.png", f"The first regions asked for in round {ROUNDS}")


main = partial(run, build_parser, work)
