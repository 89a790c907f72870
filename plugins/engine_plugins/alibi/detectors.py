"""alibi-detect's tests of one feature at a time, without its pickles.

Their state is JSON and a table, from which its detectors are built again; ``alibi_detect.load_detector`` is never
called, because it runs code from what it loads.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa

from engine.plugins import Count, DriftVerdict, Feature, PluginFailed, Probability
from engine_plugins.alibi.library import library, part
from engine_plugins.drift.columns import (
    AnyArray,
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

CORRECTIONS = ("bonferroni", "fdr")
ALTERNATIVES = ("two-sided", "less", "greater")
LARGEST = 3e38
Cell = float | str


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """What alibi's detector of one feature is made of.

    ``codes`` are those of the categories that the reference has, ``values`` the reference's values by them, (n, 1);
    ``parameters`` are the detector's.
    """

    feature: Feature
    codes: Mapping[str, int]
    values: AnyArray
    parameters: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Watched:
    """A feature, alibi's detector for it alone, and for a categorical one the code of each category it knows.

    ``second`` is the greater of the two values of a feature that has two, where that is what is tested; ``ties`` is
    whether the test is for values that may be equal.
    """

    feature: Feature
    detector: Any
    codes: Mapping[str, int]
    second: Cell | None = None
    ties: bool = True

    def test(self, window: pa.Table) -> tuple[float, float]:
        """p-value and distance; 1 and 0 when the window has no value of the feature."""
        if self.second is not None:
            return self.test_share(binary(window, self.feature, self.second))
        values = encoded(window, self.feature, self.codes)
        if not self.ties:
            values = apart(np.sort(values), 1)
        return self.score(values) if len(values) else (1.0, 0.0)

    def test_share(self, values: AnyArray) -> tuple[float, float]:
        """The p-value of the second value's share, and by how much it differs: the odds ratio may be infinite."""
        if len(values) == 0:
            return 1.0, 0.0
        return self.score(values)[0], float(abs(values.mean() - self.detector.x_ref.mean()))

    def score(self, values: AnyArray) -> tuple[float, float]:
        """alibi's p-value and distance.

        Raises:
            PluginFailed: when it cannot compute them.
        """
        try:
            p_val, distance = self.detector.score(values.reshape(-1, 1))
        except (ValueError, TypeError, ArithmeticError) as error:
            fact = f'alibi-detect cannot test "{self.feature.name}": {error}'
            raise PluginFailed(
                fact, hint="leave it out under `features:` of the detector", key="with.features"
            ) from error
        return float(np.clip(p_val[0], 0, 1)), float(distance[0])


@dataclass(frozen=True, kw_only=True, slots=True)
class ColumnwiseDetector:
    """A fitted detector, one of alibi's for each feature, so that null can be left out feature by feature."""

    watched: tuple[Watched, ...]
    parameters: Mapping[str, Any]
    reference: pa.Table

    def predict(self, window: pa.Table) -> DriftVerdict:
        """Compare a window with the reference. A feature without any value in the window has p-value 1.

        Raises:
            PluginFailed: when the window lacks a feature, or has it as another type.
        """
        found = {item.feature.name: item.test(window) for item in self.watched}
        others = len(self.parameters["features"]) - len(found)
        p_vals = np.array([p_val for p_val, _ in found.values()] + [1.0] * others)
        drift, threshold = corrected(p_vals, float(self.parameters["p_val"]), str(self.parameters["correction"]))
        return DriftVerdict(
            drift=drift,
            threshold=threshold,
            p_val={name: p_val for name, (p_val, _) in found.items()},
            distance={name: distance for name, (_, distance) in found.items()},
            drifted=tuple(name for name, (p_val, _) in found.items() if drift and p_val < threshold),
            rows=window.num_rows,
        )

    def only(self, features: Sequence[str]) -> ColumnwiseDetector:
        """The same tests of some features alone, corrected as if the others had not changed."""
        return replace(self, watched=tuple(item for item in self.watched if item.feature.name in features))

    def state(self) -> tuple[dict[str, object], pa.Table]:
        """Parameters and the codes of categories as JSON, and the reference rows of the watched features."""
        return dict(self.parameters), self.reference


@dataclass(frozen=True, kw_only=True, slots=True)
class Columnwise(ABC):
    """A test of alibi's on each feature of the roles that it is for. ``instead`` is the detector for the other role."""

    roles: ClassVar[tuple[Role, ...]]
    instead: ClassVar[str] = ""
    least_rows: ClassVar[int]

    p_val: Probability = 0.05
    correction: Literal["bonferroni", "fdr"] = "bonferroni"
    features: list[str] | None = None
    reference_rows: Count = 50_000

    def __post_init__(self) -> None:
        """Raises: PluginFailed, for a value out of its range."""
        require_option("correction", self.correction, CORRECTIONS)
        require_option("alternative", getattr(self, "alternative", "two-sided"), ALTERNATIVES)
        require_ranges(self.p_val, self.reference_rows)

    @classmethod
    @abstractmethod
    def watch(cls, column: Column) -> Watched:
        """alibi's detector for one feature."""

    def fit(self, reference: pa.Table, features: Sequence[Feature], seed: int) -> ColumnwiseDetector:
        """Keep the reference of the watched features.

        Raises:
            PluginFailed: for a feature that is not there or without values, and when alibi-detect does not load.
        """
        watched = chosen(features, self.features, self.roles, instead=self.instead)
        kept = sampled(reference, watched, self.reference_rows, seed)
        known = {item.name: sorted(categories(kept, item)) for item in watched if item.role == "categorical"}
        parameters = {
            "p_val": self.p_val,
            "correction": self.correction,
            "alternative": getattr(self, "alternative", "two-sided"),
            "features": described(watched),
            "categories": known,
        }
        return self.restore(parameters, kept)

    def restore(self, parameters: Mapping[str, Any], reference: pa.Table) -> ColumnwiseDetector:
        """The detector whose state this is; the same verdicts.

        Raises:
            PluginFailed: when alibi-detect does not load.
        """
        watched = tuple(self.watch(column_of(item, parameters, reference)) for item in restored(parameters))
        return ColumnwiseDetector(watched=watched, parameters=parameters, reference=reference)


@dataclass(frozen=True, kw_only=True, slots=True)
class TabularDrift(Columnwise):
    """Kolmogorov-Smirnov on numeric and chi-squared on categorical features, by alibi-detect.

    ``correction``: ``bonferroni``, or ``fdr`` (Benjamini and Hochberg). ``alternative``: of the Kolmogorov-Smirnov
    test. ``features``: which ones, else all. Null, NaN and the empty text are left out, feature by feature; a
    category that the reference never had counts as one of its own. Numbers are compared as float32, which is what
    a server sees. ``reference_rows``: of a longer reference so many are drawn by the seed.
    """

    roles = ("numeric", "categorical")
    least_rows = 50

    alternative: Literal["two-sided", "less", "greater"] = "two-sided"

    @classmethod
    def watch(cls, column: Column) -> Watched:
        """TabularDrift of one feature."""
        sizes = {0: len(column.codes)} if column.feature.role == "categorical" else None
        with warnings.catch_warnings():
            # It warns of every detector without categories that its features are taken for numbers, as is meant.
            warnings.simplefilter("ignore", category=UserWarning)
            detector = library().tabular_drift(
                column.values, categories_per_feature=sizes, **taken(column, "p_val", "correction", "alternative")
            )
        return Watched(feature=column.feature, detector=detector, codes=column.codes)


@dataclass(frozen=True, kw_only=True, slots=True)
class KSDrift(Columnwise):
    """Kolmogorov-Smirnov test on each numeric feature, by alibi-detect.

    ``correction``: ``bonferroni``, or ``fdr`` (Benjamini and Hochberg). ``alternative``: ``less`` and ``greater`` are
    of the distribution function. ``features``: which ones, else all numeric. Null and NaN are left out, feature by
    feature. ``reference_rows``: of a longer reference so many are drawn by the seed.
    """

    roles = ("numeric",)
    instead = "alibi.ChiSquareDrift"
    least_rows = 10

    alternative: Literal["two-sided", "less", "greater"] = "two-sided"

    @classmethod
    def watch(cls, column: Column) -> Watched:
        """KSDrift of one feature."""
        detector = part("cd.ks", "KSDrift")(column.values, **taken(column, "p_val", "correction", "alternative"))
        return Watched(feature=column.feature, detector=detector, codes=column.codes)


class CVMDrift(Columnwise):
    """Cramér-von Mises test on each numeric feature, by alibi-detect: it looks at the middle more than at the tails.

    ``correction``: ``bonferroni``, or ``fdr`` (Benjamini and Hochberg). ``features``: which ones, else all numeric.
    Null and NaN are left out, feature by feature. The test is for numbers that are never equal: equal ones are put in
    an order by dice, else their p-values would be far too small. ``reference_rows``: of a longer reference so many are
    drawn.
    """

    roles = ("numeric",)
    instead = "alibi.ChiSquareDrift"
    least_rows = 20

    @classmethod
    def watch(cls, column: Column) -> Watched:
        """CVMDrift of one feature."""
        values = apart(np.sort(column.values, axis=0), 0)
        detector = part("cd.cvm", "CVMDrift")(values, **taken(column, "p_val", "correction"))
        return Watched(feature=column.feature, detector=detector, codes=column.codes, ties=False)


class ChiSquareDrift(Columnwise):
    """Chi-squared test on each categorical feature, by alibi-detect.

    ``correction``: ``bonferroni``, or ``fdr`` (Benjamini and Hochberg). ``features``: which ones, else all
    categorical. Null and the empty text are left out; a category that the reference never had counts as one of its
    own. ``reference_rows``: of a longer reference so many are drawn by the seed.
    """

    roles = ("categorical",)
    instead = "alibi.KSDrift"
    least_rows = 50

    @classmethod
    def watch(cls, column: Column) -> Watched:
        """ChiSquareDrift of one feature."""
        detector = part("cd.chisquare", "ChiSquareDrift")(
            column.values, categories_per_feature={0: len(column.codes)}, **taken(column, "p_val", "correction")
        )
        return Watched(feature=column.feature, detector=detector, codes=column.codes)


@dataclass(frozen=True, kw_only=True, slots=True)
class FETDrift(Columnwise):
    """Fisher's exact test on features of two values, by alibi-detect. The distance is by how much the shares differ.

    ``features``: which ones; each has two values in the reference, of which the greater is counted, and any other in
    a window counts as the lesser. ``alternative``: ``greater`` when only a larger share is a drift. ``correction``:
    ``bonferroni``, or ``fdr``. Null, NaN and the empty text are left out. ``reference_rows``: of a longer reference
    so many are drawn.
    """

    roles = ("numeric", "categorical")
    least_rows = 1

    features: list[str]
    alternative: Literal["two-sided", "less", "greater"] = "two-sided"

    @classmethod
    def watch(cls, column: Column) -> Watched:
        """FETDrift of one feature.

        Raises:
            PluginFailed: when it has not two values.
        """
        cells: list[Cell] = sorted(column.codes) if column.feature.role == "categorical" else greatest(column.values)
        second = second_of(column.feature, cells)
        codes = column.codes
        ones = (column.values == (codes[str(second)] if column.feature.role == "categorical" else second)).astype(int)
        detector = part("cd.fet", "FETDrift")(ones, **taken(column, "p_val", "correction", "alternative"))
        return Watched(feature=column.feature, detector=detector, codes=codes, second=second)


def taken(column: Column, *names: str) -> dict[str, Any]:
    """Some of the detector's parameters."""
    return {name: column.parameters[name] for name in names}


def column_of(feature: Feature, parameters: Mapping[str, Any], reference: pa.Table) -> Column:
    """A feature of the reference.

    Raises:
        PluginFailed: when it has no value.
    """
    codes = {name: code for code, name in enumerate(parameters["categories"].get(feature.name, ()))}
    values = encoded(reference, feature, codes)
    require_seen(feature, len(values))
    return Column(feature=feature, codes=codes, values=values.reshape(-1, 1), parameters=parameters)


def encoded(table: pa.Table, feature: Feature, codes: Mapping[str, int]) -> AnyArray:
    """A feature's values, (n,), without null: numbers as they are, categories as codes, unknown ones after the known.

    The order of categories within the result is no longer that of the rows; the tests do not look at it.
    """
    if feature.role == "numeric":
        return numbers(table, feature)
    counts = categories(table, feature)
    unknown = {name: len(codes) + index for index, name in enumerate(sorted(set(counts) - set(codes)))}
    known = {**codes, **unknown}
    names = sorted(counts)
    return np.repeat([float(known[name]) for name in names], [counts[name] for name in names])


def apart(values: AnyArray, seed: int) -> AnyArray:
    """Numbers that are never equal: to each, which is a float32, a part of the step to the next one is added.

    So different ones keep their order, and equal ones get one by the seed's dice.
    """
    finite = np.clip(np.asarray(values, dtype=np.float64), -LARGEST, LARGEST)
    parts = np.random.default_rng(seed).random(finite.shape)
    return np.asarray(finite + parts * np.spacing(np.abs(finite).astype(np.float32)).astype(np.float64))


def greatest(values: AnyArray) -> list[Cell]:
    """The values that occur, from the smallest."""
    return [float(value) for value in np.unique(values)]


def second_of(feature: Feature, cells: Sequence[Cell]) -> Cell:
    """The greater of the two values of a feature.

    Raises:
        PluginFailed: when it has fewer or more.
    """
    if len(cells) != 2:
        fact = f'the feature "{feature.name}" has {len(cells):,} values in the reference, and the test is for two'
        raise PluginFailed(fact, hint="leave it to another detector", key="with.features")
    return cells[1]


def binary(table: pa.Table, feature: Feature, second: Cell) -> AnyArray:
    """1 for each value that is ``second`` and 0 for another, without null; in no order."""
    if feature.role == "numeric":
        return np.asarray(numbers(table, feature) == second).astype(np.int64)
    counts = categories(table, feature)
    ones = counts.get(str(second), 0)
    return np.repeat([0, 1], [sum(counts.values()) - ones, ones])


def corrected(p_vals: AnyArray, p_val: float, correction: str) -> tuple[bool, float]:
    """Whether any feature drifted after the correction, and the threshold that says so.

    When none did, ``fdr`` has a threshold a rank; the lowest, which the smallest p-value was compared with, is given.
    """
    if correction == "bonferroni":
        threshold = p_val / len(p_vals)
        return bool((p_vals < threshold).any()), threshold
    drift, thresholds = library().fdr(p_vals, q_val=p_val)
    return bool(drift), float(np.min(thresholds))
