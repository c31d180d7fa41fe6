"""Which precision a device computes in, from what its CPU says of itself."""

from __future__ import annotations

import pytest

from nnunet_al.errors import SetupError
from nnunet_al.nnunet import devices

_CPUS = {
    "amx_bf16": "processor\t: 0\nflags\t\t: fpu avx512f avx512_bf16 amx_tile amx_bf16\n",
    "avx512_bf16": "processor\t: 0\nflags\t\t: fpu avx512f avx512_bf16\n",
    "bf16": "processor\t: 0\nFeatures\t: fp asimd bf16\n",
    None: "model name\t: made for bf16 in the future\nflags\t\t: fpu avx512f avx2\n",
}


@pytest.mark.parametrize("expected", _CPUS)
def test_a_cpu_is_asked_for_its_instructions(tmp_path, expected):
    facts = tmp_path / "cpuinfo"
    facts.write_text(_CPUS[expected])
    assert devices.bfloat16_instructions(facts) == expected


def test_a_system_without_such_a_list_is_taken_to_have_none(tmp_path):
    assert devices.bfloat16_instructions(tmp_path / "none") is None


@pytest.mark.parametrize("listed", [None, "avx512_bf16"])
@pytest.mark.parametrize("used", [False, True])
def test_a_cpu_is_half_where_it_can_and_torch_does(monkeypatch, listed, used):
    monkeypatch.setattr(devices, "bfloat16_instructions", lambda: listed)
    monkeypatch.setattr(devices, "_torch_uses_bfloat16", lambda: used)
    assert devices.default_precision("cpu") == ("half" if listed and used else "float32")


def test_a_gpu_is_half_and_apple_s_is_not():
    assert devices.default_precision("cuda") == "half"
    assert devices.default_precision("mps") == "float32"


def test_kinds_of_arithmetic_are_kept_apart(monkeypatch):
    found = set()
    for listed in _CPUS:
        monkeypatch.setattr(devices, "bfloat16_instructions", lambda listed=listed: listed)
        found.update(devices.arithmetic(device) for device in ("cpu", "cuda", "mps"))
    assert len(found) == len(_CPUS) + 2
    assert devices.arithmetic("cuda") == "cuda", "as campaigns have recorded it"


def test_a_device_that_is_not_there_is_one_sentence(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SetupError, match="-device cuda is not available here: use cpu"):
        devices.torch_device("cuda")


def test_a_device_has_its_name(tmp_path, monkeypatch):
    facts = tmp_path / "cpuinfo"
    facts.write_text("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nmodel name\t: Some CPU @ 2 GHz\n")
    assert devices.device_name("cpu", facts) == "cpu (Some CPU @ 2 GHz)"
    assert devices.device_name("cpu", tmp_path / "none") == "cpu"
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "NVIDIA A100")
    assert devices.device_name("cuda") == "cuda (NVIDIA A100)"
    assert devices.device_name("mps") == "mps"
