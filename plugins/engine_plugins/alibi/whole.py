"""alibi-detect's tests of all features at once, which see a change of how features go together.

Their only p-value is that of ``*``, the whole row. All that they draw is drawn by the run's seed, and windows are put
in an order of their own, so that the same window always has the same verdict.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import pyarrow as pa
from threadpoolctl import threadpool_limits

from engine.plugins import Count, DriftVerdict, Feature, PluginFailed, Probability
from engine_plugins.alibi.library import part, quiet, with_torch
from engine_plugins.alibi.rows import Encoding, aligned, encoding_of, in_order, seeded, stored_encoding, torch_seeded
from engine_plugins.drift.columns import Role, SingleArray, chosen, require_option, require_ranges, sampled

WHOLE_ROW = "*"
MODELS = ("boosting", "forest", "logistic")
FEWEST = 4

Compared = Callable[[SingleArray], tuple[float, float]]


@dataclass(frozen=True, kw_only=True, slots=True)
class WholeDetector:
    """A fitted detector: a test of a window's points against those of the reference."""

    compared: Compared
    encoding: Encoding
    parameters: Mapping[str, Any]
    reference: pa.Table

    def predict(self, window: pa.Table) -> DriftVerdict:
        """Compare a window with the reference. One of fewer than 4 rows has p-value 1.

        Raises:
            PluginFailed: when the window lacks a feature, or has it as another type, or alibi-detect fails.
        """
        threshold = float(self.parameters["p_val"])
        points = self.encoding.points(window)
        points = in_order(points, int(self.parameters["window_rows"]), int(self.parameters["seed"]))
        p_val, distance = self.compared(points) if len(points) >= FEWEST else (1.0, 0.0)
        return DriftVerdict(
            drift=p_val < threshold,
            threshold=threshold,
            p_val={WHOLE_ROW: p_val},
            distance={WHOLE_ROW: distance},
            drifted=(WHOLE_ROW,) if p_val < threshold else (),
            rows=window.num_rows,
        )

    def state(self) -> tuple[dict[str, object], pa.Table]:
        """Parameters and the encoding as JSON, and the reference rows of the watched features."""
        return dict(self.parameters), self.reference


@dataclass(frozen=True, kw_only=True, slots=True)
class Whole(ABC):
    """A test of whole rows. ``reference_rows`` and ``window_rows``: of more rows so many are drawn by the seed."""

    whole: ClassVar[bool]
    roles: ClassVar[tuple[Role, ...]]
    least_rows: ClassVar[int]

    p_val: Probability = 0.05
    features: list[str] | None = None
    reference_rows: Count = 500
    window_rows: Count = 500

    def __post_init__(self) -> None:
        """Raises: PluginFailed, for a value out of its range."""
        require_ranges(self.p_val, self.reference_rows)

    @abstractmethod
    def options(self) -> dict[str, object]:
        """The parameters that this test has of its own."""

    @abstractmethod
    def test(self, points: SingleArray, parameters: Mapping[str, Any]) -> Compared:
        """alibi's test against the points of the reference."""

    def fit(self, reference: pa.Table, features: Sequence[Feature], seed: int) -> WholeDetector:
        """Keep the reference of the watched features.

        Raises:
            PluginFailed: for a feature that is not there or without values, and when alibi-detect does not load.
        """
        watched = chosen(features, self.features)
        kept = sampled(reference, watched, self.reference_rows, seed)
        parameters = {
            "p_val": self.p_val,
            "window_rows": self.window_rows,
            "seed": seed,
            **self.options(),
            **encoding_of(kept, watched).document(),
        }
        return self.restore(parameters, kept)

    def restore(self, parameters: Mapping[str, Any], reference: pa.Table) -> WholeDetector:
        """The detector whose state this is; the same verdicts.

        Raises:
            PluginFailed: when alibi-detect, or PyTorch, does not load.
        """
        encoding = stored_encoding(parameters)
        return WholeDetector(
            compared=self.test(encoding.points(reference), parameters),
            encoding=encoding,
            parameters=parameters,
            reference=reference,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassifierDrift(Whole):
    """Can a classifier tell the window's rows from the reference's? By alibi-detect, with scikit-learn.

    It learns on ``train_size`` of both, and the scores of the rest are compared by a one-sided Kolmogorov-Smirnov
    test, whose statistic is the distance. ``model``: ``boosting`` (gradient boosting), ``forest`` or ``logistic``.
    ``features``: which ones, else all. ``reference_rows`` and ``window_rows``: of more rows so many are drawn.
    """

    whole = True
    roles = ("numeric", "categorical")
    least_rows = 100

    reference_rows: Count = 5_000
    window_rows: Count = 5_000
    model: Literal["boosting", "forest", "logistic"] = "boosting"
    train_size: Probability = 0.5

    def options(self) -> dict[str, object]:
        """Which classifier, and on how much it learns.

        Raises:
            PluginFailed: for one that is not known.
        """
        require_option("model", self.model, MODELS)
        if not 0 < self.train_size < 1:
            hint = "give a share between 0 and 1, such as 0.5"
            raise PluginFailed(f"train_size is {self.train_size}", hint=hint, key="with.train_size")
        return {"model": self.model, "train_size": self.train_size}

    def test(self, points: SingleArray, parameters: Mapping[str, Any]) -> Compared:
        """ClassifierDriftSklearn against the reference."""
        seed = int(parameters["seed"])
        with quiet():
            detector = part("cd.sklearn.classifier", "ClassifierDriftSklearn")(
                points,
                classifier(str(parameters["model"]), seed),
                p_val=parameters["p_val"],
                train_size=parameters["train_size"],
            )

        def compared(window: SingleArray) -> tuple[float, float]:
            with seeded(seed):
                p_val, distance, *_ = scored(detector, window)
            return float(p_val), float(distance)

        return compared


def classifier(name: str, seed: int) -> Any:
    """An unfitted classifier of scikit-learn's."""
    from sklearn import ensemble, linear_model

    if name == "logistic":
        return linear_model.LogisticRegression(max_iter=1_000)
    if name == "forest":
        return ensemble.RandomForestClassifier(n_estimators=100, min_samples_leaf=5, random_state=seed)
    return ensemble.HistGradientBoostingClassifier(max_iter=50, early_stopping=False, random_state=seed)


def scored(detector: Any, window: SingleArray) -> Any:
    """What alibi's ``score`` says.

    Raises:
        PluginFailed: when it fails.
    """
    try:
        with warnings.catch_warnings(), threadpool_limits(limits=1):  # sums of several threads differ in last bits
            # scipy warns where an exact p-value takes too long, and computes the asymptotic one.
            warnings.simplefilter("ignore", category=RuntimeWarning)
            return detector.score(window)
    except (ValueError, TypeError, ArithmeticError, RuntimeError) as error:
        fact = f"alibi-detect cannot compare the window: {error}"
        raise PluginFailed(fact, hint="give larger windows, or another detector", key="uses") from error


@dataclass(frozen=True, kw_only=True, slots=True)
class Permuted(Whole):
    """A test of whole rows by a distance that is compared with those of permutations, on PyTorch."""

    module: ClassVar[str]
    name: ClassVar[str]

    n_permutations: Count = 200

    def options(self) -> dict[str, object]:
        """How many permutations.

        Raises:
            PluginFailed: for less than one.
        """
        if self.n_permutations < 1:
            fact = f"n_permutations is {self.n_permutations}"
            raise PluginFailed(fact, hint="give at least 1", key="with.n_permutations")
        return {"n_permutations": self.n_permutations}

    def test(self, points: SingleArray, parameters: Mapping[str, Any]) -> Compared:
        """alibi's detector against the reference.

        alibi's p-value is the share of permutations that are as far apart, and may be 0, which promises too much: the
        window itself is a permutation as well, so it counts (Phipson and Smyth, 2010, SAGMB 9:39).
        """
        made = with_torch(self.module, self.name)
        seed, count = int(parameters["seed"]), int(parameters["n_permutations"])
        with quiet(), torch_seeded(seed):
            detector = made(aligned(points), p_val=parameters["p_val"], n_permutations=count, device="cpu")

        def compared(window: SingleArray) -> tuple[float, float]:
            with torch_seeded(seed):
                share, distance, _ = scored(detector, aligned(window))
            return (round(share * count) + 1) / (count + 1), max(float(distance), 0.0)

        return compared


class MMDDrift(Permuted):
    """Maximum mean discrepancy of whole rows, by alibi-detect on PyTorch, with a Gaussian kernel.

    ``n_permutations``: the smallest p-value is 1 / (n_permutations + 1), which has to be below what a budget of false
    alarms leaves. ``features``: which ones, else all. ``reference_rows`` and ``window_rows``: of more rows so many
    are drawn; time and memory grow with their square.
    """

    whole = True
    roles = ("numeric", "categorical")
    least_rows = 20
    module = "cd.pytorch.mmd"
    name = "MMDDriftTorch"


class LSDDDrift(Permuted):
    """Least-squares density difference of whole rows, by alibi-detect on PyTorch.

    ``n_permutations``: the smallest p-value is 1 / (n_permutations + 1), which has to be below what a budget of false
    alarms leaves. ``features``: which ones, else all. ``reference_rows`` and ``window_rows``: of more rows so many
    are drawn.
    """

    whole = True
    roles = ("numeric", "categorical")
    least_rows = 20
    module = "cd.pytorch.lsdd"
    name = "LSDDDriftTorch"
