"""Total uncertainty of the batches of each strategy, round by round (Föllmer et al. 2024, figure 5).

Uncert(X_B) = Σ_{x in X_B} Σ_c mean over the region's voxels of the variance of p(c) over the dropout passes, by the
model that the batch was selected with. Each strategy has a separate campaign; all start from the same initial batch.
"""

from __future__ import annotations

import numpy as np
from setting import Setting, make_parser, report

from nnunet_al.files import read_json
from nnunet_al.nnunet.pool_scoring import Measure, Scorer
from nnunet_al.pool.boxes import Region, as_box
from nnunet_al.pool.table import by_case
from nnunet_al.rounds.context import RoundContext
from nnunet_al.rounds.round import do_round
from nnunet_al.rounds.round_model import load_round_model, window_pool
from nnunet_al.scoring.dropout import insert_dropout
from nnunet_al.scoring.maps import class_variance
from nnunet_al.scoring.reductions import make_reduction
from nnunet_al.scoring.samplers import DropoutSampler

STRATEGIES = ("random", "entropy", "mean_std", "bald", "core_set", "badge", "stochastic_batches", "usimc", "usimf")
PASSES = 10


def uncertainty_of_batch(context: RoundContext) -> float:
    """Return Uncert(X_B) of the batch that the round selected."""
    number_of = {region: number for number, region in enumerate(context.regions)}
    batch = read_json(context.round.batch)["regions"]
    numbers = [number_of[Region(entry["case"], as_box(entry["box"]))] for entry in batch]
    plan, network, device = load_round_model(context, context.checkpoint(context.round))
    insert_dropout(network, where=context.decided.dropout)
    sampler = DropoutSampler(network, plan.exclusive, PASSES, context.rng("dropout"))
    reduction = make_reduction("class_means", {}, context.configuration["spacing"])
    measures = {"variance": Measure(class_variance, reduction)}
    options = context.options
    scorer = Scorer(sampler, plan.exclusive, measures, device, options.scoring_batch_size, options.workers)
    found = scorer.run(window_pool(context), by_case(context.regions, numbers))
    return float(np.sum(reduction.finish(found.stats["variance"])))


def main() -> None:
    parser = make_parser(__doc__, STRATEGIES)
    parser.add_argument("-rounds", type=int, help="rounds with a model (default: 5, with --quick 2)")
    arguments = parser.parse_args()
    setting = Setting.of(arguments)
    rounds = arguments.rounds or (2 if arguments.quick else 5)
    measured = []
    for name in arguments.s:
        found, dice = [], []
        with setting.environment():
            for number in range(rounds + 1):
                do_round(setting.roots, setting.request(name, trainer=None), setting.options, number)
                if number == 0:
                    continue
                context = setting.context(setting.campaign(name), number)
                found.append(uncertainty_of_batch(context))
                dice.append(read_json(context.round.metrics)["foreground_mean"]["dice"])
        measured.append({"strategy": name, "uncertainty": found, "dice": dice})
        rows = [[f"`{one['strategy']}`", *(f"{value:.3f}" for value in one["uncertainty"])] for one in measured]
        head = ["strategy", *(f"round {number}" for number in range(1, rounds + 1))]
        numbers = {"budget": setting.budget, "passes": PASSES, "strategies": measured}
        report(arguments, "batch_uncertainty", head, rows, numbers)  # after each strategy, because each takes hours


if __name__ == "__main__":
    main()
