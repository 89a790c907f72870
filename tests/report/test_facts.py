"""A report can be made of any JSON."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.report.facts import facts
from engine.report.markdown import markdown
from engine.report.model import Report
from engine.report.text import plain
from report import samples

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
KEYS = ("run_id", "name", "status", "model", "pins", "metrics", "gates", "steps", "seconds", "error", "started", "spec")
JUDGED = ("task", "rows", "classes", "metrics", "slices", "curves", "parity")


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.fixed_dictionaries({}, optional=dict.fromkeys(KEYS, JSON)),
    st.fixed_dictionaries({}, optional=dict.fromkeys(JUDGED, JSON)),
)
def test_no_document_is_so_odd_that_it_cannot_be_reported(run: dict[str, Any], evaluation: dict[str, Any]) -> None:
    report = Report(run=run, evaluation=evaluation)
    assert plain(report).encode()
    assert markdown(report).encode()


def test_metrics_of_the_evaluation_come_first_and_none_comes_twice() -> None:
    found = [(measure.name, measure.rows) for measure in facts(samples.passed()).metrics]
    assert found == [("roc_auc", 28293), ("average_precision", 28293), ("brier", 28293), ("model_mb", None)]


@pytest.mark.parametrize(
    ("odd", "read"), [(float("nan"), None), (float("inf"), None), (10**400, None), (True, None), ("1", None), (1, 1)]
)
def test_only_finite_numbers_are_numbers(odd: object, read: float | None) -> None:
    assert facts(Report(run={"seconds": odd})).seconds == read


@pytest.mark.parametrize("passed", ["true", 1, None])
def test_a_gate_has_passed_only_if_it_says_true(passed: object) -> None:
    assert facts(Report(run={"gates": [{"name": "g", "passed": passed}]})).gates[0].mark == "refuse"


def test_points_of_a_curve_without_a_number_are_left_out() -> None:
    curves = {"roc": {"fpr": [0, None, 1], "tpr": [0, 0.5, 1]}}
    found = facts(Report(run={}, evaluation={"curves": curves})).roc
    assert found is not None
    assert (found.fpr, found.tpr) == ((0, 1), (0, 1))


@pytest.mark.parametrize("edges", [[0, 1], [0, 1, 2, 3], [], [2, 1, 0], [-1e308, 0, 1e308]])
def test_a_histogram_whose_edges_do_not_fit_or_ascend_is_not_drawn(edges: list[int]) -> None:
    curves = {"residuals": {"edges": edges, "counts": [3, 4]}}
    assert facts(Report(run={}, evaluation={"curves": curves})).residuals is None


def test_a_gate_has_its_interval_and_rows_where_the_verdict_has_them() -> None:
    gates = [{"name": "a", "low": 0.1, "high": 0.3, "rows": 50}, {"name": "b", "low": None, "high": 0.3}, {"name": "c"}]
    found = facts(Report(run={"gates": gates})).gates
    assert [(gate.interval, gate.rows) for gate in found] == [((0.1, 0.3), 50), (None, None), (None, None)]
    shown = markdown(Report(run={"name": "m", "gates": gates[:1]}))
    assert "[0.1000, 0.3000]" in shown


def test_a_measurement_has_its_machine() -> None:
    machine = {"cpu": "EPYC <b>", "cores": 4, "cores_usable": 2}
    run = {"name": "m", "gates": [{"name": "a", "measured": True, "machine": machine}]}
    assert facts(Report(run=run)).gates[0].machine == "EPYC <b>, 2 of 4 cores"
    assert "(measured on EPYC &lt;b&gt;, 2 of 4 cores)" in markdown(Report(run=run))
