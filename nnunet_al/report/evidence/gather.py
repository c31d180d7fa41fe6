"""Gathers the evidence of a campaign's last round with a model: computed once, kept in the round's folder."""

from __future__ import annotations

import zipfile
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from nnunet_al.campaign.decisions import Decisions, Options
from nnunet_al.campaign.folders import CampaignFolder, RoundFolder
from nnunet_al.campaign.progress import CampaignProgress
from nnunet_al.campaign.stages import TRAIN
from nnunet_al.errors import ModelError, NnunetALError, SetupError, StorageError
from nnunet_al.nnunet.environment import Roots
from nnunet_al.report.evidence.device import device_for
from nnunet_al.report.evidence.record import Evidence, MapPoint, evidence_key, read_evidence, write_evidence
from nnunet_al.report.reading.rounds import READ_ERRORS
from nnunet_al.terminal import say
from nnunet_al.text import count


def gather_evidence(folder: CampaignFolder, roots: Roots, options: Options, pictures: int) -> Evidence | str:
    """Return the evidence of the last complete round whose model is available, or a sentence on why there is none.

    It is read from the round's ``report`` folder if that was made from the same model, batch and annotations, and is
    computed and written there otherwise; where the folder cannot be written, the next call computes it again.

    Raises SetupError if it would have to be computed, and the device is not available.
    """
    try:
        progress = CampaignProgress(folder.root)
        for round_ in reversed(progress.rounds):
            if round_.number == 0 or not progress.is_complete(round_.number):
                continue
            checkpoint, key = _checkpoint(folder, round_), evidence_key(folder, round_)
            kept = read_evidence(round_, key, checkpoint, pictures)
            if kept is not None:
                return kept
            if checkpoint is not None:
                here = replace(options, device=device_for(round_, options.device))
                found = _compute(folder, roots, round_.number, here, pictures)
                if evidence_key(folder, round_) == key:  # else a case may have been withdrawn meanwhile
                    with suppress(StorageError):
                        write_evidence(round_, key, checkpoint, found)
                return found
        return _why_not(folder, progress)
    except SetupError:
        raise
    except NnunetALError as error:
        return str(error)
    except (zipfile.BadZipFile, *READ_ERRORS) as error:
        name = getattr(error, "filename", None)
        what = "" if name else f" ({type(error).__name__}: {error})"
        return f"{name or folder.root} cannot be read{what}: restore it, or do the round again."


def _why_not(folder: CampaignFolder, progress: CampaignProgress) -> str:
    """Return a sentence on why no complete round has a model."""
    last = progress.rounds[-1] if progress.rounds else None
    people = progress.decided is not None and progress.decided.annotate
    if last is None or last.number == 0:
        if people and progress.waits_for_readers:
            return "There is no model yet: round 1 trains the first one, once readers have annotated the initial batch."
        return "There is no model yet: round 1 trains the first one, with the next call of nnUNetv2_al_round."
    if progress.complete <= 1 and TRAIN not in progress.markers(last.number):
        return f"There is no model yet: round {last.number} has not finished its training."
    if progress.complete > 1 or _checkpoint(folder, last) is None:
        return "No complete round has a model any more: its checkpoint is needed for this."
    if people and progress.handed_out > progress.complete:
        if progress.waits_for_readers:
            waits = count(progress.awaited_regions, "region")
            return (
                f"Round {last.number}, the first with a model, is shown here once readers have annotated {waits} more."
            )
        return (
            f"Round {last.number}, the first with a model, is shown here once the next call of nnUNetv2_al_round has "
            "completed it."
        )
    return f"Round {last.number}, the first with a model, is shown here once it is complete."


def _compute(folder: CampaignFolder, roots: Roots, number: int, options: Options, pictures: int) -> Evidence:
    from nnunet_al.nnunet.pool_embedding import Embedder
    from nnunet_al.report.evidence.batch_overlays import examine_batch
    from nnunet_al.report.evidence.embedding_map import ROLES, choose_regions, features_of, tsne_map
    from nnunet_al.report.evidence.error_vs_uncertainty import mean_entropies
    from nnunet_al.report.evidence.pool_sample import draw_regions, examine_pool
    from nnunet_al.report.evidence.redundancy import redundancy
    from nnunet_al.report.evidence.strategy_map import StrategyMap, is_plain_entropy
    from nnunet_al.rounds.reopen import open_round
    from nnunet_al.rounds.round_model import load_round_model
    from nnunet_al.scoring.fast_network import fast_network

    context = open_round(folder, roots, number, options)
    where = " on the CPU" if options.device == "cpu" else ""
    say(f"Looking at the batch of round {number} of {folder.root}{where}")
    model = load_round_model(context, context.checkpoint(context.round))
    own = None
    if pictures and not is_plain_entropy(context.decided.recipe):
        try:
            own = StrategyMap.of(context)
        except ModelError as error:  # a member of an ensemble is gone
            say(f"    there is no map of the strategy. {error}")
    regions_of_batch, panels = examine_batch(context, model, pictures, own)
    drawn = draw_regions(context)
    regions_of_pool = examine_pool(context, model, drawn)
    plan, network, device = model
    network = fast_network(network)  # in place, so not before the predictions, which are those of the evaluation
    number_of = {region: index for index, region in enumerate(context.regions)}
    examined = (*regions_of_batch, *regions_of_pool)
    entropies = mean_entropies(context, plan, network, device, sorted({number_of[entry.region] for entry in examined}))
    shown = choose_regions(context)
    embedder = Embedder(network, plan.exclusive, device, options.scoring_batch_size, options.workers)
    features_N_d = features_of(context, embedder, shown.numbers_N)
    regions = [context.regions[index] for index in shown.numbers_N.tolist()]
    roles = [ROLES[index] for index in shown.roles_N.tolist()]
    map_N_2 = tsne_map(features_N_d, context.decided.seed)
    points = [] if map_N_2 is None else zip(regions, roles, map_N_2.tolist(), strict=True)
    batch_B = np.flatnonzero(shown.roles_N == ROLES.index("batch"))
    pool_M = np.flatnonzero(shown.drawn_N & (shown.roles_N != ROLES.index("annotated")))
    shapes = {case: facts.raw_shape for case, facts in context.data.facts.items()}
    rng = context.rng("random batches of the report")
    repeats = asdict(redundancy(features_N_d, regions, pool_M, batch_B, shapes, rng)) if len(batch_B) else None
    batch, pool = (
        tuple(replace(entry, entropy=entropies[number_of[entry.region]]) for entry in of)
        for of in (regions_of_batch, regions_of_pool)
    )
    return Evidence(
        number,
        batch,
        tuple(panels),
        tuple(MapPoint(region, role, x, y) for region, role, (x, y) in points),
        shown.of_role,
        repeats,
        pool=pool,
    )


def _checkpoint(folder: CampaignFolder, round_: RoundFolder) -> Path | None:
    decided = Decisions.load(folder.decisions)
    model = f"{decided.trainer}__{decided.plans}__{decided.configuration}"
    path = round_.view.results / decided.dataset / model / f"fold_{decided.fold}" / "checkpoint_final.pth"
    return path if path.is_file() else None
