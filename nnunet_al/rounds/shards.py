"""Shards of a pass over the pool: their files, the hash of their inputs, and saving the progress now and then.

On one kind of CPU, with one version of torch and one number of threads, shards come to the same bits as one call.
Shards of unlike CPUs are joined all the same: their scores differ in the last digits of float32, and the batch that is
chosen from them is one of those that such differences allow.
"""

from __future__ import annotations

import inspect
import time
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeVar
from zipfile import BadZipFile

import numpy as np

import nnunet_al
from nnunet_al.campaign.stages import part_stage
from nnunet_al.errors import CampaignError, ModelError
from nnunet_al.files import hash_file, hash_json, read_arrays
from nnunet_al.pool.table import by_case
from nnunet_al.rounds.context import RoundContext
from nnunet_al.rounds.network_delay import wait_while
from nnunet_al.stopping import is_asked_to_stop, stop_if_asked
from nnunet_al.strategies.registry import is_built_in, voxel_map
from nnunet_al.terminal import say
from nnunet_al.text import count

SECONDS_BETWEEN_WRITES = 60.0
"""A shard saves its progress this often; less often where writing takes more than a second."""

Done = TypeVar("Done")


class NowAndThen(Generic[Done]):
    """Saves the progress each minute, and before the process ends because somebody asks it to."""

    def __init__(self, write: Callable[[Done], object]) -> None:
        """Keep the function that writes; the first minute begins."""
        self._write = write
        self._due = time.monotonic() + SECONDS_BETWEEN_WRITES

    def __call__(self, done_so_far: Callable[[], Done]) -> None:
        """Write if it is time to.

        Raises KeyboardInterrupt if somebody asks the process to stop; the progress is saved then.
        """
        asked, started = is_asked_to_stop(), time.monotonic()
        if not asked and started < self._due:
            return
        self._write(done_so_far())
        if asked:
            stop_if_asked()
        ended = time.monotonic()
        self._due = ended + SECONDS_BETWEEN_WRITES * max(1.0, ended - started)


def share(context: RoundContext, numbers: Sequence[int]) -> dict[str, list[int]]:
    """Return this call's share of the given regions, by case."""
    groups = by_case(context.regions, numbers)
    return {case: groups[case] for case in list(groups)[context.options.part :: context.options.parts]}


def without(numbers_of_case: Mapping[str, Sequence[int]], known: Collection[int]) -> dict[str, list[int]]:
    """Return the regions that are not known yet, by case; a case of which all are known is not read again."""
    known = {*np.asarray(known).tolist()}
    left = {case: [number for number in some if number not in known] for case, some in numbers_of_case.items()}
    return {case: some for case, some in left.items() if some}


def say_taken_over(known: int, wanted: int, done: str) -> None:
    """Say how much of a shard calls before this one have done."""
    if known:
        say(f"    {known} of {count(wanted, 'region')} {'was' if known == 1 else 'were'} {done} before")


def part_file(context: RoundContext, kind: str, part: int) -> Path:
    """Return the file of one shard."""
    return context.round.parts / f"{kind}_{part}_of_{context.options.parts}.npz"


def part_files(context: RoundContext, kind: str) -> list[Path]:
    """Return the files of all shards, in order, after waiting for those that another host has just written."""
    paths = [part_file(context, kind, part) for part in range(context.options.parts)]
    wait_while(lambda: ", ".join(str(path) for path in paths if not path.is_file()), [context.round.parts])
    return paths


def all_part_files(context: RoundContext, kind: str) -> list[Path]:
    """Return the files that are there, of any number of shards; those of this call's shard first."""
    own = part_file(context, kind, context.options.part)
    return sorted(context.round.parts.glob(f"{kind}_*_of_*.npz"), key=lambda path: (path != own, path.name))


def remove_others(context: RoundContext, phase: str, *kinds: str) -> None:
    """Remove the files of other numbers of shards, as ``kinds`` begin, once a phase's shards are put together.

    Those of this number stay, so that the stage can be done again if the process dies before its marker is written.
    """
    markers = context.round.stages.glob(f"{part_stage(phase, '*', '*')}.json")
    files = (path for kind in kinds for path in context.round.parts.glob(f"{kind}_*_of_*"))
    for path in [*markers, *files]:  # markers first: they must not speak of files that are gone
        if not path.stem.endswith(f"_of_{context.options.parts}"):
            path.unlink(missing_ok=True)


def remove_parts(context: RoundContext) -> None:
    """Remove the files of all shards, which nobody reads again once the batch is chosen: many small ones."""
    for path in context.round.parts.glob("[!.]*"):
        path.unlink(missing_ok=True)
    with suppress(OSError):  # it is not there, or somebody who came late is still at it
        context.round.parts.rmdir()


def read_part(path: Path, made_by: str) -> dict[str, np.ndarray] | None:
    """Return the content of a shard's file; None if it is absent, broken, or not ``made_by`` the same."""
    try:
        arrays = read_arrays(path)
    except (OSError, EOFError, ValueError, KeyError, BadZipFile, NotImplementedError, zlib.error):
        return None
    return arrays if str(arrays.pop("made_by", "")) == made_by else None


def made_by(context: RoundContext, *files: Path) -> str:
    """Return a hash of all inputs of a pass, beside the pool: the recipe, the bytes of ``files`` and so on.

    Raises ModelError if one of the files is missing.
    """
    decided = context.decided
    for file in files:
        if not file.is_file():
            raise ModelError(f"{file} is missing, which the shards of round {context.number} were made by: restore it.")
    return hash_json(
        {
            "version": nnunet_al.__version__,
            "files": [hash_file(file) for file in files],
            "recipe": decided.recipe.to_json(),
            "code": list(_code_of_others(context)),
            "draws": [decided.seed, context.number],
            "network": [decided.configuration, decided.dropout, decided.precision, context.plans],
            "roi_classes": list(decided.roi_classes),
        }
    )


def do_again(context: RoundContext, phase: str) -> NoReturn:
    """Mark the phase's shards as not done, since their files are not of the present model.

    Raises CampaignError always.
    """
    for marker in context.round.stages.glob(f"{part_stage(phase, '*', '*')}.json"):
        marker.unlink(missing_ok=True)
    raise CampaignError(
        f"Shards in {context.round.parts} are missing, or another model or version made them: run the same command "
        f"again (with -num_parts, or after -phase {phase}, for every shard), which does again what is not of the "
        "present model."
    )


def _code_of_others(context: RoundContext) -> Iterator[Any]:
    """Yield a hash of the file of each metric that another package brings, since its author may be correcting it."""
    for metric, _ in context.decided.recipe.measures().values():
        function = None if is_built_in(metric) else voxel_map(metric)
        if function is not None:
            try:
                yield hash_file(Path(inspect.getsourcefile(inspect.unwrap(function)) or ""))
            except (OSError, TypeError):  # it has no file
                yield None
