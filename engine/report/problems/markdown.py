"""The problems as GitHub flavoured Markdown, for the summary of a job whose run did not begin."""

from __future__ import annotations

from collections.abc import Sequence

from engine.report.clean import code
from engine.report.clean import markdown as escaped
from engine.report.problems.model import Checked, located


def markdown(checked: Sequence[Checked]) -> str:
    """A heading and a row a problem: its place, its rule and what it says."""
    rows = [
        f"| {code(f'{one.path}:{one.line}' if one.is_placed else one.path)} | {code(one.problem.rule)} "
        f"| {escaped(one.message)} |"
        for one in located(checked)
    ]
    names = ", ".join(code(one.spec) for one in checked)
    return "\n".join(
        [f"## \u274c {names} was not run", "", "| place | rule | problem |", "| --- | --- | --- |", *rows, ""]
    )
