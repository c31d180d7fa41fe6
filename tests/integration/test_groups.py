"""Groups of cases in a campaign: weights, metrics, shares; and nothing of a person but case and group in any file."""

from __future__ import annotations

import csv
import shutil
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nnunet_al.campaign.decisions import Decisions
from nnunet_al.campaign.overview import campaign_overview, overview_table
from nnunet_al.campaign.results import row
from nnunet_al.campaign.stage_markers import mark_anew
from nnunet_al.cli.evaluate import group_lines, main as evaluate
from nnunet_al.files import read_arrays, read_json, write_json
from nnunet_al.rounds.groups import fairness
from nnunet_al.rounds.round_model import make_predictor
from nnunet_al.rounds.stages import weigh
from nnunet_al.rounds.stages.weigh import annotated_dice
from nnunet_al.selection.top_k import top_k

from .campaigns import DATASET, TRAINING, copy_unselected, read_volume, rewrite_volume

pytestmark = pytest.mark.slow

SEX = {"000": "F", "001": "F", "002": "M", "003": "M", "004": "M", "005": "F"}
SECRETS = ("Müller-Lüdenscheidt", "1951-03-17", "Sunnydale", "unverwechselbar@example.org")


def participants(folder: Path, ending: str = ".tsv") -> Path:
    path = folder / f"participants{ending}"
    rows = [("participant_id", "name", "birth", "sex", "site")]
    names = (SECRETS[0], f"Dr. {SECRETS[0]}")  # not all the same, so that no group is one of all
    rows += [(f"phantom_{case}", names[int(case) // 4], SECRETS[1], sex, SECRETS[2]) for case, sex in SEX.items()]
    rows += [("phantom_of_another_study", SECRETS[3], SECRETS[1], "F", SECRETS[2])]
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
    return path


def group_options(folder: Path) -> tuple[str, ...]:
    return ("-groups", str(participants(folder)), "-group_by", "sex")


def leaks(folder: Path) -> list[str]:
    found = []
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            found += [f"{path}: {secret}" for secret in SECRETS if secret.encode() in content]
            found += [f"{path}: a name in the path" for secret in SECRETS if secret in str(path)]
    return found


@pytest.fixture(scope="module")
def campaign(lab, tmp_path_factory):
    folder = tmp_path_factory.mktemp("groups")
    own = lab.with_results(folder / "results")
    settings = (*group_options(folder / "table"), "-initial_groups", "F=1", "M=2", "-b", "1", "-unit", "case")
    started = own.start("3d_fullres", "weighted_localized_entropy", *settings, "-roi_classes", "organ")
    return own, started, folder


def test_the_first_batch_holds_as_many_of_each_group_as_asked_for(campaign):
    _, folder, _ = campaign
    asked = [entry["case"] for entry in read_json(folder.round(0).batch)["regions"]]
    assert Counter(SEX[case.removeprefix("phantom_")] for case in asked) == {"F": 1, "M": 2}


def test_scores_are_entropies_times_the_softmax_of_how_far_a_group_stays_behind(campaign):
    lab, folder, _ = campaign
    context = lab.context(folder)
    written = read_json(folder.round(1).group_weights)
    with lab.at_work():
        measured = annotated_dice(context)
    assert written["dice_of_case"] == measured
    assert set(measured) == set(context.annotated_cases)
    everything = np.array(list(measured.values()))
    z = {}
    for group in "FM":
        own = [value for case, value in measured.items() if SEX[case[-3:]] == group]
        z[group] = (everything.mean() - np.mean(own)) / everything.std() if everything.std() else 0.0
    total = sum(np.exp(list(z.values())))
    weights = {group: np.exp(z[group]) / total for group in "FM"}
    assert {g: entry["weight"] for g, entry in written["by_group"].items()} == pytest.approx(weights, rel=1e-9)

    arrays = read_arrays(folder.round(1).scores)
    cases = [context.regions[number].case for number in arrays["numbers_N"]]
    expected_N = arrays["scores_N"] * [weights[SEX[case[-3:]]] for case in cases]
    first = read_json(folder.round(1).batch)["regions"][0]
    assert first["case"] == cases[int(top_k(expected_N, cases, 1).indices_B[0])]
    assert first["score"] == pytest.approx(expected_N.max(), rel=1e-12)


def test_annotated_dice_counts_annotated_voxels_and_classes_that_are_there(campaign, trained):
    from nnunet_al.nnunet.prediction import predict_segmentation
    from nnunet_al.rounds.round_model import load_round_model

    lab, folder, _ = campaign
    for here, source, classes in [(lab, folder, (1,)), (*trained("2d", "patch"), (1, 2))]:
        context = here.context(source)
        with here.at_work():
            plan, network, device = load_round_model(context, context.checkpoint(context.round))
            found = annotated_dice(context)
            for case in context.annotated_cases:
                stored = context.pool_images()[case]
                predicted = predict_segmentation(network, plan, stored.open()[:], stored.properties(), device)
                reference = read_volume(context.composed_label(case))
                seen = reference != context.ignore
                assert seen.all() == (len(classes) == 1)
                pairs = [(predicted[seen] == value, reference[seen] == value) for value in classes]
                values = [2 * (p & r).sum() / (p.sum() + r.sum()) for p, r in pairs if p.any() or r.any()]
                assert found.get(case) == (pytest.approx(np.mean(values), rel=1e-12) if values else None)


def test_members_of_an_ensemble_measure_the_cases_that_they_leave_out(fresh_lab, tmp_path, capsys):
    weighed = ("ensemble_of=folds", "members=2", "shrinkage=2", "largest_ratio=1.5")
    settings = (*group_options(tmp_path), "-initial", "4", "-b", "1", "-unit", "case", "-set", *weighed)
    folder = fresh_lab.start("2d", "bald+ensemble+fair", *settings)
    assert "by a member of the ensemble that was not trained on it" in capsys.readouterr().out
    context = fresh_lab.context(folder)
    written = read_json(folder.round(1).group_weights)
    weights = [entry["weight"] for entry in written["by_group"].values()]
    assert max(weights) <= min(weights) * 1.5 * (1 + 1e-12)
    splits = read_json(context.round.view.preprocessed / DATASET / "splits_final.json")
    with fresh_lab.at_work():
        for fold in context.member_folds:
            predict = make_predictor(context, context.checkpoint(context.round, fold), context.pool_images())
            for case in splits[fold]["val"]:
                predicted, reference = predict(case), read_volume(context.composed_label(case))
                pairs = [(predicted == value, reference == value) for value in (1, 2)]
                values = [2 * (p & r).sum() / (p.sum() + r.sum()) for p, r in pairs if p.any() or r.any()]
                assert written["dice_of_case"][case] == pytest.approx(np.mean(values), rel=1e-12)
    assert set(written["dice_of_case"]) == set(context.annotated_cases)


def test_metrics_table_and_status_say_how_the_groups_fare(campaign, capsys):
    lab, folder, _ = campaign
    metrics = read_json(folder.round(1).metrics)
    groups = metrics["groups"]
    of_case = {case: classes["organ"]["dice"] for case, classes in metrics["cases"].items()}
    mean = {}
    for group in "FM":
        mean[group] = [value for case, value in of_case.items() if SEX[case[-3:]] == group]
        entry = groups["by_group"][group]
        assert entry["n"] == len(mean[group])
        assert (entry["dice"] is None) == (not mean[group])
        if mean[group]:
            assert entry["dice"] == pytest.approx(np.mean(mean[group]))
    overall = np.mean(list(of_case.values()))
    delta = sum(abs(overall - np.mean(values)) for values in mean.values() if values)
    assert groups["delta"] == pytest.approx(delta)
    assert groups["essp"] == pytest.approx(overall / (1 + delta))
    assert groups["by_group"]["M"]["annotated_share"] == pytest.approx(2 / 3)
    assert groups["by_group"]["F"]["annotated_regions"] == 1
    with folder.results.open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert float(row["delta"]) == pytest.approx(delta, abs=1e-4)
    assert float(row["annotated_share_of_M"]) == pytest.approx(0.6667)
    assert f"{groups['essp']:.4f}" in overview_table([campaign_overview(folder)])
    capsys.readouterr()
    with lab.at_work():
        assert evaluate(["-d", DATASET, "-device", "cpu", "-np", "1"]) == 0
    assert f"{groups['delta']:.4f}" in capsys.readouterr().out
    assert read_json(folder.round(1).metrics) == metrics, "evaluating again changes nothing, intervals neither"


def test_nothing_of_a_person_but_case_and_group_reaches_any_file(campaign):
    lab, folder, everything = campaign
    assert leaks(everything / "table"), "the test sees what it looks for"
    assert leaks(lab.roots.results) == []
    assert leaks(lab.roots.preprocessed) == []
    decided = Decisions.load(folder.decisions)
    assert decided.groups == {f"phantom_{case}": sex for case, sex in SEX.items()}
    assert str(everything) not in folder.decisions.read_text().replace(str(lab.roots.results), "")


def test_no_refusal_tells_anything_of_a_person(campaign, tmp_path, capfd):
    lab, _, _ = campaign
    table = participants(tmp_path)
    content = table.read_text(encoding="utf-8")
    broken = {
        "missing": content.replace("phantom_003", "phantom_303"),
        "empty": content.replace("\tM\t", "\t\t", 1),
        "alone": content.replace("\tM\t", "\tX\t", 1),
        "twice": content + content.splitlines()[1].replace("\tF\t", "\tM\t") + "\n",
        "as it is": content,
    }
    for name, text in broken.items():
        for column in ("sex", "birth", "name", "nothing") if name == "as it is" else ("sex",):
            table.write_text(text, encoding="utf-8")
            options = ("-groups", str(table), "-group_by", column, "-tag", f"refused-{column}")
            code = lab.round("2d", "entropy+fair", *options)
            said = "".join(capfd.readouterr())
            assert (code == 2) == (column not in {"sex", "name"} or name != "as it is"), (name, column, said)
            if column == "name" and code == 0:
                continue  # who asks for names as groups gets them
            assert not [secret for secret in SECRETS if secret in said.replace(str(tmp_path), "")], (name, column)


@pytest.mark.parametrize("options, sentence", [
    ((), "-groups FILE -group_by COLUMN"),
    (("-group_by", "sex"), "go together"),
    (("-roi_classes", "liver"), "has the classes organ, lesion"),
    (("-initial_groups", "F=1"), "not given"),
    (("-initial_groups", "X=1"), "F, M"),
    (("-initial_groups", "F=99"), "the pool holds"),
    (("-initial_groups", "F"), "GROUP=N"),
    (("-initial_groups", "F=1", "M=1", "-initial", "3"), "leave -initial out"),
    (("-groups", "nowhere.tsv"), "'nowhere.tsv': there is no such file"),
    (("-groups", ""), "'': there is no such file"),
])  # fmt: skip
def test_what_does_not_fit_the_groups_is_refused_in_one_sentence(fresh_lab, tmp_path, capfd, options, sentence):
    with_table = options and options[-1] not in {"sex", "F=1"}
    table = group_options(tmp_path / "table") if with_table else ()
    strategy = "random" if options and not with_table else "weighted_localized_entropy"
    assert fresh_lab.round("2d", strategy, "-unit", "case", *table, *options) == 2
    errors = capfd.readouterr().err.strip().splitlines()
    assert sentence in errors[-1]
    assert not list(fresh_lab.roots.results.rglob("campaign.json"))


def test_one_group_in_the_test_set_is_no_fair_model(campaign, tmp_path):
    lab, folder, _ = campaign
    context = lab.context(folder)
    groups = dict.fromkeys(context.decided.groups, "A") | {context.decided.pool_cases[0]: "B"}
    context.decided = replace(context.decided, groups=groups)
    found = fairness(context, read_json(folder.round(1).metrics)["cases"])
    assert (found["number"], found["delta"], found["essp"], found["intervals"]["essp"]) == (1, None, None, None)
    assert found["by_group"]["B"]["dice"] is None
    metrics = {**read_json(folder.round(1).metrics), "groups": found}
    assert (row(metrics)["delta"], row(metrics)["essp_low"], row(metrics)["dice_of_B"]) == ("", "", "")
    assert "nothing to compare" in "\n".join(group_lines(found))


def test_a_stop_while_the_groups_are_weighed_loses_nothing(campaign, new_results, monkeypatch):
    base, source, _ = campaign
    batches = []
    for stops in (False, True):
        lab = new_results(base)
        copied = copy_unselected(source, lab, "3d_fullres", "weighted_localized_entropy")
        if stops:
            with monkeypatch.context() as patch:
                patch.setattr(weigh, "group_weights", lambda *_: sys.exit(137))
                with pytest.raises(SystemExit):
                    lab.round("3d_fullres", "weighted_localized_entropy", "-round", "1")
        assert lab.round("3d_fullres", "weighted_localized_entropy", "-round", "1") == 0
        batches.append(read_json(copied.round(1).batch))
    assert batches[0] == batches[1]


def test_what_a_dataset_came_with_is_counted_in_voxels(fresh_lab, tmp_path, capfd):
    raw = tmp_path / "partly" / "nnUNet_raw"
    shutil.copytree(fresh_lab.roots.raw, raw)
    labels = raw / DATASET / "labelsTr"
    (labels / "phantom_004.nii.gz").unlink()
    content = read_json(raw / DATASET / "dataset.json")
    write_json(raw / DATASET / "dataset.json", {**content, "labels": {**content["labels"], "ignore": 3}})
    partly = read_volume(labels / "phantom_002.nii.gz")
    partly[: len(partly) // 2] = 3
    rewrite_volume(labels / "phantom_002.nii.gz", partly)
    lab = fresh_lab.with_raw(raw)
    options = ("-unit", "case", "-b", "1", *group_options(tmp_path / "table"))
    assert lab.round("2d", "entropy", *TRAINING, *options, "-initial_groups", "F=1", "M=1") == 2
    assert "asks for nothing" in capfd.readouterr().err
    folder = lab.start("2d", "entropy", *options, rounds=0)
    assert lab.round("2d", "entropy", "-round", "1") in {0, 3}, "it may ask for what has no label"
    by_group = read_json(folder.round(1).metrics)["groups"]["by_group"]
    voxels = Counter()
    for case in set(Decisions.load(folder.decisions).pool_cases) - {"phantom_004"}:
        voxels[SEX[case[-3:]]] += (read_volume(labels / f"{case}.nii.gz") != 3).sum()
    assert {group: entry["annotated_voxels"] for group, entry in by_group.items()} == voxels
    assert by_group["M"]["annotated_share"] == pytest.approx(voxels["M"] / voxels.total())
    regions = {group: entry["annotated_regions"] for group, entry in by_group.items()}
    assert regions["M"] / sum(regions.values()) != pytest.approx(by_group["M"]["annotated_share"])


def test_a_campaign_keeps_its_groups(campaign, tmp_path, capfd):
    lab, _, _ = campaign
    table = participants(tmp_path)
    table.write_text(table.read_text(encoding="utf-8").replace("phantom_000", "phantom_x").replace(
        "phantom_002", "phantom_000").replace("phantom_x", "phantom_002"), encoding="utf-8")  # fmt: skip
    moved = ("-groups", str(table), "-group_by", "sex")
    assert lab.round("3d_fullres", "weighted_localized_entropy", *moved) == 2
    assert "started with F" in capfd.readouterr().err
    same = group_options(tmp_path)
    assert lab.round("3d_fullres", "weighted_localized_entropy", *same, "-round", "1") == 0


def test_a_group_that_is_not_annotated_yet_counts_as_much_as_the_worst(trained, new_results):
    base, source = trained("2d", "case")
    lab = new_results(base)
    annotated = base.context(source).annotated_cases
    pool = [*Decisions.load(source.decisions).pool_cases, *Decisions.load(source.decisions).test_cases]
    groups = {case: "seen" if case in annotated else "unseen" for case in pool}
    campaign = copy_unselected(source, lab, "2d", "bald+fair", group_by=("sex",), groups=groups)
    assert lab.round("2d", "bald+fair", "-round", "1") == 0
    assert [e["weight"] for e in read_json(campaign.round(1).group_weights)["by_group"].values()] == [0.5, 0.5]


def test_the_query_set_of_usim_follows_the_weights(trained, new_results):
    base, source = trained("3d_fullres", "patch")
    pool = Decisions.load(source.decisions).pool_cases
    groups = {case: "ab"[index % 2] for index, case in enumerate(pool)}
    groups |= dict.fromkeys(Decisions.load(source.decisions).test_cases, "a")
    drawn = {}
    for favoured in "ab":
        lab = new_results(base)
        campaign = copy_unselected(source, lab, "3d_fullres", "usimf+fair", group_by=("sex",), groups=groups)
        round_ = campaign.round(1)
        assert lab.round("3d_fullres", "usimf+fair", "-round", "1") == 0
        for stage in ("fisher", "embed", "embed_part_0_of_1", "select", "annotate"):
            (round_.stages / f"{stage}.json").unlink()
        (campaign.ledger / "001.json").unlink()
        weights = read_json(round_.group_weights)
        for group, entry in weights["by_group"].items():
            entry["weight"] = 1.0 if group == favoured else 1e-9
        write_json(round_.group_weights, weights)
        mark_anew(round_.stages, "weigh")
        assert lab.round("3d_fullres", "usimf+fair", "-round", "1") == 0
        numbers_N = read_arrays(round_.scores)["numbers_N"]
        cases = [lab.context(campaign).regions[n].case for n in numbers_N[read_arrays(round_.query)["indices_Q"]]]
        drawn[favoured] = {groups[case] for case in cases}
    assert drawn == {"a": {"a"}, "b": {"b"}}
