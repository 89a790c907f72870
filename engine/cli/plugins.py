"""``engine plugins``."""

from __future__ import annotations

import typer

from engine.cli import view
from engine.errors import NotFound
from engine.plugins import KINDS, Description, Reference, describe, find, installed
from engine.spec.project import source_roots
from engine.wiring import home_here

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)


def register(parent: typer.Typer, summary: str) -> None:
    """Add the commands."""
    parent.add_typer(app, name="plugins", help=summary)


@app.command("list")
def list_plugins(json: bool = typer.Option(False, "--json", help="Print one JSON document.")) -> int:
    """Every installed plugin, by kind. Their code is read, not run."""
    found = [describe(reference) for reference in installed()]
    if json:
        view.document({"plugins": [document(item) for item in found]})
        return 0
    view.table(
        ["kind", "uses", "distribution", "what it does"],
        [[item.reference.kind, item.reference.name, source(item.reference), item.summary] for item in found],
    )
    return 0


def source(reference: Reference) -> str:
    """The distribution that a plugin comes from, with its version."""
    return f"{reference.distribution} {reference.version}".strip()


@app.command("show")
def show(
    name: str = typer.Argument(..., metavar="NAME", help="What stands after `uses:`."),
    json: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> int:
    """A plugin's parameters, which are the keys under `with:`."""
    found = [describe_named(name, reference) for reference in candidates(name)]
    if json:
        view.document({"plugins": [document(item) for item in found]})
        return 0
    for item in found:
        view.line(
            f"{item.reference.kind} {item.reference.name}"
            f"  ({item.reference.target}, {source(item.reference) or 'this project'})"
        )
        view.line(f"  {item.summary}")
        rows = [[f"  {p.name}", p.annotation or "-", "required" if p.required else p.default] for p in item.parameters]
        if rows:
            view.table(["  with", "type", "default"], rows)
    return 0


def candidates(name: str) -> list[Reference]:
    """The plugins that ``name`` may mean.

    Raises:
        NotFound: when there is none; with the names that there are.
    """
    if ":" in name:
        return [find("trainer", name)]
    found = [reference for reference in installed() if reference.name == name]
    if not found:
        raise NotFound("plugin", name, [reference.name for reference in installed() if reference.kind in KINDS])
    return found


def describe_named(name: str, reference: Reference) -> Description:
    """A plugin's description; one of the project's own is looked for there."""
    return describe(reference, source_roots(home_here().root) if ":" in name else ())


def document(item: Description) -> dict[str, object]:
    """A description as JSON."""
    return {
        "kind": item.reference.kind,
        "uses": item.reference.name,
        "target": item.reference.target,
        "distribution": item.reference.distribution,
        "version": item.reference.version,
        "summary": item.summary,
        "parameters": [
            {"name": p.name, "type": p.annotation, "required": p.required, "default": p.default or None}
            for p in item.parameters
        ],
    }
