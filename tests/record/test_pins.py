"""What a collector may not take is found wherever it is named."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from engine.digest import sha256
from engine.errors import EngineError
from engine.record.pins import pins
from engine.registry.sqlite import SqliteRegistry
from engine.wiring import open_home
from projects import engine, make_project

DIGESTS = [sha256(str(number).encode()) for number in range(400)]


def test_a_home_without_anything_pins_nothing(tmp_path: Path) -> None:
    assert pins(tmp_path) == set()


@pytest.mark.parametrize(
    "place", ["runs/x/spec.json", "cache/steps/ab/cd.json", "tmp/record-1/record.json", "cache/new"]
)
def test_a_digest_in_any_text_is_a_pin(tmp_path: Path, place: str) -> None:
    (tmp_path / place).parent.mkdir(parents=True)
    (tmp_path / place).write_bytes(b'{"a": "sha256:%b", broken \xff %b' % tuple(map(str.encode, DIGESTS[:2])))
    assert pins(tmp_path) == set(DIGESTS[:2])


def test_the_name_of_a_seal_is_a_pin(tmp_path: Path) -> None:
    (tmp_path / "seals").mkdir()
    (tmp_path / "seals" / DIGESTS[0]).write_bytes(b"\0")
    assert pins(tmp_path) == {DIGESTS[0]}


def test_longer_and_shorter_numbers_are_no_pins(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "x").write_text(f"{DIGESTS[0]}0 {DIGESTS[1][:-1]} {DIGESTS[2].upper()}")
    assert pins(tmp_path) == set()


def test_a_digest_in_a_database_is_a_pin_also_where_a_page_ends_in_it(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    with closing(sqlite3.connect(tmp_path / "cache" / "remote.db")) as db:
        db.execute("pragma journal_mode = wal")
        db.execute("create table fetched (path text primary key, digest text, more text) without rowid")
        rows = [(f"{number:04}" + "x" * (200 + number), digest, "y" * 2000) for number, digest in enumerate(DIGESTS)]
        db.executemany("insert into fetched values (?, ?, ?)", rows)
        db.commit()
        assert pins(tmp_path) == set(DIGESTS)


def test_a_database_that_cannot_be_read_stops_the_collector(tmp_path: Path) -> None:
    (tmp_path / "registry.db").write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    with pytest.raises(EngineError):
        pins(tmp_path)


def test_a_reserved_version_is_pinned_before_its_run_is_recorded(tmp_path: Path) -> None:
    SqliteRegistry(tmp_path / "registry.db").reserve("model", DIGESTS[0], DIGESTS[1])
    assert {DIGESTS[0], DIGESTS[1]} <= pins(tmp_path)


def test_everything_that_a_run_names_is_pinned(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    assert engine(project.root, "run", "spec.yaml", "--inline").code == 0
    home = open_home(project.root)
    (record,) = home.records.newest()
    named = {subject["digest"]["sha256"] for subject in record.statement["subject"]}
    named |= {pin["commit"] for pin in record.summary["pins"]["data"].values()}
    (version,) = home.registry.versions("numbers")
    assert named | {version.digest, version.package} <= home.pins()
