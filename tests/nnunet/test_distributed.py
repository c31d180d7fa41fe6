"""Training in two processes, on a CPU with gloo where GPUs would use NCCL."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_al.errors import SetupError
from nnunet_al.files import process_lives
from nnunet_al.nnunet import training
from nnunet_al.nnunet.checkpoints import load_network_weights
from nnunet_al.nnunet.distributed import check_gpus, run_distributed
from nnunet_al.nnunet.environment import Roots
from nnunet_al.nnunet.trainer_settings import TrainerSettings
from nnunet_al.stopping import handling_signals

from . import distributed_work
from .trainers_on_cpu.nnUNetTrainerALOnCPU import STOP_IN
from .trainings import CPU, equal, read

CUDA = torch.device("cuda")
TRAINER = "nnUNetTrainerALOnCPU"


# ---------------------------------------------------------------- what can be asked for


@pytest.mark.parametrize(
    "device,gpus,batch,message",
    [
        (CUDA, 0, (), "-num_gpus 0 leaves nothing"),
        (CPU, 2, (), "-num_gpus 2 needs -device cuda, not cpu"),
        (CUDA, 5, (), "-num_gpus 5 is more than the 4 that torch finds"),
        (CUDA, 4, (3,), "-num_gpus 4 is more than the 3 patches of a batch"),
        (CUDA, 2, (13, True), "-num_gpus 2 cannot share the batch of 13 equally"),
    ],
)
def test_what_cannot_be_distributed_is_refused(monkeypatch, device, gpus, batch, message):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    with pytest.raises(SetupError, match=message):
        check_gpus(device, gpus, *batch)


def test_what_can_be_distributed_is_taken(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    check_gpus(CPU, 1)
    check_gpus(CUDA, 4, 4)
    check_gpus(CUDA, 2, 13)
    check_gpus(CUDA, 2, 12, batch_dice=True)


# ---------------------------------------------------------------- processes


def test_processes_are_joined_and_the_first_one_prints(tmp_path, capfd):
    log = tmp_path / "log.txt"
    log.write_text("before\n")
    assert run_distributed(distributed_work.add_up, 2, CPU, log)
    assert log.read_text() == "before\nrank 0 of 2 says 3\n"
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    "work,error,message",
    [
        ("refuse_in_the_second", SetupError, "^The second one cannot.$"),
        ("break_in_the_second", RuntimeError, "Process 1 of 2 .*(?s:.*)ZeroDivisionError: in the second"),
        ("be_terminated", KeyboardInterrupt, None),
    ],
)
def test_what_ends_one_process_is_raised_and_ends_the_other(tmp_path, work, error, message):
    with pytest.raises(error, match=message):
        run_distributed(getattr(distributed_work, work), 2, CPU, tmp_path / "log.txt")


def test_the_wish_to_stop_reaches_all_processes(tmp_path):
    def ask() -> None:
        while len(list(tmp_path.glob("works_*"))) < 2:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGUSR1)

    with handling_signals():
        asker = threading.Thread(target=ask, daemon=True)
        asker.start()
        done = run_distributed(partial(distributed_work.wait_to_be_stopped, tmp_path), 2, CPU, None)
        asker.join()
    assert not done


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_no_process_outlives_the_one_that_started_them(tmp_path, number):
    tests = Path(__file__).parents[1]
    command = [sys.executable, "-m", "nnunet.distributed_work", str(tmp_path)]
    starter = subprocess.Popen(command, cwd=tests, stderr=subprocess.DEVNULL)
    _until(lambda: len(list(tmp_path.glob("pids_*"))) == 2)
    pids = [int(pid) for file in tmp_path.glob("pids_*") for pid in file.read_text().split()]
    assert len(pids) == 4
    assert all(process_lives(pid) for pid in pids)
    starter.send_signal(number)
    starter.wait()
    _until(lambda: not any(process_lives(pid) for pid in pids))


def _until(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# ---------------------------------------------------------------- trainings


@pytest.fixture
def train(monkeypatch):
    """A function that trains a dataset in two processes and returns the folder of the results."""
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    monkeypatch.setenv("nnUNet_extTrainer", str(Path(__file__).parent / "trainers_on_cpu"))
    monkeypatch.setattr(training, "check_gpus", lambda device, gpus, batch_size, batch_dice: None)

    def train(tiny, gpus=2, **settings):
        TrainerSettings(**{"epochs": 3, "iterations": 2, "batch_size": 3, "seed": 7} | settings).write(tiny.folder)
        roots = Roots(tiny.raw, tiny.preprocessed, tiny.results)
        folder = tiny.results / tiny.name / f"{TRAINER}__{tiny.plans_name}__{tiny.configuration}" / "fold_0"
        final = folder / "checkpoint_final.pth"
        log = tiny.results / "log.txt"
        with handling_signals():
            training.train(roots, tiny.name, tiny.configuration, 0, TRAINER, tiny.plans_name, CPU, final, log, gpus)
        return folder

    return train


@pytest.mark.slow
def test_a_distributed_training(make_tiny_preprocessed, train, monkeypatch):
    tiny = make_tiny_preprocessed()
    folder = train(tiny)
    first, second = (read(folder / f"rank_{rank}.pth") for rank in (0, 1))
    weights = read(folder / "checkpoint_final.pth")["network_weights"]
    assert equal(first["weights"], second["weights"])
    assert equal(first["weights"], weights)

    # the batch of 3 is shared, and no patch of the one is one of the other
    assert (first["batch_size"], second["batch_size"]) == (2, 1)
    patches = [patch for batch in first["batches"] + second["batches"] for patch in batch]
    assert len(patches) == 3 * 2 * 3
    assert all(not torch.equal(a, b) for number, a in enumerate(patches) for b in patches[:number])

    # what it writes is what one process writes
    content = read(folder / "checkpoint_final.pth")
    assert (content["trainer_name"], content["current_epoch"]) == ("nnUNetTrainer", 3)
    assert not (folder / "checkpoint_latest.pth").exists()
    assert not (folder / "validation").exists()
    monkeypatch.setenv("nnUNet_preprocessed", str(tiny.preprocessed))
    monkeypatch.setenv("nnUNet_results", str(tiny.results / "stock"))
    plans = tiny.plans | {"continue_training": False}
    stock = nnUNetTrainer(plans, tiny.configuration, 0, tiny.dataset_json, CPU)
    stock.initialize()
    load_network_weights(stock.network, folder / "checkpoint_final.pth", "of the test")
    assert equal(stock.network.state_dict(), weights)

    # asked to stop, both processes stop behind the same epoch, and go on to the same weights
    other = make_tiny_preprocessed()
    monkeypatch.setenv(STOP_IN, "1")
    with pytest.raises(KeyboardInterrupt):
        train(other)
    (latest,) = other.results.rglob("checkpoint_latest.pth")
    assert read(latest)["current_epoch"] == 2
    monkeypatch.delenv(STOP_IN)
    resumed = train(other)
    assert len(read(resumed / "rank_1.pth")["batches"]) == 2, "only the last epoch was left"
    assert equal(read(resumed / "checkpoint_final.pth")["network_weights"], weights)


@pytest.mark.slow
def test_a_distributed_training_with_the_dice_of_whole_batches(make_tiny_preprocessed, train):
    folder = train(make_tiny_preprocessed(configuration="2d"), epochs=1, batch_size=4)
    first, second = (read(folder / f"rank_{rank}.pth")["weights"] for rank in (0, 1))
    assert equal(first, second)
    assert all(torch.isfinite(value).all() for value in first.values())


def test_a_training_asks_for_its_own_batch(tiny_preprocessed, monkeypatch):
    """The settings' batch before that of the plans, which is 2."""
    asked = []

    def refuse(device, gpus, batch_size, batch_dice):
        asked.append((batch_size, batch_dice))
        raise SetupError("enough")

    monkeypatch.setattr(training, "check_gpus", refuse)
    tiny = tiny_preprocessed
    roots = Roots(tiny.raw, tiny.preprocessed, tiny.results)
    for settings, configuration in (({}, "3d_fullres"), ({"batch_size": 5}, "3d_fullres"), ({"batch_size": 5}, "2d")):
        TrainerSettings(**settings).write(tiny.folder)
        final = tiny.results / "checkpoint_final.pth"
        with pytest.raises(SetupError, match="enough"):
            training.train(roots, tiny.name, configuration, 0, TRAINER, tiny.plans_name, CUDA, final, None, gpus=2)
    assert asked == [(2, False), (5, False), (5, True)]
