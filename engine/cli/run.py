"""``engine run``."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from engine.cli import view
from engine.cli.reporting import (
    Answered,
    full_report,
    in_ci,
    no_commands,
    places_of,
    report_of,
    tell_ci,
    tell_refusal,
)
from engine.errors import FAILED, NO, YES, EngineError, Problem, SpecInvalid, UsageError
from engine.recall import Noted, note, recall, remember
from engine.record.model import RunRecord
from engine.report.clean import terminal
from engine.report.text import card, plain
from engine.report.write import FORMATS, ISSUE, check, parse_target, write
from engine.spec.vocabulary import MEASUREMENTS, PROPERTIES, limits_are_upper
from engine.wiring import open_home

if TYPE_CHECKING:
    from engine.cli.progress import Listener
    from engine.pipeline import Finished, Prepared
    from engine.report.issue import Service
    from engine.spec.model import Spec

REPORT_HELP = (
    f"Write a report, whole or not at all; may be repeated. Formats: {', '.join(FORMATS)}. "
    "issue=gh and issue=gitlab open an issue when the run does not pass."
)
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
    report: list[str] = typer.Option([], "--report", metavar="FORMAT=PATH", help=REPORT_HELP),
    json: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> int:
    """Carry out a spec and record it; an unchanged spec is answered from its record."""
    services = issue_services(report, multirun)
    targets = [parse_target(text) for text in report if not is_issue(text)]
    check(targets)
    wanted = Wanted(inline=inline, fresh=fresh, address=address, targets=targets, json=json)
    if multirun:
        return sweep(spec, overrides or [], wanted)
    try:
        answered = (None if fresh else recalled(spec, overrides or [])) or made(spec, overrides or [], wanted)
    except EngineError as error:
        tell_refusal(spec, error, targets)
        raise
    written = hand_out(answered, targets)
    if json:
        view.document(answered.document)
    else:
        show(answered, written)
    opened = [tell_service(answered, service) for service in services]
    return EXIT_CODES[answered.record.status] if all(opened) else FAILED


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


def recalled(spec: str, overrides: Sequence[str]) -> Answered | None:
    """The answer for a spec of which nothing has changed since it was last asked for."""
    found = recall(spec, overrides)
    if found is None:
        return None
    warn(found.warnings)
    home = found.home
    return Answered(
        record=found.record, records=home.records, store=home.store, registry=home.registry, root=home.root,
        shown=spec, executed=False, places=found.places,
    )  # fmt: skip


def made(spec: str, overrides: Sequence[str], wanted: Wanted) -> Answered:
    """The answer for any spec: from its record, or made now."""
    from engine.api import prepare_spec

    prepared = prepare_spec(spec, overrides, wanted.address)
    warn(prepared.loaded.warnings)
    noted = note(prepared, open_home(prepared.loaded.root))
    return answer_of(carry_out(prepared, wanted), prepared, noted)


def answer_of(finished: Finished, prepared: Prepared, noted: Noted | None) -> Answered:
    """What there is to say about a run that is over; the next time it may be recalled."""
    desk, root = prepared.desk, prepared.loaded.root
    places = places_of(finished.record, prepared)
    if finished.record.answers:
        remember(noted, places)
    return Answered(
        record=finished.record, records=desk.records, store=desk.store, registry=desk.registry, root=root,
        shown=finished.resolved.shown, executed=finished.executed, places=places,
    )  # fmt: skip


def warn(warnings: Iterable[Problem]) -> None:
    """Say what the spec's warnings are."""
    for problem in warnings:
        view.note(view.problem_line(problem, sys.stderr))


def carry_out(prepared: Prepared, wanted: Wanted) -> Finished:
    """Run with a display of what happens. What steps print inline is no command to a CI service."""
    from engine.pipeline import run as run_prepared

    with no_commands(), display(prepared, wanted.inline) as listener:
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


def hand_out(answered: Answered, targets: Sequence[tuple[str, Path]], *, alone: bool = True) -> list[str]:
    """Write every report that was asked for, and what the CI service round this reads; the paths as typed."""
    if not targets and not in_ci():
        return []
    found = full_report(answered)
    try:
        for kind, path in targets:
            write(found, f"{kind}={path}")
    finally:
        tell_ci(found, alone=alone)
    return [str(path) for _, path in targets]


def is_issue(target: str) -> bool:
    """Whether a ``--report`` asks for an issue."""
    return target.partition("=")[0] == ISSUE


def issue_services(report: Sequence[str], multirun: bool) -> list[Service]:
    """Where an issue is to be opened about a run that does not pass.

    Raises:
        UsageError: for a service that is unknown or whose tool is not installed, and in a sweep.
    """
    asked = [text.partition("=")[2] for text in report if is_issue(text)]
    if asked and multirun:
        fact = "a sweep opens no issues: most of its runs are candidates that nobody chose"
        raise UsageError(fact, place="--report issue", hint="ask for it where one run is judged")
    if not asked:
        return []
    from engine.report.issue import parse_service

    return [parse_service(name) for name in asked]


def tell_service(answered: Answered, service: Service) -> bool:
    """Open an issue unless the run passed or one is open; whether that went well. The answer is printed already."""
    from engine.report.ci import job_address
    from engine.report.issue import issue_of, open_issue

    issue = issue_of(full_report(answered), job_address(os.environ))
    if issue is None:
        return True
    try:
        opened = open_issue(issue, service, answered.root)
    except EngineError as error:
        view.error(error)
        return False
    view.note(f"issue  {opened.address}{'' if opened.new else '  (open already)'}")
    return True


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
        with no_commands():
            for text in log.splitlines()[-40:]:
                view.note(terminal(text))


# -- several runs -----------------------------------------------------------------------------------------------


def sweep(spec: str, overrides: list[str], wanted: Wanted) -> int:
    """Every combination that Hydra's sweeper makes of the overrides, one after the other, on one cluster."""
    from engine.api import prepare_spec
    from engine.digest import digest_of
    from engine.execute.warm import own_cluster
    from engine.spec.load import expand_sweep
    from engine.spec.project import project_root

    batches = expand_sweep(spec, overrides)
    done: list[tuple[tuple[str, ...], dict[str, Any]]] = []
    with own_cluster(open_home(project_root(Path(spec).absolute())).path):
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

        prepared = prepare_spec(spec, chosen, wanted.address, owned=True)
        noted = note(prepared, open_home(prepared.loaded.root))
        answered = answer_of(carry_out(prepared, wanted), prepared, noted)
    except EngineError as error:
        view.problems(error.problems) if isinstance(error, SpecInvalid) else view.error(error)
        return {"run_id": None, "status": "failed", "metrics": {}, "overrides": list(chosen), "error": error.document()}
    hand_out(answered, [(kind, numbered(path, answered)) for kind, path in wanted.targets], alone=False)
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
