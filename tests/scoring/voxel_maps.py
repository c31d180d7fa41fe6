"""All voxel maps by the names that recipes and selectors measure them by, aliases among them."""

from __future__ import annotations

from nnunet_al.strategies.metrics import CLASS_ENTROPY, METRIC_ALIASES, METRICS

MAPS = {name: metric for name, metric in METRICS.items() if metric.function is not None}
MAPS |= {alias: METRICS[name] for alias, name in METRIC_ALIASES.items()} | {"class_entropy": CLASS_ENTROPY}
