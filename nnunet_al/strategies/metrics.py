"""The built-in metrics: a new one is an entry in ``metrics.json`` and the function of its name in ``scoring.maps``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType

from nnunet_al.strategies.kinds import Metric
from nnunet_al.strategies.registry import register

_MAPS = "nnunet_al.scoring.maps"
_ENTRIES = json.loads(files(__package__).joinpath("metrics.json").read_text(encoding="utf-8"))
METRICS: Mapping[str, Metric] = MappingProxyType(
    {name: Metric(**{"function": f"{_MAPS}:{name}", **entry}) for name, entry in _ENTRIES.items()}
)
# other names of one function: the Jensen-Shannon divergence of equally weighted samples is their mutual information
METRIC_ALIASES: Mapping[str, str] = MappingProxyType({"jsd": "bald"})
# map and reduction of the scores by which class_balanced ranks each class, besides the entropy of all classes
CLASS_SCORES = ("class_entropy", "class_means")
CLASS_ENTROPY = Metric(f"{_MAPS}:class_entropy", per_class=True, listed=False)
ENTROPIES = ("entropy", "mc_dropout")

for _name, _metric in (*METRICS.items(), (CLASS_SCORES[0], CLASS_ENTROPY)):
    register(_name, _metric)
