"""Stage `evaluate`: the round's model on the test cases."""

from __future__ import annotations

import json

import numpy as np

from nnunet_al.campaign.results import write_results
from nnunet_al.files import hash_json, write_arrays, write_json
from nnunet_al.nnunet.devices import arithmetic
from nnunet_al.rounds import shards
from nnunet_al.rounds.context import RoundContext
from nnunet_al.rounds.evaluation import Cases, evaluate_checkpoint, trained_on
from nnunet_al.terminal import say
from nnunet_al.text import count

_VERSION = 2  # of the metrics of a case: raise it when the same inputs would give others


def evaluate(context: RoundContext) -> None:
    """Measure the model on the test cases, whose labels touch nothing else.

    Cases that a call before has measured are taken over. Without test cases only the training data is written down.
    """
    checkpoint = context.checkpoint(context.round)
    if not context.decided.test_cases:
        write_json(context.round.metrics, trained_on(context, checkpoint))
        say("    the campaign has no test cases")
        return
    part, identity = context.round.parts / "evaluated.npz", _made_by(context)
    found = shards.read_part(part, identity)
    before: Cases = {} if found is None else json.loads(str(found["cases"]))
    if before:
        say(f"    {count(len(before), 'test case')} of {len(context.decided.test_cases)} measured before")

    def write(cases: Cases) -> None:
        write_arrays(part, cases=np.array(json.dumps(cases)), made_by=np.array(identity))

    metrics = evaluate_checkpoint(context, checkpoint, before=before, save_partial=shards.NowAndThen(write))
    write_json(context.round.metrics, metrics)
    part.unlink(missing_ok=True)
    write_results(context.folder)
    mean = metrics["foreground_mean"]
    say(f"    Dice {mean['dice']:.4f}, HD95 {mean['hd95_mm']:.2f} mm on {len(metrics['cases'])} test cases")


def _made_by(context: RoundContext) -> str:
    """Return a hash of all that the metrics of a case depend on, the labels of the test cases among them."""
    decided, facts = context.decided, context.data.test_facts
    labels = {case: facts[case].label_hash for case in decided.test_cases}
    model = shards.made_by(context, context.checkpoint(context.round))
    return hash_json([_VERSION, model, decided.disable_tta, arithmetic(context.options.device), labels])
