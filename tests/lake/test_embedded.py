"""The embedded lake: refs, commits, staged changes, ranges that depend on content alone, and the sample."""

from __future__ import annotations

import io
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from engine.errors import EngineError, UsageError
from engine.lake.embedded.lake import EmbeddedLake
from engine.lake.protocol import Commit, NothingToCommit
from engine.lake.uri import parse
from engine.store.objects import ObjectStore


def make(root: Path) -> EmbeddedLake:
    return EmbeddedLake(root / "lake", ObjectStore(root / "objects"))


@pytest.fixture
def lake(tmp_path: Path) -> EmbeddedLake:
    made = make(tmp_path)
    made.create_repository("repo")
    return made


def put(lake: EmbeddedLake, path: str, text: str) -> None:
    lake.put("repo", "main", path, io.BytesIO(text.encode()), time=1)


def commit(lake: EmbeddedLake, message: str = "m") -> Commit:
    return lake.commit("repo", "main", message, author="a", time=1)


def read(lake: EmbeddedLake, ref: str, path: str) -> str:
    with lake.open("repo", ref, path) as stream:
        return stream.read().decode()


def test_ids_agree_in_two_folders(tmp_path: Path) -> None:
    ids = []
    for name in ("one", "two"):
        lake = make(tmp_path / name)
        lake.create_repository("repo")
        put(lake, "a", "1")
        ids.append(commit(lake).id)
    assert ids[0] == ids[1]


def test_an_old_commit_keeps_its_bytes(lake: EmbeddedLake) -> None:
    put(lake, "a", "old")
    first = commit(lake)
    put(lake, "a", "new")
    commit(lake)
    assert (read(lake, first.id, "a"), read(lake, "main", "a"), read(lake, "main~1", "a")) == ("old", "new", "old")


def test_a_branch_shows_what_is_staged_and_a_commit_does_not(lake: EmbeddedLake) -> None:
    put(lake, "a", "1")
    assert [entry.path for entry in lake.list("repo", "main")] == ["a"]
    assert list(lake.list("repo", "main@")) == []


def test_a_deleted_object_is_gone_from_the_branch_only(lake: EmbeddedLake) -> None:
    put(lake, "a", "1")
    first = commit(lake)
    lake.delete("repo", "main", "a")
    commit(lake)
    assert list(lake.list("repo", "main")) == []
    assert read(lake, first.id, "a") == "1"


def test_a_commit_that_changes_nothing_is_refused(lake: EmbeddedLake) -> None:
    put(lake, "a", "1")
    commit(lake)
    with pytest.raises(NothingToCommit):
        commit(lake)
    put(lake, "a", "1")
    with pytest.raises(NothingToCommit):
        commit(lake)


def test_branches_and_tags_stay_where_they_were_made(lake: EmbeddedLake) -> None:
    put(lake, "a", "1")
    first = commit(lake)
    lake.create_branch("repo", "dev", "main")
    lake.create_tag("repo", "v1", "main")
    put(lake, "a", "2")
    commit(lake)
    assert lake.resolve("repo", "dev") == lake.resolve("repo", "v1") == lake.resolve("repo", first.id[:10]) == first.id


REFS = [
    ("mian", "no branch, tag or commit in repo: 'mian'; did you mean \"main\"?"),
    ("main~9", "no commit in repo: 'main~9'; the history does not go back that far"),
    ("main^2", "no commit in repo: 'main^2'; the history does not go back that far"),
    ("~1", '"~1" is not a ref; write a branch, tag or commit, and ~N, ^N, @ or $ after it'),
]


@pytest.mark.parametrize(("ref", "says"), REFS)
def test_an_unknown_ref_is_named(lake: EmbeddedLake, ref: str, says: str) -> None:
    with pytest.raises(EngineError) as raised:
        lake.resolve("repo", ref)
    assert str(raised.value) == says


@pytest.mark.parametrize("text", ["", "lakefs://"])
def test_what_is_no_lake_uri_is_refused_with_the_right_form(text: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse(text)
    assert raised.value.hint


def test_a_lake_uri_gives_itself_back() -> None:
    assert str(parse("lakefs://repo/main~1/a/b c.csv")) == "lakefs://repo/main~1/a/b c.csv"


def test_reading_a_lake_that_is_not_there_creates_nothing(tmp_path: Path) -> None:
    assert make(tmp_path / "none").repositories() == []
    assert not (tmp_path / "none").exists()


def commit_many(root: str, name: str) -> int:
    lake = make(Path(root))
    done = 0
    for number in range(8):
        lake.put("repo", "main", f"{name}/{number}", io.BytesIO(name.encode()))
        try:
            lake.commit("repo", "main", f"{name} {number}", author="a", time=number)
        except NothingToCommit:
            continue  # another process committed what was staged
        done += 1
    return done


def test_processes_that_commit_at_once_lose_nothing(lake: EmbeddedLake, tmp_path: Path) -> None:
    with ProcessPoolExecutor(3) as pool:
        done = sum(pool.map(commit_many, [str(tmp_path)] * 3, ["a", "b", "c"]))
    assert len(list(lake.list("repo", "main@"))) == 24
    assert len(list(lake.log("repo", "main"))) == done + 1
