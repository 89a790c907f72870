"""Files of the lake -> one table, whatever their format."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from engine.errors import DataUnreadable, DigestMismatch, SchemaViolated
from engine.spec.vocabulary import format_of
from engine.steps import ingest, validate
from engine.steps.context import Context
from engine.steps.model import Inputs
from engine.store.objects import ObjectStore

TABLE = pa.table(
    {"x": [1.5, 2.5, None], "n": pa.array([1, 2, 3], pa.int64()), "s": ["a", "b,c", "é"], "b": [True, False, True]}
)


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(store=ObjectStore(tmp_path / "objects"), home=tmp_path, run_id="", step="ingest", log=lambda _: None)


def csv(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pyarrow.csv.write_csv(table, sink)
    return sink.getvalue()


def parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def arrow(table: pa.Table, stream: bool = False) -> bytes:
    sink = io.BytesIO()
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def jsonl(table: pa.Table) -> bytes:
    import json

    return b"".join(json.dumps(row).encode() + b"\n" for row in table.to_pylist())


def read(context: Context, format: str, *files: bytes) -> pa.Table:
    """The table that ingesting ``files`` gives."""
    listed = [[f"{number:02}.{format}", context.store.put(data)] for number, data in enumerate(files)]
    done = ingest.run(Inputs(), {"format": format, "files": listed}, context)
    return context.table(done.artifacts["table"])


FORMATS: list[tuple[str, Callable[[pa.Table], bytes]]] = [
    ("csv", csv),
    ("parquet", parquet),
    ("arrow", arrow),
    ("arrow", lambda table: arrow(table, stream=True)),
    ("jsonl", jsonl),
]


@pytest.mark.parametrize(("format", "write"), FORMATS, ids=["csv", "parquet", "arrow", "arrow stream", "jsonl"])
def test_every_format_gives_the_same_table(context: Context, format: str, write: Callable[[pa.Table], bytes]) -> None:
    assert read(context, format, write(TABLE)).equals(TABLE)


@pytest.mark.parametrize(("format", "write"), FORMATS)
def test_a_folder_is_the_rows_of_its_files_in_the_order_of_their_paths(
    context: Context, format: str, write: Callable[[pa.Table], bytes]
) -> None:
    parts = [write(TABLE.slice(start, 1)) for start in (2, 0, 1)]
    assert read(context, format, *parts).column("n").to_pylist() == [3, 1, 2]


@pytest.mark.parametrize("format", ["csv", "parquet", "arrow", "jsonl"])
def test_a_file_that_is_not_what_its_name_says_is_named(context: Context, format: str) -> None:
    with pytest.raises(DataUnreadable) as raised:
        read(context, format, b'\x00\xff\x00garbage "{[\n')
    assert raised.value.place == f"00.{format}"
    assert raised.value.hint


def test_an_empty_file_is_named(context: Context) -> None:
    for format in ("csv", "parquet", "arrow", "jsonl"):
        with pytest.raises(DataUnreadable):
            read(context, format, b"")


def test_a_header_without_rows_is_a_table_without_rows(context: Context) -> None:
    assert read(context, "csv", b"a,b\n").num_rows == 0


def test_an_altered_object_is_refused(context: Context) -> None:
    digest = context.store.put(csv(TABLE))
    path = context.store.require(digest)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b"1.5", b"9.5"))
    with pytest.raises(DigestMismatch):
        ingest.run(Inputs(), {"format": "csv", "files": [["a.csv", digest]]}, context)


def test_numbers_of_several_files_are_widened(context: Context) -> None:
    assert read(context, "csv", b"a\n1\n", b"a\n1.5\n").column("a").to_pylist() == [1.0, 1.5]


TWO_AND_NONE = (b"a,b,c\n1,2,3\n", b"a\n3\n4\n")


def test_a_column_that_a_file_lacks_is_null_there(context: Context) -> None:
    assert read(context, "csv", *TWO_AND_NONE).column("b").to_pylist() == [2, None, None]


def test_a_file_that_lacks_columns_is_named_in_the_log(context: Context) -> None:
    said: list[str] = []
    read(replace(context, log=said.append), "csv", *TWO_AND_NONE, TWO_AND_NONE[0])
    assert [line for line in said if "warning" in line] == ["warning: 01.csv has no b, c; null in its 2 rows"]


def test_a_column_that_a_file_lacks_breaks_a_schema_that_allows_no_null(context: Context) -> None:
    table = context.put_table(read(context, "csv", *TWO_AND_NONE))
    with pytest.raises(SchemaViolated, match="in 3 rows; the worst: column b, not_nullable"):
        validate.run(Inputs(artifacts={"table": table}), {"schema": {"columns": {"b": {"dtype": "int64"}}}}, context)


def test_columns_that_do_not_fit_together_are_refused_with_the_files(context: Context) -> None:
    with pytest.raises(DataUnreadable, match=r"00\.csv \.\.\. 01\.csv"):
        read(context, "csv", b"a\n1\n", b"a\nx\n")


@pytest.mark.parametrize(
    "kind", [pa.dictionary(pa.int32(), pa.string()), pa.large_string(), pa.dictionary(pa.int8(), pa.large_string())]
)
def test_text_of_every_kind_becomes_plain_text(context: Context, kind: pa.DataType) -> None:
    table = pa.table({"s": pa.array(["a", "b", "a"]).cast(pa.string()).dictionary_encode().cast(kind)})
    found = read(context, "arrow", arrow(table))
    assert found.schema.field("s").type == pa.string()
    assert found.column("s").to_pylist() == ["a", "b", "a"]


def test_equal_tables_are_equal_bytes_whatever_their_batches_and_metadata(context: Context) -> None:
    several = pa.concat_tables([TABLE.slice(0, 1), TABLE.slice(1)]).replace_schema_metadata({"pandas": "{}"})
    assert context.put_table(TABLE) == context.put_table(several)


def test_a_table_of_another_length_than_was_recorded_is_not_opened(context: Context) -> None:
    table = context.put_table(TABLE)
    with pytest.raises(DigestMismatch):
        context.table(replace(table, size=table.size + 1))


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("a.csv", "csv"), ("a.CSV", "csv"), ("a.csv.gz", "csv"), ("a.pq", "parquet"), ("a.feather", "arrow"),
        ("a.ndjson", "jsonl"), ("a.xlsx", None), ("csv", None), ("", None),
    ],
)  # fmt: skip
def test_the_format_is_told_from_the_name(name: str, format: str | None) -> None:
    assert format_of(name) == format


def test_gzipped_csv_is_read_as_csv(context: Context) -> None:
    assert read(context, "csv", gzip.compress(csv(TABLE))).equals(TABLE)
