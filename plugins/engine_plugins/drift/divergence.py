"""Detectors ``psi`` and ``js``: how far apart are the shares of a feature's cells, in the window and the reference?

The cells of a numeric feature are between quantiles of the reference, those of a categorical one are its categories,
the rare and the unseen ones together. Fixed limits such as "0.2 is a large PSI" say another thing at each size of a
window; here a value is judged by the law that it has without a change, which is simulated when the detector is fitted.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from engine.plugins import Count, Feature, PluginFailed
from engine_plugins.drift import null
from engine_plugins.drift.columns import (
    FloatArray,
    SingleArray,
    categories,
    require_seen,
    singles,
)
from engine_plugins.drift.detectors import Known, Test, Univariate

Divergence = Callable[[FloatArray, FloatArray], FloatArray]
MOST_CATEGORIES = 50
RAREST = 0.002
MOST_BINS = 1_000
CHUNK = 500_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Divergent(Univariate):
    """A divergence between shares of cells. ``shown`` makes the distance of it."""

    roles = ("numeric", "categorical")
    least_rows = 50

    bins: Count = 10

    @staticmethod
    @abstractmethod
    def divergence(reference: FloatArray, window: FloatArray) -> FloatArray:
        """How far shares are apart, over the last axis."""

    @staticmethod
    @abstractmethod
    def shown(value: float) -> float:
        """The distance that stands for a divergence."""

    def __post_init__(self) -> None:
        """Raises: PluginFailed, for a value out of its range."""
        Univariate.__post_init__(self)
        if not 2 <= self.bins <= MOST_BINS:
            hint = f"give from 2 to {MOST_BINS:,}, such as 10"
            raise PluginFailed(f"bins is {self.bins}", hint=hint, key="with.bins")

    def learn(self, reference: pa.Table, features: Sequence[Feature], seed: int) -> Mapping[str, object]:
        """The cells of each feature, the reference's counts in them, and the divergence's law."""
        found, laws = {}, dict[tuple[int, ...], null.Law]()
        divergence = self.divergence
        for feature in features:
            cells, counts = cells_of(reference, feature, self.bins)
            key = tuple(sorted(counts))
            if key not in laws:  # the law is that of the counts: continuous features have one in common
                laws[key] = null.simulated(without_change(np.array(key, float), divergence), seed)
            found[feature.name] = {"cells": cells, "counts": counts, "law": laws[key]}
        return found

    @classmethod
    def test(cls, known: Known) -> Test:
        """The test of one feature: the divergence of its shares, judged by its law."""
        learned = known.learned
        counts = np.array(learned["counts"], float)
        count = counted(known.feature, learned["cells"])
        expected, total = smoothed(counts), float(counts.sum())
        divergence, shown = cls.divergence, cls.shown

        def compared(window: pa.Table) -> tuple[float, float]:
            found = count(window)
            rows = float(found.sum())
            if rows == 0 or len(counts) < 2:
                return 1.0, 0.0
            value = float(divergence(expected, smoothed(found)))
            return null.p_val(learned["law"], int(rows), value * total * rows / (total + rows)), shown(value)

        return compared


class StabilityIndex(Divergent):
    """Population stability index of each feature, with a p-value.

    ``bins``: cells of a numeric feature, between quantiles of the reference. Categories beyond the 50 most frequent
    and those of a share below 0.002 are one cell, and unseen ones are in it. ``features``: which ones, else all. Half
    a row is added to each cell of both sides. ``reference_rows``: of a longer reference so many are drawn.
    """

    @staticmethod
    def divergence(reference: FloatArray, window: FloatArray) -> FloatArray:
        """The sum of (q - p) log(q / p), Jeffreys' divergence.

        Times n m / (n + m) it is asymptotically chi-squared (Yurdakul, 2018, "Statistical properties of PSI").
        """
        return np.asarray(np.sum((window - reference) * np.log(window / reference), axis=-1))

    @staticmethod
    def shown(value: float) -> float:
        """The index itself."""
        return value


class JensenShannon(Divergent):
    """Jensen-Shannon distance of each feature, from 0 to 1, with a p-value.

    ``bins``, ``features`` and ``reference_rows`` are those of ``psi``.
    """

    @staticmethod
    def divergence(reference: FloatArray, window: FloatArray) -> FloatArray:
        """The Jensen-Shannon divergence in bits: 0 for equal shares, 1 for disjoint ones."""
        middle = (reference + window) / 2
        both = reference * np.log2(reference / middle) + window * np.log2(window / middle)
        return np.asarray(np.maximum(np.sum(both, axis=-1), 0) / 2)

    @staticmethod
    def shown(value: float) -> float:
        """Its root, which is a metric."""
        return math.sqrt(value)


def smoothed(counts: FloatArray) -> FloatArray:
    """Shares over the last axis, with half a row added to each cell (Jeffreys' prior)."""
    more = counts + 0.5
    return np.asarray(more / more.sum(axis=-1, keepdims=True))


def without_change(counts: FloatArray, divergence: Divergence) -> null.Simulation:
    """Windows without a change: their scaled divergences from a reference with ``counts``.

    The reference is a sample itself, so the shares behind it are drawn too: a window's counts have the
    Dirichlet-multinomial law that follows from the reference's.
    """
    total, expected = float(counts.sum()), smoothed(counts)

    def windows(rows: int, random: np.random.Generator) -> FloatArray:
        found, step = [], max(1, CHUNK // len(counts))
        for start in range(0, null.DRAWS, step):
            shares = random.dirichlet(np.maximum(counts, 1e-9), size=min(step, null.DRAWS - start))
            found.append(divergence(expected, smoothed(random.multinomial(rows, shares).astype(float))))
        return np.concatenate(found) * total * rows / (total + rows)

    return windows


def cells_of(reference: pa.Table, feature: Feature, bins: int) -> tuple[list[Any], list[int]]:
    """The cells of a feature, as JSON, and the reference's counts in them.

    Of a numeric one the inner edges; cell i holds what is above edge i - 1 and not above edge i. Of a categorical one
    the categories; a last cell holds all others.

    Raises:
        PluginFailed: when the reference has no value.
    """
    cells: list[Any]
    if feature.role == "numeric":
        values = np.sort(singles(reference, feature))
        require_seen(feature, len(values))
        inner = values[(np.arange(1, bins) * len(values)) // bins]
        edges = np.unique(inner[inner < values[-1]])
        if len(edges) < bins - 1:  # few values come again and again: what lies outside of all is something else
            edges = np.unique([np.nextafter(values[0], np.float32(-np.inf)), *edges, values[-1]])
        cells = [float(edge) for edge in edges]
    else:
        found = categories(reference, feature)
        total = sum(found.values())
        require_seen(feature, total)
        often = sorted(found, key=lambda name: (-found[name], name))[:MOST_CATEGORIES]
        cells = sorted(name for name in often if found[name] >= RAREST * total)
    return cells, [int(count) for count in counted(feature, cells)(reference)]


def counted(feature: Feature, cells: Sequence[Any]) -> Callable[[pa.Table], FloatArray]:
    """What counts a window's rows in the cells, (cells + 1,)."""
    if feature.role == "numeric":
        edges: SingleArray = np.array(cells, np.float32)

        def by_edge(window: pa.Table) -> FloatArray:
            at = np.searchsorted(edges, singles(window, feature), "left")
            return np.bincount(at, minlength=len(edges) + 1).astype(float)

        return by_edge

    def by_name(window: pa.Table) -> FloatArray:
        found = categories(window, feature)
        known = [found.get(name, 0) for name in cells]
        return np.array([*known, sum(found.values()) - sum(known)], float)

    return by_name
