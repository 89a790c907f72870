"""``engine reproduce``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import typer

from engine.cli import view
from engine.cli.progress import Lines
from engine.cli.runs import latest
from engine.errors import FAILED, NO, YES
from engine.pipeline import Prepared, execute, prepare_parts
from engine.record.model import RunRecord, RunResult
from engine.record.parts import parts_of
from engine.record.reproduce import Change, Compared, EnvironmentDiffers, changes, compared, plan_of
from engine.report.clean import terminal
from engine.wiring import bench, home_here


def register(app: typer.Typer, summary: str) -> None:
    """Add the command."""
    app.command("reproduce", help=summary)(command)


def command(
    run: str = typer.Argument(
        ..., metavar="RUN", help="A run id, its first 6 or more characters, or a model: NAME:VERSION, NAME@ALIAS."
    ),
    here: bool = typer.Option(
        False, "--here", help="Run although the environment is another, and show the difference."
    ),
    inline: bool = typer.Option(False, "--inline", help="In this process, in order, without Ray."),
    address: str = typer.Option(None, "--address", metavar="ADDR", help="A running Ray cluster to use."),
    json: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> int:
    """Execute a recorded run again from its recorded sources and data, and compare every artifact byte for byte."""
    home = home_here()
    record = latest(home, run)
    parts = parts_of(record, home.store)
    with bench(home, parts, address) as (desk, root):
        prepared = prepare_parts(parts, desk, root)
        changed = list(changes(parts, prepared.resolved))
        if changed and not here:
            raise EnvironmentDiffers(record.run_id, changed)
        result = carried_out(prepared, inline)
    found = compared(record, plan_of(record, home.store), result)
    if json:
        view.document(document(record, result, found, changed))
    else:
        show(record, result, found, changed)
    if all(item.same for item in found):
        return YES
    return NO if any(item.now for item in found) else FAILED


def carried_out(prepared: Prepared, inline: bool) -> RunResult:
    """Execute everything, with a display of what happens."""
    if view.is_terminal(sys.stderr) and not inline:
        from engine.cli.live import Tree

        with Tree(prepared.plan, {}) as tree:
            return execute(prepared, tree.hear, inline, fresh=True)
    return execute(prepared, Lines(prepared.plan).hear, inline, fresh=True)


def document(
    record: RunRecord, result: RunResult, found: Sequence[Compared], changed: Sequence[Change]
) -> dict[str, Any]:
    """What came of it, as JSON."""
    return {
        "run_id": record.run_id,
        "execution": record.execution,
        "reproduced": all(item.same for item in found),
        "environment": [{"name": item.name, "recorded": item.before, "here": item.now} for item in changed],
        "artifacts": [
            {
                "name": item.name,
                "recorded": item.recorded and f"sha256:{item.recorded}",
                "here": item.now and f"sha256:{item.now}",
                "same": item.same,
                "reasons": list(item.reasons),
            }
            for item in found
        ],
        "seconds": result.seconds,
    }


def show(record: RunRecord, result: RunResult, found: Sequence[Compared], changed: Sequence[Change]) -> None:
    """The same for a person."""
    if changed:
        view.line("the environment is another than the run's:")
        for change in changed:
            view.line(f"  {terminal(str(change))}")
    rows = [
        [item.name, view.short(item.recorded), view.short(item.now), "same" if item.same else "differs"]
        for item in found
    ]
    view.table(["artifact", "recorded", "here", ""], rows)
    for item in found:
        for reason in item.reasons:
            view.line(f"{item.name}: {terminal(reason)}")
    same = sum(item.same for item in found)
    verdict = "reproduced" if same == len(found) else "not reproduced"
    color = view.BOLD if same == len(found) else view.RED
    word = view.paint(verdict, color, stream=sys.stdout)
    view.line(
        f"{word}: {same} of {len(found)} artifacts of run {view.short(record.run_id)} are the same, byte for byte"
        f" ({result.seconds:.1f} s)"
    )
