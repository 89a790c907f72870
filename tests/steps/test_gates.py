"""What a gate says of an evaluation, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from engine.steps import gate
from engine.steps.baseline import by_slice, overall
from engine.steps.compare import Difference, Normal
from engine.steps.context import Context
from engine.steps.metrics import Judged
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


# -- what is said of a comparison ------------------------------------------------------------------------------

PIN = {"version": 3, "digest": "d" * 64, "known": True}
SAID: list[tuple[dict[str, Any], float, float, str, str]] = [
    ({"max_drop": 0.01}, 0.02, 0.004, "shown", "at 95 % confidence it is at least 0.01342 better, and 0.01 worse is allowed"),
    ({"max_drop": 0.01}, -0.002, 0.003, "shown", "at 95 % confidence it is at most 0.006935 worse, and 0.01 worse is allowed"),
    ({"max_drop": 0.01}, -0.005, 0.01, "undecided", "it may be as much as 0.02145 worse, and 0.01 worse is allowed: 1,000 rows are too few to tell"),
    ({"max_drop": 0.01}, -0.04, 0.01, "refuted", "at 95 % confidence it is at least 0.02355 worse, and 0.01 worse is allowed"),
    ({"max_drop": 0.0}, 0.0, 0.0, "shown", "at 95 % confidence it is at most 0 worse, and no loss is allowed"),
    ({"min_gain": 0.01}, 0.03, 0.005, "shown", "at 95 % confidence it is at least 0.02178 better, and more than 0.01 better is asked"),
    ({"min_gain": 0.01}, 0.02, 0.01, "undecided", "it may be only 0.003551 better, and more than 0.01 better is asked: 1,000 rows are too few to tell"),
    ({"min_gain": 0.01}, 0.0, 0.002, "refuted", "at 95 % confidence it is at most 0.00329 better, and more than 0.01 better is asked"),
    ({"min_gain": 0.0}, -0.02, 0.002, "refuted", "at 95 % confidence it is at least 0.01671 worse, and more than 0 better is asked"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "gain", "error", "finding", "said"), SAID, ids=[said for *_, said in SAID])
def test_a_comparison_is_said_in_words_of_better_and_worse(
    given: dict[str, Any], gain: float, error: float, finding: str, said: str
) -> None:
    normal = Normal(gain=gain, error=error, method="DeLong")
    found = Difference(ours=0.7 + gain, theirs=0.7, gain=gain, bound=normal.low(0.95), high=normal.high(0.95), rows=1000, confidence=0.95, evidence=normal)  # fmt: skip
    spoken = overall(gate_of(metric="roc_auc", baseline="production", **given), PIN, found, 1000)
    assert said in spoken["reason"]
    assert spoken["reason"].endswith(" (DeLong, 1,000 rows)")
    assert (spoken["finding"], spoken["passed"]) == (finding, finding == "shown")
    assert (spoken["low"], spoken["value"], spoken["high"]) == (normal.low(0.95), gain, normal.high(0.95))
    assert spoken["baseline"] == {"ref": "production", "version": 3, "digest": "d" * 64}


def test_over_slices_the_verdict_names_those_that_fail_and_those_that_were_not_judged() -> None:
    random = np.random.default_rng(4)
    names = np.repeat(["a", "b", "c", "tiny"], [600, 600, 600, 20])
    true = (random.random(1820) < 0.5).astype(np.int64)
    wrong = random.random(1820) < np.where(names == "b", 0.4, 0.05)
    sides = [
        Judged(task="binary", true=true, label=label, score=label.astype(float), classes=2)
        for label in (np.where(wrong, 1 - true, true), true)
    ]
    asked = gate_of(metric="accuracy", baseline="production", slice="g", max_drop=0.1, min_rows=100)
    found = by_slice(asked, PIN, sides[0], sides[1], pa.chunked_array([names.tolist()]))
    assert (found["passed"], found["slices_judged"], found["slices_failed"]) == (False, 3, ["b"])
    assert found["reason"].startswith("1 of 3 slices of g fails (b); the worst: accuracy for g b is 0.6")
    assert found["reason"].endswith("; not judged: 1 slice of fewer than 100 rows")
    levels = sorted(round(1 - part["confidence"], 6) for part in found["parts"])
    assert levels == [round(0.05 / 3, 6), 0.025, 0.05]
    good = by_slice(asked, PIN, sides[1], sides[0], pa.chunked_array([names.tolist()]))
    assert good["passed"]
    assert good["reason"].startswith("all 3 slices of g pass; the closest: ")
