"""What a spec stands in, as far as it can be read without running anything: plugins' source, schemas, variables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from engine.errors import EngineError
from engine.plugins import Description, Kind, describe, find, names
from engine.spec.model import Spec
from engine.spec.vocabulary import METRICS

Asked = tuple[Kind, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class SchemaFile:
    """A data schema as written: its columns (``None`` when it does not list them), or why it cannot be read."""

    content: Mapping[str, Any]
    columns: tuple[str, ...] | None = None
    complaint: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Surroundings:
    """Everything outside the spec that its checks look at."""

    plugins: Mapping[Asked, Description | EngineError]
    schemas: Mapping[str, SchemaFile]
    metrics: tuple[str, ...]
    variables: frozenset[str]


def survey(spec: Spec, folder: Path, root: Path, environment: Mapping[str, str]) -> Surroundings:
    """Read what the checks of ``spec`` need. ``folder`` is the spec's own, ``root`` the project's."""
    return Surroundings(
        plugins={asked: look_up(asked, root) for asked in plugins_of(spec)},
        schemas={name: read_schema(source.schema_, folder) for name, source in spec.data.items() if source.schema_},
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


def source_roots(root: Path) -> tuple[Path, ...]:
    """Where a project's own modules are looked for: its root, and ``src`` below it."""
    return tuple(folder for folder in (root, root / "src") if folder.is_dir())


def look_up(asked: Asked, root: Path) -> Description | EngineError:
    """What the source of a component says, or why it cannot be told."""
    kind, uses = asked
    try:
        return describe(find(kind, uses), source_roots(root))
    except EngineError as error:
        return error


def read_schema(schema: str | Mapping[str, Any] | None, folder: Path) -> SchemaFile:
    """A schema given inline or as a file beside the spec."""
    if isinstance(schema, Mapping):
        return understood(schema)
    path = folder / str(schema)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return SchemaFile(content={}, complaint=f'no schema file "{schema}" beside the spec')
    except (OSError, UnicodeDecodeError) as error:
        return SchemaFile(content={}, complaint=f'schema file "{schema}" cannot be read: {error}')
    except yaml.YAMLError as error:
        return SchemaFile(content={}, complaint=f'schema file "{schema}" is not YAML: {" ".join(str(error).split())}')
    if not isinstance(content, Mapping):
        return SchemaFile(content={}, complaint=f'schema file "{schema}" is not a mapping')
    return understood(content)


def understood(content: Mapping[str, Any]) -> SchemaFile:
    """A schema with the columns that it lists."""
    columns = content.get("columns")
    if columns is None:
        return SchemaFile(content=content)
    if not isinstance(columns, Mapping):
        return SchemaFile(content=content, complaint="the schema's `columns` is not a mapping of names to columns")
    return SchemaFile(content=content, columns=tuple(str(name) for name in columns))
