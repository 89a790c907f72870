"""``engine plan``."""

from __future__ import annotations

import typer

from engine.api import prepare_spec
from engine.cli import view
from engine.errors import NO, YES
from engine.plan.render import document, lines


def register(app: typer.Typer, summary: str) -> None:
    """Add the command."""
    app.command("plan", help=summary)(command)


def command(
    spec: str = typer.Argument(..., metavar="SPEC", help="The spec."),
    overrides: list[str] = typer.Argument(None, metavar="[OVERRIDE]...", help="key=value in Hydra's grammar."),
    json: bool = typer.Option(False, "--json", help="Print one JSON document."),
    exit_code: bool = typer.Option(False, "--exit-code", help="Exit with 1 when something would run."),
) -> int:
    """Show the steps, which of them would run and which are cached. Nothing is started."""
    prepared = prepare_spec(spec, overrides or [])
    settled = prepared.desk.settled(prepared.plan)
    recorded = prepared.desk.records.answer(prepared.resolved.run_id) is not None
    if json:
        view.document(document(prepared.plan, set(settled), recorded))
    else:
        for text in lines(prepared.plan, set(settled), recorded):
            view.line(text)
    return NO if exit_code and not recorded else YES
