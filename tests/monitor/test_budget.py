"""A model raises as many false alarms as its spec allows, whatever the number of detectors, features and windows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from engine.errors import UsageError
from engine.monitor.budget import MOST, Budget, alpha_of_window, judge, parse, strictest

READ = {
    "1 per 30 days": Budget(alarms=1, seconds=30 * 86_400),
    "1 per day": Budget(alarms=1, seconds=86_400),
    "0.5 per month": Budget(alarms=0.5, seconds=30 * 86_400),
    " 2  PER 100 Windows ": Budget(alarms=2, windows=100),
    "3 per window": Budget(alarms=3, windows=1),
}


@pytest.mark.parametrize("text", READ)
def test_a_budget_is_read(text: str) -> None:
    assert parse(text) == READ[text]


@pytest.mark.parametrize(
    "text", ["", "1", "one per day", "1 per", "1 per 30 dayz", "-1 per day", "1 per day day", "1/day"]
)
def test_what_is_no_budget_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no number of false alarms in a time") as raised:
        parse(text)
    assert raised.value.hint.startswith("write it as `1 per 30 days`")


@pytest.mark.parametrize("text", ["0 per day", "1 per 0 days", "0.0 per 3 windows"])
def test_a_budget_of_nothing_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="every test errs"):
        parse(text)


def test_a_budget_is_shared_by_detectors_and_windows() -> None:
    assert alpha_of_window(Budget(alarms=1, windows=100), 2, None) == 0.005
    assert alpha_of_window(Budget(alarms=1, seconds=30 * 86_400), 1, 86_400) == pytest.approx(1 / 30)
    assert alpha_of_window(Budget(alarms=1, seconds=86_400), 1, 10 * 86_400) == MOST
    assert alpha_of_window(Budget(alarms=1, seconds=86_400), 1, None) is None


P_VALUES = st.dictionaries(st.tuples(st.sampled_from("ab"), st.text(max_size=2)), st.floats(0, 1), max_size=12)


@given(P_VALUES, st.floats(0.001, MOST))
def test_holm_refuses_what_bonferroni_refuses_and_maybe_more(
    p_values: dict[tuple[str, str], float], alpha: float
) -> None:
    found = judge(p_values, alpha)
    strict = {test for test, value in p_values.items() if value <= strictest(list(p_values), alpha)}
    assert strict <= {*found.drifted}
    assert found.alarm == bool(strict)
    assert [p_values[test] for test in found.drifted] == sorted(p_values[test] for test in found.drifted)


@pytest.mark.parametrize("features", [1, 30])
@pytest.mark.parametrize("correlated", [0.0, 0.9])
def test_false_alarms_of_windows_without_a_change_keep_to_the_budget(features: int, correlated: float) -> None:
    windows, random = 4_000, np.random.default_rng(features)
    alpha = alpha_of_window(Budget(alarms=1, windows=20), 1, None)
    assert alpha is not None
    shared = random.normal(size=(windows, 1)) * np.sqrt(correlated)
    scores = shared + random.normal(size=(windows, features)) * np.sqrt(1 - correlated)
    p_values = 2 * stats.norm.sf(np.abs(scores))
    alarms = sum(judge({("d", str(at)): value for at, value in enumerate(row)}, alpha).alarm for row in p_values)
    low, high = stats.binom.interval(0.9999, windows, alpha)
    assert alarms <= high
    assert alarms >= low or correlated
