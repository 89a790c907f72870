"""Detectors ``psi``, ``js`` and ``wasserstein``: how far has a distribution moved, and is that more than luck?

A distance says how much, and people know its scale (a PSI above 0.2 is called large); it does not say how often a
window without any change would be that far away. So each distance comes with a p-value, from its distribution when
nothing changed, at the sizes of reference and window as they are.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import numpy as np
import pyarrow as pa
from scipy import special, stats

from engine.plugins import Feature, PluginFailed
from engine_plugins.drift.columns import ROLES, FloatArray, categories, numbers, require_seen
from engine_plugins.drift.detectors import Test, Univariate

SMOOTHING = 0.5
GRID, PATHS, SEED = 200, 20_000, 20_131_231
TAIL = (0.99, 0.999)


# -- distances between histograms --------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Histogrammed(Univariate):
    """A distance between two histograms: of categories, or of ``bins`` with equal shares of the reference."""

    roles: ClassVar = ROLES
    scale: ClassVar[float]

    bins: int = 10

    @staticmethod
    @abstractmethod
    def distance(reference: FloatArray, window: FloatArray) -> float:
        """How far two histograms of shares are apart."""

    def __post_init__(self) -> None:
        """Raises: PluginFailed, for a value out of its range."""
        Univariate.__post_init__(self)
        if self.bins < 2:
            raise PluginFailed(f"bins is {self.bins}", hint="give at least 2", key="with.bins")

    def parameters(self) -> dict[str, object]:
        """What :meth:`restored_test` needs beside the reference."""
        return {"bins": self.bins}

    @classmethod
    def restored_test(cls, reference: pa.Table, feature: Feature, parameters: Mapping[str, object]) -> Test:
        """The test of one feature against its reference.

        With k bins, n rows in the window and m in the reference, ``scale * D / (1/n + 1/m)`` is chi-squared with k - 1
        degrees of freedom when nothing changed and the bins are well filled: for the PSI see Yurdakul (2018),
        Statistical Properties of Population Stability Index; the Jensen-Shannon divergence is an eighth of the same
        quadratic form.

        Raises:
            PluginFailed: when the reference has no value.
        """
        bins = parameters["bins"]
        assert isinstance(bins, int)
        counted = counter(reference, feature, bins)
        expected = counted(reference)
        require_seen(feature, int(expected.sum()))
        whole = float(expected.sum())

        def compared(window: pa.Table) -> tuple[float, float]:
            found = counted(window)
            filled = expected + found > 0
            rows, free = float(found.sum()), int(filled.sum()) - 1
            if not rows or not free:
                return 1.0, 0.0
            distance = cls.distance(smoothed(expected[filled]), smoothed(found[filled]))
            return float(stats.chi2.sf(cls.scale * distance / (1 / rows + 1 / whole), free)), distance

        return compared


def counter(reference: pa.Table, feature: Feature, bins: int) -> Callable[[pa.Table], FloatArray]:
    """What counts a table's values in the bins of the reference. Categories that it never had share one bin."""
    if feature.role == "categorical":
        names = sorted(categories(reference, feature))

        def of_categories(table: pa.Table) -> FloatArray:
            found = categories(table, feature)
            known = [found.get(name, 0) for name in names]
            other = sum(found.values()) - sum(known)
            return np.array([*known, other] if other else known, np.float64)

        return lambda table: padded(of_categories(table), len(names) + 1)
    ordered = np.sort(numbers(reference, feature))
    require_seen(feature, len(ordered))
    edges = np.unique(np.quantile(ordered, np.arange(1, bins) / bins, method="inverted_cdf"))
    if len(edges) < bins - 1:  # a few values come again and again: what is below all of them is something else
        edges = np.concatenate([[np.nextafter(ordered[0], -np.inf)], edges])

    def of_numbers(table: pa.Table) -> FloatArray:
        at = np.searchsorted(edges, numbers(table, feature), "left")
        counts: FloatArray = np.asarray(np.bincount(at, minlength=len(edges) + 1), np.float64)
        return counts

    return of_numbers


def padded(counts: FloatArray, size: int) -> FloatArray:
    """Counts with zeros at their end."""
    return np.concatenate([counts, np.zeros(size - len(counts))])


def smoothed(counts: FloatArray) -> FloatArray:
    """Shares with half a row more in each bin, so that an empty one is at a finite distance."""
    shares: FloatArray = (counts + SMOOTHING) / (counts.sum() + SMOOTHING * len(counts))
    return shares


class PopulationStability(Histogrammed):
    """Population stability index of each feature, with its p-value.

    ``features``: which ones, else all. ``bins``: how many for a number, each with the same share of the reference.
    ``reference_rows``: of a longer reference so many are drawn by the seed. Null and NaN are left out.
    """

    scale = 1.0

    @staticmethod
    def distance(reference: FloatArray, window: FloatArray) -> float:
        """The sum of ``(q - p) ln(q / p)`` over the bins."""
        return float(np.sum((window - reference) * np.log(window / reference)))


class JensenShannon(Histogrammed):
    """Jensen-Shannon divergence of each feature, in nats, with its p-value.

    ``features``: which ones, else all. ``bins``: how many for a number, each with the same share of the reference.
    ``reference_rows``: of a longer reference so many are drawn by the seed. Null and NaN are left out.
    """

    scale = 8.0

    @staticmethod
    def distance(reference: FloatArray, window: FloatArray) -> float:
        """The mean of both divergences from the mean of both, from 0 to ln 2."""
        middle = (reference + window) / 2
        return float((special.rel_entr(reference, middle).sum() + special.rel_entr(window, middle).sum()) / 2)


# -- the distance between two samples ----------------------------------------------------------------------------


class Wasserstein(Univariate):
    """Wasserstein distance of each numeric feature, in standard deviations of the reference, with its p-value.

    ``features``: which ones, else all numeric. ``reference_rows``: of a longer reference so many are drawn by the
    seed. Null and NaN are left out.
    """

    roles = ("numeric",)
    instead = "psi"

    @classmethod
    def restored_test(cls, reference: pa.Table, feature: Feature, _: Mapping[str, object]) -> Test:
        """The test of one feature against its reference, which is sorted once.

        When nothing changed, ``sqrt(nm / (n + m))`` times the distance goes to the integral of ``|B(F(x))|`` over x,
        with a Brownian bridge B and the distribution function F (del Barrio, Gine and Matran (1999), Annals of
        Probability 27:2). Its distribution is that of simulated bridges, the same for every feature and every time.

        Raises:
            PluginFailed: when the reference has no value.
        """
        ordered = np.sort(numbers(reference, feature))
        require_seen(feature, len(ordered))
        spread = float(np.std(ordered))
        limits = limit_law(ordered / spread) if spread else np.zeros(PATHS)

        def compared(window: pa.Table) -> tuple[float, float]:
            values = np.sort(numbers(window, feature))
            if not len(values):
                return 1.0, 0.0
            if not spread:
                return (1.0, 0.0) if np.all(values == ordered[0]) else (0.0, float("inf"))
            distance = first_distance(ordered, values) / spread
            return survival(
                limits, distance * np.sqrt(len(ordered) * len(values) / (len(ordered) + len(values)))
            ), distance

        return compared


def first_distance(reference: FloatArray, window: FloatArray) -> float:
    """The area between two empirical distribution functions, of sorted samples: the first Wasserstein distance."""
    both = np.concatenate([reference, window])
    both.sort(kind="stable")
    gaps = np.abs(
        np.searchsorted(reference, both[:-1], "right") / len(reference)
        - np.searchsorted(window, both[:-1], "right") / len(window)
    )
    return float(np.sum(gaps * np.diff(both)))


@cache
def bridges() -> FloatArray:
    """Absolute values of simulated Brownian bridges, a row each, in the middle of each of :data:`GRID` steps."""
    random = np.random.default_rng(SEED)
    steps = 2 * GRID
    walk = np.cumsum(random.standard_normal((PATHS, steps), np.float32), axis=1) / np.sqrt(np.float32(steps))
    time = np.arange(1, steps + 1, dtype=np.float32) / steps
    bridge: FloatArray = np.ascontiguousarray(np.abs(walk - time * walk[:, -1:])[:, ::2])
    return bridge


def limit_law(ordered: FloatArray) -> FloatArray:
    """A sorted sample of what the scaled distance is when nothing changed, for a sorted reference."""
    quantiles = np.quantile(ordered, np.linspace(0, 1, GRID + 1))
    found: FloatArray = np.sort((bridges() @ np.diff(quantiles).astype(np.float32)).astype(np.float64))
    return found


def survival(limits: FloatArray, value: float) -> float:
    """The share of ``limits`` (sorted) that is at least ``value``.

    Beyond the sample's 99.9 % it goes on as ``a exp(-b x^2)``, through the 99 % and the 99.9 %: the supremum norm and
    the integrals of a Brownian bridge have Gaussian tails.
    """
    near, far = (float(limits[int(share * (len(limits) - 1))]) for share in TAIL)
    if value < far or far <= near:
        return float((len(limits) - np.searchsorted(limits, value, "left") + 1) / (len(limits) + 1))
    rate = np.log((1 - TAIL[0]) / (1 - TAIL[1])) / (far**2 - near**2)
    return float((1 - TAIL[1]) * np.exp(-rate * (value**2 - far**2)))
