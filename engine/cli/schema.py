"""``engine schema``."""

from __future__ import annotations

import json as codec
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import typer

from engine.cli import view
from engine.errors import EngineError, UsageError
from engine.plugins import Description, describe, installed, names
from engine.report.write import replace_whole
from engine.spec.json_schema import spec_schema
from engine.spec.vocabulary import METRICS

FILE = "engine.schema.json"


def register(app: typer.Typer, summary: str) -> None:
    """Add the command."""
    app.command("schema", help=summary)(command)


def command(
    output: Path = typer.Option(None, "--output", "-o", metavar="PATH", help="Write it to a file, for an editor."),
    json: bool = typer.Option(False, "--json", help="Print one JSON document, which the schema is anyway."),
) -> int:
    """The JSON Schema of specs: keys, types, metrics, and the plugins that are installed with their parameters.

    An editor with the YAML language server reads it where a spec has the line
    `# yaml-language-server: $schema=engine.schema.json`. Plugins are read, not imported.
    """
    if output is None:
        view.line(schema_text().rstrip("\n"))
        return 0
    if output.is_dir():
        raise UsageError("is a folder", place=str(output), hint=f"name a file in it: {output / FILE}")
    replace_whole(output, schema_text().encode())
    if json:
        view.document({"path": str(output)})
        return 0
    view.line(f"{output}: the schema of specs; name it in a spec with `# yaml-language-server: $schema={output.name}`")
    return 0


def schema_text() -> str:
    """The schema as it is written to files: the same bytes for the same plugins."""
    metrics = {*METRICS, *names("metric")}
    return codec.dumps(spec_schema(described(), metrics), indent=2, ensure_ascii=False) + "\n"


def described() -> Iterator[Description]:
    """The installed plugins whose source can be read."""
    for reference in installed():
        with suppress(EngineError):
            yield describe(reference)
