"""Tables of the evidence: batches, correlations, maps of embeddings, redundancy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nnunet_al.report.evidence.embedding_map import ROLES
from nnunet_al.report.evidence.error_vs_uncertainty import correlation
from nnunet_al.report.evidence.record import Evidence
from nnunet_al.report.tables.table import Table

Found = Sequence[tuple[dict[str, Any], Evidence]]
"""The columns that name a campaign (``all_tables.identity``), and its evidence."""


def evidence_tables(found: Found) -> list[Table]:
    """Return all tables of the evidence, in the order of the report."""
    makers = (batches, correlations, pool_correlations, pool_samples, map_points, map_counts, redundancies)
    return [make(found) for make in makers]


def batches(found: Found) -> Table:
    """Return one row per region of the batches, with uncertainty and error."""
    rows = [
        {**identity, "round": evidence.round, **vars(entry), "region": entry.region.name}
        for identity, evidence in found
        for entry in evidence.batch
    ]
    return Table(
        "batches",
        "The regions of the batches: case and box (raw voxels), the strategy's score, mean predictive entropy (nats), "
        "error (1 - Dice), share of misclassified voxels, the number of newly annotated voxels that both are computed "
        "on, and whether there is any foreground in annotation or prediction.",
        rows,
    )


def correlations(found: Found) -> Table:
    """Return the rank correlations of uncertainty and error."""
    rows = []
    for identity, evidence in found:
        dice, voxels = correlation(evidence.batch), correlation(evidence.batch, "misclassified")
        remark = "; ".join(dict.fromkeys(why for why in (dice.why, voxels.why) if why))
        rows.append(
            {**identity, "round": evidence.round, "regions": dice.n}
            | {"background_only": sum(entry.error is not None and not entry.foreground for entry in evidence.batch)}
            | {"rho_error": dice.rho, "rho_misclassified": voxels.rho, "remark": remark}
        )
    return Table(
        "error_vs_uncertainty",
        "Spearman's rank correlation of a region's mean predictive entropy with its error (1 - Dice) and with its "
        "share of misclassified voxels, over the newly annotated regions of one batch.",
        rows,
    )


def pool_correlations(found: Found) -> Table:
    """Return the rank correlations of uncertainty and error over the random parts of the pools."""
    rows: list[dict[str, Any]] = []
    for identity, evidence in found:
        if evidence.pool:
            rows.append({**identity, "round": evidence.round, "regions": len(evidence.pool)})
            for uncertainty in ("entropy", "score"):
                for error in ("misclassified", "error"):
                    rows[-1][f"rho_{uncertainty}_{error}"] = correlation(evidence.pool, error, uncertainty).rho
    return Table(
        "pool_error_vs_uncertainty",
        "Spearman's rank correlation over a random part of the pool: of a region's mean predictive entropy, and of the "
        "strategy's own score, with the share of misclassified voxels and with the error (1 - Dice). A dash: the "
        "strategy has no score for each region, or all values are the same.",
        rows,
    )


def pool_samples(found: Found) -> Table:
    """Return one row per region of the random parts of the pools."""
    rows = [
        {**identity, "round": evidence.round, **{name: of for name, of in vars(entry).items() if name != "rank"}}
        | {"region": entry.region.name}
        for identity, evidence in found
        for entry in evidence.pool
    ]
    return Table(
        "pool_sample",
        "The regions of a random part of the pool, with the columns of the table of batches; all voxels count.",
        rows,
    )


def map_points(found: Found) -> Table:
    """Return one row per region on the maps, with its role and coordinates."""
    rows = [
        {**identity, "round": evidence.round, "region": point.region.name}
        | {"role": point.role, "x": point.x, "y": point.y}
        for identity, evidence in found
        for point in evidence.points
    ]
    return Table("embedding_map", "The regions on the maps of embeddings, with role and coordinates.", rows)


def map_counts(found: Found) -> Table:
    """Return the number of regions with each role, and how many of them are on the map."""
    rows = [
        {**identity, "round": evidence.round}
        | {role: evidence.of_role[role] for role in ROLES}
        | {f"{role}_shown": sum(point.role == role for point in evidence.points) for role in ROLES}
        for identity, evidence in found
    ]
    return Table(
        "embedding_roles",
        "Number of regions by role (in the pool, annotated before, in the query set, in the batch), and how many of "
        "each are on the map.",
        rows,
    )


def redundancies(found: Found) -> Table:
    """Return the redundancy of the batches, beside that of random batches."""
    rows = []
    for identity, evidence in found:
        values = evidence.redundancy
        if values is None:
            continue
        mean, low, high = values["random_similarity"] or (None, None, None)
        rows.append(
            {**identity, "round": evidence.round, "regions": values["regions"], "pool": values["pool"]}
            | {"similarity": values["similarity"], "random_similarity": mean, "random_low": low, "random_high": high}
            | {name: values[name] for name in ("cases", "random_cases", "largest_share", "random_largest_share")}
            | {"voxels_twice": values["voxels_twice"]}
        )
    return Table(
        "redundancy",
        "Batches beside 1000 random batches of the same size from the pool: mean cosine similarity of centred "
        "features (random: mean, 2.5th and 97.5th percentile), number of cases, the largest share of one case, "
        "and the share of the voxels asked for that overlapping regions of the batch ask for twice.",
        rows,
        digits={"random_cases": 1},
    )
