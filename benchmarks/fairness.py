"""Fairness of a strategy towards two groups of brains: an experiment after the design of Danaee et al. 2026.

It gives the rows of their table 3 and the curves of their figures 1 to 4, but does not repeat their experiment: cohort
(ours, not SimBA's), loss (Dice + cross-entropy), optimiser (AdamW with decay), augmentation (nnU-Net's) and details of
the network differ; benchmarks/README.md compares them.

Makes cohorts of synthetic T1-like images in which the left caudate of group 1 is enlarged (strong or weak bias), trains
nnU-Net's 3d_fullres with two stages on whole cases, without mirroring, and measures the Dice of the left caudate on
test cases of which half belong to each group: for models trained once on both groups or on one of them (table 3), and
in campaigns that start from 10 cases of a given composition and ask for 4 more per step, with four strategies and
several seeds.

Before any campaign a gate asks whether the paper's premise is there: table 3 with one seed, and whether training on
group 2 alone costs group 1 Dice beyond the interval over the test cases. Where it does not, or trainings still gain,
the experiment says so and stops (`--no_gate` goes on). `--protocol -population FOLDER` makes images and trains as the
paper and SimBA do; label maps of real heads are needed for that.

Δ = Σ_g |DSC - DSC_g| and ESSP = DSC / (1 + Δ). All files are in the output folder: an interrupted experiment is
continued, also with more seeds, strategies or steps. To read the results:

* all strategies of a seed start from the same cases, so their first points agree; lines are means over the seeds,
  bands and brackets their range; a single seed has no range;
* the comparison of the weighted strategy with the others is paired, seed by seed and step by step. Steps of one
  campaign depend on each other, so the interval over pairs is too narrow: also compare the mean of each seed;
* a larger structure has a higher Dice at the same surface error: the larger caudate of group 1 is not necessarily the
  harder one.

Results depend on template, spacing, crop, length of training and planner: the settings are saved with the results.
"""

from __future__ import annotations

import shutil
import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fairness_campaigns import Campaign, campaigns_of, dataset_of, make_cohort, rounds_of, run_campaigns
from fairness_figures import draw_all
from fairness_gate import Gate, gate_of, is_of_gate
from fairness_settings import PRESETS, Settings, command, make_parser
from fairness_table import composition_table, difference_table, differences, summaries, summary_table
from measuring import machine

from nnunet_al.files import write_json, write_text
from nnunet_al.nnunet.environment import Roots
from nnunet_al.terminal import say


def main() -> None:
    arguments = make_parser(__doc__).parse_args()
    settings = Settings.of(arguments)
    preset = next((name for name in PRESETS if getattr(arguments, name)), "paper")
    output = Path(arguments.o or Path("benchmark_results") / f"fairness_{preset}").absolute()
    torch.set_num_threads(1)  # as in the training processes
    roots = Roots.below(output).create()
    settings.check_same_settings(output)
    started = time.monotonic()
    for strength in settings.strengths:
        make_cohort(strength, settings, roots, arguments.np)
    campaigns = campaigns_of(settings, not arguments.no_table)

    def run(some: Sequence[Campaign]) -> list[str]:
        return run_campaigns(some, settings, roots, output / "logs", arguments.device, arguments.np)

    gates: list[Gate] = []
    if not (arguments.no_gate or arguments.no_table):
        if failures := run([campaign for campaign in campaigns if is_of_gate(campaign)]):
            raise SystemExit("\n".join(failures))
        gates = [gate_of(strength, campaigns, roots) for strength in settings.strengths]
        for gate in gates:
            say(gate.sentence)
        if not arguments.quick:
            absent = {gate.strength for gate in gates if not gate.is_open}
            campaigns = [one for one in campaigns if one.strength not in absent or is_of_gate(one)]
    failures = run(campaigns)
    rows = [row for campaign in campaigns for row in rounds_of(campaign, roots)]
    numbers = {
        "machine": machine(),
        "command": command(),
        "settings": settings.to_json(),
        "device": arguments.device,
        "processes": arguments.np,
        "seconds_of_this_call": round(time.monotonic() - started),
        "failures": failures,
        "premise": [asdict(gate) for gate in gates],
        "summaries": summaries(rows),
        "differences": differences(rows, np.random.default_rng(0)),
        "rounds": rows,
    }
    write_results(arguments, settings, numbers, roots, output / "results")
    if failures:
        raise SystemExit("\n".join(failures))


def write_results(
    arguments: Namespace, settings: Settings, numbers: dict[str, Any], roots: Roots, folder: Path
) -> None:
    """Print the tables, and write tables, pictures and numbers."""
    rows, summary = numbers["rounds"], numbers["summaries"]
    parts = [
        ("Premise", "\n".join(f"* {gate['sentence']}" for gate in numbers["premise"])),
        ("Trained once", composition_table(rows)),
        ("At the last step: mean (range over seeds)", summary_table(summary, "last")),
        ("Mean over all steps (range over seeds)", summary_table(summary, "mean")),
        ("Paired differences after the first step", difference_table(numbers["differences"])),
    ]
    tables = "\n\n".join(f"## {title}\n\n{table}" for title, table in parts if table)
    print(tables)
    head = f"# Fairness\n\n`{numbers['command']}`\n\n"
    write_text(folder / "fairness.md", f"{head}{tables}\n")
    write_json(folder / "fairness.json", numbers)
    files = [folder / "fairness.md", folder / "fairness.json", *draw_all(rows, folder)]
    for strength in settings.strengths:
        picture = roots.raw / dataset_of(strength) / "cohort.png"
        if picture.is_file():
            files.append(Path(shutil.copyfile(picture, folder / f"cohort_{strength}.png")))
    if arguments.results:
        Path(arguments.results).mkdir(parents=True, exist_ok=True)
        for file in files:
            shutil.copyfile(file, Path(arguments.results) / file.name)
    if arguments.json:
        write_json(Path(arguments.json), numbers)
    say(f"Tables, pictures and numbers are in {folder}")


if __name__ == "__main__":
    main()
