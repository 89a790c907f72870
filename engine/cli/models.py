"""``engine models``."""

from __future__ import annotations

from collections.abc import Iterator

import typer

from engine.cli import models_moves, view
from engine.cli.models_asked import JSON, MODEL, VERSION, WHY, named, number_of, numbered
from engine.errors import UsageError
from engine.registry.model import TAG, ModelRef, ModelVersion
from engine.report.clean import terminal
from engine.wiring import home_here

LONGEST_TEXT = 10_000
A_TAG = "write KEY=VALUE; a key has letters a-z, digits and `-_./`, a letter first"
app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)
models_moves.register(app)


def register(parent: typer.Typer, summary: str) -> None:
    """Add the commands."""
    parent.add_typer(app, name="models", help=summary)


@app.callback()
def models() -> None:
    """The registry of models."""


# -- looking ------------------------------------------------------------------------------------------------------


@app.command("list")
def list_models(
    name: str = typer.Argument(None, metavar="[MODEL]", help="Only the versions of this model."),
    every: bool = typer.Option(False, "--all", help="Also versions that were retired."),
    json: bool = JSON,
) -> int:
    """Every registered version, the newest first."""
    registry = home_here().registry
    known = [version for model in ([name] if name else registry.models()) for version in registry.versions(model)]
    found = [version for version in known if every or not version.retired]
    if json:
        view.document({"models": [document(version) for version in found]})
        return 0
    if not found:
        view.line("no models yet: a run whose gates pass registers one" if not known else "all are retired: --all")
        return 0
    rows = [
        [
            item.name,
            f"v{item.version}",
            "retired" if item.retired else ", ".join(item.aliases) or "-",
            view.short(item.digest),
            view.short(item.runs[0]),
            item.created[:19].replace("T", " "),
        ]
        for item in found
    ]
    view.table(["model", "version", "aliases", "digest", "run", "registered"], rows)
    return 0


@app.command("show")
def show(
    model: str = typer.Argument(..., metavar="MODEL", help="NAME, NAME:VERSION or NAME@ALIAS."), json: bool = JSON
) -> int:
    """One version: what it came from, and what is said of it."""
    registry = home_here().registry
    version = registry.get(ModelRef.parse(model))
    sources = registry.sources(version.name, version.version)
    if json:
        came = [{"run": item.run, "record": item.record, "data": item.data, "code": item.code} for item in sources]
        whole = {"description": registry.description(version.name), "tags": registry.tags(version.name)}
        view.document({**document(version), "sources": came, "model": whole})
        return 0
    for key, value in facts(version, registry.description(version.name), registry.tags(version.name)):
        view.line(f"{key:<12}{terminal(value)}".rstrip())
    for source in sources:
        view.line(f"{'run':<12}{source.run[:12]}  record {source.record[:12]}")
        for name, pin in source.data.items():
            view.line(f"{'':<12}data {name}  {terminal(pin['uri'])} at {pin['commit'][:12]}")
        if source.code.get("commit"):
            view.line(f"{'':<12}code git {source.code['commit'][:12]}{' with changes' * bool(source.code['dirty'])}")
        elif source.code:
            view.line(f"{'':<12}code {view.short(source.code['digest'])}, not in git")
    return 0


def facts(version: ModelVersion, description: str, tags: dict[str, str]) -> Iterator[tuple[str, str]]:
    """What there is to say of a version, a line each."""
    yield "model", f"{version}{'  retired' if version.retired else ''}"
    yield "digest", f"sha256:{version.digest}"
    yield "aliases", ", ".join(version.aliases) or "-"
    yield "registered", version.created[:19].replace("T", " ")
    words = {**tags, **version.tags}
    if words:
        yield "tags", ", ".join(f"{key}={value}" for key, value in words.items())
    for text in filter(None, (description, version.description)):
        yield "description", text


def document(version: ModelVersion) -> dict[str, object]:
    """A version as JSON."""
    return {
        "name": version.name,
        "version": version.version,
        "digest": f"sha256:{version.digest}",
        "aliases": list(version.aliases),
        "runs": list(version.runs),
        "created": version.created,
        "tags": dict(version.tags),
        "description": version.description,
        "retired": version.retired,
    }


# -- words --------------------------------------------------------------------------------------------------------


@app.command("tag")
def tag(
    model: str = MODEL,
    words: list[str] = typer.Argument(None, metavar="[KEY=VALUE]...", help="Tags to set."),
    remove: list[str] = typer.Option([], "--remove", metavar="KEY", help="Tags to take away."),
    json: bool = JSON,
) -> int:
    """Set and remove tags of a model, or of one of its versions."""
    ref, home = named(model), home_here()
    registry = home.registry
    changes: dict[str, str | None] = {**dict(map(pair, words or [])), **dict.fromkeys(remove)}
    if not changes:
        raise UsageError("nothing to set or remove", hint=f"write `engine models tag {model} KEY=VALUE`")
    changed = registry.tag(ref.name, ref.version, changes)
    home.rest()
    tags = registry.get(ref).tags if ref.version is not None else registry.tags(ref.name)
    if json:
        view.document({"name": ref.name, "version": ref.version, "tags": dict(tags), "changed": changed})
    else:
        shown = ", ".join(f"{terminal(key)}={terminal(value)}" for key, value in tags.items()) or "no tags"
        view.line(f"{ref}: {shown}")
    return 0


def pair(word: str) -> tuple[str, str]:
    """``KEY=VALUE``.

    Raises:
        UsageError: when it is not.
    """
    key, equals, value = word.partition("=")
    if not equals or not TAG.match(key):
        raise UsageError(f'"{word}" is not a tag', hint=A_TAG)
    return key, value


@app.command("describe")
def describe(
    model: str = MODEL,
    text: str = typer.Argument(..., metavar="TEXT", help="What it is for, and what not."),
    json: bool = JSON,
) -> int:
    """Say what a model, or one of its versions, is for."""
    ref, home = named(model), home_here()
    if len(text) > LONGEST_TEXT:
        hint = "say it in short, and name the document that says all of it"
        raise UsageError(f"the description has {len(text):,} characters; there is room for {LONGEST_TEXT:,}", hint=hint)
    changed = home.registry.describe(ref.name, ref.version, text)
    home.rest()
    if json:
        view.document({"name": ref.name, "version": ref.version, "description": text, "changed": changed})
    else:
        view.line(f"{ref}: {terminal(text)}")
    return 0


@app.command("card")
def card(
    model: str = typer.Argument(..., metavar="MODEL", help="NAME, NAME:VERSION or NAME@ALIAS."), json: bool = JSON
) -> int:
    """The model card in Markdown: what it is for, what it was made from, how good it is, what it passed."""
    from engine.report.model_card import model_card

    home = home_here()
    version = home.registry.get(ModelRef.parse(model))
    text = model_card(version, home.registry, home.records, home.store)
    if json:
        view.document({"name": version.name, "version": version.version, "card": text})
    else:
        view.line(text.rstrip("\n"))
    return 0


@app.command("retire")
def retire(
    model: str = VERSION,
    why: str = WHY,
    undo: bool = typer.Option(False, "--undo", help="Take it back into use."),
    json: bool = JSON,
) -> int:
    """Take a version out of use. Its number is never given to another model."""
    home, ref = home_here(), numbered(model)
    changed = home.registry.retire(ref.name, number_of(ref), why, undo=undo)
    home.rest()
    if json:
        view.document({"name": ref.name, "version": ref.version, "retired": not undo, "changed": changed})
    else:
        word = "in use" if undo else "retired"
        view.line(f"{ref} is {word}{' again' * (undo and changed)}{' already' * (not changed)}")
    return 0
