"""Does it save annotations? Strategies compared on three sets of real images, and what follows from it.

    python benchmarks/evidence.py -sets hippocampus -seeds 0 -s random entropy -o FOLDER     one block
    python benchmarks/evidence.py --full                       the Dice of the whole pool, the reference of each set
    python benchmarks/evidence.py --pilot -sets wbc            random draws with several budgets, to choose one
    python benchmarks/evidence.py --converged                  is a training long enough?
    python benchmarks/evidence.py --part_two                   variants, on the Hippocampus
    python benchmarks/evidence.py --report                     tables and figures from the cells, in seconds

A block is a set and a seed: one campaign for each strategy, which all begin with the same batch and the same first
model. Blocks may run beside each other, one process and one thread each, in one folder. Each campaign that is complete
puts its cells into ``cells.csv`` and its record into ``records/`` at once; a call that was stopped continues.
"""

from __future__ import annotations

import time
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
from evidence_campaigns import Campaign, record_file, run
from evidence_cells import add_cells
from evidence_data import make_dataset
from evidence_settings import (
    PART_TWO,
    PROTOCOLS,
    QUICK,
    QUICK_STRATEGIES,
    RESULTS,
    SEEDS,
    STRATEGIES,
    Protocol,
    make_parser,
)

from nnunet_al.errors import NnunetALError
from nnunet_al.files import read_arrays, write_arrays
from nnunet_al.nnunet.environment import Roots
from nnunet_al.terminal import say
from nnunet_al.text import duration


def main() -> None:
    """Run what the command line asks for."""
    arguments = make_parser(__doc__).parse_args()
    results = Path(arguments.results or (Path(arguments.o) / "quick_results" if arguments.quick else RESULTS))
    if not arguments.report:
        roots = Roots.below(Path(arguments.o).absolute()).create()
        for protocol in protocols_of(arguments):
            make_dataset(protocol, roots, arguments.data)
        for campaign in campaigns_of(arguments):
            complete(campaign, roots, results)
    if arguments.report or arguments.quick:
        from evidence_report import write_report

        write_report(results)


def protocols_of(arguments: Namespace) -> list[Protocol]:
    """Return the sets that the command line names."""
    if arguments.quick:
        return [QUICK]
    return [PROTOCOLS["hippocampus"]] if arguments.part_two else [PROTOCOLS[name] for name in arguments.sets]


def campaigns_of(arguments: Namespace) -> list[Campaign]:
    """Return the campaigns that the command line names, block by block."""
    seeds = arguments.seeds or ((0,) if arguments.quick or arguments.pilot or arguments.converged else SEEDS)
    strategies = arguments.s or (QUICK_STRATEGIES if arguments.quick else STRATEGIES)
    if arguments.part_two:
        seeds, strategies = arguments.seeds or SEEDS[:2], arguments.s or PART_TWO
    found = []
    for protocol in protocols_of(arguments):
        for seed in seeds:
            if arguments.full or (arguments.quick and seed == 0):
                found.append(Campaign(protocol, "random", seed, "full", arguments.data))
            if arguments.full:
                continue
            if arguments.pilot:
                chosen = [(replace(protocol, budget=budget), f"pilot{budget}") for budget in arguments.budgets]
                found += [Campaign(one, "random", seed, kind, arguments.data) for one, kind in chosen]
            elif arguments.converged:
                found.append(Campaign(protocol.longer(), "random", seed, "longer", arguments.data))
                found.append(Campaign(protocol.longer(), "random", seed, "full_longer", arguments.data))
            else:
                found += [Campaign(protocol, strategy, seed, "", arguments.data) for strategy in strategies]
    return found


def complete(campaign: Campaign, roots: Roots, results: Path) -> None:
    """Bring a campaign to its end and put its cells and its record among the results."""
    started = time.monotonic()
    rows = []
    for number, row in run(campaign, roots):
        rows.append(row)
        say(f"{campaign.name}, model {number} of {campaign.models}: {row['regions']} regions, Dice {row['dice']:.4f}")
    add_cells(results / "cells.csv", rows)
    if not campaign.kind:
        folder = campaign.folder(roots)
        records = {number: read_arrays(record_file(folder, number)) for number in range(1, campaign.models + 1)}
        arrays = {
            name: np.concatenate([found[name] for found in records.values()]) for name in next(iter(records.values()))
        }
        rounds_N = np.concatenate([np.full(len(found["kind_N"]), number) for number, found in records.items()])
        write_arrays(results / "records" / f"{campaign.name}.npz", round_N=rounds_N.astype(np.uint8), **arrays)
    say(f"{campaign.name} is complete after {duration(time.monotonic() - started)} of this call.")


if __name__ == "__main__":
    try:
        main()
    except NnunetALError as refused:
        raise SystemExit(f"Error: {refused}") from None
