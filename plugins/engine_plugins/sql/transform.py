"""Transform ``sql``: one SELECT over ``{source}``, in a DuckDB that reaches nothing else.

The query is judged by its syntax tree before it runs (:mod:`engine.queries`). Then it runs in a database in memory,
without files, network, extensions or settings.
"""

from __future__ import annotations

from dataclasses import dataclass

import duckdb
import pyarrow as pa

from engine.plugins import PluginFailed
from engine.queries import KEY, SOURCE, checked, is_ordered, is_row_wise, opened, sql_of, translated


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
        connection = opened(self.threads)
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


# -- results ------------------------------------------------------------------------------------------


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
