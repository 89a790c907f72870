"""Several real processes use one lake at once: all begin at the same moment, nothing is lost."""

from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from threading import BrokenBarrierError

import pytest

from engine.lake import sample
from engine.lake.embedded.lake import EmbeddedLake
from engine.lake.protocol import BranchMoved, NothingToCommit
from engine.lake.sample import quickstart
from engine.store.objects import ObjectStore

COUNT = 4
FORK = get_context("fork")
BARRIER = FORK.Barrier(COUNT)


def lake_in(home: str | Path) -> EmbeddedLake:
    return EmbeddedLake(Path(home) / "lake", ObjectStore(Path(home) / "objects"))


def together() -> None:
    """Wait until all have come this far."""
    try:
        BARRIER.wait(30)
    except BrokenBarrierError as error:
        raise AssertionError("a process did not come") from error


@pytest.fixture
def processes() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(COUNT, mp_context=FORK) as pool:
        yield pool


def make_repository(home: str, name: str) -> str:
    lake = lake_in(home)
    together()
    lake.repositories()
    return lake.create_repository(name).name


@pytest.mark.parametrize("round", range(5))
def test_processes_that_meet_at_a_new_lake_all_find_it_whole(
    processes: ProcessPoolExecutor, tmp_path: Path, round: int
) -> None:
    names = [f"repo-{number}" for number in range(COUNT)]
    assert list(processes.map(make_repository, [str(tmp_path)] * COUNT, names)) == names
    assert [repository.name for repository in lake_in(tmp_path).repositories()] == names


def test_what_a_killed_process_left_of_a_new_lake_is_cleared(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    lake.path.parent.mkdir()
    for name in (".lake.db.making", ".lake.db.making-wal"):
        lake.path.with_name(name).write_bytes(b"half")
    assert lake.repositories() == []
    lake.create_repository("repo")
    assert lake.path.is_file()
    assert list(lake.path.parent.glob(".*")) == []


def commit_on_its_own(home: str, branch: str) -> list[str]:
    lake, made = lake_in(home), []
    together()
    lake.create_branch("repo", branch, "main")
    for number in range(6):
        lake.put("repo", branch, f"{number}", io.BytesIO(f"{branch} {number}".encode()))
        made.append(lake.commit("repo", branch, f"{number}", author=branch, time=number).id)
    return made


def test_every_commit_that_was_acknowledged_is_there(processes: ProcessPoolExecutor, tmp_path: Path) -> None:
    lake_in(tmp_path).create_repository("repo")
    branches = [f"b{number}" for number in range(COUNT)]
    for branch, made in zip(branches, processes.map(commit_on_its_own, [str(tmp_path)] * COUNT, branches), strict=True):
        lake = lake_in(tmp_path)
        assert [commit.id for commit in lake.log("repo", branch)][-2::-1] == made
        for number, id in enumerate(made):
            with lake.open("repo", id, f"{number}") as stream:
                assert stream.read() == f"{branch} {number}".encode()


def commit_once(home: str, parent: str) -> int:
    lake = lake_in(home)
    lake.put("repo", "main", "a", io.BytesIO(b"1"))
    together()
    try:
        lake.commit("repo", "main", "m", parent=parent)
    except (BranchMoved, NothingToCommit):
        return 0
    return 1


def test_of_several_commits_on_one_parent_one_wins(processes: ProcessPoolExecutor, tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    lake.create_repository("repo")
    parent = lake.resolve("repo", "main")
    assert sum(processes.map(commit_once, [str(tmp_path)] * COUNT, [parent] * COUNT)) == 1
    assert lake.resolve("repo", "main~1") == parent
    lake.put("repo", "main", "a", io.BytesIO(b"2"))
    with pytest.raises(BranchMoved, match="read it and try again"):
        lake.commit("repo", "main", "m", parent=parent)


def make_sample(home: str) -> tuple[str, ...]:
    together()
    return tuple(commit.id for commit in quickstart(lake_in(home)).commits)


def test_quickstarts_at_once_make_the_sample_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = sample.flights()
    monkeypatch.setattr(sample, "flights", lambda: table)
    alone = tuple(commit.id for commit in quickstart(lake_in(tmp_path / "alone")).commits)
    with ProcessPoolExecutor(COUNT, mp_context=FORK) as pool:
        assert set(pool.map(make_sample, [str(tmp_path / "shared")] * COUNT)) == {alone}
