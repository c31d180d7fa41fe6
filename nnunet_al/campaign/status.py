"""Where the campaigns of a dataset stand, for people and for scripts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nnunet_al.campaign.commits import asked_regions, read_commits, total_cost, unanswered_regions
from nnunet_al.campaign.decisions import Decisions
from nnunet_al.campaign.folders import CampaignFolder, RoundFolder
from nnunet_al.campaign.results import four_digits
from nnunet_al.campaign.stages import FINAL_STAGE, STAGE_ORDER, is_done
from nnunet_al.files import read_json
from nnunet_al.pool.boxes import Region

_METRICS = ("foreground_mean", "mean", "groups")


def campaign_status(folder: CampaignFolder) -> dict[str, Any]:
    """Return the state of one campaign as plain JSON.

    ``stage`` names the last stage that is complete, with its round; ``annotated`` counts the regions annotated up to
    the end of a round, ``waits_for`` those of its batch that readers have not annotated yet, ``cost`` is what all
    annotation up to then has cost, and ``metrics`` belong to the model that the round trained, before its batch was
    annotated.
    """
    decided = Decisions.load(folder.decisions)
    commits = read_commits(folder.ledger)
    answered = {region for commit in commits if commit.counts for region in commit.regions}
    asked: set[Region] = set()
    rounds = []
    for round_ in folder.rounds():
        batch = read_json(round_.batch)["regions"] if round_.batch.is_file() else []
        done = is_done(round_.stages, FINAL_STAGE)
        missing = unanswered_regions(round_, commits) if batch and decided.annotate else []
        missing = [region for region in missing if region.case in decided.pool_cases]
        if done or decided.annotate:
            asked |= (
                {region for region in asked_regions(round_) if region.case in decided.pool_cases} if batch else set()
            )
        cost = total_cost((commit for commit in commits if commit.round <= round_.number), decided.withdrawn_cases)
        metrics = read_json(round_.metrics) if round_.metrics.is_file() else None
        rounds.append(
            {
                "round": round_.number,
                "complete": done,
                "annotated": len(asked & answered),
                "waits_for": len(missing),
                "cost": cost.to_json(),
                "batch": [{key: region[key] for key in ("case", "box", "score")} for region in batch],
                "metrics": metrics and {key: metrics[key] for key in _METRICS if key in metrics},
            }
        )
    return {
        "dataset": decided.dataset,
        "strategy": decided.recipe.name,
        "configuration": decided.configuration,
        "unit": decided.unit,
        "fold": decided.fold,
        "seed": decided.seed,
        "tag": decided.tag,
        "stage": last_stage(folder.rounds()),
        "pool_cases": len(decided.pool_cases),
        "test_cases": len(decided.test_cases),
        "folder": str(folder.root),
        "rounds": rounds,
    }


def status_table(campaigns: list[dict[str, Any]]) -> str:
    """Format campaigns as a table for a person."""
    if not campaigns:
        return "No campaign was started on this dataset yet."
    lines = []
    for campaign in campaigns:
        names = [campaign["configuration"], campaign["strategy"], campaign["unit"]]
        tag = f", tag {campaign['tag']}" if campaign["tag"] else ""
        lines.append(
            f"{' '.join(names)}, fold {campaign['fold']}, seed {campaign['seed']}{tag}: {campaign['pool_cases']} cases "
            f"in the pool, {campaign['test_cases']} test cases; {campaign['stage']}"
        )
        head = f"  {'round':>5}  {'batch':>5}  {'annotated':>9}  {'cases':>5}  {'outlines m':>10}  {'hours':>6}"
        lines.append(f"{head}  {'dice':>6}  {'hd95 mm':>8}")
        for round_ in campaign["rounds"]:
            mean = round_["metrics"] and round_["metrics"].get("foreground_mean")
            dice, hd95 = (f"{mean['dice']:.4f}", f"{mean['hd95_mm']:.2f}") if mean else ("-", "-")
            cost = round_["cost"]
            metres = "-" if cost["contour_mm"] is None else f"{cost['contour_mm'] / 1000:.2f}"
            hours = "-" if cost["minutes"] is None else f"{cost['minutes'] / 60:.2f}"
            waits = f"  (waits for readers: {round_['waits_for']})" if round_["waits_for"] else "  (not complete)"
            lines.append(
                f"  {round_['round']:>5}  {len(round_['batch']):>5}  {round_['annotated']:>9}  {cost['cases']:>5}  "
                f"{metres:>10}  {hours:>6}  {dice:>6}  {hd95:>8}" + ("" if round_["complete"] else waits)
            )
        lines += _group_table(campaign["rounds"])
        lines.append(f"  {campaign['folder']}")
    return "\n".join(lines)


def _group_table(rounds: list[dict[str, Any]]) -> list[str]:
    """Return a table of Δ, ESSP and each group's Dice and share of the annotated regions; nothing without groups."""
    found = {r["round"]: r["metrics"]["groups"] for r in rounds if r["metrics"] and "groups" in r["metrics"]}
    if not found:
        return []
    names = list(next(iter(found.values()))["by_group"])
    width = max(15, *map(len, names))
    head = "  ".join(name.rjust(width) for name in names)
    lines = [f"  {'round':>5}  {'delta':>6}  {'essp':>6}  {'gap':>6}  {head}  (Dice, share of what is annotated)"]
    for number, groups in found.items():
        cells = []
        for entry in groups["by_group"].values():
            dice = four_digits(entry["dice"], "-")
            share = "-" if entry["annotated_share"] is None else f"{entry['annotated_share']:.0%}"
            cells.append(f"{dice}  {share:>5}".rjust(width))
        numbers = "  ".join(f"{four_digits(groups[key], '-'):>6}" for key in ("delta", "essp", "largest_gap"))
        lines.append(f"  {number:>5}  {numbers}  {'  '.join(cells)}")
    return lines


def last_stage(rounds: Sequence[RoundFolder]) -> str:
    """Return "round 3: train done" for the last stage that is done, as the stages follow each other in a round."""
    for round_ in reversed(rounds):
        done = [marker.stem for marker in round_.stages.glob("[!.]*.json")]
        if done:
            return f"round {round_.number}: {max(done, key=_place)} done"
    return "begun"


def _place(stage: str) -> tuple[int, bool, str]:
    """Return a key that sorts stages, shards before what puts them together."""
    whole, _, part = stage.partition("_part_")
    return (STAGE_ORDER.index(whole) if whole in STAGE_ORDER else -1, not part, part)
