"""Our trainer in processes without a GPU: nnU-Net takes distributed training to mean CUDA."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import nnunetv2.training.nnUNetTrainer.nnUNetTrainer as stock
import torch
from torch.nn.parallel import DistributedDataParallel

from nnunet_al.nnunet.trainer import nnUNetTrainerAL

STOP_IN = "NNUNET_AL_TEST_STOP_IN"


class nnUNetTrainerALOnCPU(nnUNetTrainerAL):
    """Keeps each process's batches and weights; asks its second process to stop in an epoch of the test's choice."""

    def __init__(self, plans: dict, configuration: str, fold: int, dataset_json: dict, device: torch.device) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.device = torch.device("cpu")
        self.grad_scaler = None
        self.batches: list[torch.Tensor] = []

    def initialize(self) -> None:
        stock.DDP = lambda network, device_ids: DistributedDataParallel(network)
        super().initialize()

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        self.batches.append(batch["data"].clone())
        if self.local_rank == 1 and os.environ.get(STOP_IN) == str(self.current_epoch):
            os.kill(os.getpid(), signal.SIGUSR1)
        return super().train_step(batch)

    def on_train_end(self) -> None:
        super().on_train_end()
        weights = self._plain_network().state_dict()
        kept = {"weights": weights, "batches": self.batches, "batch_size": self.batch_size}
        torch.save(kept, Path(self.output_folder) / f"rank_{self.local_rank}.pth")
