"""``engine plan``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import typer

from engine.api import prepare_spec
from engine.cli import view
from engine.errors import NO, YES
from engine.execute.protocol import StepOutcome
from engine.pipeline import Prepared, plan_before
from engine.plan.alarms import alarm_document, alarm_lines
from engine.plan.render import document, lines
from engine.plan.why import reasons
from engine.plugins import Description
from engine.report.clean import terminal
from engine.spec.model import Spec
from engine.spec.surroundings import look_up

Format = Literal["text", "md", "json"]


def register(app: typer.Typer, summary: str) -> None:
    """Add the command."""
    app.command("plan", help=summary)(command)


def command(
    spec: str = typer.Argument(..., metavar="SPEC", help="The spec."),
    overrides: list[str] = typer.Argument(None, metavar="[OVERRIDE]...", help="key=value in Hydra's grammar."),
    against: str = typer.Option(None, "--against", metavar="GIT_REF", help="What changed since this commit."),
    form: Format = typer.Option("text", "--format", help="How to print it; md is for a merge request."),
    json: bool = typer.Option(False, "--json", help="Print one JSON document: the same as --format json."),
    exit_code: bool = typer.Option(False, "--exit-code", help="Exit with 1 when something would run."),
) -> int:
    """Show the steps, which of them would run and why, and which are cached. Nothing is started."""
    prepared = prepare_spec(spec, overrides or [])
    settled = prepared.desk.settled(prepared.plan)
    recorded = prepared.desk.records.answer(prepared.resolved.run_id) is not None
    why = {} if recorded else reasons(prepared.plan, plan_before(prepared), outputs_of(settled))
    form = "json" if json else form
    watched = prepared.resolved.spec
    described = detectors_of(watched, prepared.loaded.root)
    if against is not None or form == "md":
        show_change(prepared, frozenset(settled), recorded, why, against, form)
    elif form == "json":
        view.document(document(prepared.plan, set(settled), recorded, why, alarm_document(watched, described)))
    else:
        for text in lines(prepared.plan, set(settled), recorded, why, tuple(alarm_lines(watched, described))):
            view.line(terminal(text))
    return NO if exit_code and not recorded else YES


def show_change(
    prepared: Prepared,
    settled: frozenset[str],
    recorded: bool,
    why: Mapping[str, tuple[str, ...]],
    ref: str | None,
    form: Format,
) -> None:
    """Print the plan beside that of a git ref, or as Markdown, or both."""
    from engine.cli.against import compare
    from engine.plan.against import document as change_document
    from engine.report.plans import Outlook, against_lines, markdown_against, markdown_plan

    outlook = Outlook(plan=prepared.plan, settled=settled, recorded=recorded, why=why)
    if ref is None:
        sys.stdout.write(markdown_plan(outlook))
        return
    found = compare(prepared, ref)
    if form == "json":
        view.document({**document(prepared.plan, settled, recorded, why), "against": change_document(found)})
    elif form == "md":
        sys.stdout.write(markdown_against(found, outlook))
    else:
        for text in against_lines(found, outlook):
            view.line(text)


def detectors_of(spec: Spec, root: Path) -> dict[str, Description | None]:
    """What the source of each detector that a spec uses says; nothing of one that cannot be read."""
    uses = dict.fromkeys(item.uses for item in spec.monitor.detectors) if spec.monitor else {}
    found = {name: look_up(("detector", name), root) for name in uses}
    return {name: item if isinstance(item, Description) else None for name, item in found.items()}


def outputs_of(settled: Mapping[str, StepOutcome]) -> dict[str, dict[str, str]]:
    """The digests of what the steps that are settled gave."""
    return {id: {name: found.digest for name, found in outcome.outputs.items()} for id, outcome in settled.items()}
