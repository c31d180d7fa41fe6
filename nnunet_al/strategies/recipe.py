"""A recipe: the map, reduction, weighting, posterior, embedding, noise and selector of a strategy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from types import MappingProxyType
from typing import Any

from nnunet_al.errors import StrategyError
from nnunet_al.strategies import registry
from nnunet_al.strategies.ingredients import EMBEDDINGS, LOSS_MODULE, QUERY, SAMPLING
from nnunet_al.strategies.kinds import Needs
from nnunet_al.strategies.metrics import CLASS_SCORES


@dataclass(frozen=True)
class Recipe:
    """A complete strategy, as it is written into ``campaign.json``.

    A recipe is plain data: ``compatibility.checked`` refuses incompatible ingredients and completes the parameters, and
    all recipes that the functions of this package return have passed it.

    Attributes
    ----------
    name, summary, paper : str
        its name, a description in one sentence, its source.
    selector : str
        from scores or embeddings to a batch (``selectors.SELECTORS``).
    metric : str or None
        voxel map (``metrics.METRICS``); None for strategies that need no score.
    reduction : str or None
        from voxels to a region's score (``ingredients.REDUCTIONS``); given with ``metric``, except that the selector
        ``selective`` has two built in.
    posterior : str
        source of probabilities (``ingredients.POSTERIORS``); ``"none"``: no model.
    embedding : str or None
        vectors for selectors that compare regions (``ingredients.EMBEDDINGS``).
    noise : str or None
        randomness in the ranking (``ingredients.NOISES``).
    weighting : str or None
        factor of each group's scores (``ingredients.WEIGHTINGS``).
    parameters : mapping
        read-only; all parameters of these ingredients.
    """

    name: str
    summary: str
    paper: str
    selector: str
    metric: str | None = None
    reduction: str | None = None
    posterior: str = "none"
    embedding: str | None = None
    noise: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict, hash=False)
    weighting: str | None = None

    def __post_init__(self) -> None:
        """Make the parameters read-only."""
        object.__setattr__(self, "parameters", MappingProxyType(dict(self.parameters)))

    @property
    def ingredients(self) -> tuple[str | None, ...]:
        """The ingredients that may take parameters; with them the query set and the loss module, if there are such."""
        query = QUERY if self.draws_query else None
        metric = None if self.metric is None else registry.metric(self.metric)
        module = LOSS_MODULE if metric is not None and metric.learned else None
        kinds = (self.posterior, module, self.reduction, self.weighting, self.embedding, self.noise)
        return (*kinds, query, self.selector)

    @property
    def schedule(self) -> str:
        """What changes over the planned rounds, such as "beta from 1.0 to 100.0"; empty if nothing does."""
        end = self.parameters.get("beta_end")
        return "" if end is None else f"beta from {self.parameters['beta']} to {end}"

    @property
    def draws_query(self) -> bool:
        """Whether a query set is drawn: for the selector, or for the Fisher information, averaged over it."""
        return self.needs.query or self.embedding == "fisher"

    @property
    def needs(self) -> Needs:
        """The inputs of the selector."""
        selector = registry.selector(self.selector)
        assert selector is not None
        return selector.needs

    @property
    def passes(self) -> int:
        """Forward passes over each region in scoring: samples, members of the ensemble, 1 or 0."""
        if self.posterior in SAMPLING:
            return int(self.parameters["members" if self.posterior == "ensemble" else "passes"])
        return 0 if self.posterior == "none" else 1

    @property
    def trainer(self) -> str | None:
        """The trainer that its models need; None: the campaign's default."""
        metric = None if self.metric is None else registry.metric(self.metric)
        return metric.trainer if metric is not None else None

    @property
    def spelling(self) -> str:
        """The ingredients in the order in which they act: ``"mc_dropout > bald > mean > power > top_k"``."""
        kinds = ("posterior", "metric", "reduction", "weighting", "embedding", "noise", "selector")
        return " > ".join(name for kind in kinds if (name := getattr(self, kind)) not in (None, "none"))

    def measures(self) -> dict[str, tuple[str, str]]:
        """Return the measures of the scoring pass: field of ``Candidates`` (without ``_N``) -> (map, reduction)."""
        needs, measures = self.needs, {}
        if self.metric is not None and needs.scores:
            measures["scores"] = (self.metric, str(self.reduction))
        if self.metric is not None and needs.pair:
            measures["target_scores"] = (self.metric, "target")
            measures["boundary_scores"] = (self.metric, "boundary")
            measures["mean_scores"] = (self.metric, "mean")
        if needs.class_scores:
            measures["class_scores"] = CLASS_SCORES
        return measures

    def phases(self) -> tuple[str, ...]:
        """Return the phases before selection: none, or ``"score"``, then ``"weigh"``, ``"fisher"``, ``"embed"``.

        All are passes over the pool, except ``"weigh"``, which predicts the annotated cases. Strategies without a
        metric are scored too: that pass finds the predicted foreground and fixes the candidates.
        """
        if self.posterior == "none":
            return ()
        weigh = ("weigh",) if self.weighting else ()
        return ("score", *weigh, *(EMBEDDINGS[self.embedding].phases if self.embedding else ()))

    def to_json(self) -> dict[str, Any]:
        """Return the recipe as a JSON object."""
        content = {item.name: getattr(self, item.name) for item in fields(self)}
        return {**content, "parameters": dict(self.parameters)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Recipe:
        """Rebuild a recipe from ``to_json``; fields added since the file was written get their defaults.

        Raises StrategyError if a field is missing or unknown, as in a recipe of another version.
        """
        known = {item.name for item in fields(cls)}
        needed = {item.name for item in fields(cls) if item.default is item.default_factory is MISSING}
        odd = (set(content) - known) | (needed - set(content))
        if odd:
            raise StrategyError(
                f"The recipe of the strategy '{content.get('name')}' was written by another version of nnunet-al "
                f"(missing or unknown: {', '.join(sorted(odd))}): continue with that version, or start a new campaign."
            )
        return cls(**content)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle through JSON, because read-only mappings cannot be pickled and workers get recipes."""
        return Recipe.from_json, (self.to_json(),)
