"""``nnUNetv2_al_synth``: make a raw dataset of phantoms, or a biased cohort of heads."""

from __future__ import annotations

import re
from argparse import ArgumentParser, Namespace
from functools import partial
from pathlib import Path
from typing import Any

from nnunet_al.cli.arguments import make_parser
from nnunet_al.cli.command import INTERRUPTED, run
from nnunet_al.errors import DatasetError
from nnunet_al.nnunet.environment import Roots
from nnunet_al.terminal import say

_DESCRIPTION = """\
Make a raw nnU-Net dataset without any patient.

Without --biased: phantoms, that is a body with an organ and a lesion.

With --biased: T1-weighted heads of two groups of equal size, made by deforming one label map. In group 1 the left
caudate, which is to be segmented, is also enlarged, or deformed as it differs between the heads of a -population.
participants.tsv holds the group of each case, so that a campaign can be fair to both:
nnUNetv2_al_round ... -group_by group -groups $nnUNet_raw/DatasetXXX_Caudate/participants.tsv.
Train with -tr nnUNetTrainerALNoMirroring: in a mirrored image the left caudate looks like the right one.
"""

# option -> its default; an option that is left out is None, so that one that means nothing here can be refused
_PHANTOMS: dict[str, Any] = {
    "name": "Phantom",
    "cases": 16,
    "test_cases": 0,
    "shape": (40, 48, 32),
    "spacing": (1.0, 1.0, 2.0),
    "modality": "MRI",
    "channels": 1,
    "regions": False,
}
_BIASED: dict[str, Any] = {
    "name": "Caudate",
    "cases": 312,
    "test_cases": 0,
    "shape": None,
    "spacing": None,
    "strength": "strong",
    "template": None,
    "population": None,
    "component_sign": 1,
    "subject": "independent",
    "appearance": "scanner",
    "paired": False,
    "np": 2,
}


def build_parser() -> ArgumentParser:
    """Describe the command's arguments."""
    parser = make_parser("nnUNetv2_al_synth", _DESCRIPTION)
    add = parser.add_argument
    add("-d", type=int, required=True, help="the new dataset's number, 1 to 999")
    add("-name", help="its name: DatasetXXX_NAME (default: Phantom, or Caudate with --biased)")
    add("-o", type=Path, help="folder for the dataset's folder (default: $nnUNet_raw)")
    add("-cases", type=int, help="training cases (default: 16; 312 with --biased)")
    add("-test_cases", type=int, help="cases in imagesTs and labelsTs (default: 0)")
    add(
        "-shape",
        type=int,
        nargs=3,
        metavar=("Z", "Y", "X"),
        help="voxels of an image in the order in which nnU-Net reads them; Z = 1 makes 2d phantoms (default: "
        "40 48 32; with --biased the extent of the template: 76 170 170 for the built-in one)",
    )
    add(
        "-spacing",
        type=float,
        nargs=3,
        metavar=("Z", "Y", "X"),
        help="distance of voxels in mm; in phantoms it varies by up to 15 %% (default: 1 1 2; with --biased the "
        "template's: 1 1 1 for the built-in one)",
    )
    add("-seed", type=int, default=0, help="same seed, same images (default: 0)")
    add = parser.add_argument_group("phantoms").add_argument
    add("-modality", choices=("MRI", "CT"), help="kind of intensities (default: MRI)")
    add("-channels", type=int, choices=(1, 2), help="images per case (default: 1)")
    add(
        "--regions",
        action="store_true",
        default=None,
        help="label overlapping nnU-Net regions (whole, core) instead of classes",
    )
    add = parser.add_argument_group("biased cohorts").add_argument
    add("--biased", action="store_true", help="make heads of two groups instead of phantoms")
    add(
        "-strength",
        choices=("strong", "weak", "none"),
        help="how much larger the left caudate of group 1 is: by 35 to 50 %%, by half of that, or not at all "
        "(default: strong)",
    )
    add(
        "-template",
        type=Path,
        metavar="FILE",
        help="a label map of a head with FreeSurfer's numbers (11: left caudate) instead of the built-in phantom",
    )
    add(
        "-population",
        type=Path,
        metavar="FOLDER",
        help="label maps of heads like the template: group 1's left caudate is deformed as theirs differ (mean and "
        "first principal component), mostly a shift that its neighbours share, instead of growing",
    )
    add(
        "-component_sign",
        type=int,
        choices=(1, -1),
        help="direction of the population's component, which has none of its own (default: 1, its longest shift goes "
        "left, back or up)",
    )
    add(
        "-subject",
        choices=("independent", "one_factor"),
        help="heads differ by many independent components, or by one number for the sum of ten, as in SimBA (default: "
        "independent)",
    )
    add(
        "-appearance",
        choices=("scanner", "plain"),
        help="tissues, bias field and noise differ from case to case, or there are none (default: scanner)",
    )
    add(
        "--paired",
        action="store_true",
        default=None,
        help="make pairs of cases that differ only in the deformation of the left caudate",
    )
    add("-np", type=int, metavar="PROCESSES", help="processes that make cases (default: 2)")
    return parser


def work(args: Namespace) -> int | None:
    """Make the dataset and say where it is.

    Raises DatasetError if there is such a dataset already or it cannot be made so; SetupError if there is no ``-o`` and
    nnU-Net's variables do not say where to put it; StorageError if it cannot be written; nothing is left of it then.
    """
    options = _options(args)
    folder = dataset_folder(args.d, options["name"], args.o)
    if args.biased:
        _make_cohort(folder, args.seed, options)
    else:
        _make_phantoms(folder, args.seed, options)
    code = _draw(folder) if args.biased else None
    say(f"{options['cases']} training and {options['test_cases']} test cases are in {folder}")
    return code


def _options(args: Namespace) -> dict[str, Any]:
    own, others = (_BIASED, _PHANTOMS) if args.biased else (_PHANTOMS, _BIASED)
    for name in [name for name in others if name not in own]:
        if getattr(args, name) is not None:
            option = f"-{name}" if others[name] is not False else f"--{name}"
            advice = "leave out one of the two" if args.biased else "leave it out, or add --biased"
            raise DatasetError(f"{option} means nothing {'with' if args.biased else 'without'} --biased: {advice}.")
    if args.component_sign is not None and args.population is None:
        raise DatasetError("-component_sign means nothing without -population: leave it out, or name a folder.")
    given = {name: getattr(args, name) for name in own}
    return {name: own[name] if value is None else value for name, value in given.items()}


def _make_phantoms(folder: Path, seed: int, options: dict[str, Any]) -> None:
    from nnunet_al.synthetic.phantom import make_phantom_dataset

    wanted = {name: value for name, value in options.items() if name not in {"name", "spacing"}}
    make_phantom_dataset(folder, seed=seed, spacing_mm=options["spacing"], **wanted)


def _make_cohort(folder: Path, seed: int, options: dict[str, Any]) -> None:
    from nnunet_al.nnunet.workers import iterate_jobs
    from nnunet_al.synthetic.cohort import make_biased_cohort
    from nnunet_al.synthetic.design import CohortDesign
    from nnunet_al.synthetic.population import read_population
    from nnunet_al.synthetic.template import read_template

    if options["np"] < 1:
        raise DatasetError(f"Nothing can be made by {options['np']} processes: give -np of 1 or more.")
    of_design = ("cases", "test_cases", "strength", "paired", "subject", "appearance", "component_sign")
    wanted = {name: options[name] for name in of_design}
    shape, spacing_mm = (options[name] and tuple(options[name]) for name in ("shape", "spacing"))
    design = CohortDesign(**wanted, shape=shape, spacing_mm=spacing_mm, seed=seed)
    template = options["template"] and read_template(options["template"])
    population = read_population(options["population"], options["template"]) if options["population"] else ()
    make_biased_cohort(folder, design, template, population=population, workers=options["np"], run=iterate_jobs)


def _draw(folder: Path) -> int | None:
    """Add the picture to a cohort, which is complete without it: no failure takes hours of work away."""
    picture = folder / "cohort.png"
    try:
        from nnunet_al.report.drawing.cohort_picture import cohort_picture

        cohort_picture(folder, picture)
    except KeyboardInterrupt:
        say(f"Interrupted: the cohort is complete, but for its picture {picture.name}.")
        return INTERRUPTED
    except Exception as error:
        reason = str(error).partition(":")[0].strip() or type(error).__name__  # without what to do: nothing has to be
        say(f"The cohort is complete, but for its picture {picture.name} ({reason}).")
    return None


def dataset_folder(number: int, name: str, parent: Path | None) -> Path:
    """Return where the new dataset goes, after making sure that its number and name are free to use.

    Raises DatasetError if the number or the name is none for nnU-Net, or a dataset has the number; SetupError if
    ``parent`` is not given and nnU-Net's variables do not name three folders.
    """
    if not 1 <= number <= 999:
        raise DatasetError(f"{number} is no dataset number: choose one from 1 to 999 with -d.")
    if not re.fullmatch(r"[A-Za-z0-9]+([_-][A-Za-z0-9]+)*", name):
        raise DatasetError(f"{name!r} is no name for a dataset: use letters, digits, '-' and single underscores.")
    new = f"Dataset{number:03d}_{name}"
    if parent is not None:
        raw, others = parent, tuple[Path, ...]()
    else:
        roots = Roots.from_environment()
        raw, others = roots.raw, (roots.preprocessed, roots.results)
    # nnU-Net allows a number one name in all of its folders
    taken = sorted(raw.glob(f"Dataset{number:03d}_*"))
    taken += [folder for root in others for folder in sorted(root.glob(f"Dataset{number:03d}_*")) if folder.name != new]
    if taken:
        raise DatasetError(f"{taken[0]} has the number {number} already: choose another with -d, or remove it first.")
    return raw / new


main = partial(run, build_parser, work, interrupted="Nothing was kept; the same command begins anew.")
