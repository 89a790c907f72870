"""The process that keeps a Ray cluster between runs, and does the errands of those who ask.

Its workers have imported what most steps need, and stay. A step's surroundings are those of who asked; the project's
own modules are imported anew for each step (``engine.execute.boundary``). Who is gone has no steps left running.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection, Listener
from multiprocessing.context import AuthenticationError
from pathlib import Path

from engine.errors import EngineError, UsageError
from engine.execute.ray_executor import Attached, Complaint, Errand, reaped
from engine.execute.ray_graph import carried_out, grounded, start, warmed
from engine.execute.warm import End, Kept, Opening, Question, Standing, born, forget, write_down

SOCKET = "keeper"
TICK = 0.5


def main() -> None:
    """Be the keeper: start what the connection that the command line names asks for, and stay."""
    descriptor = int(sys.argv[2])
    os.set_inheritable(descriptor, False)
    with Connection(descriptor) as asking, reaped(os.environ["RAY_AUTH_TOKEN"]) as folder:
        opening: Opening = asking.recv()
        ready = threading.Event()
        threading.Thread(target=leave_unless, args=(ready, asking), daemon=True).start()
        try:
            start(opening.cpus, folder)
            warmed(opening.cpus, folder)
            keeper, found = Keeper(opening.cpus, folder), described(opening, folder)
            listener = Listener(found.socket, "AF_UNIX", authkey=bytes.fromhex(found.key))
            write_down(found, opening.home)
        except EngineError as error:
            asking.send(complaint(error))
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: keeper.ended.set())
        threading.Thread(target=keeper.listen, args=(listener,), daemon=True).start()
        ready.set()
        try:
            asking.send(found)
            keeper.wait(opening)
        finally:
            forget(opening.home, os.getpid())


def leave_unless(ready: threading.Event, asking: Connection) -> None:
    """End this process when who asked for a cluster is gone before it is there."""
    with contextlib.suppress(EOFError, OSError):
        asking.recv()
    if not ready.is_set():
        os._exit(1)  # the reaper ends what was started


def described(opening: Opening, folder: Path) -> Kept:
    """What is written down of this process."""
    return Kept(
        process=os.getpid(),
        born=born(os.getpid()),
        socket=str(folder / SOCKET),
        key=secrets.token_hex(32),
        cpus=opening.cpus,
        idle=opening.idle,
        started=time.time(),
        grounds=opening.grounds,
        owner=opening.owner[0] if opening.owner is not None else None,
    )


def complaint(error: EngineError) -> Complaint:
    """An error for another process."""
    return Complaint(is_usage=isinstance(error, UsageError), fact=error.fact, place=error.place, hint=error.hint)


class Keeper:
    """Who asks, and whether anybody still does."""

    def __init__(self, cpus: int, folder: Path) -> None:
        self.ended = threading.Event()
        self._cpus, self._folder = cpus, folder
        self._lock, self._warming = threading.Lock(), threading.Lock()
        self._busy = self._done = 0
        self._quiet = time.monotonic()

    def wait(self, opening: Opening) -> None:
        """Stay until somebody asks for the end, home or owner are gone, or nobody had a run for as long as was said."""
        while not self.ended.wait(TICK):
            standing = self.standing()
            is_idle = opening.idle is not None and time.monotonic() - standing.quiet > opening.idle
            is_left = opening.owner is not None and born(opening.owner[0]) != opening.owner[1]
            if (is_idle and not standing.busy) or is_left or not opening.home.is_dir():
                return

    def standing(self) -> Standing:
        """How it is."""
        with self._lock:
            return Standing(busy=self._busy, done=self._done, quiet=self._quiet)

    def listen(self, listener: Listener) -> None:
        """Answer everybody who has the key, each in a thread of its own."""
        while True:
            try:
                connection = listener.accept()
            except (AuthenticationError, EOFError, OSError):
                continue
            threading.Thread(target=self.answer, args=(connection,), daemon=True).start()

    def answer(self, connection: Connection) -> None:
        """Answer one of them."""
        with connection, contextlib.suppress(EOFError, OSError):  # who is gone needs no answer
            asked = connection.recv()
            if isinstance(asked, Question):
                connection.send(self.standing())
            elif isinstance(asked, End):
                may = asked.now or not self.standing().busy
                connection.send(may)
                if may:
                    self.ended.set()
            elif isinstance(asked, Errand):
                self.do(asked, connection)

    def do(self, errand: Errand, connection: Connection) -> None:
        """Do an errand, and tell what happens."""
        gone, marks = threading.Event(), self._folder / f"errand-{secrets.token_hex(8)}"
        with self.at_work():
            threading.Thread(target=notice_end, args=(connection, gone), daemon=True).start()
            connection.send(Attached())
            try:
                with grounded(marks):
                    connection.send(carried_out(replace(errand, marks=marks), connection.send, gone))
            except EngineError as error:
                with contextlib.suppress(OSError):
                    connection.send(complaint(error))
            except OSError:  # who is gone hears nothing
                gone.set()
        if gone.is_set() and not self.standing().busy:
            with self._warming:
                warmed(self._cpus, self._folder)  # its workers ended with what they did

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Inside, a run is on the cluster."""
        with self._lock:
            self._busy += 1
        try:
            yield
        finally:
            with self._lock:
                self._busy -= 1
                self._done += 1
                self._quiet = time.monotonic()


def notice_end(connection: Connection, gone: threading.Event) -> None:
    """Say when the process at the other end is gone."""
    with contextlib.suppress(EOFError, OSError):
        connection.recv()
    gone.set()
