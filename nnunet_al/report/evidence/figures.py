"""Figures of the evidence: maps of embeddings, error against uncertainty, redundancy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from nnunet_al.report.drawing.palette import BLUE, VERMILLION
from nnunet_al.report.drawing.svg import Figure, canvas, finished, svg_style
from nnunet_al.report.evidence.error_vs_uncertainty import Correlation, correlation
from nnunet_al.report.evidence.record import Evidence
from nnunet_al.text import count

POOL = "0.55"  # 3.4 to 1 on white
_BAND = "0.57"

# role -> marker, size, face, edge; told apart by shape and by lightness, also in grey print
_LOOK = {
    "pool": ("o", 8, POOL, "none"),
    "annotated": ("s", 13, "black", "none"),
    "query": ("^", 22, "none", BLUE),
    "batch": ("D", 30, VERMILLION, "black"),
}
_WORDS = {"pool": "pool", "annotated": "annotated before", "query": "query set", "batch": "batch"}


@svg_style()
def map_figure(name: str, evidence: Evidence) -> Figure | None:
    """Draw the t-SNE map of the regions, by their roles; None where there is no map."""
    if not evidence.points:
        return None
    figure = canvas(4.6)
    axes = figure.add_subplot()
    shown = {}
    for role, (marker, size, face, edge) in _LOOK.items():
        places = [(point.x, point.y) for point in evidence.points if point.role == role]
        shown[role] = len(places)
        _scatter(axes, places, _WORDS[role], marker, size, face, edge)
    axes.set_title(f"{name}, round {evidence.round}")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[["top", "right"]].set_visible(True)
    axes.set_aspect("equal", adjustable="datalim")
    handles = axes.get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=2, frameon=False, markerscale=1.4)
    figure.set_dpi(200)
    total = sum(evidence.of_role.values())
    counted = ", ".join(f"{shown[role]} of {there} {_WORDS[role]}" for role, there in evidence.of_role.items() if there)
    return finished(
        figure,
        ("map", name),
        f"{name}, round {evidence.round}: {len(evidence.points)} of {count(total, 'region')} ({counted}).",
        f"Map of the embeddings of {count(len(evidence.points), 'region')} under the model of round {evidence.round} "
        f"of {name}: {counted}. The coordinates are in embedding_map.csv.",
    )


@svg_style()
def error_figure(name: str, evidence: Evidence) -> Figure | None:
    """Draw the error of each region against its entropy; None where no region has both."""
    known = [
        (entry.entropy, entry.error, entry.foreground)
        for entry in evidence.batch
        if entry.entropy is not None and entry.error is not None
    ]
    if not known:
        return None
    found = correlation(evidence.batch)
    title = f"{name}, round {evidence.round}\n{correlation_text(found)}"
    figure = _against_entropy(known, "1 - Dice", title, 26)
    figure.axes[0].set_ylim(-0.05, 1.05)
    entropies, errors = [x for x, _, _ in known], [y for _, y, _ in known]
    return finished(
        figure,
        ("error", name),
        f"{name}, round {evidence.round}: {count(len(known), 'newly annotated region')}.",
        f"Error against uncertainty of {count(len(known), 'region')} of {name}, round {evidence.round}. "
        f"{correlation_text(found)}. Entropy from {min(entropies):.3f} to {max(entropies):.3f} nats, 1 - Dice from "
        f"{min(errors):.3f} to {max(errors):.3f}.",
    )


@svg_style()
def pool_figure(name: str, evidence: Evidence) -> Figure | None:
    """Draw the share of misclassified voxels against the entropy in a random part of the pool; None without one."""
    known = [
        (entry.entropy, 100 * entry.misclassified, entry.foreground)
        for entry in evidence.pool
        if entry.entropy is not None and entry.misclassified is not None
    ]
    if not known:
        return None
    found = correlation(evidence.pool, "misclassified")
    title = f"{name}, round {evidence.round}\n{correlation_text(found)}"
    figure = _against_entropy(known, "misclassified voxels [%]", title, 18)
    errors = [y for _, y, _ in known]
    return finished(
        figure,
        ("pool", name),
        f"{name}, round {evidence.round}: {count(len(known), 'region')}, drawn at random from the pool.",
        f"Misclassified voxels against uncertainty of {count(len(known), 'region')} drawn at random from the pool of "
        f"{name}, round {evidence.round}. {correlation_text(found)}. From {min(errors):.2f} to {max(errors):.2f} % of "
        "the voxels are misclassified. The values are in pool_sample.csv.",
    )


@svg_style()
def redundancy_figure(found: Sequence[tuple[str, Evidence]]) -> Figure | None:
    """Draw the similarity within each batch beside that within random batches; None where no batch has one."""
    rows = [
        (f"{name}, round {evidence.round}", evidence.redundancy)
        for name, evidence in found
        if evidence.redundancy is not None and evidence.redundancy["similarity"] is not None
    ]
    if not rows:
        return None
    figure = canvas(1.15 + 0.34 * len(rows))
    axes = figure.add_subplot()
    said = []
    for place, (name, values) in enumerate(rows):
        said.append(f"{name}: {values['similarity']:.3f}")
        if values["random_similarity"] is not None:
            mean, low, high = values["random_similarity"]
            axes.plot([low, high], [place, place], color=_BAND, linewidth=7, solid_capstyle="butt", zorder=1)
            axes.plot([mean], [place], color="black", marker="|", markersize=9, linestyle="none", zorder=2)
            said[-1] += f", random batches {mean:.3f} (95 % of them {low:.3f} to {high:.3f})"
        axes.plot(values["similarity"], place, color=VERMILLION, marker="D", markersize=6, linestyle="none", zorder=3)
    axes.plot([], [], color=VERMILLION, marker="D", markersize=6, linestyle="none", label="the batch")
    axes.plot([], [], color="black", marker="|", markersize=9, linestyle="none", label="random batches, mean")
    axes.plot([], [], color=_BAND, linewidth=7, label="95 % of them")
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel("mean cosine similarity of two regions")
    axes.grid(axis="x", color="0.9", linewidth=0.7)
    axes.set_axisbelow(True)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return finished(
        figure,
        ("redundancy",),
        "Mean cosine similarity of the centred features of two different regions of a batch, and of random batches of "
        "the same size from the same pool. A batch to the right of the random ones is more redundant than chance.",
        "Similarity within batches. " + "; ".join(said) + ".",
    )


def _against_entropy(known: Sequence[tuple[float, float, bool]], measure: str, title: str, size: float) -> Canvas:
    """Draw (entropy, measure, whether there is foreground) of regions."""
    figure = canvas(3.2)
    axes = figure.add_subplot()
    for foreground, label, face in ((True, "with foreground", BLUE), (False, "background only", "none")):
        _scatter(axes, [(x, y) for x, y, found in known if found is foreground], label, "o", size, face, BLUE)
    axes.set_xlabel("mean predictive entropy of the region [nats]")
    axes.set_ylabel(measure)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.grid(color="0.9", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.set_title(title)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    return figure


def _scatter(
    axes: Axes, places: Sequence[tuple[float, float]], label: str, marker: str, size: float, face: str, edge: str
) -> None:
    """Draw marks of one kind, if any, with a label that counts them."""
    if not places:
        return
    x_N, y_N = np.array(places).T
    axes.scatter(
        x_N,
        y_N,
        s=size,
        marker=marker,
        facecolor=face,
        edgecolor=edge,
        linewidth=0.8,
        label=f"{label} ({len(places)})",
        rasterized=len(places) > 400,  # thousands of dots are smaller as a picture
    )


def correlation_text(found: Correlation) -> str:
    """Return "Spearman's rho 0.41, n = 12", or why there is none."""
    if found.rho is None:
        return f"No rank correlation: {found.why} (n = {found.n})"
    return f"Spearman's rho {found.rho:.2f}, n = {found.n}"
