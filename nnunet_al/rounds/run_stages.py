"""A stage is a function from files to files that is complete or absent, and damaged files are made again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

from nnunet_al.campaign.stage_markers import damaged_files, matching, read_marker, write_marker
from nnunet_al.campaign.stages import is_done, place_of
from nnunet_al.errors import CampaignError, NnunetALError, StorageError
from nnunet_al.files import out_of_space, remove_temporary_files
from nnunet_al.stopping import stop_if_asked, stop_if_interrupted
from nnunet_al.terminal import say

Context = TypeVar("Context")


@dataclass(frozen=True)
class Stage(Generic[Context]):
    """One stage of a round.

    Attributes
    ----------
    name : that of its marker
    sentence : for the user, or none
    work : the function that does it
    files : from the context to the files that it leaves for other stages; its marker holds their checksums
    reads : names of the stages whose files it reads, as patterns; they are checked before it runs
    """

    name: str
    sentence: str
    work: Callable[[Context], None]
    files: Callable[[Context], Iterable[Path]] = lambda _: ()
    reads: tuple[str, ...] = ()


def run_stages(
    stages: Sequence[Stage[Context]], context: Context, markers: Path, others: Sequence[Stage[Context]] = ()
) -> None:
    """Run the stages that are not done yet, in order, and mark each when it is complete.

    A stage that was interrupted starts again: it overwrites its former files, or continues if it can, as training does.
    Before a stage runs, the files that it reads are checked. If one is damaged or gone, the stage that had left it is
    done again, be it one of ``others``, those before; so are the stages behind it if its files come out otherwise.
    Unfinished files of killed processes are removed first. Between stages the work stops if somebody asked for that.

    Raises StorageError if a stage failed because the disk is full, whatever library noticed it; CampaignError if a
    damaged file was left by another stage; KeyboardInterrupt if the process was asked to stop (see
    `nnunet_al.stopping`), never behind the last stage, or was interrupted.
    """
    wanted = [stage.name for stage in stages]
    if all(is_done(markers, name) for name in wanted):
        return
    remove_temporary_files(markers.parent)
    known = {stage.name: stage for stage in (*others, *stages)}
    damaged: dict[str, dict[str, str]] = {}  # stage -> checksums of the files that it had left
    while names := [name for name in known if name in {*wanted, *damaged} and not is_done(markers, name)]:
        stage = known[names[0]]
        if _unmark_damaged(stage, known, context, markers, damaged):
            continue
        if stage.sentence:
            say(f"  {stage.sentence}")
        started = time.monotonic()
        _work(stage, context, markers)
        stop_if_interrupted()
        made = write_marker(markers, stage.name, round(time.monotonic() - started, 3), stage.files(context))
        if stage.name in damaged and made != damaged.pop(stage.name):
            for behind in _unmark_behind(markers, stage.name):
                damaged.setdefault(behind, {})
        if len(names) > 1:
            stop_if_asked()


def _work(stage: Stage[Context], context: Context, markers: Path) -> None:
    try:
        stage.work(context)
    except NnunetALError:
        raise
    except Exception as error:
        if out_of_space(error):
            raise StorageError(
                f"No space is left in {markers.parent} for the stage '{stage.name}': free some and run the same "
                "command again; nothing annotated is lost."
            ) from error
        raise


def _unmark_damaged(
    stage: Stage[Context],
    known: Mapping[str, Stage[Context]],
    context: Context,
    markers: Path,
    damaged: dict[str, dict[str, str]],
) -> bool:
    """Remove damaged files that ``stage`` reads, and the markers of the stages that left them; tell if there are any.

    Raises CampaignError if such a stage is not ``known``; they are removed all the same.
    """
    found = False
    for name in matching(markers, stage.reads):
        files = damaged_files(markers, name, partial(known[name].files, context) if name in known else tuple)
        if not files:
            continue
        marker = read_marker(markers, name)
        damaged[name] = {} if marker is None else marker.files
        for path in (markers / f"{name}.json", *files):
            path.unlink(missing_ok=True)
        if name not in known:
            raise CampaignError(
                f"{files[0]} is not as the stage '{name}' left it: do the phase of {markers.parent.name} again that it "
                "belongs to, which makes it anew."
            )
        say(f"  {files[0]} is damaged or gone: it is made anew")
        found = True
    return found


def _unmark_behind(markers: Path, name: str) -> list[str]:
    behind = [path.stem for path in markers.glob("[!.]*.json") if place_of(path.stem) > place_of(name)]
    for other in behind:
        (markers / f"{other}.json").unlink(missing_ok=True)
    return behind
