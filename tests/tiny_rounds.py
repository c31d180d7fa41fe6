"""Rounds on tiny phantoms, for tests and for the processes that tests start."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

DATASET = "Dataset501_Phantom"
SHAPE = (28, 24, 12)  # z, y, x; the last axis is the coarse one, so nnU-Net transposes and cuts 24 x 20 patches
TINY_ROUND = (
    *("-d", "501", "-s", "random", "-c", "2d", "-b", "5", "-initial", "6", "-device", "cpu", "-np", "1"),
    *("-epochs", "2", "-iterations", "2", "-batch_size", "2", "-optimizer", "adamw"),
)
TINY_USIMF = ("-s", "usimf", "-passes", "2", "-set", "embedding_size=50", "fisher_samples=4")
ENVIRONMENT = {"nnUNet_n_proc_DA": "0", "OMP_NUM_THREADS": "1"}


def set_roots(folder: Path) -> dict[str, str]:
    """Create nnU-Net's three folders in `folder` and return the variables that name them."""
    variables = {}
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        variables[name] = str(folder / name)
    return variables


def hurry(set_attribute: Callable[[Any, str, Any], None] = setattr) -> None:
    """Take from rounds what costs seconds and that no test looks at: 10^8 sampled voxels, and the drawing of a plot."""
    from nnunet_al.nnunet import fingerprint

    function = fingerprint.extract_fingerprint
    fewer = tuple(1e5 if value == fingerprint.MAX_VOXELS else value for value in function.__defaults__ or ())
    set_attribute(function, "__defaults__", fewer)
    draw_no_plot(set_attribute)


def draw_no_plot(set_attribute: Callable[[Any, str, Any], None] = setattr) -> None:
    """Take the drawing of a plot from trainings, which takes longer than a tiny training does."""
    from nnunetv2.training.logging.nnunet_logger import MetaLogger

    set_attribute(
        MetaLogger, "plot_progress_png", lambda _, folder: Path(folder, "progress.png").write_bytes(b"a plot")
    )


def run_round(*arguments: object) -> int:
    """`nnUNetv2_al_round` in this process with TINY_ROUND before `arguments` (the last of two wins); its exit code."""
    from nnunet_al.cli.round import main

    return run_command(main, *TINY_ROUND, *arguments)


def run_command(main: Callable[[Sequence[str]], int], *arguments: object) -> int:
    """Call a command's `main`; what argparse does with a wrong argument becomes an exit code too."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return int(stop.code or 0)


def snapshot(*folders: Path) -> dict[str, str]:
    """Path -> hash of every file's bytes (of a link: where it leads) and mark of every folder below `folders`."""
    found = {}
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_symlink():
                found[str(path)] = f"link to {path.readlink()}"
            else:
                found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
    return found


def outcome(results: Path) -> dict[str, Any]:
    """Decisions, ledger, batches, scores, weights and metrics of all campaigns in a results folder."""
    import torch

    from nnunet_al.files import hash_array, read_arrays, read_json

    found: dict[str, Any] = {}
    for campaign in sorted(results.glob("*/al/*/fold_*")):
        name = f"{campaign.parent.name}/{campaign.name}"
        files = [campaign / "campaign.json", campaign / "results.csv", *campaign.glob("round_*/batch.json")]
        found |= {f"{name}/{path.relative_to(campaign)}": path.read_text() for path in files}
        ledger = snapshot(campaign / "ledger")
        found |= {f"{name}/{Path(path).relative_to(campaign)}": mark for path, mark in ledger.items()}
        for path in campaign.glob("round_*/*.npz"):
            arrays = read_arrays(path).items()
            found |= {f"{name}/{path.relative_to(campaign)}/{key}": hash_array(array) for key, array in arrays}
        for path in campaign.glob("round_*/nnUNet_results/*/*/fold_*/checkpoint_final.pth"):
            weights = torch.load(path, weights_only=False)["network_weights"].items()
            place = path.relative_to(campaign)
            found |= {f"{name}/{place}/{key}": hash_array(weight.numpy()) for key, weight in weights}
        for path in campaign.glob("round_*/metrics.json"):
            found[f"{name}/{path.relative_to(campaign)}"] = read_json(path) | {"checkpoint": ""}
    return found


def only(folder: Path, pattern: str) -> Path:
    """The one path in `folder` that fits `pattern`."""
    (found,) = folder.glob(pattern)
    return found


def campaign_folder(roots: Any) -> Path:
    """The folder of the one campaign in the results."""
    return only(roots.results, "*/al/*/fold_*")
