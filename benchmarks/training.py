"""Dice of trainings in half precision against float32, and of trainings that end by themselves against fixed ones.

    python benchmarks/training.py precision [-seeds 0 1 2] [-b CASES] [--quick] [--json FILE]
    python benchmarks/training.py epochs [-data FOLDER] [-seeds 0 1] [-rounds 5] [-b 20] [-batch_size 32]
                                         [--quick] [--json FILE]

`precision`: one training on the given number of whole cases, 30 epochs of 20 iterations. `epochs`: campaigns of random
batches of slices, so that all of them annotate the same; first ``-epochs auto``, then fixed trainings of as many
iterations in all, then of twice as many; Dice over rounds and training losses are drawn. Both test on the cases of the
fold. Campaigns lie in the output folder, so that an interrupted benchmark is continued.
"""

from __future__ import annotations

import statistics
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from measuring import machine
from setting import Setting, make_parser

from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.evaluation.budget import mean_and_interval
from nnunet_al.files import read_json, write_json, write_text
from nnunet_al.report.drawing.palette import LINE_COLOURS, new_figure, own_style, save
from nnunet_al.rounds.round import do_round

ITERATIONS = 20
WAYS = {"auto": "auto", "fixed": "fixed, as many iterations", "fixed_twice": "fixed, twice as many"}
TRAINING: dict[str, Any] = {"trainer": None, "iterations": ITERATIONS, "batch_size": 32, "optimizer": "adamw"}
QUICK = {"trainer": None, "iterations": 2, "max_epochs": 4, "batch_size": 4, "optimizer": "adamw"}


def main() -> None:
    parser = make_parser(__doc__ or "", ["random"])
    parser.add_argument("what", choices=["precision", "epochs"])
    parser.add_argument("-seeds", type=int, nargs="+", help="seeds (default: 0 1 2 for precision, 0 1 for epochs)")
    parser.add_argument("-rounds", type=int, default=5, help="rounds of each campaign of `epochs`")
    parser.add_argument("-batch_size", type=int, default=TRAINING["batch_size"], help="patches of a training step")
    arguments = parser.parse_args()
    compare = {"precision": compare_precisions, "epochs": compare_lengths}[arguments.what]
    rows, numbers = compare(arguments)
    lines = ["| " + " | ".join(row) + " |" for row in (rows[0], ["---"] * len(rows[0]), *rows[1:])]
    print("\n".join(lines))
    write_text(Path(arguments.o) / f"training_{arguments.what}.md", "\n".join(lines) + "\n")
    if arguments.json:
        write_json(Path(arguments.json), {"machine": machine(), **numbers})


def compare_precisions(arguments: Namespace) -> tuple[list[list[str]], dict[str, Any]]:
    """Train on equal cases from equal seeds in both precisions; the difference is taken seed by seed."""
    setting = Setting.of(arguments)
    epochs, cases = (2, 6) if arguments.quick else (30, arguments.b or 150)
    dice: dict[str, list[float]] = {"float32": [], "half": []}
    for seed in arguments.seeds or (0, 1, 2):
        for precision, found in dice.items():
            asked = {"unit": "case", "initial": cases, "budget": 1, "epochs": epochs, "precision": precision}
            found.append(_rounds(setting, arguments, seed, precision, 1, asked)[0]["dice"])
            print(seed, precision, found[-1], flush=True)
    differences = [half - full for half, full in zip(dice["half"], dice["float32"], strict=True)]
    rows = [["seed", "float32", "half", "difference"]]
    for seed, full, half in zip(arguments.seeds or (0, 1, 2), dice["float32"], dice["half"], strict=True):
        rows.append([str(seed), f"{full:.4f}", f"{half:.4f}", f"{half - full:+.4f}"])
    mean = statistics.mean(differences)
    rows.append(["mean", *(f"{statistics.mean(values):.4f}" for values in dice.values()), f"{mean:+.4f}"])
    return rows, {"dice": dice, "iterations": epochs * ITERATIONS, "cases": cases, "mean_difference": mean}


def compare_lengths(arguments: Namespace) -> tuple[list[list[str]], dict[str, Any]]:
    """Let trainings end by themselves, then give fixed ones as many iterations in all, and twice as many."""
    setting = Setting.of(arguments)
    rounds = 2 if arguments.quick else arguments.rounds
    batch = arguments.b or (4 if arguments.quick else 20)
    asked: dict[str, Any] = {"unit": "slice", "initial": batch, "budget": batch, "rounds": rounds}
    runs: list[dict[str, Any]] = []
    for seed in arguments.seeds or (0, 1):
        auto = _rounds(setting, arguments, seed, "auto", rounds, {**asked, "epochs": "auto"})
        same = max(1, round(sum(found["epochs"] for found in auto) / rounds))
        of_way = {"auto": auto}
        for way, epochs in {"fixed": same, "fixed_twice": 2 * same}.items():
            of_way[way] = _rounds(setting, arguments, seed, f"{way}{epochs}", rounds, {**asked, "epochs": epochs})
        for way, found in of_way.items():
            runs.append({"seed": seed, "way": way, "rounds": found})
            print(seed, way, *(f"{one['dice']:.4f} ({one['epochs']})" for one in found), flush=True)
    rows = [["seed", "way", *(f"round {k}" for k in range(1, rounds + 1)), "mean Dice", "epochs"]]
    for run in runs:
        found = run["rounds"]
        mean = statistics.mean(one["dice"] for one in found)
        epochs = " ".join(str(one["epochs"]) for one in found)
        rows.append([str(run["seed"]), run["way"], *(f"{one['dice']:.3f}" for one in found), f"{mean:.4f}", epochs])
    draw_lengths(runs, Path(arguments.o) / "training_epochs.png")
    numbers: dict[str, Any] = {"runs": runs}
    for other in ("fixed", "fixed_twice"):
        mean, interval = mean_and_interval(_differences(runs, other))
        shown = "" if interval is None else f" ({interval[0]:+.4f} to {interval[1]:+.4f})"
        print(f"auto - {other}, mean Dice over rounds and seeds: {mean:+.4f}{shown}")
        numbers[f"auto_minus_{other}"] = {"mean": mean, "interval": interval}
    return rows, numbers


def _differences(runs: list[dict[str, Any]], other: str) -> list[float]:
    """Return the differences in Dice of auto and another way, paired by seed and round."""
    dice_of = {(run["seed"], run["way"]): [one["dice"] for one in run["rounds"]] for run in runs}
    pairs = [(dice, dice_of[seed, other]) for (seed, way), dice in dice_of.items() if way == "auto"]
    return [ours - theirs for some, others in pairs for ours, theirs in zip(some, others, strict=True)]


@own_style()
def draw_lengths(runs: list[dict[str, Any]], file: Path) -> None:
    """Draw Dice over rounds for each way, and the training loss of the trainings that ended by themselves."""
    figure = new_figure(9.6, 3.6)
    left, right = figure.subplots(1, 2)
    for colour, (way, label) in zip(LINE_COLOURS, WAYS.items(), strict=False):
        dice_S_K = [[one["dice"] for one in run["rounds"]] for run in runs if run["way"] == way]
        numbers = range(1, len(dice_S_K[0]) + 1)
        for dice_K in dice_S_K:
            left.plot(numbers, dice_K, color=colour, linewidth=0.7)
        left.plot(numbers, [statistics.mean(some) for some in zip(*dice_S_K, strict=True)], color=colour, label=label)
    left.set(xlabel="round", ylabel="Dice on the test cases", xticks=numbers)
    left.legend(frameon=False)
    for run in runs:
        for number, one in enumerate(run["rounds"] if run["way"] == "auto" else []):
            label = f"round {number + 1}" if run["seed"] == runs[0]["seed"] else None
            colour = LINE_COLOURS[number % len(LINE_COLOURS)]
            right.plot(range(1, len(one["losses"]) + 1), one["losses"], color=colour, linewidth=0.9, label=label)
    right.set(xlabel=f"epoch of {ITERATIONS} iterations", ylabel="training loss, -epochs auto")
    right.legend(frameon=False)
    save(figure, file)


def _rounds(
    setting: Setting, arguments: Namespace, seed: int, tag: str, rounds: int, asked: dict[str, Any]
) -> list[dict[str, Any]]:
    """Run a campaign of random batches up to a round; return Dice and number of epochs of each round."""
    training = QUICK if arguments.quick else {**TRAINING, "batch_size": arguments.batch_size}
    folder = CampaignFolder.of(setting.roots, setting.dataset, "2d", "random", seed, tag, 0)
    with setting.environment():
        for number in range(rounds + 1):
            request = replace(setting.request("random", **{**training, **asked}), seed=seed, tag=tag)
            do_round(setting.roots, request, setting.options, number)
    found = []
    for number in range(1, rounds + 1):
        means = read_json(folder.round(number).metrics)["foreground_mean"]
        (checkpoint,) = folder.round(number).view.results.rglob("checkpoint_final.pth")
        losses = torch.load(checkpoint, map_location="cpu", weights_only=False)["logging"]["train_losses"]
        found.append({"dice": means["dice"], "epochs": len(losses), "losses": [float(loss) for loss in losses]})
    return found


if __name__ == "__main__":
    main()
