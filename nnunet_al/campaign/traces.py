"""What still holds data of a case that was withdrawn, so that people can delete it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from nnunet_al.campaign.decisions import Decisions
from nnunet_al.campaign.folders import CampaignFolder, RoundFolder
from nnunet_al.errors import StrategyError
from nnunet_al.files import read_json
from nnunet_al.nnunet.environment import Roots
from nnunet_al.nnunet.image_store import store_folder
from nnunet_al.progress import count

_SEPARATORS = "._-"


def traces(roots: Roots, folder: CampaignFolder, decided: Decisions, case: str, others: Collection[str]) -> list[str]:
    """Return a line on each folder with files of ``case``, on models trained on it, and on other campaigns.

    Files are told by their names; ``others`` are all other cases that may have left some, so that the files of
    ``head_10`` are not taken for those of ``head_1``.
    """
    known = {case, *others}
    dataset = [roots.raw / decided.dataset / f"{kind}{part}" for kind in ("images", "labels") for part in ("Tr", "Ts")]
    places = [
        ("the dataset", dataset),
        ("the ledger", [folder.ledger]),
        ("the campaign's intensity samples", [folder.root / "intensities"]),
        ("preprocessed images, which all campaigns of the dataset share", [store_folder(roots, decided.dataset)]),
        *((f"round {round_.number}", [round_.root]) for round_ in folder.rounds()),
    ]
    lines = []
    for what, folders in places:
        for place, number in sorted(_files_of(case, folders, known).items()):
            lines.append(f"{count(number, 'file')} in {place} ({what})")
    lines += _models(folder.rounds(), decided, case)
    for other in CampaignFolder.of_dataset(roots, decided.dataset):
        if other.root != folder.root and _has(other, case):
            lines.append(f"the campaign {other.root}, which has the case and is as it was")
    return lines


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


def _has(other: CampaignFolder, case: str) -> bool:
    try:
        return case in Decisions.load(other.decisions).cases
    except StrategyError:  # of a package that is gone
        return case in read_json(other.decisions)["pool_cases"]
