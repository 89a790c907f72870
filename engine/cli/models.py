"""``engine models``."""

from __future__ import annotations

import typer

from engine.cli import view
from engine.registry.model import ModelVersion
from engine.wiring import home_here

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)


def register(parent: typer.Typer, summary: str) -> None:
    """Add the commands."""
    parent.add_typer(app, name="models", help=summary)


@app.callback()
def models() -> None:
    """The registry of models."""


@app.command("list")
def list_models(
    name: str = typer.Argument(None, metavar="[MODEL]", help="Only the versions of this model."),
    json: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> int:
    """Every registered version, the newest first."""
    registry = home_here().registry
    found = [version for model in ([name] if name else registry.models()) for version in registry.versions(model)]
    if json:
        view.document({"models": [document(version) for version in found]})
        return 0
    if not found:
        view.line("no models yet: a run whose gates pass registers one")
        return 0
    rows = [
        [
            item.name,
            f"v{item.version}",
            ", ".join(item.aliases) or "-",
            view.short(item.digest),
            view.short(item.runs[0]),
            item.created[:19].replace("T", " "),
        ]
        for item in found
    ]
    view.table(["model", "version", "aliases", "digest", "run", "registered"], rows)
    return 0


def document(version: ModelVersion) -> dict[str, object]:
    """A version as JSON."""
    return {
        "name": version.name,
        "version": version.version,
        "digest": f"sha256:{version.digest}",
        "aliases": list(version.aliases),
        "runs": list(version.runs),
        "created": version.created,
    }
