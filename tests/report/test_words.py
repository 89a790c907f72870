"""How numbers and verdicts read."""

from __future__ import annotations

import pytest

from engine.report import words
from engine.report.facts import facts
from engine.report.model import Gate, Report, Slice
from report import samples


def gate(name: str = "roc_auc.min", *, value: float | None = 0.66, limit: tuple[float, ...] = (0.65,)) -> Gate:
    return Gate(name=name, passed=True, value=value, limit=limit, reason="", level="refuse", measured=False)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (0, "0"),
        (0.0, "0"),
        (0.66132, "0.6613"),
        (1.0, "1.000"),
        (3.21, "3.210"),
        (15.1, "15.10"),
        (1234567.8, "1,234,567.8"),
        (12000, "12,000"),
        (2.4e-7, "2.4e-7"),
        (-0.11, "-0.1100"),
        (1e300, f"{1e300:,.1f}"),
    ],
)
def test_a_figure_is_short_and_exact_enough(value: float | None, shown: str) -> None:
    assert words.figure(value) == shown


@pytest.mark.parametrize(
    ("value", "bound", "shown"),
    [
        (0.6613, 0.65, "0.6613"),
        (0.64996, 0.65, "0.64996"),
        (0.65, 0.65, "0.6500"),
        (0.65 - 1e-12, 0.65, "0.649999999999"),
    ],
)
def test_a_value_never_reads_like_a_limit_that_it_is_not(value: float, bound: float, shown: str) -> None:
    assert words.value_of(gate(value=value, limit=(bound,))) == shown


@pytest.mark.parametrize(
    ("name", "limit", "shown"),
    [
        ("roc_auc.min", (0.65,), "≥ 0.65"),
        ("roc_auc.min[origin]", (0.6,), "≥ 0.6"),
        ("onnx_parity.max", (1e-5,), "≤ 1e-5"),
        ("roc_auc.max_drop@production", (0.01,), "≥ 0.01"),
        ("my own name", (5,), "5"),
        ("rate.between", (0.1, 0.4), "0.1 to 0.4"),
        ("roc_auc.min", (), "–"),
    ],
)
def test_a_limit_has_a_direction_only_where_its_gate_says_so(name: str, limit: tuple[float, ...], shown: str) -> None:
    assert words.limit(gate(name, limit=limit)) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(None, "–"), (0.018, "0.02 s"), (8.1, "8.1 s"), (59.99, "1 min 00 s"), (125, "2 min 05 s"), (3720, "1 h 02 min")],
)
def test_a_duration_reads_as_people_say_it(seconds: float | None, shown: str) -> None:
    assert words.duration(seconds) == shown


@pytest.mark.parametrize(
    ("iso", "shown"),
    [
        ("2026-11-23T01:47:12Z", "2026-11-23 01:47 UTC"),
        ("2026-11-23T01:47:12.345678+00:00", "2026-11-23 01:47 UTC"),
        ("2026-11-23T01:47:12+02:00", "2026-11-23 01:47 +02:00"),
        ("yesterday", "yesterday"),
    ],
)
def test_a_time_is_shown_to_the_minute(iso: str, shown: str) -> None:
    assert words.moment(iso) == shown


@pytest.mark.parametrize(("metric", "first"), [("roc_auc", "low"), ("brier", "high"), ("rmse", "high")])
def test_the_worst_slice_comes_first_whichever_way_the_metric_points(metric: str, first: str) -> None:
    found = [
        Slice(value=name, rows=1, metrics={metric: value})
        for name, value in (("unknown", None), ("low", 0.1), ("high", 0.9))
    ]
    assert [words.worst_first(found, metric)[index].value for index in (0, 2)] == [first, "unknown"]


@pytest.mark.parametrize(
    ("report", "said"),
    [
        (samples.passed(), "6 of 6 gates pass"),
        (samples.refused(), "1 of 6 gates refuses, 1 warning"),
        (samples.failed(), "312 rows of test break specs/schemas/flights.yaml"),
        (samples.bare(), "it stopped before a verdict"),
        (Report(run={"status": "passed", "gates": []}), "no gates"),
    ],
)
def test_the_summary_says_why(report: Report, said: str) -> None:
    assert words.summary(facts(report)) == said
