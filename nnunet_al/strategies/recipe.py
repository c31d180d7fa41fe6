"""A recipe: which map, reduction, weighting, posterior, embedding, noise and selector make up a strategy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from types import MappingProxyType
from typing import Any

from nnunet_al.errors import StrategyError
from nnunet_al.strategies import registry
from nnunet_al.strategies.ingredients import EMBEDDINGS, QUERY, SAMPLING
from nnunet_al.strategies.kinds import Needs
from nnunet_al.strategies.metrics import CLASS_SCORES


@dataclass(frozen=True)
class Recipe:
    """A strategy in full, as it is written into ``campaign.json``.

    These are plain data: ``compatibility.checked`` refuses what does not go together and completes the parameters, and
    all that the functions of this package return went through it.

    Attributes
    ----------
    name, summary, paper : str
        what it is called, what it does in one sentence, where it comes from.
    selector : str
        from scores or embeddings to a batch (``selectors.SELECTORS``).
    metric : str or None
        voxel map (``metrics.METRICS``); None for strategies that need no score.
    reduction : str or None
        from voxels to a region's score (``ingredients.REDUCTIONS``); goes with ``metric``, except that the selector
        ``selective`` brings two of its own.
    posterior : str
        where probabilities come from (``ingredients.POSTERIORS``), ``"none"`` where no model is asked.
    embedding : str or None
        vectors for selectors that compare regions (``ingredients.EMBEDDINGS``).
    noise : str or None
        chance in the ranking (``ingredients.NOISES``).
    weighting : str or None
        what each group's scores are multiplied by before anything is chosen by them (``ingredients.WEIGHTINGS``).
    parameters : mapping
        read-only; of all parameters that these ingredients take.
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
        """The ingredients that may take parameters, a query set among them where one is drawn."""
        query = QUERY if self.draws_query else None
        return (self.posterior, self.reduction, self.embedding, self.noise, query, self.selector)

    @property
    def draws_query(self) -> bool:
        """Whether a query set is drawn: for the selector, or for the Fisher information that is averaged over it."""
        return self.needs.query or self.embedding == "fisher"

    @property
    def needs(self) -> Needs:
        """What the selector works on."""
        selector = registry.selector(self.selector)
        assert selector is not None
        return selector.needs

    @property
    def passes(self) -> int:
        """Forward passes over each region while it is scored: samples, members of the ensemble, 1 or 0."""
        if self.posterior in SAMPLING:
            return int(self.parameters["members" if self.posterior == "ensemble" else "passes"])
        return 0 if self.posterior == "none" else 1

    @property
    def trainer(self) -> str | None:
        """The trainer that its models need, where any other than the campaign's default is needed."""
        metric = None if self.metric is None else registry.metric(self.metric)
        return metric.trainer if metric is not None else None

    @property
    def spelling(self) -> str:
        """The ingredients in the order in which they act: ``"mc_dropout > bald > mean > power > top_k"``."""
        posterior = None if self.posterior == "none" else self.posterior
        parts = (
            posterior, self.metric, self.reduction, self.weighting, self.embedding, self.noise, self.selector,
        )  # fmt: skip
        return " > ".join(part for part in parts if part)

    def measures(self) -> dict[str, tuple[str, str]]:
        """Return what the scoring pass computes: field of ``select.Candidates`` (less ``_N``) -> (map, reduction)."""
        needs, measures = self.needs, {}
        if self.metric is not None and needs.scores:
            measures["scores"] = (self.metric, str(self.reduction))
        if self.metric is not None and needs.pair:
            measures["target_scores"] = (self.metric, "target")
            measures["boundary_scores"] = (self.metric, "boundary")
        if needs.class_scores:
            measures["class_scores"] = CLASS_SCORES
        return measures

    def phases(self) -> tuple[str, ...]:
        """Return what comes before selection: nothing, or ``"score"``, then ``"weigh"``, ``"fisher"``, ``"embed"``.

        All are passes over the pool, but ``"weigh"``, which predicts the annotated cases. Strategies without a metric
        are scored too: that pass finds the predicted foreground and fixes the candidates.
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
        """Rebuild a recipe from ``to_json``; fields that are younger than the file get their defaults.

        Raises
        ------
        StrategyError
            if a field is missing or unknown, as in a recipe of another version.
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
        """Pickle by way of JSON, since a read-only mapping cannot be pickled and workers get recipes."""
        return Recipe.from_json, (self.to_json(),)
