"""What ``engine validate`` found, and what every form of it needs to know: one place and one message a problem."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from engine.digest import digest_of
from engine.errors import Problem
from engine.report.clean import terminal
from engine.spec.find import STANDARD_INPUT

FORMATS = ("text", "json", "github", "gitlab", "sarif", "junit")
ABSENT = "spec-missing"
MOVING = re.compile(r":\d+:\d+|line \d+, column \d+|(?<=\.)\d+\b")


@dataclass(frozen=True, kw_only=True, slots=True)
class Checked:
    """A spec as the user named it, and everything that is wrong with it, the harmless included."""

    spec: str
    problems: tuple[Problem, ...] = ()

    @property
    def errors(self) -> int:
        """How many problems stop a run."""
        return sum(problem.severity == "error" for problem in self.problems)


@dataclass(frozen=True, kw_only=True, slots=True)
class Located:
    """A problem in a file: ``path`` with ``/``, ``line`` and ``column`` from 1.

    One that is in no file (an override, a spec that is not there) is at the beginning of its spec, and says where it is
    in its message; ``is_placed`` is false. ``fingerprint`` stays when lines move and when items come before it in a
    list: it is of the rule, the file, the key without the numbers of items, and the fact.
    """

    problem: Problem
    path: str
    line: int
    column: int
    message: str
    fingerprint: str
    is_placed: bool = True

    @property
    def is_error(self) -> bool:
        """Whether it stops a run."""
        return self.problem.severity == "error"


def located(checked: Sequence[Checked]) -> Iterator[Located]:
    """Every problem once, though several specs share the file that it is in."""
    seen: set[Problem] = set()
    alike: Counter[tuple[str, ...]] = Counter()
    for one in checked:
        for problem in one.problems:
            if problem.place.line and problem in seen:
                continue
            seen.add(problem)
            in_file = problem.place.line > 0
            path = posix(problem.place.file if in_file else one.spec)
            key = ".".join(part for part in problem.place.key.split(".") if not part.isdigit())
            subject = (problem.rule, path, key, MOVING.sub("", problem.fact))
            alike[subject] += 1
            yield Located(
                problem=problem,
                path=path,
                line=max(problem.place.line, 1),
                column=max(problem.place.column, 1),
                message=message(problem, place="" if in_file else problem.place.file),
                fingerprint=digest_of([*subject, alike[subject]]),
                is_placed=in_file and path != STANDARD_INPUT,
            )


def message(problem: Problem, place: str = "") -> str:
    """What a problem says, in one line: place, key, fact and hint."""
    where = f"{' '.join(part for part in (place, problem.place.key) if part)}: "
    then = f"; {problem.hint}" if problem.hint else ""
    return terminal(f"{where if where != ': ' else ''}{problem.fact}{then}")


def posix(path: str) -> str:
    """A path as CI services write it: relative to where they began, with ``/``."""
    return PurePath(path).as_posix()
