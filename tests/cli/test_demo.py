"""The demo, with less of everything."""

import struct

import pytest
from tiny_rounds import run_command

from nnunet_al.cli import demo
from nnunet_al.synthetic.phantom import make_phantom_dataset


@pytest.mark.slow
def test_the_demo_draws_its_pictures_and_continues_where_it_stopped(tmp_path, monkeypatch, capsys):
    import torch

    torch.set_num_threads(1)
    monkeypatch.setattr(demo, "ROUNDS", 1)
    monkeypatch.setattr(demo, "STRATEGIES", ("random", "entropy"))
    monkeypatch.setattr(demo, "TRAINING", {"epochs": 1, "iterations": 2, "batch_size": 2, "optimizer": "adamw"})
    make_phantom_dataset(tmp_path / "demo" / "nnUNet_raw" / demo.NAME, 10, shape=(28, 24, 12))
    assert run_command(demo.main, "-o", tmp_path / "demo") == 0
    for name in ("learning_curves.png", "selection.png"):
        header = (tmp_path / "demo" / name).read_bytes()[:24]
        assert header.startswith(b"\x89PNG")
        width, height = struct.unpack(">II", header[16:24])
        assert width > 500
        assert height > 300
    assert "random" in (tmp_path / "demo" / "report" / "report.html").read_text(encoding="utf-8")
    printed = capsys.readouterr().out
    assert "entropy patch" in printed
    assert "random patch" in printed

    assert run_command(demo.main, "-o", tmp_path / "demo") == 0
    assert capsys.readouterr().out.count("is done already") == 2 * 2
