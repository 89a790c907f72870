"""What a budget of false alarms allows each window and each test, and what a window's p-values say by it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import UsageError
from engine.monitor.budget import FIRST, MOST, Budget, adjusted, allot, judge, parse, shared
from engine.plugins import DriftVerdict

DAY = 86_400.0


def verdict(p_val: dict[str, float], limit: float = 0.05, rows: int = 500) -> DriftVerdict:
    return DriftVerdict(
        drift=min(p_val.values()) < limit,
        threshold=limit,
        p_val=p_val,
        distance={name: 1 - value for name, value in p_val.items()},
        drifted=tuple(name for name, value in p_val.items() if value < limit),
        rows=rows,
    )


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("1 per 30 days", Budget(alarms=1, seconds=30 * DAY)),
        ("2 per week", Budget(alarms=2, seconds=7 * DAY)),
        ("0.5 per month", Budget(alarms=0.5, seconds=30 * DAY)),
        (" 3 per  12 hours ", Budget(alarms=3, seconds=DAY / 2)),
        ("1 per 1000 windows", Budget(alarms=1, windows=1000)),
        ("1  PER 100 Windows", Budget(alarms=1, windows=100)),
    ],
)
def test_a_budget_is_read_as_it_is_written(text: str, budget: Budget) -> None:
    assert parse(text) == budget
    assert parse(str(budget)) == budget


@pytest.mark.parametrize(
    "text",
    ["", "1", "often", "1 per", "one per day", "-1 per day", "1 per 0 days", "0 per day", "2 per 10 windows", "1/day"],
)
def test_what_is_no_budget_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse(text)
    assert raised.value.hint.startswith("write it as `1 per 30 days`")


@given(st.lists(st.floats(0, DAY), min_size=1, max_size=200))
def test_over_a_period_no_more_is_spent_than_the_budget(gaps: list[float]) -> None:
    budget = Budget(alarms=1, seconds=sum(gaps) + 1.0)
    assert sum(allot(budget, gap) for gap in gaps) <= 1 + 1e-9


def test_windows_of_an_hour_spend_a_budget_of_a_month_whole() -> None:
    assert sum(allot(parse("1 per 30 days"), 3600.0) for _ in range(720)) == pytest.approx(1)


def test_a_budget_per_windows_does_not_look_at_the_clock() -> None:
    assert allot(parse("1 per 1000 windows"), 5.0) == allot(parse("1 per 1000 windows")) == 0.001


def test_a_clock_that_goes_back_allows_nothing() -> None:
    assert allot(parse("1 per day"), -5.0) == 0


def test_a_long_silence_does_not_make_an_alarm_likely() -> None:
    assert allot(parse("1 per day"), 90 * DAY) == MOST


def test_the_first_window_of_rows_counts_as_an_hour() -> None:
    budget = parse("1 per 30 days")
    assert allot(budget) == allot(budget, FIRST)


def test_sequences_of_windows_share_the_budget() -> None:
    budget = parse("1 per 30 days")
    assert 3 * allot(shared(budget, 3), 60.0) == pytest.approx(allot(budget, 60.0))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.floats(0.001, 0.5))
def test_holm_steps_down_from_the_smallest(p_vals: list[float], alpha: float) -> None:
    expected, ordered = set(), sorted(range(len(p_vals)), key=p_vals.__getitem__)
    for rank, index in enumerate(ordered):
        if p_vals[index] * (len(p_vals) - rank) > alpha:
            break
        expected.add(index)
    assert {at for at, value in enumerate(adjusted(p_vals)) if value <= alpha} == expected


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.floats(0.001, 0.5))
def test_benjamini_hochberg_rejects_what_holm_rejects(p_vals: list[float], alpha: float) -> None:
    holm, bh = adjusted(p_vals), adjusted(p_vals, "bh")
    assert all(one <= other + 1e-12 for one, other in zip(bh, holm, strict=True))


def test_benjamini_hochberg_is_scipys() -> None:
    from scipy.stats import false_discovery_control

    p_vals = np.random.default_rng(1).random(20) ** 3
    assert adjusted(p_vals.tolist(), "bh") == pytest.approx(false_discovery_control(p_vals).tolist())


@pytest.mark.parametrize("method", ["holm", "bh"])
def test_without_a_change_a_window_alarms_at_its_alpha(method: str) -> None:
    random = np.random.default_rng(3)
    alarms = sum(min(adjusted(row, method)) <= 0.1 for row in random.random((4_000, 10)).tolist())  # type: ignore[arg-type]
    assert abs(alarms - 400) < 4 * math.sqrt(400 * 0.9)


def test_all_detectors_of_a_window_are_judged_together() -> None:
    verdicts = {"a": verdict({"x": 0.004, "y": 0.6}), "b": verdict({"x": 0.3, "y": 0.9})}
    assert judge(verdicts, 0.01) is None
    found = judge(verdicts, 0.02)
    assert found is not None
    assert (found.tests, [item.feature for item in found.features]) == (4, ["x"])


def test_an_alarm_names_the_features_by_their_evidence() -> None:
    found = judge({"a": verdict({"x": 1e-4, "y": 1e-9}), "b": verdict({"x": 1e-6, "y": 0.5})}, 0.01)
    assert found is not None
    assert [(item.feature, item.detector, item.detectors) for item in found.features] == [
        ("y", "a", ("a",)),
        ("x", "b", ("b", "a")),
    ]
    assert [item.share for item in found.features] == pytest.approx([9 / 15, 6 / 15])


def test_features_without_a_doubt_left_are_told_apart_by_their_distance() -> None:
    sure = DriftVerdict(
        drift=True,
        threshold=0.05,
        p_val={"x": 0.0, "y": 0.0},
        distance={"x": 0.2, "y": 0.7},
        drifted=("x", "y"),
        rows=9,
    )
    found = judge({"a": sure}, 0.01)
    assert found is not None
    assert [(item.feature, item.share) for item in found.features] == [("y", 0.5), ("x", 0.5)]


def test_without_a_budget_each_detector_keeps_to_its_own_threshold() -> None:
    assert judge({"a": verdict({"x": 0.04})}, None) is not None
    assert judge({"a": verdict({"x": 0.06})}, None) is None


def test_a_test_that_says_nothing_is_no_alarm() -> None:
    assert judge({"a": verdict({"x": math.nan})}, 0.1) is None


def test_an_alpha_of_nothing_is_never_an_alarm_but_for_what_cannot_be() -> None:
    assert judge({"a": verdict({"x": 1e-12})}, 0.0) is None


def test_no_detector_gives_no_alarm() -> None:
    assert judge({}, 0.1) is None
