"""``nnUNetv2_al_synth``: make a raw dataset of phantoms."""

from __future__ import annotations

import re
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from nnunet_al.cli.command import run
from nnunet_al.errors import DatasetError
from nnunet_al.nnunet.environment import Roots
from nnunet_al.progress import say


def build_parser() -> ArgumentParser:
    """Describe the command's arguments."""
    parser = ArgumentParser(
        prog="nnUNetv2_al_synth",
        description="Make a raw nnU-Net dataset of phantoms: a body with an organ and a lesion, without any patient.",
    )
    parser.add_argument("-d", type=int, required=True, help="the new dataset's number, 1 to 999")
    parser.add_argument("-name", default="Phantom", help="its name: DatasetXXX_NAME (default: Phantom)")
    parser.add_argument("-o", type=Path, help="where the dataset's folder is put (default: $nnUNet_raw)")
    parser.add_argument("-cases", type=int, default=16, help="training cases (default: 16)")
    parser.add_argument("-test_cases", type=int, default=0, help="cases in imagesTs and labelsTs (default: 0)")
    parser.add_argument(
        "-shape",
        type=int,
        nargs=3,
        default=(40, 48, 32),
        metavar=("Z", "Y", "X"),
        help="voxels of a typical image in the order in which nnU-Net reads them; Z = 1 makes 2d images "
        "(default: 40 48 32)",
    )
    parser.add_argument(
        "-spacing",
        type=float,
        nargs=3,
        default=(1.0, 1.0, 2.0),
        metavar=("Z", "Y", "X"),
        help="typical distance of voxels in mm; it varies by up to 15 %% between cases (default: 1 1 2)",
    )
    parser.add_argument("-seed", type=int, default=0, help="same seed, same images (default: 0)")
    parser.add_argument("-modality", choices=("MRI", "CT"), default="MRI", help="kind of intensities (default: MRI)")
    parser.add_argument("-channels", type=int, choices=(1, 2), default=1, help="images per case (default: 1)")
    parser.add_argument(
        "--regions", action="store_true", help="label overlapping nnU-Net regions (whole, core) instead of classes"
    )
    return parser


def work(args: Namespace) -> None:
    """Make the dataset and say where it is.

    Raises
    ------
    DatasetError
        if there is such a dataset already or it cannot be made so.
    SetupError
        if there is no ``-o`` and nnU-Net's variables do not say where to put it.
    """
    from nnunet_al.synthetic.phantom import make_phantom_dataset

    folder = dataset_folder(args.d, args.name, args.o)
    make_phantom_dataset(
        folder,
        cases=args.cases,
        seed=args.seed,
        shape=args.shape,
        spacing_mm=args.spacing,
        modality=args.modality,
        channels=args.channels,
        regions=args.regions,
        test_cases=args.test_cases,
    )
    say(f"{args.cases} training and {args.test_cases} test cases are in {folder}")


def dataset_folder(number: int, name: str, parent: Path | None) -> Path:
    """Return where the new dataset goes, after making sure that its number and name are free to use.

    Raises
    ------
    DatasetError
        if the number or the name is none for nnU-Net, or a dataset has the number.
    SetupError
        if ``parent`` is not given and nnU-Net's variables do not name three folders.
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


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run(build_parser, work, argv)
