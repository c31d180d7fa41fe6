"""Gini impurity of the mean prediction, as a metric and as a strategy."""

from nnunet_al.strategies.own import register_metric
from nnunet_al.strategies.recipe import Recipe


def gini(probs_T_B_C_xyz, exclusive):
    """Return 1 - Σ p̄² or, for sigmoid heads, Σ 2 p̄ (1 - p̄), as B_xyz."""
    mean_B_C_xyz = probs_T_B_C_xyz.float().mean(0)
    return 1 - (mean_B_C_xyz**2).sum(1) if exclusive else (2 * mean_B_C_xyz * (1 - mean_B_C_xyz)).sum(1)


register_metric("gini", gini, phrase="Gini impurity of the mean prediction")
RECIPE = Recipe("gini", "largest mean Gini impurity", "Gini 1912", "top_k", "gini", "mean", "deterministic")
