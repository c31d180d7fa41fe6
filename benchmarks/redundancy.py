"""Share of a batch taken by one case whose regions exist a hundred times (Föllmer et al. 2024, appendix E).

After the initial round every region of one case is duplicated; the copies have its scores and its embeddings. A
strategy that uses uncertainty alone spends its budget on copies; a strategy that covers the pool does not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from setting import Setting, candidates_of, make_parser, report

from nnunet_al.cli.settings import recipe_parameters
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


def measure(setting: Setting, base: RoundContext, recipe: Recipe, case: str, copies: int, seeds: int) -> dict[str, Any]:
    """Return the share of a duplicated case in a strategy's batches, one per seed."""
    context, _ = setting.select(base, recipe)
    candidates, _ = candidates_of(context)
    redundant = Redundant.of(np.asarray(candidates.cases_N), case, copies)
    if recipe.embedding == "fisher":
        batches = usimf_batches(setting, context, recipe, redundant, seeds)
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
    parser.add_argument("-copies", type=int, default=100)
    parser.add_argument("-query_size", type=int, default=1000, help="draws of the query set")
    parser.add_argument("-seeds", type=int, default=5, help="selections per strategy")
    arguments = parser.parse_args()
    setting = Setting.of(arguments)
    base = setting.trained_round()

    cases = arguments.case or chosen_cases(setting, base)
    measured, rows = [], []
    for name in arguments.s:
        spelling, *settings = name.split(",")
        recipe = catalog.with_parameters(catalog.get(spelling), **recipe_parameters(settings))
        if "query_size" in recipe.parameters:
            recipe = catalog.with_parameters(recipe, query_size=arguments.query_size)
        found = [measure(setting, base, recipe, case, arguments.copies, arguments.seeds) for case in cases]
        measured.append({"strategy": name, "cases": found})
        cells = [
            f"{np.mean(one['shares']):.0%} ({min(one['shares']):.0%} to {max(one['shares']):.0%}), "
            f"{np.mean(one['distinct_regions']):.0f} distinct"
            for one in found
        ]
        rows.append([f"`{name}`", *cells])
    head = ["strategy", *(f"{one['case']} ({one['share_of_pool']:.0%} of the pool)" for one in found)]
    report(arguments, "redundancy", head, rows, {"copies": arguments.copies, "strategies": measured})


if __name__ == "__main__":
    main()
