"""``engine validate``."""

from __future__ import annotations

import sys

import typer

from engine.cli import view
from engine.errors import NO, USAGE, YES, NotFound, Problem, SpecInvalid, UsageError
from engine.spec.load import load

ABSENT = "spec-missing"


def register(app: typer.Typer, summary: str) -> None:
    """Add the command."""
    app.command("validate", help=summary)(command)


def command(
    specs: list[str] = typer.Argument(..., metavar="SPEC...", help="The specs to check."),
    json: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> int:
    """Check specs without running anything: no code of the project is imported and nothing is started."""
    found = {spec: problems_of(spec) for spec in specs}
    failed = any(problem.severity == "error" for problems in found.values() for problem in problems)
    absent = [problem for problems in found.values() for problem in problems if problem.rule == ABSENT]
    answer = USAGE if absent else NO if failed else YES
    if json:
        listed = [problem.document() for problems in found.values() for problem in problems]
        error = {"error": UsageError(absent[0].fact, hint=absent[0].hint).document()} if absent else {}
        view.document({**error, "valid": not failed, "specs": specs, "problems": listed})
        return answer
    for spec, problems in found.items():
        for problem in problems:
            view.line(view.problem_line(problem, sys.stdout))
        errors = sum(problem.severity == "error" for problem in problems)
        view.line(f"{spec}: {view.counted(errors, 'problem') if errors else 'valid'}")
    return answer


def problems_of(spec: str) -> list[Problem]:
    """Every problem of a spec, the harmless ones included."""
    try:
        return list(load(spec).warnings)
    except SpecInvalid as error:
        return list(error.problems)
    except NotFound as error:
        return [Problem(rule=ABSENT, fact=error.fact, hint=error.hint)]
