"""``engine runs``."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from math import isnan

import orjson
import typer

from engine.cli import view
from engine.errors import NotFound, UsageError
from engine.lake.listing import commit_of
from engine.record.find import runs_of
from engine.record.index import Row, rows
from engine.record.model import RunRecord
from engine.record.query import Query, answer, require_status
from engine.wiring import Home, home_here

LONGEST_AGO = 365_000  # in days: before the first year of any date
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
        found = answer(db, asked, now, lambda uri: commit_of(uri, home.lake), listed=json)
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


@app.command("gc")
def collect(
    keep: int = typer.Option(None, "--keep", min=0, metavar="N", help="Keep the newest N runs of each model."),
    keep_days: float = typer.Option(None, "--keep-days", min=0, metavar="D", help="Keep runs of the last D days."),
    keep_status: list[str] = typer.Option([], "--keep-status", metavar="STATUS", help="Keep runs with this status."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Only say what would be removed."),
    json: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> int:
    """Remove runs, and what only they named; never what a registered model needs."""
    from engine.record.collect import Collected, Keep, collecting, doomed, needed_runs, remove_runs, require_some, sweep

    for status in keep_status:
        require_status(status)
    if keep_days is not None and isnan(keep_days):
        raise UsageError("--keep-days is not a number", hint="give the number of days, as --keep-days 30")
    since = None if keep_days is None else timedelta(days=min(keep_days, LONGEST_AGO))
    wanted = Keep(newest=keep, since=since, statuses=tuple(keep_status))
    require_some(wanted)
    home = home_here()
    with collecting(home.path) if home.path.is_dir() else nullcontext():
        with home.runs.opened() as db:
            known = rows(db, "where e.newest = 1 order by e.started desc, e.run")
        needed = needed_runs(home.registry)
        gone = doomed(known, needed, wanted, datetime.now().astimezone())
        done = Collected(runs=tuple(gone), needed=len(needed))
        if not dry_run and home.path.is_dir():
            remove_runs(gone, home.records, home.registry)
            home.runs.note()
            entries, objects, size = sweep(home.path, home.store, home.records)
            done = replace(done, entries=entries, objects=objects, size=size)
            home.rest()
    if json:
        view.document({"dry_run": dry_run, **asdict(done), "runs": list(done.runs)})
        return 0
    for run in done.runs if dry_run else ():
        view.line(run)
    if dry_run:
        view.line(f"{view.counted(len(done.runs), 'run')} would be removed; {done.needed} are needed by models")
        return 0
    entry = f"{done.entries:,} cached {'step' if done.entries == 1 else 'steps'}"
    view.line(
        f"removed {view.counted(len(done.runs), 'run')}, {entry} and {view.counted(done.objects, 'object')},"
        f" {done.size / 1e6:,.1f} MB"
    )
    return 0


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
        hint = "it was interrupted before it was recorded; run its spec again: finished steps are cached"
        raise NotFound("execution of run", prefix, hint=hint)
    return record


def run_id_of(home: Home, name: str) -> str:
    """The run that a run id's beginning means, or the first that made a model: ``NAME@ALIAS``, ``NAME:VERSION``.

    Raises:
        NotFound: when there is none.
    """
    return runs_of(name, home.records, home.registry)[0]
