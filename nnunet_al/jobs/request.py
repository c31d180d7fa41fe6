"""A user's request for the jobs of campaigns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nnunet_al.campaign import stages
from nnunet_al.campaign.decisions import Options
from nnunet_al.campaign.planned import Planned
from nnunet_al.errors import CampaignError
from nnunet_al.jobs.resources import Overrides, resources_of
from nnunet_al.jobs.targets import TARGETS
from nnunet_al.nnunet.environment import Roots

_MOST_PARTS = 1000  # the limit of Slurm and LSF by default


@dataclass(frozen=True)
class JobsRequest:
    """Campaigns, and how they become jobs.

    Attributes
    ----------
    campaigns : those that are to be brought to their last round
    datasets : name of a dataset -> its number or name, as the user gave it
    options : where and how rounds run; a pass over the pool is split into ``parts`` jobs, with one worker per CPU
    target : a name in ``TARGETS``
    limit : how many tasks of one array may run at the same time; None: no limit
    gpus : of this machine, for the target shell: one campaign on each at a time
    resources : the user's changes to our defaults
    argv : the command line, less the program's name
    """

    campaigns: tuple[Planned, ...]
    roots: Roots
    options: Options
    target: str
    datasets: Mapping[str, str] = field(default_factory=dict)
    limit: int | None = None
    gpus: tuple[str, ...] = ()
    resources: Overrides = field(default_factory=Overrides)
    argv: tuple[str, ...] = ()

    @property
    def uses_phases(self) -> bool:
        """Whether a round is cut into phases; one machine gains nothing from that."""
        return TARGETS[self.target].has_queue

    def check(self) -> None:
        """Check the options; raises CampaignError naming an option that does not fit the others."""
        options = self.options
        options.check()
        if options.parts > _MOST_PARTS:
            raise CampaignError(f"-num_parts {options.parts}: give at most {_MOST_PARTS}, the length of an array.")
        if self.limit is not None and self.limit < 1:
            raise CampaignError(f"-limit {self.limit}: give at least 1.")
        if self.gpus and self.uses_phases:
            raise CampaignError("-gpus: only -to shell shares out the GPUs of this machine; leave it out.")
        for flag, given in {"-num_parts": options.parts > 1, "-limit": self.limit is not None}.items():
            if given and not self.uses_phases:
                raise CampaignError(f"{flag}: -to {self.target} does whole rounds on one machine; leave it out.")
        for flag, given in {"-gpus": bool(self.gpus), "-num_gpus": options.gpus > 1}.items():
            if given and options.device != "cuda":
                raise CampaignError(f"{flag}: -device {options.device} uses no GPU; leave one of them out.")
        if len(set(self.gpus)) < len(self.gpus):
            raise CampaignError("-gpus: name each GPU once.")
        if self.gpus and options.gpus > 1:
            raise CampaignError("-gpus gives each campaign one GPU: leave -num_gpus out.")
        training = resources_of(stages.TRAIN, self.resources, device=options.device, num_gpus=options.gpus)
        if self.uses_phases and training.gpus > training.cpus:
            raise CampaignError(
                f"-num_gpus {options.gpus}: each of them needs a CPU at least, and a training gets {training.cpus}; "
                f"ask for more, for example -cpus train={8 * options.gpus}."
            )
