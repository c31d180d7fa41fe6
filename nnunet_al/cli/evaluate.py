"""``nnUNetv2_al_evaluate``: Dice and HD95 of a round's model, again or with another checkpoint or other labels."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from functools import partial
from pathlib import Path
from typing import Any

from nnunet_al.cli.arguments import add_campaign_choice, add_dataset, chosen_campaign, make_parser
from nnunet_al.cli.command import run
from nnunet_al.cli.round_arguments import add_keep_predictions
from nnunet_al.errors import CampaignError
from nnunet_al.terminal import say

_DESCRIPTION = """\
Evaluates the model of a round on the campaign's test cases, and writes the round's metrics again. With another
checkpoint or other labels the result goes to -o, or is only printed, and the campaign stays as it is.
"""


def build_parser() -> ArgumentParser:
    """Return the command's parser."""
    parser = make_parser("nnUNetv2_al_evaluate", _DESCRIPTION)
    add_dataset(parser)
    add_campaign_choice(parser)
    parser.add_argument("-round", type=int, metavar="K", help="round to evaluate (default: the last with a model)")
    parser.add_argument("-chk", metavar="FILE", help="another checkpoint that fits the round's plans")
    parser.add_argument("-labels", metavar="FOLDER", help="other labels of the test cases, named like the dataset's")
    parser.add_argument("-o", metavar="FILE", help="write the result here as JSON")
    add_keep_predictions(parser)
    parser.add_argument("-device", default="cuda", choices=["cuda", "cpu", "mps"], help="default: cuda")
    parser.add_argument("-np", type=int, default=2, help="worker processes (default: 2)")
    return parser


def work(arguments: Namespace) -> None:
    """Evaluate and print."""
    from nnunet_al.campaign.decisions import Options
    from nnunet_al.campaign.lock import campaign_lock
    from nnunet_al.campaign.results import write_results
    from nnunet_al.campaign.stage_markers import mark_anew
    from nnunet_al.campaign.stages import EVALUATE
    from nnunet_al.files import write_json
    from nnunet_al.nnunet.environment import Roots
    from nnunet_al.rounds.evaluation import evaluate_checkpoint
    from nnunet_al.rounds.reopen import open_round

    roots = Roots.from_environment()
    folder = chosen_campaign(arguments, roots)
    keep = arguments.keep_predictions
    options = Options(device=arguments.device, workers=arguments.np, keep_predictions=keep)
    options.check()
    number = arguments.round if arguments.round is not None else _last_round_with_model(folder)
    context = open_round(folder, roots, number, options)
    checkpoint = Path(arguments.chk) if arguments.chk else context.checkpoint(context.round)
    if not checkpoint.is_file():
        raise CampaignError(f"There is no checkpoint {checkpoint}: choose another -round or name one with -chk.")
    if arguments.labels and not Path(arguments.labels).is_dir():
        raise CampaignError(f"-labels: there is no folder {arguments.labels}.")
    if arguments.o and not Path(arguments.o).absolute().parent.is_dir():
        raise CampaignError(f"-o {arguments.o}: there is no such folder; make it first.")
    with campaign_lock(folder.lock):
        own = not arguments.chk and not arguments.labels
        labels = Path(arguments.labels) if arguments.labels else None
        metrics = evaluate_checkpoint(context, checkpoint, labels, keep=own)
        if own:
            write_json(context.round.metrics, metrics)
            mark_anew(context.round.stages, EVALUATE)
            write_results(folder)
    if arguments.o:
        write_json(Path(arguments.o), metrics)
    say(_table(metrics))


def _last_round_with_model(folder: Any) -> int:
    evaluated = [round_.number for round_ in folder.rounds() if round_.metrics.is_file()]
    if not evaluated:
        raise CampaignError(f"No round of {folder.root} has a model yet: do round 1 first.")
    return max(evaluated)


def _table(metrics: dict[str, Any]) -> str:
    lines = [f"Round {metrics['round']}, {len(metrics['cases'])} test cases, {metrics['checkpoint']}"]
    lines.append(f"  {'class':<20} {'dice':>7} {'hd95 mm':>9}")
    for name, values in {**metrics["mean"], "mean": metrics["foreground_mean"]}.items():
        lines.append(f"  {name:<20} {values['dice']:>7.4f} {values['hd95_mm']:>9.2f}")
    if "groups" in metrics:
        lines += group_lines(metrics["groups"])
    return "\n".join(lines)


def group_lines(groups: dict[str, Any]) -> list[str]:
    """Return the groups' Dice, Δ, ESSP and the largest gap with 95 % intervals, as lines for a person."""
    lines = [f"  {'group (' + ' & '.join(groups['group_by']) + ')':<20} {'dice':>7} {'95 %':>17} {'cases':>6}"]
    for name, entry in groups["by_group"].items():
        if entry["dice"] is None:
            lines.append(f"  {name:<20} {'-':>7} {'':>17} {0:>6}")
        else:
            lines.append(f"  {name:<20} {entry['dice']:>7.4f} {_interval(entry['interval'])} {entry['n']:>6}")
    if groups["delta"] is None:
        return [*lines, "  all test cases that count are in one group: there is nothing to compare"]
    for name, sign in {"delta": "delta", "essp": "ESSP", "largest_gap": "largest gap"}.items():
        lines.append(f"  {sign:<20} {groups[name]:>7.4f} {_interval(groups['intervals'][name])}")
    absent_as_1 = groups["delta_absent_as_1"]
    return [
        *lines,
        f"  {'delta*':<20} {absent_as_1:>7.4f}   (a class that is neither there nor predicted counts as Dice 1)",
        f"  delta sums over {groups['number']} groups: compare it only between campaigns with as many groups",
    ]


def _interval(bounds: list[float]) -> str:
    return f"{bounds[0]:>7.4f} to {bounds[1]:.4f}"


main = partial(run, build_parser, work)
