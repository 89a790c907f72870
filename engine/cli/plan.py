"""``engine plan``."""

from __future__ import annotations

from collections.abc import Mapping

import typer

from engine.api import prepare_spec
from engine.cli import view
from engine.errors import NO, YES
from engine.execute.protocol import StepOutcome
from engine.pipeline import plan_before
from engine.plan.render import document, lines
from engine.plan.why import reasons


def register(app: typer.Typer, summary: str) -> None:
    """Add the command."""
    app.command("plan", help=summary)(command)


def command(
    spec: str = typer.Argument(..., metavar="SPEC", help="The spec."),
    overrides: list[str] = typer.Argument(None, metavar="[OVERRIDE]...", help="key=value in Hydra's grammar."),
    json: bool = typer.Option(False, "--json", help="Print one JSON document."),
    exit_code: bool = typer.Option(False, "--exit-code", help="Exit with 1 when something would run."),
) -> int:
    """Show the steps, which of them would run and why, and which are cached. Nothing is started."""
    prepared = prepare_spec(spec, overrides or [])
    settled = prepared.desk.settled(prepared.plan)
    recorded = prepared.desk.records.answer(prepared.resolved.run_id) is not None
    why = {} if recorded else reasons(prepared.plan, plan_before(prepared), outputs_of(settled))
    if json:
        view.document(document(prepared.plan, set(settled), recorded, why))
    else:
        for text in lines(prepared.plan, set(settled), recorded, why):
            view.line(text)
    return NO if exit_code and not recorded else YES


def outputs_of(settled: Mapping[str, StepOutcome]) -> dict[str, dict[str, str]]:
    """The digests of what the steps that are settled gave."""
    return {id: {name: found.digest for name, found in outcome.outputs.items()} for id, outcome in settled.items()}
