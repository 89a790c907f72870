"""Files that are taken out of a lake stay in their folder, appear whole, and overwrite nothing unasked."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from engine.errors import AlreadyExists, DigestMismatch, Failed, NotFound, UsageError
from engine.lake import checkout
from engine.lake.checkout import TakenOut, Version, steady, take_out, take_out_one
from engine.lake.embedded.lake import EmbeddedLake
from engine.lake.protocol import Entry, ObjectNotFound
from engine.store.objects import ObjectStore


@pytest.fixture
def lake(tmp_path: Path) -> EmbeddedLake:
    lake = EmbeddedLake(tmp_path / "home" / "lake", ObjectStore(tmp_path / "home" / "objects"))
    lake.create_repository("repo")
    return lake


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "outer" / "target"


def fill(lake: EmbeddedLake, *paths: str, data: bytes = b"x") -> Version:
    for path in paths:
        lake.put("repo", "main", path, io.BytesIO(data))
    lake.commit("repo", "main", "m")
    return steady(lake, "repo", "main")


def out(version: Version, target: Path, prefix: str = "", *, force: bool = False) -> TakenOut:
    return take_out(version, prefix, target, force=force, progress=None)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_is_written_as_it_is_in_the_lake(lake: EmbeddedLake, target: Path) -> None:
    version = fill(lake, "a", "d/b", "d/e/c", "other")
    assert out(version, target) == TakenOut(files=4, size=4, written=4)
    assert files(target) == dict.fromkeys(["a", "d/b", "d/e/c", "other"], b"x")


def test_a_prefix_is_taken_off(lake: EmbeddedLake, target: Path) -> None:
    out(fill(lake, "a", "d/b", "d/e/c", "data"), target, "d/")
    assert files(target) == {"b": b"x", "e/c": b"x"}


def test_what_is_there_already_is_not_written_again(lake: EmbeddedLake, target: Path) -> None:
    version = fill(lake, "a", "b")
    out(version, target)
    (target / "b").unlink()
    kept = (target / "a").stat()
    assert out(version, target).written == 1
    now = (target / "a").stat()  # it is read, so its access time may differ
    assert (now.st_ino, now.st_mtime_ns, now.st_ctime_ns) == (kept.st_ino, kept.st_mtime_ns, kept.st_ctime_ns)


LEADING_OUT = ["../evil", "d/../../evil", "/evil", "..", ".", "d/./evil", "d//evil", "d/", "nul\0"]


@pytest.mark.parametrize("path", LEADING_OUT)
def test_a_path_that_could_lead_out_is_refused_and_nothing_is_written(
    lake: EmbeddedLake, target: Path, path: str
) -> None:
    version = fill(lake, "0-first", path)
    with pytest.raises(UsageError) as raised:
        out(version, target)
    assert raised.value.place == path
    assert not target.parent.exists()


def test_an_object_with_such_a_path_can_be_taken_out_under_another_name(lake: EmbeddedLake, target: Path) -> None:
    version = fill(lake, "../evil", data=b"tame")
    target.parent.mkdir()
    entry = version.lake.stat("repo", "main", "../evil")
    take_out_one(version, entry, target, force=False, progress=None)
    assert target.read_bytes() == b"tame"


@pytest.mark.parametrize("force", [False, True])
def test_nothing_is_written_through_a_link_to_a_folder(lake: EmbeddedLake, target: Path, force: bool) -> None:
    version = fill(lake, "d/a")
    outside = target.parent / "outside"
    outside.mkdir(parents=True)
    target.mkdir()
    (target / "d").symlink_to(outside)
    with pytest.raises(UsageError) as raised:
        out(version, target, force=force)
    assert str(target / "d") in raised.value.place
    assert files(outside) == {}


def test_nothing_is_written_through_a_link_to_a_file(lake: EmbeddedLake, target: Path) -> None:
    version = fill(lake, "a")
    target.mkdir(parents=True)
    outside = target.parent / "outside"
    outside.write_bytes(b"mine")
    (target / "a").symlink_to(outside)
    with pytest.raises(UsageError):
        out(version, target)
    assert out(version, target, force=True).written == 1  # the link itself is replaced
    assert (outside.read_bytes(), (target / "a").is_symlink()) == (b"mine", False)


def test_the_target_itself_may_be_a_link(lake: EmbeddedLake, target: Path) -> None:
    real = target.parent / "real"
    real.mkdir(parents=True)
    target.symlink_to(real)
    out(fill(lake, "d/a"), target)
    assert files(real) == {"d/a": b"x"}


def test_a_folder_that_becomes_a_link_meanwhile_leads_nowhere(
    lake: EmbeddedLake, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = fill(lake, "d/a", "d/b")
    outside = target.parent / "outside"
    outside.mkdir(parents=True)
    real = Version.open

    def swapping(self: Version, entry: Entry) -> BinaryIO:
        if entry.path == "d/a":
            (target / "d").rename(target / "moved")
            (target / "d").symlink_to(outside)
        return real(self, entry)

    monkeypatch.setattr(Version, "open", swapping)
    with pytest.raises(UsageError):
        out(version, target)
    assert files(outside) == {}
    assert files(target / "moved") == {"a": b"x"}


def test_another_file_is_not_overwritten_unless_that_is_asked(lake: EmbeddedLake, target: Path) -> None:
    version = fill(lake, "a", "b")
    target.mkdir(parents=True)
    (target / "b").write_bytes(b"mine")
    with pytest.raises(AlreadyExists) as raised:
        out(version, target)
    assert str(target / "b") in str(raised.value)
    assert files(target) == {"b": b"mine"}
    assert out(version, target, force=True).written == 2
    assert files(target) == {"a": b"x", "b": b"x"}


def test_a_file_that_comes_meanwhile_is_not_overwritten(
    lake: EmbeddedLake, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = fill(lake, "a")
    real = Version.open

    def racing(self: Version, entry: Entry) -> BinaryIO:
        (target / "a").write_bytes(b"mine")
        return real(self, entry)

    monkeypatch.setattr(Version, "open", racing)
    with pytest.raises(AlreadyExists):
        out(version, target)
    assert files(target) == {"a": b"mine"}


@pytest.mark.parametrize(("here", "path"), [("folder", "a"), ("file", "a/b"), ("pipe", "a")])
@pytest.mark.parametrize("force", [False, True])
def test_what_is_no_file_is_refused_at_the_place_of_one(
    lake: EmbeddedLake, target: Path, here: str, path: str, force: bool
) -> None:
    version = fill(lake, path)
    target.mkdir(parents=True)
    make: dict[str, Any] = {"folder": Path.mkdir, "file": lambda it: it.write_bytes(b"mine"), "pipe": os.mkfifo}
    make[here](target / "a")
    if (here, force) == ("pipe", True):
        out(version, target, force=True)
        assert files(target) == {"a": b"x"}
        return
    with pytest.raises(UsageError):
        out(version, target, force=force)
    assert files(target) == ({"a": b"mine"} if here == "file" else {})


def test_an_object_and_a_folder_of_one_name_are_refused(lake: EmbeddedLake, target: Path) -> None:
    with pytest.raises(UsageError):
        out(fill(lake, "a", "a/b"), target)


def test_a_name_that_no_disk_takes_is_refused(lake: EmbeddedLake, target: Path) -> None:
    with pytest.raises(UsageError, match="so long a name"):
        out(fill(lake, "x" * 300), target)


class Altered(Version):
    """A lake whose bytes are not what it says."""

    def open(self, entry: Entry) -> BinaryIO:
        return io.BytesIO(b"y" * entry.size)


class Short(Version):
    """A lake that stops in the middle and does not say so."""

    def open(self, entry: Entry) -> BinaryIO:
        return io.BytesIO(b"")

    def list(self, prefix: str) -> Any:
        found = super().list(prefix)
        return (Entry(path=entry.path, size=entry.size) for entry in found)


@pytest.mark.parametrize(("kind", "error"), [(Altered, DigestMismatch), (Short, Failed)])
@pytest.mark.parametrize("force", [False, True])
def test_bytes_that_are_not_what_was_stored_leave_no_file(
    lake: EmbeddedLake, target: Path, kind: type[Version], error: type[Exception], force: bool
) -> None:
    fill(lake, "a")
    target.mkdir(parents=True)
    if force:
        (target / "a").write_bytes(b"mine")
    with pytest.raises(error):
        out(kind(lake=lake, repository="repo", ref="main"), target, force=force)
    assert {path.name for path in target.iterdir()} == ({"a"} if force else set())
    assert not force or (target / "a").read_bytes() == b"mine"


class Undigested(Version):
    """A lake that does not know the SHA-256 of what it has, as a server may not."""

    def list(self, prefix: str) -> Any:
        found = super().list(prefix)
        return (Entry(path=entry.path, size=entry.size, checksum=entry.checksum) for entry in found)


def test_without_a_digest_the_bytes_themselves_are_compared(lake: EmbeddedLake, target: Path) -> None:
    fill(lake, "a")
    version = Undigested(lake=lake, repository="repo", ref="main")
    assert out(version, target).written == 1
    assert out(version, target).written == 0
    (target / "a").write_bytes(b"z")
    with pytest.raises(AlreadyExists):
        out(version, target)


def test_nothing_below_a_prefix_is_not_found(lake: EmbeddedLake, target: Path) -> None:
    with pytest.raises(ObjectNotFound):
        out(fill(lake, "a"), target, "nope/")
    assert not target.exists()


def test_a_single_object_needs_a_folder_that_is_there(lake: EmbeddedLake, target: Path) -> None:
    version = fill(lake, "a")
    with pytest.raises(NotFound):
        take_out_one(version, version.lake.stat("repo", "main", "a"), target / "a", force=False, progress=None)


def test_a_branch_that_moves_meanwhile_is_taken_out_as_it_was(lake: EmbeddedLake, target: Path) -> None:
    version = fill(lake, "a", "b")
    fill(lake, "a", "b", data=b"newer")
    out(version, target)
    assert files(target) == {"a": b"x", "b": b"x"}


def test_what_is_staged_on_a_branch_is_taken_out_with_it(lake: EmbeddedLake, target: Path) -> None:
    fill(lake, "a")
    lake.put("repo", "main", "b", io.BytesIO(b"staged"))
    out(steady(lake, "repo", "main"), target)
    assert files(target) == {"a": b"x", "b": b"staged"}
    out(steady(lake, "repo", "main@"), target / "committed")
    assert files(target / "committed") == {"a": b"x"}


def test_progress_tells_of_every_byte(lake: EmbeddedLake, target: Path) -> None:
    version = fill(lake, "a", "b", data=b"x" * 3_000_000)
    for _ in range(2):
        told: list[int] = []
        take_out(version, "", target, force=False, progress=told.append)
        assert sum(told) == 6_000_000


def test_no_descriptor_is_left_open(lake: EmbeddedLake, target: Path) -> None:
    version = fill(lake, "a/b/c", "a/d", "../evil")
    before = len(os.listdir("/proc/self/fd"))
    for prefix in ("a/", "", "nope/"):
        for _ in range(3):
            try:
                out(version, target, prefix)
            except UsageError:
                continue
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_disk_without_links_still_never_overwrites(
    lake: EmbeddedLake, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(checkout.os, "link", no_links)
    version = fill(lake, "a")
    assert out(version, target).written == 1
    (target / "a").write_bytes(b"mine")
    with pytest.raises(AlreadyExists):
        out(version, target)
    assert files(target) == {"a": b"mine"}


def test_two_at_once_in_one_folder_agree(lake: EmbeddedLake, target: Path) -> None:
    version = fill(lake, *(f"d{number % 5}/{number}" for number in range(100)))
    done: list[TakenOut] = []
    threads = [threading.Thread(target=lambda: done.append(out(version, target))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [item.files for item in done] == [100] * 3
    assert sum(item.written for item in done) == 100
    assert len(files(target)) == 100
