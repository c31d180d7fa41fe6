"""The table of settings: the decisions of the campaigns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from nnunet_al.files import hash_json
from nnunet_al.report.reading.runs import Run
from nnunet_al.report.tables.table import Table


def settings(runs: Sequence[Run]) -> Table:
    """Return one row per setting and value, with the campaigns that have it."""
    values: dict[str, dict[str, list[str]]] = {}
    for run in runs:
        for name, value in _settings(run).items():
            values.setdefault(name, {}).setdefault(value, []).append(run.name)
    rows = [
        {"setting": name, "value": value, "campaigns": "all" if len(names) == len(runs) else "; ".join(names)}
        for name, of in values.items()
        for value, names in of.items()
    ]
    return Table(
        "settings",
        "Decisions made at the start of the campaigns (campaign.json). Lists of cases and the hashes of their files "
        "are given as their number and one SHA-256 over all. Network: as planned for the campaign, with the batch size "
        "that it is trained with, its parameters, and the devices that its rounds were trained on.",
        rows,
    )


def _settings(run: Run) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in vars(run.decided).items():
        if name == "recipe":
            found |= {"strategy": value.name, "recipe": value.spelling, "paper": value.paper}
            found |= {f"-set {parameter}": _text(of) for parameter, of in value.parameters.items()}
        elif name in {"hashes", "groups"}:
            found[name] = f"{len(value)} files, {hash_json(value)[:12]}" if name == "hashes" else _groups(value)
        elif name.endswith("_cases"):
            found[name] = f"{len(value)}, {hash_json(value)[:12]}" if value else "0"
        else:
            found[name] = _text(value)
    return found | {name: _text(value) for name, value in run.network.items()}


def _groups(groups: dict[str, str]) -> str:
    sizes = {name: list(groups.values()).count(name) for name in sorted(set(groups.values()))}
    return ", ".join(f"{name}: {size} cases" for name, size in sizes.items()) or "–"


def _text(value: Any) -> str:
    if value is None or value in ((), [], {}, ""):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
