"""The request of a command line, and how it becomes the decisions of a campaign."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, make_dataclass, replace
from pathlib import Path
from typing import Any

from nnunet_al.campaign.decisions import Decisions
from nnunet_al.errors import CampaignError
from nnunet_al.evaluation.groups import read_groups
from nnunet_al.settings import DEFAULT_TRAINER, SETTINGS, check_name
from nnunet_al.strategies import catalog

_DEFAULT_BUDGET = {"patch": 100, "slice": 100, "case": 4}
_DEFAULT_INITIAL = {"patch": 100, "slice": 100, "case": 10}
_NAMES = {"dataset": "-d", "configuration": "-c", "fold": "-f", "seed": "-seed", "tag": "-tag"}
_Open: Any = make_dataclass("_Open", [(line.name, Any, None) for line in SETTINGS], frozen=True, kw_only=True)


@dataclass(frozen=True)
class Request(_Open):
    """The request of a command line: a campaign and its `SETTINGS`; None leaves a setting open."""

    dataset: str
    configuration: str
    fold: int
    seed: int
    tag: str | None
    strategy: str
    posterior: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    groups: str | None = None

    def check(self) -> None:
        """Refuse requests that no campaign can fulfil.

        Raises CampaignError if a setting is out of its range, or two do not go together.
        """
        for setting in SETTINGS:
            if (value := getattr(self, setting.name)) is not None:
                setting.check(setting.flag, value)
        if self.fold < 0 or self.seed < 0:
            raise CampaignError("-f and -seed are numbers from 0.")
        check_name("-c", self.configuration)
        if self.tag is not None:
            check_name("-tag", self.tag)
        if (self.groups is None) != (self.group_by is None):
            raise CampaignError("-groups FILE and -group_by COLUMN go together: give both, or neither.")
        if self.missing_group is not None and self.groups is None:
            raise CampaignError(f"-missing_group {self.missing_group}: there are no -groups; leave it out.")
        if self.groups is not None and not Path(self.groups).is_file():
            raise CampaignError(f"-groups '{self.groups}': there is no such file; give the table of participants.")
        wanted = None if self.initial_groups is None else sum(self.initial_groups.values())
        if wanted is not None and self.initial not in {None, wanted}:
            raise CampaignError(
                f"-initial {self.initial}: -initial_groups asks for {wanted} regions; leave -initial out."
            )
        if self.full:
            self._check_full()
        if self.from_scratch and self.fine_tuning_epochs is not None:
            raise CampaignError(
                f"-fine_tuning_epochs {self.fine_tuning_epochs}: --from_scratch fine-tunes nothing; leave one out."
            )
        budget = self.budget or _DEFAULT_BUDGET[self.unit or "patch"]
        if self.candidates is not None and self.candidates <= budget:
            raise CampaignError(
                f"-candidates {self.candidates}: a round asks for {budget} of them (-b), so that nothing would be "
                "left to choose; give more, or leave it out."
            )
        if self.labels_are_oracle and self.annotate:
            raise CampaignError(
                "--labels_are_oracle: with --annotate people answer the batches; leave one of them out."
            )
        if self.hand_out == "monailabel" and (self.readings or 1) > 1:
            raise CampaignError("-readings: MONAI Label keeps one label of an image; leave -format monailabel out.")

    def _check_full(self) -> None:
        if catalog.get(self.strategy, self.posterior).name != "random":
            raise CampaignError(
                f"--full trains on the whole pool, and -s {self.strategy} chooses from it: use -s random."
            )
        flags = {"initial": "-initial", "initial_groups": "-initial_groups", "annotate": "--annotate"}
        for name, flag in flags.items():
            if getattr(self, name):
                raise CampaignError(f"{flag}: --full takes the labels of the whole pool at once; leave it out.")

    def decide(self, **of_device: Any) -> Decisions:
        """Fill in the defaults for a new campaign; pool and test cases are decided by the dataset later.

        ``of_device`` are the defaults of the device that it will compute on (`nnunet_al.nnunet.devices`).
        """
        recipe = catalog.with_parameters(catalog.get(self.strategy, self.posterior), **self.parameters)
        unit = self.unit or ("case" if self.full else "patch")
        initial = _DEFAULT_INITIAL[unit] if self.initial_groups is None else sum(self.initial_groups.values())
        defaults = {setting.name: setting.default for setting in SETTINGS} | {
            **({"unit": unit, "rounds": 1} if self.full else {}),
            "budget": _DEFAULT_BUDGET[unit],
            "initial": initial,
            "trainer": recipe.trainer or DEFAULT_TRAINER,
            **{"precision": "float32", "epochs": 1000, **of_device},
        }
        names = [setting.name for setting in SETTINGS]
        chosen = {name: defaults[name] if self.is_open(name) else getattr(self, name) for name in names}
        for setting in SETTINGS:
            if setting.type is Path and chosen[setting.name] is not None:
                chosen[setting.name] = str(Path(chosen[setting.name]).resolve())
        named = {name: getattr(self, name) for name in _NAMES}
        return Decisions(**named, recipe=recipe, training_precision=chosen["precision"], ties="seeded", **chosen)

    def is_open(self, name: str) -> bool:
        """Whether a setting is left to its default."""
        return getattr(self, name) is None or (name == "precision" and self.precision == "auto")

    def read_groups(
        self,
        cases: Sequence[str],
        note: Callable[[str], None] = lambda sentence: None,
        settled: Collection[str] = (),
        missing: str | None = None,
    ) -> dict[str, str]:
        """Read the group of each case from the participants' table, if one was given.

        ``missing`` is that of a campaign which has begun; see `nnunet_al.evaluation.groups.read_groups` on the others.

        Raises GroupsError if the table cannot be used.
        """
        if self.groups is None or self.group_by is None:
            return {}
        return read_groups(Path(self.groups), self.group_by, cases, missing or self.missing_group, settled, note)

    def continued(self, decided: Decisions, place: Path) -> Decisions:
        """Return the decisions of a campaign that has begun, with what a later call may change of them.

        More rounds may be planned where no schedule runs over them, and the given weights may be trusted.

        Raises CampaignError if the campaign was started otherwise, see `compare`.
        """
        self.compare(decided, place)
        rounds = max(self.rounds or 0, decided.rounds)
        return replace(decided, rounds=rounds, trust_weights=decided.trust_weights or bool(self.trust_weights))

    def compare(self, decided: Decisions, place: Path) -> None:
        """Refuse to continue a campaign that was started otherwise.

        Raises CampaignError naming each difference, with the value of the campaign's start.
        """
        wished = self.decide()
        if self.rounds is not None and self.rounds > decided.rounds:
            if schedule := decided.recipe.schedule:
                raise CampaignError(
                    f"-rounds {self.rounds}: the campaign {place} was planned for {decided.rounds}, over which "
                    f"{decided.recipe.name} changes {schedule}, so that earlier rounds would have been others; leave "
                    "it out, which ends the schedule there, or start another campaign with -tag."
                )
            wished = replace(wished, rounds=decided.rounds)
        if self.trust_weights:
            wished = replace(wished, trust_weights=decided.trust_weights)
        flags = _NAMES | {setting.name: setting.flag for setting in SETTINGS}
        differences = [
            f"{flag} {_shown(getattr(wished, name))} (started with {_shown(getattr(decided, name))})"
            for name, flag in flags.items()
            if not self.is_open(name) and getattr(wished, name) != getattr(decided, name)
        ]
        differences += [
            f"{name}={value} (started with {decided.recipe.parameters.get(name)})"
            for name, value in wished.recipe.parameters.items()
            if name in self.parameters and decided.recipe.parameters.get(name) != value
        ]
        if self.group_by == decided.group_by:
            cases = list(decided.groups)
            differences += _moved(self.read_groups(cases, settled=cases, missing=decided.missing_group), decided.groups)
        if differences:
            raise CampaignError(
                f"The campaign {place} was started otherwise: {', '.join(differences)}; leave these options out to "
                "continue it, or keep the two apart with -tag."
            )


def _moved(wished: Mapping[str, str], decided: Mapping[str, str]) -> list[str]:
    moved = [case for case, group in decided.items() if wished.get(case, group) != group]
    return [f"-groups that puts {moved[0]} into {wished[moved[0]]} (started with {decided[moved[0]]})"] if moved else []


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        value = tuple(f"{key}={number}" for key, number in value.items())
    return (" ".join(value) or "none") if isinstance(value, tuple) else str(value)
