"""Damage files that a campaign and its dataset's store keep, and see whether the next call gives the same batch."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tiny_rounds import ENVIRONMENT, TINY_USIMF, campaign_folder, hurry, run_round, set_roots

from nnunet_al.campaign.commits import asked_regions
from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.nnunet.environment import Roots

NEXT = 2
"""The round of the call behind the damage."""
STATES = ("before_the_round", "in_training", "before_selection")


@dataclass
class DamageLab:
    """A campaign in several states, which is put back under the same path again and again.

    Attributes
    ----------
    batch : regions of the round that an undisturbed call asks for
    """

    folder: Path
    batch: list[tuple] | None = None

    @property
    def live(self) -> Path:
        return self.folder / "live"

    @property
    def roots(self) -> Roots:
        return Roots.below(self.live)

    def restore(self, state: str) -> None:
        shutil.rmtree(self.live, ignore_errors=True)
        shutil.copytree(self.folder / state, self.live, symlinks=True)

    def keep(self, state: str) -> None:
        shutil.copytree(self.live, self.folder / state, symlinks=True)

    def go_on(self, *more: object) -> int:
        """Do the next round; the exit code."""
        return run_round(*TINY_USIMF, "-round", NEXT, *more)

    def asked(self) -> list[tuple]:
        campaign = CampaignFolder(campaign_folder(self.roots))
        return [(region.case, region.box) for region in asked_regions(campaign.round(NEXT))]

    def files(self, state: str) -> dict[str, list[str]]:
        """Kind of file -> the files of that kind in a state, relative to the folder of nnU-Net's roots."""
        found: dict[str, list[str]] = {}
        for path in sorted((self.folder / state).rglob("*")):
            name = path.relative_to(self.folder / state).as_posix()
            if path.is_file() and not path.is_symlink() and path.stat().st_size and not name.startswith("nnUNet_raw/"):
                found.setdefault(kind_of(name), []).append(name)
        return found


def kind_of(name: str) -> str:
    """Return the path of a file with what tells its kind: numbers of cases, rounds and hashes are left out."""
    name = re.sub(r"phantom_\d+", "CASE", name)
    name = re.sub(r"CASE-[0-9a-f]{16}", "CASE-KEY", name)
    name = re.sub(r"ledger/\d{3}", "ledger/N", name)
    return re.sub(r"training_log_\w+", "training_log", name)


def build(folder: Path, raw: Path, patch: pytest.MonkeyPatch) -> DamageLab:
    """Make the campaign in all its states, and the batch of an undisturbed call."""
    from nnunet_al.nnunet.trainer import nnUNetTrainerAL

    lab = DamageLab(folder)
    shutil.copytree(raw, lab.live / "nnUNet_raw")
    hurry(patch.setattr)
    patch.delenv("nnUNet_extTrainer", raising=False)
    for name, value in {**ENVIRONMENT, **set_roots(lab.live)}.items():
        patch.setenv(name, value)
    for number in range(NEXT):
        assert run_round(*TINY_USIMF, "-round", number) == 0
    lab.keep(STATES[0])
    assert lab.go_on("-phase", "prepare") == 0
    with pytest.MonkeyPatch.context() as stopped:

        def stop(_: object) -> None:
            raise KeyboardInterrupt

        stopped.setattr(nnUNetTrainerAL, "_stop_if_asked", stop)
        assert lab.go_on("-phase", "train") == 130
    lab.keep(STATES[1])
    for phase in ("train", "evaluate", "score", "fisher", "embed"):
        assert lab.go_on("-phase", phase) == 0
    lab.keep(STATES[2])
    assert lab.go_on() == 0
    lab.batch = lab.asked()
    return lab


def cut(path: Path, _: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path, _: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def replace(path: Path, other: Path) -> None:
    path.write_bytes(other.read_bytes())


def delete(path: Path, _: Path) -> None:
    path.unlink()


DAMAGES: dict[str, Callable[[Path, Path], None]] = {"cut": cut, "flip": flip, "replace": replace, "delete": delete}


def trials(lab: DamageLab, state: str) -> Iterator[tuple[str, str, str]]:
    """Yield kind, file and the file that replaces it: the last of its kind, and another of the kind or any other."""
    of_kind = lab.files(state)
    for kind, names in of_kind.items():
        ending = names[-1].rpartition(".")[2]
        others = [*names[:-1], *(n for some in of_kind.values() for n in some if n.endswith(ending) and n not in names)]
        yield kind, names[-1], (others or [names[-1]])[0]
