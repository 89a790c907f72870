"""The registry: versions, aliases and the ledger, also when several processes use it at once."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from engine.digest import digest_of, sha256
from engine.errors import UsageError
from engine.registry.model import GENESIS, LedgerEntry, ModelNotFound, ModelRef
from engine.registry.sqlite import SqliteRegistry

WORKER = """
import sys
from pathlib import Path
from engine.digest import sha256
from engine.registry.sqlite import SqliteRegistry

registry, who = SqliteRegistry(Path(sys.argv[1])), sys.argv[2]
for number in range(15):
    shared = registry.reserve("model", sha256(f"shared {number}".encode()), "p")
    own = registry.reserve("model", sha256(f"{who} {number}".encode()), "p")
    registry.note_run("model", f"run-{who}-{number}", f"shared-{who}-{number}", "passed", shared)
    registry.note_run("model", f"run-{who}-{number}", f"own-{who}-{number}", "passed", own)
    registry.set_alias("model", "production", own)
"""


@pytest.fixture
def registry(tmp_path: Path) -> SqliteRegistry:
    return SqliteRegistry(tmp_path / "registry.db")


def register(registry: SqliteRegistry, what: str, run: str = "run", name: str = "model") -> int:
    """Reserve and confirm the bytes ``what``."""
    version = registry.reserve(name, sha256(what.encode()), "package")
    registry.note_run(name, run, f"record of {run} of {name}:{version}", "passed", version)
    return version


def ref(text: str) -> ModelRef:
    return ModelRef.parse(text)


def broken_links(entries: list[LedgerEntry]) -> list[int]:
    """The numbers of the entries whose hash or link is wrong, as the ledger's definition has it."""
    previous, found = GENESIS, []
    for number, entry in enumerate(entries, 1):
        right = digest_of({"number": entry.number, "previous": entry.previous, "event": dict(entry.event)})
        if (entry.number, entry.previous, entry.digest) != (number, previous, right):
            found.append(number)
        previous = entry.digest
    return found


def test_versions_count_from_one(registry: SqliteRegistry) -> None:
    assert [register(registry, what) for what in "abc"] == [1, 2, 3]


def test_the_same_bytes_are_the_same_version_and_their_runs_add_up(registry: SqliteRegistry) -> None:
    assert register(registry, "a", "first") == register(registry, "a", "second") == register(registry, "a", "second")
    assert registry.get(ref("model")).runs == ("first", "second")


def test_each_model_counts_for_itself(registry: SqliteRegistry) -> None:
    assert register(registry, "a", name="one") == register(registry, "a", name="other") == 1


def test_a_reserved_version_is_invisible_until_it_is_confirmed(registry: SqliteRegistry) -> None:
    version = registry.reserve("model", sha256(b"a"), "package")
    assert registry.models() == []
    assert registry.find(ref("model")) is None
    assert registry.find(ref(f"model:{version}")) is None
    registry.note_run("model", "run", "record", "passed", version)
    assert registry.get(ref("model")).version == version


def test_the_number_of_a_version_that_was_never_confirmed_is_not_given_to_others(registry: SqliteRegistry) -> None:
    abandoned = registry.reserve("model", sha256(b"a"), "package")
    assert register(registry, "b") == abandoned + 1
    assert register(registry, "a") == abandoned


def test_an_alias_moves_and_is_never_two_versions(registry: SqliteRegistry) -> None:
    register(registry, "a")
    register(registry, "b")
    registry.set_alias("model", "production", 1)
    registry.set_alias("model", "production", 2)
    assert registry.get(ref("model@production")).version == 2
    assert [item.aliases for item in registry.versions("model")] == [("production",), ()]


def test_an_alias_of_a_version_that_is_not_there_is_refused(registry: SqliteRegistry) -> None:
    register(registry, "a")
    registry.reserve("model", sha256(b"b"), "package")
    for version in (2, 3):
        with pytest.raises(ModelNotFound):
            registry.set_alias("model", "production", version)


def test_a_ref_has_meant_something_only_once_it_was_set(registry: SqliteRegistry) -> None:
    register(registry, "a")
    assert not registry.has_meant(ref("model@production"))
    registry.set_alias("model", "production", 1)
    assert registry.has_meant(ref("model@production"))


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("modle", 'did you mean "model"?'),
        ("model@prodution", 'did you mean "production"?'),
        ("model:9", "known: 1"),
    ],
)
def test_a_name_that_means_nothing_suggests_the_nearest(registry: SqliteRegistry, text: str, hint: str) -> None:
    register(registry, "a")
    registry.set_alias("model", "production", 1)
    with pytest.raises(ModelNotFound) as raised:
        registry.get(ref(text))
    assert raised.value.hint == hint


@pytest.mark.parametrize("text", ["", "Model", "m", "model@", "model@a b", "model:x", "model:", "model:-1", "a@b@c"])
def test_a_text_that_is_no_model_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        ref(text)


@pytest.mark.parametrize("text", ["model", "model@production", "model:12"])
def test_a_ref_reads_as_it_was_typed(text: str) -> None:
    assert str(ref(text)) == text


def test_the_ledger_is_a_chain_of_everything_that_happened(registry: SqliteRegistry) -> None:
    register(registry, "a", "first")
    register(registry, "a", "second")
    registry.set_alias("model", "production", 1, why="the first")
    entries = registry.ledger()
    assert [(entry.event["what"], entry.event.get("run")) for entry in entries] == [
        ("version", "first"),
        ("version", "second"),
        ("alias", None),
    ]
    assert broken_links(entries) == []


def test_a_ledger_that_was_altered_can_be_told(registry: SqliteRegistry) -> None:
    for what in "abc":
        register(registry, what, run=what)
    with sqlite3.connect(registry.path) as db:
        db.execute('update ledger set event = replace(event, \'"run":"b"\', \'"run":"x"\')')
    assert broken_links(registry.ledger()) == [2]


def test_confirming_twice_is_one_event(registry: SqliteRegistry) -> None:
    version = registry.reserve("model", sha256(b"a"), "package")
    for _ in range(2):
        registry.note_run("model", "run", "record", "passed", version)
    assert len(registry.ledger()) == 1


def test_reading_a_registry_that_is_not_there_finds_it_empty_and_makes_nothing(tmp_path: Path) -> None:
    registry = SqliteRegistry(tmp_path / "registry.db")
    assert (registry.models(), registry.ledger(), registry.find(ref("model"))) == ([], [], None)
    assert list(tmp_path.iterdir()) == []


def test_processes_at_once_share_versions_and_keep_the_chain(registry: SqliteRegistry) -> None:
    running = [
        subprocess.Popen([sys.executable, "-c", WORKER, str(registry.path), who], stderr=subprocess.PIPE)
        for who in "abcd"
    ]
    for process in running:
        _, err = process.communicate(timeout=100)
        assert process.returncode == 0, err.decode()
    versions = registry.versions("model")
    assert [item.version for item in versions] == list(range(75, 0, -1))  # 4 x 15 of their own and 15 shared
    assert len({item.digest for item in versions}) == 75
    assert len(registry.ledger()) == 4 * 15 * 3
    assert broken_links(registry.ledger()) == []
