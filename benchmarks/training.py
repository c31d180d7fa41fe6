"""Dice of trainings in half precision against float32, and of trainings that end by themselves against fixed ones.

    python benchmarks/training.py precision [-seeds 0 1 2] [-b CASES] [--quick] [--json FILE]
    python benchmarks/training.py epochs [-data FOLDER] [-seeds 0 1] [-rounds 5] [-b 20] [-batch_size 32]
                                         [--quick] [--json FILE]

`precision`: one training on the given number of whole cases, 30 epochs of 20 iterations. `epochs`: campaigns of random
batches of slices, so that all of them annotate the same; first ``-epochs auto``, then fixed trainings of as many
iterations in all, then of twice as many. Both test on the cases of the fold. Campaigns lie in the output folder, so
that an interrupted benchmark is continued.
"""

from __future__ import annotations

import statistics
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

from measuring import machine
from setting import Setting, make_parser

from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.files import read_json, write_json, write_text
from nnunet_al.rounds.round import do_round

ITERATIONS = 20
TRAINING: dict[str, Any] = {"trainer": None, "iterations": ITERATIONS, "batch_size": 32, "optimizer": "adamw"}
QUICK = {"trainer": None, "iterations": 2, "batch_size": 4, "optimizer": "adamw"}


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
            print(seed, way, found, flush=True)
    rows = [["seed", "way", *(f"round {k}" for k in range(1, rounds + 1)), "mean Dice", "epochs"]]
    for run in runs:
        found = run["rounds"]
        mean = statistics.mean(one["dice"] for one in found)
        epochs = " ".join(str(one["epochs"]) for one in found)
        rows.append([str(run["seed"]), run["way"], *(f"{one['dice']:.3f}" for one in found), f"{mean:.4f}", epochs])
    mean_of = {
        way: statistics.mean(one["dice"] for run in runs if run["way"] == way for one in run["rounds"])
        for way in ("auto", "fixed", "fixed_twice")
    }
    return rows, {
        "runs": runs,
        "auto_minus_fixed": mean_of["auto"] - mean_of["fixed"],
        "auto_minus_fixed_twice": mean_of["auto"] - mean_of["fixed_twice"],
    }


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
        found.append({"dice": means["dice"], "epochs": _epochs(checkpoint)})
    return found


def _epochs(checkpoint: Path) -> int:
    import torch

    return int(torch.load(checkpoint, map_location="cpu", weights_only=False)["current_epoch"])


if __name__ == "__main__":
    main()
