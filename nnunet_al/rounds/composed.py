"""The composed label of each annotated case: that of the round before, and the new commits on top of it.

A round records which commits went into each label, and all that later stages ask of it, so that no label volume is read
twice in a round, and none of earlier commits again. Labels without a record, as in rounds of earlier versions, are
composed from all commits, with the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_al.campaign.commits import CORRECTION, Commit
from nnunet_al.campaign.folders import RoundFolder
from nnunet_al.campaign.ledger import Ledger, put_labels
from nnunet_al.campaign.stage_markers import is_as_left
from nnunet_al.checksums import checksum
from nnunet_al.files import read_json, write_json
from nnunet_al.nnunet.blosc_files import link_or_copy
from nnunet_al.nnunet.case_facts import CaseFacts
from nnunet_al.nnunet.nonzero import nonzero_mask
from nnunet_al.nnunet.raw_dataset import CaseFiles
from nnunet_al.nnunet.workers import run_jobs
from nnunet_al.pool.annotated import fully_annotated
from nnunet_al.pool.boxes import Region
from nnunet_al.rounds.context import RoundContext

Record = dict[str, Any]
"""Of one case: ``commits`` (number and hash of each that counts), ``sha256`` of the composed file, ``properties`` (its
geometry), ``complete`` (numbers of the regions that are annotated in full) and ``voxels`` of each label value."""


@dataclass(frozen=True)
class LabelJob:
    """All that a process needs to compose the label of one case.

    Attributes
    ----------
    commits : those that hold something of the case
    regions : number -> region, of the case
    before : the composed label of the round before, if its record fits it and the commits
    record : that record
    """

    case: str
    ledger: Ledger
    commits: list[Commit]
    files: CaseFiles
    facts: CaseFacts
    regions: dict[int, Region]
    target: Path
    before: Path | None
    record: Record


def compose_all(context: RoundContext) -> None:
    """Write the composed label of each annotated case, and the round's record of them."""
    records, jobs = {}, []
    for job in _jobs(context):
        if job.before is not None and job.record["commits"] == _key(job.commits, job.case):
            link_or_copy(job.before, job.target, job.target.parent.parent)
            records[job.case] = job.record
        else:
            jobs.append(job)
    voxels = [math.prod(job.facts.raw_shape) for job in jobs]
    composed = run_jobs(compose, [(job,) for job in jobs], context.options.workers, "labels", voxels=voxels)
    records |= {job.case: record for job, record in zip(jobs, composed, strict=True)}
    with suppress(TypeError):  # the geometry of another package's reader, which JSON does not hold: no record
        write_json(context.round.composed, records)


def compose(job: LabelJob) -> Record:
    """Write the composed label of a case and return its record.

    Raises CampaignError if a label volume is not the one that was committed.
    """
    ledger, case = job.ledger, job.case
    labels_xyz, properties = _continued(job), job.record.get("properties")
    if labels_xyz is None:
        labels_xyz = labels_after(ledger, case, job.commits, job.files, job.facts)
        properties = ledger.properties(case, job.commits)
    assert properties is not None, case
    ledger.label_format.write(job.target, labels_xyz, properties)
    found = measure(labels_xyz, job.regions, ledger.ignore)
    return {"commits": _key(job.commits, case), "sha256": checksum(job.target), "properties": properties, **found}


def labels_after(ledger: Ledger, case: str, commits: list[Commit], files: CaseFiles, facts: CaseFacts) -> np.ndarray:
    """Return the labels (z, y, x) of a case after ``commits``, as nnU-Net is to see them.

    Voxels that nobody annotated hold ignore. Those outside nnU-Net's nonzero mask are background, as nnU-Net
    defines them, unless they were annotated as something else: ignore written there would change masked z-score
    normalisation.
    """
    labels_xyz = ledger.labels(case, facts.raw_shape, commits)
    outside_xyz = ~nonzero_mask(files, facts.reader)
    labels_xyz[outside_xyz & (labels_xyz == ledger.ignore)] = 0
    return labels_xyz


def measure(labels_xyz: np.ndarray, regions: Mapping[int, Region], ignore: int) -> Record:
    """Return what later stages ask of a composed label: complete regions, and the voxels of each value from 0."""
    complete_N = fully_annotated(list(regions.values()), {r.case: labels_xyz != ignore for r in regions.values()})
    numbers = [number for number, complete in zip(regions, complete_N, strict=True) if complete]
    return {"complete": numbers, "voxels": np.bincount(labels_xyz.ravel()).tolist()}


def measures(context: RoundContext) -> dict[str, Record]:
    """Return what `measure` does of each annotated case's label; labels are read only where no record has it."""
    records, commits, regions = _records(context.round), _commits_of(context), _regions_of(context)
    found = {case: records.get(case, {}) for case in context.annotated_cases}
    lacking = [case for case in found if found[case].get("commits") != _key(commits[case], case)]
    jobs = [(context.ledger, context.composed_label(case), regions.get(case, {})) for case in lacking]
    voxels = [math.prod(context.data.facts[case].raw_shape) for case in lacking]
    read = run_jobs(_read_and_measure, jobs, context.options.workers, "labels", voxels=voxels)
    return found | dict(zip(lacking, read, strict=True))


def _read_and_measure(ledger: Ledger, path: Path, regions: Mapping[int, Region]) -> Record:
    return measure(ledger.label_format.read(path), regions, ledger.ignore)


def _continued(job: LabelJob) -> np.ndarray | None:
    """Add the new commits to the label of the round before; None if that label does not say how.

    A 0 in it is background that was annotated, which stands, or lies outside the nonzero mask and was not annotated.
    """
    if job.before is None:
        return None
    ignore = job.ledger.ignore
    labels_xyz = job.ledger.label_format.read(job.before)
    for commit in _counting(job.commits)[len(job.record["commits"]) :]:
        new_xyz = job.ledger.volume(commit, job.case)
        if commit.source != CORRECTION and ((labels_xyz == 0) & (new_xyz != 0) & (new_xyz != ignore)).any():
            return None
        put_labels(labels_xyz, new_xyz, commit.source, ignore)
    return labels_xyz


def _jobs(context: RoundContext) -> Iterator[LabelJob]:
    previous = context.previous
    there = previous is not None and is_as_left(previous.stages, "labels", previous.composed)
    earlier = _records(previous) if previous is not None and there else {}
    commits_of, regions_of = _commits_of(context), _regions_of(context)
    for case in context.annotated_cases:
        commits, record, target = commits_of[case], earlier.get(case, {}), context.composed_label(case)
        before = None
        if record and context.previous and _key(commits, case)[: len(record["commits"])] == record["commits"]:
            file = context.previous.view.raw / target.relative_to(context.round.view.raw)
            before = file if file.is_file() and checksum(file) == record["sha256"] else None
        files, facts = context.data.dataset.cases[case], context.data.facts[case]
        yield LabelJob(case, context.ledger, commits, files, facts, regions_of.get(case, {}), target, before, record)


def _commits_of(context: RoundContext) -> dict[str, list[Commit]]:
    found: dict[str, list[Commit]] = {}
    for commit in context.commits:
        for case in commit.labels:
            found.setdefault(case, []).append(commit)
    return found


def _regions_of(context: RoundContext) -> dict[str, dict[int, Region]]:
    found: dict[str, dict[int, Region]] = {}
    for number, region in enumerate(context.regions):
        found.setdefault(region.case, {})[number] = region
    return found


def _counting(commits: Sequence[Commit]) -> list[Commit]:
    return [commit for commit in commits if commit.counts]


def _key(commits: Sequence[Commit], case: str) -> list[list[Any]]:
    return [[commit.number, commit.labels[case].sha256] for commit in _counting(commits)]


def _records(round_: RoundFolder) -> dict[str, Record]:
    try:
        return dict(read_json(round_.composed))
    except (OSError, ValueError, TypeError):  # a round of an earlier version, or a broken file
        return {}
