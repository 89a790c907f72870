"""``engine cluster``: a warm local Ray cluster that later runs use."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer

from engine.cli import view
from engine.errors import NO, YES, UsageError
from engine.wiring import home_here

if TYPE_CHECKING:
    from engine.execute.warm import Kept

JSON = typer.Option(False, "--json", help="Print one JSON document.")
app = typer.Typer(no_args_is_help=True)


def register(parent: typer.Typer, summary: str) -> None:
    """Add the group."""
    parent.add_typer(app, name="cluster", help=summary)


@app.command("up")
def up(
    cpus: int = typer.Option(None, "--cpus", metavar="N", min=1, max=1024, help="How many cores; by default all."),
    idle: str = typer.Option("", "--idle", metavar="TIME", help="End when nothing has run for so long, as 15m."),
    json: bool = JSON,
) -> int:
    """Start a cluster whose workers have imported what steps need; runs here use it until it is ended."""
    from engine.execute.warm import kept, start

    path, seconds = home_here().path, seconds_of(idle)
    there = kept(path)
    if there is not None and cpus not in (None, there.cpus):
        fact = f"a cluster of {there.cpus} cores is running"
        raise UsageError(fact, place=f"--cpus {cpus}", hint="end it first: `engine cluster down`")
    found = there or start(path, cpus or os.cpu_count() or 1, seconds)
    return shown(found, json, "is running already" if there else "is up")


@app.command("status")
def status(json: bool = JSON) -> int:
    """Say whether a cluster is up and what it does; exit code 1 when none is."""
    from engine.execute.warm import kept

    found = kept(home_here().path)
    if found is not None:
        return shown(found, json, "is up")
    if json:
        view.document({"up": False})
    else:
        view.line("no cluster is up; `engine cluster up` starts one")
    return NO


@app.command("down")
def down(
    now: bool = typer.Option(False, "--now", help="Also when runs are on it: they fail."), json: bool = JSON
) -> int:
    """End the cluster; exit code 1 when runs are on it."""
    from engine.execute.warm import end, kept

    found = kept(home_here().path)
    ended = found is None or end(found, now=now)
    if json:
        view.document({"up": not ended})
    elif found is None:
        view.line("no cluster was up")
    elif ended:
        view.line("the cluster is down")
    else:
        view.line("runs are on the cluster; wait for them, or end them too: `engine cluster down --now`")
    return YES if ended else NO


def shown(found: Kept, json: bool, what: str) -> int:
    """Print how a cluster is."""
    about = document(found)
    if json:
        view.document(about)
        return YES
    runs = view.counted(about["done"], "run") if about["answers"] else "it does not answer"
    view.line(f"a cluster of {view.counted(found.cpus, 'core')} {what}: process {found.process}, {runs} so far")
    if about["busy"]:
        view.line(f"  {view.counted(about['busy'], 'run')} on it now")
    if found.idle is not None and about["answers"] and not about["busy"]:
        view.line(f"  it ends after {found.idle:g} s without a run, in {about['left']:.0f} s")
    return YES


def document(found: Kept) -> dict[str, Any]:
    """How a cluster is, as JSON."""
    from engine.execute.warm import standing

    now = standing(found)
    left = None if now is None or found.idle is None else max(0.0, found.idle - (time.monotonic() - now.quiet))
    return {
        "up": True,
        "process": found.process,
        "cpus": found.cpus,
        "started": datetime.fromtimestamp(found.started, UTC).isoformat(timespec="seconds"),
        "idle": found.idle,
        "left": left,
        "answers": now is not None,
        "busy": now.busy if now else 0,
        "done": now.done if now else 0,
    }


def seconds_of(text: str) -> float | None:
    """A duration as specs write them, in seconds; nothing for none.

    Raises:
        UsageError: for another text.
    """
    if not text:
        return None
    from engine.spec.model import seconds

    hint = "write it as 30s, 15m or 2h"
    try:
        found = seconds(text)
    except ValueError as error:
        raise UsageError(f'"{text}" is no duration', place="--idle", hint=hint) from error
    if not isinstance(found, float) or found <= 0:
        raise UsageError(f'"{text}" is no duration', place="--idle", hint=hint)
    return found
