"""A job folder: the plan, a list of submitted jobs, and the scripts; never one file for each round."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_al.errors import CampaignError
from nnunet_al.file_locks import file_lock
from nnunet_al.files import read_json, storage_errors, write_atomically, write_json
from nnunet_al.jobs.plan import Plan, plan_from_json, plan_to_json

SCHEMA = 1
_LOCK = "lock"
_EXECUTABLE = 0o755


@dataclass(frozen=True)
class Stored:
    """The content of ``plan.json``.

    Attributes
    ----------
    plan : the last one
    target : a name in ``targets.TARGETS``
    directory : the working directory of the call that made the request, for the relative paths in it
    files : the scripts, relative to the folder
    """

    plan: Plan
    target: str
    directory: Path
    files: tuple[str, ...]


@dataclass(frozen=True)
class JobFolder:
    """The folder ``root``, which need not exist."""

    root: Path

    @property
    def plan_file(self) -> Path:
        """The plan and the request behind it."""
        return self.root / "plan.json"

    @property
    def submitted_file(self) -> Path:
        """The submissions: key TAB id TAB time, a line for each, appended right after it."""
        return self.root / "submitted.tsv"

    @property
    def exists(self) -> bool:
        """Whether it is a job folder already."""
        return self.plan_file.is_file()

    def check(self) -> None:
        """Refuse a folder that holds something else.

        Raises CampaignError naming it.
        """
        if self.exists or self.submitted_file.is_file() or not os.path.lexists(self.root):
            return
        if not self.root.is_dir():
            raise CampaignError(f"-o {self.root}: this is no folder; choose another name.")
        if any(path.name != _LOCK for path in self.root.iterdir()):
            raise CampaignError(
                f"-o {self.root}: the folder holds something else; choose a new one, or that of earlier jobs."
            )

    def load(self) -> Stored:
        """Return the content of ``plan.json``.

        Raises CampaignError if there is none, or it cannot be read.
        """
        if not self.exists:
            raise CampaignError(f"{self.root} holds no jobs: make them with nnUNetv2_al_jobs -d ... -o {self.root}.")
        found = self.surviving()
        if found is None:
            raise CampaignError(
                f"{self.plan_file} cannot be read: repeat the call with -d, -s and -to, which writes it again; "
                f"{self.submitted_file.name} still lists the submitted jobs, and the campaigns are not affected."
            )
        return found

    def surviving(self) -> Stored | None:
        """Return the same as :meth:`load`; None where the plan is missing or broken, so that it can be made again.

        Raises CampaignError if a newer version has written it.
        """
        try:
            content: dict[str, Any] = read_json(self.plan_file)
            schema = content["schema"]
            if schema == SCHEMA:
                plan, files = plan_from_json(content["plan"]), tuple(content["files"])
                return Stored(plan, str(content["target"]), Path(content["directory"]), files)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        raise CampaignError(f"{self.plan_file} has schema {schema}, this version reads {SCHEMA}: update nnunet-al.")

    def history(self) -> dict[str, tuple[str, ...]]:
        """Return the ids of all submissions of each key, in order; a line that was cut off is left out."""
        ids: dict[str, list[str]] = {}
        try:
            text = self.submitted_file.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return {}
        for line in text.splitlines(keepends=True):
            key, *rest = line.rstrip("\n").split("\t")
            if line.endswith("\n") and len(rest) == 2 and rest[0]:
                ids.setdefault(key, []).append(rest[0])
        return {key: tuple(dict.fromkeys(found)) for key, found in ids.items()}

    def submitted(self) -> dict[str, str]:
        """Return the id of the last submission of each key."""
        return {key: ids[-1] for key, ids in self.history().items()}

    def write(
        self, plan: Plan, target: str, files: Mapping[str, str], entry: str = "", directory: Path | None = None
    ) -> None:
        """Write a plan and its scripts, in place of those of an earlier plan; nothing else is removed.

        ``files`` maps relative paths to texts; ``entry`` is the one that is run. ``directory`` is the working directory
        of the request, by default that of this process.

        Raises CampaignError, StorageError if the folder holds something else, or cannot be written.
        """
        self.check()
        stored = self.surviving()
        earlier = () if stored is None else stored.files
        content = {
            "schema": SCHEMA,
            "target": target,
            "directory": str(directory or Path.cwd()),
            "plan": plan_to_json(plan),
        }
        # a call that is killed in between leaves no script behind of which the next one does not know
        write_json(self.plan_file, {**content, "files": sorted({*earlier, *files})})
        for name, text in files.items():
            _write_script(self.root / name, text, name == entry)
        for name in set(earlier) - set(files):
            self._remove(name)
        write_json(self.plan_file, {**content, "files": sorted(files)})
        for logs in {script.logs for script in plan.scripts.values()}:
            with storage_errors(logs):
                logs.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes from writing and handing over the same jobs.

        Raises CampaignError if another one is doing so.
        """
        try:
            with file_lock(self.root / _LOCK):
                yield
        except TimeoutError as error:
            raise CampaignError(
                f"Another process hands over the jobs of {self.root}: wait for it or stop it."
            ) from error

    def _remove(self, name: str) -> None:
        path = self.root / name
        path.unlink(missing_ok=True)
        for folder in path.relative_to(self.root).parents:
            if folder == Path():
                return
            with suppress(OSError):  # others have something in it
                (self.root / folder).rmdir()


def _write_script(path: Path, text: str, is_entry: bool) -> None:
    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8", newline="\n")
        if is_entry or path.suffix == ".sh":
            temporary.chmod(_EXECUTABLE)

    if path.is_file() and path.read_text(encoding="utf-8", errors="replace") == text:
        return
    write_atomically(path, write)
