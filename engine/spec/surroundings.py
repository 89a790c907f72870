"""What a spec stands in, as far as it can be read without running anything: plugins' source, schemas, variables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from engine.classes import parameters_of
from engine.errors import EngineError, Place, Problem
from engine.plugins import Description, Kind, describe, find, names
from engine.spec.model import KeyPath, Spec
from engine.spec.positions import Layer, Positions, Spot, read, scan
from engine.spec.project import source_roots
from engine.spec.vocabulary import METRICS

Asked = tuple[Kind, str]
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
class Surroundings:
    """Everything outside the spec that its checks look at."""

    plugins: Mapping[Asked, Description | EngineError]
    schemas: Mapping[str, SchemaFile]
    metrics: tuple[str, ...]
    variables: frozenset[str]
    classes: Mapping[str, tuple[str, ...] | EngineError | None] = field(default_factory=dict)


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


def survey(spec: Spec, folder: Path, root: Path, environment: Mapping[str, str], shown: Path = Path()) -> Surroundings:
    """Read what the checks of ``spec`` need.

    Args:
        folder: the spec's own; ``root`` is the project's.
        shown: how messages name ``folder``.
    """
    schemas = {name: source.schema_ for name, source in spec.data.items() if source.schema_}
    plugins = {asked: look_up(asked, root) for asked in plugins_of(spec)}
    trainer = plugins["trainer", spec.train.uses]
    named = constructed(trainer, (), spec.train.with_) if isinstance(trainer, Description) else ()
    return Surroundings(
        plugins=plugins,
        classes={one.name: look_into(one.name, root) for one in named},
        schemas={name: read_schema(schema, folder, shown) for name, schema in schemas.items()},
        metrics=tuple(sorted({*METRICS, *names("metric")})),
        variables=frozenset(environment),
    )


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
