"""A plan on Ray, seen from outside: Ray is used in a process of its own, the driver, and this one says what came of it.

::

    this process ----- work ----> driver (ray_graph.drive) ---- tasks ----> Ray
                 <--- events ----

For Ray, when it loses its head, ends the process that it is used in without a word, or lets it wait for a minute; and
it takes its token only from the environment in which it is first imported. When this process dies, the driver leaves,
and nothing of an own cluster stays.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import IO, Protocol

from engine.errors import EngineError, Failed, UsageError
from engine.execute import reaper
from engine.execute.protocol import Report, StepEvent, StepOutcome, Surroundings, Work
from engine.store.durable import scratch_folder

INFINITY = float("inf")
TICK = 0.1
LAST_WORDS = 1.0
LEAVE_SECONDS = 10.0
START_SECONDS = 120.0
CONNECT_SECONDS = 5.0
PROCESSES = Path("/proc")
HEAD = ("gcs_server", "raylet")
INFORMATION = ":info_message:"  # how Ray marks what is no error among its errors
RAYS_PLACE = re.compile(r"^\[[^]]*\] \S+\.(cc|h):\d+: ")
BOOT = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from engine.execute.ray_graph import main; main()"
STAY_ON_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
OWN_CLUSTER = {
    "RAY_AUTH_MODE": "token",
    STAY_ON_LOOPBACK: "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_prestart_worker_first_driver": "0",  # it waits for these workers for ever when one is killed
    "PYTHONHASHSEED": "0",
    "OMP_NUM_THREADS": "1",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Errand:
    """What the driver is to do: the work, on the cluster at ``address`` or on an own one with its files in ``folder``.

    In the folder ``marks`` the steps say that they have started. ``surroundings`` are those of a process that is not
    where the driver is.
    """

    work: Work
    marks: Path
    address: str | None = None
    folder: Path | None = None
    surroundings: Surroundings | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Attached:
    """The driver is on its cluster."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Complaint:
    """An error that the driver met, as far as it can be told to another process."""

    is_usage: bool
    fact: str
    place: str
    hint: str

    def error(self) -> EngineError:
        """The error."""
        return (UsageError if self.is_usage else Failed)(self.fact, place=self.place, hint=self.hint)


@dataclass(frozen=True, kw_only=True, slots=True)
class RayExecutor:
    """Does independent steps in parallel, on an own local cluster or on the one at ``address``."""

    address: str | None = None
    name: str = field(default="ray")

    def execute(self, work: Work, report: Report) -> dict[str, StepOutcome]:
        """Every step's outcome, by id.

        Raises:
            UsageError: when a step asks for more than the cluster has.
            Failed: when the cluster cannot be started or reached, or is lost.
        """
        with scratch_folder(work.home / "tmp", "started-") as folder:
            if self.address is not None:
                return attached(Errand(work=work, marks=folder, address=self.address), report)
            token = secrets.token_hex(32)
            with reaped(token) as place:
                errand = Errand(work=work, marks=folder, folder=place)
                with driver(errand, own_environment(token)) as started:
                    return started.outcomes(report)


def attached(errand: Errand, report: Report) -> dict[str, StepOutcome]:
    """Every step's outcome, from the cluster at the errand's address, which is left as it is.

    Raises:
        UsageError, Failed: as :meth:`RayExecutor.execute`.
    """
    assert errand.address is not None
    require_listener(errand.address)
    # Ray takes 127.0.0.1 for the machine's other address unless it is told, before its import, to stay on this one.
    stay = {STAY_ON_LOOPBACK: "0"} if "127.0.0.1" in errand.address or "localhost" in errand.address else {}
    with driver(errand, {**stay, **os.environ}) as started:
        found = started.outcomes(report)
        started.let_go()
    return found


def own_environment(token: str) -> dict[str, str]:
    """The environment of a cluster of one's own, which nobody without the token can use."""
    return {**os.environ, **OWN_CLUSTER, "RAY_AUTH_TOKEN": token}


class Numbered(Protocol):
    """A process that somebody has started."""

    @property
    def pid(self) -> int:
        """Its number."""


class Driver:
    """The process in which Ray is used. ``said`` holds what it and Ray print, which nobody sees unless it dies."""

    def __init__(self, process: Numbered, connection: Connection, said: IO[bytes]) -> None:
        self.process = process
        self.connection = connection
        self.said = said
        self.head: dict[int, str] = {}

    def outcomes(self, report: Report) -> dict[str, StepOutcome]:
        """What it gives in the end; the events on the way are passed on.

        Raises:
            UsageError, Failed: what it complains of, or why it cannot say so any more.
        """
        patience = time.monotonic() + START_SECONDS
        while True:
            lost = self.lost_head()
            if not self.connection.poll(LAST_WORDS if lost else TICK):
                if lost:
                    raise lost_cluster(f"its {lost} is gone")
                if time.monotonic() > patience:
                    raise never_started()
                continue
            try:
                message = self.connection.recv()
            except (EOFError, OSError) as error:
                lost = self.lost_head()  # often its driver dies of that, and faster than it is seen here
                raise lost_cluster(f"its {lost} is gone" if lost else self.last_line()) from error
            if isinstance(message, Complaint):
                raise message.error()
            if isinstance(message, Attached):
                patience = INFINITY
            elif isinstance(message, StepEvent):
                report(message)
            else:
                found: dict[str, StepOutcome] = message
                return found

    def lost_head(self) -> str:
        """A process of the own cluster's head that was there and is gone; nothing where none can be seen."""
        if len(self.head) < len(HEAD):
            self.head.update({child: name for child in children(self.process.pid) if (name := name_of(child)) in HEAD})
        return next((name for child, name in self.head.items() if name_of(child) != name), "")

    def last_line(self) -> str:
        """The last line that it printed before it died, without where in Ray's source that was."""
        self.said.seek(0)
        lines = [line for line in self.said.read().decode(errors="replace").split("\n") if INFORMATION not in line]
        return next(
            (found for line in reversed(lines) if (found := RAYS_PLACE.sub("", line).strip())), "its driver died"
        )

    def let_go(self) -> None:
        """Let it leave its cluster in good order."""
        self.connection.close()
        until = time.monotonic() + LEAVE_SECONDS
        while name_of(self.process.pid) and time.monotonic() < until:
            time.sleep(TICK / 10)


def lost_cluster(why: str) -> Failed:
    """The error for a cluster that is not there any more."""
    hint = "run again: the steps that were finished are kept; `--inline` runs without Ray"
    return Failed(f"the Ray cluster was lost: {why}", hint=hint)


def never_started() -> Failed:
    """The error for a cluster that is awaited in vain."""
    hint = "run again; `--inline` runs without Ray, `engine doctor` looks at what is there"
    return Failed(f"the Ray cluster is not there after {START_SECONDS:.0f} s", hint=hint)


@contextmanager
def driver(errand: Errand, environment: Mapping[str, str]) -> Iterator[Driver]:
    """A driver that has begun its errand, in a session of its own; it is gone afterwards."""
    ours, theirs = Pipe()
    command = [sys.executable, "-c", BOOT, json.dumps(sys.path), str(theirs.fileno())]
    with tempfile.TemporaryFile() as said, ours:
        with theirs:
            process = subprocess.Popen(  # noqa: S603
                command, env=environment, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=said,
                stderr=said, start_new_session=True,
            )  # fmt: skip
        try:
            with suppress(BrokenPipeError):
                ours.send(errand)
            yield Driver(process, ours, said)
        finally:
            process.kill()
            process.wait()


def most_wanted(work: Work) -> int:
    """The most cores that one step asks for."""
    return max((step.resources.cpus for step in work.plan.steps if step.id not in work.done), default=1)


def children(process: int) -> Iterator[int]:
    """The processes that a process has started. Linux only: elsewhere there seem to be none."""
    try:
        for thread in (PROCESSES / str(process) / "task").iterdir():
            yield from map(int, (thread / "children").read_text().split())
    except OSError:
        return


def name_of(process: int) -> str:
    """What the system calls a process; nothing when it is dead."""
    try:
        about = (PROCESSES / str(process) / "stat").read_text()
    except OSError:
        return ""
    name, _, rest = about.partition("(")[2].rpartition(") ")
    return "" if rest[:1] in "ZX" else name


@contextmanager
def reaped(token: str) -> Iterator[Path]:
    """A short-named folder for Ray's sockets and logs, and a process that cleans up even when this one is killed."""
    folder = tempfile.mkdtemp(prefix="engine-ray-")
    command = [sys.executable, "-I", "-S", reaper.__file__, token, folder]
    watcher = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)  # noqa: S603
    try:
        yield Path(folder)
    finally:
        assert watcher.stdin is not None
        watcher.stdin.close()
        watcher.wait()


def require_listener(address: str) -> None:
    """Refuse an address at which nothing listens, rather than let Ray try for minutes.

    Raises:
        UsageError: when the address is none.
        Failed: when nothing listens there.
    """
    if address == "auto":
        return
    host, colon, port = address.rpartition("//")[2].partition("/")[0].rpartition(":")
    if not colon or not port.isdigit():
        raise UsageError(
            "not an address", place=f"--address {address}", hint="write HOST:PORT, ray://HOST:PORT or auto"
        )
    try:
        with socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS):
            return
    except OSError as error:
        hint = "is the cluster running? Without --address, an own one is started"
        raise Failed("no Ray cluster answers", place=f"--address {address}", hint=hint) from error
