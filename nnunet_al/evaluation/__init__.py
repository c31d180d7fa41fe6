"""Quality of segmentations, fairness between groups of cases, and comparison of learning curves.

Pure functions of label maps and numbers. Public are:

* cases: `dice_per_class`, `hd95`, `evaluate_case`, `summarise`
* groups: `read_groups` (a table as in BIDS), `group_metrics` (Δ, ESSP, largest gap), `bootstrap_intervals`,
  `fairness_report`, `paired_difference`
* learning curves: `as_curve`, `area_under_curve`, `budget_to_reach`, `mean_and_interval`, `penalty_matrix`,
  `paired_permutation_test`
* types of results: `GroupMetrics`, `PenaltyMatrix`

>>> import numpy as np
>>> from nnunet_al.evaluation import dice_per_class, group_metrics
>>> dice_per_class(np.array([0, 1, 1, 2]), np.array([0, 1, 2, 2]), classes=[1, 2]).round(3).tolist()
[0.667, 0.667]
>>> found = group_metrics([0.9, 0.8, 0.7, 0.6], ["F", "F", "M", "M"])
>>> round(found.delta, 3), round(found.essp, 3)
(0.2, 0.625)
"""

from nnunet_al.lazy import publish

publish(__name__)
