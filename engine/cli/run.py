"""``engine run``."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from engine.cli import view
from engine.cli.reporting import report_of
from engine.errors import FAILED, NO, YES, EngineError, Problem, SpecInvalid
from engine.recall import recall, remember
from engine.record.model import RunRecord
from engine.record.store import RecordStore
from engine.report.clean import terminal
from engine.report.text import card, plain
from engine.spec.vocabulary import MEASUREMENTS, PROPERTIES, limits_are_upper
from engine.store.objects import ObjectStore
from engine.wiring import open_home

if TYPE_CHECKING:
    from engine.cli.progress import Listener
    from engine.pipeline import Finished, Prepared
    from engine.spec.model import Spec

EXIT_CODES = {"passed": YES, "refused": NO, "failed": FAILED}


def register(app: typer.Typer, summary: str) -> None:
    """Add the command."""
    app.command("run", help=summary)(command)


def command(
    spec: str = typer.Argument(..., metavar="SPEC", help="The spec."),
    overrides: list[str] = typer.Argument(None, metavar="[OVERRIDE]...", help="key=value in Hydra's grammar."),
    multirun: bool = typer.Option(False, "-m", "--multirun", help="Run every combination of the overrides' choices."),
    inline: bool = typer.Option(False, "--inline", help="In this process, in order, without Ray; breakpoints work."),
    fresh: bool = typer.Option(False, "--fresh", help="Execute again, whatever is recorded or cached."),
    address: str = typer.Option(None, "--address", metavar="ADDR", help="A running Ray cluster to use."),
    report: list[str] = typer.Option([], "--report", metavar="FORMAT=PATH", help="Write a report: html, md, json."),
    json: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> int:
    """Carry out a spec and record it; an unchanged spec is answered from its record."""
    from engine.report.write import parse_target

    targets = [parse_target(text) for text in report]
    wanted = Wanted(inline=inline, fresh=fresh, address=address, targets=targets, json=json)
    if multirun:
        return sweep(spec, overrides or [], wanted)
    answered = (None if fresh else recalled(spec, overrides or [])) or made(spec, overrides or [], wanted)
    written = write_reports(answered, targets)
    if json:
        view.document(answered.document)
    else:
        show(answered, written)
    return EXIT_CODES[answered.record.status]


class Wanted:
    """What the command line asks of every run."""

    def __init__(
        self, *, inline: bool, fresh: bool, address: str | None, targets: list[tuple[str, Path]], json: bool
    ) -> None:
        self.inline = inline
        self.fresh = fresh
        self.address = address
        self.targets = targets
        self.json = json


@dataclass(frozen=True, kw_only=True, slots=True)
class Answered:
    """A run's record, and what there is to say about it. ``executed`` now, or answered from the record."""

    record: RunRecord
    records: RecordStore
    store: ObjectStore
    shown: str
    executed: bool

    @property
    def document(self) -> dict[str, Any]:
        """The document of CONTRACT 2."""
        return document_of(self.record, self.shown, executed=self.executed)


def document_of(record: RunRecord, shown: str, *, executed: bool) -> dict[str, Any]:
    """The document of CONTRACT 2; what was not executed now took no time."""
    summary = dict(record.summary)
    if not executed:
        steps = [{**step, "status": "cached", "seconds": 0.0} for step in summary["steps"]]
        summary.update(executed=False, steps=steps, spec=shown)
    return summary


def recalled(spec: str, overrides: Sequence[str]) -> Answered | None:
    """The answer for a spec of which nothing has changed since it was last asked for."""
    found = recall(spec, overrides)
    if found is None:
        return None
    warn(found.warnings)
    home = found.home
    return Answered(record=found.record, records=home.records, store=home.store, shown=spec, executed=False)


def made(spec: str, overrides: Sequence[str], wanted: Wanted) -> Answered:
    """The answer for any spec: from its record, or made now."""
    from engine.api import prepare_spec

    prepared = prepare_spec(spec, overrides, wanted.address)
    warn(prepared.loaded.warnings)
    return answer_of(carry_out(prepared, wanted), prepared)


def answer_of(finished: Finished, prepared: Prepared) -> Answered:
    """What there is to say about a run that is over; the next time it may be recalled."""
    desk = prepared.desk
    if finished.record.answers:
        remember(prepared, open_home(prepared.loaded.root))
    return Answered(
        record=finished.record, records=desk.records, store=desk.store, shown=finished.resolved.shown,
        executed=finished.executed,
    )  # fmt: skip


def warn(warnings: Iterable[Problem]) -> None:
    """Say what the spec's warnings are."""
    for problem in warnings:
        view.note(view.problem_line(problem, sys.stderr))


def carry_out(prepared: Prepared, wanted: Wanted) -> Finished:
    """Run with a display of what happens."""
    from engine.pipeline import run as run_prepared

    with display(prepared, wanted.inline) as listener:
        return run_prepared(prepared, listener.hear, inline=wanted.inline, fresh=wanted.fresh)


@contextmanager
def display(prepared: Prepared, inline: bool) -> Iterator[Listener]:
    """A live tree on a terminal, plain lines in a pipe and where a debugger may stop; both on standard error."""
    from engine.cli.progress import Lines

    if view.is_terminal(sys.stderr) and not inline:
        from engine.cli.live import Tree

        known = prepared.desk.records.answer(prepared.resolved.run_id) is not None
        settled = {} if known else prepared.desk.settled(prepared.plan)
        with Tree(prepared.plan, settled) as tree:
            yield tree
    else:
        yield Lines(prepared.plan)


def write_reports(answered: Answered, targets: Sequence[tuple[str, Path]]) -> list[str]:
    """Write every report that was asked for; the paths as typed."""
    if not targets:
        return []
    from engine.report.write import write

    found = report_of(answered.record, answered.store, answered.document)
    for target in targets:
        write(found, f"{target[0]}={target[1]}")
    return [str(path) for _, path in targets]


def show(answered: Answered, written: list[str]) -> None:
    """The card at the end: rich on a terminal, plain lines in a pipe. After a failure also what the step printed."""
    record = answered.record
    found = report_of(record, answered.store, with_record_path(answered), tuple(written))
    if record.status == "failed":
        show_log(record)
    if view.is_terminal(sys.stdout):
        view.console().print(card(found))
    else:
        view.line(plain(found))


def with_record_path(answered: Answered) -> dict[str, Any]:
    """The run's document with the path of its record."""
    path = answered.records.folder(answered.record.run_id) / "executions" / str(answered.record.execution)
    with contextlib.suppress(ValueError):
        path = path.relative_to(Path.cwd())
    return {**answered.document, "record": str(path)}


def show_log(record: RunRecord) -> None:
    """What the failed step printed before it failed."""
    error = record.summary["error"] or {}
    byproducts = record.statement["predicate"]["runDetails"]["byproducts"]
    steps = next(item["annotations"] for item in byproducts if item["name"] == "steps")
    log = steps.get(error.get("step"), {}).get("log", "").strip()
    if log:
        view.note(view.paint(f"--- what {error['step']} printed", view.DIM))
        for text in log.splitlines()[-40:]:
            view.note(terminal(text))


# -- several runs -----------------------------------------------------------------------------------------------


def sweep(spec: str, overrides: list[str], wanted: Wanted) -> int:
    """Every combination that Hydra's sweeper makes of the overrides, one after the other."""
    from engine.api import prepare_spec
    from engine.digest import digest_of
    from engine.spec.load import expand_sweep

    batches = expand_sweep(spec, overrides)
    done: list[tuple[tuple[str, ...], dict[str, Any]]] = []
    for number, chosen in enumerate(batches, 1):
        view.note(f"[{number}/{len(batches)}] {' '.join(text.lstrip('+') for text in chosen) or spec}")
        done.append((chosen, one_of_sweep(spec, chosen, wanted)))
    ids = [str(document.get("run_id")) for _, document in done]
    best = best_of(done, prepare_spec(spec, batches[0]).loaded.spec if batches else None)
    if wanted.json:
        view.document({"sweep_id": digest_of(sorted(ids)), "runs": [document for _, document in done], "best": best})
    else:
        show_sweep(done, best)
    return max((EXIT_CODES.get(str(document["status"]), FAILED) for _, document in done), default=YES)


def one_of_sweep(spec: str, chosen: tuple[str, ...], wanted: Wanted) -> dict[str, Any]:
    """One run of a sweep; what keeps it from running is its result."""
    try:
        from engine.api import prepare_spec

        prepared = prepare_spec(spec, chosen, wanted.address)
        answered = answer_of(carry_out(prepared, wanted), prepared)
    except EngineError as error:
        view.problems(error.problems) if isinstance(error, SpecInvalid) else view.error(error)
        return {"run_id": None, "status": "failed", "metrics": {}, "overrides": list(chosen), "error": error.document()}
    write_reports(answered, [(kind, numbered(path, answered)) for kind, path in wanted.targets])
    return answered.document


def numbered(path: Path, answered: Answered) -> Path:
    """A report's path with the run's id in it, so that the runs of a sweep do not overwrite each other's."""
    return path.with_name(f"{path.stem}-{answered.record.run_id[:12]}{path.suffix}")


def objective_of(spec: Spec) -> tuple[str, bool]:
    """The metric that a sweep compares by, and whether more of it is better."""
    gates = [gate.metric for gate in spec.evaluate.gates if gate.metric in spec.evaluate.metrics]
    objective = spec.sweep.objective or next(iter(gates), spec.evaluate.metrics[0])
    if spec.sweep.direction is None:
        return objective, not limits_are_upper(objective)
    return objective, spec.sweep.direction == "maximize"


def best_of(done: list[tuple[tuple[str, ...], dict[str, Any]]], spec: Spec | None) -> dict[str, Any] | None:
    """The best run that passed: its id and overrides."""
    if spec is None:
        return None
    objective, more = objective_of(spec)
    passed = [
        (chosen, found)
        for chosen, found in done
        if found["status"] == "passed" and found["metrics"].get(objective) is not None
    ]
    if not passed:
        return None
    chosen, found = (max if more else min)(passed, key=lambda item: item[1]["metrics"][objective])
    overrides = [text.lstrip("+") for text in chosen]
    return {
        "run_id": found["run_id"],
        "overrides": overrides,
        "objective": objective,
        "value": found["metrics"][objective],
    }


def show_sweep(done: list[tuple[tuple[str, ...], dict[str, Any]]], best: dict[str, Any] | None) -> None:
    """The runs of a sweep as a table, the best marked."""
    judged = {name for _, document in done for name in document["metrics"]}
    names = sorted(judged.difference(PROPERTIES, MEASUREMENTS))[:4]
    rows = []
    for chosen, document in done:
        mark = "*" if best and document["run_id"] == best["run_id"] else ""
        figures = [view.figure(document["metrics"].get(name)) for name in names]
        overrides = " ".join(text.lstrip("+") for text in chosen)
        rows.append([mark, view.short(document["run_id"]), str(document["status"]), *figures, overrides])
    view.table(["", "run", "status", *names, "overrides"], rows)
    if best:
        view.line(f"best: {best['objective']} {best['value']:.4f} with {' '.join(best['overrides'])}")
