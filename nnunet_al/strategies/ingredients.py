"""What recipes are made of: metrics, reductions, weightings, posteriors, embeddings, noises, selectors. Names only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

SAMPLING = ("mc_dropout", "tta", "ensemble")
POSTERIORS: Mapping[str, str] = MappingProxyType(
    {
        "none": "asks no model",
        "deterministic": "one pass of the model",
        "mc_dropout": "sub-networks sampled by dropout (Gal and Ghahramani 2016)",
        "tta": "noised and rotated copies of the image (Gaillochet et al. 2023)",
        "ensemble": "several models, of earlier rounds or of folds (Lakshminarayanan et al. 2017)",
    }
)


@dataclass(frozen=True)
class Metric:
    """A voxel map (``scoring.maps`` holds the function), or the output of a loss module.

    Attributes
    ----------
    needs_samples : bool
        it means nothing for one deterministic pass.
    per_class : bool
        one value for each class, so that it needs the reduction ``class_weighted``.
    phrase, paper : str
        what it measures, and where it comes from.
    trainer : str or None
        the trainer that the model needs.
    """

    needs_samples: bool = False
    per_class: bool = False
    phrase: str = ""
    paper: str = "-"
    trainer: str | None = None

    @property
    def learned(self) -> bool:
        """The model itself predicts the score, for a whole window, and it may be negative."""
        return self.trainer is not None

    @property
    def posterior(self) -> str:
        """The posterior where none is asked for."""
        return "mc_dropout" if self.needs_samples else "deterministic"

    @property
    def reduction(self) -> str:
        """The reduction where none is asked for."""
        return "class_weighted" if self.per_class else "mean"


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "entropy": Metric(phrase="entropy of the mean prediction", paper="Shannon 1948"),
        "least_confidence": Metric(phrase="lack of confidence in the best class", paper="Lewis and Gale 1994"),
        "margin": Metric(phrase="closeness of the two best classes", paper="Scheffer et al. 2001"),
        "mc_dropout": Metric(True, phrase="entropy of the averaged samples", paper="Gal and Ghahramani 2016"),
        "mean_std": Metric(True, phrase="standard deviation of the samples", paper="Kendall et al. 2017"),
        "bald": Metric(True, phrase="mutual information of prediction and model", paper="Gal et al. 2017"),
        "class_variance": Metric(
            True, True, "variance of the samples, class by class", paper="Föllmer et al. 2024, appendix A"
        ),
        "learning_loss": Metric(
            phrase="loss that the model predicts of itself",
            paper="Yoo and Kweon 2019",
            trainer="nnUNetTrainerALLearningLoss",
        ),
    }
)
# other names of one function: the Jensen-Shannon divergence of equally weighted samples is their mutual information
METRIC_ALIASES: Mapping[str, str] = MappingProxyType({"jsd": "bald"})
# what class_balanced ranks each class by, beside the entropy of all classes: a map and a reduction of its own
CLASS_SCORES = ("class_entropy", "class_means")
ENTROPIES = ("entropy", "mc_dropout")


@dataclass(frozen=True)
class Reduction:
    """From voxels to a region's score: ``per_class`` tells which maps it takes."""

    per_class: bool
    phrase: str
    paper: str = "-"


REDUCTIONS: Mapping[str, Reduction] = MappingProxyType(
    {
        "mean": Reduction(False, "averaged over the region"),
        "localized": Reduction(False, "averaged over the predicted foreground and its rim", "Danaee et al. 2026"),
        "target": Reduction(False, "summed over likely foreground", "Ma et al. 2024"),
        "boundary": Reduction(False, "summed over the predicted boundary", "Ma et al. 2024"),
        "class_weighted": Reduction(True, "averaged, rare classes weighted up", "Föllmer et al. 2024"),
    }
)


@dataclass(frozen=True)
class Weighting:
    """What the scores of a group of cases are multiplied by."""

    phrase: str
    paper: str


WEIGHTINGS: Mapping[str, Weighting] = MappingProxyType(
    {"fair": Weighting("groups that the model segments worse weighted up", "Danaee et al. 2026")}
)


@dataclass(frozen=True)
class Noise:
    """Chance in a ranking, so that a batch is not all of one kind."""

    phrase: str
    paper: str


NOISES: Mapping[str, Noise] = MappingProxyType(
    {
        "power": Noise("drawn in proportion to a power of the score", "Kirsch et al. 2023"),
        "softrank": Noise("drawn in proportion to 1 / rank", "Kirsch et al. 2023"),
    }
)


@dataclass(frozen=True)
class Embedding:
    """Vectors that compare regions: the phases that produce them, and what a region costs there."""

    phases: tuple[str, ...]
    backward: bool
    phrase: str


EMBEDDINGS: Mapping[str, Embedding] = MappingProxyType(
    {
        "bottleneck_gradient": Embedding(("embed",), True, "gradients of the bottleneck"),
        "fisher": Embedding(
            ("fisher", "embed"), True, "gradients of sampled weights, scaled by their Fisher information"
        ),
        "features": Embedding(("embed",), False, "features of the bottleneck"),
        "decoder_gradient": Embedding(("embed",), True, "gradients of the decoder's last convolution"),
    }
)


@dataclass(frozen=True)
class Needs:
    """What a selector works on, as fields of ``select.Candidates``.

    Attributes
    ----------
    scores, class_scores, pair : bool
        one score a region; one for each class; the target and the boundary score.
    foreground : bool
        predicted foreground voxels.
    embedding, references : bool
        embeddings of the candidates; of the annotated regions.
    query : bool
        a query set, drawn by the scores.
    cases : bool
        the case of each region.
    """

    scores: bool = False
    foreground: bool = False
    embedding: bool = False
    query: bool = False
    references: bool = False
    cases: bool = False
    class_scores: bool = False
    pair: bool = False

    @property
    def metric(self) -> bool:
        """Whether it works on scores of any kind."""
        return self.scores or self.pair or self.class_scores

    @property
    def model(self) -> bool:
        """Whether any of it comes from a model."""
        return self.metric or self.foreground or self.embedding or self.references or self.query

    @property
    def reduces(self) -> bool:
        """Whether it sums over target and boundary alone, so that a recipe has no reduction of its own."""
        return self.pair and not self.scores


@dataclass(frozen=True)
class Selector:
    """From what is known about the pool to a batch.

    Attributes
    ----------
    needs : Needs
        what it works on.
    phrase, paper : str
        what it asks for, and where it comes from.
    embeddings : tuple of str
        the embeddings that it takes; the first one where none is asked for.
    noise : bool
        whether it ranks, so that a noise makes sense.
    """

    needs: Needs
    phrase: str = ""
    paper: str = "-"
    embeddings: tuple[str, ...] = ()
    noise: bool = False


SELECTORS: Mapping[str, Selector] = MappingProxyType(
    {
        "top_k": Selector(Needs(scores=True), "the largest scores", noise=True),
        "stochastic_batches": Selector(
            Needs(scores=True), "the random batch with the largest mean score", "Gaillochet et al. 2023"
        ),
        "selective": Selector(
            Needs(pair=True),
            "half by the score of likely foreground, half by that of predicted boundaries",
            "Ma et al. 2024",
            noise=True,
        ),
        "class_balanced": Selector(
            Needs(scores=True, class_scores=True),
            "a share of the batch split evenly over the classes, the rest the largest scores",
            "Lüth, Traub et al. 2026",
            noise=True,
        ),
        "core_set": Selector(
            Needs(embedding=True, references=True),
            "a batch that leaves no region far from an annotated one",
            "Sener and Savarese 2018",
            ("features",),
        ),
        "badge": Selector(
            Needs(embedding=True),
            "large gradients that differ from each other",
            "Ash et al. 2020",
            ("decoder_gradient",),
        ),
        "kmeans": Selector(
            Needs(scores=True, embedding=True, cases=True),
            "of the largest scores in each case those that differ from each other",
            "Lüth et al. 2025",
            ("features",),
        ),
        "flqmi": Selector(
            Needs(scores=True, embedding=True, query=True),
            "a batch that covers a query set drawn by the scores",
            "Föllmer et al. 2024",
            ("bottleneck_gradient", "fisher"),
        ),
        "query_sampling": Selector(
            Needs(scores=True, query=True), "a uniform draw from the query set", "Föllmer et al. 2024, appendix E"
        ),
        "random": Selector(Needs(), "a uniform draw"),
        "random_foreground": Selector(
            Needs(foreground=True),
            "a share from regions with predicted foreground, the rest uniform",
            "Lüth et al. 2025",
        ),
    }
)
