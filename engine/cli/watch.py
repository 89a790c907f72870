"""``engine watch``."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from typing import Any

import typer

from engine.cli import view
from engine.cli.reporting import document_of, report_of
from engine.cli.run import EXIT_CODES, Wanted, carry_out, show_log, warn
from engine.errors import SpecInvalid
from engine.pipeline import Finished, Prepared
from engine.report import words
from engine.report.clean import terminal
from engine.report.facts import facts
from engine.watch import Arrived, Began, Ended, Mended, Notice, Rewritten, Trouble, watch

COLOURS = {"passed": view.BOLD, "refused": view.YELLOW, "failed": view.RED}


def register(app: typer.Typer, summary: str) -> None:
    """Add the command."""
    app.command("watch", help=summary)(command)


def command(
    specs: list[str] = typer.Argument(..., metavar="SPEC...", help="The specs to run."),
    once: bool = typer.Option(False, "--once", help="Handle what is there and end; at the first time the heads."),
    since: str = typer.Option("", "--since", metavar="REF", help="At the first time, begin behind this ref."),
    inline: bool = typer.Option(False, "--inline", help="In this process, in order, without Ray."),
    address: str = typer.Option(None, "--address", metavar="ADDR", help="A running Ray cluster to use."),
    as_json: bool = typer.Option(False, "--json", help="A JSON line a run on standard error; all at the end."),
) -> int:
    """Run a spec once for every commit that reaches a branch it reads, the oldest first, with the data at that commit.

    What was seen is kept: a watch that was stopped goes on where it was. Without --once it begins at the present
    heads and ends with Ctrl-C.
    """
    wanted = Wanted(inline=inline, fresh=False, address=address, targets=[], json=as_json)

    def run(prepared: Prepared) -> Finished:
        warn(prepared.loaded.warnings)
        return carry_out(prepared, wanted)

    runs: list[Mapping[str, Any]] = []
    answer = 0
    for notice in watch(specs, run, once=once, since=since, address=address):
        show(notice, as_json)
        answer = max(answer, exit_code(notice))
        if once and isinstance(notice, Ended):
            runs.append(document(notice))
    if as_json:
        view.document({"runs": runs})
    elif not runs and not answer:
        view.line("nothing new")
    return answer


def exit_code(notice: Notice) -> int:
    """What a notice means for the exit code of a watch that ends."""
    if isinstance(notice, Ended) and notice.finished is not None:
        return EXIT_CODES[notice.finished.record.status]
    error = notice.error if isinstance(notice, (Ended, Trouble)) else None
    return error.exit_code if error else 0


def document(ended: Ended) -> Mapping[str, Any]:
    """A run as ``engine run --json`` has it, and the commit that it is for."""
    about = {
        "spec": ended.spec,
        "repository": ended.branch.repository,
        "branch": ended.branch.name,
        "commit": ended.commit.id,
    }
    if ended.finished is None:
        return {**about, "run_id": None, "status": "failed", "error": ended.error.document() if ended.error else None}
    return {**finished_document(ended.finished), **about}


def show(notice: Notice, as_json: bool) -> None:
    """Say what happens: runs are the answer, all else is beside it."""
    if isinstance(notice, Ended):
        show_end(notice, as_json)
    elif isinstance(notice, Trouble):
        show_trouble(notice)
    else:
        view.note(view.paint(f"{time.strftime('%H:%M:%S')}  {sentence(notice)}", view.DIM))


def sentence(notice: Began | Arrived | Rewritten | Mended) -> str:
    """A notice in words."""
    spec = terminal(notice.spec)
    if isinstance(notice, Mended):
        return f"{spec}: {notice.what} is well again"
    if isinstance(notice, Rewritten):
        last = view.short(notice.last)
        return f"{spec}: {last} is not in the history of {notice.branch} any more, so only its head is run"
    if isinstance(notice, Began):
        behind = f"behind {view.short(notice.commit)}" if notice.commit else "from its head on"
        return f"{spec}: watching {notice.branch} {behind}{', as before' if notice.resumed else ''}"
    commit = notice.commit
    by = f" by {terminal(commit.author)}" if commit.author else ""
    waiting = f", {notice.left} more behind it" if notice.left else ""
    return f'{spec}: {notice.branch} got {view.short(commit.id)} "{terminal(commit.message)[:60]}"{by}{waiting}'


def show_trouble(notice: Trouble) -> None:
    """Why nothing can be run for now."""
    if isinstance(notice.error, SpecInvalid):
        view.problems(notice.error.problems)
    else:
        view.error(notice.error)
    view.note(view.paint(f"  {terminal(notice.spec)}: {notice.what} is tried again", view.DIM))


def show_end(ended: Ended, as_json: bool) -> None:
    """What came of a run, on one line; what is behind a refusal or a failure below it."""
    if as_json:
        view.note(json.dumps(document(ended), ensure_ascii=False))
    elif ended.finished is None or ended.prepared is None:
        line = f"FAILED  {terminal(ended.spec)}  commit {view.short(ended.commit.id)}"
        answer_line(line, "failed")
        if ended.error is not None:
            view.error(ended.error)
    else:
        show_finished(ended, ended.finished, ended.prepared)


def finished_document(finished: Finished) -> dict[str, Any]:
    """A run as ``engine run --json`` has it."""
    return document_of(finished.record, finished.resolved.shown, executed=finished.executed)


def show_finished(ended: Ended, finished: Finished, prepared: Prepared) -> None:
    """A run's line, and its gates that refuse or its error."""
    record = finished.record
    said = facts(report_of(record, prepared.desk.store, finished_document(finished)))
    took = words.duration(said.seconds) if finished.executed else "from the record"
    model = said.model if said.version is not None else said.name
    parts = [words.verdict(said), model, words.summary(said), f"run {view.short(record.run_id)}"]
    answer_line("  ".join([*parts, f"commit {view.short(ended.commit.id)}", took]), record.status)
    for gate in said.gates:
        if gate.mark == "refuse":
            view.note(f"  {gate.name}: {gate.reason}")
    if said.fault is not None:
        show_log(record)
        for text in said.fault.details:
            view.note(f"  {text}")
        view.note(f"  {view.paint(said.fault.hint, view.DIM)}" if said.fault.hint else "")


def answer_line(text: str, status: str) -> None:
    """A line of the answer, at once."""
    view.line(view.paint(text, COLOURS[status], stream=sys.stdout))
    sys.stdout.flush()
