"""Metrics agree with scikit-learn and with their formulas; comparisons with what was published of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from engine.spec.vocabulary import METRICS, Task
from engine.steps.compare import bootstrap, delong_error, difference
from engine.steps.metrics import FUNCTIONS, Judged, compute, is_for, rank_auc
from judged import BINARY, CLASS, EXPECTED, GUESS, MULTI, REGRESSION, SCORE, SIDES, TRUE, VALUES, WEIGHTS, N, weighing

RANDOM = np.random.default_rng(0)

IDS = [f"{name} {task}" for name, task, _ in EXPECTED]


@pytest.mark.parametrize(("name", "task", "expected"), EXPECTED, ids=IDS)
def test_a_metric_is_what_scikit_learn_says_with_and_without_weights(name: str, task: Task, expected: Any) -> None:
    assert compute(name, SIDES[task]) == pytest.approx(expected(SIDES[task], None), rel=1e-12)
    assert compute(name, weighing(SIDES[task])) == pytest.approx(expected(SIDES[task], WEIGHTS), rel=1e-12)


def test_every_metric_is_compared_for_every_task_that_it_has() -> None:
    assert {(name, task) for name, task, _ in EXPECTED} == {
        (name, task) for name, info in METRICS.items() for task in info.tasks
    }
    assert set(FUNCTIONS) == set(METRICS)


@pytest.mark.parametrize(("name", "task", "_"), EXPECTED, ids=IDS)
def test_a_row_of_weight_two_is_two_rows(name: str, task: Task, _: Any) -> None:
    side = SIDES[task]
    often = RANDOM.integers(0, 3, N)
    if side.groups is not None:
        often = np.repeat(RANDOM.integers(1, 3, side.groups.max() + 1), np.bincount(side.groups))
        twice = np.concatenate([np.arange(N), np.flatnonzero(often == 2)])
        groups = np.concatenate([side.groups, side.groups[often == 2] + 1000])
        repeated = replace(side.rows(twice), groups=groups)
    else:
        repeated = side.rows(np.repeat(np.arange(N), often))
    counted = replace(side, weights=often.astype(float))
    assert compute(name, counted) == pytest.approx(compute(name, repeated), rel=1e-12)


def perfect(task: Task) -> Judged:
    """The truth as a prediction."""
    side = SIDES[task]
    score = np.eye(3)[side.true] if task == "multiclass" else side.true.astype(float)
    if task == "quantile":
        score = side.true[:, None] + np.array([-0.01, 0, 0.01])
    return replace(side, label=side.true, score=score)


@pytest.mark.parametrize(("name", "task", "_"), EXPECTED, ids=IDS)
def test_more_is_better_or_less_is_better_as_the_vocabulary_says(name: str, task: Task, _: Any) -> None:
    best, usual = compute(name, perfect(task)), compute(name, SIDES[task])
    assert best is not None
    assert usual is not None
    assert (best > usual) == METRICS[name].greater_is_better


@pytest.mark.parametrize(("name", "task", "answer"), [("mae", "binary", False), ("roc_auc", "multiclass", True), ("hamming_loss", "multiclass", False), ("a.plugin", "regression", True)])  # fmt: skip
def test_a_metric_is_for_its_tasks(name: str, task: Task, answer: bool) -> None:
    assert is_for(name, task) is answer


@pytest.mark.parametrize("name", ["roc_auc", "average_precision"])
def test_a_metric_of_two_classes_is_not_defined_on_one(name: str) -> None:
    assert compute(name, BINARY.rows(TRUE == 1)) is None


def test_no_metric_is_defined_without_rows() -> None:
    for name, task, _ in EXPECTED:
        assert compute(name, SIDES[task].rows(np.zeros(N, dtype=bool))) is None
        assert compute(name, replace(SIDES[task], weights=np.zeros(N))) is None


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
