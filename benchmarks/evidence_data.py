"""The sets of the benchmark as raw datasets of nnU-Net; no image is copied."""

from __future__ import annotations

import os
from pathlib import Path

from evidence_settings import Protocol
from setting import phantoms

from nnunet_al.evaluation.groups import read_groups
from nnunet_al.file_locks import file_lock
from nnunet_al.files import read_json, write_json, write_table
from nnunet_al.nnunet.environment import Roots


def make_dataset(protocol: Protocol, roots: Roots, data: str | None) -> None:
    """Make a set below ``roots``, unless it is there; several processes may do that at once."""
    target = roots.raw / protocol.dataset
    with file_lock(roots.raw / f"{protocol.dataset}.lock", timeout_seconds=600):
        if (roots.preprocessed / protocol.dataset / "splits_final.json").is_file():
            return
        if protocol.name == "quick":
            source = roots.raw / phantoms(roots, protocol.cases or 8)
            names = case_names(source)
            rows = [{"participant_id": name, "group": "AB"[index % 2]} for index, name in enumerate(names)]
            write_table(source / "participants.tsv", rows, delimiter="\t")
        else:
            source = _source(protocol, data)
            names = case_names(source)[: protocol.cases]
            content = read_json(source / "dataset.json")
            ending = content["file_ending"]
            content["numTraining"] = len(names)
            content["dataset"] = {
                name: {
                    "images": [str(path) for path in sorted((source / "imagesTr").glob(f"{name}_????{ending}"))],
                    "label": str(source / "labelsTr" / f"{name}{ending}"),
                }
                for name in names
            }
            write_json(target / "dataset.json", content)
        if protocol.test_every:
            table = source / "participants.tsv"
            groups = read_groups(table, [protocol.group_by], names) if protocol.group_by else dict.fromkeys(names, "")
            splits = [split(names, groups, protocol.test_every)]
        else:
            splits = read_json(source / "splits_final.json")
        write_json(roots.preprocessed / protocol.dataset / "splits_final.json", splits)


def split(names: list[str], groups: dict[str, str], test_every: int) -> dict[str, list[str]]:
    """Split cases into pool and test cases: every n-th one in the order of groups and names is tested on."""
    ordered = sorted(names, key=lambda name: (groups[name], name))
    test = ordered[test_every // 2 :: test_every]
    return {"train": sorted({*names} - {*test}), "val": sorted(test)}


def participants(protocol: Protocol, roots: Roots, data: str | None) -> Path | None:
    """Return the table with the groups of a set's cases; None where it has no groups."""
    if protocol.group_by is None:
        return None
    source = roots.raw / protocol.dataset if protocol.name == "quick" else _source(protocol, data)
    return source / "participants.tsv"


def case_names(source: Path) -> list[str]:
    """Return the labelled cases of a raw dataset, sorted."""
    ending = read_json(source / "dataset.json")["file_ending"]
    return sorted(path.name.removesuffix(ending) for path in (source / "labelsTr").glob(f"*{ending}"))


def _source(protocol: Protocol, data: str | None) -> Path:
    folder = data or os.environ.get("NNUNET_AL_TEST_DATA")
    if folder is None:
        raise SystemExit("Name the folder of the datasets with -data, or in NNUNET_AL_TEST_DATA.")
    source = Path(folder).absolute() / protocol.dataset
    if not (source / "dataset.json").is_file():
        raise SystemExit(f"{source} is no raw dataset: name the folder that holds {protocol.dataset} with -data.")
    return source
