"""``engine quickstart``."""

from __future__ import annotations

import typer

from engine.cli import view
from engine.errors import UsageError
from engine.lake.sample import quickstart
from engine.wiring import embedded_lake, home_here


def register(app: typer.Typer, summary: str) -> None:
    """Add the command."""
    app.command("quickstart", help=summary)(command)


def command(
    remote: bool = typer.Option(False, "--remote", help="Into the lakeFS server that the LAKECTL_* variables name."),
    json: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> int:
    """Put the sample data into the embedded lake, or with --remote on lakeFS; a second call changes nothing."""
    home = home_here()
    if remote and home.server is None:
        hint = "set LAKECTL_SERVER_ENDPOINT_URL and the LAKECTL_CREDENTIALS_* variables"
        raise UsageError("no lakeFS server is named", hint=hint)
    done = quickstart(home.lake if remote else embedded_lake(home.path))
    head = done.commits[-1].id
    if json:
        commits = [commit.id for commit in done.commits]
        view.document({"repository": done.repository, "branch": "main", "created": done.created, "commits": commits})
        return 0
    what = "holds" if not done.created else "now holds"
    view.line(
        f"lakefs://{done.repository}/main/ {what} {len(done.commits)} months of flights, commit {view.short(head)}"
    )
    if home.server and not remote:
        view.note(f"runs read the lake on {home.server}: `engine quickstart --remote` puts the sample there")
    view.line("next: engine run specs/model.yaml")
    return 0
