"""The design of a biased cohort, and the group and strength of each case."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nnunet_al.errors import DatasetError
from nnunet_al.seeding import generator
from nnunet_al.synthetic.template import SPACINGS_MM

STRENGTHS: dict[str, tuple[float, float]] = {"strong": (4.0, 2.0), "weak": (2.0, 2.0), "none": (0.0, 0.0)}
"""Mean and standard deviation of the outward component's coefficient in group 1 (Danaee et al. 2026, section 3.1)."""
SUBJECTS, APPEARANCES = ("independent", "one_factor"), ("scanner", "plain")
BIASED, UNBIASED = "group1", "group2"
FOLDS = 5
FEWEST_VOXELS, MOST_VOXELS = 8, 512
"""Limits of an image along any axis."""


@dataclass(frozen=True)
class CohortDesign:
    """All properties of a cohort besides the template.

    Attributes
    ----------
    cases, test_cases : numbers of cases in ``imagesTr``/``labelsTr`` and ``imagesTs``/``labelsTs``; half of each is
        group 1
    strength : one of `STRENGTHS`
    shape : voxels z, y, x around the midpoint between both caudates; None: the extent of the template
    spacing_mm : voxel spacing z, y, x in mm; None: the template's
    subject : ``"independent"``: each component of the global deformation has a coefficient of its own;
        ``"one_factor"``: one coefficient for the sum of ten components, as SimBA has it
    appearance : ``"scanner"``: tissues, bias field and noise differ from case to case; ``"plain"``: none of these
    component_sign : direction of a population's first component, see `PopulationBasis.learn`
    paired : whether the cases come in pairs that differ only in the local deformation of the left caudate
    seed : the same seed gives the same cohort
    """

    cases: int = 312
    test_cases: int = 0
    strength: str = "strong"
    shape: tuple[int, int, int] | None = None
    spacing_mm: tuple[float, float, float] | None = None
    paired: bool = False
    seed: int = 0
    subject: str = "independent"
    appearance: str = "scanner"
    component_sign: int = 1

    def __post_init__(self) -> None:
        """Check the values.

        Raises DatasetError naming the invalid value.
        """
        if self.cases < 2 or self.test_cases < 0 or self.cases % 2 or self.test_cases % 2:
            raise DatasetError(
                f"A cohort of {self.cases} training and {self.test_cases} test cases has no two halves for the two "
                "groups: ask for even numbers, at least 2 for training."
            )
        if self.cases + self.test_cases > 10000:
            raise DatasetError(f"A cohort has 10000 cases at most, not {self.cases + self.test_cases}: ask for fewer.")
        if self.strength not in STRENGTHS:
            raise DatasetError(f"There is no strength {self.strength!r}: choose {', '.join(STRENGTHS)}.")
        for option, chosen, choices in (
            ("subject", self.subject, SUBJECTS),
            ("appearance", self.appearance, APPEARANCES),
            ("component sign", self.component_sign, (1, -1)),
        ):
            if chosen not in choices:
                raise DatasetError(f"There is no {option} {chosen!r}: choose {', '.join(map(str, choices))}.")
        if self.shape is not None and (len(self.shape) != 3 or min(self.shape) < FEWEST_VOXELS):
            raise DatasetError(f"Images of {self.shape} voxels are too small: give z, y, x of at least 8 each.")
        if self.shape is not None and max(self.shape) > MOST_VOXELS:
            raise DatasetError(f"Images of {self.shape} voxels are too large: give z, y, x of at most 512 each.")
        if self.spacing_mm is not None and (
            len(self.spacing_mm) != 3
            or not all(SPACINGS_MM[0] <= spacing <= SPACINGS_MM[1] for spacing in self.spacing_mm)
        ):
            raise DatasetError(
                f"A spacing of {self.spacing_mm} mm is impossible: give three numbers from 0.1 to 10, z y x."
            )


@dataclass(frozen=True)
class Case:
    """One case of a cohort.

    Attributes
    ----------
    number : from 0, training cases first
    group : `BIASED` or `UNBIASED`
    strength : the outward component's coefficient; 0 in group 2
    couple : number of the couple of consecutive cases, one of each group; in a paired cohort they share the anatomy
    """

    number: int
    group: str
    strength: float
    couple: int

    @property
    def name(self) -> str:
        """Its nnU-Net case id."""
        return f"sub-{self.number:04d}"

    def generator(self, design: CohortDesign, purpose: str) -> np.random.Generator:
        """Return the generator for properties that pairs share, such as the global deformation and the noise."""
        owner = f"couple {self.couple}" if design.paired else f"case {self.number}"
        return generator(design.seed, 0, f"cohort {purpose} {owner}")


def cases_of(design: CohortDesign) -> list[Case]:
    """Return all cases, training cases first.

    A case depends on the seed and its number, not on the number of cases. In each couple one random case is biased, so
    both groups have the same size in every part.
    """
    mean, deviation = STRENGTHS[design.strength]
    cases = []
    for number in range(design.cases + design.test_cases):
        couple = number // 2
        first_is_biased = generator(design.seed, 0, f"cohort groups {couple}").random() < 0.5
        biased = first_is_biased == (number % 2 == 0)
        drawn = mean + deviation * float(generator(design.seed, 0, f"cohort strength {number}").standard_normal())
        cases.append(Case(number, BIASED if biased else UNBIASED, drawn if biased else 0.0, couple))
    return cases


def folds_of(design: CohortDesign) -> list[dict[str, list[str]]]:
    """Return nnU-Net's ``splits_final.json`` of the training cases.

    Couples stay together, so that both groups have the same size in each fold and no pair is divided; five folds, fewer
    where there are fewer than five couples, none where there is one.
    """
    cases = cases_of(design)[: design.cases]
    order = generator(design.seed, 0, "cohort folds").permutation(design.cases // 2)
    count = min(FOLDS, len(order))
    fold_of = {int(couple): place % count for place, couple in enumerate(order)}
    return [
        {
            "train": [case.name for case in cases if fold_of[case.couple] != fold],
            "val": [case.name for case in cases if fold_of[case.couple] == fold],
        }
        for fold in range(count if count > 1 else 0)
    ]


def design_json(design: CohortDesign) -> dict[str, Any]:
    """Return the design as ``cohort.json`` holds it: lists, not tuples."""
    mean, deviation = STRENGTHS[design.strength]
    fields = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(design).items()}
    return {**fields, "strength_mean": mean, "strength_sd": deviation}
