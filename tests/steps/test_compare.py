"""Comparing two models: formulas against published figures, and how often what is said of them is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from engine.steps.compare import (
    Draws,
    Evidence,
    Normal,
    Pairs,
    bootstrap,
    delong_error,
    difference,
    holm,
    resamples_for,
)
from engine.steps.metrics import Judged, rank_auc
from pairs import PAIRS, binomial_range, by_accuracy, by_auc, by_mae

# Albumin, total protein, K-G score, and whether surgery helped: 43 of the 49 patients of DeLong, DeLong and
# Clarke-Pearson (1988) have all three. As SAS/STAT's User's Guide prints them (PROC LOGISTIC, "Comparing Receiver
# Operating Characteristic Curves"), with its results.
PATIENTS = """
3.0 5.8 10 0  3.2 6.3 5 1  3.9 6.8 3 1  2.8 4.8 6 0  3.2 5.8 3 1  0.9 4.0 5 0  2.5 5.7 8 0  1.6 5.6 5 1  3.8 5.7 5 1
3.7 6.7 6 1  3.2 5.4 4 1  3.8 6.6 6 1  4.1 6.6 5 1  3.6 5.7 5 1  4.3 7.0 4 1  3.6 6.7 4 0  2.3 4.4 6 1  4.2 7.6 4 0
4.0 6.6 6 0  3.5 5.8 6 1  3.8 6.8 7 1  3.0 4.7 8 0  4.5 7.4 5 1  3.7 7.4 5 1  3.1 6.6 6 1  4.1 8.2 6 1  4.3 7.0 5 1
4.3 6.5 4 1  3.2 5.1 5 1  2.6 4.7 6 1  3.3 6.8 6 0  1.7 4.0 7 0  3.7 6.1 5 1  3.3 6.3 7 1  4.2 7.7 6 1  3.5 6.2 5 1
2.9 5.7 9 0  2.1 4.8 7 1  2.8 6.2 8 0  4.0 7.0 7 1  3.3 5.7 6 1  3.7 6.9 5 1  3.6 6.6 5 1
"""
ALBUMIN, PROTEIN, KG, HELPED = np.array(PATIENTS.split(), dtype=float).reshape(-1, 4).T
KG = 10 - KG


@pytest.mark.parametrize(
    ("score", "auc", "error", "gain", "error_of_gain", "chi_square"),
    [
        (PROTEIN, 0.6478, 0.1000, -0.0780, 0.1046, 0.5554),
        (ALBUMIN, 0.7366, 0.0927, 0.0108, 0.0953, 0.0127),
    ],
    ids=["total protein", "albumin"],
)
def test_delong_agrees_with_the_published_example(
    score: Any, auc: float, error: float, gain: float, error_of_gain: float, chi_square: float
) -> None:
    assert rank_auc(HELPED, KG) == pytest.approx(0.7258, abs=5e-5)
    assert delong_error(HELPED, KG, np.zeros(43)) == pytest.approx(0.1028, abs=5e-5)
    assert rank_auc(HELPED, score) == pytest.approx(auc, abs=5e-5)
    assert delong_error(HELPED, score, np.zeros(43)) == pytest.approx(error, abs=5e-5)
    label = HELPED.astype(np.int64)
    sides = [Judged(task="binary", true=label, label=label, score=side, classes=2) for side in (score, KG)]
    found = difference("roc_auc", sides[0], sides[1], 0.95)
    assert found is not None
    assert isinstance(found.evidence, Normal)
    assert found.gain == pytest.approx(gain, abs=5e-5)
    assert found.evidence.error == pytest.approx(error_of_gain, abs=5e-5)
    assert (found.gain / found.evidence.error) ** 2 == pytest.approx(chi_square, abs=5e-5)


def test_the_interval_of_accuracy_agrees_with_the_published_example() -> None:
    """Cavo et al. (2012), as in Fagerland, Lydersen and Laake (2017), chapter 8: 6 against 16 of 161 pairs."""
    pairs = Pairs(better=6, worse=16, rows=161)
    assert pairs.gain == pytest.approx(-0.0621, abs=5e-5)
    assert (pairs.low(0.975), pairs.high(0.975)) == (pytest.approx(-0.1240, abs=5e-5), pytest.approx(-0.0054, abs=5e-5))
    assert pairs.score(0) == pytest.approx(-2.132, abs=5e-4)  # McNemar's asymptotic test: P = 0.033006
    assert 2 * norm.sf(abs(pairs.score(0))) == pytest.approx(0.033006, abs=5e-7)


EVIDENCE: list[Evidence] = [
    Normal(gain=0.01, error=0.02, method="DeLong"),
    Pairs(better=40, worse=31, rows=500),
    Pairs(better=0, worse=0, rows=50),
    Pairs(better=50, worse=0, rows=50),
    Pairs(better=0, worse=3, rows=50),
    Draws(gains=np.sort(np.random.default_rng(0).normal(size=999))),
]


@pytest.mark.parametrize("evidence", EVIDENCE, ids=repr)
@pytest.mark.parametrize("confidence", [0.6, 0.9, 0.95, 0.99])
def test_a_bound_is_where_the_doubt_reaches_what_is_left_of_the_confidence(
    evidence: Evidence, confidence: float
) -> None:
    low, high = evidence.low(confidence), evidence.high(confidence)
    assert -1.0 <= low <= high <= 1.0 or isinstance(evidence, Draws)
    assert evidence.doubt(low - 1e-6) <= 1 - confidence + 1e-9
    assert evidence.doubt(low + 1e-6, above=True) >= 1 - confidence - 1e-9 or low > 0.999
    assert evidence.doubt(high - 1e-6) <= confidence + 1e-9 or high > 0.999


def test_too_few_draws_give_no_bound() -> None:
    few = Draws(gains=np.zeros(10))
    assert (few.low(0.95), few.high(0.95)) == (float("-inf"), float("inf"))


def test_with_a_tie_at_the_limit_no_worse_is_shown_and_better_is_not() -> None:
    for evidence in (Normal(gain=0.0, error=0.0, method=""), Draws(gains=np.zeros(999))):
        assert evidence.doubt(0.0) <= 0.05
        assert evidence.doubt(0.0, above=True) == 1.0


def test_holms_procedure_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_more_slices_take_more_draws() -> None:
    assert [resamples_for(count, 0.95) for count in (1, 10, 50, 1000)] == [1000, 4000, 20_000, 20_000]
    assert 1 / resamples_for(1000, 0.95) <= 0.05 / 1000 + 1e-12


# -- how often what is said is wrong ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "count", "rows", "resamples"),
    [("roc_auc", 600, 300, 0), ("accuracy", 600, 300, 0), ("mae", 300, 200, 299)],
)
def test_at_the_margin_a_pass_is_as_rare_as_the_confidence_says(
    metric: str, count: int, rows: int, resamples: int
) -> None:
    """The true loss is exactly what is allowed: to let it pass is a mistake, and so is to call it worse than that."""
    make, margin = PAIRS[metric]
    passes = refusals = 0
    for seed in range(count):
        ours, theirs = make(-margin, rows, np.random.default_rng([seed, 7]))
        found = difference(metric, ours, theirs, 0.9, resamples)
        assert found is not None
        passes += found.bound >= -margin
        refusals += found.high < -margin
    low, high = binomial_range(count, 0.1)
    assert low <= passes <= high
    assert low <= refusals <= high


@pytest.mark.parametrize("metric", ["roc_auc", "accuracy"])
def test_a_model_that_is_no_worse_passes_the_more_often_the_more_rows_there_are(metric: str) -> None:
    make, margin = PAIRS[metric]
    power = []
    for rows in (200, 1000, 5000):
        found = [difference(metric, *make(0.0, rows, np.random.default_rng([seed, rows])), 0.95) for seed in range(60)]
        power.append(sum(item is not None and item.bound >= -margin for item in found))
    assert power[0] < power[1] < power[2]
    assert power[2] >= 50


def test_over_many_slices_luck_lets_none_through_more_often_than_over_one() -> None:
    """Eight slices, all at the margin: without Holm's procedure some slice would be shown in 57 % of the runs."""
    count, slices, rows = 100, 8, 120
    corrected = plain = 0
    for run in range(count):
        doubts = []
        for part in range(slices):
            found = difference("roc_auc", *by_auc(-0.02, rows, np.random.default_rng([run, part])), 0.9)
            assert found is not None
            doubts.append(found.evidence.doubt(-0.02))
        corrected += min(holm(doubts)) <= 0.1
        plain += min(doubts) <= 0.1
    assert corrected <= binomial_range(count, 0.1)[1]
    assert plain > 3 * corrected


# -- the bootstrap ---------------------------------------------------------------------------------------------


def test_the_bootstrap_and_the_closed_forms_agree() -> None:
    random = np.random.default_rng(5)
    ours, theirs = by_auc(0.02, 3000, random)
    for metric, metric_pair in (("roc_auc", (ours, theirs)), ("accuracy", by_accuracy(0.02, 3000, random))):
        found = difference(metric, *metric_pair, 0.95)
        assert found is not None
        drawn = Draws(gains=np.sort(bootstrap(metric, *metric_pair, 2000)))
        width = found.high - found.bound
        assert drawn.low(0.95) == pytest.approx(found.bound, abs=0.1 * width)
        assert drawn.high(0.95) == pytest.approx(found.high, abs=0.1 * width)


def test_drawing_the_same_rows_for_both_is_what_makes_small_differences_visible() -> None:
    ours, theirs = by_mae(0.05, 500, np.random.default_rng(1))
    shuffled = theirs.rows(np.random.default_rng(2).permutation(500))
    assert np.std(bootstrap("mae", ours, theirs, 300)) < 0.8 * np.std(bootstrap("mae", ours, shuffled, 300))


def test_a_class_of_one_row_shows_nothing() -> None:
    true = np.array([1] + [0] * 20)
    one = Judged(task="binary", true=true, label=true, score=np.linspace(1, 0, 21), classes=2)
    assert difference("roc_auc", one, one, 0.95) is None


def test_equal_answers_differ_by_nothing_for_certain() -> None:
    ours, _ = by_accuracy(0.0, 50, np.random.default_rng(1))
    found = difference("accuracy", ours, ours, 0.99)
    assert found is not None
    assert (found.bound, found.high) == (0.0, 0.0)
