"""Time of each strategy from a trained model to a batch (Gaillochet et al. 2023, Table 2).

The methods of Föllmer et al. 2024 are included.
"""

from __future__ import annotations

from setting import Setting, make_parser, report

from nnunet_al.strategies import catalog

STRATEGIES = (
    "random",
    "entropy",
    "entropy+stochastic_batches",
    "bald",
    "bald+stochastic_batches",
    "tta",
    "tta+stochastic_batches",
    "learning_loss",
    "learning_loss+stochastic_batches",
    "selective",
    "core_set",
    "badge",
    "kmeans_bald",
    "clasp_pe",
    "usimc",
    "usimf",
)


def main() -> None:
    arguments = make_parser(__doc__, STRATEGIES).parse_args()
    setting = Setting.of(arguments)
    base = setting.trained_round()
    measured = []
    for name in arguments.s:
        recipe = catalog.get(name)
        context, seconds = setting.select(base, recipe)
        scoring = sum(value for stage, value in seconds.items() if stage.startswith("score"))
        choosing = seconds["select"]
        embedding = sum(seconds.values()) - scoring - choosing
        measured.append(
            {"strategy": name, "scoring_s": scoring, "embedding_s": embedding, "selecting_s": choosing}
            | {"total_s": sum(seconds.values()), "passes": recipe.passes}
        )
    pool = len(context.regions)
    rows = [
        [f"`{one['strategy']}`", str(one["passes"])]
        + [f"{one[key]:.1f}" for key in ("scoring_s", "embedding_s", "selecting_s", "total_s")]
        + [f"{1000 * one['total_s'] / pool:.1f}"]
        for one in measured
    ]
    head = ["strategy", "passes", "scoring (s)", "embedding (s)", "selecting (s)", "total (s)", "s per 1000 regions"]
    numbers = {"regions": pool, "budget": setting.budget, "strategies": measured}
    report(arguments, "selection_time", head, rows, numbers)


if __name__ == "__main__":
    main()
