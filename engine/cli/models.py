"""``engine models``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import typer

from engine.cli import view
from engine.errors import UsageError
from engine.registry.history import moves
from engine.registry.model import TAG, ModelRef, ModelVersion, Move, require_alias
from engine.report.clean import terminal
from engine.wiring import Home, home_here

if TYPE_CHECKING:
    from engine.promotion import Outcome
    from engine.record.model import RunRecord

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)
JSON = typer.Option(False, "--json", help="Print one JSON document.")
WHY = typer.Option("", "--why", metavar="TEXT", help="Why; it stands in the ledger for ever.")
VERSION = typer.Argument(..., metavar="NAME:VERSION", help="A version: NAME:VERSION, or NAME@ALIAS.")
MODEL = typer.Argument(..., metavar="NAME[:VERSION]", help="A model, or one of its versions.")


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


@app.command("history")
def history(
    model: str = typer.Argument(..., metavar="NAME", help="A model."),
    alias: str = typer.Option(None, "--alias", metavar="ALIAS", help="Only the moves of this one."),
    json: bool = JSON,
) -> int:
    """Every move of an alias, the newest first: who, when, why, and on what evidence."""
    registry = home_here().registry
    name = named(model).name
    registry.versions(name)
    found = list(moves(registry.ledger(name), require_alias(alias) if alias else None))
    if json:
        view.document({"name": name, "moves": [move_document(move) for move in reversed(found)]})
        return 0
    if not found:
        view.line(f"no alias of {name} was ever set: `engine models promote {name}:VERSION --to production`")
    for move in reversed(found):
        for text in move_lines(move):
            view.line(text)
    return 0


def move_lines(move: Move) -> Iterator[str]:
    """A move for a person."""
    before = f"v{move.before}" if move.before is not None else "none"
    title = view.paint(f"{move.alias}  {before} -> v{move.version}", view.BOLD, stream=sys.stdout)
    said = f': "{terminal(move.why)}"' if move.why else ""
    yield f"{move.when[:19].replace('T', ' ')}  {title}  {move.how} by {terminal(move.who)}{said}"
    if move.forced:
        yield f"  {view.paint('FORCED', view.RED, view.BOLD, stream=sys.stdout)} although"
        yield from (f"    {terminal(text)}" for text in move.evidence.objections)
    yield from evidence_lines(move)
    yield f"  ledger entry {move.entry.number}  {move.entry.digest[:12]}"


def evidence_lines(move: Move) -> Iterator[str]:
    """What a move rests on. What was rolled back to has the evidence that it was promoted on, which stands below."""
    evidence = move.evidence
    if evidence.run:
        against = [f"{ref} {pin_shown(pin)}" for ref, pin in evidence.baselines.items()]
        beside = f", compared with {', '.join(against)}" if against else ""
        yield f"  run {evidence.run[:12]}  record {evidence.record[:12]}{beside}"
    elif not move.forced:
        yield "  no evidence was asked for"
    for gate in evidence.gates if move.how != "rolled back" else ():
        yield f"  {'✓' if gate['passed'] else '✗'} {terminal(gate['name'])}: {terminal(gate['reason'])}"
    if move.data:
        what, where = move.data, f"lakefs://{move.data['repository']}/{move.data['destination']}"
        yield f"  data {what['source']} at {what['commit'][:12]} merged into {where} as {what['merged'][:12]}"


def pin_shown(pin: Any) -> str:
    """What a baseline was."""
    return "none" if pin["version"] is None else f"v{pin['version']}"


def move_document(move: Move) -> dict[str, Any]:
    """A move as JSON."""
    return {
        "alias": move.alias,
        "version": move.version,
        "before": move.before,
        "how": move.how,
        "who": move.who,
        "when": move.when,
        "why": move.why,
        "forced": move.forced,
        "evidence": move.evidence.document(),
        "data": dict(move.data or {}),
        "entry": {"number": move.entry.number, "digest": move.entry.digest},
    }


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


def named(text: str) -> ModelRef:
    """A model, or one of its versions by its number.

    Raises:
        UsageError: for an alias, which may mean another version tomorrow.
    """
    ref = ModelRef.parse(text)
    if ref.alias is not None:
        raise UsageError(f'"{text}" names an alias', hint="write NAME or NAME:VERSION")
    return ref


@app.command("tag")
def tag(
    model: str = MODEL,
    words: list[str] = typer.Argument(None, metavar="[KEY=VALUE]...", help="Tags to set."),
    remove: list[str] = typer.Option([], "--remove", metavar="KEY", help="Tags to take away."),
    json: bool = JSON,
) -> int:
    """Set and remove tags of a model, or of one of its versions."""
    ref, registry = named(model), home_here().registry
    changes: dict[str, str | None] = {**dict(map(pair, words or [])), **dict.fromkeys(remove)}
    if not changes:
        raise UsageError("nothing to set or remove", hint=f"write `engine models tag {model} KEY=VALUE`")
    changed = registry.tag(ref.name, ref.version, changes)
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
        raise UsageError(f'"{word}" is not a tag', hint="write KEY=VALUE; a key begins with a letter")
    return key, value


@app.command("describe")
def describe(
    model: str = MODEL,
    text: str = typer.Argument(..., metavar="TEXT", help="What it is for, and what not."),
    json: bool = JSON,
) -> int:
    """Say what a model, or one of its versions, is for."""
    ref = named(model)
    changed = home_here().registry.describe(ref.name, ref.version, text)
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


def numbered(text: str) -> ModelRef:
    """A version by its number.

    Raises:
        UsageError: for anything else.
    """
    ref = named(text)
    if ref.version is None:
        raise UsageError(f'"{text}" names no version', hint=f"write {ref.name}:VERSION")
    return ref


def number_of(ref: ModelRef) -> int:
    """The number in a ref that has one."""
    assert ref.version is not None
    return ref.version


# -- moving -------------------------------------------------------------------------------------------------------


@app.command("promote")
def promote(
    model: str = VERSION,
    to: str = typer.Option(..., "--to", metavar="ALIAS", help="production, canary, shadow, candidate, or your own."),
    why: str = WHY,
    merge_data: str = typer.Option(
        "", "--merge-data", metavar="SOURCE_BRANCH", help="Merge this branch of the data with it, as one decision."
    ),
    force: bool = typer.Option(False, "--force", help="Although gates refuse; that stands in the ledger for ever."),
    inline: bool = typer.Option(False, "--inline", help="Judge in this process, without Ray."),
    json: bool = JSON,
) -> int:
    """Point an alias at a version whose gates passed against what is in use now; judge it again where that changed."""
    from engine.promotion import Wanted
    from engine.promotion import promote as decide

    home = home_here()
    ref, alias = ModelRef.parse(model), require_alias(to)
    if ref.alias is None and ref.version is None:
        raise UsageError(f'"{model}" names no version', hint=f"write {ref.name}:VERSION")
    office = home.office(lambda record: judged(record, home, inline=inline))
    outcome = decide(ref, alias, office, Wanted(why=why, force=force, source=merge_data))
    home.rest()
    return say(outcome, json=json)


@app.command("rollback")
def rollback(
    name: str = typer.Argument(..., metavar="NAME", help="A model."),
    alias: str = typer.Option("production", "--alias", metavar="ALIAS", help="Which alias goes back."),
    why: str = WHY,
    json: bool = JSON,
) -> int:
    """Point an alias at the version that it named before."""
    from engine.promotion import rollback as decide

    home = home_here()
    ref = named(name)
    if ref.version is not None:
        raise UsageError(f'"{name}" names a version', hint=f"write `engine models promote {name} --to {alias}`")
    outcome = decide(ref.name, require_alias(alias), home.office(lambda record: record), why)
    home.rest()
    return say(outcome, json=json)


def judged(record: RunRecord, home: Home, *, inline: bool) -> RunRecord:
    """Judge again, with lines about what happens on standard error."""
    from engine.wiring import judged_again

    view.note(f"what it was compared with has changed since run {record.run_id[:12]}: judging it again")
    return judged_again(record, home, lambda _: None, inline=inline)


def say(outcome: Outcome, *, json: bool) -> int:
    """What became of a decision."""
    from engine.promotion import document as outcome_document

    decision = outcome.decision
    for text in decision.evidence.objections if outcome.entry and decision.forced else ():
        view.note(view.paint(f"FORCED although {terminal(text)}", view.RED, view.BOLD))
    if json:
        view.document(outcome_document(outcome))
        return 0
    what = f"{decision.name}@{decision.alias}"
    if outcome.entry is None:
        view.line(f"{what} is version {decision.version} already")
        return 0
    view.line(f"{what} is now version {decision.version}, before {shown(decision.before)}")
    for text in told(outcome):
        view.line(f"  {text}")
    for text in outcome.unanchored:
        view.note(f"not anchored in {terminal(text)}")
    return 0


def shown(version: int | None) -> str:
    """What an alias named."""
    return "none" if version is None else f"version {version}"


def told(outcome: Outcome) -> Iterable[str]:
    """What a move rests on, in a few lines."""
    evidence, entry = outcome.decision.evidence, outcome.entry
    assert entry is not None
    if evidence.run:
        passed: Sequence[Any] = [gate for gate in evidence.gates if gate["passed"]]
        against = ", ".join(f"{ref} {pin_shown(pin)}" for ref, pin in evidence.baselines.items())
        again = " judged again" if outcome.judged else ""
        beside = f" against {against}" if against else ""
        yield f"run {evidence.run[:12]}{again}: {len(passed)} of {len(evidence.gates)} gates pass{beside}"
    if "data" in entry.event:
        data = entry.event["data"]
        where = f"lakefs://{data['repository']}/{data['destination']}"
        yield f"{where} has the data of {data['source']}: commit {data['merged'][:12]}"
    places = f", anchored in {', '.join(terminal(text) for text in outcome.anchored)}" if outcome.anchored else ""
    yield f"ledger entry {entry.number} {entry.digest[:12]}{places}"
