"""Detector ``alibi.TabularDrift``: alibi-detect's test of mixed columns, without its pickles.

Its state is JSON and a table, from which its detectors are built again; ``alibi_detect.load_detector`` is never
called, because it runs code from what it loads.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from engine.plugins import DriftVerdict, Feature, PluginFailed
from engine_plugins.alibi.library import library
from engine_plugins.drift.columns import (
    AnyArray,
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Watched:
    """A feature, alibi's detector for it alone, and for a categorical one the code of each category it knows."""

    feature: Feature
    detector: Any
    codes: Mapping[str, int]

    def test(self, window: pa.Table) -> tuple[float, float]:
        """p-value and distance; 1 and 0 when the window has no value of the feature."""
        values = encoded(window, self.feature, self.codes)
        if len(values) == 0:
            return 1.0, 0.0
        try:
            p_val, distance = self.detector.score(values.reshape(-1, 1))
        except (ValueError, TypeError, ArithmeticError) as error:
            fact = f'alibi-detect cannot test "{self.feature.name}": {error}'
            raise PluginFailed(
                fact, hint="leave it out under `features:` of the detector", key="with.features"
            ) from error
        return float(p_val[0]), float(distance[0])


@dataclass(frozen=True, kw_only=True, slots=True)
class TabularDetector:
    """A fitted TabularDrift, one of alibi's for each feature, so that null can be left out feature by feature."""

    watched: tuple[Watched, ...]
    parameters: Mapping[str, Any]
    reference: pa.Table

    def predict(self, window: pa.Table) -> DriftVerdict:
        """Compare a window with the reference. A feature without any value in the window has p-value 1.

        Raises:
            PluginFailed: when the window lacks a feature, or has it as another type.
        """
        found = {item.feature.name: item.test(window) for item in self.watched}
        p_vals = np.array([p_val for p_val, _ in found.values()])
        drift, threshold = corrected(p_vals, float(self.parameters["p_val"]), str(self.parameters["correction"]))
        return DriftVerdict(
            drift=drift,
            threshold=threshold,
            p_val={name: p_val for name, (p_val, _) in found.items()},
            distance={name: distance for name, (_, distance) in found.items()},
            drifted=tuple(name for name, (p_val, _) in found.items() if drift and p_val < threshold),
            rows=window.num_rows,
        )

    def state(self) -> tuple[dict[str, object], pa.Table]:
        """Parameters and the codes of categories as JSON, and the reference rows of the watched features."""
        return dict(self.parameters), self.reference


@dataclass(frozen=True, kw_only=True, slots=True)
class TabularDrift:
    """Kolmogorov-Smirnov on numeric and chi-squared on categorical features, by alibi-detect.

    ``correction``: ``bonferroni``, or ``fdr`` (Benjamini and Hochberg). ``alternative``: of the Kolmogorov-Smirnov
    test. ``features``: which ones, else all. Null, NaN and the empty text are left out, feature by feature; a
    category that the reference never had counts as one of its own. Numbers are compared as float32, which is what
    a server sees. ``reference_rows``: of a longer reference so many are drawn by the seed.
    """

    p_val: float = 0.05
    correction: Literal["bonferroni", "fdr"] = "bonferroni"
    alternative: Literal["two-sided", "less", "greater"] = "two-sided"
    features: list[str] | None = None
    reference_rows: int = 50_000

    def __post_init__(self) -> None:
        """Raises: PluginFailed, for a value out of its range."""
        require_option("correction", self.correction, CORRECTIONS)
        require_option("alternative", self.alternative, ALTERNATIVES)
        require_ranges(self.p_val, self.reference_rows)

    def fit(self, reference: pa.Table, features: Sequence[Feature], seed: int) -> TabularDetector:
        """Keep the reference of the watched features.

        Raises:
            PluginFailed: for a feature that is not there or without values, and when alibi-detect does not load.
        """
        watched = chosen(features, self.features)
        kept = sampled(reference, watched, self.reference_rows, seed)
        known = {item.name: sorted(categories(kept, item)) for item in watched if item.role == "categorical"}
        parameters = {
            "p_val": self.p_val,
            "correction": self.correction,
            "alternative": self.alternative,
            "features": described(watched),
            "categories": known,
        }
        return self.restore(parameters, kept)

    def restore(self, parameters: Mapping[str, Any], reference: pa.Table) -> TabularDetector:
        """The detector whose state this is; the same verdicts.

        Raises:
            PluginFailed: when alibi-detect does not load.
        """
        watched = tuple(watch(feature, parameters, reference) for feature in restored(parameters))
        return TabularDetector(watched=watched, parameters=parameters, reference=reference)


def watch(feature: Feature, parameters: Mapping[str, Any], reference: pa.Table) -> Watched:
    """alibi's detector for one feature, fitted on its values in the reference.

    Raises:
        PluginFailed: when it has none.
    """
    codes = {name: code for code, name in enumerate(parameters["categories"].get(feature.name, ()))}
    values = encoded(reference, feature, codes)
    require_seen(feature, len(values))
    with warnings.catch_warnings():
        # It warns of every detector without categories that all its features are taken for numbers, as is meant.
        warnings.simplefilter("ignore", category=UserWarning)
        detector = library().tabular_drift(
            values.reshape(-1, 1),
            p_val=parameters["p_val"],
            categories_per_feature={0: len(codes)} if feature.role == "categorical" else None,
            correction=parameters["correction"],
            alternative=parameters["alternative"],
        )
    return Watched(feature=feature, detector=detector, codes=codes)


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


def corrected(p_vals: AnyArray, p_val: float, correction: str) -> tuple[bool, float]:
    """Whether any feature drifted after the correction, and the threshold that says so.

    When none did, ``fdr`` has a threshold a rank; the lowest, which the smallest p-value was compared with, is given.
    """
    if correction == "bonferroni":
        threshold = p_val / len(p_vals)
        return bool((p_vals < threshold).any()), threshold
    drift, thresholds = library().fdr(p_vals, q_val=p_val)
    return bool(drift), float(np.min(thresholds))
