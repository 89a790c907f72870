"""How things look: colour on a terminal, plain lines in a pipe, nothing on standard output but the answer."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from engine.errors import EngineError, Problem
from engine.report.clean import terminal
from engine.report.problems import text

if TYPE_CHECKING:
    from rich.console import Console

RED, YELLOW, DIM, BOLD, RESET = "\x1b[31m", "\x1b[33m", "\x1b[2m", "\x1b[1m", "\x1b[0m"


def is_terminal(stream: Any) -> bool:
    """Whether a person looks at a stream, so that it may move and have borders."""
    return bool(stream.isatty()) and not os.environ.get("CI") and os.environ.get("TERM") != "dumb"


def coloured(stream: Any) -> bool:
    """Whether a stream is a terminal that wants colour."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR")


def paint(text: str, *codes: str, stream: Any = None) -> str:
    """``text`` in colour, where that is wanted."""
    return f"{''.join(codes)}{text}{RESET}" if coloured(stream or sys.stderr) else text


def line(said: str = "") -> None:
    """One line of the answer, on standard output."""
    sys.stdout.write(said + "\n")


def note(said: str) -> None:
    """One line beside the answer, on standard error."""
    sys.stderr.write(said + "\n")
    sys.stderr.flush()


def document(value: object) -> None:
    """The answer as one JSON document."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")


def error(raised: EngineError) -> None:
    """An error: its details first, then place, fact and next act."""
    details = getattr(raised, "details", "")
    if details:
        note("\n".join(terminal(part) for part in details.splitlines()))
    place = f"{paint(terminal(raised.place), BOLD)}: " if raised.place else ""
    note(f"{paint('error', RED, BOLD)}: {place}{terminal(raised.fact)}")
    if raised.hint:
        note(f"  {paint(terminal(raised.hint), DIM)}")


def complaint(message: str, hint: str = "") -> None:
    """A message that is no :class:`EngineError`."""
    note(f"{paint('error', RED, BOLD)}: {terminal(message)}")
    if hint:
        note(f"  {paint(terminal(hint), DIM)}")


def problems(found: Sequence[Problem]) -> None:
    """Every problem on a line of its own, and how many there are."""
    for problem in found:
        note(problem_line(problem, sys.stderr))
    errors = sum(problem.severity == "error" for problem in found)
    if errors:
        note(f"{paint(counted(errors, 'problem'), RED, BOLD)}")


def problem_line(problem: Problem, stream: Any) -> str:
    """A problem: place, severity, fact; hint."""
    return text.line(problem, colour=coloured(stream))


def counted(number: int, noun: str) -> str:
    """``1 problem``, ``2 problems``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def console() -> Console:
    """A rich console on standard output."""
    from rich.console import Console

    return Console(color_system="auto" if coloured(sys.stdout) else None, highlight=False)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns of text with two blanks between them."""
    cleaned = [[terminal(cell) for cell in row] for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(heads, *cleaned, strict=True)]
    line(paint(aligned(heads, widths), DIM, stream=sys.stdout))
    for row in cleaned:
        line(aligned(row, widths))


def aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    """One row of a table."""
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def short(digest: str | None, length: int = 12) -> str:
    """The first digits of a digest or id, for a person."""
    return (digest or "-").removeprefix("sha256:")[:length]


def figure(value: float | None) -> str:
    """A number with four significant decimals."""
    return "-" if value is None else f"{value:.4f}"
