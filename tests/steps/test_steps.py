"""What steps do to real tables: ingest, validate, evaluate, judge."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

from engine.errors import StepFailed
from engine.steps import gate, ingest, validate
from engine.steps.compare import delong_error, difference
from engine.steps.context import Context
from engine.steps.metrics import Judged, compute, rank_auc
from engine.steps.model import Artifact, Inputs
from engine.steps.validate import Violations
from engine.store.objects import ObjectStore


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(store=ObjectStore(tmp_path / "objects"), home=tmp_path, run_id="r", step="s", log=lambda text: None)


TABLE = pa.table({"n": [1, 2, 3], "x": [0.5, None, 2.5], "s": ["a", "é", None], "b": [True, False, True]})


def as_csv(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pyarrow.csv.write_csv(table, sink)
    return sink.getvalue()


def as_parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def as_arrow(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pyarrow.feather.write_feather(table, sink, compression="uncompressed")
    return sink.getvalue()


def as_jsonl(table: pa.Table) -> bytes:
    return "\n".join(json.dumps(row) for row in table.to_pylist()).encode()


WRITERS: dict[str, Callable[[pa.Table], bytes]] = {
    "csv": as_csv, "parquet": as_parquet, "arrow": as_arrow, "jsonl": as_jsonl,
}  # fmt: skip


def ingested(context: Context, kind: str, *files: bytes) -> pa.Table:
    listed = [[f"{index}.{kind}", context.store.put(data)] for index, data in enumerate(files)]
    done = ingest.run(Inputs(), {"format": kind, "files": listed}, context)
    return context.table(done.artifacts["table"])


@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_gives_the_same_numbers(context: Context, kind: str) -> None:
    found = ingested(context, kind, WRITERS[kind](TABLE))
    assert found.column("n").to_pylist() == [1, 2, 3]
    assert found.column("x").to_pylist() == [0.5, None, 2.5]
    assert found.column("b").to_pylist() == [True, False, True]
    assert found.schema.field("s").type == pa.string()


@pytest.mark.parametrize("kind", WRITERS)
def test_a_folder_is_its_files_in_the_order_of_their_paths(context: Context, kind: str) -> None:
    found = ingested(context, kind, WRITERS[kind](TABLE), WRITERS[kind](TABLE.slice(0, 1)))
    assert found.column("n").to_pylist() == [1, 2, 3, 1]


def test_the_same_file_is_the_same_table_artifact(context: Context) -> None:
    data = as_csv(TABLE)
    runs = [
        ingest.run(Inputs(), {"format": "csv", "files": [["a.csv", context.store.put(data)]]}, context)
        for _ in range(2)
    ]
    assert runs[0].artifacts == runs[1].artifacts


@pytest.mark.parametrize("kind", WRITERS)
def test_garbage_is_named_by_its_path(context: Context, kind: str) -> None:
    with pytest.raises(StepFailed) as raised:
        ingested(context, kind, b"\x00\xff garbage")
    assert raised.value.place == f"0.{kind}"


def test_files_whose_columns_do_not_fit_are_refused(context: Context) -> None:
    with pytest.raises(StepFailed, match="do not fit together"):
        ingested(context, "parquet", as_parquet(TABLE), as_parquet(pa.table({"n": ["one"]})))


SCHEMA: dict[str, Any] = {
    "columns": {
        "n": {"dtype": "int64", "in_range": {"min_value": 1, "max_value": 2}},
        "x": {"dtype": "float64", "nullable": True},
        "s": {"dtype": "str", "nullable": True, "isin": ["a", "b"]},
        "b": {"dtype": "bool"},
    }
}


def validated(context: Context, schema: dict[str, Any], table: pa.Table) -> pa.Table:
    done = validate.run(Inputs(artifacts={"table": context.put_table(table)}), {"schema": schema}, context)
    return context.table(done.artifacts["table"])


def test_every_failure_case_is_collected_and_kept(context: Context) -> None:
    with pytest.raises(Violations) as raised:
        validated(context, SCHEMA, TABLE)
    cases = context.table(raised.value.failures).to_pylist()
    assert {(case["column"], case["failure_case"], case["row"]) for case in cases} == {("n", "3", 2), ("s", "é", 1)}
    assert "2 failure cases in 3 rows" in raised.value.fact
    assert "in_range(1, 2)" in raised.value.details


def test_integers_that_may_be_null_are_checked_as_integers(context: Context) -> None:
    table = pa.table({"n": pa.array([1, None, 3], pa.int64())})
    found = validated(context, {"columns": {"n": {"dtype": "int64", "nullable": True, "greater_than": 0}}}, table)
    assert found.schema.field("n").type == pa.int64()
    with pytest.raises(Violations):
        validated(context, {"columns": {"n": {"dtype": "int64"}}}, table)


def test_a_missing_column_is_a_failure_case(context: Context) -> None:
    with pytest.raises(Violations, match="1 failure case in 3 rows; the worst: column zzz, is not in the data"):
        validated(context, {"columns": {"zzz": {"dtype": "int64"}}}, TABLE)


@pytest.mark.parametrize("schema", [{"columns": {"n": {"dtype": "nonsense"}}}])
def test_a_schema_that_pandera_does_not_know_is_refused(context: Context, schema: dict[str, Any]) -> None:
    with pytest.raises(StepFailed, match="pandera does not accept this schema"):
        validated(context, schema, TABLE)


# -- judging ---------------------------------------------------------------------------------------------------


def gate_of(**given: Any) -> dict[str, Any]:
    base = dict.fromkeys(("min", "max", "between", "baseline", "max_drop", "min_gain", "slice", "on_missing"))
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
    ({"max": 1, "slice": "g", "min_rows": 20}, True, "all 2 slices pass; the worst: mae for g b (30 rows) is 0.6, at most 1; 1 smaller ones were not judged"),
    ({"max": 0.1, "slice": "g", "min_rows": 20}, False, "mae for g b (30 rows) is 0.6, above the most that passes, 0.1; 2 of 2 slices fail; 1 smaller ones were not judged"),
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


def binary(rows: int, lift: float, seed: int = 0) -> Judged:
    """A model whose scores are better the larger ``lift`` is; the truth is the same for one seed."""
    true = np.random.default_rng(seed).integers(0, 2, rows)
    score = 1 / (1 + np.exp(-(lift * true + np.random.default_rng(seed + int(lift * 100)).normal(size=rows))))
    return Judged(task="binary", true=true, label=(score > 0.5).astype(int), score=score, classes=2)


def test_ranks_give_the_auc_of_scikit_learn_with_ties() -> None:
    true = np.random.default_rng(1).integers(0, 2, 500)
    score = np.round(np.random.default_rng(2).random(500), 1)
    assert rank_auc(true, score) == pytest.approx(roc_auc_score(true, score), abs=1e-12)


def test_delongs_error_of_equal_models_is_nothing() -> None:
    judged = binary(400, 1.0)
    assert delong_error(judged.true, judged.score, judged.score) == 0.0


def test_delongs_error_is_that_of_the_bootstrap() -> None:
    ours, theirs = binary(2000, 1.0), binary(2000, 1.3)
    random = np.random.default_rng(5)
    gains = []
    for _ in range(400):
        rows = random.integers(0, 2000, 2000)
        gains.append(rank_auc(ours.true[rows], ours.score[rows]) - rank_auc(theirs.true[rows], theirs.score[rows]))
    assert delong_error(ours.true, ours.score, theirs.score) == pytest.approx(np.std(gains), rel=0.15)


@pytest.mark.parametrize("metric", ["roc_auc", "accuracy", "brier"])
def test_the_bound_lies_below_the_gain_and_a_better_model_gains(metric: str) -> None:
    found = difference(metric, binary(3000, 2.0), binary(3000, 0.5), 0.95)
    assert found is not None
    assert 0 < found.bound < found.gain


@pytest.mark.parametrize("metric", ["roc_auc", "average_precision"])
def test_a_metric_that_needs_both_classes_is_not_defined_on_one(metric: str) -> None:
    judged = Judged(task="binary", true=np.ones(5, int), label=np.ones(5, int), score=np.ones(5), classes=2)
    assert compute(metric, judged) is None


def test_an_artifact_of_another_length_is_not_opened(context: Context) -> None:
    table = context.put_table(TABLE)
    with pytest.raises(Exception, match="not what was recorded"):
        context.table(Artifact(digest=table.digest, media="table", size=table.size + 1))
