"""The interface of schedulers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from nnunet_al.jobs.plan import Plan
from nnunet_al.jobs.targets.queue import Queue
from nnunet_al.jobs.targets.template import Template


@dataclass(frozen=True)
class Scheduler:
    """The scheduler of a cluster, or this machine, which has no queue.

    Attributes
    ----------
    entry : the file that hands the jobs over
    render : turns a plan, its jobs in the queue and the site's template into files, see `targets.render`
    mark : how lines of a script begin that the scheduler reads; empty where there is no scheduler
    ask : asks for jobs by their numbers, see `queue.ask_in_chunks`; None where there is no queue
    cancel : the program that takes the jobs whose ids it is given out of the queue
    name_of_part : the scheduler's own name of a part of an array, from the array's number and the part, from 0
    """

    entry: str
    render: Callable[[Plan, Mapping[str, str], Template], dict[str, str]]
    mark: str = ""
    ask: Callable[[Sequence[str]], Queue | None] | None = None
    cancel: str = ""
    name_of_part: Callable[[str, int], str] = "{}_{}".format

    @property
    def has_queue(self) -> bool:
        """Whether jobs wait for their turn; else they are run by whoever hands them over."""
        return self.ask is not None
