"""Notice when a round starts, not after its training, what has changed or gone since the last one."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from nnunet_al.campaign.stage_markers import is_as_left, read_marker
from nnunet_al.campaign.stages import FINAL_STAGE, TRAIN, is_done
from nnunet_al.errors import CampaignError
from nnunet_al.files import read_json, write_json
from nnunet_al.rounds.context import RoundContext
from nnunet_al.terminal import say
from nnunet_al.text import first_names

_PACKAGES = ("nnunetv2", "torch", "nnunet-al")
_NAMED = 5


def check_before_work(context: RoundContext) -> None:
    """Check all that the round needs and cannot make itself: the ledger, labels of test cases, the model before.

    Raises CampaignError naming what is gone or damaged.
    """
    say_versions(context)
    _check_ledger(context)
    if context.number and not is_done(context.round.stages, TRAIN):
        _check_tests(context)
        _check_model_before(context)


def say_versions(context: RoundContext) -> None:
    """Say once that another version of nnU-Net, torch or this package does this round than did the rounds before."""
    file = context.folder.root / "versions.json"
    now = {name: _version(name) for name in _PACKAGES}
    try:
        before = dict(read_json(file))
    except (OSError, ValueError, TypeError):
        before = now if context.number else {}
        if context.number:
            write_json(file, now)
    if before == now:
        return
    for name in (name for name in now if name in before and before[name] != now[name]):
        say(f"  {name} is {now[name]}; the rounds before were done with {before[name]}")
    write_json(file, now)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # run from its sources
        return "unknown"


def _check_ledger(context: RoundContext) -> None:
    for earlier in context.folder.rounds():
        if earlier.number >= context.number:
            continue
        marker = read_marker(earlier.stages, FINAL_STAGE)
        for relative in () if marker is None else marker.files:
            entry = earlier.root / relative
            if not is_as_left(earlier.stages, FINAL_STAGE, entry):
                raise CampaignError(
                    f"The ledger's entry {entry.resolve()} is gone or not as round {earlier.number} left it: restore "
                    "it from a backup."
                )
    pool = {*context.decided.pool_cases}  # of cases that were withdrawn nothing is opened again
    for commit in context.ledger.commits():
        for case in commit.labels.keys() & pool if commit.counts else ():
            if not (file := context.ledger.label_file(commit.number, case)).is_file():
                raise CampaignError(
                    f"The label volume {file} of the ledger is missing: restore it from a backup, since the campaign "
                    "cannot go on without it."
                )


def _check_tests(context: RoundContext) -> None:
    facts = context.data.test_facts
    without = [case for case in context.decided.test_cases if facts[case].label_hash is None]
    if without:
        raise CampaignError(
            f"The label of {first_names(without, _NAMED)}, on which {context.folder.root} tests its models, is gone: "
            "put it back, or take the case out with nnUNetv2_al_pool -withdraw."
        )


def _check_model_before(context: RoundContext) -> None:
    from nnunet_al.rounds.stages.train import initial_weights  # loads torch

    for fold in (context.decided.fold, *context.member_folds):
        initial_weights(context, fold)
