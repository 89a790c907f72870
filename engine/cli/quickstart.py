"""``engine quickstart``."""

from __future__ import annotations

import typer

from engine.cli import view
from engine.lake.sample import quickstart
from engine.wiring import home_here


def register(app: typer.Typer, summary: str) -> None:
    """Add the command."""
    app.command("quickstart", help=summary)(command)


def command(json: bool = typer.Option(False, "--json", help="Print one JSON document.")) -> int:
    """Put the sample data into the lake; a second call changes nothing."""
    done = quickstart(home_here().lake)
    head = done.commits[-1].id
    if json:
        commits = [commit.id for commit in done.commits]
        view.document({"repository": done.repository, "branch": "main", "created": done.created, "commits": commits})
        return 0
    what = "holds" if not done.created else "now holds"
    view.line(
        f"lakefs://{done.repository}/main/ {what} {len(done.commits)} months of flights, commit {view.short(head)}"
    )
    view.line("next: engine run specs/model.yaml")
    return 0
