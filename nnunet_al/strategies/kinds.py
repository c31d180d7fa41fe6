"""The kinds of ingredients of a recipe; metrics and selectors have functions."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from nnunet_al.errors import StrategyError
from nnunet_al.strategies.parameters import Parameter

# arguments that every selector may take, besides the fields of ``candidates.Candidates`` and its parameters
CALL = ("budget", "rng", "keys", "cosine", "engine", "resources")

SCORE = "{score}"


@dataclass(frozen=True)
class Ingredient:
    """The description of an ingredient, a part of a sentence, with its paper and its parameters."""

    phrase: str
    paper: str = "-"
    parameters: Mapping[str, Parameter] = field(default_factory=dict, kw_only=True, hash=False)


@dataclass(frozen=True)
class Reduction(Ingredient):
    """Reduces voxel values to a region's score; ``per_class``: values per class."""

    per_class: bool = False


@dataclass(frozen=True)
class Embedding(Ingredient):
    """Vectors for comparing regions: the phases that compute them, and whether these need a backward pass.

    With ``cosine``, regions are compared by the cosine similarity of their vectors. ``departs`` says in which points
    the paper and its code do otherwise.
    """

    phases: tuple[str, ...] = ("embed",)
    backward: bool = True
    cosine: bool = False
    departs: str = ""


@dataclass(frozen=True)
class Metric:
    """A voxel map, or the output of a loss module.

    Attributes
    ----------
    function : callable, or str as ``"module:name"``, or None if the model itself predicts the score
        ``function(probs_T_B_C_xyz, exclusive) -> values_B_xyz`` (``B_F_xyz`` with ``per_class``), float tensors;
        ``exclusive`` is False for region-based training. Power noise and query sets need values that are not negative.
    phrase, paper : str
        the measured quantity, as a noun, and its source.
    needs_samples : bool
        undefined for a single forward pass.
    per_class : bool
        one value per foreground class, which needs the reduction ``class_weighted``.
    trainer : str, optional
        the trainer that the model needs.
    listed : bool
        whether recipes and spellings can name it; the others are computed for a selector.
    """

    function: str | Callable[..., Any] | None
    phrase: str = ""
    paper: str = "-"
    needs_samples: bool = False
    per_class: bool = False
    trainer: str | None = None
    listed: bool = True

    @property
    def learned(self) -> bool:
        """The model itself predicts the score, for a whole window, and it may be negative."""
        return self.function is None

    @property
    def posterior(self) -> str:
        """The default posterior."""
        return "mc_dropout" if self.needs_samples else "deterministic"

    @property
    def reduction(self) -> str:
        """The default reduction."""
        return "class_weighted" if self.per_class else "mean"


@dataclass(frozen=True)
class Needs:
    """The inputs of a selector, as fields of ``candidates.Candidates``.

    Attributes
    ----------
    scores, class_scores, pair : bool
        one score per region; one per region and class; the target and the boundary score.
    foreground : bool
        predicted foreground voxels.
    embedding, references : bool
        embeddings of the candidates; of the annotated regions.
    query : bool
        a query set, drawn by the scores.
    places : bool
        the order of the candidates, and of the annotated regions, within their cases.
    """

    scores: bool = False
    foreground: bool = False
    embedding: bool = False
    query: bool = False
    references: bool = False
    class_scores: bool = False
    pair: bool = False
    places: bool = False

    @property
    def metric(self) -> bool:
        """Whether scores of any kind are needed."""
        return self.scores or self.pair or self.class_scores

    @property
    def model(self) -> bool:
        """Whether any input comes from a model."""
        return self.metric or self.foreground or self.embedding or self.references or self.query

    @property
    def reduces(self) -> bool:
        """Whether the selector only sums over target and boundary, so that a recipe has no reduction."""
        return self.pair and not self.scores

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of ``candidates.Candidates`` that are filled, always with names and cases."""
        fields = {
            "scores_N": self.scores,
            "target_scores_N": self.pair,
            "boundary_scores_N": self.pair,
            "mean_scores_N": self.pair,
            "class_scores_N_C": self.class_scores,
            "foreground_voxels_N": self.foreground,
            "embeddings_N_d": self.embedding,
            "references_M_d": self.references,
            "query": self.query,
            "places_N_2": self.places,
            "taken_M_2": self.places,
        }
        return ("names_N", "cases_N", *(name for name, filled in fields.items() if filled))


@dataclass(frozen=True)
class Selector:
    """Selects a batch from the candidates.

    Attributes
    ----------
    function : callable, or str as ``"module:name"``
        returns a ``Selection`` of min(budget, N) regions. It is called with the arguments that its signature names:

        * fields of ``candidates.Candidates``: ``names_N``, ``cases_N`` and those in ``needs``;
        * ``budget``, the number of regions to select;
        * ``rng``, a numpy generator, the only source of randomness;
        * ``keys``, a function from scores to the keys to rank by, which adds the noise (``ranking_noise``);
        * ``cosine``, whether to compare embeddings by cosine similarity; ``engine`` (of FLQMI) and ``resources``, the
          device and the memory that may be used;
        * its ``parameters``.
    phrase, paper : str
        the selected regions, as the object of "Selects", with ``SCORE`` in place of the metric, and the source.
    embeddings : tuple of str
        the embeddings that it accepts, the default first; empty: any.
    noise : bool
        whether it ranks by ``keys``, so that noise has an effect.
    parameters : mapping
        from the name of each parameter to its default and its limits (``parameters.count`` and others).
    """

    function: str | Callable[..., Any]
    needs: Needs
    phrase: str = ""
    paper: str = "-"
    embeddings: tuple[str, ...] = ()
    noise: bool = False
    parameters: Mapping[str, Parameter] = field(default_factory=dict, hash=False)

    def arguments(self) -> tuple[str, ...]:
        """Return the names of the arguments that its function is called with.

        Raises StrategyError if the function requires another argument.
        """
        known = (*self.needs.fields, *CALL, *self.parameters)
        function = loaded(self.function)
        taken = inspect.signature(function).parameters.values()
        by_name = [one for one in taken if one.kind not in {one.VAR_POSITIONAL, one.VAR_KEYWORD}]
        for one in by_name:
            if one.default is one.empty and one.name not in known:
                raise StrategyError(
                    f"The selector function {getattr(function, '__name__', function)} takes '{one.name}', but "
                    f"`needs` fills {', '.join(known)} only: let it need more, or remove the argument."
                )
        return tuple(one.name for one in by_name if one.name in known)


def loaded(function: str | Callable[..., Any]) -> Callable[..., Any]:
    """Return the function, imported if it is given as ``"module:name"``."""
    if not isinstance(function, str):
        return function
    module, _, name = function.partition(":")
    imported: Callable[..., Any] = getattr(import_module(module), name)
    return imported
