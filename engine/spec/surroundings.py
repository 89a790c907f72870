"""What a spec stands in, as far as it can be read without running anything: plugins' source, schemas, variables."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

from engine.classes import parameters_of
from engine.errors import EngineError, Place, Problem, Suggestion
from engine.plugins import Description, Kind, PluginFailed, describe, find, names
from engine.queries import KEY, PLACEHOLDER, UNKNOWN, ColumnAbsent, require_query, result_of
from engine.spec.grounds import Shelf
from engine.spec.model import KeyPath, Spec
from engine.spec.positions import Layer, Positions, Spot, read, scan
from engine.spec.project import source_roots
from engine.spec.vocabulary import METRICS

Asked = tuple[Kind, str]
Table = Mapping[str, str]
"""The columns of a table with DuckDB's types, :data:`engine.queries.UNKNOWN` where only the name is known."""

SQL_TYPES: Mapping[str, str] = {
    **dict.fromkeys(("bool", "boolean"), "BOOLEAN"),
    **dict.fromkeys(("int", "integer", "int64", "Int64"), "BIGINT"),
    **{
        f"{start}nt{bits}": kind for start in "iI" for bits, kind in ((8, "TINYINT"), (16, "SMALLINT"), (32, "INTEGER"))
    },
    **{
        f"{start}nt{bits}": kind
        for start in ("ui", "UI")
        for bits, kind in ((8, "UTINYINT"), (16, "USMALLINT"), (32, "UINTEGER"), (64, "UBIGINT"))
    },
    **dict.fromkeys(("float", "float64", "Float64", "double"), "DOUBLE"),
    **dict.fromkeys(("float32", "Float32"), "FLOAT"),
    **dict.fromkeys(("str", "string", "category"), "VARCHAR"),
    "date": "DATE",
}
"""How DuckDB reads the columns of a schema's data types, where that is sure."""

CLASS, PARAMETERS = "ClassName", "ClassParameters"  # the annotations of `engine.plugins`
NOT_YAML = frozenset({"yaml-syntax", "yaml-size", "yaml-depth", "yaml-key", "yaml-boolean-key", "yaml-duplicate-key"})
"""The rules of a spec's form that a schema's file keeps as well."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SchemaFile:
    """A data schema as written: its columns (``None`` when it does not list them), or why it cannot be read.

    Attributes:
        file: how messages name it; empty when it is in the spec itself.
        problems: what is wrong with the file as YAML.
        known: the files that are there, when it is not.
    """

    content: Mapping[str, Any]
    columns: tuple[str, ...] | None = None
    complaint: str = ""
    file: str = ""
    positions: Positions = Positions()
    problems: tuple[Problem, ...] = ()
    known: tuple[str, ...] = ()

    def place(self, path: KeyPath, at: Literal["key", "value"] = "key") -> Place | None:
        """Where a key of the schema is changed; ``None`` when that is in the spec."""
        return self.positions.place(path, at) if self.file else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """What a transform's query gives over one source, ``None`` where that cannot be told, or why it cannot run."""

    columns: Table | None = None
    error: PluginFailed | None = None


Queries = Mapping[tuple[int, str], Query]
"""By the transform's place in the spec and the source."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Surroundings:
    """Everything outside the spec that its checks look at."""

    plugins: Mapping[Asked, Description | EngineError]
    schemas: Mapping[str, SchemaFile]
    metrics: tuple[str, ...]
    variables: frozenset[str]
    classes: Mapping[str, tuple[str, ...] | EngineError | None] = field(default_factory=dict)
    tables: Mapping[str, Table | None] = field(default_factory=dict)
    queries: Queries = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Constructed:
    """A class that is named below ``path`` under the key ``named``, and what it is given under ``given``."""

    path: KeyPath
    named: str
    given: str
    values: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The class's name, as it is written."""
        return str(self.values[self.named])

    @property
    def parameters(self) -> Mapping[str, Any]:
        """What the constructor is given."""
        found = self.values.get(self.given)
        return found if isinstance(found, Mapping) else {}


def constructed(described: Description, path: KeyPath, values: Mapping[str, Any]) -> Iterator[Constructed]:
    """The classes that a component's parameters name, and those among what these are given."""
    keys = {
        kind: parameter.name
        for parameter in described.parameters
        for kind in (CLASS, PARAMETERS)
        if parameter.annotation == kind
    }
    if keys.keys() == {CLASS, PARAMETERS}:
        yield from nested(Constructed(path=path, named=keys[CLASS], given=keys[PARAMETERS], values=values))


def nested(one: Constructed) -> Iterator[Constructed]:
    """A class, and those that are written as it is among its parameters: alone, or in a list."""
    if not isinstance(one.values.get(one.named), str):
        return
    yield one
    for name, value in one.parameters.items():
        items: list[tuple[KeyPath, Any]] = [((name,), value)]
        if isinstance(value, list | tuple):
            items = [((name, index), item) for index, item in enumerate(value)]
        for below, item in items:
            if isinstance(item, Mapping) and one.named in item and set(item) <= {one.named, one.given}:
                yield from nested(replace(one, path=(*one.path, one.given, *below), values=item))


def survey(
    spec: Spec,
    folder: Path,
    root: Path,
    environment: Mapping[str, str],
    shown: Path = Path(),
    shelf: Shelf | None = None,
) -> Surroundings:
    """Read what the checks of ``spec`` need.

    Args:
        folder: the spec's own; ``root`` is the project's.
        shown: how messages name ``folder``.
        shelf: where what was found out is kept.
    """
    named_schemas = {name: source.schema_ for name, source in spec.data.items() if source.schema_}
    schemas = {name: read_schema(schema, folder, shown) for name, schema in named_schemas.items()}
    plugins = {asked: look_up(asked, root) for asked in plugins_of(spec)}
    tables = {name: table_of(schema) for name, schema in schemas.items()}
    trainer = plugins["trainer", spec.train.uses]
    named = constructed(trainer, (), spec.train.with_) if isinstance(trainer, Description) else ()
    return Surroundings(
        plugins=plugins,
        classes={one.name: look_into(one.name, root) for one in named},
        schemas=schemas,
        tables=tables,
        queries=queries_of(spec, tables, shelf),
        metrics=tuple(sorted({*METRICS, *names("metric")})),
        variables=frozenset(environment),
    )


def table_of(schema: SchemaFile) -> Table | None:
    """The columns that a schema describes; ``None`` when it does not name them."""
    columns = schema.content.get("columns") if schema.columns else None
    if not isinstance(columns, Mapping) or any(
        isinstance(keys, Mapping) and keys.get("regex") for keys in columns.values()
    ):
        return None
    return {
        str(name): SQL_TYPES.get(str(keys.get("dtype")), UNKNOWN) if isinstance(keys, Mapping) else UNKNOWN
        for name, keys in columns.items()
    }


def queries_of(spec: Spec, tables: Mapping[str, Table | None], shelf: Shelf | None = None) -> Queries:
    """What each ``sql`` transform gives over each of its sources, one after the other.

    Args:
        tables: by source, the columns that its data has.
        shelf: where what was found out is kept: DuckDB takes as long to load as everything else.
    """
    found: dict[tuple[int, str], Query] = {}
    for source in spec.data:
        table = tables.get(source)
        for index, transform in enumerate(spec.transform):
            if source not in transform.data:
                continue
            query = transform.with_.get("query") if transform.uses == "sql" else None
            if not isinstance(query, str) or PLACEHOLDER not in query:
                table = None
                continue
            found[index, source] = bound_once(query, None if table is None else tuple(table.items()), shelf)
            table = found[index, source].columns
    return found


@cache
def bound_once(query: str, columns: tuple[tuple[str, str], ...] | None, shelf: Shelf | None) -> Query:
    """As :func:`bound`, from the shelf or this process: the sources of a spec mostly have the same columns."""
    question = ["query", query, None if columns is None else [list(column) for column in columns]]
    kept = shelf.take(question) if shelf else None
    with suppress(LookupError, TypeError, ValueError):
        if kept is not None:
            return query_from(kept)
    found = bound(query, None if columns is None else dict(columns))
    if shelf:
        shelf.put(question, json.dumps(document_of(found)).encode())
    return found


def document_of(query: Query) -> dict[str, Any]:
    """What was found out of a query as JSON."""
    error = query.error
    said = None if error is None else [isinstance(error, ColumnAbsent), error.fact, *hint_parts(error.hint)]
    return {"columns": None if query.columns is None else dict(query.columns), "error": said}


def hint_parts(hint: str) -> list[Any]:
    """A hint as JSON: its text, and for a suggestion the names behind it."""
    return [str(hint), list(getattr(hint, "known", ())), getattr(hint, "nearest", None)]


def query_from(document: Mapping[str, Any]) -> Query:
    """The query that :func:`document_of` wrote."""
    if document["error"] is None:
        return Query(columns=document["columns"])
    is_absent, fact, *hint = document["error"]
    kind = ColumnAbsent if is_absent else PluginFailed
    return Query(error=kind(fact, hint=Suggestion(*hint), key=KEY))


def bound(query: str, table: Table | None) -> Query:
    """A query over a table. Where a column's type is not known, only what is said without it counts."""
    try:
        if table is None:
            require_query(query)
            return Query()
        return Query(columns=result_of(query, table))
    except PluginFailed as error:
        is_sure = table is None or UNKNOWN not in table.values() or isinstance(error, ColumnAbsent)
        return Query(error=error) if is_sure else bound(query, None)


def plugins_of(spec: Spec) -> Iterator[Asked]:
    """Every component that a spec names."""
    yield "trainer", spec.train.uses
    for transform in spec.transform:
        yield "transform", transform.uses
    for detector in spec.monitor.detectors if spec.monitor else ():
        yield "detector", detector.uses
    for metric in spec.evaluate.metrics:
        if ":" in metric:
            yield "metric", metric


def look_up(asked: Asked, root: Path) -> Description | EngineError:
    """What the source of a component says, or why it cannot be told."""
    kind, uses = asked
    try:
        return describe(find(kind, uses), source_roots(root))
    except EngineError as error:
        return error


def look_into(name: str, root: Path) -> tuple[str, ...] | EngineError | None:
    """What the constructor of a class takes, or why it cannot be told; ``None`` when it takes any."""
    try:
        return parameters_of(name, source_roots(root))
    except EngineError as error:
        return error


def read_schema(schema: str | Mapping[str, Any] | None, folder: Path, shown: Path = Path()) -> SchemaFile:
    """A schema given inline or as a file beside the spec, of which ``shown`` is how messages name the folder."""
    if isinstance(schema, Mapping):
        return understood(SchemaFile(content=schema))
    try:
        text = (folder / str(schema)).read_text(encoding="utf-8")
    except FileNotFoundError:
        known = tuple(
            str(Path(str(schema)).parent / path.name) for path in (folder / str(schema)).parent.glob("*.y*ml")
        )
        return SchemaFile(content={}, complaint=f'no schema file "{schema}" beside the spec', known=known)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        return SchemaFile(content={}, complaint=f'schema file "{schema}" cannot be read: {reason}')
    return read_schema_text(text, str(shown / str(schema)))


def read_schema_text(text: str, file: str) -> SchemaFile:
    """The schema that a file's text says, with what is wrong with it."""
    seen = scan(text, file)
    own = tuple(problem for problem in seen.problems if problem.rule in NOT_YAML)
    if own:
        return SchemaFile(content={}, file=file, problems=own)
    content = read(yaml.load, text)
    start = Positions(layers=(Layer(name=file, spots=seen.spots),))
    if not isinstance(content, Mapping):
        top = Positions(layers=(Layer(name=file, spots={(): Spot(key=(1, 1), value=(1, 1))}),))
        return SchemaFile(content={}, file=file, positions=top, complaint="the schema is not a mapping")
    return understood(SchemaFile(content=content, file=file, positions=start))


def understood(schema: SchemaFile) -> SchemaFile:
    """A schema with the columns that it lists."""
    columns = schema.content.get("columns")
    if columns is None:
        return schema
    if not isinstance(columns, Mapping):
        return replace(schema, complaint="the schema's `columns` is not a mapping of names to columns")
    return replace(schema, columns=tuple(str(name) for name in columns))
