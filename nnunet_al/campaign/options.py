"""Where and how a round runs."""

from __future__ import annotations

from dataclasses import dataclass

from nnunet_al.errors import CampaignError


@dataclass(frozen=True)
class Options:
    """Where and how a round runs; nothing here changes a batch.

    Attributes
    ----------
    device : "cuda", "cpu" or "mps"
    workers : processes for preprocessing, threads for reading
    scoring_batch_size : windows held at a time while scoring
    gpus : of this machine, that a training uses at once
    parts, part : number of shards in which the pool is scored, and the one of this call
    keep : "all", "last" or "none": checkpoints to keep; what the next round starts from always stays
    verbose : show what nnU-Net prints
    share_first : take the first model from a campaign that has trained on the very same, rather than train it again
    """

    device: str = "cuda"
    workers: int = 2
    scoring_batch_size: int = 64
    gpus: int = 1
    parts: int = 1
    part: int = 0
    keep: str = "all"
    verbose: bool = False
    share_first: bool = False

    def check(self) -> None:
        """Refuse numbers that mean nothing.

        Raises
        ------
        CampaignError
            naming the option.
        """
        for flag, value in {
            "-np": self.workers,
            "-scoring_batch_size": self.scoring_batch_size,
            "-num_gpus": self.gpus,
            "-num_parts": self.parts,
        }.items():
            if value < 1:
                raise CampaignError(f"{flag} {value}: give at least 1.")
        if not 0 <= self.part < self.parts:
            raise CampaignError(f"-part_id {self.part}: with -num_parts {self.parts} give 0 to {self.parts - 1}.")
