"""Every error that Engine raises on purpose. Each has a code, a place, a fact, a hint and an exit code.

::

    EngineError
    |-- UsageError (2)            the request cannot be carried out as it was made
    |   |-- SpecInvalid           problems in a spec, all of them at once
    |   |-- NotFound              a name, ref, file or run that does not exist
    |   `-- AlreadyExists
    |-- Refused (1)               the answer is no
    |   `-- DigestMismatch        bytes that are not what was recorded
    `-- Failed (3)                something broke while it was being done
        |-- StepFailed            a step of a run
        |   `-- SchemaViolated    data that breaks its schema
        |-- DataUnreadable        a file that is not what its name says
        |-- LakeUnavailable       the lake does not answer
        |-- StorageFull           no space left
        `-- StorageUnwritable     no permission to write
"""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

YES, NO, USAGE, FAILED, INTERRUPTED, UNREAD = 0, 1, 2, 3, 130, 141
LIKE = 0.6
SHORTEST_BEGINNING = 3
PARTS = re.compile(r"[_.:/@-]")


class EngineError(Exception):
    """The root of the tree above: ``place: fact; hint``.

    ``place`` is a file with line and column, a step, a URI or an override; ``fact`` says what is wrong;
    ``hint`` says what to do next. Place and hint may be empty.
    """

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = FAILED

    def __init__(self, fact: str, *, place: str = "", hint: str = "") -> None:
        self.fact = fact
        self.place = place
        self.hint = hint
        super().__init__(fact)

    def __str__(self) -> str:
        where = f"{self.place}: " if self.place else ""
        then = f"; {self.hint}" if self.hint else ""
        return f"{where}{self.fact}{then}"

    def document(self) -> dict[str, object]:
        """What ``--json`` prints for this error, without the key ``error`` round it."""
        return {"code": self.code, "message": self.fact, "place": self.place, "hint": self.hint}


class UsageError(EngineError):
    """The request cannot be carried out as it was made."""

    code = "usage"
    exit_code = USAGE


class NotFound(UsageError):
    """Something was named that does not exist; ``known`` are the names that do."""

    code = "not-found"

    def __init__(self, what: str, name: str, known: Iterable[str] = (), *, place: str = "", hint: str = "") -> None:
        self.name = name
        super().__init__(f"no {what} {name!r}", place=place, hint=hint or suggestion(name, known))


class AlreadyExists(UsageError):
    """A name that is taken."""

    code = "already-exists"


class Refused(EngineError):
    """The answer is no."""

    code = "refused"
    exit_code = NO


class DigestMismatch(Refused):
    """Bytes that are not the bytes that were recorded."""

    code = "digest-mismatch"

    def __init__(self, what: str, expected: str, found: str, *, place: str = "") -> None:
        super().__init__(
            f"{what} is not what was recorded: expected sha256 {expected}, found {found}",
            place=place,
            hint="do not use it; `engine verify` names everything that was altered",
        )


class Failed(EngineError):
    """Something broke while it was being done."""

    code = "failed"
    exit_code = FAILED


class StepFailed(Failed):
    """A step could not do its work. ``details`` are more lines for a person, such as a table of rows."""

    code = "step-failed"

    def __init__(self, fact: str, *, place: str = "", hint: str = "", details: str = "", key: str = "") -> None:
        self.details = details
        self.key = key
        super().__init__(fact, place=place, hint=hint)

    def document(self) -> dict[str, object]:
        """As for every error, and the details."""
        return {**super().document(), "details": self.details}


class SchemaViolated(StepFailed):
    """Data breaks the schema that its spec names."""

    code = "schema-violated"


class DataUnreadable(StepFailed):
    """A file is not what its extension or its ``format`` says."""

    code = "data-unreadable"


class LakeUnavailable(Failed):
    """The lake did not answer, or not in time."""

    code = "lake-unavailable"


class StorageFull(Failed):
    """No space is left where Engine keeps its state."""

    code = "storage-full"

    HINT = "free some space or set ENGINE_HOME to another disk; nothing half-written was left"

    def __init__(self, path: Path | str, hint: str = HINT) -> None:
        super().__init__("no space left on the device", place=str(path), hint=hint)


class StorageUnwritable(Failed):
    """Engine may not write where it keeps its state."""

    code = "storage-unwritable"

    HINT = "give yourself write permission or set ENGINE_HOME to a folder of your own"

    def __init__(self, path: Path | str, hint: str = HINT) -> None:
        super().__init__("cannot be written", place=str(path), hint=hint)


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a person should look: a file with line and column (1-based), and the key in the spec."""

    file: str = ""
    line: int = 0
    column: int = 0
    key: str = ""

    def __str__(self) -> str:
        spot = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{spot} {self.key}".strip()


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """A finding in a spec. ``severity`` is ``error`` or ``warning``; only errors stop a run."""

    rule: str
    fact: str
    place: Place = Place()
    hint: str = ""
    severity: str = "error"

    def __str__(self) -> str:
        where = f"{self.place}: " if str(self.place) else ""
        then = f"; {self.hint}" if self.hint else ""
        return f"{where}{self.fact}{then}"

    def document(self) -> dict[str, object]:
        """This problem as JSON."""
        return {
            "rule": self.rule,
            "severity": self.severity,
            "file": self.place.file,
            "line": self.place.line,
            "column": self.place.column,
            "key": self.place.key,
            "message": self.fact,
            "hint": self.hint,
            "known": list(getattr(self.hint, "known", ())),
            "nearest": getattr(self.hint, "nearest", None),
        }


class SpecInvalid(UsageError):
    """A spec has problems. All of them are in ``problems``, in the order of the file."""

    code = "spec-invalid"

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        errors = [problem for problem in self.problems if problem.severity == "error"]
        count = "1 problem" if len(errors) == 1 else f"{len(errors)} problems"
        super().__init__(f"{count} in the spec")

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)

    def document(self) -> dict[str, object]:
        """As for every error, and one document a problem."""
        first = self.problems[0] if self.problems else None
        return {
            **super().document(),
            "place": str(first.place) if first else "",
            "hint": first.hint if first else "",
            "message": str(self),
            "problems": [problem.document() for problem in self.problems],
        }


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The name among ``known`` that a typist most likely meant, if any is near."""
    names = sorted(set(known))
    scored = [(likeness(name.lower(), candidate.lower()), candidate) for candidate in names]
    best, found = max(scored, key=lambda item: item[0], default=(0.0, None))
    return found if best >= LIKE else None


def likeness(typed: str, candidate: str) -> float:
    """How near two names are, from 0 to 1; a part of a name, or its beginning, counts a little less than the whole."""
    whole = difflib.SequenceMatcher(None, typed, candidate).ratio()
    parts = [difflib.SequenceMatcher(None, typed, part).ratio() for part in PARTS.split(candidate)]
    begins = 0.9 if len(typed) >= SHORTEST_BEGINNING and candidate.startswith(typed) else 0.0
    return max(whole, 0.95 * max(parts), begins)


class Suggestion(str):
    """A hint that a person reads, and for a program the names that it was made from: ``known``, and the ``nearest``."""

    __slots__ = ("known", "nearest")
    known: tuple[str, ...]
    nearest: str | None

    def __new__(cls, text: str, known: Sequence[str] = (), nearest: str | None = None) -> Suggestion:
        made = super().__new__(cls, text)
        made.known, made.nearest = tuple(known), nearest
        return made


def suggestion(name: str, known: Iterable[str], most: int = 12) -> str:
    """``did you mean ...?`` when something is near, else the known names, else nothing; as a :class:`Suggestion`."""
    names = sorted(set(known))
    close = nearest(name, names)
    if close is not None:
        return Suggestion(f'did you mean "{close}"?', names, close)
    if not names:
        return Suggestion("")
    shown = most if len(names) > most + 1 else len(names)
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return Suggestion(f"known: {', '.join(names[:shown])}{more}", names)


FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
UNWRITABLE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


def translate_os_error(error: OSError, path: Path | str) -> EngineError:
    """A failure of the operating system while writing below ``path``, as an error of ours."""
    if error.errno in FULL:
        return StorageFull(path)
    if error.errno in UNWRITABLE:
        return StorageUnwritable(error.filename or path)
    return Failed(error.strerror or str(error), place=str(error.filename or path))


@contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """Give every ``OSError`` raised inside as one of ours, about ``path`` or the file that the system names.

    A file beside ``path`` that is hidden and begins with its name is a temporary one: nobody asked for it, so the
    error is about ``path``.
    """
    try:
        yield
    except OSError as error:
        named, beside = str(error.filename), Path(path).parent / f".{Path(path).name}."
        if Path(path).name and named.startswith(str(beside)):
            error.filename = str(path)
        raise translate_os_error(error, path) from error


def from_document(document: Mapping[str, object]) -> StepFailed:
    """The error that another process described with :meth:`EngineError.document`."""
    return StepFailed(
        str(document.get("message", "")),
        place=str(document.get("place", "")),
        hint=str(document.get("hint", "")),
        details=str(document.get("details", "")),
    )
