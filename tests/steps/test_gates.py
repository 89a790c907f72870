"""What a gate says of an evaluation, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.steps import gate
from engine.steps.context import Context
from engine.steps.model import Inputs
from engine.store.objects import ObjectStore


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(store=ObjectStore(tmp_path / "objects"), home=tmp_path, run_id="r", step="s", log=lambda text: None)


def gate_of(**given: Any) -> dict[str, Any]:
    base = dict.fromkeys(
        ("min", "max", "between", "baseline", "max_drop", "min_gain", "slice", "tolerance", "by", "on_missing")
    )
    return {**base, "name": "g", "metric": "mae", "confidence": 0.95, "min_rows": 0, **given}


def verdict(context: Context, evaluation: dict[str, Any], **given: Any) -> dict[str, Any]:
    inputs = {"evaluation": context.put_json(evaluation)}
    params: dict[str, Any] = {"gate": gate_of(**given)}
    if "pin" in given:
        params = {"gate": gate_of(**{k: v for k, v in given.items() if k != "pin"}), "baseline": given["pin"]}
    done = gate.run(Inputs(artifacts=inputs), params, context)
    found: dict[str, Any] = context.json(done.artifacts["verdict"])
    return found


EVALUATION: dict[str, Any] = {
    "task": "regression", "rows": 100, "classes": None, "metrics": {"mae": {"value": 0.5, "rows": 100}},
    "slices": {"g": [{"value": "a", "rows": 60, "metrics": {"mae": 0.4}}, {"value": "b", "rows": 30, "metrics": {"mae": 0.6}},
                     {"value": "c", "rows": 10, "metrics": {"mae": 9.0}}]},
    "parity": {"max_difference": 1e-6, "label_flips": 0, "rows": 100},
}  # fmt: skip
GATES: list[tuple[dict[str, Any], bool, str]] = [
    ({"max": 0.5}, True, "mae on 100 rows is 0.5, at most 0.5"),
    ({"max": 0.4}, False, "mae on 100 rows is 0.5, above the most that passes, 0.4"),
    ({"min": 0.6}, False, "mae on 100 rows is 0.5, below the least that passes, 0.6"),
    ({"between": [0.4, 0.6]}, True, "mae on 100 rows is 0.5, between 0.4 and 0.6"),
    ({"max": 1, "slice": "g"}, False, "mae for g c (10 rows) is 9, above the most that passes, 1"),
    ({"max": 1, "slice": "g", "min_rows": 20}, True, "all 2 slices pass; the worst: mae for g b (30 rows) is 0.6, at most 1; 1 slice of fewer than 20 rows not judged"),
    ({"max": 0.1, "slice": "g", "min_rows": 20}, False, "mae for g b (30 rows) is 0.6, above the most that passes, 0.1; 2 of 2 slices fail: a, b; 1 slice of fewer than 20 rows not judged"),
    ({"max": 1, "slice": "g", "min_rows": 500}, False, "no slice of g has 500 rows on which mae is defined"),
    ({"metric": "onnx_parity", "max": 1e-5}, True, "onnx_parity on 100 rows is 1e-06, at most 1e-05"),
    ({"baseline": "production", "max_drop": 0.1, "pin": {"version": None, "digest": None, "known": False}}, True,
     "`production` has never named a version: nothing to compare with, so this gate passes"),
    ({"baseline": "production", "max_drop": 0.1, "pin": {"version": None, "digest": None, "known": True}}, False,
     "`production` no longer names a version: nothing to compare with, so this gate refuses"),
    ({"baseline": "production", "max_drop": 0.1, "on_missing": "refuse", "pin": {"version": None, "digest": None, "known": False}}, False,
     "`production` has never named a version: nothing to compare with, so this gate refuses"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "passed", "reason"), GATES, ids=[reason for *_, reason in GATES])
def test_a_gate_says_whether_and_why(context: Context, given: dict[str, Any], passed: bool, reason: str) -> None:
    found = verdict(context, EVALUATION, **given)
    assert (found["passed"], found["reason"]) == (passed, reason)


def test_a_figure_that_is_not_defined_does_not_pass(context: Context) -> None:
    found = verdict(context, {**EVALUATION, "metrics": {"mae": {"value": None, "rows": 0}}}, max=1)
    assert not found["passed"]
