"""What tests of annotation by people share."""

from __future__ import annotations

import shutil

import pytest
from tiny_rounds import DATASET

from .annotation_project import Project


@pytest.fixture
def project(make_roots, tmp_path) -> Project:
    """A dataset without labels, which lie where only the scripted readers look."""
    roots = make_roots(cases=6)
    shutil.move(roots.raw / DATASET / "labelsTr", tmp_path / "truth")
    return Project(roots, tmp_path / "truth")
