from __future__ import annotations

import os

import pytest

from nnunet_al.errors import DatasetError, SetupError
from nnunet_al.nnunet import workers
from nnunet_al.nnunet.environment import Roots, dataset_name, environment_variables, nnunet_folders, quiet
from nnunet_al.nnunet.workers import run_jobs

NAMES = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")


@pytest.fixture
def roots(tmp_path) -> Roots:
    return Roots.below(tmp_path).create()


@pytest.mark.parametrize("missing", NAMES)
def test_an_unset_variable_and_a_missing_folder_are_named(monkeypatch, tmp_path, missing):
    for name in NAMES:
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    assert Roots.from_environment() == Roots.below(tmp_path)
    monkeypatch.setenv(missing, str(tmp_path / "nowhere"))
    with pytest.raises(SetupError, match=rf"{missing} names .*nowhere"):
        Roots.from_environment()
    monkeypatch.delenv(missing)
    with pytest.raises(SetupError, match=rf"{missing} is not set: export {missing}="):
        Roots.from_environment()


def test_nnunet_sees_the_roots_inside_the_block_only(monkeypatch, roots):
    from nnunetv2 import paths

    monkeypatch.setenv("nnUNet_raw", "/before")
    monkeypatch.delenv("nnUNet_results", raising=False)
    monkeypatch.setenv("nnUNet_compile", "t")
    before = dict(os.environ)
    with nnunet_folders(roots, nnUNet_n_proc_DA="1", nnUNet_compile=None):
        assert os.fspath(paths.nnUNet_raw) == str(roots.raw)
        assert os.fspath(paths.nnUNet_results) == str(roots.results)
        assert dict(os.environ).get("nnUNet_n_proc_DA") == "1"
        assert "nnUNet_compile" not in os.environ
    assert dict(os.environ) == before


def test_variables_are_put_back_after_an_error(roots):
    before = dict(os.environ)

    def fail():
        with nnunet_folders(roots):
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert dict(os.environ) == before


def test_variables_nest(monkeypatch):
    monkeypatch.delenv("nnUNet_al_test", raising=False)
    with environment_variables(nnUNet_al_test="a"):
        with environment_variables(nnUNet_al_test="b"):
            assert dict(os.environ)["nnUNet_al_test"] == "b"
        assert dict(os.environ)["nnUNet_al_test"] == "a"
    assert "nnUNet_al_test" not in os.environ


def test_a_dataset_is_found_by_number_and_by_name(roots):
    (roots.raw / "Dataset501_Toy").mkdir()
    (roots.raw / "Dataset050_Other").mkdir()
    (roots.raw / "not_a_dataset").mkdir()
    for spelling in (501, "501", "Dataset501_Toy", " 501 "):
        assert dataset_name(spelling, roots) == "Dataset501_Toy"
    assert dataset_name(50, roots) == dataset_name("050", roots) == "Dataset050_Other"


@pytest.mark.parametrize("wrong", [7, "Dataset007_Nobody", "toy", "Dataset501", "-1", "../Dataset501_Toy"])
def test_an_unknown_dataset_lists_those_that_exist(roots, wrong):
    (roots.raw / "Dataset501_Toy").mkdir()
    with pytest.raises(DatasetError, match="there are Dataset501_Toy"):
        dataset_name(wrong, roots)


def test_two_names_of_one_number_are_refused_as_in_nnunet(roots):
    (roots.raw / "Dataset501_Toy").mkdir()
    (roots.results / "Dataset501_Old").mkdir()
    with pytest.raises(DatasetError, match="Dataset501_Old, Dataset501_Toy"):
        dataset_name(501, roots)
    assert dataset_name("Dataset501_Toy", roots) == "Dataset501_Toy"


def test_a_dataset_without_raw_folder_is_unknown(roots):
    (roots.preprocessed / "Dataset501_Toy").mkdir()
    with pytest.raises(DatasetError, match="the folder holds none"):
        dataset_name(501, roots)


def test_quiet_keeps_the_output_in_the_log(tmp_path, capsys):
    log = tmp_path / "logs" / "log.txt"
    for line in ("one", "two"):
        with quiet(log):
            print(line)
    with quiet():
        print("three")
    assert capsys.readouterr().out == ""
    assert log.read_text() == "one\ntwo\n"


def _square(number):
    print("noise")
    return number**2


def _die(_):
    os._exit(1)


def test_jobs_run_here_in_order_and_quietly(capsys):
    assert run_jobs(_square, [(3,), (1,), (2,)]) == [9, 1, 4]
    assert run_jobs(_square, []) == []
    assert capsys.readouterr().out == ""


def _process(_):
    return os.getpid()


def test_little_work_is_not_worth_a_process():
    assert set(run_jobs(_process, [(1,), (2,)], workers=2, voxels=[1000, 1000])) == {os.getpid()}


@pytest.mark.slow
@pytest.mark.parametrize("voxels", [None, [1, workers.MAX_VOXELS_IN_PROCESS]])
def test_much_work_is(voxels):
    assert os.getpid() not in run_jobs(_process, [(1,), (2,)], workers=2, voxels=voxels)


@pytest.mark.slow
def test_jobs_in_processes_keep_their_order_and_errors(capfd):
    assert run_jobs(_square, [(n,) for n in range(5)], workers=2) == [0, 1, 4, 9, 16]
    assert capfd.readouterr().out == ""
    with pytest.raises(TypeError):
        run_jobs(_square, [("a",), (1,)], workers=2)
    with pytest.raises(SetupError, match="memory ran out"):
        run_jobs(_die, [(1,), (2,)], workers=2)
