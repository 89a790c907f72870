"""``engine validate``."""

from __future__ import annotations

import sys

import typer

from engine.cli import view
from engine.errors import NO, YES, Problem, SpecInvalid
from engine.spec.load import load


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
    if json:
        listed = [problem.document() for problems in found.values() for problem in problems]
        view.document({"valid": not failed, "specs": specs, "problems": listed})
        return NO if failed else YES
    for spec, problems in found.items():
        for problem in problems:
            view.line(view.problem_line(problem, sys.stdout))
        errors = sum(problem.severity == "error" for problem in problems)
        view.line(f"{spec}: {view.counted(errors, 'problem') if errors else 'valid'}")
    return NO if failed else YES


def problems_of(spec: str) -> list[Problem]:
    """Every problem of a spec, the harmless ones included."""
    try:
        return list(load(spec).warnings)
    except SpecInvalid as error:
        return list(error.problems)
