"""``engine schema``."""

from __future__ import annotations

from pathlib import Path

import typer

from engine.cli import view
from engine.errors import UsageError
from engine.report.write import replace_whole
from engine.spec.json_schema import FILE, schema_text
from engine.spec.known import known_metrics, known_plugins


def register(app: typer.Typer, summary: str) -> None:
    """Add the command."""
    app.command("schema", help=summary)(command)


def command(
    output: Path = typer.Option(None, "--output", "-o", metavar="PATH", help="Write it to a file, for an editor."),
    json: bool = typer.Option(False, "--json", help="Print one JSON document, which the schema is anyway."),
) -> int:
    """The JSON Schema of specs: keys, types, metrics, and the installed plugins with their parameters.

    An editor with the YAML language server reads it where a spec has the line
    `# yaml-language-server: $schema=engine.schema.json`. Plugins are read, not imported.
    """
    text = schema_text(known_plugins(), known_metrics())
    if output is None:
        view.line(text.rstrip("\n"))
        return 0
    if output.is_dir():
        raise UsageError("is a folder", place=str(output), hint=f"name a file in it: {output / FILE}")
    replace_whole(output, text.encode())
    if json:
        view.document({"path": str(output)})
        return 0
    view.line(f"{output}: the schema of specs; name it in a spec with `# yaml-language-server: $schema={output.name}`")
    return 0
