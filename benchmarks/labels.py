"""Labels of a late round against those of an early one, and against composing each from all commits, as before.

    python benchmarks/labels.py [-cases 60] [-np 2] [--quick] [--json FILE]

Every round annotates a slab of each case, of 200 x 256 x 256 voxels. Ours: the composed labels of the round, the
regions that may be asked for, and the annotated voxels of each class, with the labels of the round before. The other
way reads all commits of each case, one case after the other, and the composed label again for the regions and for the
classes. The bytes of the two are compared. Cases that share a file read it like any other.
"""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from nnunet_al.campaign.commits import Commit, LabelEntry, commit_to_json, entry_file
from nnunet_al.campaign.data import Data
from nnunet_al.campaign.decisions import Options
from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.campaign.ledger import Ledger
from nnunet_al.campaign.request import Request
from nnunet_al.files import hash_array, hash_file, hash_json, write_json
from nnunet_al.nnunet.case_facts import CaseFacts
from nnunet_al.nnunet.environment import Roots, quiet
from nnunet_al.nnunet.raw_dataset import RawDataset
from nnunet_al.pool.annotated import fully_annotated
from nnunet_al.pool.boxes import Region
from nnunet_al.pool.table import save_regions
from nnunet_al.rounds.candidates import candidate_numbers
from nnunet_al.rounds.composed import compose_all, labels_after, measures
from nnunet_al.rounds.context import RoundContext
from nnunet_al.synthetic.image_file import write_image

EARLY, LATE = 2, 10
DATASET, CLASSES, DISTINCT = "Dataset997_Labels", 3, 2
FRAME = 8  # voxels


def make_dataset(roots: Roots, cases: list[str], shape: tuple[int, ...]) -> RawDataset:
    """Make a dataset whose cases share one image of noise in a frame of zeros."""
    folder = roots.raw / DATASET
    (folder / "imagesTr").mkdir(parents=True)
    image_xyz = np.random.default_rng(0).integers(900, 1100, shape).astype(np.int16)
    image_xyz[:, :FRAME] = 0
    write_image(roots.raw / "image.nii.gz", image_xyz, (1, 1, 1), (0, 0, 0))
    for case in cases:
        os.link(roots.raw / "image.nii.gz", folder / "imagesTr" / f"{case}_0000.nii.gz")
    labels = {"background": 0, **{f"class {value}": value for value in range(1, CLASSES + 1)}}
    content = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": len(cases), "file_ending": ".nii.gz"}
    write_json(folder / "dataset.json", content)
    return RawDataset.read(folder)


def make_ledger(context: RoundContext, shape: tuple[int, ...]) -> None:
    """Commit a slab of each case for each round; most cases share their files."""
    z, y, x = np.indices(shape, sparse=True)
    full_xyz = (((z // 9 + y // 31 + x // 27) % (2 * CLASSES)) % (CLASSES + 1)).astype(np.int32)
    full_xyz[:, :FRAME] = 0
    cases, ending, ledger = context.decided.pool_cases, context.data.dataset.file_ending, context.ledger
    properties = context.label_format.image_properties(context.data.dataset.cases[cases[0]].images)
    for number in range(LATE):
        labels, some = {}, cases[:DISTINCT]
        for index, case in enumerate(cases):
            file = ledger.folder / f"{number:03d}" / f"{case}{ending}"
            if case in some:
                labels_xyz = np.full(shape, context.ignore, np.int32)
                slab = slice(shape[0] * number // LATE, shape[0] * (number + 1) // LATE)
                labels_xyz[slab] = np.roll(full_xyz, index, axis=2)[slab]
                context.label_format.write(file, labels_xyz, properties)
                labels[case] = LabelEntry(hash_array(labels_xyz), 0)
            else:
                source = some[index % len(some)]
                os.link(file.with_name(f"{source}{ending}"), file)
                labels[case] = labels[source]
        commit = Commit(number, number, "oracle", "oracle", (), labels)
        write_json(entry_file(ledger.folder, number), commit_to_json(commit))


def make_context(roots: Roots, n_cases: int, shape: tuple[int, ...], workers: int) -> RoundContext:
    cases = [f"case_{index:03d}" for index in range(n_cases)]
    dataset = make_dataset(roots, cases, shape)
    box = tuple((0, length) for length in shape)
    facts = {case: CaseFacts(case, "SimpleITKIO", (), None, "none", shape, (1.0, 1.0, 1.0), box) for case in cases}
    hashes = {case: hash_json(()) for case in cases}
    decided = replace(Request(DATASET, "2d", 0, 0, None, "random").decide(), pool_cases=tuple(cases), hashes=hashes)
    folder = CampaignFolder.decided_by(roots, decided)
    step = max(1, shape[0] // 20)
    slabs = [((low, low + step), *box[1:]) for low in range(0, shape[0] - step + 1, step)]
    save_regions(folder.root / "regions.npz", [Region(case, slab) for case in cases for slab in slabs])
    data = Data(dataset, facts, {}, {}, lambda: None)
    return RoundContext(folder, 0, decided, roots, data, Options("cpu", workers))


def ours(first: RoundContext, number: int) -> tuple[float, list[int]]:
    """Do a round's labels from those of the round before; the seconds and the candidates."""
    shutil.rmtree(first.folder.round(number).root, ignore_errors=True)
    context = replace(first, number=number)
    write_json(context.round.ledger_mark, {"entries": number})
    started = time.perf_counter()
    compose_all(context)
    candidates = candidate_numbers(context)
    measures(context)
    return time.perf_counter() - started, candidates


def before(first: RoundContext, number: int) -> tuple[float, list[int]]:
    """Compose all labels of a round from all commits, beside those that are there; the seconds and the candidates."""
    context = replace(first, number=number)
    target = context.folder.root / "before"
    started = time.perf_counter()
    for case in context.annotated_cases:
        ledger = Ledger(context.ledger.folder, context.label_format, context.data.dataset.file_ending, context.ignore)
        files, facts = context.data.dataset.cases[case], context.data.facts[case]
        labels_xyz = labels_after(ledger, case, context.commits, files, facts)
        properties = fresh(ledger).properties(case, context.commits)
        context.label_format.write(target / f"{case}.nii.gz", labels_xyz, properties)
    read = context.label_format.read
    masks = {case: read(target / f"{case}.nii.gz") != context.ignore for case in context.annotated_cases}
    candidates = np.flatnonzero(~fully_annotated(context.regions, masks)).tolist()
    for case in context.annotated_cases:
        labels_xyz = read(target / f"{case}.nii.gz")
        for value in range(1, CLASSES + 1):
            np.isin(labels_xyz, value).sum()
    seconds = time.perf_counter() - started
    for case in context.annotated_cases:
        if hash_file(target / f"{case}.nii.gz") != hash_file(context.composed_label(case)):
            raise SystemExit(f"The composed label of {case} in round {number} is not the same.")
    return seconds, candidates


def fresh(ledger: Ledger) -> Ledger:
    """Return the same ledger without the geometry that it has just read, which was read once more."""
    return Ledger(ledger.folder, ledger.label_format, ".nii.gz", ledger.ignore)


def main() -> None:
    from measuring import Claim, Timing, make_parser, report  # loads torch, which our processes need not do

    parser = make_parser(__doc__)
    parser.add_argument("-cases", type=int, default=60, help="number of cases")
    parser.add_argument("-np", type=int, default=2, help="worker processes of ours")
    arguments = parser.parse_args()
    shape, n_cases = ((20, 24, 24), 4) if arguments.quick else ((200, 256, 256), arguments.cases)
    work = Path(arguments.o).absolute() / f"labels{'_quick' if arguments.quick else ''}"
    shutil.rmtree(work, ignore_errors=True)
    with quiet():
        first = make_context(Roots.below(work).create(), n_cases, shape, arguments.np)
        make_ledger(first, shape)
        seconds: dict[str, dict[int, list[float]]] = {"ours": {}, "before": {}}
        for number in (EARLY, LATE):
            ours(first, number - 1)
            for _ in range(arguments.repetitions or 1):
                (our_seconds, some), (other_seconds, others) = ours(first, number), before(first, number)
                if some != others:
                    raise SystemExit(f"The candidates of round {number} are not the same.")
                seconds["ours"].setdefault(number, []).append(our_seconds)
                seconds["before"].setdefault(number, []).append(other_seconds)
    of = f"{n_cases} volumes of {' x '.join(map(str, shape))}, -np {arguments.np}"
    times = {name: {number: Timing(tuple(some)) for number, some in found.items()} for name, found in seconds.items()}
    claims = [
        Claim.of_times(
            f"labels_round_{number}_vs_all_commits",
            times["ours"][number],
            times["before"][number],
            note=f"composing and candidates of round {number}; {of}",
        )
        for number in (EARLY, LATE)
    ]
    growth = times["ours"][LATE].median / times["ours"][EARLY].median
    note = f"seconds of round {LATE} over those of round {EARLY}; before: "
    note += f"{times['before'][LATE].median / times['before'][EARLY].median:.2f}"
    claims.append(Claim("labels_growth", None, growth, None, "", note=note))
    report(arguments, "labels", claims, seconds=seconds)
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
