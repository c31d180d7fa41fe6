"""Biased cohorts: raw nnU-Net datasets whose groups differ in the left caudate (Danaee et al. 2026, section 3.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_al import __version__
from nnunet_al.files import hash_array, write_json, write_table
from nnunet_al.new_folder import new_folder
from nnunet_al.synthetic.case import Cohort, make_case
from nnunet_al.synthetic.design import Case, CohortDesign, cases_of, design_json, folds_of
from nnunet_al.synthetic.image_file import FILE_ENDING, write_image
from nnunet_al.synthetic.population import PopulationBasis
from nnunet_al.synthetic.template import LEFT_CAUDATE, LabelMap
from nnunet_al.synthetic.tissues import structure_name

LABELS = {"background": 0, "left_caudate": 1}

Run = Callable[[Callable[..., Any], Sequence[tuple[Any, ...]], int, str], Iterator[tuple[int, Any]]]


def make_biased_cohort(
    folder: Path,
    design: CohortDesign,
    template: LabelMap | None = None,
    *,
    population: Sequence[LabelMap] = (),
    workers: int = 1,
    run: Run | None = None,
) -> Path:
    """Write a cohort of two groups of heads as a raw dataset for nnU-Net, and return its folder.

    Each case is the template under a random diffeomorphism; in group 1 the left caudate is deformed additionally. The
    label is the left caudate. A case depends on the design's seed, strength and grid and on its number, but not on the
    number of cases or the process that makes it.

    The folder gets ``imagesTr``, ``labelsTr`` (and ``imagesTs``, ``labelsTs``), ``dataset.json``; ``participants.tsv``
    (participant_id, group, strength and, for pairs, pair); ``splits_final.json``, which nnunet-al reads here and
    nnU-Net itself in its preprocessed folder; ``volumes.csv`` (mm³ of each structure within the images, smallest
    Jacobian determinant); ``cohort.json``, the design.

    Parameters
    ----------
    folder, design
        the dataset's folder, ``.../DatasetXXX_Name``, which appears when it is complete; the properties of the cohort
    template
        label map of a head; None: a built-in phantom
    population
        heads whose left caudates say how group 1's is deformed (`PopulationBasis`); none: it grows (`LocalBasis`)
    workers, run
        number of processes; ``run(function, jobs, workers, description)`` yields (index of the job, result); None:
        serial

    Raises DatasetError if the folder exists or the design is not possible with the template; StorageError if it cannot
    be written, for example because the disk is full; an incomplete folder is removed.
    """
    folder = Path(folder)
    with new_folder(folder) as unfinished:
        source = "label map" if template is not None else "built-in phantom"
        if template is None:
            from nnunet_al.synthetic.brain import brain_phantom

            template = brain_phantom()
        cohort, cases = Cohort.of(design, template, population), cases_of(design)
        jobs = [(unfinished, cohort, case) for case in cases]
        facts: list[dict[str, float]] = [{}] * len(jobs)
        for index, result in (run or _run_serially)(write_case, jobs, workers, "making cases"):
            facts[index] = result
        write_json(unfinished / "dataset.json", _dataset_json(folder.name, design))
        write_json(unfinished / "cohort.json", _cohort_json(cohort, source))
        if splits := folds_of(design):
            write_json(unfinished / "splits_final.json", splits)
        write_table(unfinished / "participants.tsv", _participants(design, cases), "\t")
        write_table(unfinished / "volumes.csv", _volumes(cases, facts))
    return folder


def write_case(folder: Path, cohort: Cohort, case: Case) -> dict[str, float]:
    """Make one case and write its image and label; return its facts for ``volumes.csv``."""
    made = make_case(cohort, case)
    part = "Tr" if case.number < cohort.design.cases else "Ts"
    label_zyx = (made.labels_zyx == LEFT_CAUDATE).astype(np.uint8)
    for sub_folder, stem, array_zyx in (
        (f"images{part}", f"{case.name}_0000", made.image_zyx),
        (f"labels{part}", case.name, label_zyx),
    ):
        path = folder / sub_folder / f"{stem}{FILE_ENDING}"
        write_image(path, array_zyx, cohort.grid.spacing_mm[::-1], cohort.grid.origin_mm[::-1])
    voxel_mm3 = float(np.prod(cohort.grid.spacing_mm))
    present = [int(label) for label in np.unique(cohort.template.labels_zyx) if label != 0]
    volumes = {structure_name(label): float((made.labels_zyx == label).sum() * voxel_mm3) for label in present}
    return {"smallest_jacobian": made.smallest_jacobian, **volumes}


def _run_serially(
    function: Callable[..., Any], jobs: Sequence[tuple[Any, ...]], workers: int, description: str
) -> Iterator[tuple[int, Any]]:
    for index, job in enumerate(jobs):
        yield index, function(*job)


def _dataset_json(name: str, design: CohortDesign) -> dict[str, Any]:
    return {
        "name": name,
        "description": "Synthetic heads of two groups made by nnunet-al; no patient's image.",
        "channel_names": {"0": "T1w"},
        "labels": LABELS,
        "numTraining": design.cases,
        "file_ending": FILE_ENDING,
    }


def _cohort_json(cohort: Cohort, source: str) -> dict[str, Any]:
    return {
        "design": design_json(cohort.design),
        "template": {
            "source": source,
            "sha256": hash_array(cohort.template.labels_zyx),
            "shape": list(cohort.template.labels_zyx.shape),
            "spacing_mm": list(cohort.template.spacing_mm),
        },
        "grid": {
            "shape": list(cohort.grid.shape),
            "spacing_mm": list(cohort.grid.spacing_mm),
            "origin_mm": list(cohort.grid.origin_mm),
        },
        **({"population": cohort.local_basis.facts} if isinstance(cohort.local_basis, PopulationBasis) else {}),
        "nnunet_al": __version__,
    }


def _participants(design: CohortDesign, cases: Sequence[Case]) -> list[dict[str, str]]:
    rows = []
    for case in cases:
        row = {"participant_id": case.name, "group": case.group, "strength": f"{case.strength:.4f}"}
        rows.append(row | ({"pair": f"pair-{case.couple:04d}"} if design.paired else {}))
    return rows


def _volumes(cases: Sequence[Case], facts: Sequence[Mapping[str, float]]) -> list[dict[str, str]]:
    rows = []
    for case, fact in zip(cases, facts, strict=True):
        volumes = {name: f"{value:.6g}" for name, value in fact.items()}
        rows.append({"case": case.name, "group": case.group, **volumes})
    return rows
