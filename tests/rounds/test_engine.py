"""The engine is decided when a campaign starts, and not by what is installed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nnunet_al.campaign.request import Request
from nnunet_al.errors import SetupError
from nnunet_al.rounds import start

MINIMAL = Request("Dataset501_X", "2d", 0, 0, None, "usimf")


@pytest.mark.parametrize("installed", [True, False])
@pytest.mark.parametrize("strategy, engine", [("usimf", "streaming"), ("usimc", "streaming"), ("entropy", None)])
def test_the_streaming_engine_is_the_default_everywhere(monkeypatch, installed, strategy, engine):
    monkeypatch.setattr(start, "submodlib_available", lambda: installed)
    assert start.with_engine(replace(MINIMAL, strategy=strategy).decide()).engine == engine


def test_submodlib_is_taken_where_it_is_asked_for_and_refused_where_it_is_not(monkeypatch):
    requested = replace(MINIMAL, engine="submodlib").decide()
    monkeypatch.setattr(start, "submodlib_available", lambda: True)
    assert start.with_engine(requested).engine == "submodlib"
    monkeypatch.setattr(start, "submodlib_available", lambda: False)
    with pytest.raises(SetupError, match="submodlib-py"):
        start.with_engine(requested)
