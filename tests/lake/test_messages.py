"""What the lake says when it is asked for what it cannot do: the fact and the next act."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from engine.digest import digest_of
from engine.errors import Failed, UsageError
from engine.lake.embedded.lake import EmbeddedLake
from engine.lake.embedded.tree import Node, Nodes
from engine.lake.uri import parse
from engine.store.objects import ObjectStore

FORM = "write lakefs://REPOSITORY/REF/PATH, as in lakefs://flights/main/2013-h1/"
RULE = "3 to 63 small letters, digits and hyphens, a letter or digit first"
URIS = [
    ("s3://a/b/c", f'"s3://a/b/c" is not a lake URI; {FORM}'),
    ("lakefs://Repo/main/x", f'"Repo" in "lakefs://Repo/main/x" is not a repository name; {RULE}'),
    ("lakefs://ab/main/x", f'"ab" in "lakefs://ab/main/x" is not a repository name; {RULE}'),
    ("lakefs://-ab/main/x", f'"-ab" in "lakefs://-ab/main/x" is not a repository name; {RULE}'),
    ("lakefs://repo\n/main/", f'"repo\n" in "lakefs://repo\n/main/" is not a repository name; {RULE}'),
    ("lakefs://repo", f'"lakefs://repo" names no branch, tag or commit; {FORM}'),
    ("lakefs://repo//x", f'"lakefs://repo//x" names no branch, tag or commit; {FORM}'),
]


@pytest.mark.parametrize(("text", "says"), URIS)
def test_what_is_no_lake_uri_is_refused_with_the_part_that_is_wrong(text: str, says: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse(text)
    assert str(raised.value) == says


@pytest.fixture
def lake(tmp_path: Path) -> EmbeddedLake:
    """A lake with ``a.csv`` on main and the tag v1."""
    lake = EmbeddedLake(tmp_path / "lake", ObjectStore(tmp_path / "objects"))
    lake.create_repository("repo")
    lake.put("repo", "main", "a.csv", io.BytesIO(b"x"))
    lake.commit("repo", "main", "m", author="a", time=1)
    lake.create_tag("repo", "v1", "main")
    return lake


Act = Callable[[EmbeddedLake], object]
NAMES = "letters, digits, _ and -, no - first"
REQUESTS: list[tuple[Act, str]] = [
    (lambda lake: lake.resolve("rep", "main"), "no repository 'rep'; did you mean \"repo\"?"),
    (lambda lake: lake.create_repository("repo"), 'the repository "repo" is there already; choose another name'),
    (lambda lake: lake.create_repository("repo\n"), f'"repo\n" is not a repository name; {RULE}'),
    (lambda lake: lake.create_branch("repo", "main", "v1"), 'the branch "main" is there already; choose another name'),
    (lambda lake: lake.create_tag("repo", "v1", "main"), 'the tag "v1" is there already; choose another name'),
    (lambda lake: lake.create_branch("repo", "x\n", "main"), f'"x\n" is not a branch name; {NAMES}'),
    (
        lambda lake: lake.create_branch("repo", "a" * 64, "main"),
        f'"{"a" * 64}" is a commit\'s name, not a branch name; choose a shorter one',
    ),
    (
        lambda lake: lake.resolve("repo", "main~9999999999"),
        '"main~9999999999" is not a ref; write a branch, tag or commit, and ~N, ^N, @ or $ after it',
    ),
    (
        lambda lake: lake.stat("repo", "main", "b.csv"),
        "no object in lakefs://repo/main/: 'b.csv'; did you mean \"a.csv\"?",
    ),
    (lambda lake: lake.put("repo", "v1", "x", io.BytesIO()), "no branch in repo: 'v1'; known: main"),
    (lambda lake: lake.delete("repo", "v1", "a.csv"), "no branch in repo: 'v1'; known: main"),
    (lambda lake: lake.delete("repo", "main~0", "a.csv"), "no branch in repo: 'main~0'; did you mean \"main\"?"),
    (lambda lake: lake.delete("repo", "main", "zz"), "no object in lakefs://repo/main/: 'zz'; known: a.csv"),
    (lambda lake: lake.commit("repo", "main", "m"), "nothing is staged on repo/main; put or delete an object first"),
    (
        lambda lake: lake.put("repo", "main", "", io.BytesIO()),
        "an object needs a path; write lakefs://REPOSITORY/BRANCH/PATH",
    ),
    (
        lambda lake: lake.put("repo", "main", "é" * 513, io.BytesIO()),
        f"{'é' * 60}...: the path is longer than 1024 bytes; shorten it",
    ),
    (
        lambda lake: lake.put("repo", "main", "\udcff", io.BytesIO()),
        "'\\udcff' in a path is not Unicode text; write it in UTF-8",
    ),
    (
        lambda lake: lake.commit("repo", "main", "m", metadata={"k": "\udcff"}),
        "'\\udcff' in a commit is not Unicode text; write it in UTF-8",
    ),
]


@pytest.mark.parametrize(("act", "says"), REQUESTS, ids=[says[:40] for _, says in REQUESTS])
def test_what_cannot_be_done_is_refused_in_one_sentence(lake: EmbeddedLake, act: Act, says: str) -> None:
    with pytest.raises(UsageError) as raised:
        act(lake)
    assert str(raised.value) == says


def test_a_path_of_1024_bytes_is_kept(lake: EmbeddedLake) -> None:
    assert lake.put("repo", "main", "é" * 512, io.BytesIO()).path == "é" * 512


def test_a_file_that_is_not_there_or_is_a_folder_is_named(lake: EmbeddedLake, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as missing:
        lake.put("repo", "main", "x", tmp_path / "none.csv")
    with pytest.raises(UsageError) as folder:
        lake.put("repo", "main", "x", tmp_path)
    assert str(missing.value) == f"no file '{tmp_path / 'none.csv'}'; name a file that is there"
    assert str(folder.value) == f"{tmp_path}: cannot be read: Is a directory; name a file that you may read"


@pytest.mark.parametrize(
    ("repository", "hint"),
    [
        ("flights", "`engine quickstart` creates the sample"),
        ("mine", "`engine lake repos create mine` makes it; put data there before you run"),
    ],
)
def test_an_empty_lake_says_how_to_get_data(tmp_path: Path, repository: str, hint: str) -> None:
    lake = EmbeddedLake(tmp_path / "none" / "lake", ObjectStore(tmp_path / "none" / "objects"))
    with pytest.raises(UsageError) as raised:
        lake.resolve(repository, "main")
    assert str(raised.value) == f"no repository '{repository}'; {hint}"
    assert not (tmp_path / "none").exists()


def test_a_beginning_that_several_commits_share_is_refused(lake: EmbeddedLake) -> None:
    one, two = times_of_alike_commits(lake)
    for number, time in enumerate((one, two)):
        lake.create_branch("repo", f"b{number}", "main")
        lake.put("repo", f"b{number}", "b", io.BytesIO(b"x"), time=5)
        beginning = lake.commit("repo", f"b{number}", "m", author="a", time=time).id[:4]
    with pytest.raises(UsageError) as raised:
        lake.resolve("repo", beginning)
    assert str(raised.value) == f'"{beginning}" begins several commits of repo; write more of it'


def times_of_alike_commits(lake: EmbeddedLake) -> tuple[int, int]:
    """Two times at which the next commit's id would begin with the same four digits (a birthday search)."""
    head = lake.resolve("repo", "main")
    lake.create_branch("repo", "trial", "main")
    digest = lake.put("repo", "trial", "b", io.BytesIO(b"x"), time=5).digest
    nodes = Nodes(read=lambda _: b"")
    rows = [[path, digest, 1, time] for path, time in (("a.csv", lake.stat("repo", "main", "a.csv").time), ("b", 5))]
    tree = nodes.keep(Node(level=0, rows=rows))
    seen: dict[str, int] = {}
    for time in range(100_000):
        body = {"author": "a", "message": "m", "metadata": {}, "parents": [head], "time": time, "tree": tree}
        body["generation"] = 3
        beginning = digest_of(body)[:4]
        if beginning in seen:
            return seen[beginning], time
        seen[beginning] = time
    raise AssertionError("no two ids began alike")


def test_a_lake_of_another_form_is_refused_with_what_to_do(lake: EmbeddedLake) -> None:
    with closing(sqlite3.connect(lake.path)) as db:
        db.execute("pragma user_version = 1")
    with pytest.raises(Failed, match="another version of Engine") as raised:
        lake.repositories()
    assert raised.value.hint == "move its folder away and put the data in again"
