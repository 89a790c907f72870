"""Metrics agree with scikit-learn and with their formulas; comparisons with what was published of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from engine.spec.vocabulary import METRICS, Task
from engine.steps.compare import bootstrap, delong_error, difference
from engine.steps.metrics import FUNCTIONS, Judged, compute, is_for, rank_auc

RANDOM = np.random.default_rng(0)
N = 400
TRUE = (RANDOM.random(N) < 0.4).astype(np.int64)
SCORE = 0.3 * TRUE + 0.7 * RANDOM.random(N)
BINARY = Judged(task="binary", true=TRUE, label=(SCORE > 0.5).astype(np.int64), score=SCORE, classes=2)
CLASS = RANDOM.integers(0, 3, N)
PROBABILITIES = RANDOM.dirichlet([1, 1, 1], N) * 0.5 + 0.5 * np.eye(3)[CLASS]
MULTI = Judged(task="multiclass", true=CLASS, label=PROBABILITIES.argmax(axis=1), score=PROBABILITIES, classes=3)
VALUES = RANDOM.normal(10, 2, N)
GUESS = VALUES + RANDOM.normal(size=N)
REGRESSION = Judged(task="regression", true=VALUES, label=GUESS, score=GUESS)


def binned(true: Any, score: Any) -> list[tuple[int, float, float]]:
    """Rows, mean score and share of truths in fifteen bins of equal mass, row by row."""
    bins: dict[int, list[int]] = {}
    for place, row in enumerate(np.argsort(score)):
        bins.setdefault(int((place + 0.5) * 15 / len(true)), []).append(int(row))
    return [(len(rows), float(score[rows].mean()), float(true[rows].mean())) for rows in bins.values()]


BINS = binned(TRUE, SCORE)
TOP_BINS = binned((MULTI.label == CLASS).astype(float), PROBABILITIES.max(axis=1))
EXPECTED: list[tuple[str, Judged, float]] = [
    ("brier_reliability", BINARY, sum(n * (p - y) ** 2 for n, p, y in BINS) / N),
    ("brier_resolution", BINARY, sum(n * (y - TRUE.mean()) ** 2 for n, _, y in BINS) / N),
    ("brier_uncertainty", BINARY, TRUE.mean() * (1 - TRUE.mean())),
    ("ece", BINARY, sum(n * abs(p - y) for n, p, y in BINS) / N),
    ("ece", MULTI, sum(n * abs(p - y) for n, p, y in TOP_BINS) / N),
    ("accuracy", BINARY, np.mean(BINARY.label == TRUE)),
    ("average_precision", BINARY, sk.average_precision_score(TRUE, SCORE)),
    ("balanced_accuracy", BINARY, sk.balanced_accuracy_score(TRUE, BINARY.label)),
    ("brier", BINARY, sk.brier_score_loss(TRUE, SCORE)),
    ("f1", BINARY, sk.f1_score(TRUE, BINARY.label)),
    ("log_loss", BINARY, sk.log_loss(TRUE, SCORE)),
    ("precision", BINARY, sk.precision_score(TRUE, BINARY.label)),
    ("recall", BINARY, sk.recall_score(TRUE, BINARY.label)),
    ("roc_auc", BINARY, sk.roc_auc_score(TRUE, SCORE)),
    ("accuracy", MULTI, sk.accuracy_score(CLASS, MULTI.label)),
    ("balanced_accuracy", MULTI, sk.balanced_accuracy_score(CLASS, MULTI.label)),
    ("f1", MULTI, sk.f1_score(CLASS, MULTI.label, average="macro")),
    ("log_loss", MULTI, -np.mean(np.log(PROBABILITIES[np.arange(N), CLASS]))),
    ("precision", MULTI, sk.precision_score(CLASS, MULTI.label, average="macro")),
    ("recall", MULTI, sk.recall_score(CLASS, MULTI.label, average="macro")),
    ("roc_auc", MULTI, sk.roc_auc_score(CLASS, PROBABILITIES, multi_class="ovr")),
    ("mae", REGRESSION, np.mean(np.abs(VALUES - GUESS))),
    ("mape", REGRESSION, np.mean(np.abs((VALUES - GUESS) / VALUES))),
    ("mse", REGRESSION, np.mean((VALUES - GUESS) ** 2)),
    ("r2", REGRESSION, 1 - np.sum((VALUES - GUESS) ** 2) / np.sum((VALUES - VALUES.mean()) ** 2)),
    ("rmse", REGRESSION, np.sqrt(np.mean((VALUES - GUESS) ** 2))),
]


@pytest.mark.parametrize(("name", "judged", "value"), EXPECTED, ids=[f"{n} {j.task}" for n, j, _ in EXPECTED])
def test_a_metric_is_what_its_name_says(name: str, judged: Judged, value: float) -> None:
    assert compute(name, judged) == pytest.approx(value, rel=1e-12)


def test_every_metric_is_compared_for_every_task_that_it_has() -> None:
    assert {(name, judged.task) for name, judged, _ in EXPECTED} == {
        (name, task) for name, info in METRICS.items() for task in info.tasks
    }
    assert set(FUNCTIONS) == set(METRICS)


@pytest.mark.parametrize("name", METRICS)
def test_more_is_better_or_less_is_better_as_the_vocabulary_says(name: str) -> None:
    task = METRICS[name].tasks[0]
    noisy = {"binary": BINARY, "multiclass": MULTI, "regression": REGRESSION}[task]
    right = noisy.true.astype(float) if task != "multiclass" else np.eye(3)[noisy.true]
    label = noisy.true if task != "regression" else right
    perfect = Judged(task=task, true=noisy.true, label=label, score=right, classes=noisy.classes)
    best, usual = compute(name, perfect), compute(name, noisy)
    assert best is not None
    assert usual is not None
    assert (best > usual) == METRICS[name].greater_is_better


@pytest.mark.parametrize(("name", "task", "answer"), [("mae", "binary", False), ("roc_auc", "multiclass", True), ("brier", "multiclass", False), ("a.plugin", "regression", True)])  # fmt: skip
def test_a_metric_is_for_its_tasks(name: str, task: Task, answer: bool) -> None:
    assert is_for(name, task) is answer


@pytest.mark.parametrize("name", ["roc_auc", "average_precision"])
def test_a_metric_of_two_classes_is_not_defined_on_one(name: str) -> None:
    assert compute(name, BINARY.rows(TRUE == 1)) is None


def test_no_metric_is_defined_without_rows() -> None:
    for name, judged, _ in EXPECTED:
        assert compute(name, judged.rows(np.zeros(N, dtype=bool))) is None


@pytest.mark.filterwarnings("ignore:R.2 score")
def test_r2_of_one_row_is_not_defined() -> None:
    assert compute("r2", REGRESSION.rows(np.array([0]))) is None


def test_an_absent_class_makes_the_auc_of_many_undefined() -> None:
    assert compute("roc_auc", MULTI.rows(CLASS != 2)) is None


# -- comparisons -----------------------------------------------------------------------------------------------

SCORES = st.lists(st.tuples(st.booleans(), st.integers(0, 6), st.integers(0, 6)), min_size=8, max_size=60)


@settings(max_examples=100, deadline=None)
@given(SCORES)
def test_the_auc_by_ranks_is_the_auc_by_pairs(rows: list[tuple[bool, int, int]]) -> None:
    true, score, _ = (np.array(column) for column in zip(*rows, strict=True))
    assume(0 < true.sum() < len(true))
    pairs = score[true == 1][:, None] - score[true == 0][None, :]
    assert rank_auc(true, score) == pytest.approx(np.mean((pairs > 0) + 0.5 * (pairs == 0)))


@settings(max_examples=100, deadline=None)
@given(SCORES)
def test_delongs_error_is_what_the_definition_gives(rows: list[tuple[bool, int, int]]) -> None:
    true, first, second = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    assume(min(true.sum(), (1 - true).sum()) >= 2)
    assert delong_error(true, first, second) == pytest.approx(slow_delong(true, first, second), abs=1e-12)


def slow_delong(true: Any, first: Any, second: Any) -> float:
    """DeLong, DeLong and Clarke-Pearson (1988), equations 2 to 5, pair by pair."""

    def structural(score: Any) -> tuple[Any, Any]:
        pairs = score[true == 1][:, None] - score[true == 0][None, :]
        psi = (pairs > 0) + 0.5 * (pairs == 0)
        return psi.mean(axis=1), psi.mean(axis=0)

    (x1, y1), (x2, y2) = structural(first), structural(second)
    return float(np.sqrt(np.var(x1 - x2, ddof=1) / len(x1) + np.var(y1 - y2, ddof=1) / len(y1)))


def test_equal_models_differ_by_nothing_and_without_error() -> None:
    found = difference("roc_auc", BINARY, BINARY, 0.95)
    assert found is not None
    assert (found.gain, found.bound, found.method) == (0.0, 0.0, "DeLong")


def test_delongs_error_of_a_constant_model_is_that_of_the_other_alone() -> None:
    """Hanley and McNeil: the AUC of a constant score is 1/2 without variance."""
    error = delong_error(TRUE, SCORE, np.zeros(N))
    resampled = [
        rank_auc(TRUE[rows], SCORE[rows]) for rows in (np.random.default_rng(i).integers(0, N, N) for i in range(800))
    ]
    assert error == pytest.approx(np.std(resampled), rel=0.15)


def test_the_gain_is_positive_for_the_better_model_whichever_way_the_metric_goes() -> None:
    worse = Judged(task="regression", true=VALUES, label=GUESS * 1.3, score=GUESS * 1.3)
    for metric in ("mae", "r2", "rmse"):
        found = difference(metric, REGRESSION, worse, 0.95)
        assert found is not None
        assert found.gain > found.bound > 0
        assert found.method == "paired bootstrap"


def test_the_bound_holds_as_often_as_the_confidence_says() -> None:
    """Two models of the same quality: the true gain is 0, so a bound above it is a mistake, in one case of ten."""
    above = 0
    for seed in range(300):
        random = np.random.default_rng(seed)
        true = (random.random(300) < 0.4).astype(np.int64)
        first, second = (Judged(task="binary", true=true, label=true, score=true + random.normal(size=300), classes=2) for _ in range(2))  # fmt: skip
        found = difference("roc_auc", first, second, 0.9)
        assert found is not None
        above += found.bound > 0
    assert 15 <= above <= 47  # 30 +- 3.3 standard deviations


def test_more_confidence_asks_for_more() -> None:
    other = Judged(task="binary", true=TRUE, label=TRUE, score=RANDOM.random(N), classes=2)
    bounds = []
    for confidence in (0.6, 0.9, 0.99):
        found = difference("roc_auc", BINARY, other, confidence)
        assert found is not None
        bounds.append(found.bound)
    assert bounds == sorted(bounds, reverse=True)
    assert len(set(bounds)) == 3


def test_the_bootstrap_draws_the_same_rows_each_time_and_for_both() -> None:
    assert np.array_equal(bootstrap("mae", REGRESSION, REGRESSION), np.zeros(1000))
    worse = Judged(task="regression", true=VALUES, label=GUESS + 1, score=GUESS + 1)
    assert np.array_equal(bootstrap("mae", REGRESSION, worse), bootstrap("mae", REGRESSION, worse))


def test_where_the_metric_is_not_defined_there_is_no_difference() -> None:
    one_class = BINARY.rows(TRUE == 1)
    assert difference("roc_auc", one_class, one_class, 0.95) is None
