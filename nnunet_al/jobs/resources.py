"""The resources that each kind of job requests, and a user's changes to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from nnunet_al.campaign import stages
from nnunet_al.campaign.stages import PREPARE_DATASET, ROUND, START
from nnunet_al.errors import CampaignError
from nnunet_al.jobs.plan import JobResources

KINDS = (PREPARE_DATASET, START, *stages.PHASES, ROUND)
Number = TypeVar("Number", int, float)

_ALL = ""
_LIKE_PREPARE = {PREPARE_DATASET, START}
_DEFAULTS = {  # kind -> CPUs, GB, hours
    PREPARE_DATASET: (8, 16, 12.0),
    START: (8, 32, 24),
    stages.PREPARE: (8, 32, 12),
    stages.TRAIN: (8, 48, 24),
    stages.EVALUATE: (4, 32, 12),
    stages.SCORE: (6, 32, 24),
    stages.MERGE: (4, 32, 12),
    stages.FISHER: (6, 32, 24),
    stages.EMBED: (6, 32, 24),
    stages.SELECT: (8, 64, 12),
    ROUND: (8, 64, 24),
}


@dataclass(frozen=True)
class Overrides:
    """The user's resources by kind of job; "" stands for all kinds."""

    hours: Mapping[str, float] = field(default_factory=dict)
    memory_gb: Mapping[str, int] = field(default_factory=dict)
    cpus: Mapping[str, int] = field(default_factory=dict)


def read_overrides(hours: Sequence[str] = (), memory: Sequence[str] = (), cpus: Sequence[str] = ()) -> Overrides:
    """Read ``-hours``, ``-memory`` (GB) and ``-cpus``: a number for all jobs, KIND=NUMBER for one kind of them.

    Raises CampaignError if one of them is neither, is not above 0, or is given twice.
    """
    return Overrides(_read("-hours", hours, float), _read("-memory", memory, int), _read("-cpus", cpus, int))


def resources_of(
    kind: str,
    overrides: Overrides,
    device: str = "cuda",
    on_device: bool = True,
    num_gpus: int = 1,
    most_cpus: int | None = None,
) -> JobResources:
    """Return the resources of a job of a kind in ``KINDS``; ``overrides`` win over the defaults.

    Only the device "cuda" needs GPUs, and only jobs that run a network (``on_device``). The CPUs and the memory of a
    training grow with ``num_gpus``. ``most_cpus`` limits the default number of CPUs.
    """
    cpus, memory_gb, hours = _DEFAULTS[kind]
    gpus = int(on_device and device == "cuda")
    if kind in (stages.TRAIN, ROUND) and gpus:
        gpus, cpus, memory_gb = num_gpus, cpus * num_gpus, memory_gb * num_gpus
    if most_cpus is not None:
        cpus = max(1, min(cpus, most_cpus))
    return JobResources(
        gpus=gpus,
        cpus=_chosen(overrides.cpus, kind, cpus),
        memory_gb=_chosen(overrides.memory_gb, kind, memory_gb),
        hours=_chosen(overrides.hours, kind, hours),
    )


def _chosen(wanted: Mapping[str, Number], kind: str, default: Number) -> Number:
    names = (kind, *((stages.PREPARE,) if kind in _LIKE_PREPARE else ()), _ALL)
    return next((wanted[name] for name in names if name in wanted), default)


def _read(flag: str, words: Sequence[str], convert: Callable[[str], Number]) -> dict[str, Number]:
    found: dict[str, Number] = {}
    for word in words:
        kind, equals, text = word.rpartition("=")
        if (equals and kind not in KINDS) or kind in found:
            raise CampaignError(
                f"{flag} {word}: give a number for all jobs, and KIND=NUMBER once for a kind of {', '.join(KINDS)}."
            )
        try:
            found[kind] = convert(text)
        except ValueError:
            found[kind] = convert("0")
        if not 0 < found[kind] < float("inf"):
            raise CampaignError(f"{flag} {word}: give a {'whole ' if convert is int else ''}number above 0.")
    return found
