"""How much of a batch goes to one case whose regions exist a hundred times (paper 4, appendix E).

After the initial round every region of one case is duplicated: the copies have its scores and its embeddings. A
strategy that looks at nothing but uncertainty spends its budget on copies; one that covers the pool does not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from setting import Setting, candidates_of, make_parser, report

from nnunet_al.campaign.context import RoundContext
from nnunet_al.campaign.embedding_stages import embed_merge, embed_part, fisher_of_draws, with_embeddings
from nnunet_al.campaign.scoring_stages import read_scores
from nnunet_al.seeding import generator
from nnunet_al.strategies import catalog
from nnunet_al.strategies.recipe import Recipe
from nnunet_al.strategies.select import Candidates, draw_query_for, select_batch

STRATEGIES = ("usimf", "query_sampling", "entropy", "entropy+stochastic_batches", "core_set", "badge", "bald")


@dataclass(frozen=True)
class Redundant:
    """Rows of the original candidates of which the redundant pool is made, and which of them are the case's."""

    rows_M: np.ndarray
    duplicated_M: np.ndarray

    @classmethod
    def of(cls, cases_N: np.ndarray, case: str, copies: int) -> Redundant:
        """Let the rows of one case stand ``copies`` times."""
        of_case_N = cases_N == case
        rows_M = np.repeat(np.arange(len(cases_N)), np.where(of_case_N, copies, 1))
        return cls(rows_M, of_case_N[rows_M])

    def apply(self, candidates: Candidates) -> Candidates:
        """Return the redundant pool; a copy has a name of its own."""
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
    """USIMF sees the redundant pool from its query set on: the Fisher information is averaged over the copies too."""
    candidates, numbers_N = read_scores(context)
    pool = redundant.apply(candidates)
    query = draw_query_for(recipe, pool, setting.budget, context.rng)
    draws = np.repeat(query.indices_Q, query.multiplicities_Q)
    with setting.at_work():
        fisher_of_draws(context, numbers_N[redundant.rows_M[draws]])
        embed_part(context)
        embed_merge(context)
    pool = redundant.apply(with_embeddings(context, candidates))
    return [batch_of(recipe, pool, setting.budget, seed) for seed in range(seeds)]


def batch_of(recipe: Recipe, pool: Candidates, budget: int, seed: int) -> np.ndarray:
    """Return the rows of the redundant pool that a strategy chooses in round 1."""
    return select_batch(recipe, pool, budget, partial(generator, seed, 1)).indices_B


def main() -> None:
    parser = make_parser(__doc__, STRATEGIES)
    parser.add_argument("-case", help="the case to duplicate (the paper: hippocampus_172; default: the first of it)")
    parser.add_argument("-copies", type=int, default=100)
    parser.add_argument("-query_size", type=int, default=1000, help="draws of the query set")
    parser.add_argument("-seeds", type=int, default=5, help="selections of each strategy")
    arguments = parser.parse_args()
    setting = Setting.of(arguments)
    base = setting.trained_round()

    measured, case, share_of_pool = [], arguments.case, 0.0
    for name in arguments.s:
        recipe = catalog.get(name)
        if "query_size" in recipe.parameters:
            recipe = recipe.with_parameters(query_size=arguments.query_size)
        context, _ = setting.select(base, recipe)
        candidates, _ = candidates_of(context)
        cases_N = np.asarray(candidates.cases_N)
        case = case or ("hippocampus_172" if "hippocampus_172" in cases_N else sorted(set(cases_N))[0])
        redundant = Redundant.of(cases_N, case, arguments.copies)
        share_of_pool = float(redundant.duplicated_M.mean())
        if recipe.embedding == "fisher":
            batches = usimf_batches(setting, context, recipe, redundant, arguments.seeds)
        else:
            pool = redundant.apply(candidates)
            batches = [batch_of(recipe, pool, setting.budget, seed) for seed in range(arguments.seeds)]
        shares = [float(redundant.duplicated_M[batch].mean()) for batch in batches]
        distinct = [len(np.unique(redundant.rows_M[batch])) for batch in batches]
        measured.append({"strategy": name, "shares": shares, "distinct_regions": distinct})
    rows = []
    for one in measured:
        shares, distinct = one["shares"], np.mean(one["distinct_regions"])
        rows.append([f"`{one['strategy']}`", f"{np.mean(shares):.0%}", f"{min(shares):.0%} to {max(shares):.0%}"])
        rows[-1].append(f"{distinct:.0f} of {setting.budget}")
    print(f"{case} makes up {share_of_pool:.0%} of the pool once each of its regions stands {arguments.copies} times.")
    head = ["strategy", "share of the duplicated case in the batch", "over seeds", "distinct regions"]
    numbers = {"case": case, "copies": arguments.copies, "share_of_pool": share_of_pool, "strategies": measured}
    report(arguments, "redundancy", head, rows, numbers)


if __name__ == "__main__":
    main()
