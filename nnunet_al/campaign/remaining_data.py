"""The places that still hold data of a case that was withdrawn, so that people can delete it."""

from __future__ import annotations

import csv
import re
import shutil
import zipfile
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from nnunet_al.campaign.decisions import Decisions
from nnunet_al.campaign.folders import CampaignFolder, RoundFolder
from nnunet_al.files import read_arrays, read_json, storage_errors
from nnunet_al.nnunet.environment import Roots
from nnunet_al.nnunet.image_store import store_folder
from nnunet_al.text import count

KEPT = "report"
"""Folder of a round in which reports keep their results from its model."""

_SEPARATORS = "._-"
_TEXTS = {".json", ".csv", ".tsv", ".txt", ".md", ".log"}
_WORD = re.compile(r"[^\s\"'/,;:()\[\]{}]+")
_COLLECTED = "collected.csv"  # beside a batch: taken or refused, each returned file


def remaining_data(
    roots: Roots, folder: CampaignFolder, decided: Decisions, case: str, others: Collection[str]
) -> list[str]:
    """Return a line on each folder with files of ``case``, on models trained on it, on other campaigns, and so on.

    Files are recognised by their names, and by the table of the returned files; ``others`` are all other cases that may
    have left some, so that the files of ``head_10`` are not taken for those of ``head_1``. There is always a line: a
    campaign keeps the names of withdrawn cases.
    """
    known = {case, *others}
    own, store = roots.raw / decided.dataset, store_folder(roots, decided.dataset)
    rounds = folder.rounds()
    places = [
        ("the dataset", [own / f"{kind}{part}" for kind in ("images", "labels") for part in ("Tr", "Ts")]),
        ("the ledger", [folder.ledger]),
        ("the campaign's intensity samples", [folder.root / "intensities"]),
        ("the campaign's first plan", [folder.prepared.root]),
        ("preprocessed images, which all campaigns of the dataset share", [store]),
        ("what nnU-Net itself preprocessed", _beside(store)),
        ("what nnU-Net itself trained and predicted", _beside(folder.root.parents[1])),
        *((f"round {round_.number}", [round_.root]) for round_ in rounds),
    ]
    lines = []
    for what, folders in places:
        for place, number in sorted(_files_of(case, folders, known).items()):
            lines.append(f"{count(number, 'file')} in {place} ({what})")
    for round_ in rounds:
        for path in _returned(round_.hand_out, case, known):
            lines.append(f"{path}, which a reader returned under another name (round {round_.number})")
    lines += _models(rounds, decided, case)
    for other in CampaignFolder.of_dataset(roots, decided.dataset):
        if other.root != folder.root and (state := _state_in(other, case)):
            lines.append(f"the campaign {other.root}, {state}")
    if any(round_.number > 0 for round_ in rounds):
        lines.append("reports that were written before may show it; they lie where -o said")
    if naming := _naming(folder.root, case, known):
        lines.append(f"only its name, and numbers such as its Dice: {', '.join(naming)} in {folder.root}")
    return lines


def kept_pictures(folder: CampaignFolder) -> list[Path]:
    """Return the folders in which reports keep slices of a campaign's cases, and their other results from a model."""
    return [path for round_ in folder.rounds() if (path := round_.root / KEPT).is_dir()]


def remove_kept_pictures(folder: CampaignFolder) -> None:
    """Remove the folders that reports keep in those of the rounds; a report makes them anew, without withdrawn cases.

    Raises StorageError if it cannot be removed.
    """
    for path in kept_pictures(folder):
        with storage_errors(path):
            shutil.rmtree(path)


def _files_of(case: str, folders: Iterable[Path], known: Collection[str]) -> Counter[str]:
    """Count the files of a case by the folder that holds them; folders of a batch count as one."""
    found: Counter[str] = Counter()
    for folder in folders:
        for path in folder.rglob("*"):
            inside = path.relative_to(folder)
            if not path.is_dir() and any(_owner(part, known) == case for part in inside.parts):
                batch = bool(inside.parts) and inside.parts[0] == "batch"
                found[str(folder / "batch" if batch else path.parent)] += 1
    return found


def _beside(folder: Path) -> list[Path]:
    return [path for path in folder.parent.glob("*") if path != folder and path.is_dir()]


def _returned(batch: Path, case: str, known: Collection[str]) -> list[Path]:
    """Return the files that are there and were collected as those of a case, though their names do not say so."""
    found, table = [], batch / _COLLECTED
    with suppress(OSError, UnicodeDecodeError, csv.Error), table.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            path = batch / (row.get("file") or "")
            inside = path.relative_to(batch).parts if batch in path.parents else (path.name,)
            if row.get("case") == case and path.is_file() and all(_owner(part, known) != case for part in inside):
                found.append(path)
    return sorted(set(found))


def _naming(root: Path, case: str, known: Collection[str]) -> list[str]:
    """Return the names of the campaign's own files, each once, that name a case inside."""
    names = {path.name for path in root.rglob("*") if path.suffix in _TEXTS and _names(path, case, known)}
    regions = root / "regions.npz"
    with suppress(OSError, ValueError, KeyError, zipfile.BadZipFile):
        names |= {regions.name} if case in read_arrays(regions)["cases"].tolist() else set()
    return sorted(names)


def _names(path: Path, case: str, known: Collection[str]) -> bool:
    try:
        content = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    except OSError:
        return False
    return case in content and any(_owner(word, known) == case for word in _WORD.findall(content) if case in word)


def _owner(name: str, known: Collection[str]) -> str | None:
    """Return the case that a file is named after: the longest one that it begins with."""
    cut = {name[:end] for end in range(1, len(name) + 1) if end == len(name) or name[end] in _SEPARATORS}
    return max(cut.intersection(known), key=len, default=None)


def _models(rounds: Iterable[RoundFolder], decided: Decisions, case: str) -> list[str]:
    trained, descended = [], []
    for round_ in rounds:
        content = round_.view.raw / decided.dataset / "dataset.json"
        has_model = any(round_.view.results.rglob("checkpoint_*.pth"))
        if content.is_file() and case in read_json(content)["dataset"]:
            trained.append(round_)
        if trained and has_model:
            descended.append(round_)
    if not trained or not descended:
        return []
    if decided.from_scratch:
        own = [round_ for round_ in descended if round_ in trained]
        return [f"{_the_models(own)}, trained on it"] if own else []
    return [
        f"{_the_models(descended)}, trained on it or from weights that were, as the next round's will be; a campaign "
        "with --from_scratch has none of it"
    ]


def _the_models(rounds: Sequence[RoundFolder]) -> str:
    numbers = ", ".join(str(round_.number) for round_ in rounds)
    return f"the model of round {numbers}" if len(rounds) == 1 else f"the models of the rounds {numbers}"


def _state_in(other: CampaignFolder, case: str) -> str:
    """Return how a case stands in another campaign; nothing where that never had it."""
    content = read_json(other.decisions)
    if case in (*content["pool_cases"], *content["test_cases"]):
        return "which has the case and is as it was"
    if case in content.get("withdrawn_cases", ()):
        return "from which it was withdrawn too: what was said of it then may still be there"
    return ""
