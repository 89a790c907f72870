"""Intervals hold the truth as often as they say, and the closed forms are the published ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm, t

from engine.spec.vocabulary import Task
from engine.steps.intervals import Estimate, auc_error, estimates, kish, student, wilson
from engine.steps.metrics import Judged, compute
from judged import BINARY, EXPECTED, MULTI, SIDES, TRUE, WEIGHTS, N, weighing

IDS = [f"{name} {task}" for name, task, _ in EXPECTED]


@pytest.mark.parametrize(("name", "task", "_"), EXPECTED, ids=IDS)
def test_every_metric_has_an_interval_round_its_value(name: str, task: Task, _: Any) -> None:
    for side in (SIDES[task], weighing(SIDES[task])):
        found = estimates([name], side)[name]
        assert found.value == compute(name, side)
        assert found.value is not None
        assert found.low is not None
        assert found.high is not None
        assert found.low < found.value < found.high
        assert found.method in ("wilson", "delong", "student", "bootstrap")


@pytest.mark.parametrize(("name", "task", "_"), EXPECTED, ids=IDS)
def test_equal_weights_hardly_change_an_interval_and_their_scale_does_not(name: str, task: Task, _: Any) -> None:
    plain = estimates([name], SIDES[task])[name]
    ones, sevens = (estimates([name], replace(SIDES[task], weights=np.full(N, size)))[name] for size in (1.0, 7.0))
    assert ends(sevens) == pytest.approx(ends(ones), rel=1e-5)
    width = plain.high - plain.low  # type: ignore[operator]
    assert np.abs(np.subtract(ends(plain), ends(ones))).max() < 0.25 * width


def ends(found: Estimate) -> Any:
    return [found.low, found.high]


def test_the_same_predictions_have_the_same_intervals_to_the_last_bit() -> None:
    names = [name for name, task, _ in EXPECTED if task == "multiclass"]
    assert estimates(names, MULTI) == estimates(names, MULTI)


def test_what_is_not_defined_has_neither_value_nor_interval() -> None:
    found = estimates(["roc_auc", "brier"], BINARY.rows(TRUE == 1))
    assert found["roc_auc"] == Estimate(value=None)
    assert found["brier"].low is not None


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("name", "task", "_"), EXPECTED, ids=IDS)
def test_one_row_says_next_to_nothing(name: str, task: Task, _: Any) -> None:
    found = estimates([name], SIDES[task].rows(np.array([0])))[name]
    if found.method == "wilson":
        assert found.high - found.low > 0.7  # type: ignore[operator]
    else:
        assert (found.low, found.high) == (None, None)


# -- closed forms ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        # Newcombe (1998), Statistics in Medicine 17:857-872, table I, method 3: the score method.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilsons_interval_is_as_published(successes: int, trials: int, low: float, high: float) -> None:
    assert wilson(successes, trials) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


def test_wilsons_interval_of_no_trials_is_everything() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


def test_delongs_error_of_one_curve_is_as_published() -> None:
    """The 109 images of Hanley and McNeil (1982), Radiology 143:29-36, in five ratings, as Stata's manual gives them
    ([R] roctab: area 0.8932, error 0.0307, 95 % from 0.83295 to 0.95339)."""
    counts = {0: [33, 6, 6, 11, 2], 1: [3, 2, 2, 11, 33]}
    true = np.repeat([0, 1], [58, 51])
    score = np.concatenate([np.repeat(np.arange(5), counts[number]) for number in (0, 1)])
    judged = Judged(task="binary", true=true, label=(score > 2).astype(int), score=score.astype(float), classes=2)
    found = estimates(["roc_auc"], judged)["roc_auc"]
    assert found.method == "delong"
    assert found.value == pytest.approx(0.8931711)
    assert auc_error(true == 1, score) == pytest.approx(0.0307, abs=5e-5)
    assert ends(found) == pytest.approx([0.83295, 0.95339], abs=6e-6)


def test_an_auc_of_one_on_few_rows_is_not_certain() -> None:
    true = np.repeat([0, 1], [90, 10])
    judged = Judged(task="binary", true=true, label=true, score=true.astype(float), classes=2)
    found = estimates(["roc_auc", "average_precision", "f1"], judged)
    for estimate in found.values():
        assert ends(estimate) == pytest.approx([wilson(10, 10)[0], 1.0], rel=1e-5)


def test_students_interval_is_scipys() -> None:
    values = np.random.default_rng(1).exponential(size=40)
    scipys = t.interval(0.95, 39, loc=values.mean(), scale=values.std(ddof=1) / np.sqrt(40))
    assert student(values, None) == pytest.approx(scipys)


def test_kishs_count_is_the_number_of_rows_that_count_alike() -> None:
    assert kish(np.ones(7)) == pytest.approx(7)
    assert kish(np.array([1.0, 0.0, 1.0])) == pytest.approx(2)
    assert kish(WEIGHTS) < N


# -- coverage ----------------------------------------------------------------------------------------------------

ROUNDS = 300
ALLOWED = 0.02 + 3 * (0.05 * 0.95 / ROUNDS) ** 0.5
SHIFT = 1.0
"""The scores of the second class lie so much higher, in standard deviations of either."""


def two_classes(random: np.random.Generator, rows: int, weighs: bool) -> Judged:
    """Normal scores, of which the truth is known: the area is norm.cdf(SHIFT / sqrt(2))."""
    true = (random.random(rows) < 0.4).astype(np.int64)
    score = random.normal(size=rows) + SHIFT * true
    weights = random.gamma(2, size=rows) if weighs else None
    return Judged(
        task="binary", true=true, label=(score > 0.5).astype(np.int64), score=score, classes=2, weights=weights
    )


def regression(random: np.random.Generator, rows: int, weighs: bool) -> Judged:
    """Errors of standard deviation 1 round values of standard deviation 2."""
    true = random.normal(scale=2, size=rows)
    guess = true + random.normal(size=rows)
    weights = random.gamma(2, size=rows) if weighs else None
    return Judged(task="regression", true=true, label=guess, score=guess, weights=weights)


Q = norm.cdf(0.5)  # both classes are labelled rightly with this probability
TRUTH: dict[str, float] = {
    "roc_auc": norm.cdf(SHIFT / np.sqrt(2)),
    "accuracy": Q,
    "recall": Q,
    "precision": 0.4 * Q / (0.4 * Q + 0.6 * (1 - Q)),
    "f1": 0.8 * Q / (0.4 * Q + 0.6 * (1 - Q) + 0.4),
    "balanced_accuracy": Q,
    "mae": np.sqrt(2 / np.pi),
    "mse": 1.0,
    "rmse": 1.0,
    "r2": 0.75,
}
MADE: list[tuple[Callable[[np.random.Generator, int, bool], Judged], list[str]]] = [
    (two_classes, ["roc_auc", "accuracy", "recall", "precision", "f1", "balanced_accuracy"]),
    (regression, ["mae", "mse", "rmse", "r2"]),
]


@pytest.mark.parametrize("weighs", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize(("make", "names"), MADE, ids=[make.__name__ for make, _ in MADE])
def test_an_interval_holds_the_truth_as_often_as_it_says(make: Any, names: list[str], weighs: bool) -> None:
    random = np.random.default_rng(5)
    held = dict.fromkeys(names, 0)
    for _ in range(ROUNDS):
        for name, found in estimates(names, make(random, 300, weighs)).items():
            held[name] += found.low <= TRUTH[name] <= found.high  # type: ignore[operator]
    for name, count in held.items():
        assert abs(count / ROUNDS - 0.95) < ALLOWED, (name, count / ROUNDS)
