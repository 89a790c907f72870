"""Objects of the lake -> one Arrow table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from engine.errors import DataUnreadable
from engine.steps.context import Context
from engine.steps.model import Inputs, Outputs

GZIP = b"\x1f\x8b"


def run(_: Inputs, params: Mapping[str, Any], context: Context) -> Outputs:
    """Read every file of a source, in the order of their paths, as one table.

    Raises:
        DigestMismatch: when an object is not what was pinned.
        DataUnreadable: when a file is not of its format, or its columns do not fit the others'.
    """
    read = READERS[params["format"]]
    tables = []
    for path, digest in params["files"]:
        tables.append(readable(read, context.store.check(digest), path))
        context.log(f"{path}: {tables[-1].num_rows:,} rows")
    paths = [path for path, _ in params["files"]]
    for line in absences(tables, paths):
        context.log(f"warning: {line}")
    return Outputs(artifacts={"table": context.put_table(concatenated(tables, paths))})


def absences(tables: list[pa.Table], paths: list[str]) -> Iterator[str]:
    """A line for every file that lacks a column which another has."""
    every = dict.fromkeys(name for table in tables for name in table.column_names)
    for path, table in zip(paths, tables, strict=True):
        absent = [name for name in every if name not in table.column_names]
        if absent:
            yield f"{path} has no {', '.join(absent)}; null in its {table.num_rows:,} rows"


def readable(read: Callable[[pa.Buffer], pa.Table], data: memoryview, path: str) -> pa.Table:
    """One file as a table."""
    try:
        return normal(read(pa.py_buffer(data)))
    except (pa.ArrowInvalid, pa.ArrowKeyError, pa.ArrowNotImplementedError, OSError, UnicodeDecodeError) as error:
        hint = "write the format that it has as `format:`, or mend the file"
        reason = str(error).splitlines()[0][:200]
        raise DataUnreadable(f"{path} cannot be read: {reason}", place=path, hint=hint) from error


def concatenated(tables: list[pa.Table], paths: list[str]) -> pa.Table:
    """The rows of all tables; numbers are widened, absent columns are null."""
    if len(tables) == 1:
        return tables[0]
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        fact = f"the columns of {paths[0]} ... {paths[-1]} do not fit together: {str(error).splitlines()[0]}"
        raise DataUnreadable(fact, hint="give the files the same columns and types") from error


def normal(table: pa.Table) -> pa.Table:
    """The table with plain strings: no dictionaries, no large or view types."""
    fields = [pa.field(field.name, normal_type(field.type)) for field in table.schema]
    return table.cast(pa.schema(fields))


def normal_type(kind: pa.DataType) -> pa.DataType:
    """The plain type for a column."""
    if pa.types.is_dictionary(kind):
        return normal_type(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    return kind


def read_csv(data: pa.Buffer) -> pa.Table:
    """CSV with a header, also gzipped; types are inferred on one thread, so that they are the same each time."""
    compression = "gzip" if bytes(memoryview(data)[:2]) == GZIP else None
    with pa.input_stream(pa.BufferReader(data), compression=compression) as stream:
        return pyarrow.csv.read_csv(stream, read_options=pyarrow.csv.ReadOptions(use_threads=False))


def read_parquet(data: pa.Buffer) -> pa.Table:
    """Parquet."""
    return pyarrow.parquet.read_table(pa.BufferReader(data), use_threads=False)


def read_arrow(data: pa.Buffer) -> pa.Table:
    """Arrow IPC, as a file or as a stream."""
    try:
        return pa.ipc.open_file(pa.BufferReader(data)).read_all()
    except pa.ArrowInvalid:
        return pa.ipc.open_stream(pa.BufferReader(data)).read_all()


def read_jsonl(data: pa.Buffer) -> pa.Table:
    """JSON, an object a line."""
    return pyarrow.json.read_json(pa.BufferReader(data), read_options=pyarrow.json.ReadOptions(use_threads=False))


READERS: Mapping[str, Callable[[pa.Buffer], pa.Table]] = {
    "csv": read_csv,
    "parquet": read_parquet,
    "arrow": read_arrow,
    "jsonl": read_jsonl,
}
