"""Campaigns with their rounds, as JSON for scripts and as tables for people."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nnunet_al.campaign.commits import CLOSED, DATASET, CostSoFar, asked_regions, read_commits
from nnunet_al.campaign.decisions import Decisions
from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.campaign.progress import CampaignProgress
from nnunet_al.campaign.results import delta_absent_as_1, four_digits
from nnunet_al.campaign.stages import HAND_OUT_STAGE
from nnunet_al.files import read_json
from nnunet_al.pool.boxes import Region

_METRICS = ("foreground_mean", "mean", "groups")
_IN_WORDS = {  # state of a round -> what the table says of it
    "complete": "",
    "annotated": "  (annotated; the next call of nnUNetv2_al_round goes on)",
    "closed": "  (closed; the next call of nnUNetv2_al_round goes on)",
    "waits for readers": "  (waits for readers: {waits_for})",
    "under way": "  (not complete)",
}


def campaign_overview(folder: CampaignFolder) -> dict[str, Any]:
    """Return one campaign and its rounds as plain JSON.

    ``stage`` names the last stage that is complete, with its round; ``state`` is "complete", "annotated" or "closed" if
    the next call completes the round, "waits for readers", or "under way"; ``annotated`` counts the regions annotated
    up to the end of a round, ``waits_for`` those of its batch that readers have not annotated yet, ``cost`` is that of
    all annotation up to then, and ``metrics`` belong to the model that the round trained, before its batch was
    annotated.
    """
    decided = Decisions.load(folder.decisions)
    progress, commits = CampaignProgress(folder.root), read_commits(folder.ledger)
    answered = {region for commit in commits if commit.counts for region in commit.regions}
    closed = {commit.round for commit in commits if commit.source == CLOSED}
    pool, annotated = set(decided.pool_cases), set[Region]()
    cost = CostSoFar(decided.withdrawn_cases)
    later = sorted(commits, key=lambda commit: (-commit.round, -commit.number))  # the next one is the last
    rounds = []
    for round_ in progress.rounds:
        batch = read_json(round_.batch)["regions"] if round_.batch.is_file() else []
        done = progress.is_complete(round_.number)
        regions = {region for region in asked_regions(round_) if region.case in pool} if batch else set()
        handed_out = decided.annotate and HAND_OUT_STAGE in progress.markers(round_.number)
        left = len(regions - answered) if handed_out else 0
        waits_for = 0 if round_.number in closed else left
        if done or decided.annotate:
            annotated |= regions & answered
        while later and later[-1].round <= round_.number:
            commit = later.pop()
            cost.add(commit)
            if commit.source == DATASET:  # annotated before the campaign: nobody asked for them
                annotated |= {region for region in commit.regions if region.case in pool}
        metrics = read_json(round_.metrics) if round_.metrics.is_file() else None
        rounds.append(
            {
                "round": round_.number,
                "complete": done,
                "state": _state(done, handed_out, left, waits_for),
                "annotated": len(annotated),
                "waits_for": waits_for,
                "cost": cost.total.to_json(),
                "batch": [{key: region[key] for key in ("case", "box", "score")} for region in batch],
                "metrics": metrics and {key: metrics[key] for key in _METRICS if key in metrics},
            }
        )
    return {
        "dataset": decided.dataset,
        "strategy": decided.recipe.name,
        **{name: getattr(decided, name) for name in ("configuration", "unit", "fold", "seed", "tag")},
        "stage": progress.last_stage,
        "pool_cases": len(decided.pool_cases),
        "test_cases": len(decided.test_cases),
        "folder": str(folder.root),
        "rounds": rounds,
    }


def _state(done: bool, handed_out: bool, left: int, waits_for: int) -> str:
    """Return a round's state from whether its batch was handed out, and how many regions are left and waited for."""
    if done or not handed_out:
        return "complete" if done else "under way"
    if waits_for:
        return "waits for readers"
    return "closed" if left else "annotated"


def overview_table(campaigns: list[dict[str, Any]]) -> str:
    """Format overviews of campaigns as a table for a person."""
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
            now = _IN_WORDS[round_["state"]].format(**round_)
            lines.append(
                f"  {round_['round']:>5}  {len(round_['batch']):>5}  {round_['annotated']:>9}  {cost['cases']:>5}  "
                f"{metres:>10}  {hours:>6}  {dice:>6}  {hd95:>8}{now}"
            )
        lines += _group_table(campaign["rounds"])
        lines.append(f"  {campaign['folder']}")
    return "\n".join(lines)


def progress_lines(rows: Iterable[tuple[str, int, int, float | None, str]]) -> list[str]:
    """Return a head and a line for each campaign: its title, last complete round, last round, Dice and state."""
    cells = [("campaign", "round", "Dice", "state")]
    for title, last, rounds, dice, state in rows:
        cells.append((title, f"{last if last >= 0 else '-'} of {rounds}", four_digits(dice, "-"), state))
    widths = [max(len(row[column]) for row in cells) for column in range(3)]
    return [
        f"  {title:<{widths[0]}}  {reached:>{widths[1]}}  {dice:>{widths[2]}}  {state}"
        for title, reached, dice, state in cells
    ]


def _group_table(rounds: list[dict[str, Any]]) -> list[str]:
    """Return a table of Δ, ESSP and each group's Dice and share of the annotated regions; nothing without groups."""
    found = {r["round"]: r["metrics"]["groups"] for r in rounds if r["metrics"] and "groups" in r["metrics"]}
    if not found:
        return []
    names = list(next(iter(found.values()))["by_group"])
    width = max(15, *map(len, names))
    head = "  ".join([*(name.rjust(width) for name in names), f"{'delta*':>6}"])
    lines = [f"  {'round':>5}  {'delta':>6}  {'essp':>6}  {'gap':>6}  {head}"]
    for number, groups in found.items():
        cells = []
        for entry in groups["by_group"].values():
            dice = four_digits(entry["dice"], "-")
            share = "-" if entry["annotated_share"] is None else f"{entry['annotated_share']:.0%}"
            cells.append(f"{dice}  {share:>5}".rjust(width))
        numbers = "  ".join(f"{four_digits(groups[key], '-'):>6}" for key in ("delta", "essp", "largest_gap"))
        cells.append(f"{four_digits(delta_absent_as_1(groups), '-'):>6}")
        lines.append(f"  {number:>5}  {numbers}  {'  '.join(cells)}")
    return [*lines, "  groups: Dice, share of what is annotated; delta*: a class neither there nor predicted is Dice 1"]
