"""Files of the project that its own code reads while a step runs: nothing pins them, so they may say otherwise later.

Python tells of every file that it opens (an audit event, PEP 578). What a library opens by itself, in C, what another
process opens, and files outside of the project are not seen.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import FrameType

from engine.errors import StepFailed

OPENINGS = ("open", "sqlite3.connect")
CODE = (".py", ".pyc", ".pyi", ".so", ".pth")
"""What the import system opens; which modules a run may import is looked at elsewhere."""
INSTALLED = "site-packages"


@dataclass(frozen=True, kw_only=True, slots=True)
class Read:
    """A file of the project, and the line of its code that had it opened."""

    path: Path
    place: str


@dataclass(kw_only=True, slots=True)
class Watch:
    """What is opened below ``roots``, but for ``home``: the first file that was read and not written before."""

    roots: tuple[str, ...]
    home: str
    written: set[str] = field(default_factory=set)
    read: Read | None = None

    def see(self, name: str, *, writes: bool) -> None:
        """A file is about to be opened."""
        path = os.path.abspath(name)  # noqa: PTH100  (every file that is opened comes by here)
        if not path.startswith(self.roots) or path.startswith(self.home) or path.endswith(CODE):
            return
        inside = next(path.removeprefix(root) for root in self.roots if path.startswith(root))
        if INSTALLED in inside or f"{os.sep}." in f"{os.sep}{inside}":
            return
        if writes:
            self.written.add(path)
        elif self.read is None and path not in self.written and os.path.isfile(path):  # noqa: PTH113
            place = self.asked_by(sys._getframe(1))
            self.read = Read(path=Path(path), place=place) if place else None

    def asked_by(self, frame: FrameType | None) -> str:
        """The innermost line of the project's code that is being executed; nothing when none is."""
        while frame is not None:
            file = frame.f_code.co_filename
            if file.startswith(self.roots) and INSTALLED not in file and not file.startswith(ENGINE):
                return f"{file}:{frame.f_lineno}"
            frame = frame.f_back
        return ""


ENGINE = f"{Path(__file__).resolve().parent.parent}{os.sep}"
WATCHING: list[Watch] = []


@contextmanager
def watched(roots: Sequence[Path], home: Path) -> Iterator[Watch]:
    """Inside, what the project's code opens below ``roots`` is seen."""
    listen()
    watch = Watch(roots=tuple(dict.fromkeys(below(root) for root in roots)), home=below(home))
    WATCHING.append(watch)
    try:
        yield watch
    finally:
        WATCHING.remove(watch)


def below(folder: Path) -> str:
    """How the path of everything in a folder begins."""
    return f"{str(folder.absolute()).rstrip(os.sep)}{os.sep}"


@cache
def listen() -> None:
    """Hear of what this process opens, from now on: Python lets nobody stop listening."""
    sys.addaudithook(hear)


def hear(event: str, arguments: tuple[object, ...]) -> None:
    """Pass on that a file is about to be opened."""
    if WATCHING and event in OPENINGS and isinstance(arguments[0], str | bytes | os.PathLike):
        mode, flags = (*arguments[1:3], None, None)[:2]
        for watch in tuple(WATCHING):
            watch.see(os.fsdecode(arguments[0]), writes=is_written(mode, flags))


def is_written(mode: object, flags: object) -> bool:
    """Whether a file is opened to be made or emptied: then what it said before does not matter."""
    if isinstance(mode, str):
        return not mode.startswith("r")
    return isinstance(flags, int) and bool(flags & (os.O_CREAT | os.O_TRUNC))


def refuse_read(watch: Watch) -> None:
    """Fail when the project's code read one of its files.

    Raises:
        StepFailed: with the file, and the line that asked for it.
    """
    if watch.read is not None:
        root = next(root for root in watch.roots if str(watch.read.path).startswith(root))
        raise StepFailed(
            f"{str(watch.read.path).removeprefix(root)} was read while the step ran, but no run is pinned with it",
            place=watch.read.place,
            hint="put what it says into the spec (`with:`) or into a module, or its rows into the lake",
        )
