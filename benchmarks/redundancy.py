"""Share of a batch taken by one case whose regions exist a hundred times (Föllmer et al. 2024, appendix E).

After the initial round every region of one case is duplicated; the copies have its scores and its embeddings. A
strategy that uses uncertainty alone spends its budget on copies; a strategy that covers the pool does not.

With ``-random_cases 10`` that is done for each of ten random cases, and the table holds medians and ranges over them:
of the share, and of the share relative to that of ``query_sampling``, in the paper 18 % / 45 %. ``-redraw 3`` repeats
strategies with ``heads=all`` on models whose untrained heads, of loss weight 0, are drawn anew.

    python benchmarks/redundancy.py -cases 60 -random_cases 10 -redraw 3 -seeds 3 -s query_sampling usimf usimf,eta=0 \\
        usimf,heads=trained usimf,heads=trained,eta=0 usimf,heads=full usimf,heads=full,eta=0
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from setting import Setting, candidates_of, make_parser, report

from nnunet_al.cli.settings import recipe_parameters
from nnunet_al.nnunet.checkpoints import TRAINED_HEADS_KEY
from nnunet_al.rounds.candidates import read_scores, with_embeddings
from nnunet_al.rounds.context import RoundContext
from nnunet_al.rounds.stages.embed import embed_merge, embed_part
from nnunet_al.rounds.stages.fisher import fisher_of_draws
from nnunet_al.seeding import generator
from nnunet_al.strategies import catalog
from nnunet_al.strategies.recipe import Recipe
from nnunet_al.strategies.select import Candidates, draw_query_for, select_batch

# a comma adds a parameter
STRATEGIES = (
    "usimf",
    "usimf,eta=0",
    "usimc",
    "query_sampling",
    "entropy",
    "entropy+stochastic_batches",
    "core_set",
    "badge",
    "bald",
)


@dataclass(frozen=True)
class Redundant:
    """Rows of the original candidates that form the redundant pool, and which of them belong to the case."""

    rows_M: np.ndarray
    duplicated_M: np.ndarray

    @classmethod
    def of(cls, cases_N: np.ndarray, case: str, copies: int) -> Redundant:
        """Repeat the rows of one case ``copies`` times."""
        of_case_N = cases_N == case
        rows_M = np.repeat(np.arange(len(cases_N)), np.where(of_case_N, copies, 1))
        return cls(rows_M, of_case_N[rows_M])

    def apply(self, candidates: Candidates) -> Candidates:
        """Return the redundant pool; each copy has a different name."""
        seen: dict[int, int] = {}
        names_M = []
        for row in self.rows_M.tolist():
            seen[row] = seen.get(row, -1) + 1
            names_M.append(f"{candidates.names_N[row]}, copy {seen[row]}")
        arrays = ("scores_N", "foreground_voxels_N", "embeddings_N_d", "cases_N")
        found = {name: getattr(candidates, name) for name in arrays}
        copied = {name: None if array is None else np.asarray(array)[self.rows_M] for name, array in found.items()}
        return replace(candidates, names_N=names_M, query=None, **copied)


def usimf_batches(
    setting: Setting, context: RoundContext, recipe: Recipe, redundant: Redundant, seeds: int
) -> list[np.ndarray]:
    """Select by USIMF with the redundant pool in all steps: the Fisher information also averages over the copies."""
    candidates, numbers_N = read_scores(context)
    pool = redundant.apply(candidates)
    query = draw_query_for(recipe, pool, setting.budget, context.rng)
    draws = np.repeat(query.indices_Q, query.multiplicities_Q)
    with setting.environment():
        fisher_of_draws(context, numbers_N[redundant.rows_M[draws]])
        embed_part(context)
        embed_merge(context)
    pool = redundant.apply(with_embeddings(context, candidates))
    return [batch_of(recipe, pool, setting.budget, seed) for seed in range(seeds)]


def redraw_untrained_heads(context: RoundContext, base: RoundContext, seed: int) -> None:
    """Give the context a copy of the model whose heads of loss weight 0 are drawn anew, as nnU-Net draws them."""
    results = context.round.view.results
    if results.is_symlink():
        results.unlink()
        shutil.copytree(base.round.view.results.resolve(), results)
    path = context.checkpoint(context.round)
    content = torch.load(path, map_location="cpu", weights_only=False)
    weights = content["network_weights"]
    heads = sum(name.startswith("decoder.seg_layers.") and name.endswith(".weight") for name in weights)
    rng = torch.Generator().manual_seed(seed)
    for untrained in range(heads - content[TRAINED_HEADS_KEY]):  # the lowest resolution comes first
        head = weights[f"decoder.seg_layers.{untrained}.weight"]
        torch.nn.init.kaiming_normal_(head, a=1e-2, generator=rng)
    torch.save(content, path)


def batch_of(recipe: Recipe, pool: Candidates, budget: int, seed: int) -> np.ndarray:
    """Return the rows of the redundant pool that a strategy selects in round 1."""
    return select_batch(recipe, pool, budget, partial(generator, seed, 1)).indices_B


def chosen_cases(setting: Setting, base: RoundContext) -> list[str]:
    """Return the case with the largest mean entropy and the one with the median."""
    candidates, _ = candidates_of(setting.select(base, catalog.get("entropy"))[0])
    cases_N = np.asarray(candidates.cases_N)
    means = {case: float(np.mean(candidates.scores_N[cases_N == case])) for case in sorted(set(candidates.cases_N))}
    ranked = sorted(means, key=means.__getitem__, reverse=True)
    return [ranked[0], ranked[len(ranked) // 2]]


def random_cases(setting: Setting, base: RoundContext, count: int) -> list[str]:
    """Return as many cases of the pool that have candidates, drawn with a fixed seed."""
    known = sorted(set(candidates_of(setting.select(base, catalog.get("entropy"))[0])[0].cases_N))
    return sorted(np.random.default_rng(0).choice(known, min(count, len(known)), replace=False).tolist())


def medians(measured: list[dict[str, Any]]) -> list[list[str]]:
    """Return the rows of a table: median and range over the cases."""
    shares = {one["strategy"]: [float(np.mean(case["shares"])) for case in one["cases"]] for one in measured}
    rows = []
    for one in measured:
        share_C = shares[one["strategy"]]
        relative_C = [a / b for a, b in zip(share_C, shares.get("query_sampling", []), strict=False) if b > 0]
        distinct_C = [float(np.mean(case["distinct_regions"])) for case in one["cases"]]
        columns = ((share_C, "{:.0%}"), (relative_C, "{:.2f}"), (distinct_C, "{:.0f}"))
        rows.append([f"`{one['strategy']}`", *(_median_and_range(values, form) for values, form in columns)])
    return rows


def _median_and_range(values: list[float], form: str) -> str:
    if not values:
        return ""
    median, low, high = (form.format(value) for value in (np.median(values), min(values), max(values)))
    return f"{median} ({low} to {high})"


def measure(
    setting: Setting, base: RoundContext, recipe: Recipe, case: str, copies: int, seeds: int, redraws: int = 0
) -> dict[str, Any]:
    """Return the share of a duplicated case in a strategy's batches, one per seed (and model with new heads)."""
    context, _ = setting.select(base, recipe)
    candidates, _ = candidates_of(context)
    redundant = Redundant.of(np.asarray(candidates.cases_N), case, copies)
    if recipe.embedding == "fisher":
        batches = []
        for redraw in range(redraws) if recipe.parameters["heads"] == "all" and redraws else (None,):
            if redraw is not None:
                redraw_untrained_heads(context, base, redraw)
            batches += usimf_batches(setting, context, recipe, redundant, seeds)
        results = context.round.view.results
        if not results.is_symlink():
            shutil.rmtree(results)
            results.symlink_to(base.round.view.results)
    else:
        pool = redundant.apply(candidates)
        batches = [batch_of(recipe, pool, setting.budget, seed) for seed in range(seeds)]
    return {
        "case": case,
        "share_of_pool": float(redundant.duplicated_M.mean()),
        "shares": [float(redundant.duplicated_M[batch].mean()) for batch in batches],
        "distinct_regions": [len(np.unique(redundant.rows_M[batch])) for batch in batches],
    }


def main() -> None:
    parser = make_parser(__doc__, STRATEGIES)
    parser.add_argument(
        "-case", nargs="+", help="cases to duplicate (default: the most uncertain one, and a median one)"
    )
    parser.add_argument("-random_cases", type=int, metavar="N", help="N random cases instead; medians over them")
    parser.add_argument("-redraw", type=int, default=0, metavar="N", help="models with newly drawn untrained heads")
    parser.add_argument("-copies", type=int, default=100)
    parser.add_argument("-query_size", type=int, default=1000, help="draws of the query set")
    parser.add_argument("-seeds", type=int, default=5, help="selections per strategy")
    arguments = parser.parse_args()
    setting = Setting.of(arguments)
    base = setting.trained_round()

    cases = arguments.case or chosen_cases(setting, base)
    if arguments.random_cases:
        cases = random_cases(setting, base, arguments.random_cases)
    measured, rows = [], []
    for name in arguments.s:
        spelling, *settings = name.split(",")
        recipe = catalog.with_parameters(catalog.get(spelling), **recipe_parameters(settings))
        if "query_size" in recipe.parameters:
            recipe = catalog.with_parameters(recipe, query_size=arguments.query_size)
        found = [
            measure(setting, base, recipe, case, arguments.copies, arguments.seeds, arguments.redraw) for case in cases
        ]
        print(name, *(f"{np.mean(one['shares']):.2f}" for one in found), flush=True)
        measured.append({"strategy": name, "cases": found})
        cells = [
            f"{np.mean(one['shares']):.0%} ({min(one['shares']):.0%} to {max(one['shares']):.0%}), "
            f"{np.mean(one['distinct_regions']):.0f} distinct"
            for one in found
        ]
        rows.append([f"`{name}`", *cells])
    if arguments.random_cases:
        rows, head = (
            medians(measured),
            ["strategy", "share of the batch", "relative to `query_sampling`", "distinct regions"],
        )
        report(arguments, "redundancy", head, rows, {"copies": arguments.copies, "strategies": measured})
        return
    head = ["strategy", *(f"{one['case']} ({one['share_of_pool']:.0%} of the pool)" for one in found)]
    report(arguments, "redundancy", head, rows, {"copies": arguments.copies, "strategies": measured})


if __name__ == "__main__":
    main()
