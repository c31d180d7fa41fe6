from .budget import (
    area_under_curve as area_under_curve,
    as_curve as as_curve,
    budget_to_reach as budget_to_reach,
    mean_and_interval as mean_and_interval,
)
from .case_metrics import evaluate_case as evaluate_case, summarise as summarise
from .dice import dice_per_class as dice_per_class
from .fairness import (
    GroupMetrics as GroupMetrics,
    bootstrap_intervals as bootstrap_intervals,
    fairness_report as fairness_report,
    group_metrics as group_metrics,
    paired_difference as paired_difference,
)
from .groups import read_groups as read_groups
from .penalty import PenaltyMatrix as PenaltyMatrix, penalty_matrix as penalty_matrix
from .permutation import paired_permutation_test as paired_permutation_test
from .surface import hd95 as hd95
