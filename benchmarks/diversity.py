"""Time of core-set and BADGE on large pools, compared with computing the distances of every centre to the whole pool.

Both implementations select the same regions with the same gains, to the last bit; the benchmark stops if they do not.
The embeddings are synthetic. Features: isotropic noise around a mean of ten times its size. Gradients: weights along
the axes that fall as 1/k to the power of 1.2, and a wide spread of norms, like the embeddings of a trained Hippocampus
model; and as the worst case isotropic noise. The embeddings are in files mapped to memory, as in a round.
"""

from __future__ import annotations

import tempfile
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from measuring import Claim, alternate, anonymous_peak, fitted_exponent, make_parser, report

from nnunet_al.selection.k_center import k_center
from nnunet_al.selection.kmeans_plusplus import kmeans_plusplus
from nnunet_al.selection.selection import Selection, order_by_name

TILE_ELEMENTS = 1 << 16
AXES = 256
DRAWS = 3  # the random choice of centres determines how many rows are read, so seconds are a mean over several draws


@dataclass(frozen=True)
class Sizes:
    """Regions, length of an embedding, annotated regions, and budgets."""

    core_set: int = 20_000
    core_set_large: int = 100_000
    features: int = 320
    references: int = 500
    core_set_budget: int = 100
    badge: int = 5_000
    badge_large: int = 20_000
    gradient: int = 10_000
    badge_budget: int = 50
    badge_large_budget: int = 100


QUICK = Sizes(4_000, 8_000, 128, 100, 20, 1_200, 2_400, 2_000, 20, 20)


class Plain:
    """The straightforward implementation of a tile: float64 differences of all rows to each centre."""

    @staticmethod
    def nearest_squared(embeddings_N_d: np.ndarray, centres_M_d: np.ndarray) -> np.ndarray:
        count, dimensions = embeddings_N_d.shape
        squared_N = np.full(count, np.inf)
        tile = max(1, TILE_ELEMENTS // dimensions)
        differences = np.empty((min(tile, count), dimensions))
        for start in range(0, count, tile):
            rows = np.asarray(embeddings_N_d[start : start + tile], dtype=np.float64)
            terms, nearest = differences[: len(rows)], squared_N[start : start + tile]
            for centre_d in centres_M_d:
                np.subtract(rows, np.asarray(centre_d, dtype=np.float64), out=terms)
                np.square(terms, out=terms)
                np.minimum(nearest, terms.sum(axis=1), out=nearest)
        return squared_N

    @classmethod
    def core_set(
        cls, embeddings_N_d: np.ndarray, names_N: list[str], budget: int, references_M_d: np.ndarray
    ) -> Selection:
        order_N = order_by_name(names_N)
        squared_N = cls.nearest_squared(embeddings_N_d, references_M_d)
        picked: list[int] = []
        worth: list[float] = []
        while True:
            open_N = squared_N[order_N]
            open_N[np.isin(order_N, picked)] = -1
            index = int(order_N[open_N.argmax()])
            picked.append(index)
            worth.append(float(np.sqrt(squared_N[index])))
            if len(picked) == budget:
                return Selection(np.array(picked), np.array(worth))
            np.minimum(squared_N, cls.nearest_squared(embeddings_N_d, embeddings_N_d[index : index + 1]), out=squared_N)

    @classmethod
    def badge(cls, embeddings_N_d: np.ndarray, names_N: list[str], budget: int, rng: np.random.Generator) -> Selection:
        order_N = order_by_name(names_N)
        norms_N = cls.nearest_squared(embeddings_N_d, np.zeros((1, embeddings_N_d.shape[1])))
        picked = [int(order_N[norms_N[order_N].argmax()])]
        worth = [float(np.sqrt(norms_N[picked[0]]))]
        squared_N = np.full(len(order_N), np.inf)
        while len(picked) < budget:
            last_1_d = embeddings_N_d[picked[-1] : picked[-1] + 1]
            np.minimum(squared_N, cls.nearest_squared(embeddings_N_d, last_1_d), out=squared_N)
            p_N = squared_N[order_N] / squared_N.max()
            picked.append(int(rng.choice(order_N, p=p_N / p_N.sum())))
            worth.append(float(np.sqrt(squared_N[picked[-1]])))
        return Selection(np.array(picked), np.array(worth))


class Drawn:
    """Synthetic embeddings, drawn tile by tile into files of a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def features(self, count: int, dimensions: int) -> np.ndarray:
        rng = np.random.default_rng(0)
        mean_d = 10 * rng.standard_normal(dimensions, dtype=np.float32)
        return self._file("features", count, dimensions, lambda rows: _noise(rng, rows, dimensions) + mean_d)

    def gradients(self, count: int, dimensions: int) -> np.ndarray:
        rng = np.random.default_rng(0)
        axes_r_d = _noise(rng, AXES, dimensions) * np.arange(1, AXES + 1, dtype=np.float32)[:, None] ** np.float32(-0.6)

        def draw(rows: int) -> np.ndarray:
            norms = rng.gamma(2.0, size=(rows, 1)).astype(np.float32)
            return norms * (_noise(rng, rows, AXES) @ axes_r_d + np.float32(0.5) * _noise(rng, rows, dimensions))

        return self._file("gradients", count, dimensions, draw)

    def isotropic(self, count: int, dimensions: int) -> np.ndarray:
        rng = np.random.default_rng(0)
        return self._file("isotropic", count, dimensions, lambda rows: _noise(rng, rows, dimensions))

    def _file(self, name: str, count: int, dimensions: int, draw: Callable[[int], np.ndarray]) -> np.ndarray:
        path = self.folder / f"{name}_{count}.npy"
        if not path.is_file():
            out = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(count, dimensions))
            for start in range(0, count, 500):
                out[start : start + 500] = draw(min(500, count - start))
            out.flush()
        return np.load(path, mmap_mode="r")


def _noise(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    return rng.standard_normal((rows, columns), dtype=np.float32)


def names(count: int) -> list[str]:
    return [f"region_{index:07d}" for index in np.random.default_rng(1).permutation(count)]


def compare(
    name: str, ours: Callable[[], Selection], plain: Callable[[], Selection], repetitions: int, note: str
) -> Claim:
    found: dict[str, Selection] = {}

    def keep(way: str, select: Callable[[], Selection]) -> Callable[[], None]:
        return lambda: found.update({way: select()})

    timings = alternate({"ours": keep("ours", ours), "plain": keep("plain", plain)}, repetitions)
    for field in ("indices_B", "gains_B"):
        if not np.array_equal(getattr(found["ours"], field), getattr(found["plain"], field)):
            raise SystemExit(f"{name}: the two implementations select different regions.")
    return Claim.of_times(name, timings["ours"], timings["plain"], note=f"{note}; the same batch to the last bit")


def core_set_claims(sizes: Sizes, drawn: Drawn, repetitions: int) -> list[Claim]:
    count, dimensions, budget = sizes.core_set_large, sizes.features, sizes.core_set_budget
    whole = drawn.features(count + sizes.references, dimensions)
    given, pool = whole[: sizes.references], whole[sizes.references :]
    every = names(count)

    def described(count: int) -> str:
        return f"{count} regions, d = {dimensions}, {sizes.references} references, B = {budget}"

    with anonymous_peak() as memory:
        k_center(pool, every, budget, given)
    used, matrix = (memory["peak"] - memory["before"]) / 1e6, count**2 * 8 / 1e6
    few = sizes.core_set
    ladder = [count // 8, count // 4, count // 2, count]
    labels = {size: names(size) for size in {few, *ladder}}
    claims = [
        compare(
            "core_set_vs_plain",
            lambda: k_center(pool[:few], labels[few], budget, given),
            lambda: Plain.core_set(pool[:few], labels[few], budget, given),
            repetitions,
            described(few),
        ),
        Claim(
            "core_set_memory",
            matrix / max(used, 1e-3),
            used,
            matrix,
            "MB",
            note=f"{described(count)}; beyond the embeddings; other: the matrix of all distances in float64",
        ),
    ]
    times = alternate(
        {str(size): lambda size=size: k_center(pool[:size], labels[size], budget, given) for size in ladder},
        repetitions,
    )
    claims.append(Claim("core_set_seconds_100k", None, times[str(count)].median, None, "s", note=described(count)))
    exponent = fitted_exponent(ladder, [times[str(size)].median for size in ladder])
    note = f"of seconds over regions, {ladder[0]} to {count}"
    claims.append(Claim("growth_selection_exponent_core_set", None, exponent, None, "", note=note))
    return claims


def badge_claims(sizes: Sizes, drawn: Drawn, repetitions: int) -> list[Claim]:
    few, dimensions, budget = sizes.badge, sizes.gradient, sizes.badge_budget
    labels = {few: names(few)}
    claims = []
    for name, rows in (("badge_vs_plain", drawn.gradients), ("badge_vs_plain_isotropic", drawn.isotropic)):
        pool = rows(few, dimensions)
        claims.append(
            compare(
                name,
                lambda pool=pool: kmeans_plusplus(pool, labels[few], budget, np.random.default_rng(0)),
                lambda pool=pool: Plain.badge(pool, labels[few], budget, np.random.default_rng(0)),
                repetitions,
                f"{few} regions, d = {dimensions}, B = {budget}"
                + (", gradients without any structure, the worst case" if name.endswith("isotropic") else ""),
            )
        )
    count, budget = sizes.badge_large, sizes.badge_large_budget
    ladder = [count // 8, count // 4, count // 2, count]
    pool = drawn.gradients(count, dimensions)
    labels |= {size: names(size) for size in ladder}

    def draw(size: int) -> None:
        for seed in range(DRAWS):
            kmeans_plusplus(pool[:size], labels[size], budget, np.random.default_rng(seed))

    times = alternate({str(size): lambda size=size: draw(size) for size in ladder}, repetitions)
    note = f"{count} regions, d = {dimensions}, B = {budget}, mapped from a file; mean of {DRAWS} draws"
    claims.append(Claim("badge_seconds_20k", None, times[str(count)].median / DRAWS, None, "s", note=note))
    exponent = fitted_exponent(ladder, [times[str(size)].median for size in ladder])
    note = f"of seconds over regions, {ladder[0]} to {count}"
    claims.append(Claim("growth_selection_exponent_badge", None, exponent, None, "", note=note))
    return claims


def main() -> None:
    arguments: Namespace = make_parser(__doc__).parse_args()
    sizes = QUICK if arguments.quick else Sizes()
    repetitions = arguments.repetitions or (2 if arguments.quick else 3)
    with tempfile.TemporaryDirectory() as folder:
        drawn = Drawn(Path(folder))
        claims = [*core_set_claims(sizes, drawn, repetitions), *badge_claims(sizes, drawn, repetitions)]
    report(arguments, "diversity", claims)


if __name__ == "__main__":
    main()
