"""How things look: colour on a terminal, plain lines in a pipe, nothing on standard output but the answer."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from engine.errors import EngineError, Problem
from engine.report.clean import terminal
from engine.report.problems import text

if TYPE_CHECKING:
    from rich.console import Console

TREE = " │├└─"
GAP_AND_WORD = re.compile(r"( *)([^ ]+)")
PAINT = re.compile(r"\x1b\[\d*m")
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
    """One line of the answer, on standard output; a person sees no word broken at the terminal's edge."""
    shown = folded(said, shutil.get_terminal_size().columns) if is_terminal(sys.stdout) else said
    sys.stdout.write(shown + "\n")


def folded(text: str, width: int) -> str:
    """``text`` in lines of at most ``width`` columns where blanks allow it; those after the first are indented."""
    if len(text) <= width:
        return text
    margin = " " * (len(text) - len(text.lstrip(TREE)) + 2)
    lines, length = [""], 0
    for gap, word in GAP_AND_WORD.findall(text):
        size = len(PAINT.sub("", word))
        if length and length + len(gap) + size > width and len(margin) + size <= width:
            lines.append(margin + word)
            length = len(margin) + size
        else:
            lines[-1] += gap + word
            length += len(gap) + size
    return "\n".join(lines)


def note(said: str) -> None:
    """One line beside the answer, on standard error."""
    sys.stderr.write(said + "\n")
    sys.stderr.flush()


def document(value: object) -> None:
    """The answer as one JSON document."""
    escaped = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("-", "") != "utf8"
    sys.stdout.write(json.dumps(value, ensure_ascii=escaped) + "\n")


def write_anything() -> None:
    """Let the streams show what their encoding has no letter for, escaped, rather than fail at it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


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
