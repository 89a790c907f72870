"""For a person: a line a problem, and on a terminal the line of the file that it is about, with a caret."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from engine.errors import Problem
from engine.report.clean import terminal

if TYPE_CHECKING:
    from engine.report.problems.model import Checked

RED, YELLOW, DIM, BOLD, RESET = "\x1b[31m", "\x1b[33m", "\x1b[2m", "\x1b[1m", "\x1b[0m"
TOKEN = re.compile(r""""(?:\\.|[^"\\])*"|'[^']*'|[^\s,:{}\[\]]+""")
WIDEST = 100
BEFORE = 60


def text(checked: Sequence[Checked], sources: Mapping[str, str] | None = None, *, colour: bool = False) -> str:
    """Every problem, and for each spec whether it is valid.

    Args:
        sources: the text of the files; a problem in one of them is shown with the line that it is about.
    """
    return "".join(f"{line}\n" for one in checked for line in lines(one, sources or {}, colour=colour))


def lines(one: Checked, sources: Mapping[str, str], *, colour: bool) -> Iterator[str]:
    """The lines about one spec."""
    for problem in one.problems:
        yield line(problem, colour=colour)
        yield from excerpt(problem, sources.get(problem.place.file, ""), colour=colour)
    spec = terminal(one.spec)
    if one.errors:
        yield f"{spec}: {paint(f'{one.errors} problem' + 's' * (one.errors > 1), RED, BOLD, colour=colour)}"
    else:
        yield f"{spec}: valid"


def line(problem: Problem, *, colour: bool = False) -> str:
    """A problem: ``place: fact; hint  [rule]``."""
    place = paint(terminal(str(problem.place)), BOLD, colour=colour)
    kind = "" if problem.severity == "error" else paint("warning: ", YELLOW, colour=colour)
    hint = f"; {terminal(problem.hint)}" if problem.hint else ""
    separator = ": " if str(problem.place) else ""
    rule = paint(f"[{problem.rule}]", DIM, colour=colour)
    return f"{place}{separator}{kind}{terminal(problem.fact)}{hint}  {rule}"


def excerpt(problem: Problem, source: str, *, colour: bool = False) -> Iterator[str]:
    """The line that a problem is about, and carets below what is to be changed. Nothing when there is no such line."""
    number, column = problem.place.line, problem.place.column
    all_lines = source.splitlines()
    if not 0 < number <= len(all_lines) or column < 1:
        return
    whole = all_lines[number - 1]
    found = TOKEN.match(whole, column - 1)
    marked = found[0] if found else whole[column - 1 : column]
    start = max(0, column - 1 - BEFORE) if len(whole) > WIDEST else 0
    before, shown = whole[start : column - 1], whole[start : start + WIDEST]
    gutter = " " * len(str(number))
    room = max(1, WIDEST - cells(terminal(before)))
    carets = "^" * min(max(1, cells(terminal(marked))), room)
    tone = RED if problem.severity == "error" else YELLOW
    yield f"  {paint(f'{number} |', DIM, colour=colour)} {terminal(shown)}".rstrip()
    yield (
        f"  {paint(f'{gutter} |', DIM, colour=colour)} "
        f"{' ' * cells(terminal(before))}{paint(carets, tone, BOLD, colour=colour)}"
    )


def cells(part: str) -> int:
    """How many columns of a terminal some text takes."""
    return sum(width(letter) for letter in part)


def width(letter: str) -> int:
    """The columns of one character: none for a combining one, two for a wide one."""
    if unicodedata.combining(letter):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def paint(part: str, *codes: str, colour: bool) -> str:
    """Text in colour, where that is wanted."""
    return f"{''.join(codes)}{part}{RESET}" if colour and part else part
