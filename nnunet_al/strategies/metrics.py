"""The built-in metrics: a new one is an entry here and its function in ``scoring.maps``."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from nnunet_al.strategies.kinds import Metric
from nnunet_al.strategies.registry import register

_MAPS = "nnunet_al.scoring.maps"
METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "entropy": Metric(f"{_MAPS}:entropy", "predictive entropy", "Shannon 1948"),
        "least_confidence": Metric(
            f"{_MAPS}:least_confidence",
            "lack of confidence (1 minus the largest class probability)",
            "Lewis and Gale 1994",
        ),
        "margin": Metric(
            f"{_MAPS}:margin",
            "margin uncertainty (1 minus the difference of the two largest class probabilities)",
            "Scheffer et al. 2001",
        ),
        "mc_dropout": Metric(
            f"{_MAPS}:mc_dropout", "predictive entropy", "Gal and Ghahramani 2016", needs_samples=True
        ),
        "mean_std": Metric(
            f"{_MAPS}:mean_std",
            "standard deviation of the class probabilities",
            "Kendall et al. 2017",
            needs_samples=True,
        ),
        "bald": Metric(
            f"{_MAPS}:bald",
            "mutual information between prediction and model (BALD)",
            "Gal et al. 2017",
            needs_samples=True,
        ),
        "class_variance": Metric(
            f"{_MAPS}:class_variance",
            "variance of each class probability",
            "Föllmer et al. 2024, appendix A",
            needs_samples=True,
            per_class=True,
        ),
        "learning_loss": Metric(
            None,
            "loss as predicted by the network's loss module",
            "Yoo and Kweon 2019",
            trainer="nnUNetTrainerALLearningLoss",
        ),
    }
)
# other names of one function: the Jensen-Shannon divergence of equally weighted samples is their mutual information
METRIC_ALIASES: Mapping[str, str] = MappingProxyType({"jsd": "bald"})
# map and reduction of the scores by which class_balanced ranks each class, besides the entropy of all classes
CLASS_SCORES = ("class_entropy", "class_means")
CLASS_ENTROPY = Metric(f"{_MAPS}:class_entropy", per_class=True, listed=False)
ENTROPIES = ("entropy", "mc_dropout")

for _name, _metric in (*METRICS.items(), (CLASS_SCORES[0], CLASS_ENTROPY)):
    register(_name, _metric)
