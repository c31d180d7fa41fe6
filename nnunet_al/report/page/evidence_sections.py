"""The sections of the evidence: batches, embeddings, errors and redundancy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nnunet_al.report.drawing.selection_picture import region_picture
from nnunet_al.report.drawing.test_case_picture import case_picture
from nnunet_al.report.evidence.embedding_map import DRAWN_AT_MOST, FEWEST
from nnunet_al.report.evidence.figures import error_figure, map_figure, pool_figure, redundancy_figure
from nnunet_al.report.evidence.kept_predictions import CasePanels
from nnunet_al.report.evidence.pool_sample import MOST_CASES, MOST_REGIONS
from nnunet_al.report.evidence.record import BatchRegion, Evidence
from nnunet_al.report.page.html import Section, bullets, figure, figures, heading, paragraph, pictures, table
from nnunet_al.report.tables.table import Table

Named = Sequence[tuple[str, Evidence]]
"""Names of campaigns, and their evidence."""

_WHICH = (
    "For each strategy these sections show the campaign with the lowest fold and seed, in its last complete round "
    "whose model is available."
)


def evidence_sections(named: Named, tables: Mapping[str, Table], missing: Sequence[str]) -> list[Section]:
    """Return overlays, maps of embeddings, uncertainty against error, and redundancy.

    ``tables`` has the tables of the evidence by name, ``missing`` sentences on campaigns without evidence.
    """
    gone = [bullets(missing)] if missing else []
    return [
        Section("batches", "Selected regions", (paragraph(_WHICH), *gone, *_overlays(named, tables))),
        Section("embeddings", "Map of embeddings", (*_maps(named), table(tables["embedding_roles"]))),
        Section("errors", "Uncertainty against error", (*_errors(named), table(tables["error_vs_uncertainty"]))),
        *_pool_sections(named, tables),
        Section("redundancy", "Redundancy of the batches", (*_redundancy(named), table(tables["redundancy"]))),
    ]


def test_case_sections(cases: Sequence[CasePanels], missing: Sequence[str]) -> list[Section]:
    """Return the section of test cases whose predictions were kept; none where there is nothing to say."""
    if not cases and not missing:
        return []
    blocks = [
        paragraph(
            "Predictions that rounds have kept (-keep_predictions), of the first run of each strategy (lowest fold, "
            "then seed): the label (light blue, wide line) and the prediction (orange, thin line) on the slice with "
            "the most annotated voxels, cut to its surroundings. The number is the Dice of this slice, the mean over "
            "the classes that occur in it; one slice of one case ranks no strategies."
        ),
        *([bullets(missing)] if missing else []),
    ]
    for case in cases:
        said = [
            f"{name}: "
            + ", ".join(
                f"{column} {panel.title}" for column, panel in zip(case.columns[1:], of[1:], strict=True) if panel
            )
            for name, of in case.rows.items()
        ]
        alt = f"Predictions of the test case {case.title}, beside its label. {'; '.join(said)}."
        blocks.append(pictures([(case_picture(case.rows, case.columns), alt)], f"{case.title}.", wide=True))
    return [Section("predictions", "Test cases, round by round", tuple(blocks))]


def _overlays(named: Named, tables: Mapping[str, Table]) -> list[str]:
    blocks = [
        paragraph(
            "Left: the image (first channel) with the region asked for (yellow, dashed), the labels that were then "
            "annotated for the first time (light blue, wide line) and the model's prediction (orange, thin line); "
            "where there are several classes, each has its own dashes. Right: the predictive entropy "
            "H(p) = -Σ p ln p of one pass without dropout, in nats, dark where the model is certain; the colours are "
            "the same within a campaign. The slice is the one through the middle of the region."
        )
    ]
    for name, seen in named:
        blocks.append(heading(f"{name}, round {seen.round}"))
        if seen.remark:
            blocks.append(paragraph(seen.remark))
        if not seen.panels:
            blocks.append(paragraph("No region is shown."))
            continue
        maps = [panel.uncertainty_yx for panel in seen.panels if panel.uncertainty_yx is not None]
        largest = _largest(maps)
        own = [panel.map_yx for panel in seen.panels if panel.map_yx is not None]
        largest_own = _largest(own)
        tiles = [
            (region_picture(panel, largest, largest_own), _alt(panel.title, entry, panel.map_name))
            for panel, entry in zip(seen.panels, seen.batch, strict=False)
        ]
        caption = f"The first {len(tiles)} of {len(seen.batch)} regions of the batch, by rank."
        if own:
            caption += (
                f" Third: the map of {seen.panels[0].map_name} from which the strategy made the region's score, in the "
                "very windows that it scored, inside the region only."
            )
        blocks.append(pictures(tiles, caption, wide=bool(own)))
    return [*blocks, table(tables["batches"])]


def _largest(maps: Sequence[np.ndarray]) -> float:
    return max((float(np.nanmax(values)) for values in maps if np.isfinite(values).any()), default=1.0)


def _alt(title: str, entry: BatchRegion, own: str = "") -> str:
    known = [f"mean entropy {entry.entropy:.3f} nats"] if entry.entropy is not None else []
    known += [f"1 - Dice {entry.error:.3f}"] if entry.error is not None else ["nothing newly annotated"]
    return (
        f"Rank {title}: image with region, reader's label and prediction, and map of the entropy"
        f"{f' and of {own}' if own else ''}; {', '.join(known)}."
    )


def _maps(named: Named) -> list[str]:
    blocks = [
        paragraph(
            "Features of the network's bottleneck, averaged over each region (those that the strategy core_set "
            "compares), in two dimensions by t-SNE (started from principal components, perplexity 30 or a third of "
            "the regions, seeded). Regions that are close on the map have similar features; larger distances mean "
            "little, and the axes have no unit. Batch and query set are shown in full, the others as a random sample, "
            f"up to {DRAWN_AT_MOST} regions in all. A region in both batch and query set is marked as batch."
        )
    ]
    maps = []
    for name, seen in named:
        drawn = map_figure(name, seen)
        if drawn is None:
            why = f"there are fewer than {FEWEST} regions, or all have the same features"
            blocks.append(paragraph(f"{name}, round {seen.round}: no map, since {why}."))
        else:
            maps.append(drawn)
    return [*blocks, figures(maps)]


def _errors(named: Named) -> list[str]:
    blocks = [
        paragraph(
            "Each point is a region of the batch. Horizontal: mean predictive entropy over its voxels, by the model "
            "that asked for it, in one pass without dropout. Vertical: 1 - Dice of that model's prediction (nnU-Net's "
            "sliding window) against the annotation, on voxels that were annotated in this round for the first time; "
            "the mean over the classes that occur in either, and 0 where both are background only. Regions were not "
            "drawn at random: the correlation holds for the regions that a strategy asks for, not for the pool."
        )
    ]
    clouds = []
    for name, seen in named:
        drawn = error_figure(name, seen)
        if drawn is None:
            blocks.append(paragraph(f"{name}, round {seen.round}: no region is newly annotated."))
        else:
            clouds.append(drawn)
    return [*blocks, figures(clouds)]


def _pool_sections(named: Named, tables: Mapping[str, Table]) -> list[Section]:
    """Return the section of random parts of the pools; none where no campaign has one."""
    drawn = [made for name, seen in named if (made := pool_figure(name, seen)) is not None]
    if not drawn:
        return []
    about = (
        f"Up to {MOST_REGIONS} regions, drawn at random from those that the model was not trained on (from at most "
        f"{MOST_CASES} cases, drawn first). Horizontal: mean predictive entropy; vertical: share of the region's "
        "voxels whose class the model's prediction gets wrong, against the dataset's labels. The campaign has not "
        "asked for most of these labels; they serve this picture and nothing else. A region without any structure is "
        "easy and certain, so that part of the correlation says no more than that."
    )
    listed = table(tables["pool_error_vs_uncertainty"])
    return [Section("pool", "Uncertainty and error in the pool", (paragraph(about), figures(drawn), listed))]


def _redundancy(named: Named) -> list[str]:
    drawn = redundancy_figure(named)
    return [] if drawn is None else [figure(drawn)]
