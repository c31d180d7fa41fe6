"""Shell commands that repeat campaigns, and notes on them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap

from nnunet_al.campaign.decisions import Decisions
from nnunet_al.errors import StrategyError
from nnunet_al.report.reading.runs import Run
from nnunet_al.settings import READERS, SETTINGS, epochs, words
from nnunet_al.strategies import catalog
from nnunet_al.text import count

_WIDTH = 100  # characters per line, without the line continuation
_HELD = "\x00"  # stands for a blank where a line must not end
PARTICIPANTS = "participants.tsv"
"""Placeholder for the table of participants; a campaign keeps only the groups that were read from it."""


def repeat_commands(runs: Sequence[Run]) -> str:
    """Return shell commands that start the same campaigns again and do the same number of rounds.

    All decisions are spelled out. Campaigns that differ only in fold and seed become loops over both. Campaigns that
    people annotate have no loop over rounds.
    """
    found: dict[tuple[tuple[str, ...], int], dict[int, list[int]]] = {}
    for run in runs:
        rounds = 0 if run.decided.annotate else sum(result.complete for result in run.rounds)
        seeds = found.setdefault((tuple(round_arguments(run.decided)), rounds), {})
        seeds.setdefault(run.decided.fold, []).append(run.decided.seed)
    return "\n\n".join(
        _lines(arguments, rounds, folds, seeds)
        for (arguments, rounds), seeds_of_fold in found.items()
        for seeds, folds in _together(seeds_of_fold).items()
    )


def repeat_notes(runs: Sequence[Run]) -> list[str]:
    """Return notes on steps that the commands cannot repeat by themselves."""
    notes = []
    if any(run.decided.group_by for run in runs):
        notes.append(f"{PARTICIPANTS} stands for the table that the groups came from.")
    if any(run.decided.annotate for run in runs):
        notes.append(
            "Where people annotate, call the command once per round, and nnUNetv2_al_collect between the calls."
        )
    split = [run for run in runs if run.decided.left_out_cases and run.decided.missing_group != "leave_out"]
    if split:
        notes.append(
            f"{_campaigns(split, runs)} took pool and test cases from a split file, splits_final.json, which leaves "
            f"out {count(max(len(run.decided.left_out_cases) for run in split), 'case')}: put the same file there "
            "first."
        )
    changed = [run for run in runs if run.decided.pool_changes]
    if changed:
        notes.append(
            f"{_campaigns(changed, runs)} had cases added or withdrawn between rounds (see the remarks): the commands "
            "start with the dataset as it is now; repeat these changes with nnUNetv2_al_pool between the same rounds."
        )
    return notes


def round_arguments(decided: Decisions) -> list[str]:
    """Return the arguments of ``nnUNetv2_al_round`` that start such a campaign, without fold and seed."""
    arguments = ["-d", decided.dataset, "-s", decided.recipe.name, "-c", decided.configuration]
    arguments += ["-tag", decided.tag] if decided.tag else []
    settings = [
        setting
        for setting in SETTINGS
        if (decided.annotate or setting not in READERS)
        and not (setting.name == "initial" and (decided.initial_groups or decided.full))
    ]
    arguments += [*words(settings, decided, int, float, str, epochs, Path), *words(settings, decided, bool)]
    parameters = changed_parameters(decided)
    arguments += ["-set", *parameters] if parameters else []
    arguments += ["-groups", PARTICIPANTS] if decided.group_by else []
    return arguments + words(settings, decided, tuple, dict)


def changed_parameters(decided: Decisions) -> list[str]:
    """Return the recipe's parameters that differ from the strategy's defaults, as ``name=value``."""
    try:
        own = catalog.get(decided.recipe.name).parameters
    except StrategyError:  # of a package that is not here
        own = {}
    return [
        f"{name}={value}"
        for name, value in decided.recipe.parameters.items()
        if value is not None and own.get(name) != value
    ]


def _together(seeds_of_fold: dict[int, list[int]]) -> dict[tuple[int, ...], list[int]]:
    """Group folds that have the same seeds."""
    folds: dict[tuple[int, ...], list[int]] = {}
    for fold, seeds in seeds_of_fold.items():
        folds.setdefault(tuple(sorted(seeds)), []).append(fold)
    return folds


def _lines(arguments: Sequence[str], rounds: int, folds: Sequence[int], seeds: Sequence[int]) -> str:
    loops, values = [], []
    for option, name, numbers in (("-f", "fold", folds), ("-seed", "seed", seeds), ("-round", "round", range(rounds))):
        if len(numbers) > 1:
            loops.append(f"for {name} in {' '.join(map(str, numbers))}; do")
            values += [option, f'"${name}"']
        elif numbers:
            values += [option, str(numbers[0])]
    words = [*map(shlex.quote, arguments), *values]
    # an option and its values stay on one line
    starts = [index for index, word in enumerate(words) if re.match("--?[a-z]", word)]
    options = [" ".join(words[here:there]) for here, there in zip(starts, [*starts[1:], len(words)], strict=True)]
    indent = "  " if loops else ""
    filled = wrap(
        " ".join(option.replace(" ", _HELD) for option in options),
        _WIDTH,
        initial_indent=f"{indent}nnUNetv2_al_round ",
        subsequent_indent=f"{indent}  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    command = " \\\n".join(filled).replace(_HELD, " ")
    return f"{' '.join(loops)}\n{command}\n{'; '.join(['done'] * len(loops))}" if loops else command


def _campaigns(some: Sequence[Run], runs: Sequence[Run]) -> str:
    return "All campaigns" if len(some) == len(runs) > 1 else "; ".join(run.name for run in some)
