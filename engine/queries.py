"""What the SELECT of a transform may be, and which columns it gives: judged by DuckDB, before anything runs.

A query is judged by its syntax tree, as DuckDB itself has it: it may read ``{source}`` and its own common table
expressions, and call functions that say the same each time. Then it is bound to the columns of a table, of which not a
row is read. The same words are said of it by ``engine validate`` and by the step that runs it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from functools import cache
from typing import TYPE_CHECKING, Any

from engine.errors import suggestion
from engine.plugins import PluginFailed

if TYPE_CHECKING:
    import duckdb

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
UNKNOWN = ""
"""Stands for the type of a column of which only the name is known."""


class ColumnAbsent(PluginFailed):
    """The query reads a column that is not there."""


def sql_of(query: str) -> str:
    """The query with the source's name in place of ``{source}``, and nothing else changed."""
    return query.replace(PLACEHOLDER, f'"{SOURCE}"')


def opened(threads: int = 1) -> duckdb.DuckDBPyConnection:
    """A database in memory that reaches nothing else."""
    import duckdb

    return duckdb.connect(":memory:", config={**CLOSED, "threads": threads})


def result_of(query: str, columns: Mapping[str, str]) -> dict[str, str]:
    """The columns that a query gives, with DuckDB's types, over a table with these.

    Args:
        columns: by name DuckDB's type of each; :data:`UNKNOWN` where only the name is known.

    Raises:
        ColumnAbsent: for a column that the table does not have.
        PluginFailed: with what DuckDB says of the query, or why it is refused.
    """
    import duckdb

    with closing(opened()) as connection:
        try:
            checked(connection, query, columns)
            connection.execute("set lock_configuration = true")
            connection.execute(f'create view "{SOURCE}" as select {", ".join(map(column, columns.items()))}')
            relation = connection.sql(sql_of(query))
            return {name: str(kind) for name, kind in zip(relation.columns, relation.types, strict=True)}
        except duckdb.Error as error:
            raise translated(error, columns) from error


def require_query(query: str) -> None:
    """Judge a query of whose table nothing is known.

    Raises:
        PluginFailed: with what DuckDB says of its syntax, or why it is refused.
    """
    import duckdb

    with closing(opened()) as connection:
        try:
            checked(connection, query, ())
        except duckdb.Error as error:
            raise translated(error, ()) from error


def column(named: tuple[str, str]) -> str:
    """A column without values. One of unknown type is null, which goes with every function."""
    name, kind = named
    quoted = '"' + name.replace('"', '""') + '"'
    return f"cast(null as {kind}) as {quoted}" if kind else f"null as {quoted}"


# -- judging -------------------------------------------------------------------------------------------


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
    import duckdb

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
    for node in walk(tree):
        name = unsteady_name(node, {column.lower() for column in columns})
        if name:
            hint = "put such values into the data, so that the same data gives the same result"
            raise PluginFailed(f"{name} is refused: it differs from run to run", hint=hint, key=KEY)
        sample = node.get("sample")
        if isinstance(sample, dict) and not sample.get("repeatable"):
            hint = "add `repeatable (SEED)`"
            raise PluginFailed("a sample without a seed is refused: it differs from run to run", hint=hint, key=KEY)


def unsteady_name(node: Node, columns: set[str]) -> str:
    """The unsteady function that a node calls, or nothing."""
    if node.get("class") == "FUNCTION":
        name = str(node["function_name"]).lower()
        if name in unsteady_functions() or (name == "age" and len(node["arguments"]) == 1):
            return f"{name}()"
    if node.get("class") == "COLUMN_REF":
        name = str(node["column_names"][-1]).lower()
        if len(node["column_names"]) == 1 and name in BARE - columns:
            return name
    return ""


@cache
def unsteady_functions() -> frozenset[str]:
    """What this DuckDB calls volatile or the same within one query only, and what we know beside it."""
    with closing(opened()) as connection:
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


def translated(error: duckdb.Error, columns: Iterable[str]) -> PluginFailed:
    """What DuckDB says of a query, in one line, with the nearest column when one is missing."""
    text = str(error).strip().replace(f'"{SOURCE}"', PLACEHOLDER)
    fact = text.splitlines()[0].partition(" Error: ")[2] or text.splitlines()[0]
    quoted = fact.split('"')
    if fact.startswith("Referenced column") and len(quoted) > 1:
        name = quoted[1]
        fact = f'the query reads a column "{name}" that is not there'
        return ColumnAbsent(fact, hint=suggestion(name, columns), key=KEY)
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
