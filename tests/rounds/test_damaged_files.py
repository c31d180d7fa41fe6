"""A damaged file of a campaign or a dataset's store never changes a batch: it is made anew, or named in a sentence."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_rounds import campaign_folder

from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.files import read_json, write_json
from rounds.damage_lab import DAMAGES, STATES, DamageLab, build, trials

TOGETHER = 16
"""So many kinds of files are damaged at once, where each of them is made anew."""

# Nobody but its user can restore these; some of them harm nothing, depending on the place of the damage.
REFUSED = re.compile(
    r"campaign\.json|/ledger/|round_001/batch\.json|round_00[01]/stages/annotate\.json"
    r"|round_001/nnUNet_results/.*checkpoint_final|round_001/.*/dataset_fingerprint\.json"
)


@pytest.fixture(scope="module")
def lab(phantom_variants, tmp_path_factory) -> Iterator[DamageLab]:
    with pytest.MonkeyPatch.context() as patch:
        yield build(tmp_path_factory.mktemp("damage"), phantom_variants(), patch)


def names_of(lab: DamageLab, state: str, refused: bool) -> list[tuple[str, str]]:
    """A file of each kind that is refused when it is damaged, or of each of the others, and its replacement."""
    return [(file, other) for kind, file, other in trials(lab, state) if (REFUSED.search(kind) is not None) == refused]


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_the_ledger_and_the_decisions_hold_is_never_guessed(lab, damage, capfd):
    state = STATES[0]
    for file, other in names_of(lab, state, refused=True):
        lab.restore(state)
        DAMAGES[damage](lab.live / file, lab.folder / state / other)
        capfd.readouterr()
        code, told = lab.go_on(), capfd.readouterr().err
        assert "Traceback" not in told, file
        if code == 2:
            assert told.strip().startswith("Error: "), (file, told)
            assert len(told.strip().splitlines()) == 1, (file, told)
        else:
            assert (code, lab.asked()) == (0, lab.batch), file


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("state", STATES)
def test_what_can_be_made_anew_is(lab, state, damage, capfd):
    names = names_of(lab, state, refused=False)
    random.Random(f"{state} {damage}").shuffle(names)
    for first in range(0, len(names), TOGETHER):
        some = names[first : first + TOGETHER]
        lab.restore(state)
        for file, other in some:
            DAMAGES[damage](lab.live / file, lab.folder / state / other)
        code = lab.go_on()
        told = capfd.readouterr()
        assert code == 0, (some, told.out[-1000:], told.err[-1000:])
        assert lab.asked() == lab.batch, some


def test_every_kind_of_file_is_damaged(lab):
    kinds = {kind.rsplit("/", 1)[-1] for state in STATES for kind, *_ in trials(lab, state)}
    assert kinds >= {
        *("campaign.json", "regions.npz", "N.json", "CASE.nii.gz", "facts.json", "CASE-KEY.b2nd", "CASE-KEY.pkl"),
        *("CASE-KEY_nonzero.npz", "CASE-KEY_checksums.json", "nnUNetPlans.json", "composed_labels.json", "batch.json"),
        *("CASE_seg.b2nd", "CASE.pkl", "al_preprocessed.json", "splits_final.json", "checkpoint_latest.pth"),
        *("checkpoint_final.pth", "metrics.json", "scores.npz", "fisher.npz", "query.npz", "embedded_0_of_1.npz"),
        *("embeddings_0_of_1.npy", "scores_0_of_1.npz", "select.json", "train.json", "versions.json"),
    }


def without_checksums(lab: DamageLab) -> None:
    """Bring the campaign and the store to what versions without checksums left."""
    campaign = CampaignFolder(campaign_folder(lab.roots))
    edits: list[tuple[Path, tuple[str, ...], dict]] = [
        (campaign.decisions, ("checksum", "regions_checksum", "plan_checksum"), {}),
        *((entry, ("checksum",), {"schema": 2}) for entry in campaign.ledger.glob("*.json")),
        *((marker, ("checksum", "files"), {}) for marker in campaign.root.glob("round_*/stages/*.json")),
    ]
    for path, keys, other in edits:
        content = read_json(path)
        write_json(path, {key: value for key, value in content.items() if key not in keys} | other)
    for record in campaign.root.rglob("al_preprocessed.json"):
        content = read_json(record)
        for cases in content.values():
            for entry in cases.values():
                del entry["checksums"]
        write_json(record, content)
    for path in lab.roots.preprocessed.rglob("*_checksums.json"):
        path.unlink()
    (campaign.root / "versions.json").unlink()


@pytest.mark.parametrize("state", STATES)
def test_a_campaign_of_an_earlier_version_goes_on_and_gets_checksums(lab, state, capfd):
    lab.restore(state)
    without_checksums(lab)
    assert lab.go_on() == 0
    assert "damaged" not in capfd.readouterr().out
    assert lab.asked() == lab.batch
    campaign = CampaignFolder(campaign_folder(lab.roots))
    decided = read_json(campaign.decisions)
    assert {"checksum", "regions_checksum", "plan_checksum"} <= decided.keys()
    assert read_json(campaign.round(2).stages / "select.json")["files"]


def test_another_version_is_said_once(lab, capfd):
    lab.restore(STATES[0])
    file = campaign_folder(lab.roots) / "versions.json"
    write_json(file, read_json(file) | {"torch": "1.0"})
    assert lab.go_on("-phase", "prepare") == 0
    assert "the rounds before were done with 1.0" in capfd.readouterr().out
    assert lab.go_on("-phase", "train") == 0
    assert "rounds before" not in capfd.readouterr().out


def test_a_lost_volume_of_the_ledger_is_noticed_before_training(lab, capfd):
    lab.restore(STATES[0])
    volume = next((campaign_folder(lab.roots) / "ledger").glob("000/*.nii.gz"))
    volume.unlink()
    assert lab.go_on() == 2
    told = capfd.readouterr()
    assert f"The label volume {volume} of the ledger is missing" in told.err
    assert "training" not in told.out
