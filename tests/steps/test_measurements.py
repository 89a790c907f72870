"""Figures of the model itself: how far ONNX is from the native model, how long it takes, how much memory it needs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from engine.errors import DigestMismatch, StepFailed
from engine.steps import gate
from engine.steps.context import Context
from engine.steps.machine import machine
from engine.steps.memory import measured
from engine.steps.metrics import Judged
from engine.steps.model import Artifact, Inputs
from engine.steps.parity import differences, flips
from engine.store.objects import ObjectStore
from models import heavy, probability_is_x

KEYS = ("min", "max", "between", "baseline", "max_drop", "min_gain", "slice", "tolerance", "by", "on_missing")
X = np.random.default_rng(2).random(500)
TABLE = pa.table({"x": X, "other": ["text"] * 500})


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(store=ObjectStore(tmp_path / "objects"), home=tmp_path, run_id="r", step="s", log=lambda text: None)


def verdict(context: Context, inputs: dict[str, Artifact], **given: Any) -> Any:
    """What a gate says."""
    asked = {**dict.fromkeys(KEYS), "name": "g", "confidence": 0.95, "min_rows": 0, **given}
    done = gate.run(Inputs(artifacts=inputs), {"gate": asked}, context)
    return context.json(done.artifacts["verdict"]) if done.artifacts else done.byproducts["verdict"]


# -- parity -----------------------------------------------------------------------------------------------------


def test_of_several_classes_the_largest_difference_of_a_row_counts() -> None:
    score = np.array([[0.2, 0.8], [0.5, 0.5]])
    three = Judged(task="multiclass", true=np.array([1, 0]), label=np.array([1, 0]), score=score, classes=2)
    assert differences(score + [[0.1, -0.3], [0.0, 0.0]], three) == pytest.approx([0.3, 0.0])
    assert flips(np.array([[0.9, 0.1], [0.6, 0.4]]), three) == 1


def test_large_values_are_compared_by_their_ratio_and_small_ones_as_they_are() -> None:
    value = np.array([1000.0, 0.001])
    judged = Judged(task="regression", true=value, label=value, score=value)
    assert differences(np.array([1001.0, 0.003]), judged) == pytest.approx([1 / 1001, 0.002])
    assert flips(value, judged) == 0


def parity_inputs(context: Context, flips: int = 2) -> dict[str, Artifact]:
    """An evaluation of 1,000 rows of which 30 differ, by up to 0.01."""
    apart = np.zeros(1000)
    apart[:30] = np.linspace(1e-6, 0.01, 30)
    summary = {"max_difference": 0.01, "label_flips": flips, "rows": 1000}
    return {
        "evaluation": context.put_json({"task": "binary", "parity": summary}),
        "predictions": context.put_table(pa.table({"onnx_difference": apart})),
    }


PARITY: list[tuple[dict[str, Any], bool, float, str]] = [
    ({"metric": "onnx_parity", "max": 1e-5}, False, 0.01, "onnx_parity on 1,000 rows is 0.01, above the most that passes, 1e-05; 2 labels differ"),
    ({"metric": "onnx_label_flips", "max": 2}, True, 2, "onnx_label_flips on 1,000 rows is 2, at most 2; the largest difference is 0.01"),
    ({"metric": "onnx_label_flips", "max": 0}, False, 2, "onnx_label_flips on 1,000 rows is 2, above the most that passes, 0; the largest difference is 0.01"),
    ({"metric": "onnx_parity_share", "tolerance": 1e-5, "max": 0.05}, True, 0.029,
     "the share of 1,000 rows that differ by more than 1e-05 between native and ONNX is 0.029, at most 0.05; the largest difference is 0.01; 2 labels differ"),
    ({"metric": "onnx_parity_share", "tolerance": 0.02, "max": 0}, True, 0.0,
     "the share of 1,000 rows that differ by more than 0.02 between native and ONNX is 0, at most 0; the largest difference is 0.01; 2 labels differ"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "passed", "value", "reason"), PARITY, ids=[f"{g} {p}" for g, p, *_ in PARITY])
def test_a_gate_on_parity_says_what_differs(
    context: Context, given: dict[str, Any], passed: bool, value: float, reason: str
) -> None:
    found = verdict(context, parity_inputs(context), **given)
    assert (found["passed"], found["value"], found["reason"], found["rows"]) == (passed, value, reason, 1000)


# -- latency and memory -----------------------------------------------------------------------------------------


def model_inputs(context: Context, model: bytes, table: pa.Table = TABLE) -> dict[str, Artifact]:
    signature = context.put_json({"categories": {}})
    return {"model": context.put_bytes(model, "onnx"), "table": context.put_table(table), "signature": signature}


@pytest.mark.parametrize("metric", ["latency_p50_ms", "latency_p99_ms"])
def test_a_latency_has_the_machine_that_it_was_measured_on(context: Context, metric: str) -> None:
    found = verdict(context, model_inputs(context, probability_is_x()), metric=metric, max=1000)
    assert found["passed"]
    assert found["measured"] is True
    assert found["machine"] == machine()
    assert found["latencies"]["latency_p50_ms"] <= found["latencies"]["latency_p99_ms"]
    assert found["value"] == found["latencies"][metric] > 0
    assert "(measured: 1,000 requests of one row, one after the other)" in found["reason"]


def test_the_machine_is_this_one() -> None:
    found = machine()
    assert found["cpu"]
    assert 1 <= found["cores_usable"] <= found["cores"] == os.cpu_count()
    assert found["memory"] > 2**20


def test_a_model_of_many_weights_needs_that_much_more_memory(context: Context) -> None:
    """A weight of 80 MB shows, whatever this process has; and the limit decides."""
    small = verdict(context, model_inputs(context, probability_is_x()), metric="peak_memory_mb", max=2000)
    large = verdict(context, model_inputs(context, heavy(20_000_000)), metric="peak_memory_mb", max=small["value"] + 40)
    assert small["passed"]
    assert not large["passed"]
    assert large["value"] - small["value"] > 75
    assert (small["rows"], small["machine"], small["measured"]) == (500, machine(), True)
    assert small["memory_mb"]["before"] <= small["memory_mb"]["loaded"] <= small["memory_mb"]["peak"] == small["value"]
    assert "a process of its own, 500 rows in requests of 256" in small["reason"]


def test_what_this_process_holds_is_not_in_it(context: Context) -> None:
    inputs = model_inputs(context, probability_is_x())
    model = context.store.require(inputs["model"].digest)
    before = measured(model, TABLE.select(["x"]))["peak"]
    held = np.ones(40_000_000)
    assert measured(model, TABLE.select(["x"]))["peak"] - before < held.nbytes / 10


def test_altered_bytes_are_not_measured(context: Context) -> None:
    inputs = model_inputs(context, probability_is_x())
    path = context.store.require(inputs["model"].digest)
    path.chmod(0o644)
    path.write_bytes(probability_is_x(0.5))
    for metric in ("peak_memory_mb", "latency_p99_ms"):
        with pytest.raises(DigestMismatch):
            verdict(context, inputs, metric=metric, max=1)


@pytest.mark.parametrize("metric", ["peak_memory_mb", "latency_p99_ms"])
def test_without_rows_there_is_nothing_to_measure(context: Context, metric: str) -> None:
    with pytest.raises(StepFailed, match="the evaluation data has no rows"):
        verdict(context, model_inputs(context, probability_is_x(), TABLE.slice(0, 0)), metric=metric, max=1)


def test_a_process_that_ends_badly_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    (tmp_path / "no.onnx").write_bytes(b"no model")
    with pytest.raises(StepFailed) as raised:
        measured(tmp_path / "no.onnx", TABLE.select(["x"]))
    assert raised.value.fact.startswith("the process that measures memory ended with 1: ")
