"""What the ``sql`` transform computes, in which order, and what it does not let out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from engine.plugins import PluginFailed
from engine_plugins.sql.transform import SqlTransform

TABLE = pa.table(
    {
        "carrier": ["UA", "AA", "UA", None],
        "delay": [12.0, -3.0, 40.0, None],
        "flight": [5, 3, 9, 1],
        "code": pa.array(["x", "y", "x", "y"]).dictionary_encode(),
    }
)


def run(query: str, table: pa.Table = TABLE) -> pa.Table:
    return SqlTransform(query=query)(table)


def refusal(query: str) -> PluginFailed:
    with pytest.raises(PluginFailed) as caught:
        run(query)
    return caught.value


def test_a_projection_with_a_filter_keeps_the_order_of_rows() -> None:
    found = run("select flight, delay > 15 as late from {source} where delay is not null")
    assert found.to_pydict() == {"flight": [5, 3, 9], "late": [False, False, True]}


def test_a_long_list_in_a_filter_keeps_the_order_of_rows() -> None:
    rows = 20_000
    table = pa.table({"a": np.arange(rows)[::-1] % 1000, "i": np.arange(rows)})
    found = (
        run(f"select i from {{source}} where a in ({', '.join(map(str, range(500)))})", table).column("i").to_numpy()
    )
    assert len(found) == rows / 2
    assert (np.diff(found) > 0).all()


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("select carrier, count(*) as n from {source} group by carrier", [("AA", 1), ("UA", 2), (None, 1)]),
        ("select distinct code from {source}", [("x",), ("y",)]),
        ("select a.flight from {source} a join {source} b using (flight)", [(1,), (3,), (5,), (9,)]),
        ("select flight, row_number() over (order by delay) as r from {source}", [(1, 4), (3, 1), (5, 2), (9, 3)]),
        ("select flight from {source} union all select 0", [(0,), (1,), (3,), (5,), (9,)]),
    ],
)
def test_a_result_that_nothing_orders_is_sorted(query: str, rows: list[tuple[object, ...]]) -> None:
    assert [tuple(row.values()) for row in run(query).to_pylist()] == rows


def test_a_result_keeps_the_order_that_its_query_gives_it() -> None:
    found = run("select carrier, count(*) as n from {source} group by carrier order by n desc, carrier")
    assert found.column("carrier").to_pylist() == ["UA", "AA", None]


def test_the_order_of_the_input_does_not_change_a_sorted_result() -> None:
    query = "select carrier, code, count(*) as n from {source} group by all"
    assert run(query) == run(query, TABLE.take([3, 1, 0, 2]))


def test_only_the_placeholder_is_replaced() -> None:
    found = run("select '{other} {0}' as text, {'k': flight}.k as flight from {source} limit 1")
    assert found.to_pydict() == {"text": ["{other} {0}"], "flight": [5]}


@pytest.mark.parametrize(
    ("expression", "kind"),
    [
        ("code", pa.string()),
        ("upper(carrier)", pa.string()),
        ("sum(flight) over ()", pa.int64()),
        ("delay", pa.float64()),
        ("carrier::enum ('UA', 'AA')", pa.string()),
    ],
)
def test_columns_have_plain_types(expression: str, kind: pa.DataType) -> None:
    assert run(f"select {expression} as x from {{source}}").schema.field("x").type == kind


@pytest.mark.parametrize(
    ("query", "fact"),
    [
        ("select * from read_csv('/etc/passwd'), {source}", "the query reads from read_csv(...), which is refused"),
        ("select * from '/etc/passwd', {source}", 'the query reads "/etc/passwd", and only {source} is there'),
        ("select (select content from read_text('/etc/passwd')) from {source}", "read_text(...), which is refused"),
        ("select * from glob('/etc/*'), {source}", "the query reads from glob(...), which is refused"),
        ("select * from query('select random()'), {source}", "the query reads from query(...), which is refused"),
        ("select * from arrow_scan(1, 2, 3), {source}", "the query reads from arrow_scan(...), which is refused"),
        ("select * from duckdb_settings(), {source}", "the query reads from duckdb_settings(...), which is refused"),
        ("select * from information_schema.tables, {source}", 'the query reads "tables", and only {source} is there'),
        ("copy (select * from {source}) to 'out.csv'", "the query is COPY, not SELECT"),
        ("attach 'other.db' as {source}", "the query is ATTACH, not SELECT"),
        ("install httpfs; select * from {source}", "the query has 2 statements"),
        ("load {source}", "the query is LOAD, not SELECT"),
        ("set threads = 8; select * from {source}", "the query has 2 statements"),
        ("create table t as select * from {source}", "the query is CREATE, not SELECT"),
        ("select 1", "the query does not read {source}"),
    ],
)
def test_a_query_reaches_nothing_but_its_source(query: str, fact: str) -> None:
    error = refusal(query)
    assert fact in error.fact
    assert error.key == "with.query"


def test_a_query_leaves_no_file_behind(tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    refusal(f"copy (select * from {{source}}) to '{target}'")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "expression",
    [
        "random()",
        "now()",
        "today()",
        "current_date",
        "current_timestamp",
        "CURRENT_TIME",
        "localtimestamp",
        "uuid()",
        "gen_random_uuid()",
        "get_current_timestamp()",
        "setseed(0.1)",
        "age(timestamp '2013-01-01')",
        "ago(interval 1 day)",
        "current_setting('threads')",
        "list_transform([1], x -> random())",
        "(select max(random()))",
    ],
)
def test_what_differs_from_run_to_run_is_refused(expression: str) -> None:
    assert "is refused: it differs from run to run" in refusal(f"select {expression} as x from {{source}}").fact


def test_a_sample_needs_a_seed() -> None:
    assert "without a seed" in refusal("select * from {source} using sample 2 rows").fact
    assert run("select * from {source} tablesample reservoir(2 rows) repeatable (3)").num_rows == 2


def test_a_column_may_have_the_name_of_a_clock() -> None:
    assert run("select current_date from {source}", pa.table({"current_date": [4]})).to_pydict() == {
        "current_date": [4]
    }


def test_the_zone_of_the_machine_does_not_enter(monkeypatch: pytest.MonkeyPatch) -> None:
    query = "select (timestamptz '2013-01-01 00:00:00+00')::varchar as t from {source} limit 1"
    monkeypatch.setenv("TZ", "America/New_York")
    assert run(query).to_pydict() == {"t": ["2013-01-01 00:00:00+00"]}


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (
            "select dellay from {source}",
            'the query reads a column "dellay" that is not there; did you mean "delay"?',
        ),
        (
            "select uper(carrier) from {source}",
            'DuckDB: Scalar Function with name uper does not exist; did you mean "upper"?',
        ),
        ("select flight frm {source}", 'DuckDB: syntax error at or near "{source}"; look at `{source}`'),
        (
            "select carrier::int as n from {source}",
            "DuckDB: Could not convert string 'UA' to INT32 when casting from source column carrier; "
            "look at `::int as n from {source}`",
        ),
        (
            "select *, flight from {source}",
            'two columns of the result are called "flight"; name them apart with AS, or leave one out with EXCLUDE',
        ),
    ],
)
def test_a_wrong_query_is_told_in_one_line(query: str, message: str) -> None:
    error = refusal(query)
    assert str(error) == message
    assert error.key == "with.query"


def test_rows_may_be_none() -> None:
    found = run("select flight, carrier from {source} where flight > 100")
    assert found.num_rows == 0
    assert found.schema == pa.schema([("flight", pa.int64()), ("carrier", pa.string())])
