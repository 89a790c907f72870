"""The command line in a process of its own that costs milliseconds: forked from one that has imported everything."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from tempfile import mkdtemp

import psutil

import moments
from projects import Done

STEPS = ("ingest", "validate", "train", "export", "evaluate", "gate", "register", "baseline", "leakage")
LIBRARIES = (
    "hydra", "onnx", "onnxruntime", "pandera.pandas", "pandera.backends.pandas.register", "pyarrow.csv", "pyarrow.json",
    "pyarrow.parquet", "sklearn.metrics", "scipy.stats", "threadpoolctl",
)  # fmt: skip
COMMANDS = ("run", "verify", "plan", "runs")
CONTEXT = get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        *LIBRARIES,
        *(f"engine.steps.{name}" for name in STEPS),
        *(f"engine.cli.{name}" for name in COMMANDS),
        "engine.execute.inline",
        "engine.execute.ray_executor",
        "engine.lake.embedded.lake",
        "engine_plugins.sklearn.trainer",
    ]
)


@dataclass(frozen=True)
class Command:
    """A command that was begun. It is the leader of a session of its own."""

    process: ForkServerProcess
    out: Path
    err: Path

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    @property
    def said(self) -> str:
        """What it has said on standard error so far."""
        return self.err.read_text() if self.err.is_file() else ""

    def says(self, text: str, timeout: float = 60) -> None:
        """Wait until it says so on standard error."""
        until = time.monotonic() + timeout
        while text not in self.said:
            assert self.process.is_alive(), self.said
            assert time.monotonic() < until, self.said
            time.sleep(0.005)

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def wait(self, timeout: float = 60) -> Done:
        """What came of it; one that was killed has the negative number of the signal as its code."""
        self.process.join(timeout)
        assert self.process.exitcode is not None, f"it hangs: {self.said}"
        return Done(self.process.exitcode, self.out.read_text() if self.out.is_file() else "", self.said)


def begin(folder: Path, *arguments: str, dies: int = -1, **environment: str) -> Command:
    """Begin a command. With ``dies`` it dies by SIGKILL just before that step of its work on files of the project."""
    said = Path(mkdtemp())
    command = Command(
        CONTEXT.Process(target=carry_out, args=(folder, arguments, said, {**os.environ, **environment}, dies)),
        said / "out",
        said / "err",
    )
    command.process.start()
    return command


def warm(folder: Path, *arguments: str, **environment: str) -> Done:
    """A command, from beginning to end."""
    return begin(folder, *arguments, **environment).wait()


def carry_out(folder: Path, arguments: list[str], said: Path, environment: Mapping[str, str], dies: int) -> None:
    """The command line, in the process that it is in."""
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for name, descriptor in (("out", 1), ("err", 2)):
        os.dup2(os.open(said / name, os.O_WRONLY | os.O_CREAT), descriptor)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if dies >= 0:
        moments.die(folder / ".engine", number=dies)
    from engine.cli.main import main

    sys.exit(main(arguments))


def session(leader: int) -> Iterator[psutil.Process]:
    """The living processes of the session that ``leader`` has, or had, begun."""
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                yield process
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
