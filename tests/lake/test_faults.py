"""Writers are killed, disks fill up, bytes flip: nothing acknowledged is lost, nothing wrong is believed."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from engine.digest import sha256
from engine.errors import EngineError, StorageFull
from engine.lake.embedded.lake import EmbeddedLake
from engine.lake.protocol import MergeConflict, NothingToCommit, Signed
from engine.store.objects import ObjectStore

WRITERS = 4


def lake_in(home: Path) -> EmbeddedLake:
    return EmbeddedLake(home / "lake", ObjectStore(home / "objects"))


# -- killed -------------------------------------------------------------------------------------------


def write_for_ever(home: Path, name: str, seed: int, say: Callable[[dict[str, str]], None]) -> None:
    """Put, commit and merge until killed, and say what was acknowledged after it was."""
    lake, chance = lake_in(home), random.Random(seed)
    branch = f"b{name}"
    if branch not in lake.branches("repo"):
        lake.create_branch("repo", branch, "main")
    for number in range(10**9):
        data = chance.randbytes(chance.choice([0, 10, 1000, 70_000]))
        path = f"{name}/{seed}/{number}"
        target = chance.choice(["main", branch])
        lake.put("repo", target, path, io.BytesIO(data))
        with suppress(NothingToCommit):  # another writer has just committed what is staged on main
            made = lake.commit("repo", target, path)
            say({"commit": made.id, "branch": target})
        say({"path": path, "branch": target, "digest": sha256(data)})
        if number % 5 == 4:
            with suppress(NothingToCommit, EngineError):
                say({"commit": lake.merge("repo", branch, "main", Signed(message="m")).id, "branch": "main"})


def killed_writer(home: Path, name: str, seed: int) -> tuple[int, int]:
    """A process that writes for ever, and the pipe on which it says what was acknowledged."""
    reading, writing = os.pipe()
    process = os.fork()
    if not process:
        os.close(reading)
        try:
            write_for_ever(home, name, seed, lambda said: os.write(writing, json.dumps(said).encode() + b"\n") and None)
        finally:
            os._exit(9)
    os.close(writing)
    return process, reading


def acknowledged(reading: int) -> list[dict[str, str]]:
    """What a killed writer had said, but for a last line that is not whole."""
    with open(reading, "rb") as stream:
        return [json.loads(line) for line in stream.read().split(b"\n")[:-1]]


def kill_writers(home: Path, rounds: int) -> None:
    """Kill four writers at once, again and again, and look each time at what is left."""
    lake = lake_in(home)
    lake.create_repository("repo")
    chance = random.Random(7)
    said: list[dict[str, str]] = []
    exits = []
    for number in range(rounds):
        writers = [killed_writer(home, str(name), number) for name in range(WRITERS)]
        for process, _ in writers:
            time.sleep(chance.random() * 0.06)
            os.kill(process, signal.SIGKILL)
        for process, reading in writers:
            exits.append(os.waitpid(process, 0)[1])
            said += acknowledged(reading)
    assert set(exits) == {signal.SIGKILL}
    assert list(lake.fsck()) == []
    logs = {branch: {commit.id for commit in lake.log("repo", branch)} for branch in lake.branches("repo")}
    held = {branch: {entry.path: entry.digest for entry in lake.list("repo", branch)} for branch in logs}
    commits = [item for item in said if "commit" in item]
    assert len(commits) > rounds
    assert [item for item in commits if item["commit"] not in logs[item["branch"]]] == []
    assert [item for item in said if "path" in item and held[item["branch"]].get(item["path"]) != item["digest"]] == []


def test_nothing_acknowledged_is_lost_when_50_writers_are_killed(tmp_path: Path) -> None:
    kill_writers(tmp_path, 13)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nothing_acknowledged_is_lost_when_500_writers_are_killed(tmp_path: Path) -> None:
    kill_writers(tmp_path, 125)


def test_of_two_merges_at_once_nothing_is_lost(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    lake.create_repository("repo")
    lake.put("repo", "main", "same", io.BytesIO(b"0"))
    lake.commit("repo", "main", "m")
    for name in ("one", "two"):
        lake.create_branch("repo", name, "main")
        lake.put("repo", name, "same", io.BytesIO(name.encode()))
        lake.put("repo", name, name, io.BytesIO(b"own"))
        lake.commit("repo", name, "m")
    processes = []
    for name in ("one", "two"):
        process = os.fork()
        if not process:
            try:
                lake_in(tmp_path).merge("repo", name, "main", Signed(message=name))
            except MergeConflict:
                os._exit(1)
            except BaseException:
                os._exit(2)
            os._exit(0)
        processes.append(process)
    codes = [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]
    assert sorted(codes) == [0, 1]
    winner = "one" if codes[0] == 0 else "two"
    assert lake.open("repo", "main", "same").read() == winner.encode()
    assert [entry.path for entry in lake.list("repo", "main")] == sorted(["same", winner])


# -- full ---------------------------------------------------------------------------------------------


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A disk of that size; the test is skipped where mounting one is not allowed."""
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=False)
    if done.returncode:
        pytest.skip("only root may mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize(("count", "size"), [(1, 3_000_000), (1000, 4000)], ids=["one large", "many small"])
def test_a_full_disk_is_said_and_the_branch_does_not_move(tmp_path: Path, count: int, size: int) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(count):
        (source / str(number)).write_bytes(os.urandom(size))
    with small_disk(tmp_path / "disk", "2m") as home:
        lake = lake_in(home)
        lake.create_repository("repo")
        lake.put("repo", "main", "kept", io.BytesIO(b"kept"))
        head = lake.commit("repo", "main", "m").id
        with pytest.raises(StorageFull):
            lake.put_folder("repo", "main", "", source, commit=Signed(message="m"))
        assert lake.resolve("repo", "main") == head
        assert [entry.path for entry in lake.list("repo", "main")] == ["kept"]
        assert list(lake.fsck()) == []
        subprocess.run(["mount", "-o", "remount,size=40m", str(home)], check=True)
        done = lake.put_folder("repo", "main", "", source, commit=Signed(message="m"))
        assert (done.changes, done.commit is not None) == (count, True)
        assert list(lake.fsck()) == []


# -- flipped ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose lake has small and large objects, two branches, a tag, a merge and something staged."""
    home = tmp_path_factory.mktemp("whole")
    lake = lake_in(home)
    lake.create_repository("repo")
    chance = random.Random(1)
    for number in range(30):
        lake.put("repo", "main", f"small/{number}", io.BytesIO(chance.randbytes(50)), metadata={"k": "v"})
    lake.put("repo", "main", "large", io.BytesIO(chance.randbytes(100_000)))
    lake.commit("repo", "main", "first", author="a", metadata={"key": "value"})
    lake.create_branch("repo", "dev", "main")
    lake.put("repo", "dev", "dev", io.BytesIO(b"dev"))
    lake.commit("repo", "dev", "second")
    lake.merge("repo", "dev", "main", Signed(message="merge"))
    lake.create_tag("repo", "v1", "main~1")
    lake.put("repo", "main", "staged", io.BytesIO(b"staged"))
    lake.delete("repo", "main", "small/3")
    for name in ("lake/lake.db", "objects/packs/index.db"):
        with closing(sqlite3.connect(home / name)) as db:
            db.execute("pragma wal_checkpoint(truncate)")
    return home


def copied(whole: Path, tmp_path: Path) -> EmbeddedLake:
    shutil.copytree(whole, tmp_path / "home", dirs_exist_ok=True)
    return lake_in(tmp_path / "home")


def everything(lake: EmbeddedLake) -> dict[str, object]:
    """All that a reader can see of a lake."""
    refs = {**lake.branches("repo"), **lake.tags("repo")}
    seen: dict[str, object] = {"repositories": [item.name for item in lake.repositories()], "refs": refs}
    for ref in refs:
        seen[f"log {ref}"] = list(lake.log("repo", ref))
        for entry in lake.list("repo", ref):
            with lake.open("repo", ref, entry.path) as stream:
                seen[f"{ref}/{entry.path}"] = stream.read(), entry.metadata
    return seen


def found_or_harmless(lake: EmbeddedLake, before: dict[str, object]) -> str:
    """``found`` when fsck names damage and no read gives anything wrong; ``harmless`` when nothing can be told apart.

    A row that is no longer found under its name may be missing, or let show what is below it; it may not say what
    nobody wrote.
    """
    try:
        after: dict[str, object] = everything(lake)
    except EngineError:
        after = {}
    wrong = {key for key in {*after} & {*before} if "/" in key and after[key] != before[key]}
    if list(lake.fsck()):
        return "believed, though found" if wrong else "found"
    return "harmless" if after == before else "not found"


TABLES = {
    "lake/lake.db": ("repositories", "refs", "commits", "staged", "nodes"),
    "objects/packs/index.db": ("objects",),
}
NO_MATTER = {
    ("objects", "time"),
    ("objects", "seal"),
    ("commits", "added"),
}  # of a collection's grace, and of what is hashed then


def cells(home: Path) -> Iterator[tuple[str, str, str, int]]:
    for name, tables in TABLES.items():
        with closing(sqlite3.connect(home / name)) as db:
            for table in tables:
                columns = [row[1] for row in db.execute(f"pragma table_info({table})")]
                count = db.execute(f"select count(*) from {table}").fetchone()[0]
                for column in columns:
                    if (table, column) not in NO_MATTER:
                        yield from ((name, table, column, row) for row in range(0, count, 7))


def flipped_value(value: object) -> object:
    if isinstance(value, int):
        return value ^ 1
    if isinstance(value, bytes):
        return bytes([value[0] ^ 1]) + value[1:]
    return chr(ord(str(value)[0]) ^ 1) + str(value)[1:]


def test_a_flipped_bit_in_any_cell_of_any_row_is_found_and_never_believed(whole: Path, tmp_path: Path) -> None:
    before = everything(lake_in(whole))
    told = {}
    for name, table, column, row in cells(whole):
        home = tmp_path / f"{table}-{column}-{row}"
        lake = copied(whole, home)
        with closing(sqlite3.connect(home / "home" / name)) as db:
            db.text_factory = bytes
            key = [item[1] for item in db.execute(f"pragma table_info({table})") if item[5]]
            key = [word.decode() if isinstance(word, bytes) else word for word in key]
            found = db.execute(f"select {','.join(key)}, {column} from {table} limit 1 offset {row}").fetchone()
            value = found[-1]
            is_text = db.execute(f"select typeof({column}) from {table} limit 1 offset {row}").fetchone()[0] == b"text"
            new = flipped_value(value.decode() if is_text else value)
            where = " and ".join(f"cast({word} as blob) = ?" for word in key)
            changed = db.execute(f"update {table} set {column} = ? where {where}", [new, *found[:-1]]).rowcount
            assert changed == 1
            db.commit()
        told[f"{table}.{column} {row}"] = found_or_harmless(lake, before)
        shutil.rmtree(home)
    assert {place: word for place, word in told.items() if word != "found"} == {}


@pytest.mark.parametrize("kind", ["pack", "file", "lake.db", "index.db"])
def test_a_flipped_byte_anywhere_in_a_file_is_found_or_changes_nothing(whole: Path, tmp_path: Path, kind: str) -> None:
    patterns = {"pack": "objects/packs/*.pack", "file": "objects/??/*", "lake.db": "lake/lake.db"}
    path = next(whole.glob(patterns.get(kind, "objects/packs/index.db")))
    before, data = everything(lake_in(whole)), path.read_bytes()
    chance = random.Random(3)
    words = []
    for position in chance.sample(range(len(data)), 40):
        home = tmp_path / str(position)
        lake = copied(whole, home)
        target = home / "home" / path.relative_to(whole)
        target.chmod(0o644)
        target.write_bytes(
            data[:position] + bytes([data[position] ^ (1 << chance.randrange(8))]) + data[position + 1 :]
        )
        words.append(found_or_harmless(lake, before))
        shutil.rmtree(home)
    assert set(words) <= ({"found"} if kind in ("pack", "file") else {"found", "harmless"})
    assert "found" in words
