"""Detector ``wasserstein``: how far must a numeric feature's values be moved to turn the window into the reference?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from engine.plugins import Feature
from engine_plugins.drift import null
from engine_plugins.drift.columns import FloatArray, numbers, require_seen
from engine_plugins.drift.detectors import Known, Test, Univariate

GRID = 128
TAILS = 10
FEW = 64
REACH = 3.0
NOISE = 1e-12
CHUNK = 2_000


class Wasserstein(Univariate):
    """First Wasserstein distance of each numeric feature, in standard deviations of the reference, with a p-value.

    It is the mean distance by which values were moved, so it sees outliers that tests on ranks do not. What is further
    out than three times the range of the reference's inner 98 % counts as if it lay there.
    ``features``: which ones, else all numeric. ``reference_rows``: of a longer reference so many are drawn. The
    p-value is that of the distance's law without a change, simulated when the detector is fitted.
    """

    roles = ("numeric",)
    instead = "js"
    least_rows = 50

    def learn(self, reference: pa.Table, features: Sequence[Feature], seed: int) -> Mapping[str, object]:
        """The law of each feature's squared distance times n m / (n + m)."""
        samples = [scaled(reference, feature)[1] for feature in features]
        levels = levels_of(samples)
        widths = np.stack([widths_at(sample, levels) for sample in samples], axis=1)
        laws = laws_of(levels, widths, seed)
        return {feature.name: law for feature, law in zip(features, laws, strict=True)}

    @classmethod
    def test(cls, known: Known) -> Test:
        """The test of one feature against its reference, which is sorted and summed once."""
        feature, law = known.feature, known.learned
        scale, ordered = scaled(known.reference, feature)
        sums = np.concatenate([[0.0], np.cumsum(ordered)])

        def compared(window: pa.Table) -> tuple[float, float]:
            found = scale.ordered(numbers(window, feature))
            if not len(found):
                return 1.0, 0.0
            distance = moved(ordered, sums, found)
            size = len(ordered) * len(found) / (len(ordered) + len(found))
            return null.p_val(law, len(found), distance**2 * size), distance

        return compared


@dataclass(frozen=True, kw_only=True, slots=True)
class Scale:
    """How values become comparable: clipped to ``low`` and ``high``, then in deviations from the centre."""

    low: float
    high: float
    centre: float
    spread: float

    def ordered(self, values: FloatArray) -> FloatArray:
        """Values on this scale, sorted."""
        return np.asarray(np.sort((np.clip(values, self.low, self.high) - self.centre) / self.spread))


def scale_of(values: FloatArray) -> Scale:
    """The scale of a reference's values, which are sorted.

    What lies further out than :data:`REACH` times the range of the inner 98 % counts as if it lay there: a single row
    in an endless tail would else outweigh all others, and no law could be learned from a sample.
    """
    low, high = values[int(0.01 * (len(values) - 1))], values[int(0.99 * (len(values) - 1))]
    reach = REACH * (high - low) or REACH * (values[-1] - values[0]) or np.inf
    low, high = low - reach, high + reach
    clipped = np.clip(values, low, high)
    spread = float(np.std(clipped)) or 1.0
    return Scale(low=float(low), high=float(high), centre=float(np.mean(clipped)), spread=spread)


def scaled(reference: pa.Table, feature: Feature) -> tuple[Scale, FloatArray]:
    """A feature's scale, and its reference on it, sorted.

    Raises:
        PluginFailed: when the reference has no value.
    """
    values = np.sort(numbers(reference, feature))
    require_seen(feature, len(values))
    scale = scale_of(values)
    return scale, scale.ordered(values)


def moved(reference: FloatArray, sums: FloatArray, window: FloatArray) -> float:
    """The exact Wasserstein distance of two sorted samples, as ``scipy.stats.wasserstein_distance`` has it.

    It is the integral over levels u of the distance between the two quantile functions. The window's is flat between
    k / m and (k + 1) / m, and the reference's, of which ``sums`` are the cumulative sums, crosses its value once: so
    it costs m log n.
    """
    n, m = len(reference), len(window)
    start, end = np.arange(m) / m, np.arange(1, m + 1) / m
    crossing = np.clip(np.searchsorted(reference, window, "right") / n, start, end)

    def area(level: FloatArray) -> FloatArray:
        at = np.minimum((level * n).astype(np.int64), n - 1)
        return np.asarray((sums[at] + (level * n - at) * reference[at]) / n)

    middle = area(crossing)
    below = window * (crossing - start) - (middle - area(start))
    above = (area(end) - middle) - window * (end - crossing)
    distance = float(np.sum(below) + np.sum(above))
    return distance if distance > NOISE else 0.0


def levels_of(samples: Sequence[FloatArray]) -> FloatArray:
    """Levels in (0, 1) at which empirical processes are simulated: even ones, ever nearer to 0 and 1, and those at
    which features of few values step."""
    tails = 0.5 ** np.arange(7, 7 + TAILS)
    found = [np.arange(1, GRID) / GRID, tails, 1 - tails]
    for sample in samples:
        values, counts = np.unique(sample, return_counts=True)
        if len(values) <= FEW:
            found.append(np.cumsum(counts)[:-1] / len(sample))
    return np.asarray(np.unique(np.round(np.concatenate(found), 9)))


def widths_at(sample: FloatArray, levels: FloatArray) -> FloatArray:
    """How much of a feature's range each level stands for, (levels,): from halfway before it to halfway after it."""
    halves = np.concatenate([[0.0], (levels[1:] + levels[:-1]) / 2, [1.0]])
    at = np.clip(np.ceil(halves * len(sample)).astype(int) - 1, 0, len(sample) - 1)
    return np.asarray(np.diff(sample[at]))


def laws_of(levels: FloatArray, widths: FloatArray, seed: int) -> list[null.Law]:
    """The law of each feature's scaled squared distance, from empirical processes that all have in common.

    The distance is the integral of the gap between two distribution functions; at level u the window's is off by a
    share of uniform values below u, whatever the feature.

    Args:
        levels: (levels,).
        widths: (levels, features).
    """
    shares = np.diff(np.concatenate([[0.0], levels, [1.0]]))
    found: list[dict[str, list[Any]]] = [{"quantiles": [], "excess": []} for _ in range(widths.shape[1])]
    for rows in null.SIZES:
        random = np.random.default_rng([seed, rows])
        parts = []
        for _ in range(null.DRAWS // CHUNK):
            counts = random.multinomial(rows, shares, size=CHUNK)
            gaps = np.abs(np.cumsum(counts[:, :-1], axis=1) / rows - levels)
            parts.append(gaps @ widths)
        squares = np.concatenate(parts) ** 2 * rows
        for law, values in zip(found, squares.T, strict=True):
            quantiles, excess = null.summary(values)
            law["quantiles"].append(quantiles)
            law["excess"].append(excess)
    return [{"rows": list(null.SIZES), **law} for law in found]
