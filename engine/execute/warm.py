"""A Ray cluster that stays between runs, seen from outside: how it is found, started, used and ended.

::

    engine run ---- errand ----> keeper (engine.execute.keeper), Ray's driver ---- tasks ----> workers that stay
               <--- events -----

Ray's idle workers end with the driver that they worked for, so one driver stays, the keeper, and does the errands of
all later runs; they need not even import Ray. It is written down in ``cluster.json`` of the home, which only its owner
may read. Who holds no key, or was installed otherwise than the keeper, is not served by it.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Client, Connection, Pipe
from multiprocessing.context import AuthenticationError
from pathlib import Path

from engine.digest import digest_of
from engine.errors import Failed, writing
from engine.execute.protocol import Report, StepOutcome, Surroundings, Work
from engine.execute.ray_executor import (
    PROCESSES,
    START_SECONDS,
    Complaint,
    Driver,
    Errand,
    RayExecutor,
    most_wanted,
    never_started,
    own_environment,
)
from engine.resolve.installed import survey
from engine.store.durable import alone_with, scratch_folder

RECORD, LOG, LOCK = "cluster.json", "cluster.log", ".cluster.lock"
BOOT = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from engine.execute.keeper import main; main()"
END_SECONDS = 15.0
TICK = 0.05
ENGINE = Path(__file__).resolve().parent.parent
PLUGINS = "engine_plugins"


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """What is written down of a cluster that stays.

    Attributes:
        process: its keeper; ``born`` tells it from another process that got the same number later.
        socket: where the keeper listens, for who has the ``key``.
        idle: seconds without a run after which it ends; ``None``: never.
        started: seconds since 1970.
        grounds: a digest of what is installed; a keeper has imported it, so it is of no use after a change.
        owner: the process without which it ends.
    """

    process: int
    born: int
    socket: str
    key: str
    cpus: int
    idle: float | None
    started: float
    grounds: str
    owner: int | None = None

    @property
    def is_alive(self) -> bool:
        """Whether the keeper is still there."""
        return born(self.process) == self.born


@dataclass(frozen=True, kw_only=True, slots=True)
class Opening:
    """What a keeper is to start: a cluster of so many cores, which ends after ``idle`` seconds without a run.

    With an ``owner``, a process and when it was born, it ends at the latest when that one does.
    """

    home: Path
    cpus: int
    idle: float | None
    grounds: str
    owner: tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """Asks a keeper how it is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """How a keeper is: how many runs are on its cluster, how many were, and since when there is none (monotonic)."""

    busy: int
    done: int
    quiet: float


@dataclass(frozen=True, kw_only=True, slots=True)
class End:
    """Asks a keeper to end; with ``now`` also when runs are on its cluster."""

    now: bool


def born(process: int) -> int:
    """When a process began, in ticks since the machine did; 0 when there is none. Linux only."""
    try:
        about = (PROCESSES / str(process) / "stat").read_text()
    except OSError:
        return 0
    fields = about.rpartition(") ")[2].split()
    return 0 if fields[0] in "ZX" else int(fields[19])


# -- what is there ---------------------------------------------------------------------------------------------------


def kept(home: Path) -> Kept | None:
    """The cluster that stays, if it is there."""
    try:
        found = Kept(**json.loads((home / RECORD).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return found if found.is_alive else None


def write_down(kept: Kept, home: Path) -> None:
    """Write down that a cluster is there.

    Raises:
        StorageFull, StorageUnwritable: when the disk says so.
    """
    path = home / RECORD
    beside = path.with_name(f".{RECORD}.new")
    with writing(path):
        beside.unlink(missing_ok=True)
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(asdict(kept), file)
        beside.replace(path)


def forget(home: Path, process: int) -> None:
    """Take away what was written down of a keeper, unless it is another's by now."""
    path = home / RECORD
    with contextlib.suppress(OSError, ValueError):
        if json.loads(path.read_text())["process"] == process:
            path.unlink()


def grounds(home: Path) -> str:
    """A digest of what a process here imports beside the project's own modules: packages, Engine and its plugins."""
    folders = [ENGINE, *(Path(folder) / PLUGINS for folder in sys.path if (Path(folder) / PLUGINS).is_dir())]
    files = sorted({path for folder in folders for path in folder.rglob("*.py")})
    stats = [[str(path), status.st_mtime_ns, status.st_size] for path in files if (status := path.stat())]
    return digest_of([sys.executable, dict(survey(home / "cache").versions), stats])


# -- starting and ending ---------------------------------------------------------------------------------------------


def start(home: Path, cpus: int, idle: float | None, *, owned: bool = False) -> Kept:
    """The cluster that stays; it is started when there is none.

    Args:
        owned: it stays no longer than this process.

    Raises:
        Failed: when it cannot be started.
        StorageFull, StorageUnwritable: when the disk says so.
    """
    with writing(home):
        home.mkdir(parents=True, exist_ok=True)
    with alone_with(home / LOCK):
        owner = (os.getpid(), born(os.getpid())) if owned else None
        return kept(home) or opened(Opening(home=home, cpus=cpus, idle=idle, grounds=grounds(home), owner=owner))


def opened(opening: Opening) -> Kept:
    """Start a keeper, and wait until its cluster is there."""
    ours, theirs = Pipe()
    command = [sys.executable, "-c", BOOT, json.dumps(sys.path), str(theirs.fileno())]
    with ours, writing(opening.home / LOG), (opening.home / LOG).open("wb") as said:
        with theirs:
            process = subprocess.Popen(  # noqa: S603
                command, env=own_environment(secrets.token_hex(32)), pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True, cwd="/",
            )  # fmt: skip
        try:
            ours.send(opening)
            if not ours.poll(START_SECONDS):
                raise never_started()
            answer = ours.recv()
        except (EOFError, OSError) as error:
            raise never_came(opening.home) from error
        except BaseException:
            process.terminate()
            raise
    if isinstance(answer, Complaint):
        raise answer.error()
    found: Kept = answer
    return found


def never_came(home: Path) -> Failed:
    """The error for a keeper that died as it started."""
    return Failed("the warm cluster did not start", place=str(home / LOG), hint="see there; `--inline` runs without it")


@contextmanager
def own_cluster(home: Path) -> Iterator[None]:
    """Inside, a cluster that this process starts serves all its runs; it is ended behind them."""
    before = kept(home)
    try:
        yield
    finally:
        after = kept(home)
        if before is None and after is not None and after.owner == os.getpid():
            end(after, now=True)


def end(found: Kept, *, now: bool) -> bool:
    """End a cluster; whether it is ended. Without ``now`` one that has work is left."""
    try:
        answer = asked(found, End(now=now))
    except (OSError, EOFError, AuthenticationError):
        answer = True  # nobody is there who could answer
        with contextlib.suppress(ProcessLookupError):
            if found.is_alive:
                os.kill(found.process, 9)
    until = time.monotonic() + END_SECONDS
    while answer and found.is_alive and time.monotonic() < until:
        time.sleep(TICK)
    return bool(answer)


def standing(found: Kept) -> Standing | None:
    """How a cluster is; nothing when its keeper does not answer."""
    try:
        answer = asked(found, Question())
    except (OSError, EOFError, AuthenticationError):
        return None
    return answer if isinstance(answer, Standing) else None


def asked(found: Kept, what: object) -> object:
    """A keeper's answer."""
    with Client(found.socket, "AF_UNIX", authkey=bytes.fromhex(found.key)) as connection:
        connection.send(what)
        answer: object = connection.recv() if connection.poll(END_SECONDS) else None
        return answer


# -- using it --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """Where the cluster that stays is written down; and whether a run starts it, for how many seconds without one.

    ``owned``: one that a run starts is this process's own, for the runs that it does one after the other.
    """

    home: Path
    autostart: float | None = None
    owned: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class WarmExecutor:
    """Does steps on the cluster that stays, where there is one that fits; else on one for this run alone."""

    terms: Terms
    name: str = field(default="ray")

    def execute(self, work: Work, report: Report) -> dict[str, StepOutcome]:
        """Every step's outcome, by id.

        Raises:
            UsageError: when a step asks for more than any cluster here has.
            Failed: when no cluster can be started, or it is lost.
        """
        with scratch_folder(work.home / "tmp", "started-") as folder, contextlib.ExitStack() as stack:
            found = self.found(work)
            connection = reached(found) if found is not None else None
            if found is None or connection is None:
                return RayExecutor().execute(work, report)
            stack.enter_context(connection)
            try:
                said = stack.enter_context((self.terms.home / LOG).open("a+b"))
                connection.send(Errand(work=work, marks=folder, surroundings=surroundings()))
            except OSError:  # it ended meanwhile
                return RayExecutor().execute(work, report)
            return Driver(Keeper(found), connection, said).outcomes(report)

    def found(self, work: Work) -> Kept | None:
        """A cluster that stays and has what the work asks for; one that imported other packages is ended if it may."""
        home, wanted = self.terms.home, most_wanted(work)
        found = kept(home)
        if found is not None and found.grounds != grounds(home):
            if not end(found, now=False):
                return None  # others use it still
            found = start(home, found.cpus, found.idle)
        if found is None and self.terms.autostart is not None:
            found = start(home, max(os.cpu_count() or 1, wanted), self.terms.autostart, owned=self.terms.owned)
        return found if found is not None and wanted <= found.cpus else None


def reached(found: Kept) -> Connection | None:
    """A connection to a keeper; nothing when it just ended."""
    try:
        connection: Connection = Client(found.socket, "AF_UNIX", authkey=bytes.fromhex(found.key))
    except (OSError, EOFError, AuthenticationError):
        return None
    return connection


@dataclass(frozen=True, slots=True)
class Keeper:
    """The keeper as :class:`Driver` sees a process that it did not start."""

    kept: Kept

    @property
    def pid(self) -> int:
        """Its number."""
        return self.kept.process


def surroundings() -> Surroundings:
    """Those of this process."""
    return Surroundings(folder=os.getcwd(), variables=dict(os.environ))  # noqa: PTH109  (as text, for another process)
