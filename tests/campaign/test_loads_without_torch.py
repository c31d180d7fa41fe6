"""Facts on disk, and the jobs that follow from them, are looked at without waiting for PyTorch or nnU-Net to load."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import nnunet_al

ROOT = Path(nnunet_al.__file__).parent
_LOOK = """
import importlib, json, sys
found = {}
for module in sys.argv[1:]:
    importlib.import_module(module)
    found.update({heavy: module for heavy in ("torch", "nnunetv2") if heavy in sys.modules and heavy not in found})
print(json.dumps(found))
"""


@pytest.mark.parametrize("package", ["campaign", "jobs"])
def test_no_module_loads_torch_or_nnunet(package):
    files = sorted(path for path in (ROOT / package).rglob("*.py") if path.name != "__init__.py")
    modules = [".".join(path.relative_to(ROOT.parent).with_suffix("").parts) for path in files]
    assert modules
    done = subprocess.run([sys.executable, "-c", _LOOK, *modules], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {}, "package -> the first module with which it was loaded"
