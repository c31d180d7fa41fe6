"""Quality of segmentations, fairness between groups of cases, and comparison of learning curves.

Pure functions of label maps and numbers. Public are:

* cases: `dice_per_class`, `hd95`, `evaluate_case`, `summarise`
* groups: `read_groups` (a table as in BIDS), `group_metrics` (Δ, ESSP, largest gap), `bootstrap_intervals`,
  `fairness_report`, `paired_difference`
* learning curves: `as_curve`, `area_under_curve`, `budget_to_reach`, `mean_and_interval`, `penalty_matrix`
* types of results: `GroupMetrics`, `PenaltyMatrix`

>>> import numpy as np
>>> from nnunet_al.evaluation import dice_per_class, group_metrics
>>> dice_per_class(np.array([0, 1, 1, 2]), np.array([0, 1, 2, 2]), classes=[1, 2]).round(3).tolist()
[0.667, 0.667]
>>> found = group_metrics([0.9, 0.8, 0.7, 0.6], ["F", "F", "M", "M"])
>>> round(found.delta, 3), round(found.essp, 3)
(0.2, 0.625)
"""

from typing import TYPE_CHECKING

from nnunet_al.lazy import publish

if TYPE_CHECKING:
    from nnunet_al.evaluation.budget import (
        area_under_curve as area_under_curve,
        as_curve as as_curve,
        budget_to_reach as budget_to_reach,
        mean_and_interval as mean_and_interval,
    )
    from nnunet_al.evaluation.case_metrics import evaluate_case as evaluate_case, summarise as summarise
    from nnunet_al.evaluation.dice import dice_per_class as dice_per_class
    from nnunet_al.evaluation.fairness import (
        GroupMetrics as GroupMetrics,
        bootstrap_intervals as bootstrap_intervals,
        fairness_report as fairness_report,
        group_metrics as group_metrics,
        paired_difference as paired_difference,
    )
    from nnunet_al.evaluation.groups import read_groups as read_groups
    from nnunet_al.evaluation.penalty import PenaltyMatrix as PenaltyMatrix, penalty_matrix as penalty_matrix
    from nnunet_al.evaluation.surface import hd95 as hd95

publish(
    __name__,
    {
        "budget": ("area_under_curve", "as_curve", "budget_to_reach", "mean_and_interval"),
        "case_metrics": ("evaluate_case", "summarise"),
        "dice": ("dice_per_class",),
        "fairness": ("GroupMetrics", "bootstrap_intervals", "fairness_report", "group_metrics", "paired_difference"),
        "groups": ("read_groups",),
        "penalty": ("PenaltyMatrix", "penalty_matrix"),
        "surface": ("hd95",),
    },
)
