"""Which job folders work on a dataset: ``al/jobs.json`` among its campaigns names them."""

from __future__ import annotations

from pathlib import Path

from nnunet_al.errors import CampaignError
from nnunet_al.file_locks import file_lock, remove_lock
from nnunet_al.files import read_json, write_json
from nnunet_al.jobs.folder import JobFolder

_NAME = "jobs.json"
_PATIENCE_SECONDS = 120.0


def remember(al_folder: Path, folder: Path) -> None:
    """Add a job folder to those of a dataset, whose campaigns lie in ``al_folder``, unless it is there already.

    Folders that were moved or deleted are removed, unless their parent is missing too: its file system may be away.

    Raises CampaignError, StorageError if another process holds the lock for minutes, or the file cannot be written.
    """
    place, lock = str(folder.absolute()), al_folder / "lock_jobs"
    if place in _entered(al_folder):
        return
    try:
        with file_lock(lock, timeout_seconds=_PATIENCE_SECONDS):
            kept = [other for other in _entered(al_folder) if Path(other).is_dir() or not Path(other).parent.is_dir()]
            write_json(al_folder / _NAME, {"folders": list(dict.fromkeys([*kept, place]))})
            remove_lock(lock, [])
    except TimeoutError as error:
        raise CampaignError(f"Another process holds {lock}: wait for it or stop it.") from error


def folders_of(al_folder: Path) -> list[Path]:
    """Return the job folders that were entered for a dataset, the oldest first; they need not exist any more."""
    return [Path(place) for place in _entered(al_folder)]


def job_folder_of(campaign: Path) -> Path | None:
    """Return the job folder, the newest first, that works on the campaign in this folder; None where there is none."""
    for folder in reversed(folders_of(campaign.parents[1])):
        try:
            plan = JobFolder(folder).load().plan
        except CampaignError:  # it was removed, or is broken
            continue
        if any(script.campaign == campaign for script in plan.scripts.values()):
            return folder
    return None


def _entered(al_folder: Path) -> list[str]:
    try:
        return [str(place) for place in read_json(al_folder / _NAME)["folders"]]
    except (OSError, ValueError, KeyError, TypeError):  # it only helps to find folders that exist without it
        return []
