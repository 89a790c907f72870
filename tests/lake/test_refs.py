"""What a ref of the lake means, as lakeFS has it."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from engine.errors import AlreadyExists, NotFound, UsageError
from engine.lake.embedded.lake import EmbeddedLake
from engine.lake.protocol import RefNotFound, RepositoryNotFound
from engine.store.objects import ObjectStore


@pytest.fixture
def lake(tmp_path: Path) -> EmbeddedLake:
    """A lake with three commits on main and the tag v1 at the second."""
    lake = EmbeddedLake(tmp_path / "lake", ObjectStore(tmp_path / "objects"))
    lake.create_repository("repo")
    for number in range(3):
        lake.put("repo", "main", f"{number}.csv", io.BytesIO(b"x"))
        lake.commit("repo", "main", f"number {number}", author="test", time=number)
    lake.create_tag("repo", "v1", "main~1")
    return lake


@pytest.mark.parametrize(
    ("ref", "back"),
    [
        ("main", 0), ("main@", 0), ("main~", 1), ("main~0", 0), ("main~1", 1), ("main~2", 2), ("main^", 1),
        ("main^1", 1), ("main^^", 2), ("main~1^", 2), ("main@~1", 1), ("v1", 1), ("v1~1", 2), ("main^0", 0),
    ],
)  # fmt: skip
def test_a_ref_means_the_commit_that_lakefs_means(lake: EmbeddedLake, ref: str, back: int) -> None:
    assert lake.resolve("repo", ref) == list(lake.log("repo", "main"))[back].id


def test_a_commit_is_found_by_its_id_and_by_a_unique_prefix_of_it(lake: EmbeddedLake) -> None:
    head = lake.branches("repo")["main"]
    assert {lake.resolve("repo", ref) for ref in (head, head[:12], f"{head[:12]}~0")} == {head}


@pytest.mark.parametrize("ref", ["mian", "main~9", "main^2", "0123456789ab", "f" * 64, "abc"])
def test_a_ref_that_means_nothing_is_not_found(lake: EmbeddedLake, ref: str) -> None:
    with pytest.raises(RefNotFound):
        lake.resolve("repo", ref)


@pytest.mark.parametrize("ref", ["", "~1", "main~x", "@"])
def test_a_text_that_is_no_ref_is_refused(lake: EmbeddedLake, ref: str) -> None:
    with pytest.raises(UsageError):
        lake.resolve("repo", ref)


def test_a_misspelt_repository_suggests_the_nearest(lake: EmbeddedLake) -> None:
    with pytest.raises(RepositoryNotFound, match='did you mean "repo"'):
        lake.resolve("repoo", "main")


def test_a_branch_begins_where_it_was_made_and_moves_alone(lake: EmbeddedLake) -> None:
    head = lake.create_branch("repo", "work", "main~1")
    lake.put("repo", "work", "new.csv", io.BytesIO(b"x"))
    assert "new.csv" not in [entry.path for entry in lake.list("repo", "main")]
    assert lake.commit("repo", "work", "on work").parents == (head,)
    assert [entry.path for entry in lake.list("repo", "main")] == ["0.csv", "1.csv", "2.csv"]


@pytest.mark.parametrize("name", ["main", "-x", "a b", "", "a/b", "~1"])
def test_a_taken_or_impossible_branch_name_is_refused(lake: EmbeddedLake, name: str) -> None:
    with pytest.raises((AlreadyExists, UsageError)):
        lake.create_branch("repo", name, "main")


def test_the_log_goes_back_to_the_creation(lake: EmbeddedLake) -> None:
    messages = [commit.message for commit in lake.log("repo", "main")]
    assert messages == ["number 2", "number 1", "number 0", "Repository created"]


def test_a_put_on_a_branch_that_is_not_there_leaves_nothing(lake: EmbeddedLake) -> None:
    before = set(lake.objects.digests())
    with pytest.raises(NotFound):
        lake.put("repo", "mian", "x", io.BytesIO(b"never kept"))
    assert set(lake.objects.digests()) == before
