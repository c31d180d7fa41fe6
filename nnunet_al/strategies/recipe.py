"""A recipe: which map, reduction, posterior, embedding and selector make up a strategy. Names only, no tensors."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from nnunet_al.errors import StrategyError
from nnunet_al.strategies.parameters import complete

# voxel map: whether it needs samples of the posterior (scoring.maps holds the functions)
METRICS: dict[str, bool] = {
    "entropy": False,
    "least_confidence": False,
    "margin": False,
    "mc_dropout": True,
    "mean_std": True,
    "bald": True,
    "jsd": True,
    "class_variance": True,
}
# maps with one value for each class, and the reductions that such a map needs
PER_CLASS_METRICS = frozenset({"class_variance"})
REDUCTIONS: dict[str, bool] = {"mean": False, "class_weighted": True}
POSTERIORS = ("none", "deterministic", "mc_dropout")
# embedding: the phases that produce it
EMBEDDINGS: dict[str | None, tuple[str, ...]] = {
    None: (),
    "bottleneck_gradient": ("embed",),
    "fisher": ("fisher", "embed"),
}


@dataclass(frozen=True)
class Needs:
    """What a selector works on."""

    scores: bool = False
    foreground: bool = False
    embedding: bool = False


SELECTORS: dict[str, Needs] = {
    "top_k": Needs(scores=True),
    "random": Needs(),
    "random_foreground": Needs(foreground=True),
    "flqmi": Needs(scores=True, embedding=True),
}


@dataclass(frozen=True)
class Recipe:
    """A strategy in full, as it is written into ``campaign.json``.

    Attributes
    ----------
    name, summary, paper : str
        what it is called, what it does in one sentence, where it comes from.
    metric : str or None
        voxel map (``METRICS``); None for strategies that need no score.
    reduction : str or None
        from voxels to a region's score (``REDUCTIONS``); goes with ``metric``.
    posterior : str
        where probabilities come from: ``"mc_dropout"``, ``"deterministic"``, or ``"none"`` where no model is asked.
    embedding : str or None
        gradient embedding (``EMBEDDINGS``) for selectors that compare regions.
    selector : str
        from scores or embeddings to a batch (``SELECTORS``).
    parameters : mapping
        read-only; completed with the defaults of all parameters that these ingredients take.

    Raises
    ------
    StrategyError
        if an ingredient does not exist, does not go with the others, or a parameter does not do.
    """

    name: str
    summary: str
    paper: str
    selector: str
    metric: str | None = None
    reduction: str | None = None
    posterior: str = "none"
    embedding: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        """Check the ingredients and complete the parameters."""
        self._check_names()
        self._check_metric()
        self._check_selector()
        ingredients = (self.posterior, self.embedding, self.selector)
        object.__setattr__(self, "parameters", complete(self.name, ingredients, self.parameters))

    @property
    def needs(self) -> Needs:
        """What the selector works on."""
        return SELECTORS[self.selector]

    @property
    def passes(self) -> int:
        """Forward passes over each region while it is scored."""
        return self.parameters.get("passes", 0 if self.posterior == "none" else 1)

    @property
    def spelling(self) -> str:
        """The ingredients in the order in which they act, for example ``"entropy > mean > top_k"``."""
        return " > ".join(part for part in (self.metric, self.reduction, self.embedding, self.selector) if part)

    def phases(self) -> tuple[str, ...]:
        """Return the passes over the pool before selection: none, ``"score"``, then ``"fisher"``, ``"embed"``."""
        return () if self.posterior == "none" else ("score", *EMBEDDINGS[self.embedding])

    def with_parameters(self, **overrides: Any) -> Recipe:
        """Return the recipe with other parameters.

        Raises
        ------
        StrategyError
            if the strategy has no such parameter, or the value does not do.
        """
        return replace(self, parameters={**self.parameters, **overrides})

    def to_json(self) -> dict[str, Any]:
        """Return the recipe as a JSON object."""
        content = {item.name: getattr(self, item.name) for item in fields(self)}
        return {**content, "parameters": dict(self.parameters)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Recipe:
        """Rebuild a recipe from ``to_json``.

        Raises
        ------
        StrategyError
            if a field is missing or unknown, as in a recipe of another version.
        """
        known = {item.name for item in fields(cls)}
        if set(content) != known:
            odd = ", ".join(sorted(set(content) ^ known))
            raise StrategyError(
                f"The recipe of the strategy '{content.get('name')}' was written by another version of nnunet-al "
                f"(missing or unknown: {odd}): continue with that version, or start a new campaign."
            )
        return cls(**content)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by way of JSON, since a read-only mapping cannot be pickled and workers get recipes."""
        return Recipe.from_json, (self.to_json(),)

    def _check_names(self) -> None:
        self._check_known("posterior", self.posterior, POSTERIORS)
        self._check_known("selector", self.selector, SELECTORS)
        self._check_known("embedding", self.embedding, EMBEDDINGS)
        if self.metric is not None:
            self._check_known("metric", self.metric, METRICS)
            self._check_known("reduction", self.reduction, REDUCTIONS)

    def _check_known(self, kind: str, value: str | None, known: Collection[str | None]) -> None:
        if value not in known:
            names = ", ".join(str(name).lower() for name in known)
            raise StrategyError(f"The strategy '{self.name}' asks for the {kind} '{value}': use one of {names}.")

    def _check_metric(self) -> None:
        if self.metric is None:
            if self.reduction is not None:
                self._refuse(f"has the reduction '{self.reduction}' and no metric to reduce")
            return
        if METRICS[self.metric] and self.posterior in ("none", "deterministic"):
            self._refuse(f"needs posterior samples for '{self.metric}': choose the posterior mc_dropout")
        if REDUCTIONS[str(self.reduction)] != (self.metric in PER_CLASS_METRICS):
            self._refuse(f"cannot reduce the metric '{self.metric}' by '{self.reduction}': one is per class")

    def _check_selector(self) -> None:
        if self.needs.scores != (self.metric is not None):
            self._refuse(f"has the selector '{self.selector}', which needs {'a' if self.needs.scores else 'no'} metric")
        if self.needs.embedding != (self.embedding is not None):
            wanted = "an" if self.needs.embedding else "no"
            self._refuse(f"has the selector '{self.selector}', which needs {wanted} embedding")
        asks_model = self.needs.scores or self.needs.foreground
        if asks_model == (self.posterior == "none"):
            self._refuse(
                f"has the selector '{self.selector}' and the posterior '{self.posterior}': they do not go together"
            )

    def _refuse(self, reason: str) -> None:
        raise StrategyError(f"The strategy '{self.name}' {reason}.")
