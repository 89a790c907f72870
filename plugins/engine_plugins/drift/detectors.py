"""Detectors ``ks`` and ``chi2``: has a feature's distribution changed since the reference?

Each feature is tested alone. With the Bonferroni correction the whole drifted when any p-value is below ``p_val``
divided by the number of features, so that ``p_val`` bounds the rate of false alarms over all of them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from scipy import stats

from engine.plugins import DriftVerdict, Feature
from engine_plugins.drift.columns import (
    FloatArray,
    Role,
    categories,
    chosen,
    described,
    numbers,
    require_option,
    require_ranges,
    require_seen,
    restored,
    sampled,
)

CORRECTIONS = ("bonferroni", "none")
# Up to this many values on either side scipy computes the exact distribution of the statistic.
EXACT_ROWS = 10_000

Test = Callable[[pa.Table], tuple[float, float]]


@dataclass(frozen=True, kw_only=True, slots=True)
class UnivariateDetector:
    """A fitted detector: one test a feature, each from a window to (p-value, distance)."""

    tests: Mapping[str, Test]
    parameters: Mapping[str, Any]
    reference: pa.Table

    @property
    def threshold(self) -> float:
        """What each feature's p-value is compared with."""
        p_val = float(self.parameters["p_val"])
        return p_val / len(self.tests) if self.parameters["correction"] == "bonferroni" else p_val

    def predict(self, window: pa.Table) -> DriftVerdict:
        """Compare a window with the reference. A feature without any value in the window has p-value 1.

        Raises:
            PluginFailed: when the window lacks a feature, or has it as another type.
        """
        found = {name: test(window) for name, test in self.tests.items()}
        drifted = tuple(name for name, (p_val, _) in found.items() if p_val < self.threshold)
        return DriftVerdict(
            drift=bool(drifted),
            threshold=self.threshold,
            p_val={name: p_val for name, (p_val, _) in found.items()},
            distance={name: distance for name, (_, distance) in found.items()},
            drifted=drifted,
            rows=window.num_rows,
        )

    def state(self) -> tuple[dict[str, object], pa.Table]:
        """Parameters as JSON, and the reference rows of the watched features."""
        return dict(self.parameters), self.reference


@dataclass(frozen=True, kw_only=True, slots=True)
class Univariate:
    """A test on each feature of some roles. ``instead`` is the detector for the others."""

    roles: ClassVar[tuple[Role, ...]]
    instead: ClassVar[str] = ""

    p_val: float = 0.05
    features: list[str] | None = None
    correction: Literal["bonferroni", "none"] = "bonferroni"
    reference_rows: int = 50_000

    def __post_init__(self) -> None:
        """Raises: PluginFailed, for a value out of its range."""
        require_option("correction", self.correction, CORRECTIONS)
        require_ranges(self.p_val, self.reference_rows)

    @classmethod
    @abstractmethod
    def restored_test(cls, reference: pa.Table, feature: Feature, parameters: Mapping[str, object]) -> Test:
        """The test of one feature against its reference."""

    def parameters(self) -> dict[str, object]:
        """What :meth:`restored_test` needs beside the reference."""
        return {}

    def fit(self, reference: pa.Table, features: Sequence[Feature], seed: int) -> UnivariateDetector:
        """Keep the reference of the watched features.

        Raises:
            PluginFailed: for a feature that is not there, of the other role or without values.
        """
        watched = chosen(features, self.features, self.roles, instead=self.instead)
        kept = sampled(reference, watched, self.reference_rows, seed)
        own = {"p_val": self.p_val, "correction": self.correction, "features": described(watched)}
        return self.restore({**own, **self.parameters()}, kept)

    def restore(self, parameters: Mapping[str, object], reference: pa.Table) -> UnivariateDetector:
        """The detector whose state this is; the same verdicts."""
        tests = {item.name: self.restored_test(reference, item, parameters) for item in restored(parameters)}
        return UnivariateDetector(tests=tests, parameters=parameters, reference=reference)


class KolmogorovSmirnov(Univariate):
    """Two-sample Kolmogorov-Smirnov test on each numeric feature.

    ``features``: which ones, else all numeric. Null and NaN are left out, feature by feature. Values are compared
    as float32, which is what a server sees. ``reference_rows``: of a longer reference so many are drawn by the seed.
    """

    roles = ("numeric",)
    instead = "chi2"

    @classmethod
    def restored_test(cls, reference: pa.Table, feature: Feature, _: Mapping[str, object]) -> Test:
        """The test of one feature against its reference, which is sorted once.

        Raises:
            PluginFailed: when the reference has no value.
        """
        ordered = np.sort(numbers(reference, feature))
        require_seen(feature, len(ordered))

        def compared(window: pa.Table) -> tuple[float, float]:
            values = np.sort(numbers(window, feature))
            return two_samples(ordered, values) if len(values) else (1.0, 0.0)

        return compared


class ChiSquare(Univariate):
    """Chi-squared test of homogeneity on each categorical feature.

    ``features``: which ones, else all categorical. Null and the empty text are left out; a category that the
    reference never had counts as one of its own. ``reference_rows``: of a longer reference so many are drawn.
    """

    roles = ("categorical",)
    instead = "ks"

    @classmethod
    def restored_test(cls, reference: pa.Table, feature: Feature, _: Mapping[str, object]) -> Test:
        """The test of one feature against the counts of its reference.

        Raises:
            PluginFailed: when the reference has no value.
        """
        expected = categories(reference, feature)
        require_seen(feature, sum(expected.values()))

        def compared(window: pa.Table) -> tuple[float, float]:
            return homogeneity(expected, categories(window, feature))

        return compared


def two_samples(reference: FloatArray, window: FloatArray) -> tuple[float, float]:
    """p-value and statistic of the two-sided test, the same as those of ``scipy.stats.ks_2samp``; both are sorted.

    The asymptotic p-value is that of Smirnov's statistic at n = round(n1 n2 / (n1 + n2)); see Simard and L'Ecuyer
    (2011), Journal of Statistical Software 39:11.
    """
    count, other = len(reference), len(window)
    if max(count, other) <= EXACT_ROWS:
        result = stats.ks_2samp(reference, window)
        return float(result.pvalue), float(result.statistic)
    distance = largest_gap(reference, window)
    longer, shorter = float(max(count, other)), float(min(count, other))
    size = np.round(longer * shorter / (longer + shorter))
    return float(np.clip(stats.kstwo.sf(distance, size), 0, 1)), distance


def largest_gap(reference: FloatArray, window: FloatArray) -> float:
    """The largest distance between two empirical distribution functions; both samples are sorted.

    Between two values of the window its own function is flat and the other one rises, so the gap is largest at a
    value of the window or just before one.
    """
    at = np.searchsorted(reference, window, "right") / len(reference)
    at -= np.searchsorted(window, window, "right") / len(window)
    before = np.searchsorted(reference, window, "left") / len(reference)
    before -= np.searchsorted(window, window, "left") / len(window)
    return float(max(-at.min(), before.max(), 0.0))


def homogeneity(reference: Mapping[str, int], window: Mapping[str, int]) -> tuple[float, float]:
    """p-value and statistic of Pearson's chi-squared test over the categories of both, as ``chi2_contingency`` has it.

    With one category in all, or none in the window, nothing speaks for a change: p-value 1, statistic 0.
    """
    names = sorted({*reference, *window})
    if len(names) < 2 or not window:
        return 1.0, 0.0
    counts = np.array([[side.get(name, 0) for name in names] for side in (reference, window)])
    result = stats.chi2_contingency(counts)
    return float(result.pvalue), float(result.statistic)
