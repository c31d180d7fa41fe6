"""Shards of a pass over the pool go on where a call before was stopped, whatever the number of shards was then."""

from __future__ import annotations

import errno
import os
import random
import signal
from collections import Counter
from functools import partial
from importlib.util import module_from_spec, spec_from_file_location
from itertools import islice
from pathlib import Path
from threading import Timer
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from nnunet.pools import make_network, make_pool

from nnunet_al.campaign.decisions import Options
from nnunet_al.campaign.folders import RoundFolder
from nnunet_al.campaign.stages import done_shards
from nnunet_al.errors import CampaignError, ModelError, StorageError
from nnunet_al.files import read_arrays, remove_temporary_files, write_arrays, write_json
from nnunet_al.nnunet import pool_embedding, pool_scoring
from nnunet_al.nnunet.devices import arithmetic
from nnunet_al.rounds import candidates, network_delay, round_model, shards
from nnunet_al.rounds.embedding_parts import EmbeddingPart
from nnunet_al.rounds.stages import embed, fisher, score
from nnunet_al.seeding import generator
from nnunet_al.stopping import handling_signals
from nnunet_al.strategies import catalog

from .kill_lab import kill_at, moments_of, some_of

MICRO = 4
"""Windows that the network sees at once: few, so that a pass over this small pool has many moments."""

BATCHES = 15
"""Of a whole pass: 59 windows."""


class Killed(BaseException):
    """Stands for SIGKILL: nothing handles it."""


class Probe:
    """Counts the regions that passes read, and ends a pass in front of a batch."""

    def __init__(self) -> None:
        self.given: Counter[int] = Counter()
        self.batches: int | None = None

    def watch(self, patch: pytest.MonkeyPatch) -> None:
        """Watch all passes, which see `MICRO` windows at once."""
        chunks, whole = pool_scoring.Pool.chunks, pool_scoring.micro_batches

        def counted(pool: Any, numbers_of_case: Any, *arguments: Any) -> Any:
            self.given.update(number for some in numbers_of_case.values() for number in some)
            return chunks(pool, numbers_of_case, *arguments)

        def batches(chunk: Any, size: int) -> Any:
            for batch in whole(chunk, size):
                if self.batches is not None:
                    if self.batches == 0:
                        raise Killed
                    self.batches -= 1
                yield batch

        patch.setattr(pool_scoring.Pool, "chunks", counted)
        patch.setattr(pool_scoring, "micro_batch_size", lambda patch_size: MICRO)
        patch.setattr(pool_scoring, "micro_batches", batches)


class Lab:
    """A round on a pool in memory, with the real stages and a network whose weights follow from its checkpoint."""

    def __init__(self, folder: Path, probe: Probe, precision: str = "float32") -> None:
        self.round = RoundFolder(folder, 1)
        self.checkpoint = folder / "checkpoint_final.pth"
        self.precision = precision
        small = {"passes": 2, "embedding_size": 20, "fisher_samples": 10}
        self.recipe = catalog.with_parameters(catalog.get("usimf"), **small)
        self.pool, _ = make_pool("2d", "slice")
        self.candidates: int | None = None
        self.train("1")
        self.probe = probe
        probe.given.clear()

    @property
    def given(self) -> Counter[int]:
        """How often each region was read."""
        return self.probe.given

    def train(self, seed: str) -> None:
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        self.checkpoint.write_text(seed)

    def context(self, part: int = 0, parts: int = 1) -> Any:
        decided = SimpleNamespace(
            recipe=self.recipe,
            precision=self.precision,
            seed=0,
            configuration="2d",
            dropout="decoder",
            dropout_p=0.1,
            dropout_of="channels",
            roi_classes=(),
            budget=5,
            candidates=self.candidates,
            ties="names",
            pool_cases=("a", "b", "c"),
        )
        return SimpleNamespace(
            round=self.round,
            number=1,
            decided=decided,
            options=Options(device="cpu", parts=parts, part=part),
            regions=self.pool.regions,
            plans={"a": "plan"},
            configuration={"spacing": [1.0, 1.0]},
            data=SimpleNamespace(dataset=SimpleNamespace(channels=("x", "y"))),
            rng=partial(generator, 0, 1),
            checkpoint=lambda round_: self.checkpoint,
        )

    def score(self, *part: int) -> None:
        score.score_part(self.context(*part))

    def merge(self, *part: int) -> None:
        score.score_merge(self.context(*part))

    def embed(self, *part: int) -> None:
        embed.embed_part(self.context(*part))

    def join(self, *part: int) -> None:
        embed.embed_merge(self.context(*part))

    def select_query(self) -> None:
        fisher.fisher(self.context())

    def all_of(self) -> dict[str, np.ndarray]:
        """Do whatever is left of scores and embeddings with one shard, and return them."""
        self.score()
        self.merge()
        self.select_query()
        self.embed()
        self.join()
        return self.outcome()

    def outcome(self) -> dict[str, np.ndarray]:
        found = read_arrays(self.round.scores)
        return {**found, "embeddings": np.load(self.round.embeddings)} if self.round.embeddings.is_file() else found

    def killed(self, batches: int, stage: Any, *part: int) -> None:
        """Do a stage whose process dies in front of its batch number ``batches``, and begin as a next process does."""
        self.probe.batches = batches
        with pytest.raises(Killed):
            stage(*part)
        self.probe.batches = None
        self.given.clear()
        remove_temporary_files(self.round.root)

    def file(self, name: str) -> Path:
        return self.round.root / "parts" / name

    def held(self, name: str) -> list[int]:
        """The regions that a shard's file speaks of."""
        arrays = read_arrays(self.file(name))
        return arrays["numbers_N"][arrays["done_N"] if "done_N" in arrays else slice(None)].tolist()


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def new_lab(tmp_path, monkeypatch):
    """A function name, precision -> a lab of its own in which each pass writes before each batch."""
    pool, _ = make_pool("2d", "slice")
    plan = SimpleNamespace(exclusive=True, heads=(1, 2))

    def load(context: Any, checkpoint: Path) -> Any:
        return plan, make_network("2d", seed=int(checkpoint.read_text())), torch.device("cpu")

    for module in (score, round_model):
        monkeypatch.setattr(module, "load_round_model", load)
    monkeypatch.setattr(score, "scored_numbers", lambda context: list(range(len(pool.regions))))
    monkeypatch.setattr(fisher, "trained_heads", lambda checkpoint: None)
    monkeypatch.setattr(score, "annotated_voxels", lambda context: np.array([3, 5]))
    for module in (score, fisher, embed):
        monkeypatch.setattr(module, "window_pool", lambda context: pool)
    monkeypatch.setattr(shards, "SECONDS_BETWEEN_WRITES", 0.0)
    monkeypatch.setattr(network_delay, "PATIENCE_SECONDS", 0.0)
    probe = Probe()
    probe.watch(monkeypatch)
    return lambda name="round_001", **options: Lab(tmp_path / name, probe, **options)


@pytest.fixture(scope="module")
def undisturbed() -> dict[str, np.ndarray]:
    """What the first test fills in that asks for `expected`."""
    return {}


@pytest.fixture
def expected(new_lab, undisturbed) -> dict[str, np.ndarray]:
    """What a round finds out that nobody disturbs."""
    found = undisturbed
    if not found:
        found |= new_lab("undisturbed").all_of()
    assert len(found["numbers_N"]) == len(found["embeddings"]) == 22
    assert len(np.unique(found["scores_N"])) > 15, "scores that tell regions apart"
    return found


def assert_equal(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


@pytest.mark.parametrize("parts", [2, 3, 5])
def test_sharded_is_whole(new_lab, expected, parts, monkeypatch):
    lab = new_lab()
    order = random.Random(parts).sample(range(parts), parts)
    monkeypatch.setattr(score, "scored_numbers", lambda context: list(range(22))[::-1])
    for part in order:
        lab.score(part, parts)
    assert lab.given == Counter(range(22)), "each region is scored by one shard"
    lab.merge(order[-1], parts)
    lab.select_query()
    for part in order:
        lab.embed(part, parts)
    lab.join(order[-1], parts)
    assert_equal(lab.outcome(), expected)


def test_killed_and_continued_is_undisturbed(new_lab, expected):
    rng = random.Random(7)
    lab = new_lab()
    held: list[int] = []
    for _ in range(3):
        left = 22 - len(held)
        lab.killed(rng.randrange(2, 5), lab.score)
        assert set(held) < set(lab.held("scores_0_of_1.npz")), "each try gets further"
        held = lab.held("scores_0_of_1.npz")
    assert left > 0
    lab.score()
    assert lab.given == Counter({*range(22)} - {*held}), "nothing is scored twice"
    lab.merge()
    lab.select_query()
    held = []
    for _ in range(3):
        lab.killed(rng.randrange(2, 5), lab.embed)
        assert set(held) < set(lab.held("embedded_0_of_1.npz")), "each try gets further"
        held = lab.held("embedded_0_of_1.npz")
    lab.embed()
    assert lab.given == Counter({*range(22)} - {*held}), "nothing is embedded twice"
    lab.join()
    assert_equal(lab.outcome(), expected)


def test_squared_gradients_go_on_where_they_were_cut(new_lab, expected, monkeypatch):
    visit, visits = pool_embedding.visit_gradients, Counter()
    counted = lambda *arguments, **named: (visits.update(["batch"]), visit(*arguments, **named))  # noqa: E731
    monkeypatch.setattr(pool_embedding, "visit_gradients", counted)
    whole, lab = new_lab("whole"), new_lab()
    for one in (whole, lab):
        one.score()
        one.merge()
    whole.select_query()
    of_whole = visits["batch"]
    for batches in (1, 2, 3):
        lab.killed(batches, lab.select_query)
        assert read_arrays(lab.file("squares.npz"))["batches"] == batches
    lab.select_query()
    assert visits["batch"] == 2 * of_whole, "no batch is done twice"
    assert not lab.file("squares.npz").exists()
    assert_equal(read_arrays(lab.round.fisher), read_arrays(whole.round.fisher))
    assert_equal(lab.all_of(), expected)


@pytest.mark.parametrize("batches", [0, 1, BATCHES - 1])
def test_the_first_and_the_last_moment(new_lab, expected, batches):
    lab = new_lab()
    lab.killed(batches, lab.score)
    lab.score()
    assert 0 < sum(lab.given.values()) <= 22
    lab.merge()
    lab.select_query()
    lab.killed(batches, lab.embed)
    assert_equal(lab.all_of(), expected)


def test_a_real_kill_at_any_change_on_disk(new_lab, expected, tmp_path):
    """The process dies before it creates, syncs, renames or removes any file."""
    lab = new_lab()

    def work() -> int:
        torch.set_num_threads(1)
        lab.all_of()
        return 0

    moments = moments_of(lab.round.root, work, tmp_path / "log.txt")
    assert moments > 60, "some changes for each of 15 + 15 batches"
    for moment in some_of(moments, 6):
        lab = new_lab(f"killed_{moment}")
        kill_at(lab.round.root, moment, work, tmp_path / "log.txt")
        remove_temporary_files(lab.round.root)
        assert_equal(lab.all_of(), expected)


def test_two_shards_then_three_then_one(new_lab, expected):
    lab = new_lab()
    lab.score(0, 2)
    done = set(lab.held("scores_0_of_2.npz"))
    lab.given.clear()
    lab.score(0, 3)
    assert not done & lab.given.keys()
    lab.killed(2, lab.score, 1, 3)
    done |= {*lab.held("scores_0_of_3.npz"), *lab.held("scores_1_of_3.npz")}
    assert 0 < len(done) < 22
    lab.score()
    assert lab.given == Counter({*range(22)} - done)
    lab.merge()
    assert [path.name for path in lab.file("").iterdir()] == ["scores_0_of_1.npz"], "the others are of no use any more"

    lab.select_query()
    lab.embed(0, 2)
    done = set(lab.held("embedded_0_of_2.npz"))
    lab.given.clear()
    lab.embed(0, 3)
    assert not done & lab.given.keys()
    lab.killed(2, lab.embed, 1, 3)
    done |= {*lab.held("embedded_0_of_3.npz"), *lab.held("embedded_1_of_3.npz")}
    lab.embed()
    assert lab.given == Counter({*range(22)} - done)
    lab.join()
    names = {path.name for path in lab.file("").iterdir()}
    assert names == {"scores_0_of_1.npz", "embedded_0_of_1.npz", "embeddings_0_of_1.npy"}
    assert_equal(lab.outcome(), expected)


def test_a_shard_that_another_host_has_just_written_is_waited_for(new_lab, monkeypatch):
    """Its marker may be seen before its file is: to take it for missing would have it done again."""
    monkeypatch.setattr(network_delay, "PATIENCE_SECONDS", 30.0)
    monkeypatch.setattr(network_delay, "LOOK_AGAIN_SECONDS", 0.02)
    lab = new_lab()
    for part in (0, 1):
        lab.score(part, 2)
    marker = lab.round.stages / "score_part_0_of_2.json"
    write_json(marker, {})
    for merge, name in ((lab.merge, "scores_0_of_2.npz"), (lab.join, "embedded_1_of_2.npz")):
        hidden = lab.round.root / "hidden"
        lab.file(name).rename(hidden)
        Timer(0.2, hidden.rename, [lab.file(name)]).start()
        merge(0, 2)
        assert marker.exists()
        if merge == lab.merge:
            lab.select_query()
            for part in (0, 1):
                lab.embed(part, 2)


def test_no_marker_speaks_of_shards_that_were_removed(new_lab):
    lab = new_lab()
    for parts in (2, 12):
        for part in range(parts):
            lab.score(part, parts)
            write_json(lab.round.stages / f"score_part_{part}_of_{parts}.json", {})
    lab.merge(0, 12)
    markers = (path.stem for path in lab.round.stages.glob("*.json"))
    assert done_shards(markers, "score") == {12: {*range(12)}}
    assert not list(lab.round.stages.glob("*_of_2.json"))


def test_a_round_that_is_done_keeps_no_files_of_shards(new_lab):
    lab = new_lab()
    lab.all_of()
    theirs = lab.file(".elsewhere-1.tmp.scores_0_of_3.npz")
    theirs.write_text("")
    shards.remove_parts(lab.context())
    assert list(lab.file("").iterdir()) == [theirs]
    theirs.unlink()
    shards.remove_parts(lab.context())
    assert not lab.file("").exists()
    shards.remove_parts(lab.context())


def test_what_another_model_scored_is_not_used(new_lab):
    other = new_lab("other")
    other.train("2")
    expected = other.all_of()
    lab = new_lab()
    first = lab.all_of()
    assert not np.array_equal(first["scores_N"], expected["scores_N"])
    lab.train("2")
    lab.given.clear()
    lab.score()
    assert lab.given == Counter(range(22))
    assert_equal(lab.all_of(), expected)


def test_shards_of_two_models_are_not_put_together(new_lab):
    lab = new_lab()
    marker = lab.round.stages / "score_part_0_of_2.json"
    lab.score(0, 2)
    write_json(marker, {})
    lab.train("2")
    lab.score(1, 2)
    with pytest.raises(CampaignError, match=r"another model .* run the same command again") as caught:
        lab.merge(1, 2)
    assert "\n" not in str(caught.value)
    assert not marker.exists(), "so that the same command does this shard again"
    lab.given.clear()
    for part in (0, 1):
        lab.score(part, 2)
    assert 0 < len(lab.given) < 22, "the second shard is of the present model already"
    lab.merge(1, 2)
    other = new_lab("other")
    other.train("2")
    other.score()
    other.merge()
    assert_equal(lab.outcome(), other.outcome())


def test_vectors_of_another_query_set_are_not_used(new_lab, expected):
    lab = new_lab()
    lab.score()
    lab.merge()
    lab.select_query()
    fisher = lab.round.fisher.read_bytes()
    arrays = read_arrays(lab.round.fisher)
    write_arrays(lab.round.fisher, **{**arrays, "scale_d": arrays["scale_d"] * 2})
    lab.embed(0, 2)
    lab.killed(3, lab.embed, 1, 2)
    lab.round.fisher.write_bytes(fisher)
    lab.embed(0, 2)
    with pytest.raises(CampaignError, match="another model"):
        lab.join(0, 2)
    lab.embed(1, 2)
    assert lab.given == Counter(range(22))
    lab.join(0, 2)
    assert_equal(lab.outcome(), expected)


def test_a_missing_checkpoint_is_named(new_lab):
    lab = new_lab()
    lab.score()
    lab.checkpoint.unlink()
    with pytest.raises(ModelError, match=r"checkpoint_final.pth is missing"):
        lab.merge()


def break_half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 255
    path.write_bytes(bytes(content))


def replace_by_another(path: Path) -> None:
    write_arrays(path, numbers_N=np.arange(22), foreground_N=np.zeros(22, np.int64))


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("harm", [break_half, flip_a_byte, replace_by_another, empty, Path.unlink])
def test_a_broken_file_is_not_used(new_lab, expected, harm):
    lab = new_lab()
    lab.score(0, 2)
    harm(lab.file("scores_0_of_2.npz"))
    lab.score()
    assert all(lab.given[number] for number in range(22))
    lab.merge()
    lab.select_query()
    lab.embed(0, 2)
    harm(lab.file("embedded_0_of_2.npz"))
    lab.given.clear()
    lab.embed()
    lab.join()
    # a byte of the archive's own headers, such as a date, may be flipped without harm
    assert lab.given == Counter(range(22)) or harm is flip_a_byte
    assert_equal(lab.outcome(), expected)


@pytest.mark.parametrize("harm", [break_half, empty, Path.unlink])
def test_a_list_without_its_array_is_not_used(new_lab, expected, harm):
    lab = new_lab()
    lab.score()
    lab.merge()
    lab.select_query()
    lab.embed()
    harm(lab.file("embeddings_0_of_1.npy"))
    lab.given.clear()
    lab.embed()
    assert lab.given == Counter(range(22))
    lab.join()
    assert_equal(lab.outcome(), expected)


@pytest.mark.parametrize("precision", ["float32", "half"])
def test_half_precision_of_another_kind_of_device_is_not_used(new_lab, precision):
    lab = new_lab(precision=precision)
    lab.score(0, 2)
    file = lab.file("scores_0_of_2.npz")
    arrays = read_arrays(file)
    assert str(arrays["device"]) == arithmetic("cpu")
    write_arrays(file, **{**arrays, "device": np.array("cuda")})
    lab.given.clear()
    lab.score()
    held = len(arrays["numbers_N"])
    assert sum(lab.given.values()) == (22 if precision == "half" else 22 - held)
    lab.score(1, 2)
    if precision == "half":
        with pytest.raises(CampaignError, match=r"cpu.* and cuda, where half precision is not the same"):
            lab.merge(1, 2)


def test_a_scheduler_s_signal_stops_where_the_next_call_goes_on(new_lab, expected, monkeypatch):
    monkeypatch.setattr(shards, "SECONDS_BETWEEN_WRITES", 1e6)
    lab = new_lab()
    steps = {"score": lab.score, "embed": lab.embed}
    files = {"score": "scores_0_of_1.npz", "embed": "embedded_0_of_1.npz"}
    for name, stage in steps.items():
        whole = pool_scoring.micro_batches

        def signalled(chunk: Any, size: int, whole: Any = whole) -> Any:
            batches = whole(chunk, size)
            yield from islice(batches, 6)
            os.kill(os.getpid(), signal.SIGUSR1)
            yield from batches

        with handling_signals(), monkeypatch.context() as patch:
            patch.setattr(pool_scoring, "micro_batches", signalled)
            with pytest.raises(KeyboardInterrupt):
                stage()
        held = lab.held(files[name])
        assert 0 < len(held) < 22
        lab.given.clear()
        with handling_signals():  # as the next process begins
            stage()
        assert lab.given == Counter({*range(22)} - {*held})
        if name == "score":
            lab.merge()
            lab.select_query()
    lab.join()
    assert_equal(lab.outcome(), expected)


def test_a_pass_writes_each_minute_and_never_long(monkeypatch):
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(shards.time, "monotonic", lambda: clock.now)
    written: list[float] = []
    costs = iter([0.5, 5.0, 0.0, 0.0])

    def write(done: float) -> None:
        written.append(done)
        clock.now += next(costs)

    keep = shards.NowAndThen(write)
    while clock.now < 600:
        clock.now += 1
        keep(lambda: clock.now)
    # 60 s behind the first, which takes half a second, and 5 minutes behind the second, which takes five seconds
    assert written == [160.0, 220.5, 525.5, 585.5]


def test_without_a_minute_nothing_is_written_twice(new_lab, monkeypatch):
    monkeypatch.setattr(shards, "SECONDS_BETWEEN_WRITES", 60.0)
    lab = new_lab()
    writes: Counter[str] = Counter()
    for module in (score, fisher):
        write = module.write_arrays
        counted = lambda path, write=write, **arrays: (writes.update([path.name]), write(path, **arrays))  # noqa: E731
        monkeypatch.setattr(module, "write_arrays", counted)
    lab.all_of()
    assert writes["scores_0_of_1.npz"] == 1


def test_a_full_disk_is_told_before_anything_is_embedded(new_lab, monkeypatch):
    def refuse(*arguments: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    lab = new_lab()
    with pytest.raises(StorageError, match=r"No space is left to write .*embeddings_0_of_1.npy"):
        EmbeddingPart(lab.context(), [1, 2], 3, "made by")
    assert list(lab.file("").iterdir()) == []


def test_more_shards_than_cases_and_an_empty_pool(new_lab, expected, monkeypatch):
    lab = new_lab()
    for part in range(5):
        lab.score(part, 5)
    lab.merge(4, 5)
    lab.select_query()
    lab.given.clear()
    for part in (*range(5), *range(5)):
        lab.embed(part, 5)
    assert lab.given == Counter(range(22)), "the second time nothing is left"
    lab.join(4, 5)
    assert_equal(lab.outcome(), expected)
    monkeypatch.setattr(score, "scored_numbers", lambda context: [])
    found = new_lab("nothing").all_of()
    assert found["numbers_N"].shape == (0,)
    assert found["embeddings"].shape == (0, 1)


def test_a_drawn_part_of_the_pool_is_the_same_in_shards(new_lab, expected, monkeypatch):
    everything = list(range(22))
    monkeypatch.setattr(score, "scored_numbers", candidates.scored_numbers)
    monkeypatch.setattr(candidates, "candidate_numbers", lambda context: everything)
    whole = new_lab("drawn")
    whole.candidates = 9
    drawn = whole.all_of()
    assert len(drawn["numbers_N"]) == len(drawn["embeddings"]) == 9
    rows = np.flatnonzero(np.isin(expected["numbers_N"], drawn["numbers_N"]))
    np.testing.assert_array_equal(drawn["scores_N"], expected["scores_N"][rows], "each region as in a whole pass")

    lab = new_lab()
    lab.candidates = 9
    for part in (2, 0, 1):
        lab.score(part, 3)
    lab.merge(1, 3)
    assert_equal(lab.all_of(), drawn)

    for enough in (22, 23):
        lab = new_lab(f"all_{enough}")
        lab.candidates = enough
        lab.score()
        lab.merge()
        assert_equal(lab.outcome(), {name: array for name, array in expected.items() if name != "embeddings"})


def test_regions_that_were_not_drawn_do_not_count_as_annotated(tmp_path, monkeypatch):
    pool, _ = make_pool("2d", "slice")
    decided = SimpleNamespace(recipe=catalog.get("core_set"), pool_cases=("a", "b", "c"), candidates=3)
    context = SimpleNamespace(round=RoundFolder(tmp_path, 1), decided=decided, regions=pool.regions)
    write_arrays(context.round.scores, numbers_N=np.array([1, 4, 9]))
    monkeypatch.setattr(candidates, "candidate_numbers", lambda context: list(range(20)))
    assert candidates.embedded_numbers(context) == [1, 4, 9, 20, 21]


def test_a_metric_of_another_package_that_was_corrected_counts_anew(new_lab, tmp_path, monkeypatch):
    file = tmp_path / "their_metric.py"

    def load(body: str) -> None:
        file.write_text(f"def theirs(probs, exclusive):\n    return {body}\n")
        spec = spec_from_file_location("their_metric", file)
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setattr(shards, "voxel_map", lambda metric: module.theirs)

    monkeypatch.setattr(shards, "is_built_in", lambda metric: False)
    lab = new_lab()
    load("probs[0, :, 0]")
    before = shards.made_by(lab.context(), lab.checkpoint)
    assert shards.made_by(lab.context(), lab.checkpoint) == before
    load("probs[0, :, 1]")
    assert shards.made_by(lab.context(), lab.checkpoint) != before
    monkeypatch.setattr(shards, "voxel_map", lambda metric: partial(max, 1))
    without_file = shards.made_by(lab.context(), lab.checkpoint)
    assert without_file == shards.made_by(lab.context(), lab.checkpoint)
