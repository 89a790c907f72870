"""What the lake says of a spec's data before anything runs: that it is there, and which columns its files have.

Nothing is read but where files say which columns they have: Parquet's footer, Arrow's schema, the header of CSV.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

from engine.errors import DataUnreadable, NotFound, Problem, suggestion
from engine.lake.listing import is_file, path_not_found
from engine.lake.protocol import Lake
from engine.lake.uri import LakeUri, parse
from engine.queries import UNKNOWN, ColumnAbsent
from engine.spec.checks import Finding, columns_not_in, placed, schemas_of
from engine.spec.load import LoadedSpec
from engine.spec.model import DataSource
from engine.spec.parse import Composed, shown
from engine.spec.positions import in_order
from engine.spec.surroundings import Queries, Surroundings, queries_of, survey
from engine.spec.vocabulary import format_of

MOST_FILES = 1000
LONGEST_REASON = 200
LONGEST_HEADER = 2**20
GZIP = b"\x1f\x8b"
Columns = tuple[str, ...]


def look_online(loaded: LoadedSpec, lake: Lake) -> list[Problem]:
    """Every source that is not in the lake now, and every column that its files do not have.

    Raises:
        LakeUnavailable, LakeDenied: when the lake cannot be asked.
    """
    surroundings = survey(loaded.spec, loaded.path.parent, loaded.root, {}, loaded.shown_folder)
    findings: list[Finding] = []
    columns: dict[str, Columns] = {}
    for name, source in loaded.spec.data.items():
        try:
            found = columns_of(source, lake)
        except NotFound as error:
            path = ("data", name, "uri")
            findings.append(Finding(rule="data-missing", path=path, fact=error.fact, hint=error.hint))
        except DataUnreadable as error:
            path = ("data", name, "uri")
            findings.append(Finding(rule="data-unreadable", path=path, fact=error.fact, hint=error.hint))
        else:
            columns |= {name: found} if found is not None else {}
    queries = queries_of(loaded.spec, {name: dict.fromkeys(found, UNKNOWN) for name, found in columns.items()})
    findings += columns_missing(loaded, columns, queries)
    findings += query_columns_missing(queries)
    findings += schema_columns_missing(loaded, surroundings, columns)
    return in_order([placed(finding, Composed(positions=loaded.positions)) for finding in findings])


def query_columns_missing(queries: Queries) -> Iterator[Finding]:
    """The columns that a transform's query reads and the files do not have."""
    said: set[tuple[int, str]] = set()
    for (index, source), query in queries.items():
        error = query.error
        if isinstance(error, ColumnAbsent) and (index, error.fact) not in said:
            said.add((index, error.fact))
            fact = f"{error.fact}: it is not in the files of {source} or in the transforms before"
            yield Finding(rule="column-missing", path=("transform", index, "with", "query"), fact=fact, hint=error.hint)


def columns_missing(loaded: LoadedSpec, columns: Mapping[str, Columns], queries: Queries) -> Iterator[Finding]:
    """The columns that the spec names and neither files nor transforms have."""
    for path, name, source in columns_not_in(loaded.spec, columns, queries):
        fact = f"no column {shown(name)} in the files of {source} or in its transforms"
        yield Finding(rule="column-missing", path=path, fact=fact, hint=suggestion(name, columns[source]))


def schema_columns_missing(
    loaded: LoadedSpec, surroundings: Surroundings, columns: Mapping[str, Columns]
) -> Iterator[Finding]:
    """The columns that a schema requires and the files do not have."""
    for source, schema in schemas_of(loaded.spec, surroundings):
        described = schema.content.get("columns") if schema.columns and source in columns else None
        for name, keys in described.items() if isinstance(described, Mapping) else ():
            said = keys if isinstance(keys, Mapping) else {}
            if name in columns[source] or said.get("required") is False or said.get("regex"):
                continue
            yield Finding(
                rule="column-missing",
                path=("data", source, "schema", "columns", str(name)),
                fact=f"no column {shown(str(name))} in the files of {source}",
                hint=suggestion(str(name), columns[source]),
                at="key",
                place=schema.place(("columns", str(name))),
            )


# -- reading columns ---------------------------------------------------------------------------------------


def columns_of(source: DataSource, lake: Lake) -> Columns | None:
    """The columns of a source's files, all of them together; ``None`` where they are not written in one place.

    Raises:
        NotFound: for a repository, ref or path that is not there.
        DataUnreadable: for a file that is not of its format.
    """
    uri = parse(source.uri)
    commit = lake.resolve(uri.repository, uri.ref)
    found: dict[str, None] = {}
    for path in paths_of(uri, commit, lake):
        read = READERS.get(source.format or format_of(path) or "")
        if read is None:
            return None
        try:
            found |= dict.fromkeys(read(LakeUri(repository=uri.repository, ref=commit, path=path), lake))
        except (ValueError, OSError) as error:  # what pyarrow raises is one of these
            reason = str(error).splitlines()[0].partition(". ")[0][:LONGEST_REASON]
            hint = "write the format that it has as `format:`, or mend the file"
            raise DataUnreadable(f"{path} cannot be read: {reason}", hint=hint) from error
    return tuple(found)


def paths_of(uri: LakeUri, commit: str, lake: Lake) -> list[str]:
    """The files that a URI names."""
    try:
        found = [lake.stat(uri.repository, commit, uri.path)] if is_file(uri) else list(listed(uri, commit, lake))
    except NotFound as error:
        raise path_not_found(uri, commit, lake) from error
    if not found:
        raise path_not_found(uri, commit, lake)
    return [entry.path for entry in found]


def listed(uri: LakeUri, commit: str, lake: Lake) -> Iterator[Any]:
    """The first files below a folder."""
    return islice(lake.list(uri.repository, commit, uri.path), MOST_FILES)


def parquet_columns(uri: LakeUri, lake: Lake) -> Columns:
    """The columns in the footer of a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    data = pa.py_buffer(lake.map(uri.repository, uri.ref, uri.path))
    return tuple(pq.read_schema(pa.BufferReader(data)).names)


def arrow_columns(uri: LakeUri, lake: Lake) -> Columns:
    """The columns in the schema of an Arrow file or stream."""
    import pyarrow as pa

    data = pa.py_buffer(lake.map(uri.repository, uri.ref, uri.path))
    try:
        return tuple(pa.ipc.open_file(pa.BufferReader(data)).schema.names)
    except pa.ArrowInvalid:
        return tuple(pa.ipc.open_stream(pa.BufferReader(data)).schema.names)


def csv_columns(uri: LakeUri, lake: Lake) -> Columns:
    """The header of a CSV file, gzipped or not."""
    with lake.open(uri.repository, uri.ref, uri.path) as stream:
        start = stream.read(LONGEST_HEADER)
    if start.startswith(GZIP):
        with gzip.GzipFile(fileobj=io.BytesIO(start)) as inner:
            start = unpacked(inner)
    rows = csv.reader(io.StringIO(start.decode("utf-8-sig", errors="replace")))
    return tuple(next(rows, []))


def unpacked(stream: gzip.GzipFile) -> bytes:
    """As much as can be unpacked of the beginning of a file."""
    pieces = []
    try:
        while piece := stream.read1(LONGEST_HEADER):
            pieces.append(piece)
    except EOFError:
        pass
    return b"".join(pieces)


READERS: Mapping[str, Callable[[LakeUri, Lake], Columns]] = {
    "parquet": parquet_columns,
    "arrow": arrow_columns,
    "csv": csv_columns,
}
