"""Everything happens on a copy of nnU-Net's package: the environment that runs the tests stays untouched."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import nnunet_al
from nnunet_al.cli import install as command
from nnunet_al.errors import SetupError, StorageError
from nnunet_al.nnunet import dropin

CHECKOUT = Path(nnunet_al.__file__).parents[1]
SHIMS = (
    "training/nnUNetTrainer/nnUNetTrainerAL.py",
    "training/nnUNetTrainer/nnUNetTrainerALLearningLoss.py",
    "training/nnUNetTrainer/nnUNetTrainerALNoAugmentation.py",
    "training/nnUNetTrainer/nnUNetTrainerALNoMirroring.py",
    "experiment_planning/nnUNetPlannerAL.py",
)
TRAINERS = {
    "nnUNetTrainerAL": "nnunet_al.nnunet.trainer",
    "nnUNetTrainerALLearningLoss": "nnunet_al.nnunet.learning_loss_trainer",
    "nnUNetTrainerALNoAugmentation": "nnunet_al.nnunet.no_augmentation_trainer",
    "nnUNetTrainerALNoMirroring": "nnunet_al.nnunet.no_mirroring_trainer",
}
PLANNERS = (
    "nnUNetPlannerAL",
    "nnUNetPlannerALResEncM",
    "nnUNetPlannerALResEncL",
    "nnUNetPlannerALResEncXL",
    "nnUNetPlannerALTwoStages",
)


def tree(folder: Path) -> dict[str, str]:
    """Every file, folder and link with a hash of what it holds."""
    found = {}
    for path in sorted(folder.rglob("*")):
        content = str(path.readlink()) if path.is_symlink() else "" if path.is_dir() else path.read_bytes()
        found[str(path.relative_to(folder))] = hashlib.sha256(repr(content).encode()).hexdigest()
    return found


@pytest.fixture
def nnunet(tmp_path) -> Path:
    """The folders of nnU-Net's package that matter here, with nothing compiled in them."""
    package = tmp_path / "site" / "nnunetv2"
    for place in ("training/nnUNetTrainer", "experiment_planning"):
        (package / place).mkdir(parents=True)
        (package / place / "__init__.py").write_text("")
    return package


def test_the_trainer_folder_holds_our_shims_and_nothing_else_to_import():
    folder = dropin.trainer_folder()
    assert sorted(path.stem for path in folder.glob("*.py")) == ["__init__", *TRAINERS]


def test_a_package_without_its_shims_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(nnunet_al.dropin, "__file__", str(tmp_path / "a" / "b" / "dropin" / "__init__.py"))
    with pytest.raises(SetupError, match="trainers"):
        dropin.trainer_folder()


@pytest.mark.parametrize("link", [False, True])
def test_installed_twice_and_removed_leaves_no_trace(nnunet, link):
    before = tree(nnunet)
    files = dropin.install(link, nnunet)
    once = tree(nnunet)
    assert dropin.install(link, nnunet) == files == [nnunet / shim for shim in SHIMS]
    assert tree(nnunet) == once
    assert set(once) - set(before) == set(SHIMS)
    assert all(file.is_symlink() == link for file in files)
    for file in files:
        (file.parent / "__pycache__").mkdir(exist_ok=True)
        (file.parent / "__pycache__" / f"{file.stem}.cpython-310.pyc").write_bytes(b"compiled")
    assert dropin.remove(nnunet) == (files, [])
    assert tree(nnunet) == before
    assert dropin.remove(nnunet) == ([], [])


def test_what_others_compiled_stays(nnunet):
    cache = nnunet / "training/nnUNetTrainer/__pycache__"
    cache.mkdir()
    (cache / "nnUNetTrainer.cpython-311.pyc").write_bytes(b"nnU-Net's")
    (cache / "nnUNetTrainerALx.cpython-311.pyc").write_bytes(b"somebody's")
    before = tree(nnunet)
    dropin.install(False, nnunet)
    (cache / "nnUNetTrainerAL.cpython-311.pyc").write_bytes(b"ours")
    dropin.remove(nnunet)
    assert tree(nnunet) == before


@pytest.mark.parametrize("first,then", [(True, False), (False, True)])
def test_copies_and_links_replace_each_other(nnunet, first, then):
    source = (dropin.trainer_folder() / "nnUNetTrainerAL.py").read_text()
    dropin.install(first, nnunet)
    for file in dropin.install(then, nnunet):
        assert file.is_symlink() == then
    assert (nnunet / SHIMS[0]).read_text() == source
    assert (dropin.trainer_folder() / "nnUNetTrainerAL.py").read_text() == source
    assert not (dropin.trainer_folder() / "nnUNetTrainerAL.py").is_symlink()


def test_an_older_copy_of_ours_is_renewed(nnunet):
    (nnunet / SHIMS[0]).write_text(f'"""{dropin.MARKER}."""\nold = True\n')
    dropin.install(False, nnunet)
    assert "old" not in (nnunet / SHIMS[0]).read_text()


@pytest.mark.parametrize("shim", SHIMS)
@pytest.mark.parametrize("kind", ["file", "link", "dangling", "folder"])
def test_what_is_not_ours_is_neither_overwritten_nor_removed(nnunet, tmp_path, shim, kind):
    mine = tmp_path / "mine.py"
    if kind == "file":
        (nnunet / shim).write_text("class nnUNetTrainerAL: ...\n")
    elif kind == "folder":
        (nnunet / shim).mkdir()
    else:
        (nnunet / shim).symlink_to(mine)
        if kind == "link":
            mine.write_text("class nnUNetTrainerAL: ...\n")
    before = tree(nnunet)
    with pytest.raises(StorageError, match=Path(shim).name):
        dropin.install(False, nnunet)
    assert tree(nnunet) == before
    assert dropin.remove(nnunet) == ([], [nnunet / shim])
    assert tree(nnunet) == before


def test_a_link_that_outlived_our_package_is_removed(nnunet, tmp_path):
    for shim in SHIMS[:2]:
        (nnunet / shim).symlink_to(tmp_path / "gone" / "trainers" / Path(shim).name)
    assert dropin.remove(nnunet) == ([nnunet / shim for shim in SHIMS[:2]], [])
    assert not any((nnunet / shim).is_symlink() for shim in SHIMS[:2])


def test_a_read_only_install_is_one_sentence(nnunet, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "write_text", refuse)
    monkeypatch.setattr(Path, "symlink_to", refuse)
    for link in (False, True):
        with pytest.raises(StorageError, match="nnUNetTrainerAL"):
            dropin.install(link, nnunet)


def test_another_nnunet_is_refused(tmp_path):
    with pytest.raises(SetupError, match="training/nnUNetTrainer"):
        dropin.install(False, tmp_path)


def test_a_missing_nnunet_is_told(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SetupError, match="nnunetv2 is not installed"):
        dropin.nnunet_folder()


def test_the_command(nnunet, monkeypatch, capsys):
    monkeypatch.setattr(dropin, "nnunet_folder", lambda: nnunet)
    before = tree(nnunet)
    assert command.main([]) == 0
    assert command.main(["--link"]) == 0
    assert command.main(["--remove"]) == 0
    assert tree(nnunet) == before
    assert command.main(["--remove"]) == 0
    assert "nothing to remove" in capsys.readouterr().out
    (nnunet / SHIMS[2]).write_text("mine")
    assert command.main([]) == 2
    assert SHIMS[2] in capsys.readouterr().err
    assert command.main(["--remove"]) == 0
    assert "not a file of nnunet-al" in capsys.readouterr().out


def test_the_command_does_not_load_torch():
    code = "import sys, nnunet_al.cli.install; sys.exit('torch' in sys.modules or 'nnunetv2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---------------------------------------------------------------- nnU-Net's own search

FIND_TRAINER = """
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name as find
import nnunetv2
for name in NAMES:
    print("FOUND", nnunetv2.__path__[0], find(name).__module__)
"""
FIND_PLANNER = """
from os.path import join
import nnunetv2
from nnunetv2.utilities.find_class_by_name import recursive_find_python_class as find
for name in NAMES:
    found = find(join(nnunetv2.__path__[0], "experiment_planning"), name, "nnunetv2.experiment_planning")
    print("FOUND", nnunetv2.__path__[0], found.__module__ if found else None)
"""


def search(code: str, names: tuple[str, ...], path: list[Path], **variables: str) -> list[list[str]]:
    """Run a search in a process of its own; return (folder of nnunetv2, module of the class) for each name."""
    variables |= {"PYTHONPATH": os.pathsep.join(map(str, path)), "PYTHONDONTWRITEBYTECODE": ""}
    done = subprocess.run(
        [sys.executable, "-c", f"NAMES = {names!r}\n{code}"],
        env=os.environ | variables,
        cwd=path[0],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("FOUND")]


@pytest.fixture
def whole_nnunet(tmp_path) -> Path:
    """A copy of all of nnU-Net's package, to be put in front of the installed one."""
    package = tmp_path / "site" / "nnunetv2"
    installed = Path(importlib.util.find_spec("nnunetv2").submodule_search_locations[0])
    shutil.copytree(installed, package, ignore=shutil.ignore_patterns("__pycache__"))
    return package


@pytest.mark.slow
@pytest.mark.parametrize("link", [False, True])
def test_nnunet_finds_what_was_installed_and_is_as_before_when_it_is_removed(whole_nnunet, link):
    site = whole_nnunet.parent
    path = [site, CHECKOUT]
    search(FIND_TRAINER, ("nnUNetTrainer_5epochs",), path)  # so that everything is compiled
    search(FIND_PLANNER, ("nnUNetPlannerResEncM",), path)
    before = tree(whole_nnunet)
    dropin.install(link, whole_nnunet)
    found = search(FIND_TRAINER, (*TRAINERS, "nnUNetTrainer_5epochs"), path)
    assert found[:-1] == [[str(whole_nnunet), module] for module in TRAINERS.values()]
    assert found[-1][1].startswith("nnunetv2.")
    found = search(FIND_PLANNER, (*PLANNERS, "ExperimentPlanner"), path)
    assert found[:-1] == [[str(whole_nnunet), "nnunet_al.nnunet.planning"]] * len(PLANNERS)
    assert found[-1][1].startswith("nnunetv2.")
    assert any("nnUNetTrainerAL" in name and name.endswith(".pyc") for name in tree(whole_nnunet))
    dropin.remove(whole_nnunet)
    assert tree(whole_nnunet) == before


@pytest.mark.slow
def test_a_copy_that_outlived_our_package_does_not_hinder_nnunet(whole_nnunet):
    dropin.install(False, whole_nnunet)
    gone = "import sys; sys.modules['nnunet_al'] = None\n"
    path = [whole_nnunet.parent]
    assert search(gone + FIND_TRAINER, ("nnUNetTrainer_5epochs",), path)[0][1].startswith("nnunetv2.")
    assert search(gone + FIND_PLANNER, ("nnUNetPlannerAL", "nnUNetPlannerResEncM"), path)[0][1] == "None"


@pytest.mark.slow
def test_nnunet_finds_the_trainers_by_their_variable():
    path = [CHECKOUT]
    found = search(FIND_TRAINER, tuple(TRAINERS), path, nnUNet_extTrainer=str(dropin.trainer_folder()))
    assert [module for _, module in found] == list(TRAINERS.values())
