"""Detectors ``ks`` and ``chi2``: has a feature's distribution changed since the reference?

Each feature is tested alone. With the Bonferroni correction the whole drifted when any p-value is below ``p_val``
divided by the number of features, so that ``p_val`` bounds the rate of false alarms over all of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa

from engine.plugins import Count, DriftVerdict, Feature, Probability
from engine_plugins.drift.columns import (
    FloatArray,
    Role,
    SingleArray,
    categories,
    chosen,
    described,
    require_option,
    require_ranges,
    require_seen,
    restored,
    sampled,
    singles,
)
from engine_plugins.drift.gap import Reference

CORRECTIONS = ("bonferroni", "none")
# Up to this many values on either side scipy computes the exact distribution of the statistic.
EXACT_ROWS = 10_000
EXACT_WORK = 4_000_000
LARGE, SMALL = 10_000, 100
SURE = 0.1
LEAST_EXPECTED = 5
TERMS = 100

Test = Callable[[pa.Table], tuple[float, float]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """What a detector knows of one feature: the reference, and what was learned of it when it was fitted."""

    feature: Feature
    reference: pa.Table
    learned: Any = None


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
        return p_val / len(self.parameters["features"]) if self.parameters["correction"] == "bonferroni" else p_val

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

    def only(self, features: Sequence[str]) -> UnivariateDetector:
        """The same tests of some features alone. The threshold of its verdicts stays that of all."""
        return replace(self, tests={name: test for name, test in self.tests.items() if name in features})

    def state(self) -> tuple[dict[str, object], pa.Table]:
        """Parameters as JSON, and the reference rows of the watched features."""
        return dict(self.parameters), self.reference


@dataclass(frozen=True, kw_only=True, slots=True)
class Univariate(ABC):
    """A test on each feature of the roles that it is for. ``instead`` is the detector for the other role.

    ``least_rows`` is the smallest window for which its p-values are right.
    """

    roles: ClassVar[tuple[Role, ...]]
    instead: ClassVar[str] = ""
    least_rows: ClassVar[int]

    p_val: Probability = 0.05
    features: list[str] | None = None
    correction: Literal["bonferroni", "none"] = "bonferroni"
    reference_rows: Count = 50_000

    def __post_init__(self) -> None:
        """Raises: PluginFailed, for a value out of its range."""
        require_option("correction", self.correction, CORRECTIONS)
        require_ranges(self.p_val, self.reference_rows)

    @classmethod
    @abstractmethod
    def test(cls, known: Known) -> Test:
        """The test of one feature against its reference."""

    def learn(self, reference: pa.Table, features: Sequence[Feature], seed: int) -> Mapping[str, object]:  # noqa: ARG002
        """What is found out of the reference once, by feature; it is kept among the parameters."""
        return {}

    def fit(self, reference: pa.Table, features: Sequence[Feature], seed: int) -> UnivariateDetector:
        """Keep the reference of the watched features.

        Raises:
            PluginFailed: for a feature that is not there, of the other role or without values.
        """
        watched = chosen(features, self.features, self.roles, instead=self.instead)
        kept = sampled(reference, watched, self.reference_rows, seed)
        given = {"p_val": self.p_val, "correction": self.correction, "features": described(watched)}
        learned = self.learn(kept, watched, seed)
        return self.restore({**given, **({"learned": learned} if learned else {})}, kept)

    def restore(self, parameters: Mapping[str, Any], reference: pa.Table) -> UnivariateDetector:
        """The detector whose state this is; the same verdicts."""
        learned = parameters.get("learned", {})
        tests = {
            feature.name: self.test(Known(feature=feature, reference=reference, learned=learned.get(feature.name)))
            for feature in restored(parameters)
        }
        return UnivariateDetector(tests=tests, parameters=parameters, reference=reference)


class KolmogorovSmirnov(Univariate):
    """Two-sample Kolmogorov-Smirnov test on each numeric feature.

    ``features``: which ones, else all numeric. Null and NaN are left out, feature by feature. Values are compared
    as float32, which is what a server sees. ``reference_rows``: of a longer reference so many are drawn by the seed.
    """

    roles = ("numeric",)
    instead = "chi2"
    least_rows = 10

    @classmethod
    def test(cls, known: Known) -> Test:
        """The test of one feature against its reference, which is sorted once.

        Raises:
            PluginFailed: when the reference has no value.
        """
        feature, values = known.feature, singles(known.reference, known.feature)
        require_seen(feature, len(values))
        reference = Reference(values)

        def compared(window: pa.Table) -> tuple[float, float]:
            values = singles(window, feature)
            return two_samples(reference, values) if len(values) else (1.0, 0.0)

        return compared


class ChiSquare(Univariate):
    """Chi-squared test of homogeneity on each categorical feature.

    ``features``: which ones, else all categorical. Null and the empty text are left out. Categories of which the
    window would have fewer than 5 rows, and those that the reference never had, count as one. ``reference_rows``: of
    a longer reference so many are drawn.
    """

    roles = ("categorical",)
    instead = "ks"
    least_rows = 50

    @classmethod
    def test(cls, known: Known) -> Test:
        """The test of one feature against the counts of its reference.

        Raises:
            PluginFailed: when the reference has no value.
        """
        feature, expected = known.feature, categories(known.reference, known.feature)
        require_seen(feature, sum(expected.values()))

        def compared(window: pa.Table) -> tuple[float, float]:
            return homogeneity(expected, categories(window, feature))

        return compared


def two_samples(reference: Reference, window: SingleArray) -> tuple[float, float]:
    """p-value and statistic of the two-sided test, those of ``scipy.stats.ks_2samp``.

    Exact where scipy is, as long as that is cheap: two samples of one size have a closed form, others cost n1 n2. The
    asymptotic p-value is that of Smirnov's statistic at n = round(n1 n2 / (n1 + n2)); see :func:`tail`.
    """
    count, other = len(reference.values), len(window)
    distance = reference.gap(window)
    if count == other <= EXACT_ROWS:
        return of_one_size(count, round(distance * count)), distance
    if max(count, other) <= EXACT_ROWS and count * other <= EXACT_WORK:
        from scipy import stats  # it takes a second to import, and most windows do without

        return float(stats.ks_2samp(reference.values, window).pvalue), distance
    longer, shorter = float(max(count, other)), float(min(count, other))
    return tail(int(np.round(longer * shorter / (longer + shorter))), distance), distance


def tail(size: int, distance: float) -> float:
    """The probability that the function of ``size`` values is anywhere ``distance`` from the one that they are of.

    It is twice the one-sided one (:func:`one_sided`) less that of both at once, which is taken from Kolmogorov's limit
    with the correction of Vrbik (2018), Pioneer Journal of Theoretical and Applied Statistics 15:35; from 100 values on
    within 0.1 % of ``scipy.stats.kstwo.sf``. Probabilities above 0.1, and all beyond 10,000 values, where the sum takes
    ever longer, are that limit itself: within 0.3 % down to 1e-7, and closer the more values there are.
    """
    if size < SMALL:
        from scipy import stats

        return float(np.clip(stats.kstwo.sf(distance, size), 0, 1))
    root = np.sqrt(size)
    x = root * distance
    k = np.arange(1, TERMS)
    y = x + 1 / (6 * root) + (x - 1) / (4 * size)
    terms = np.where(k % 2, 2.0, -2.0) * np.exp(-2 * (k * y) ** 2)
    limit = float(terms.sum()) if y > LEAST_X else 1.0
    if limit > SURE or size > LARGE:
        return float(np.clip(limit, 0, 1))
    return float(np.clip(2 * one_sided(size, distance) + terms[1:].sum(), 0, 1))


LEAST_X = 0.2
"""Below it the limit's probability is 1 to the last digit, and its series converges slowly."""


def one_sided(size: int, distance: float) -> float:
    """The exact probability that the function of ``size`` values is anywhere ``distance`` above the one they are of.

    d sum over j of C(n, j) (d + j/n)^(j-1) (1 - d - j/n)^(n-j), for j up to n (1 - d); see Birnbaum and Tingey (1951),
    Annals of Mathematical Statistics 22:592. All terms are positive, so nothing cancels.
    """
    j = np.arange(int(np.floor(size * (1 - distance))) + 1)
    left = 1 - distance - j / size
    j, left = j[left > 0], left[left > 0]
    logs = choices(size)[j] + (j - 1) * np.log(distance + j / size) + (size - j) * np.log(left)
    return float(distance * np.exp(logs).sum())


@lru_cache(maxsize=8)
def choices(size: int) -> FloatArray:
    """The logarithms of the binomial coefficients C(n, j), for j from 0 to n."""
    j = np.arange(1, size + 1)
    return np.concatenate([[0.0], np.cumsum(np.log((size - j + 1) / j))])


def of_one_size(count: int, steps: int) -> float:
    """The exact probability that the functions of two samples of ``count`` are anywhere ``steps / count`` apart.

    2 sum over k of (-1)^(k-1) C(2n, n - k h) / C(2n, n); see Gnedenko and Korolyuk (1951).
    """
    if steps == 0:
        return 1.0
    logs = quotients(count)[steps::steps][: count // steps]
    signs = np.where(np.arange(len(logs)) % 2, -1.0, 1.0)
    return float(np.clip(2 * np.sum(signs * np.exp(logs)), 0, 1))


@lru_cache(maxsize=8)
def quotients(count: int) -> FloatArray:
    """The logarithms of C(2n, n - m) / C(2n, n), for m from 0 to n."""
    m = np.arange(count)
    return np.concatenate([[0.0], np.cumsum(np.log((count - m) / (count + 1 + m)))])


def homogeneity(reference: Mapping[str, int], window: Mapping[str, int]) -> tuple[float, float]:
    """p-value and statistic of Pearson's chi-squared test over the categories of both, as ``chi2_contingency`` has it.

    Categories of which the window would have fewer than 5 rows are one cell (Cochran, 1954): the statistic has no
    chi-squared law with cells so small. With one cell in all, or none in the window, nothing speaks for a change:
    p-value 1, statistic 0.
    """
    total, rows = sum(reference.values()), sum(window.values())
    often = sorted(name for name, count in reference.items() if count * rows >= LEAST_EXPECTED * total)
    sides = [[*(side.get(name, 0) for name in often), sum(side.values())] for side in (reference, window)]
    counts = np.array([[*side[:-1], side[-1] - sum(side[:-1])] for side in sides])
    counts = counts[:, counts.sum(axis=0) > 0]
    if counts.shape[1] < 2 or rows == 0:
        return 1.0, 0.0
    from scipy import special

    expected = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / counts.sum()
    freedom = counts.shape[1] - 1
    gap = np.abs(counts - expected)
    if freedom == 1:  # Yates' correction, as scipy has it
        gap = np.maximum(gap - 0.5, 0.0)
    statistic = float((gap**2 / expected).sum())
    return float(special.chdtrc(freedom, statistic)), statistic
