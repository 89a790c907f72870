"""Annotations on a pull request: GitHub's workflow commands."""

from __future__ import annotations

from collections.abc import Sequence

from engine.report.ci import command
from engine.report.problems.model import Checked, Located, located


def github(checked: Sequence[Checked]) -> str:
    """A command a problem: ``::error file=specs/model.yaml,line=3,col=7,title=key-unknown::...``."""
    return "".join(f"{annotation(found)}\n" for found in located(checked))


def annotation(found: Located) -> str:
    """One command. Its message is the data of a command, so it cannot begin another one."""
    level = "error" if found.is_error else "warning"
    where = {"file": found.path, "line": found.line, "col": found.column} if found.is_placed else {}
    return command(level, found.message, **where, title=found.problem.rule)
