"""Stage `evaluate`: the round's model on the test cases."""

from __future__ import annotations

from nnunet_al.campaign.results import write_results
from nnunet_al.files import write_json
from nnunet_al.rounds.context import RoundContext
from nnunet_al.rounds.evaluation import evaluate_checkpoint, trained_on
from nnunet_al.terminal import say


def evaluate(context: RoundContext) -> None:
    """Measure the model on the test cases, whose labels touch nothing else.

    Without test cases only its training data is written down.
    """
    if not context.decided.test_cases:
        write_json(context.round.metrics, trained_on(context, context.checkpoint(context.round)))
        say("    the campaign has no test cases")
        return
    metrics = evaluate_checkpoint(context, context.checkpoint(context.round))
    write_json(context.round.metrics, metrics)
    write_results(context.folder)
    mean = metrics["foreground_mean"]
    say(f"    Dice {mean['dice']:.4f}, HD95 {mean['hd95_mm']:.2f} mm on {len(metrics['cases'])} test cases")
