"""A process that has imported everything, and forks one that runs a command and may be killed after a while.

Protocol on standard input, a JSON line each: {"folder", "arguments", "kill_after"}; the answer is the exit code, negative
for a signal, on standard output.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

STEPS = ("ingest", "validate", "train", "export", "evaluate", "gate", "register", "compare", "latency")


class Nursery:
    """The parent's side of it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def run(self, folder: Path, *arguments: str, kill_after: float | None = None) -> int:
        """The exit code of ``engine`` with these arguments in ``folder``; -9 when it was killed before it ended."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        asked = {"folder": str(folder), "arguments": arguments, "kill_after": kill_after}
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


@contextmanager
def nursery() -> Iterator[Nursery]:
    """One of them."""
    with subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Nursery(process)
        finally:
            process.kill()


def serve() -> None:
    """The process itself."""
    import importlib

    for name in ("engine.cli.run", "engine.api", "engine.cli.main", *(f"engine.steps.{step}" for step in STEPS)):
        importlib.import_module(name)
    for line in sys.stdin:
        print(answer(**json.loads(line)), flush=True)


def answer(folder: str, arguments: list[str], kill_after: float | None) -> int:
    """Fork, run, kill."""
    child = os.fork()
    if child == 0:
        from engine.cli.main import main

        os.chdir(folder)
        silence = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(silence, descriptor)
        os._exit(main(arguments))
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    serve()
