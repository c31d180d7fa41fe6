"""One campaign in a plan: its scripts, and its jobs of each round."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from nnunet_al.campaign import stages
from nnunet_al.campaign.planned import Planned
from nnunet_al.campaign.progress import CampaignProgress
from nnunet_al.campaign.stages import ROUND, START, Phase, phases_of
from nnunet_al.jobs.commands import ROUND_COMMAND, campaign_words, start_words, where_words
from nnunet_al.jobs.plan import Job, Script
from nnunet_al.jobs.request import JobsRequest
from nnunet_al.jobs.resources import resources_of
from nnunet_al.nnunet.devices import device_defaults

LOGS = "job_logs"
"""The folder for the output of jobs, in a campaign's folder and in that of a dataset's campaigns."""

_TITLES = {
    START: "starts the campaign and asks for the initial batch",
    ROUND: "does a whole round; round 0 starts the campaign",
    stages.PREPARE: "composes labels, plans and preprocesses for the training of a round",
    stages.TRAIN: "trains the model of a round",
    stages.EVALUATE: "tests the model of a round",
    stages.SCORE: "scores the pool under the model of a round",
    stages.MERGE: "puts the scores together and looks at the groups of cases, if there are any",
    stages.FISHER: "puts the scores together, draws the query set and averages squared gradients",
    stages.EMBED: "describes the regions of the pool by vectors",
    stages.SELECT: "selects the batch of a round and has it annotated",
}


class CampaignJobs:
    """The scripts and jobs of one campaign.

    Attributes
    ----------
    dataset : its dataset's name
    test : the test cases, as ``-test`` names them
    annotate : whether people answer its batches
    last : number of the last round that is planned now; -1 where there is none
    first_training : equal for campaigns whose first models are trained on the same, by all that is known beforehand
    """

    def __init__(self, asked: JobsRequest, campaign: Planned, most_cpus: int | None = None) -> None:
        """Read the campaign's progress; ``most_cpus`` is the limit for a job on a single machine."""
        self._asked, self._campaign, self._most_cpus = asked, campaign, most_cpus
        self._progress = CampaignProgress(campaign.folder.root)
        decided = self._progress.decided or campaign.request.decide()
        self.dataset, self.test, self.annotate = decided.dataset, decided.test, decided.annotate
        self._phases = phases_of(decided.recipe)
        self.first_training = str(campaign.folder.root)
        of_folds = decided.recipe.parameters.get("ensemble_of") == "folds"
        if asked.options.share_first and not (self.annotate or of_folds):
            rest = replace(campaign.request, strategy="", posterior=None, parameters={})
            self.first_training = f"{decided.trainer} {rest}"
        self.last = campaign.rounds
        if self.annotate:
            upcoming = self._progress.handed_out - self._progress.waits_for_readers
            self.last = min(campaign.rounds, upcoming)
        root = campaign.folder.root
        self._name = f"{root.parents[2].name}/{root.parent.name}/{root.name}"
        self._first = START if asked.uses_phases else ROUND

    @property
    def needs_check(self) -> bool:
        """Whether it has not started yet, so that its dataset has to be checked before."""
        return not self._progress.done_parts(self._first, 0)

    def scripts(self) -> list[Script]:
        """Return one script for each kind of job."""
        if self._first == ROUND:
            return [self._script(ROUND, on_device=True)]
        phases = (self._script(phase.name, phase.on_device, self._parts(phase)) for phase in self._phases)
        return [self._script(START, on_device=False), *phases]

    def jobs_of(self, number: int, check: str, first: CampaignJobs) -> Iterator[Job]:
        """Yield the jobs of a round in order, those without missing parts too; ``check`` is that of its dataset.

        The first model may be that of the campaign ``first``, whose training is therefore waited for; it need not
        succeed.
        """
        if number > self.last:
            return
        if self._first == ROUND:
            yield self._job(ROUND, number, (self._key(ROUND, number - 1) if number else check,))
            return
        if number == 0:
            yield self._job(START, None, (check,))
            return
        before = self._key(stages.SELECT, number - 1) if number > 1 else self._key(START, None)
        for phase in self._phases:
            after = tuple(self._key(name, number) for name in phase.after) or (before,)
            job = self._job(phase.name, number, after, self._parts(phase))
            shares = phase.name == stages.TRAIN and number == 1 and first is not self
            yield replace(job, behind=(first._key(stages.TRAIN, 1),)) if shares else job

    def _job(self, kind: str, number: int | None, after: tuple[str, ...], parts: int = 1) -> Job:
        done = self._progress.done_parts(kind, number or 0, parts)
        if kind in (stages.SELECT, ROUND) and number == self._campaign.rounds and self._is_to_be_closed:
            done = frozenset()
        return Job(f"{self._name}/{kind}", number, after, tuple(part for part in range(parts) if part not in done))

    @property
    def _is_to_be_closed(self) -> bool:
        """Whether readers have finished the batch of the last round, which no later round completes."""
        progress, last = self._progress, self._campaign.rounds
        return progress.complete == last and progress.handed_out == last + 1 and not progress.waits_for_readers

    def _key(self, kind: str, number: int | None) -> str:
        return Job(f"{self._name}/{kind}", number).key

    def _parts(self, phase: Phase) -> int:
        return self._asked.options.parts if phase.sharded else 1

    def _script(self, kind: str, on_device: bool, parts: int = 1) -> Script:
        overrides, options, folder = self._asked.resources, self._asked.options, self._campaign.folder.root
        resources = resources_of(kind, overrides, options.device, on_device, options.gpus, self._most_cpus)
        title, command = f"{self._name}: {_TITLES[kind]}.", self._command(kind, on_device, resources.cpus)
        return Script(f"{self._name}/{kind}", kind, title, command, resources, folder / LOGS, parts, folder)

    def _command(self, kind: str, on_device: bool, cpus: int) -> tuple[str, ...]:
        dataset = self._asked.datasets.get(self.dataset, self.dataset)
        trains = kind in (stages.TRAIN, ROUND)
        num_gpus = self._asked.options.gpus if trains else 1
        options = replace(self._asked.options, share_first=trains and self._asked.options.share_first)
        where = where_words(options, on_device, cpus, num_gpus)
        if kind == START:
            return (ROUND_COMMAND, *start_words(self._started_for(), dataset), "-round", "0", *where)
        if kind == ROUND:
            return (ROUND_COMMAND, *start_words(self._campaign, dataset), *where)
        return (ROUND_COMMAND, *campaign_words(self._campaign, dataset), "-phase", kind, *where)

    def _started_for(self) -> Planned:
        """Ask for the defaults of a GPU, which a job without one that starts the campaign could not know."""
        if self._progress.decided is not None or self._asked.options.device != "cuda":
            return self._campaign
        request = self._campaign.request
        decided = {name: value for name, value in device_defaults("cuda").items() if request.is_open(name)}
        return replace(self._campaign, request=replace(request, **decided))
