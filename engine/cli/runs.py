"""``engine runs``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import typer

from engine.cli import view
from engine.cli.reporting import report_of
from engine.errors import NotFound
from engine.record.model import RunRecord
from engine.registry.model import ModelRef
from engine.report.text import card, plain
from engine.spec.vocabulary import MEASUREMENTS, PROPERTIES
from engine.wiring import Home, home_here

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)


def register(parent: typer.Typer, summary: str) -> None:
    """Add the commands."""
    parent.add_typer(app, name="runs", help=summary)


@app.command("list")
def list_runs(
    name: str = typer.Option(None, "--name", help="Only runs of this model."),
    status: str = typer.Option(None, "--status", help="Only passed, refused or failed ones."),
    json: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> int:
    """Every run, the newest first."""
    found = [
        record
        for record in home_here().records.newest()
        if name in (None, record.summary["name"]) and status in (None, record.status)
    ]
    if json:
        view.document({"runs": [record.summary for record in found]})
        return 0
    if not found:
        view.line("no runs yet: `engine run SPEC` makes one")
        return 0
    view.table(
        ["run", "model", "status", "version", "metrics", "started", "overrides"], [row(record) for record in found]
    )
    return 0


def row(record: RunRecord) -> list[str]:
    """A run in a line."""
    summary = record.summary
    version = summary["model"]["version"]
    shown = [f"{name} {view.figure(summary['metrics'][name])}" for name in foremost(summary)[:2]]
    return [
        view.short(record.run_id),
        summary["name"],
        record.status,
        "-" if version is None else f"v{version}",
        ", ".join(shown) or "-",
        str(summary["started"])[:19].replace("T", " "),
        " ".join(summary["overrides"]),
    ]


def foremost(summary: Mapping[str, Any]) -> list[str]:
    """The metrics of a run, those that its gates judge first."""
    judged = [gate["metric"] for gate in summary["gates"]]
    known = [name for name in summary["metrics"] if name not in (*PROPERTIES, *MEASUREMENTS)]
    return [name for name in dict.fromkeys([*judged, *known]) if name in known]


@app.command("show")
def show(
    run: str = typer.Argument(
        ..., metavar="RUN", help="A run id, its first 6 or more characters, or a model: NAME:VERSION, NAME@ALIAS."
    ),
    json: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> int:
    """One run: verdict, metrics, gates, pins."""
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
