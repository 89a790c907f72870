"""alibi-detect's detectors of outliers: has a window more of them than the reference?

A detector is fitted on one half of the reference, drawn by the seed; what is an outlier is said by the scores of the
other half. How many a window has is compared with how many that half has by Fisher's exact test, so that the p-value
holds for windows of any size, whatever the scores are. The p-value is that of ``*``, the whole row.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from scipy import stats

from engine.plugins import Count, DriftVerdict, Feature, PluginFailed, Probability
from engine_plugins.alibi.library import part, quiet
from engine_plugins.alibi.rows import Encoding, encoding_of, stored_encoding
from engine_plugins.alibi.whole import WHOLE_ROW
from engine_plugins.drift.columns import FloatArray, Role, SingleArray, chosen, require_ranges, sampled

LEAST = 20
PROBES = 20
RANK = 1e-6
BATCH = 1_000
ENDLESS = 10**12

Scoring = Callable[[SingleArray], FloatArray]


@dataclass(frozen=True, kw_only=True, slots=True)
class OutlierDetector:
    """A fitted detector: a score a row, and the threshold above which a row is an outlier."""

    scoring: Scoring
    encoding: Encoding
    parameters: Mapping[str, Any]
    reference: pa.Table

    def predict(self, window: pa.Table) -> DriftVerdict:
        """Compare a window with the reference; the distance is by how much its share of outliers is larger.

        Raises:
            PluginFailed: when the window lacks a feature, or has it as another type.
        """
        level, rows = float(self.parameters["p_val"]), window.num_rows
        known, outliers = int(self.parameters["known"]["rows"]), int(self.parameters["known"]["outliers"])
        scores = self.scoring(self.encoding.points(window)) if rows else np.empty(0)
        found = int(np.count_nonzero(scores > float(self.parameters["threshold"])))
        p_val = float(stats.hypergeom.sf(found - 1, known + rows, outliers + found, rows)) if found else 1.0
        distance = max(0.0, found / rows - outliers / known) if rows else 0.0
        return DriftVerdict(
            drift=p_val < level,
            threshold=level,
            p_val={WHOLE_ROW: min(p_val, 1.0)},
            distance={WHOLE_ROW: distance},
            drifted=(WHOLE_ROW,) if p_val < level else (),
            rows=rows,
        )

    def state(self) -> tuple[dict[str, object], pa.Table]:
        """Parameters, the encoding, the threshold and what was learned as JSON, and the half that was learned from."""
        return dict(self.parameters), self.reference


@dataclass(frozen=True, kw_only=True, slots=True)
class Outliers(ABC):
    """A detector of outliers."""

    whole: ClassVar[bool]
    roles: ClassVar[tuple[Role, ...]]
    least_rows: ClassVar[int]

    p_val: Probability = 0.05
    outlier_share: Probability = 0.05
    features: list[str] | None = None
    reference_rows: Count = 20_000

    def __post_init__(self) -> None:
        """Raises: PluginFailed, for a value out of its range."""
        require_ranges(self.p_val, self.reference_rows)
        if not 0 < self.outlier_share < 1:
            hint = "give a share between 0 and 1, such as 0.05"
            raise PluginFailed(f"outlier_share is {self.outlier_share}", hint=hint, key="with.outlier_share")

    @abstractmethod
    def learned(self, points: SingleArray, seed: int) -> dict[str, object]:
        """What is learned of the points of the first half, as JSON."""

    @abstractmethod
    def scoring(self, points: SingleArray, learned: Mapping[str, Any]) -> Scoring:
        """The scores by what was learned of these points.

        Raises:
            PluginFailed: when they are no longer those that were stored.
        """

    def fit(self, reference: pa.Table, features: Sequence[Feature], seed: int) -> OutlierDetector:
        """Learn of one half of the reference, and set the threshold by the other.

        Raises:
            PluginFailed: for a feature that is not there or without values, for too few rows, and when alibi-detect
                does not load.
        """
        watched = chosen(features, self.features)
        kept = sampled(reference, watched, self.reference_rows, seed)
        if kept.num_rows < 2 * LEAST:
            fact = f"the reference has {kept.num_rows} rows, and outliers need {2 * LEAST}"
            raise PluginFailed(fact, hint="give a larger reference", key="uses")
        order = np.random.default_rng(seed).permutation(kept.num_rows)
        half = kept.num_rows // 2
        own, other = (kept.take(pa.array(np.sort(rows))) for rows in (order[:half], order[half:]))
        encoding = encoding_of(own, watched)
        points = encoding.points(own)
        learned = self.learned(points, seed)
        scores = self.scoring(points, learned)(encoding.points(other))
        threshold = float(np.quantile(scores, 1 - self.outlier_share, method="higher"))
        document = encoding.document()
        parameters = {
            "p_val": self.p_val,
            "features": document["features"],
            "encoding": document["known"],
            "learned": learned,
            "threshold": threshold,
            "known": {"rows": len(scores), "outliers": int(np.count_nonzero(scores > threshold))},
        }
        return self.restore(parameters, own)

    def restore(self, parameters: Mapping[str, Any], reference: pa.Table) -> OutlierDetector:
        """The detector whose state this is; the same threshold and the same scores.

        Raises:
            PluginFailed: when alibi-detect does not load, or its scores are no longer those that were stored.
        """
        encoding = stored_encoding({"features": parameters["features"], "known": parameters["encoding"]})
        return OutlierDetector(
            scoring=self.scoring(encoding.points(reference), parameters["learned"]),
            encoding=encoding,
            parameters=parameters,
            reference=reference,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class IForest(Outliers):
    """More outliers than before, by an isolation forest of alibi-detect's.

    ``outlier_share``: of the reference, the share of rows that counts as outliers. ``n_estimators``: how many trees.
    ``features``: which ones, else all. ``reference_rows``: of a longer reference so many are drawn. The trees are
    grown again from the stored reference by the seed; where another version of scikit-learn would grow other ones,
    the detector refuses to judge.
    """

    whole = True
    roles = ("numeric", "categorical")
    least_rows = 10

    n_estimators: Count = 100

    def learned(self, points: SingleArray, seed: int) -> dict[str, object]:
        """How the forest is grown, and the scores of the first rows, by which it is known again."""
        grown = {"seed": seed % 2**32, "n_estimators": self.n_estimators}
        return {**grown, "scores": forest(points, grown).score(points[:PROBES]).tolist()}

    def scoring(self, points: SingleArray, learned: Mapping[str, Any]) -> Scoring:
        """The scores of the forest that is grown again.

        Raises:
            PluginFailed: when it is another one.
        """
        grown = forest(points, learned)
        if grown.score(points[:PROBES]).tolist() != list(learned["scores"]):
            fact = "the isolation forest is not the one that was fitted: scikit-learn grows another one here"
            raise PluginFailed(fact, hint="judge in the environment of the run, or run the spec again", key="uses")
        return lambda rows: np.asarray(grown.score(rows), dtype=np.float64)


def forest(points: SingleArray, grown: Mapping[str, Any]) -> Any:
    """alibi's isolation forest, fitted."""
    with quiet():
        found = part("od.isolationforest", "IForest")(threshold=0.0, n_estimators=int(grown["n_estimators"]))
        found.isolationforest.set_params(random_state=int(grown["seed"]))
        found.fit(points)
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class Mahalanobis(Outliers):
    """More outliers than before, by the Mahalanobis distance of alibi-detect in the main components.

    ``outlier_share``: of the reference, the share of rows that counts as outliers. ``n_components``: how many
    principal components are looked at. ``std_clip``: so many deviations a row may pull the mean, once ``start_clip``
    rows were seen. ``features``: which ones, else all. ``reference_rows``: of a longer reference so many are drawn.
    Each row is scored by what was learned of the reference alone, so that no row changes another one's score.
    """

    whole = True
    roles = ("numeric", "categorical")
    least_rows = 10

    n_components: Count = 3
    std_clip: Count = 3
    start_clip: Count = 100

    def learned(self, points: SingleArray, seed: int) -> dict[str, object]:  # noqa: ARG002
        """Mean, covariance and the bounds of clipping after the rows of the reference."""
        rows = points.astype(np.float64)
        rank = int(np.count_nonzero(np.linalg.eigvalsh(np.atleast_2d(np.cov(rows.T))) > RANK))
        given = {"n_components": max(1, min(self.n_components, rank)), "std_clip": self.std_clip}
        given["start_clip"] = self.start_clip
        with quiet():
            found = part("od.mahalanobis", "Mahalanobis")(threshold=0.0, **given)
            found.score(rows)
        clip = [bound.tolist() for bound in found.clip] if found.clip is not None else None
        return {"given": given, "mean": found.mean.tolist(), "C": found.C.tolist(), "clip": clip}

    def scoring(self, points: SingleArray, learned: Mapping[str, Any]) -> Scoring:  # noqa: ARG002
        """The scores of rows: alibi lets each move the mean by its share of all rows seen, and here none has any."""
        with quiet():
            found = part("od.mahalanobis", "Mahalanobis")(threshold=0.0, **learned["given"])
        mean, spread = np.array(learned["mean"]), np.array(learned["C"])
        clip = None if learned["clip"] is None else [np.array(bound) for bound in learned["clip"]]

        def scores(rows: SingleArray) -> FloatArray:
            found.mean, found.C, found.n, found.clip = mean, spread, ENDLESS, clip
            return np.asarray(found.score(rows.astype(np.float64)), dtype=np.float64)

        return lambda rows: np.concatenate([scores(rows[at : at + BATCH]) for at in range(0, len(rows), BATCH)])
