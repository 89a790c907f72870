"""Transform ``sql``: one SELECT over ``{source}``, in a DuckDB that reaches nothing else.

The query is judged by its syntax tree, as DuckDB itself has it, before it runs: it may read ``{source}`` and its own
common table expressions, and call functions that say the same each time. Then it runs in a database in memory,
without files, network, extensions or settings.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import duckdb
import pyarrow as pa

from engine.errors import suggestion
from engine.plugins import PluginFailed

PLACEHOLDER = "{source}"
SOURCE = "source"
KEY = "with.query"
CLOSED: Mapping[str, str | bool | int] = {
    "enable_external_access": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,
    "preserve_insertion_order": True,
}
# What duckdb_functions() calls consistent though it is not, or lists under another name, and what runs other SQL.
UNSTEADY = frozenset(
    {
        "ago",
        "current_catalog",
        "current_date",
        "current_localtime",
        "current_localtimestamp",
        "current_role",
        "current_time",
        "current_timestamp",
        "current_user",
        "json_execute_serialized_sql",
        "localtime",
        "localtimestamp",
        "pg_conf_load_time",
        "pg_postmaster_start_time",
        "pg_sleep",
        "session_user",
        "user",
    }
)
# Raises when the data is not as expected, and otherwise says the same.
STEADY = frozenset({"error"})
# Names without parentheses that are functions unless a column is called so.
BARE = frozenset({"current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"})
TABLE_FUNCTIONS = frozenset({"generate_series", "json_each", "json_tree", "range", "repeat", "repeat_row", "unnest"})
# A node with any of these keys filled in gives rows in an order of its own.
REORDERING = ("group_expressions", "group_sets", "having", "qualify", "sample")

Node = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class SqlTransform:
    """Runs one SELECT in DuckDB over each source, which the query calls ``{source}``.

    Rows keep their order when the query only projects and filters; a result that nothing else orders is sorted by
    all its columns. ``threads``: with more than one the last bits of sums of floats may differ from run to run.
    """

    query: str
    threads: int = 1

    def __call__(self, table: pa.Table) -> pa.Table:
        """The query's result over ``table``, with plain Arrow types.

        Raises:
            PluginFailed: with what DuckDB says of the query, or why it is refused.
        """
        connection = duckdb.connect(":memory:", config={**CLOSED, "threads": self.threads})
        try:
            tree = checked(connection, self.query, table.column_names)
            ordered = is_ordered(tree) or is_row_wise(tree)
            close(connection, ordered)
            connection.register(SOURCE, table)
            return plain(fetched(connection, sql_of(self.query), ordered))
        except duckdb.Error as error:
            raise translated(error, table.column_names) from error
        finally:
            connection.close()


def sql_of(query: str) -> str:
    """The query with the source's name in place of ``{source}``, and nothing else changed."""
    return query.replace(PLACEHOLDER, f'"{SOURCE}"')


def close(connection: duckdb.DuckDBPyConnection, ordered: bool) -> None:
    """Lock the settings; where the order of rows counts, keep the optimizer from turning filters into joins."""
    if ordered:
        connection.execute("set disabled_optimizers = 'in_clause'")
    connection.execute("set TimeZone = 'UTC'")
    connection.execute("set lock_configuration = true")


def fetched(connection: duckdb.DuckDBPyConnection, sql: str, ordered: bool) -> pa.Table:
    """The result, sorted by all columns unless its order is its own.

    Raises:
        PluginFailed: when two of its columns have one name.
    """
    relation = connection.sql(sql)
    names = [name.lower() for name in relation.columns]
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
        hint = "name them apart with AS, or leave one out with EXCLUDE"
        raise PluginFailed(f'two columns of the result are called "{double[0]}"', hint=hint, key=KEY)
    return (relation if ordered else relation.order("ALL")).to_arrow_table()


# -- judging the query -------------------------------------------------------------------------------------------


def checked(connection: duckdb.DuckDBPyConnection, query: str, columns: Iterable[str]) -> Node:
    """The syntax tree of a query that may run.

    Raises:
        PluginFailed: for anything but one SELECT over the source with steady functions.
    """
    if PLACEHOLDER not in query:
        raise PluginFailed("the query does not read {source}", hint="write `select ... from {source}`", key=KEY)
    tree = parsed(connection, sql_of(query))
    require_known_tables(tree)
    require_steady(tree, set(columns))
    return tree


def parsed(connection: duckdb.DuckDBPyConnection, sql: str) -> Node:
    """The one SELECT of a query as DuckDB's syntax tree.

    Raises:
        PluginFailed: when it is another statement, or more than one.
    """
    statements = connection.extract_statements(sql)
    if len(statements) != 1:
        raise PluginFailed(f"the query has {len(statements)} statements", hint="write one SELECT", key=KEY)
    kind = statements[0].type
    if kind != duckdb.StatementType.SELECT:
        hint = "write one SELECT; a transform only reads {source}"
        raise PluginFailed(f"the query is {kind.name}, not SELECT", hint=hint, key=KEY)
    row = connection.execute("select json_serialize_sql(?)", [statements[0].query]).fetchone()
    try:
        document: Node = json.loads(row[0] if row else "{}")
    except RecursionError as error:
        hint = "name its parts in common table expressions"
        raise PluginFailed("the query is nested too deeply", hint=hint, key=KEY) from error
    if document.get("error"):
        fact = f"DuckDB cannot take this query apart: {document.get('error_message')}"
        raise PluginFailed(fact, hint="write a plain SELECT", key=KEY)
    return dict(document["statements"][0]["node"])


def walk(tree: Node) -> Iterator[Node]:
    """Every node of a syntax tree."""
    waiting: list[object] = [tree]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield value
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)


def require_known_tables(tree: Node) -> None:
    """Refuse tables other than the source and the query's own, and table functions that read something.

    Raises:
        PluginFailed: for the first of them.
    """
    own = {item["key"].lower() for node in walk(tree) for item in node.get("cte_map", {}).get("map", [])}
    for node in walk(tree):
        if node.get("type") == "BASE_TABLE":
            is_plain = not node.get("schema_name") and not node.get("catalog_name")
            if not is_plain or node["table_name"].lower() not in own | {SOURCE}:
                fact = f'the query reads "{node["table_name"]}", and only {{source}} is there'
                raise PluginFailed(fact, hint="write {source} in its place", key=KEY)
        if node.get("type") == "TABLE_FUNCTION":
            name = str(node.get("function", {}).get("function_name", "")).lower()
            if name not in TABLE_FUNCTIONS:
                hint = f"only {{source}} and {', '.join(sorted(TABLE_FUNCTIONS))} can stand after FROM"
                raise PluginFailed(f"the query reads from {name}(...), which is refused", hint=hint, key=KEY)


def require_steady(tree: Node, columns: set[str]) -> None:
    """Refuse functions and samples that differ from run to run.

    Raises:
        PluginFailed: for the first of them.
    """
    unsteady = unsteady_functions()
    for node in walk(tree):
        name = unsteady_name(node, unsteady, {column.lower() for column in columns})
        if name:
            hint = "put such values into the data, so that the same data gives the same result"
            raise PluginFailed(f"{name} is refused: it differs from run to run", hint=hint, key=KEY)
        sample = node.get("sample")
        if isinstance(sample, dict) and not sample.get("repeatable"):
            hint = "add `repeatable (SEED)`"
            raise PluginFailed("a sample without a seed is refused: it differs from run to run", hint=hint, key=KEY)


def unsteady_name(node: Node, unsteady: frozenset[str], columns: set[str]) -> str:
    """The unsteady function that a node calls, or nothing."""
    if node.get("class") == "FUNCTION":
        name = str(node["function_name"]).lower()
        if name in unsteady or (name == "age" and len(node["arguments"]) == 1):
            return f"{name}()"
    if node.get("class") == "COLUMN_REF":
        name = str(node["column_names"][-1]).lower()
        if len(node["column_names"]) == 1 and name in BARE - columns:
            return name
    return ""


@cache
def unsteady_functions() -> frozenset[str]:
    """What this DuckDB calls volatile or the same within one query only, and what we know beside it."""
    with duckdb.connect(":memory:", config=dict(CLOSED)) as connection:
        rows = connection.execute("select distinct function_name, stability from duckdb_functions()").fetchall()
    found = frozenset(str(name) for name, stability in rows if stability not in (None, "CONSISTENT"))
    return (found | UNSTEADY) - STEADY


def is_ordered(tree: Node) -> bool:
    """Whether the query orders its own result."""
    return any(item["type"] == "ORDER_MODIFIER" for item in tree.get("modifiers", []))


def is_row_wise(tree: Node) -> bool:
    """Whether each row of the result comes from one row of the source, in its order: a projection and a filter."""
    if tree.get("type") != "SELECT_NODE" or tree.get("aggregate_handling") != "STANDARD_HANDLING":
        return False
    if any(tree.get(key) for key in REORDERING) or tree.get("cte_map", {}).get("map"):
        return False
    if any(item["type"] == "DISTINCT_MODIFIER" for item in tree.get("modifiers", [])):
        return False
    table = tree.get("from_table") or {}
    is_source = table.get("type") == "BASE_TABLE" and not table.get("sample")
    return is_source and not any(node.get("class") in ("WINDOW", "SUBQUERY") for node in walk(tree))


# -- results and errors ------------------------------------------------------------------------------------------


def plain(table: pa.Table) -> pa.Table:
    """The table with plain types: text as string, whole numbers without end (sums) as int64 where they fit."""
    fields = [pa.field(field.name, plain_type(field.type)) for field in table.schema]
    try:
        return table.cast(pa.schema(fields))
    except pa.ArrowInvalid as error:
        fact = f"a whole number of the result does not fit into 64 bits: {error}"
        raise PluginFailed(fact, hint="cast it to double in the query", key=KEY) from error


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The plain type for a column."""
    if pa.types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        return plain_type(kind.storage_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_decimal(kind) and kind.scale == 0 and kind.precision == 38:
        return pa.int64()
    return kind


def translated(error: duckdb.Error, columns: Iterable[str]) -> PluginFailed:
    """What DuckDB says of a query, in one line, with the nearest column when one is missing."""
    text = str(error).strip().replace(f'"{SOURCE}"', PLACEHOLDER)
    fact = text.splitlines()[0].partition(" Error: ")[2] or text.splitlines()[0]
    quoted = fact.split('"')
    if fact.startswith("Referenced column") and len(quoted) > 1:
        name = quoted[1]
        return PluginFailed(
            f'the query reads a column "{name}" that is not there', hint=suggestion(name, columns), key=KEY
        )
    return PluginFailed(f"DuckDB: {fact.rstrip('!.')}", hint=hint_of(text), key=KEY)


def hint_of(text: str) -> str:
    """DuckDB's own suggestion, else where in the query it stopped."""
    lines = text.splitlines()
    for line in lines[1:]:
        if line.startswith("Did you mean"):
            return line.strip()[0].lower() + line.strip()[1:]
    shown = [index for index, line in enumerate(lines) if line.startswith("LINE ") and index + 1 < len(lines)]
    if shown:
        line, pointer = lines[shown[0]], lines[shown[0] + 1]
        return f"look at `{line[pointer.index('^') if '^' in pointer else 0 :].strip()[:60]}`"
    return "mend the query"
