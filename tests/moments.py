"""A process that dies by SIGKILL at a moment of one's choice: just before a step of its work on files in a folder.

A step is a file opened for writing, a folder made, a rename, a removal, a connection to a database, a statement there.
"""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

MARK = "ENGINE_TEST_DIES"
COMMAND = [
    sys.executable,
    "-c",
    "import moments, sys; moments.watch(); from engine.cli.main import main; sys.exit(main())",
]
WATCHED = ("open", "os.mkdir", "os.rename", "os.remove", "sqlite3.connect")
QUESTION = re.compile(r"\s*(select|begin\b(?! immediate)|pragma (?!application_id *=))", re.IGNORECASE)
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def dying(folder: Path, text: str = "", number: int = 0) -> dict[str, str]:
    """The environment in which ``COMMAND`` with the arguments of a command line dies as :func:`die` says."""
    roots = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, MARK: f"{folder}\n{text}\n{number}", "PYTHONPATH": os.pathsep.join(filter(None, roots))}


def watch() -> None:
    """Die as the environment says."""
    folder, text, number = os.environ[MARK].split("\n")
    die(Path(folder), text, int(number))


def changes(what: str) -> bool:
    """Whether a step may change anything: it is no question to a database."""
    return not QUESTION.match(what)


def die(folder: Path, text: str = "", number: int = 0, counts: Callable[[str], bool] = bool) -> None:
    """Die at the first step on a path in ``folder`` with ``text`` in it, or ``number`` steps later.

    Args:
        counts: whether a step is one of those at which to die.
    """
    left, begun = number, not text

    def step(what: str) -> None:
        nonlocal left, begun
        begun = begun or text in what
        if begun and left == 0 and counts(what):
            os.kill(os.getpid(), signal.SIGKILL)
        left -= begun and counts(what)

    def hear(event: str, values: tuple[Any, ...]) -> None:
        path = values[1] if event == "os.rename" else values[0] if event in WATCHED else ""
        own = isinstance(path, int) or str(path).startswith(str(folder))
        if own and (event != "open" or values[2] & WRITES):
            step(str(path))

    def connect(*args: Any, **options: Any) -> sqlite3.Connection:
        db = plain(*args, **options)
        db.set_trace_callback(step)
        return db

    plain, sqlite3.connect = sqlite3.connect, connect  # type: ignore[assignment]
    sys.addaudithook(hear)


def killed(work: Callable[[], object], folder: Path, number: int) -> bool:
    """Do ``work`` in a process that dies at step ``number`` in ``folder``; whether there was such a step."""
    child = os.fork()
    if child == 0:
        die(folder, number=number)
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or status == 0
    return status != 0
