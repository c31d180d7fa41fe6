"""What tests of whole rounds share: tiny phantom datasets, nnU-Net's three folders, and one call that does a round."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

# the tests' networks are tiny, and so many threads only wait for each other; before torch is loaded
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # asleep: the processes of a test run share the cores

from tiny_rounds import DATASET, ENVIRONMENT, SHAPE, hurry, run_round, set_roots

# where a shell runs the tests in the background, they ignore Control-C, and so would all that they start
signal.signal(signal.SIGINT, signal.default_int_handler)

# a file is run by one process: the long ones begin first, so that none is left over at the end
LONGEST = (
    *("cluster/test_slurm", "test_benchmarks", "rounds/test_kill", "integration/test_report_of_many"),
    *("integration/test_every_strategy", "rounds/test_damaged_files", "test_fairness_benchmark", "cli/test_processes"),
)


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_xdist_auto_num_workers() -> Generator[None, int, int]:
    """Return one process more than `-n auto` takes: some tests wait for Slurm, a browser or each other's locks."""
    return (yield) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of the longest files first."""
    places = {f"tests/{name}.py": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.nodeid.partition("::")[0], len(places)))


@pytest.fixture(scope="session")
def phantom_variants(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A function from the options of `make_phantom_dataset` to a raw folder with that dataset, made once; copy it."""
    from nnunet_al.synthetic.phantom import make_phantom_dataset

    made: dict[str, Path] = {}

    def variant(**options: Any) -> Path:
        wanted = {"cases": 10, "shape": SHAPE, **options}
        key = repr(sorted(wanted.items()))
        if key not in made:
            raw = tmp_path_factory.mktemp("phantoms") / "nnUNet_raw"
            raw.mkdir()
            make_phantom_dataset(raw / DATASET, **wanted)
            made[key] = raw
        return made[key]

    return variant


@pytest.fixture
def make_roots(
    phantom_variants: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """A function from phantom options to nnU-Net's roots with a copy of that dataset, set in the environment."""
    import torch

    from nnunet_al.nnunet.environment import Roots

    torch.set_num_threads(1)
    hurry(monkeypatch.setattr)
    monkeypatch.delenv("nnUNet_extTrainer", raising=False)
    calls = []

    def make(**options: Any) -> Roots:
        calls.append(options)
        folder = tmp_path / (f"roots_{len(calls)}" if len(calls) > 1 else "roots")
        shutil.copytree(phantom_variants(**options), folder / "nnUNet_raw")
        for name, value in {**ENVIRONMENT, **set_roots(folder)}.items():
            monkeypatch.setenv(name, value)
        return Roots.from_environment()

    return make


@pytest.fixture
def roots(make_roots: Callable[..., Any]) -> Any:
    """nnU-Net's three folders of this test, set in the environment, with its own copy of phantom dataset 501."""
    return make_roots()


@pytest.fixture(scope="module")
def module_roots(phantom_variants: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The same for all tests of a module, which copy what they change."""
    import torch

    from nnunet_al.nnunet.environment import Roots

    folder = tmp_path_factory.mktemp("module")
    shutil.copytree(phantom_variants(), folder / "nnUNet_raw")
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        hurry(patch.setattr)
        for name, value in {**ENVIRONMENT, **set_roots(folder)}.items():
            patch.setenv(name, value)
        yield Roots.from_environment()


@pytest.fixture
def al_round(roots: Any) -> Callable[..., int]:
    """`al_round("-s", "usimf", ...)` does a tiny round in this process and returns the exit code; see TINY_ROUND."""
    return run_round


@pytest.fixture(scope="session")
def hippocampus() -> Path:
    """The folder of a real dataset, Dataset004_Hippocampus of the Medical Segmentation Decathlon."""
    data = os.environ.get("NNUNET_AL_TEST_DATA")
    if not data:
        pytest.skip("NNUNET_AL_TEST_DATA is not set: it names a folder with Dataset004_Hippocampus.")
    folder = Path(data) / "Dataset004_Hippocampus"
    if not folder.is_dir():
        pytest.skip(f"NNUNET_AL_TEST_DATA names {data}, which holds no Dataset004_Hippocampus.")
    return folder
