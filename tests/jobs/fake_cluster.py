"""A job folder with campaigns, a queue, locks and logs that are what a test makes of them."""

from __future__ import annotations

import socket

from report.faked_campaigns import fake_campaign

from nnunet_al.campaign.commits import CLOSED, Commit, commit_to_json
from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.files import write_json
from nnunet_al.jobs.folder import JobFolder
from nnunet_al.jobs.job_states import job_states

from .small_plans import USIMF, small_plan

DATASET = "Dataset004_Hippocampus"
HERE = socket.gethostname()
ENDED = "nnunet-al: ended with exit code {} at 2024-05-06 07:08:09\n"
BEGAN = "nnunet-al: begins on {} at 2024-05-06 07:00:00\n"


class Cluster:
    """A job folder of the small plan, whose campaigns and queue are what a test makes of them."""

    def __init__(self, root, **options):
        self.root = root
        self.plan = small_plan(root, **options)
        self.folder = JobFolder(root / "jobs")
        self.folder.write(self.plan, "slurm", {})
        self.queue = {}
        self.answers = True

    def campaign(self, name=USIMF) -> CampaignFolder:
        return CampaignFolder(self.root / "nnUNet_results" / DATASET / "al" / name.removeprefix(f"{DATASET}/"))

    def start(self, strategy="usimf", **decided):
        return fake_campaign(self.root / "nnUNet_results", strategy, [], dataset=DATASET, **decided)

    def check(self):
        write_json(self.root / "nnUNet_preprocessed" / DATASET / "al_images/facts.json", {})

    def mark(self, number, *stages, name=USIMF):
        for stage in stages:
            write_json(self.campaign(name).round(number).stages / f"{stage}.json", {"stage": stage, "seconds": 1.0})

    def submit(self, **seen):
        """Note each key (its blank as "__") as handed over, and put it into the queue unless it is None."""
        for id_, (key, tasks) in enumerate(seen.items(), start=100):
            self.note(f"{USIMF}/{key.replace('__', ' ')}", str(id_))
            if tasks is not None:
                self.queue[str(id_)] = tasks if isinstance(tasks, dict) else {None: tasks}

    def note(self, key, id_):
        with self.folder.submitted_file.open("a") as file:
            file.write(f"{key}\t{id_}\t2024-05-06T07:08:09Z\n")

    def log(self, key, text, part=""):
        file = self.plan.log(self.plan.by_key[f"{USIMF}/{key}"], part)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def states(self):
        found = job_states(self.plan, self.folder, self.queue if self.answers else None)
        return {(s.key.removeprefix(f"{USIMF}/"), s.part): s for s in found}

    def words(self, *keys):
        """State and detail of some of usimf's jobs."""
        states = self.states()
        return [(states[_place(key)].state, states[_place(key)].detail) for key in keys]


def close_batch(campaign, number):
    """Give the rest of a batch back to the pool, so that nobody is waited for."""
    write_json(campaign.ledger / "000.json", commit_to_json(Commit(0, number, CLOSED, "", (), {})))


def lock(campaign, name, host=HERE, process=None):
    campaign.root.mkdir(parents=True, exist_ok=True)
    write_json(campaign.root / f"{name}.json", {"host": host, "process": process, "since": "2024-05-06T07:08:09+02:00"})


def _place(key):
    name, *part = key.split("#")
    return name, int(part[0]) if part else None
