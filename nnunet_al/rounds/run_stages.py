"""A stage is a function from files to files that is complete or absent."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from nnunet_al.campaign.stages import is_done
from nnunet_al.errors import NnunetALError, StorageError
from nnunet_al.files import out_of_space, remove_temporary_files, write_json
from nnunet_al.stopping import stop_if_asked, stop_if_interrupted
from nnunet_al.terminal import say

Context = TypeVar("Context")


@dataclass(frozen=True)
class Stage(Generic[Context]):
    """One stage of a round: its name, its sentence for the user (or none), and its work."""

    name: str
    sentence: str
    work: Callable[[Context], None]


def run_stages(stages: Sequence[Stage[Context]], context: Context, markers: Path) -> None:
    """Run the stages that are not done yet, in order, and mark each when it is complete.

    A stage that was interrupted starts again: it overwrites its former files, or continues if it can, as training does.
    Unfinished files of killed processes are removed first. Between stages the work stops if somebody
    asked for that.

    Raises StorageError if a stage failed because the disk is full, whatever library noticed it; KeyboardInterrupt if
    the process was asked to stop (see `nnunet_al.stopping`), never behind the last stage, or was interrupted.
    """
    remaining = [stage for stage in stages if not is_done(markers, stage.name)]
    if remaining:
        remove_temporary_files(markers.parent)
    for stage in remaining:
        if stage.sentence:
            say(f"  {stage.sentence}")
        started = time.monotonic()
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
        stop_if_interrupted()
        marker = {"stage": stage.name, "seconds": round(time.monotonic() - started, 3)}
        write_json(markers / f"{stage.name}.json", marker)
        if stage is not remaining[-1]:
            stop_if_asked()
