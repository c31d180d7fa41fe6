"""Planning and preprocessing of a round with few new annotations, compared with nnU-Net's full run.

    python benchmarks/preprocessing.py [-np 2] [-c 2d] [-changed 10] [--quick] [--json FILE]

The campaign has all cases, each partly annotated. In every repetition, another slab of other cases is annotated; then
the stages of the round (compose labels, fingerprint, plan, preprocess) are timed, which continue from the previous
round, and nnU-Net's functions on the same composed labels: fingerprint, plan and preprocessing of all cases. All
written arrays are compared. ``preprocessing_all_changed_vs_full`` is the same round with another slab in all cases: the
rest of the factor is due to cases that did not change. Growth: the same round in campaigns on a quarter, a half and all
of the cases.
"""

from __future__ import annotations

import os
import shutil
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from measuring import Claim, Timing, alternate, fitted_exponent, make_parser, report

from nnunet_al.campaign.data import read_data
from nnunet_al.campaign.decisions import Decisions, Options
from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.campaign.ledger import CaseAnnotation
from nnunet_al.campaign.request import Request
from nnunet_al.files import read_json, write_json
from nnunet_al.nnunet.blosc_files import open_array, read_pickle
from nnunet_al.nnunet.environment import Roots, nnunet_folders, quiet
from nnunet_al.nnunet.fingerprint import MAX_VOXELS, extract_fingerprint
from nnunet_al.nnunet.raw_dataset import RawDataset
from nnunet_al.pool.boxes import Region, to_slices
from nnunet_al.rounds.context import RoundContext
from nnunet_al.rounds.run_stages import run_stages
from nnunet_al.rounds.stages import fingerprint
from nnunet_al.rounds.stages.order import MODEL_STAGES
from nnunet_al.rounds.start import start

STAGES = MODEL_STAGES[:4]  # labels, fingerprint, plan, preprocess
TEST_CASE = "copy_for_the_test"  # a campaign needs one; it is not used here
SLABS = 8  # a case is annotated slab by slab


@dataclass
class Campaign:
    """A campaign on the first ``n_cases`` cases whose rounds prepare training and stop there.

    ``ours`` does the next round, ``theirs`` does the same round with nnU-Net's functions. Both time each step.
    """

    roots: Roots
    dataset: str
    configuration: str
    n_cases: int
    n_changed: int
    workers: int
    max_voxels: float
    number: int = 0
    compared: int = 0
    next: int = 0
    slabs: dict[str, int] = field(default_factory=dict)
    steps: dict[str, list[float]] = field(default_factory=dict)

    @cached_property
    def folder(self) -> CampaignFolder:
        return CampaignFolder.of(self.roots, self.dataset, self.configuration, "random", 0, f"cases{self.n_cases}", 0)

    def begin(self) -> Campaign:
        """Annotate a slab of each case and do the first round."""
        tag = f"cases{self.n_cases}"
        requested = Request(self.dataset, self.configuration, 0, 0, tag, "random").decide()
        data = read_data(self.roots, self.dataset, requested.test, workers=1)
        cases = sorted(set(data.facts) - {TEST_CASE})[: self.n_cases]
        self.slabs = dict.fromkeys(cases, 0)
        splits = [{"train": cases, "val": [TEST_CASE]}]
        write_json(self.roots.preprocessed / self.dataset / "splits_final.json", splits)
        start(self.folder, requested, self.roots, data, workers=1)
        data.remember()
        self._annotate(cases)
        self.ours()
        self.steps.clear()
        return self

    def annotate_some(self) -> None:
        """Annotate another slab of the next ``n_changed`` cases.

        Just before their round: a round is trained on all that is annotated when it begins.
        """
        cases = list(self.slabs)
        self._annotate([cases[(self.next + index) % len(cases)] for index in range(self.n_changed)])
        self.next += self.n_changed

    def annotate_all(self) -> None:
        """Annotate another slab of every case."""
        self._annotate(list(self.slabs))

    def context(self, number: int) -> RoundContext:
        decided = Decisions.load(self.folder.decisions)
        data = read_data(self.roots, self.dataset, decided.test, self.workers)
        return RoundContext(self.folder, number, decided, self.roots, data, Options("cpu", self.workers))

    def ours(self) -> None:
        self.number += 1
        context = self.context(self.number)
        run_stages(STAGES, context, context.round.stages)
        for stage in STAGES:
            self._note(f"our {stage.name}", read_json(context.round.stages / f"{stage.name}.json")["seconds"])

    def theirs(self) -> None:
        from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor
        from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
        from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor

        view = self.folder.round(self.number).view
        stock = self._stock.create()
        plans = Decisions.load(self.folder.decisions).plans
        with nnunet_folders(stock, nnUNet_n_proc_DA="1"):
            started = time.perf_counter()
            extractor = DatasetFingerprintExtractor(self.dataset, self.workers)
            extractor.show_progress_bar = False
            extractor.num_foreground_voxels_for_intensitystats = self.max_voxels
            extractor.run()
            self._note("their fingerprint", time.perf_counter() - started)
            ExperimentPlanner(self.dataset, plans_name="stock").plan_experiment()
            # the same work as with nnU-Net's new plans, and the files are comparable
            shutil.copy(view.preprocessed / self.dataset / f"{plans}.json", stock.preprocessed / self.dataset)
            started = time.perf_counter()
            preprocessor = DefaultPreprocessor(verbose=False)
            preprocessor.show_progress_bar = False
            preprocessor.run(self.dataset, self.configuration, plans, self.workers)
            self._note("their preprocess", time.perf_counter() - started)

    def compare(self) -> None:
        """Compare all arrays of the round with nnU-Net's, and remove nnU-Net's."""
        identifier = self.context(self.number).configuration["data_identifier"]
        ours = self.folder.round(self.number).view.preprocessed / self.dataset / identifier
        theirs = self._stock.preprocessed / self.dataset / identifier
        names = sorted(path.name for path in theirs.iterdir())
        if sorted(path.name for path in ours.iterdir()) != names:
            raise SystemExit(f"{ours} and {theirs} do not hold the same files.")
        for name in names:
            for a, b in zip(_arrays(ours / name), _arrays(theirs / name), strict=True):
                if a.dtype != b.dtype or not np.array_equal(a, b):
                    raise SystemExit(f"{ours / name} differs from the file of nnU-Net, {theirs / name}.")
                self.compared += 1
        shutil.rmtree(self._stock.preprocessed.parent)

    def seconds(self, *steps: str, repetitions: int) -> Timing:
        """Return the total seconds of some steps in each of the last repetitions."""
        columns = [self.steps[step][-repetitions:] for step in steps]
        return Timing(tuple(sum(row) for row in zip(*columns, strict=True)))

    @property
    def _stock(self) -> Roots:
        """Return separate folders for nnU-Net, with the round's raw data."""
        stock = Roots.below(self.folder.root / "stock")
        return Roots(self.folder.round(self.number).view.raw, stock.preprocessed, stock.results)

    def _note(self, step: str, seconds: float) -> None:
        self.steps.setdefault(step, []).append(seconds)

    def _annotate(self, cases: list[str]) -> None:
        """Commit the next slab of each case, in the middle at first, from the dataset's labels."""
        context = self.context(self.number)
        annotations, regions = {}, []
        for case in cases:
            label = context.data.dataset.cases[case].label
            full_xyz, properties = context.label_format.read_with_properties(label)
            depth = full_xyz.shape[0]
            slab = (SLABS // 2 + self.slabs[case]) % SLABS
            self.slabs[case] += 1
            box = ((slab * depth // SLABS, (slab + 1) * depth // SLABS), *((0, n) for n in full_xyz.shape[1:]))
            labels_xyz = np.full_like(full_xyz, context.ignore)
            labels_xyz[to_slices(box)] = full_xyz[to_slices(box)]
            annotations[case] = CaseAnnotation(labels_xyz, properties)
            regions.append(Region(case, box))
        context.ledger.append(self.number, "oracle", "oracle", tuple(regions), annotations)


def lay_out(arguments: Namespace, roots: Roots) -> str:
    """Make a raw dataset that lists the cases of another one, and one of them also as the test case."""
    if arguments.quick:
        from nnunet_al.synthetic.phantom import make_phantom_dataset

        source = roots.raw.parent / "Dataset998_BenchmarkPhantom"
        make_phantom_dataset(source, cases=20, shape=(16, 32, 32))
    elif arguments.data is None and "NNUNET_AL_TEST_DATA" not in os.environ:
        raise SystemExit("Name a raw dataset with -data, or the folder of the Hippocampus in NNUNET_AL_TEST_DATA.")
    else:
        source = Path(arguments.data or Path(os.environ["NNUNET_AL_TEST_DATA"]) / "Dataset004_Hippocampus").absolute()
    dataset = RawDataset.read(source)
    labelled = {case: files for case, files in dataset.cases.items() if files.label is not None}
    listed: dict[str, Any] = {
        case: {"images": [str(file) for file in files.images], "label": str(files.label)}
        for case, files in labelled.items()
    }
    copies = roots.raw / dataset.name / TEST_CASE  # no file may belong to two cases
    copies.mkdir(parents=True, exist_ok=True)
    first: dict[str, Any] = next(iter(listed.values()))
    images = [shutil.copy(image, copies) for image in first["images"]]
    listed[TEST_CASE] = {"images": images, "label": shutil.copy(first["label"], copies)}
    content = {**dataset.dataset_json, "numTraining": len(listed), "dataset": listed}
    write_json(roots.raw / dataset.name / "dataset.json", content)
    return dataset.name


def _arrays(file: Path) -> list[np.ndarray]:
    """Return the arrays of a preprocessed file: an image, a label map, or nnU-Net's sampled voxels of each class."""
    if file.suffix == ".b2nd":
        return [open_array(file)[:]]
    locations = read_pickle(file)["class_locations"]
    return [np.asarray(locations[name]) for name in sorted(locations, key=str)]


@contextmanager
def fewer_voxels(max_voxels: float) -> Iterator[None]:
    """Let rounds sample ``max_voxels`` for the fingerprint; nnU-Net has an attribute for this."""
    real = fingerprint.extract_fingerprint
    if max_voxels != MAX_VOXELS:
        fingerprint.extract_fingerprint = partial(extract_fingerprint, max_voxels=max_voxels)
    try:
        yield
    finally:
        fingerprint.extract_fingerprint = real


def silently(work: Callable[[], None]) -> Callable[[], None]:
    def silent() -> None:
        with quiet():
            work()

    return silent


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("-np", type=int, default=2, help="number of processes of both")
    parser.add_argument("-c", default="2d", help="configuration")
    parser.add_argument("-changed", type=int, help="cases with new annotations (default: 10, with --quick 2)")
    arguments = parser.parse_args()
    repetitions, warm_ups = (1, 0) if arguments.quick else (arguments.repetitions or 5, 1)
    changed = arguments.changed or (2 if arguments.quick else 10)
    max_voxels = 1e6 if arguments.quick else MAX_VOXELS
    work = Path(arguments.o).absolute() / f"preprocessing{'_quick' if arguments.quick else ''}"
    shutil.rmtree(work, ignore_errors=True)
    roots = Roots.below(work).create()
    with fewer_voxels(max_voxels), nnunet_folders(roots), quiet():
        dataset = lay_out(arguments, roots)
        n_cases = len(read_json(roots.raw / dataset / "dataset.json")["dataset"]) - 1
        if n_cases < 4 * changed:
            raise SystemExit(
                f"{n_cases} cases are too few: a quarter of the pool must hold {changed} cases (-changed)."
            )
        make = partial(Campaign, roots, dataset, arguments.c, workers=arguments.np, max_voxels=max_voxels)
        campaigns = [make(n, changed) for n in (n_cases // 4, n_cases // 2, n_cases)]
        for campaign in campaigns:
            campaign.begin()
        whole = campaigns[-1]
        steps = {name: silently(getattr(whole, name)) for name in ("annotate_some", "ours", "theirs", "compare")}
        timings = alternate(steps, repetitions, warm_ups)
        ours, theirs = timings["ours"], timings["theirs"]
        pieces = {
            "fingerprint_vs_full": (("our fingerprint",), ("their fingerprint",), "the fingerprint"),
            "label_preprocessing_vs_full": (
                ("our labels", "our preprocess"),
                ("their preprocess",),
                "composing and preprocessing labels, against preprocessing all",
            ),
        }
        changed_of = f"{changed} of {n_cases} cases changed, -np {arguments.np}"
        claims = [
            Claim.of_times(
                "preprocessing_vs_full", ours, theirs, note=f"labels, fingerprint, plan, preprocessing; {changed_of}"
            )
        ]
        for name, (our_steps, their_steps, note) in pieces.items():
            times = (whole.seconds(*steps, repetitions=repetitions) for steps in (our_steps, their_steps))
            claims.append(Claim.of_times(name, *times, note=f"{note}; {changed_of}"))
        few_changed = {step: seconds[warm_ups:] for step, seconds in whole.steps.items()}
        everything = {name: steps[name] for name in ("ours", "theirs", "compare")}
        all_changed = alternate({"annotate": silently(whole.annotate_all), **everything}, min(2, repetitions), 0)
        note = f"the same with all {n_cases} cases changed: the rest of the factor is due to unchanged cases"
        claims.append(
            Claim.of_times("preprocessing_all_changed_vs_full", all_changed["ours"], all_changed["theirs"], note=note)
        )
        ways: dict[str, Callable[[], None]] = {}
        for campaign in campaigns:
            ways[f"annotate {campaign.n_cases}"] = silently(campaign.annotate_some)
            ways[str(campaign.n_cases)] = silently(campaign.ours)
        growth = alternate(ways, repetitions, warm_ups)
    sizes = [campaign.n_cases for campaign in campaigns]
    medians = [growth[str(size)].median for size in sizes]
    exponent = fitted_exponent(sizes, medians)
    note = f"cost of {changed} changed cases in pools of {', '.join(map(str, sizes))}; 0 would be no growth"
    claims.append(Claim("preprocessing_changed_growth_exponent", None, exponent, None, "", note=note))
    report(
        arguments,
        "preprocessing",
        claims,
        preprocessing_identical_files=whole.compared,
        seconds_of_pools=dict(zip(map(str, sizes), medians, strict=True)),
        steps=few_changed,
    )
    print(f"{whole.compared} preprocessed arrays are identical to nnU-Net's.")


if __name__ == "__main__":
    main()
