"""Files by digest: whole or absent, read-only, never changed."""

from __future__ import annotations

import errno
import io
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.digest import canonical_json, digest_of, sha256
from engine.errors import DigestMismatch, NotFound, StorageFull, StorageUnwritable
from engine.store.objects import ObjectStore, write_once

CUT = """
import os, sys
from pathlib import Path
from engine.store.objects import ObjectStore, write_once

home = Path(sys.argv[1])
os.rename = lambda *_: os._exit(9)  # the power goes just before a file gets its name
if sys.argv[2] == "put":
    ObjectStore(home).put(b"never whole")
else:
    write_once(home / "record.json", b"never whole")
"""


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(tmp_path / "objects")


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_an_object_is_named_by_its_digest_and_can_be_read_back(store: ObjectStore) -> None:
    digest = store.put(b"hello")
    assert digest == sha256(b"hello")
    assert store.read(digest) == b"hello"
    assert store.size(digest) == 5


def test_every_way_in_gives_the_same_object(store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "copy").write_bytes(b"hello")
    (tmp_path / "move").write_bytes(b"hello")
    ways = [
        store.put(b"hello"),
        store.put_stream(io.BytesIO(b"hello")),
        store.put_file(tmp_path / "copy"),
        store.adopt(tmp_path / "move"),
    ]
    assert set(ways) == {sha256(b"hello")}
    assert list(store.digests()) == [sha256(b"hello")]
    assert (tmp_path / "copy").exists()
    assert not (tmp_path / "move").exists()


def test_an_object_cannot_be_written_by_anyone(store: ObjectStore) -> None:
    path = store.require(store.put(b"hello"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o444


def test_putting_what_is_there_leaves_the_file_alone(store: ObjectStore) -> None:
    path = store.require(store.put(b"hello"))
    before = path.stat()
    store.put(b"hello")
    store.put_stream(io.BytesIO(b"hello"))
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("look", [ObjectStore.read, ObjectStore.check])
def test_altered_bytes_are_refused(store: ObjectStore, look: Any) -> None:
    digest = store.put(b"hello")
    path = store.require(digest)
    path.chmod(0o644)
    path.write_bytes(b"hallo")
    with pytest.raises(DigestMismatch) as raised:
        look(store, digest)
    assert raised.value.place == str(path)
    assert raised.value.exit_code == 1


@pytest.mark.parametrize("look", [ObjectStore.read, ObjectStore.check, ObjectStore.require, ObjectStore.size])
def test_an_object_that_is_not_there_is_not_found(store: ObjectStore, look: Any) -> None:
    with pytest.raises(NotFound):
        look(store, "0" * 64)


@pytest.mark.parametrize("what", ["put", "write_once"])
def test_a_write_that_is_cut_short_is_invisible(tmp_path: Path, what: str) -> None:
    done = subprocess.run([sys.executable, "-c", CUT, str(tmp_path), what], check=False, timeout=60)
    assert done.returncode == 9
    assert list(ObjectStore(tmp_path).digests()) == []
    assert not (tmp_path / "record.json").exists()


@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, StorageFull), (errno.EROFS, StorageUnwritable)])
@pytest.mark.parametrize("way", ["put", "stream", "adopt", "write_once"])
def test_a_disk_that_refuses_leaves_nothing_behind(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception], way: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    ways: dict[str, Callable[[], object]] = {
        "put": lambda: store.put(b"hello"),
        "stream": lambda: store.put_stream(io.BytesIO(b"hello")),
        "adopt": lambda: written(store),
        "write_once": lambda: write_once(tmp_path / "a" / "record.json", b"hello"),
    }
    with pytest.raises(kind):
        ways[way]()
    assert files(tmp_path) == []


def written(store: ObjectStore) -> str:
    """Write to a scratch path and adopt it, as a table is kept."""
    with store.scratch() as path:
        path.write_bytes(b"hello")
        return store.adopt(path)


def test_a_scratch_file_that_is_not_adopted_is_gone(store: ObjectStore) -> None:
    with store.scratch() as path:
        path.write_bytes(b"hello")
    assert files(store.root) == []


def test_what_is_written_once_is_whole_and_read_only(tmp_path: Path) -> None:
    path = tmp_path / "a" / "record.json"
    write_once(path, b"{}")
    assert path.read_bytes() == b"{}"
    assert stat.S_IMODE(path.stat().st_mode) == 0o444


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), JSON, max_size=6))
def test_the_order_of_keys_is_no_part_of_identity(value: dict[str, Any]) -> None:
    turned = dict(reversed(list(value.items())))
    assert digest_of(turned) == digest_of(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [float("-inf")]])
def test_what_json_cannot_name_has_no_identity(value: object) -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(value)


def test_one_and_one_point_nought_are_different() -> None:
    assert digest_of({"a": 1}) != digest_of({"a": 1.0})
