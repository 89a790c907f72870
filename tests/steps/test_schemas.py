"""Data against its schema: every failure case is kept, the worst is shown, and what passes is passed on unchanged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from engine.errors import StepFailed
from engine.execute.boundary import failure_artifacts
from engine.steps import validate
from engine.steps.context import Context
from engine.steps.model import Inputs
from engine.steps.validate import Violations
from engine.store.objects import ObjectStore

TABLE = pa.table({"n": [1, 2, 3, 4], "x": [0.5, 1.5, None, 2.5], "s": ["a", "b", "a", "c"]})


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(store=ObjectStore(tmp_path / "objects"), home=tmp_path, run_id="", step="x", log=lambda _: None)


def checked(context: Context, table: pa.Table = TABLE, **columns: dict[str, Any]) -> pa.Table:
    """What the step passes on."""
    params = {"schema": {"schema_type": "dataframe", "columns": columns}}
    done = validate.run(Inputs(artifacts={"table": context.put_table(table)}), params, context)
    assert context.table(done.artifacts["failures"]).num_rows == 0
    return context.table(done.artifacts["table"])


GOOD: list[dict[str, dict[str, Any]]] = [
    {},
    {"n": {"dtype": "int64", "in_range": {"min_value": 1, "max_value": 4}}},
    {"x": {"dtype": "float64", "nullable": True, "greater_than": 0}},
    {"s": {"dtype": "str", "isin": ["a", "b", "c"]}},
    {"n": {"dtype": "int64", "nullable": True}},
    {"n": {"dtype": "int64", "unique": True}},
]


@pytest.mark.parametrize("columns", GOOD)
def test_a_table_that_keeps_its_schema_is_passed_on_unchanged(context: Context, columns: dict[str, Any]) -> None:
    assert checked(context, **columns).equals(TABLE)


BAD: list[tuple[dict[str, dict[str, Any]], list[tuple[str, str | None, int | None]]]] = [
    ({"n": {"dtype": "int64", "in_range": {"min_value": 2, "max_value": 3}}}, [("n", "1", 0), ("n", "4", 3)]),
    ({"s": {"dtype": "str", "isin": ["a", "b"]}}, [("s", "c", 3)]),
    ({"x": {"dtype": "float64", "nullable": False}}, [("x", None, 2)]),
    ({"s": {"dtype": "str", "unique": True}}, [("s", "a", 0), ("s", "a", 2)]),
    (
        {"n": {"dtype": "int64", "less_than": 4}, "s": {"dtype": "str", "isin": ["a", "b"]}},
        [("n", "4", 3), ("s", "c", 3)],
    ),
]


@pytest.mark.parametrize(("columns", "cases"), BAD)
def test_every_failure_case_is_kept_with_its_row(
    context: Context, columns: dict[str, Any], cases: list[tuple[str, str | None, int | None]]
) -> None:
    with pytest.raises(Violations) as raised:
        checked(context, **columns)
    kept = context.table(failure_artifacts(raised.value)["failures"])
    assert sorted((row["column"], row["failure_case"], row["row"]) for row in kept.to_pylist()) == cases


def test_the_worst_check_is_the_one_that_fails_most_often(context: Context) -> None:
    table = pa.table({"n": list(range(1000)), "s": ["a"] * 990 + ["z"] * 10})
    columns: dict[str, Any] = {"n": {"dtype": "int64", "less_than": 100}, "s": {"dtype": "str", "isin": ["a"]}}
    with pytest.raises(Violations) as raised:
        checked(context, table, **columns)
    assert raised.value.fact.startswith("910 failure cases in 1,000 rows; the worst: column n, less_than(100)")
    assert raised.value.details.splitlines()[1].startswith("n ")
    assert context.table(raised.value.failures).num_rows == 910


def test_a_column_of_another_type_is_a_failure(context: Context) -> None:
    with pytest.raises(Violations) as raised:
        checked(context, s={"dtype": "int64"})
    assert "column s" in raised.value.fact


def test_an_integer_column_with_nulls_stays_one_of_integers(context: Context) -> None:
    table = pa.table({"n": pa.array([2**53 + 1, None], pa.int64())})
    found = checked(context, table, n={"dtype": "int64", "nullable": True})
    assert found.equals(table)
    with pytest.raises(Violations, match="column n, not_nullable, null"):
        checked(context, table, n={"dtype": "int64"})


def test_a_missing_column_is_a_failure_case(context: Context) -> None:
    with pytest.raises(Violations, match="1 failure case in 4 rows; the worst: column zzz, is not in the data"):
        checked(context, zzz={"dtype": "int64"})


def test_an_empty_table_keeps_every_schema_of_its_columns(context: Context) -> None:
    assert checked(context, TABLE.slice(0, 0), n={"dtype": "int64", "greater_than": 5}).num_rows == 0


def test_coercion_changes_the_table_only_where_the_schema_says_so(context: Context) -> None:
    assert checked(context, n={"dtype": "float64", "coerce": True}).schema.field("n").type == pa.float64()


@pytest.mark.parametrize("columns", [{"n": {"dtype": "no-such-type"}}, {"n": {"dtype": 3.5}}])
def test_a_schema_that_means_nothing_is_refused_before_a_row_is_read(context: Context, columns: dict[str, Any]) -> None:
    with pytest.raises(StepFailed) as raised:
        checked(context, **columns)
    assert not isinstance(raised.value, Violations)
    assert raised.value.hint
