"""The report: one HTML file on one or many campaigns, with all its numbers as CSV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryFile

import nnunet_al
from nnunet_al.campaign.decisions import Options
from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.errors import CampaignError, DatasetError, ModelError, NnunetALError, SetupError
from nnunet_al.files import storage_errors, write_text
from nnunet_al.nnunet.environment import Roots
from nnunet_al.report.drawing.learning_figures import campaign_figures
from nnunet_al.report.drawing.svg import Figure
from nnunet_al.report.evidence.device import device_for
from nnunet_al.report.evidence.gather import gather_evidence
from nnunet_al.report.evidence.kept_predictions import kept_case_panels
from nnunet_al.report.evidence.record import Evidence
from nnunet_al.report.evidence.tables import evidence_tables
from nnunet_al.report.page.annotation_progress import annotation_progress
from nnunet_al.report.page.evidence_sections import evidence_sections, test_case_sections
from nnunet_al.report.page.html import Section, bullets, commands, definitions, figures, heading, page, paragraph, table
from nnunet_al.report.page.repeat import repeat_commands, repeat_notes
from nnunet_al.report.page.summary import budget_sentences, campaigns_sentence, missing_sentences, ranking_sentences
from nnunet_al.report.reading.lines import AXES, Comparison, comparisons
from nnunet_al.report.reading.reference import Reference
from nnunet_al.report.reading.rounds import READ_ERRORS
from nnunet_al.report.reading.runs import Run, read_runs
from nnunet_al.report.reading.warnings import all_warnings
from nnunet_al.report.tables.all_tables import campaign_tables, identity, penalties_of
from nnunet_al.report.tables.table import Table
from nnunet_al.terminal import say
from nnunet_al.text import count

PAGE = "report.html"
MAPS = "maps"
TITLE = "Active learning report"

Part = tuple[str, str, tuple[str, ...], tuple[str, ...]]
"""Anchor, heading, prefixes of the names of its figures, and names of its tables."""

_COMPARING: tuple[Part, ...] = (
    ("curves", "Learning curves", (*(f"curves_{axis}" for axis in AXES), "each"), ("curves",)),
    ("budget", "Budget to reach a Dice coefficient", ("budget",), ("budget", "highest")),
    ("area", "Area under the curve", ("area",), ("area",)),
    ("penalty", "Pairwise penalties", ("penalty",), ("penalty",)),
    ("rounds", "Means over rounds, and tests", (), ("over_rounds", "permutation")),
    (
        "distances",
        "95th percentile of the Hausdorff distance (HD95)",
        ("curves_hd95", "penalty_hd95"),
        ("standings_hd95", "curves_hd95", "penalty_hd95"),
    ),
    ("classes", "Classes", ("classes",), ("classes",)),
    ("groups", "Groups and fairness", ("fairness", "groups"), ("groups",)),
    ("cost", "Cost of annotation, round by round", (), ("cost", "rounds")),
)
_TIME: Part = ("time", "Time", ("time",), ("time", "stages"))


def write_report(
    folders: Sequence[CampaignFolder],
    output: Path,
    full_dice: float | None = None,
    pictures: int = 8,
    evidence: tuple[Roots, Options] | None = None,
    maps: bool = False,
) -> Path:
    """Write ``report.html`` and its tables into a folder, and return the page's path.

    Parameters
    ----------
    folders, output
        at least one campaign; the folder, in which files of an earlier report are overwritten
    full_dice
        Dice of a model trained on all data, the reference of the budgets; None: that of campaigns with ``--full``, else
        the best that was reached
    pictures
        number of regions shown of each strategy's batch
    evidence
        nnU-Net's folders and the device on which models run; None leaves out everything that needs a model
    maps
        whether to write the strategies' own maps of these rounds as volumes, too

    Where the device is not available, parts that need a model are left out, which the page and a line say.

    Raises CampaignError if no campaign can be read; StorageError if a file cannot be written.
    """
    left_out: list[str] = []
    runs = read_runs(folders, left_out)
    if not runs:
        raise CampaignError(left_out[0])
    _check_writable(output)
    compared = comparisons(runs)
    matrices = penalties_of(compared)
    reference = Reference(full_dice, tuple(run for run in runs if run.decided.full))
    tables = {made.name: made for made in campaign_tables(runs, compared, matrices, reference)}
    drawn = campaign_figures(compared, tables, matrices, reference)
    found, missing = _evidence(compared, pictures, evidence)
    of_models = evidence_tables([(identity(run), seen) for run, seen in found])
    written = [path.name for made in (*tables.values(), *of_models) if (path := made.write(output)) is not None]
    sections = [Section("summary", "Summary", _summary(runs, compared, tables)), *_filled(_COMPARING, drawn, tables)]
    if evidence is not None:
        choosing = [run for run in runs if not run.decided.full]
        named = [(_short_name(run, choosing), seen) for run, seen in found]
        sections += evidence_sections(named, {made.name: made for made in of_models}, missing)
        sections += _test_cases(compared, reference.runs, *evidence)
    sections += [
        *_filled((_TIME,), drawn, tables),
        Section("settings", "Settings and commands to repeat the campaigns", _settings(runs, tables["settings"])),
        Section("remarks", "Remarks", _remarks([*left_out, *all_warnings(runs, compared)], evidence is None)),
        Section("files", "Files", _files(written, _map_files(found, output, *evidence) if evidence and maps else ())),
    ]
    write_text(output / PAGE, page(_title(runs), campaigns_sentence(runs), sections, _footer()))
    return output / PAGE


def _evidence(
    compared: Sequence[Comparison], pictures: int, where: tuple[Roots, Options] | None
) -> tuple[list[tuple[Run, Evidence]], list[str]]:
    """Return the evidence of each strategy's first run (lowest fold, then seed), and sentences on runs without any."""
    found, missing = [], []
    without_device: dict[str, int] = {}
    for comparison in compared if where is not None else ():
        for line in comparison.lines:
            run = min(line.runs, key=lambda run: (run.decided.fold, run.decided.seed))
            assert where is not None
            try:
                seen = gather_evidence(run.folder, *where, pictures)
            except SetupError as error:
                seen = str(error)
                without_device[seen] = without_device.get(seen, 0) + 1
            if isinstance(seen, str):
                missing.append(f"{run.name}: {seen}")
            else:
                found.append((run, seen))
    for sentence, runs in without_device.items():
        say(f"What needs a round's model is left out of the report, of {count(runs, 'campaign')}. {sentence}")
    return found, missing


def _test_cases(compared: Sequence[Comparison], full: Sequence[Run], roots: Roots, options: Options) -> list[Section]:
    """Return the section of kept predictions; none where none are kept."""
    found, missing = [], []
    for comparison in compared:
        try:
            found += kept_case_panels(comparison, full, roots, options)
        except (NnunetALError, *READ_ERRORS) as error:
            missing.append(f"{comparison.title}: predictions that were kept cannot be shown: {error}")
    return test_case_sections(found, missing)


def _check_writable(folder: Path) -> None:
    """Raise StorageError for a folder that cannot be written, before the work of minutes."""
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass


def _summary(runs: Sequence[Run], compared: Sequence[Comparison], tables: dict[str, Table]) -> tuple[str, ...]:
    standings = tables["standings"]
    sentences = [*annotation_progress(runs), *ranking_sentences(standings), *missing_sentences(compared)]
    blocks = (bullets([*sentences, *budget_sentences(tables["budget"])]),)
    about_runs = (
        "Runs are folds and seeds. An interval shows how certain the mean over them is; since runs share data, it "
        "is somewhat too narrow. Where many strategies are compared, some will seem to differ by chance."
    )
    return (*blocks, table(standings), paragraph(about_runs)) if standings.rows else blocks


def _filled(parts: Sequence[Part], made: Sequence[Figure], tables: dict[str, Table]) -> list[Section]:
    """Return the sections that have a figure or a table with rows."""
    found = []
    for anchor, title, beginnings, names in parts:
        drawn = [one for one in made if any(f"{one.name}_".startswith(f"{start}_") for start in beginnings)]
        listed = [table(tables[name]) for name in names if tables[name].rows]
        if drawn or listed:
            found.append(Section(anchor, title, (figures(drawn), *listed)))
    return found


def _settings(runs: Sequence[Run], settings: Table) -> tuple[str, ...]:
    notes = [
        "These commands start campaigns with the same decisions, all spelled out, for the same number of rounds. "
        "Add options on the machine, such as -device and -np; on another kind of device the last digits differ."
    ]
    notes += repeat_notes(runs)
    common = [(row["setting"], row["value"]) for row in settings.rows if row["campaigns"] == "all"]
    differing = [row for row in settings.rows if row["campaigns"] != "all"]
    return (
        *(paragraph(note) for note in notes),
        commands(repeat_commands(runs)),
        heading("Settings that all campaigns share"),
        definitions(common),
        *([heading("Settings that differ"), table(replace(settings, rows=differing))] if differing else ()),
    )


def _remarks(sentences: Sequence[str], without_models: bool) -> tuple[str, ...]:
    sentences = list(sentences)
    if without_models:
        sentences.append("Sections that need a round's model are left out (--no_evidence).")
    return (bullets(sentences),) if sentences else (paragraph("There are no remarks."),)


def _files(written: Sequence[str], maps: Sequence[str]) -> tuple[str, ...]:
    blocks = (
        paragraph("All numbers of this page are in these CSV files beside it, unrounded, each with one header line:"),
        bullets(sorted(written)),
    )
    if not maps:
        return blocks
    about = (
        f"The folder {MAPS} holds the strategies' own maps of these batches as volumes on the grid of the images, for "
        "3D Slicer or ITK-SNAP: the values inside the regions asked for, 0 elsewhere."
    )
    return (*blocks, paragraph(about), bullets(maps))


def _map_files(found: Sequence[tuple[Run, Evidence]], output: Path, roots: Roots, options: Options) -> list[str]:
    """Write the maps of all rounds that have evidence, and return a sentence on each."""
    from nnunet_al.report.evidence.map_files import write_maps

    sentences = []
    for run, seen in found:
        folder = output / MAPS / run.decided.dataset / run.folder.name / f"round_{seen.round:03d}"
        try:
            here = replace(options, device=device_for(run.folder.round(seen.round), options.device))
            sentences.append(write_maps(run.folder, seen.round, folder, roots, here))
        except (DatasetError, ModelError, SetupError) as error:
            sentences.append(f"{run.folder.name}: no maps. {error}")
    return sentences


def _title(runs: Sequence[Run]) -> str:
    datasets = list(dict.fromkeys(run.decided.dataset for run in runs))
    return f"{TITLE}: {datasets[0]}" if len(datasets) == 1 else f"{TITLE}: {count(len(datasets), 'dataset')}"


def _short_name(run: Run, runs: Sequence[Run]) -> str:
    """Name a run by the decisions in which the runs of the report differ."""
    decided = run.decided
    words = [
        str(getattr(decided, name))
        for name in ("dataset", "configuration", "unit")
        if len({getattr(other.decided, name) for other in runs}) > 1
    ]
    tag = [f"tag {decided.tag}"] if decided.tag else []
    return ", ".join([*words, run.strategy, *tag, f"fold {decided.fold}", f"seed {decided.seed}"])


def _footer() -> str:
    day = datetime.now(timezone.utc).date().isoformat()
    programs = ", ".join(f"{name} {version(name)}" for name in ("nnunetv2", "torch", "numpy"))
    return f"Written on {day} by nnunet-al {nnunet_al.__version__} ({programs})."
