"""``engine trace``."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence

import typer

from engine.cli import view
from engine.errors import YES, UsageError, suggestion
from engine.record.openlineage import events
from engine.record.trace import Node, Sources, document, trace
from engine.report.clean import terminal
from engine.wiring import home_here

FORMATS = ("text", "json", "openlineage")
MOST_SHOWN = 12


def register(app: typer.Typer, summary: str) -> None:
    """Add the command."""
    app.command("trace", help=summary)(command)


def command(
    id: str = typer.Argument(
        ...,
        metavar="ID",
        help="A run, model, artifact, prediction, data commit, lake URI, git commit, or a beginning of an id.",
    ),
    format: str = typer.Option("text", "--format", metavar="text|json|openlineage", help="The form of the answer."),
    json: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> int:
    """Show everything that something came from, and everything that came of it."""
    if format not in FORMATS:
        raise UsageError(f'no format "{format}"', hint=suggestion(format, FORMATS))
    home = home_here()
    with home.runs.opened() as db:
        sources = Sources(
            db=db,
            records=home.records,
            registry=home.registry,
            lake=home.lake,
            predictions=home.path / "predictions",
            monitor=home.path / "monitor",
        )
        found = trace(id, sources)
    if format == "openlineage":
        view.document(events(found, home.records))
    elif json or format == "json":
        view.document(document(found))
    else:
        for line in lines(found):
            view.line(line)
    return YES


def lines(node: Node) -> Iterator[str]:
    """The thing itself, what it came from, and what came of it."""
    yield view.paint(line_of(node), view.BOLD, stream=sys.stdout)
    for title, found, direction in (("came from", node.up, "up"), ("came of it", node.down, "down")):
        if found:
            yield f"  {view.paint(title, view.DIM, stream=sys.stdout)}"
            yield from branches(found, direction, "  ")
    others = node.facts.get("runs_at_other_commits_with_the_same_bytes")
    if others:
        shown = " or ".join(f"`engine runs list --data {view.short(found)}`" for found in node.facts["the_same_bytes"])
        yield f"  {view.counted(others, 'run')} read the same bytes at other commits ({shown})"
    elif not node.down:
        yield "  nothing came of it yet"


def branches(found: Sequence[tuple[str, Node]], direction: str, margin: str = "") -> Iterator[str]:
    """A tree of what comes before or after, no more of a kind than a person reads."""
    kept, left = shortened(found)
    texts = [(f"{word} {line_of(node)}", node.up if direction == "up" else node.down) for word, node in kept]
    texts += [(f"and {count:,} more of kind {kind} (--json has all)", ()) for kind, count in left.items()]
    for number, (text, further) in enumerate(texts):
        last = number == len(texts) - 1
        yield f"{margin}{'└── ' if last else '├── '}{text}"
        yield from branches(further, direction, margin + ("    " if last else "│   "))


def shortened(found: Sequence[tuple[str, Node]]) -> tuple[list[tuple[str, Node]], Counter[str]]:
    """The first of each kind of thing, and how many there are beside."""
    seen, left = Counter[str](), Counter[str]()
    kept = []
    for word, node in found:
        seen[node.kind] += 1
        if seen[node.kind] <= MOST_SHOWN:
            kept.append((word, node))
        else:
            left[node.kind] += 1
    return kept, left


def line_of(node: Node) -> str:
    """One thing in a line."""
    short = node.id if node.kind in ("model", "alias", "uri", "prediction") or "://" in node.id else view.short(node.id)
    facts = ""
    if node.kind == "run":
        metrics = list(node.facts["metrics"].items())[:2]
        facts = "".join(f"  {name} {view.figure(value)}" for name, value in metrics)
        facts += f"  {str(node.facts['started'])[:10]}"
    if node.kind in ("data", "object") and "commit" in node.facts:
        facts = f"  at {view.short(node.facts['commit'])}"
    shown = "" if node.shown == short else f"  {node.shown}"
    if node.kind == "data" and "://" in short:
        short, shown = node.shown, ""
    return terminal(f"{node.kind} {short}{shown}{facts}")
