"""Several processes that serve at one address: the kernel spreads connections over them (SO_REUSEPORT).

::

    supervisor --- a socket each ---> worker 0, worker 1, ...      (a worker that dies is started again)
               <-- a byte when ready --
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from engine.serve.server import listen

PATIENCE = 15.0
TICK = 0.2
SHORTEST_LIFE = 5.0
VARIABLE = "ENGINE_SERVE_WORKER"


@dataclass(frozen=True, kw_only=True, slots=True)
class Post:
    """What a worker is given: its socket, where it says that it is ready, how many there are, and where all count."""

    listening: socket.socket
    ready: int
    workers: int
    cells: Path
    grpc_port: int | None = None

    def report(self) -> None:
        """Say that this worker is ready."""
        os.write(self.ready, b".")


def sockets(host: str, port: int, count: int) -> list[socket.socket]:
    """A socket for each worker, all at one address.

    Raises:
        OSError: when the port is taken.
    """
    if count == 1:
        return [listen(host, port)]
    with listen(host, port) as probe:  # another server that shares its port would let us share it
        number = probe.getsockname()[1]
    return [listen(host, number, shared=True) for _ in range(count)]


def reserve(host: str, port: int) -> socket.socket:
    """A socket that holds a port for others of this process and its workers, and takes no connections itself.

    Raises:
        OSError: when the port is taken.
    """
    with listen(host, port) as probe:
        number = probe.getsockname()[1]
    held = socket.socket(probe.family)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held.bind((host, number))
    return held


def post() -> Post | None:
    """What this process was given, if it is a worker."""
    given = os.environ.get(VARIABLE)
    if given is None:
        return None
    number, ready, workers, remote, cells = given.split(",", 4)
    return Post(
        listening=socket.socket(fileno=int(number)),
        ready=int(ready),
        workers=int(workers),
        cells=Path(cells),
        grpc_port=int(remote) if remote else None,
    )


def supervise(
    command: Sequence[str],
    listening: Sequence[socket.socket],
    grpc_port: int | None,
    cells: Path,
    told: Callable[[], None],
) -> int:
    """Run a worker on each socket until SIGTERM or SIGINT; ``told`` is called when all of them are ready.

    Returns:
        The number of the signal; when a worker did not live, its exit code, negative.
    """
    asked: list[int] = []

    def end(number: int, _: FrameType | None) -> None:
        asked.append(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    heard, ready = os.pipe()
    os.set_inheritable(ready, True)
    count = len(listening)
    posts = [Post(listening=one, ready=ready, workers=count, cells=cells, grpc_port=grpc_port) for one in listening]
    born = [(worker(command, one), time.monotonic()) for one in posts]
    waiting, code = count, 0
    while not asked and not code:
        if select.select([heard], [], [], TICK)[0]:
            waiting -= len(os.read(heard, waiting or 1))
            if waiting == 0:
                told()
        for place, (process, since) in enumerate(born):
            if process.poll() is None:
                continue
            if time.monotonic() - since < SHORTEST_LIFE:
                code = -abs(process.returncode or 1)
                break
            born[place] = (worker(command, posts[place]), time.monotonic())
    stop([process for process, _ in born])
    return code or asked[0]


def worker(command: Sequence[str], post: Post) -> subprocess.Popen[bytes]:
    """Start a worker. Ctrl-C on a terminal reaches the supervisor alone."""
    number, remote = post.listening.fileno(), "" if post.grpc_port is None else post.grpc_port
    environment = {**os.environ, VARIABLE: f"{number},{post.ready},{post.workers},{remote},{post.cells}"}
    return subprocess.Popen(  # noqa: S603
        command, env=environment, pass_fds=[number, post.ready], start_new_session=True
    )


def stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Have workers give the answers that they owe, and end; end those that take too long."""
    for process in processes:
        if process.poll() is None:
            process.terminate()
    end = time.monotonic() + PATIENCE
    for process in processes:
        try:
            process.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
