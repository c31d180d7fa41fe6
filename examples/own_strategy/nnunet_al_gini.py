"""Gini impurity of the mean prediction, as a metric and as a strategy."""

from nnunet_al.strategies.kinds import Metric
from nnunet_al.strategies.recipe import Recipe
from nnunet_al.strategies.registry import register


def gini(probs_T_B_C_xyz, exclusive):
    """Return 1 - Σ p̄² or, for sigmoid heads, Σ 2 p̄ (1 - p̄), as B_xyz."""
    mean_B_C_xyz = probs_T_B_C_xyz.float().mean(0)
    return 1 - (mean_B_C_xyz**2).sum(1) if exclusive else (2 * mean_B_C_xyz * (1 - mean_B_C_xyz)).sum(1)


register("gini", Metric(gini, phrase="Gini impurity of the mean prediction", paper="Gini 1912"))
SUMMARY = "Selects regions with the highest mean Gini impurity."
RECIPE = Recipe("gini", SUMMARY, "Gini 1912", "top_k", "gini", "mean", "deterministic")
