"""``engine runs``."""

from __future__ import annotations

import sys
from datetime import datetime

import orjson
import typer

from engine.cli import view
from engine.errors import NotFound
from engine.record.index import Row
from engine.record.model import RunRecord
from engine.record.query import Query, answer
from engine.registry.model import ModelRef
from engine.wiring import Home, home_here

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)


def register(parent: typer.Typer, summary: str) -> None:
    """Add the commands."""
    parent.add_typer(app, name="runs", help=summary)


@app.command("list")
def list_runs(
    name: str = typer.Option(None, "--name", help="Only runs of this model."),
    status: str = typer.Option(None, "--status", help="Only passed, refused or failed ones."),
    metric: list[str] = typer.Option([], "--metric", metavar="CONDITION", help="As roc_auc>=0.65; may be repeated."),
    since: str = typer.Option(None, "--since", metavar="DATE", help="Started then or later: 2026-11-23, or 7d ago."),
    until: str = typer.Option(None, "--until", metavar="DATE", help="Started before."),
    data: str = typer.Option(None, "--data", metavar="COMMIT|URI", help="Read this commit, digest or lake URI."),
    sort: str = typer.Option("started", "--sort", metavar="BY", help="started, name, status or a metric."),
    reverse: bool = typer.Option(False, "--reverse", help="The other way round."),
    limit: int = typer.Option(None, "--limit", min=1, help="At most so many."),
    json: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> int:
    """Every run, the newest first; of a run that was executed several times, the newest execution."""
    asked = Query(
        name=name, status=status, metrics=tuple(metric), since=since, until=until, data=data, sort=sort,
        reverse=reverse, limit=limit,
    )  # fmt: skip
    home = home_here()
    with home.runs.opened() as db:
        now = datetime.now().astimezone()
        found = answer(db, asked, now, lambda uri: home.lake.resolve(uri.repository, uri.ref), listed=json)
    if json:
        view.document({"runs": [row.document for row in found]})
        return 0
    if not found:
        narrowed = asked != Query(sort=sort, reverse=reverse, limit=limit)
        view.line("no run is like that" if narrowed else "no runs yet: `engine run SPEC` makes one")
        return 0
    view.table(["run", "model", "status", "version", "metrics", "started", "overrides"], [cells(row) for row in found])
    return 0


def cells(row: Row) -> list[str]:
    """A run in a line."""
    shown = [f"{name} {view.figure(value)}" for name, value in orjson.loads(row.foremost).items()]
    return [
        view.short(row.run),
        row.name,
        row.status,
        "-" if row.version is None else f"v{row.version}",
        ", ".join(shown) or "-",
        row.started[:19].replace("T", " "),
        row.overrides,
    ]


@app.command("show")
def show(
    run: str = typer.Argument(
        ..., metavar="RUN", help="A run id, its first 6 or more characters, or a model: NAME:VERSION, NAME@ALIAS."
    ),
    json: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> int:
    """One run: verdict, metrics, gates, pins."""
    from engine.cli.reporting import report_of
    from engine.report.text import card, plain

    home = home_here()
    record = latest(home, run)
    if json:
        view.document({**record.summary, "execution": record.execution, "record_digest": f"sha256:{record.digest}"})
        return 0
    folder = home.records.folder(record.run_id) / "executions" / str(record.execution)
    found = report_of(record, home.store, {**record.summary, "record": str(folder)})
    if view.is_terminal(sys.stdout):
        view.console().print(card(found))
    else:
        view.line(plain(found))
    return 0


def latest(home: Home, prefix: str) -> RunRecord:
    """The newest execution of the run that ``prefix`` names: a run id's beginning, or a model that a run made.

    Raises:
        NotFound: when there is none.
    """
    record = home.records.latest(run_id_of(home, prefix))
    if record is None:
        raise NotFound("execution of run", prefix, hint="`engine run` was interrupted before it was recorded")
    return record


def run_id_of(home: Home, name: str) -> str:
    """The run that a run id's beginning means, or the first that made a model: ``NAME@ALIAS``, ``NAME:VERSION``.

    Raises:
        NotFound: when there is none.
    """
    if "@" in name or ":" in name or name in home.registry.models():
        return home.registry.get(ModelRef.parse(name)).runs[0]
    return home.records.find(name)
