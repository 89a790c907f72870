"""A SQLite file is there whole or not at all, whoever makes it first and whatever interrupts that."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import pytest

from engine.digest import sha256
from engine.errors import Failed
from engine.registry.model import ModelRef
from engine.registry.sqlite import SqliteRegistry
from engine.store.durable import alone_with, made_once
from engine.store.sqlite import Connections, close_kept, connect, make, reading, transaction
from moments import killed
from projects import read_only

SCHEMA = "create table if not exists a (x integer); create table if not exists b (x integer);"
COUNT, ROUNDS = 6, 10
FORK = get_context("fork")
BARRIER = FORK.Barrier(COUNT)


def add(path: Path) -> None:
    """Add a row to each table."""
    with transaction(path, SCHEMA) as db:
        db.execute("insert into a values (1)")
        db.execute("insert into b values (1)")


def counts(path: Path) -> tuple[int, int] | None:
    """How many rows the tables have, if there is a file."""
    if not path.is_file():
        return None
    with reading(path) as db:
        return tuple(db.execute("select (select count(*) from a), (select count(*) from b)").fetchone())


def test_a_file_whose_first_use_is_killed_at_any_moment_is_absent_or_whole_and_then_used(tmp_path: Path) -> None:
    moment, seen = 0, []
    while killed(partial(add, path := tmp_path / str(moment) / "x.db"), path.parent, moment):
        found = counts(path)
        add(path)
        assert counts(path) == {None: (1, 1), (0, 0): (1, 1), (1, 1): (2, 2)}[found]
        assert {entry.name for entry in path.parent.iterdir()} <= {"x.db", "x.db.sum", ".x.db.lock"}
        seen.append(found)
        moment += 1
    assert seen == sorted(seen, key=[None, (0, 0), (1, 1)].index)
    assert set(seen) >= {None, (0, 0)}


def add_and_die(path: Path) -> None:
    """Add rows, and be killed before they are moved out of the write-ahead log."""
    db = connect(path)
    db.executescript("begin; insert into a values (1); insert into b values (1); commit")
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("tidy", [False, True])
def test_what_a_killed_process_had_committed_is_read_where_nothing_may_be_written(tmp_path: Path, tidy: bool) -> None:
    path = tmp_path / "home" / "x.db"
    add(path)
    process = FORK.Process(target=add_and_die, args=(path,))
    process.start()
    process.join()
    assert path.with_name("x.db-wal").stat().st_size > 0
    if tidy:
        assert counts(path) == (2, 2)
        assert not path.with_name("x.db-wal").exists()
    with read_only(path.parent, tmp_path / "disk") as disk:
        assert counts(disk / "x.db") == (2, 2)


def register(registry: Path, who: str) -> int:
    """Begin when all have come, read, and register a version."""
    BARRIER.wait(30)
    found = SqliteRegistry(registry)
    found.models()
    version = found.reserve("model", sha256(who.encode()), "package")
    found.announce(f"run-{who}", f"record-{who}")
    found.note_run("model", f"run-{who}", f"record-{who}", "passed", version)
    close_kept()
    return version


@pytest.fixture
def processes() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(COUNT, mp_context=FORK) as pool:
        yield pool


def test_processes_that_meet_at_a_new_registry_all_find_it_whole(
    processes: ProcessPoolExecutor, tmp_path: Path
) -> None:
    for number in range(ROUNDS):
        registry = tmp_path / str(number) / "registry.db"
        versions = processes.map(register, [registry] * COUNT, "abcdef")
        assert sorted(versions) == [1, 2, 3, 4, 5, 6]
        assert SqliteRegistry(registry).get(ModelRef.parse("model")).version == COUNT
        close_kept()
        assert {entry.name for entry in registry.parent.iterdir()} == {"registry.db", "registry.db.sum"}


def make_and_count(folder: Path) -> str:
    """Begin when all have come; what the file has that one of them makes, which says who made it."""

    def write(making: Path) -> None:
        making.write_text(str(os.getpid()))

    BARRIER.wait(30)
    made_once(folder / "file", write)
    return (folder / "file").read_text()


def test_a_file_that_several_make_at_once_is_made_by_one(processes: ProcessPoolExecutor, tmp_path: Path) -> None:
    for number in range(ROUNDS):
        folder = tmp_path / str(number)
        assert len(set(processes.map(make_and_count, [folder] * COUNT))) == 1


def test_a_lock_that_was_removed_lets_nobody_in_who_waited_for_it(tmp_path: Path) -> None:
    lock, came = tmp_path / "lock", threading.Event()

    def wait_and_come() -> None:
        with alone_with(lock):
            came.set()

    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        waiting = threading.Thread(target=wait_and_come)
        waiting.start()
        time.sleep(0.1)  # until it waits
        lock.unlink()
        with alone_with(lock):
            fcntl.flock(held, fcntl.LOCK_UN)
            assert not came.wait(0.3)
    assert came.wait(10)
    waiting.join()


def test_a_file_that_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(Failed):
        make(tmp_path / "x.db", "this is no schema;")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_is_not_made_again(tmp_path: Path) -> None:
    add(tmp_path / "x.db")
    make(tmp_path / "x.db", SCHEMA)
    assert counts(tmp_path / "x.db") == (1, 1)


def test_a_process_forked_while_another_thread_had_the_file_open_refuses_to_use_it(tmp_path: Path) -> None:
    connections = Connections(tmp_path / "a.db", SCHEMA)
    is_open, may_end = threading.Event(), threading.Event()

    def hold() -> None:
        with connections.transaction() as db:
            db.execute("insert into a values (1)")
        is_open.set()
        may_end.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    is_open.wait(30)
    process = os.fork()
    if not process:
        try:
            connections.connection()
        except Failed as error:
            os._exit(7 if "forked" in error.fact and "spawn" in error.hint else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 7
    may_end.set()
    thread.join()
    assert connections.connection().execute("select count(*) from a").fetchone()[0] == 1


def test_a_kept_connection_is_left_when_its_file_is_another_one(tmp_path: Path) -> None:
    connections = Connections(tmp_path / "a.db", SCHEMA)
    with connections.transaction() as db:
        db.execute("insert into a values (1)")
    for left in tmp_path.iterdir():
        left.unlink()
    with connections.transaction() as db:
        assert db.execute("select count(*) from a").fetchone()[0] == 0


def test_only_some_connections_are_kept(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for number in range(40):
        with Connections(tmp_path / f"{number}.db", SCHEMA).transaction() as db:
            db.execute("insert into a values (1)")
    assert len(os.listdir("/proc/self/fd")) - before < 40
