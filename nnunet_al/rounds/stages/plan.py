"""Stage `plan`: the round's plans, which keep the structure of the campaign's first plan."""

from __future__ import annotations

from nnunet_al.campaign.stage_markers import is_as_left
from nnunet_al.errors import CampaignError
from nnunet_al.files import read_json, write_json
from nnunet_al.nnunet.fingerprint import PLACEHOLDER, intensity_drift
from nnunet_al.nnunet.planning import PlannerSettings, plan
from nnunet_al.nnunet.round_view import DIFFERENCE_FILE
from nnunet_al.rounds.context import RoundContext
from nnunet_al.terminal import say

_INTENSITIES = "foreground_intensity_properties_per_channel"


def plan_round(context: RoundContext) -> None:
    """Plan anew, keep the structure of the first plan, and write down the changes of a fresh plan."""
    decided, view = context.decided, context.round.view
    pinned = _pinned_intensities(context)
    settings = PlannerSettings(len(decided.pool_cases), context.first_plans, pinned, decided.update_intensities)
    plan(view, decided.dataset, decided.planner, settings, plans_name=decided.plans, log=context.log("plan"))
    folder = view.preprocessed / decided.dataset
    differences = read_json(folder / DIFFERENCE_FILE)
    write_json(context.round.root / DIFFERENCE_FILE, differences)
    structural = sorted({d["path"] for d in differences if not d["path"].startswith(_INTENSITIES)})
    if structural:
        say(f"    a fresh plan would change {', '.join(structural)}; the campaign keeps what it began with")
    if pinned is not None and not decided.update_intensities:
        fresh = read_json(folder / "dataset_fingerprint.json")[_INTENSITIES]
        for sentence in intensity_drift(pinned, fresh):
            say(f"    {sentence} --update_intensities lets them follow the annotations.")


def _pinned_intensities(context: RoundContext) -> dict | None:
    """Return the statistics of the first annotations with foreground, or None while there were none before.

    Raises CampaignError if they are damaged.
    """
    for earlier in context.folder.rounds():
        file = earlier.view.preprocessed / context.decided.dataset / "dataset_fingerprint.json"
        if 0 < earlier.number < context.number and file.is_file():
            if not is_as_left(earlier.stages, "fingerprint", file):
                raise CampaignError(
                    f"{file}, whose intensities the campaign keeps, is not as round {earlier.number} left it: restore "
                    "it from a backup."
                )
            content = read_json(file)
            if not content.get(PLACEHOLDER):
                intensities: dict = content[_INTENSITIES]
                return intensities
    return None
