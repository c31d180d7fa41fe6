"""Make our trainers and planners visible to nnU-Net, which finds them by class name.

nnU-Net finds planners only inside its own package, and trainers there or in the folders of ``nnUNet_extTrainer``. One
small file (shim) per class, which imports the class from this package, is enough.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import nnunet_al.dropin
from nnunet_al.errors import SetupError, StorageError
from nnunet_al.files import storage_errors, temporary_sibling, write_text

MARKER = "Drop-in of nnunet-al"
"""Text in the docstring of each shim, by which `install` and `remove` recognise our files."""

_SHIMS = {
    "trainers": (
        (
            "nnUNetTrainerAL.py",
            "nnUNetTrainerALLearningLoss.py",
            "nnUNetTrainerALNoAugmentation.py",
            "nnUNetTrainerALNoMirroring.py",
        ),
        "training/nnUNetTrainer",
    ),
    "planners": (("nnUNetPlannerAL.py",), "experiment_planning"),
}


def trainer_folder() -> Path:
    """Return the folder to list in ``nnUNet_extTrainer``, so that nnU-Net finds our trainers without an install.

    Raises SetupError if the package was installed without its shims.
    """
    return _shim_folder("trainers")


def install(link: bool = False, nnunet: Path | None = None) -> list[Path]:
    """Put trainers and planners into the nnU-Net install, as copies or as symbolic links, and return their files.

    Files of an earlier call are replaced, so the call may be repeated.

    With links, updates of this package take effect. ``nnunet`` is the folder of the package ``nnunetv2``; default: the
    one that Python imports.

    Raises StorageError if nnU-Net's folder cannot be written, or holds a file of that name that is not ours; nothing is
    changed then.
    """
    shims = _targets(nnunet)
    for _, target in shims:
        if _is_there(target) and not _is_ours(target):
            raise StorageError(f"{target} is not a file of nnunet-al: move it away and run the command again.")
    for source, target in shims:
        _link(source, target) if link else _copy(source, target)
    return [target for _, target in shims]


def remove(nnunet: Path | None = None) -> tuple[list[Path], list[Path]]:
    """Remove trainers and planners, and their compiled files, from the nnU-Net install.

    Returns the removed files, and files of the same name that are not ours and stay.

    Raises StorageError if nnU-Net's folder cannot be written.
    """
    present = [target for _, target in _targets(nnunet) if _is_there(target)]
    removed = [target for target in present if _is_ours(target)]
    for target in removed:
        with storage_errors(target):
            target.unlink()
        _remove_compiled(target)
    return removed, [target for target in present if target not in removed]


def nnunet_folder() -> Path:
    """Return the folder of the package ``nnunetv2`` without importing it.

    Raises SetupError if it is not installed.
    """
    found = importlib.util.find_spec("nnunetv2")
    if found is None or not found.submodule_search_locations:
        raise SetupError("nnunetv2 is not installed in this environment: install it with pip install nnunetv2.")
    return Path(next(iter(found.submodule_search_locations)))


def _shim_folder(kind: str) -> Path:
    packaged = Path(nnunet_al.dropin.__file__).parent / kind
    checkout = Path(nnunet_al.dropin.__file__).parents[2] / kind
    for folder in (packaged, checkout):
        if all((folder / name).is_file() for name in _SHIMS[kind][0]):
            return folder
    raise SetupError(f"nnunet-al was installed without {packaged}: install it again with pip.")


def _targets(nnunet: Path | None) -> list[tuple[Path, Path]]:
    """Return each shim and its target path in nnU-Net's package."""
    package = nnunet_folder() if nnunet is None else nnunet
    targets = []
    for kind, (names, place) in _SHIMS.items():
        if not (package / place).is_dir():
            raise SetupError(f"{package} has no folder {place}: install nnunetv2 2.8.")
        targets += [(_shim_folder(kind) / name, package / place / name) for name in names]
    return targets


def _is_there(path: Path) -> bool:
    return path.is_symlink() or path.exists()


def _is_ours(path: Path) -> bool:
    if path.is_symlink():
        target = path.readlink()
        if not path.exists():  # our package was removed
            return target.name in _SHIMS.get(target.parent.name, ((), ""))[0]
    return path.is_file() and MARKER in path.read_text(encoding="utf-8", errors="replace")


def _copy(source: Path, target: Path) -> None:
    text = source.read_text(encoding="utf-8")
    if target.is_symlink() or not target.is_file() or target.read_text(encoding="utf-8") != text:
        write_text(target, text)


def _link(source: Path, target: Path) -> None:
    temporary = temporary_sibling(target)
    with storage_errors(target):
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(source.resolve())
        temporary.replace(target)


def _remove_compiled(source: Path) -> None:
    """Remove the compiled files of ``source``, and the cache folder if it is empty then."""
    cache = source.parent / "__pycache__"
    with storage_errors(cache):
        for compiled in cache.glob(f"{source.stem}.*.pyc"):
            compiled.unlink()
        if cache.is_dir() and not any(cache.iterdir()):
            cache.rmdir()
