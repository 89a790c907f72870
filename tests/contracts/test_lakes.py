"""What every lake does, whatever keeps it: repositories, refs, reading, staging, committing."""

from __future__ import annotations

import hashlib
import io
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.errors import UsageError
from engine.lake.protocol import (
    BranchMoved,
    Lake,
    NothingToCommit,
    ObjectNotFound,
    RefNotFound,
    RefTaken,
    RepositoryNotFound,
    Signed,
)
from lakes import Place, signed

# -- repositories -------------------------------------------------------------------------------------


def test_a_new_repository_has_one_branch_at_an_empty_first_commit(place: Place) -> None:
    assert list(place.lake.branches(place.name)) == ["main"]
    assert place.paths() == []
    assert [commit.parents for commit in place.lake.log(place.name, "main")] == [()]


def test_repositories_are_listed_by_name(place: Place) -> None:
    names = [item.name for item in place.lake.repositories()]
    assert place.name in names
    assert names == sorted(names)


def test_a_repository_begins_with_the_branch_that_was_asked_for(place: Place) -> None:
    name = f"{place.name}-2"
    made = place.lake.create_repository(name, "trunk")
    try:
        assert (made.name, made.default_branch) == (name, "trunk")
        assert abs(made.time - time.time()) < 60
        assert list(place.lake.branches(name)) == ["trunk"]
    finally:
        place.lake.delete_repository(name)


def test_a_repository_that_is_there_is_not_made_again(place: Place) -> None:
    place.add(a="1")
    with pytest.raises(RefTaken):
        place.lake.create_repository(place.name)
    assert place.paths() == ["a"]


@pytest.mark.parametrize("name", ["", "ab", "Repo", "-repo", "re_po", "re/po", "re po", "r" * 64, "répo"])
def test_what_is_no_name_of_a_repository_is_refused(place: Place, name: str) -> None:
    with pytest.raises(UsageError):
        place.lake.create_repository(name)


def test_a_deleted_repository_is_gone_and_its_name_is_free(place: Place) -> None:
    name = f"{place.name}-2"
    place.lake.create_repository(name)
    place.lake.put(name, "main", "a", io.BytesIO(b"1"))
    place.lake.delete_repository(name)
    assert name not in [item.name for item in place.lake.repositories()]
    place.lake.create_repository(name)
    try:
        assert list(place.lake.list(name, "main")) == []
    finally:
        place.lake.delete_repository(name)


ASKED: dict[str, Callable[[Lake, str, str], object]] = {
    "resolve": lambda lake, name, ref: lake.resolve(name, ref),
    "create_branch": lambda lake, name, ref: lake.create_branch(name, "new", ref),
    "delete_branch": lambda lake, name, ref: lake.delete_branch(name, ref),
    "create_tag": lambda lake, name, ref: lake.create_tag(name, "new", ref),
    "delete_tag": lambda lake, name, ref: lake.delete_tag(name, ref),
    "list": lambda lake, name, ref: next(lake.list(name, ref)),
    "stat": lambda lake, name, ref: lake.stat(name, ref, "a"),
    "open": lambda lake, name, ref: lake.open(name, ref, "a"),
    "map": lambda lake, name, ref: lake.map(name, ref, "a"),
    "put": lambda lake, name, ref: lake.put(name, ref, "a", io.BytesIO(b"1")),
    "put_folder": lambda lake, name, ref: lake.put_folder(name, ref, "", Path(__file__).parent),
    "delete": lambda lake, name, ref: lake.delete(name, ref, "a"),
    "changes": lambda lake, name, ref: next(lake.changes(name, ref)),
    "reset": lambda lake, name, ref: lake.reset(name, ref),
    "commit": lambda lake, name, ref: lake.commit(name, ref, "m"),
    "log": lambda lake, name, ref: next(lake.log(name, ref)),
    "diff from": lambda lake, name, ref: next(lake.diff(name, ref, "main")),
    "diff to": lambda lake, name, ref: next(lake.diff(name, "main", ref)),
    "merge from": lambda lake, name, ref: lake.merge(name, ref, "main", signed()),
    "merge to": lambda lake, name, ref: lake.merge(name, "main", ref, signed()),
    "revert on": lambda lake, name, ref: lake.revert(name, ref, "main", signed()),
    "revert of": lambda lake, name, ref: lake.revert(name, "main", ref, signed()),
    "cherry_pick on": lambda lake, name, ref: lake.cherry_pick(name, ref, "main", signed()),
    "cherry_pick of": lambda lake, name, ref: lake.cherry_pick(name, "main", ref, signed()),
}


@pytest.mark.parametrize("method", [*ASKED, "branches", "tags", "delete_repository"])
def test_every_method_names_the_nearest_repository(place: Place, method: str) -> None:
    wrong = f"{place.name}x"
    with pytest.raises(RepositoryNotFound, match=f'did you mean "{place.name}"'):
        ASKED[method](place.lake, wrong, "main") if method in ASKED else getattr(place.lake, method)(wrong)


@pytest.mark.parametrize("method", ASKED)
def test_every_method_names_the_nearest_ref(place: Place, method: str) -> None:
    place.add(a="1")
    place.lake.create_tag(place.name, "main-tag", "main")
    near = "main-tag" if method == "delete_tag" else "main"
    with pytest.raises(RefNotFound, match=f'did you mean "{near}"'):
        ASKED[method](place.lake, place.name, "mainn" if near == "main" else "main-tagg")


# -- refs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ref", "back"),
    [
        ("main", 0), ("main@", 0), ("main$", 0), ("main~", 1), ("main~0", 0), ("main~1", 1), ("main~2", 2),
        ("main^", 1), ("main^1", 1), ("main^^", 2), ("main~1^", 2), ("v1", 1), ("v1~1", 2), ("v1^", 2),
    ],
)  # fmt: skip
def test_a_ref_means_the_commit_that_lakefs_means(place: Place, ref: str, back: int) -> None:
    for number in "123":
        place.add(a=number)
    place.lake.create_tag(place.name, "v1", "main~1")
    assert place.lake.resolve(place.name, ref) == place.log()[back]


def test_the_second_parent_of_a_merge_is_what_was_merged(place: Place) -> None:
    place.branch("dev")
    theirs, ours = place.add("dev", b="1"), place.add(a="1")
    made = place.merge("dev")
    assert place.head("main^1") == place.head("main~1") == ours.id
    assert place.head("main^2") == theirs.id
    assert place.head("main^2~1") == place.head("main~2")
    assert made.parents == (ours.id, theirs.id)


def test_a_commit_is_found_by_its_id_and_by_a_unique_beginning_of_it(place: Place) -> None:
    head = place.add(a="1").id
    assert {place.head(ref) for ref in (head, head[:16], head[:12], f"{head[:12]}~0")} == {head}


@pytest.mark.slow
def test_an_ambiguous_beginning_is_refused(place: Place) -> None:
    seen: dict[str, str] = {}
    for number in range(3000):
        made = place.lake.commit(place.name, "main", str(number), allow_empty=True)
        if made.id[:4] in seen and not made.id[:4].isdigit():
            break
        seen[made.id[:4]] = made.id
    with pytest.raises(UsageError):
        place.head(made.id[:4])


@pytest.mark.parametrize("ref", ["main~9", "main^2", "v2", "0123456789ab", "f" * 64, f"{'f' * 64}~1"])
def test_a_ref_that_means_nothing_is_not_found(place: Place, ref: str) -> None:
    with pytest.raises(RefNotFound):
        place.head(ref)


@pytest.mark.parametrize("ref", ["", "~1", "main~x", "@", "main~1$"])
def test_a_text_that_is_no_ref_is_refused(place: Place, ref: str) -> None:
    with pytest.raises(UsageError):
        place.head(ref)


def test_branches_are_listed_by_name_with_their_commits(place: Place) -> None:
    first = place.add(a="1").id
    for name in ("zeta", "alpha", "Beta", "_x", "a-b"):
        assert place.branch(name) == first
    second = place.add(a="2").id
    found = place.lake.branches(place.name)
    assert list(found) == ["Beta", "_x", "a-b", "alpha", "main", "zeta"]
    assert found["alpha"] == first
    assert found["main"] == second


def test_a_branch_begins_at_any_ref_and_moves_alone(place: Place) -> None:
    first, second = place.add(a="1"), place.add(a="2")
    assert place.branch("old", "main~1") == first.id
    assert place.branch("same", second.id[:12]) == second.id
    made = place.add("old", b="1")
    assert (made.parents, place.head()) == ((first.id,), second.id)
    assert (place.paths("old"), place.paths()) == (["a", "b"], ["a"])


def test_what_is_staged_stays_on_its_branch(place: Place) -> None:
    place.put("a", "1")
    place.branch("dev")
    place.put("b", "1", "dev")
    assert (place.paths(), place.paths("dev")) == (["a"], ["b"])


@pytest.mark.parametrize("name", ["", "-x", "a b", "a/b", "a.b", "~1", "a@", "é", "f" * 64])
def test_what_is_no_name_of_a_branch_is_refused(place: Place, name: str) -> None:
    with pytest.raises(UsageError):
        place.branch(name)


def test_a_branch_that_is_there_is_not_made_again(place: Place) -> None:
    head = place.add(a="1").id
    with pytest.raises(RefTaken):
        place.branch("main", "main~1")
    assert place.head() == head


def test_a_deleted_branch_is_gone_with_what_is_staged_and_its_commits_stay(place: Place) -> None:
    place.branch("dev")
    made = place.add("dev", a="1")
    place.put("b", "1", "dev")
    place.lake.delete_branch(place.name, "dev")
    with pytest.raises(RefNotFound):
        place.head("dev")
    assert place.texts(made.id) == {"a": "1"}
    place.branch("dev", made.id)
    assert place.texts("dev") == {"a": "1"}


def test_the_default_branch_cannot_be_deleted(place: Place) -> None:
    with pytest.raises(UsageError):
        place.lake.delete_branch(place.name, "main")
    assert list(place.lake.branches(place.name)) == ["main"]


def test_a_tag_stays_where_it_was_made(place: Place) -> None:
    first = place.add(a="1").id
    assert place.lake.create_tag(place.name, "v1.0", "main") == first
    place.add(a="2")
    assert place.head("v1.0") == first
    assert place.texts("v1.0") == {"a": "1"}


def test_tags_are_listed_by_name_with_their_commits(place: Place) -> None:
    head = place.add(a="1").id
    for name in ("v2", "v1.1", "A", "v1"):
        place.lake.create_tag(place.name, name, "main")
    assert place.lake.tags(place.name) == dict.fromkeys(["A", "v1", "v1.1", "v2"], head)
    assert list(place.lake.tags(place.name)) == ["A", "v1", "v1.1", "v2"]


def test_a_tag_that_is_there_is_not_made_again(place: Place) -> None:
    place.lake.create_tag(place.name, "v1", "main")
    place.add(a="1")
    with pytest.raises(RefTaken):
        place.lake.create_tag(place.name, "v1", "main")
    assert place.head("v1") != place.head()


@pytest.mark.parametrize("name", ["", "-x", "a b", "a/b", "a..b", "a.", "~1", "a.lock", "f" * 64])
def test_what_is_no_name_of_a_tag_is_refused(place: Place, name: str) -> None:
    with pytest.raises(UsageError):
        place.lake.create_tag(place.name, name, "main")


def test_a_deleted_tag_is_gone_and_its_commit_stays(place: Place) -> None:
    head = place.add(a="1").id
    place.lake.create_tag(place.name, "v1", "main")
    place.lake.delete_tag(place.name, "v1")
    assert place.lake.tags(place.name) == {}
    assert place.head(head) == head


# -- reading ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ref", "shown"), [("main", "2"), ("main$", "2"), ("main@", "1"), ("v1", "1"), ("id", "1")])
def test_a_branch_is_read_with_what_is_staged_and_everything_else_is_not(place: Place, ref: str, shown: str) -> None:
    head = place.add(a="1").id
    place.lake.create_tag(place.name, "v1", "main")
    place.put("a", "2")
    place.put("b", "2")
    ref = head if ref == "id" else ref
    assert place.texts(ref) == ({"a": "1"} if shown == "1" else {"a": "2", "b": "2"})


def test_a_removal_that_is_staged_is_seen_on_the_branch_only(place: Place) -> None:
    place.add(a="1", b="1")
    place.lake.delete(place.name, "main", "a")
    assert (place.paths(), place.paths("main@")) == (["b"], ["a", "b"])
    with pytest.raises(ObjectNotFound):
        place.lake.stat(place.name, "main", "a")


def test_an_old_commit_keeps_its_bytes(place: Place) -> None:
    first = place.add(a="1", b="1")
    place.add(a="2", b=None)
    assert place.texts(first.id) == place.texts("main~1") == {"a": "1", "b": "1"}


PATHS = ["B", "a", "a!", "a/", "a/1", "a/b/1", "a/b/2", "a0", "b/1", "b/2", "ä", "\uffee", "\U0001f600"]


@pytest.fixture
def listed(place: Place) -> Place:
    """Half of the paths committed and half of them staged."""
    for path in PATHS[::2]:
        place.put(path)
    place.commit()
    for path in PATHS[1::2]:
        place.put(path)
    return place


def test_objects_are_listed_in_the_order_of_their_bytes(listed: Place) -> None:
    assert listed.paths() == PATHS == sorted(PATHS, key=str.encode)


LISTED = [
    ("a", "", "", ["a", "a!", "a/", "a/1", "a/b/1", "a/b/2", "a0"]),
    ("a/", "", "", ["a/", "a/1", "a/b/1", "a/b/2"]),
    ("a/b", "", "", ["a/b/1", "a/b/2"]),
    ("c", "", "", []),
    ("", "a/b/1", "", ["a/b/2", "a0", "b/1", "b/2", "ä", "\uffee", "\U0001f600"]),
    ("", "a/b/10", "", ["a/b/2", "a0", "b/1", "b/2", "ä", "\uffee", "\U0001f600"]),
    ("a/", "a/b", "", ["a/b/1", "a/b/2"]),
    ("a/", "b", "", []),
    ("", "", "/", ["B", "a", "a!", "a/", "a0", "b/", "ä", "\uffee", "\U0001f600"]),
    ("a/", "", "/", ["a/", "a/1", "a/b/"]),
    ("a", "", "/", ["a", "a!", "a/", "a0"]),
    ("a/b", "", "/", ["a/b/"]),
    ("", "a", "/", ["a!", "a/", "a0", "b/", "ä", "\uffee", "\U0001f600"]),
    ("", "a/", "/", ["a0", "b/", "ä", "\uffee", "\U0001f600"]),
    ("", "a/1", "/", ["a0", "b/", "ä", "\uffee", "\U0001f600"]),
    ("b/", "b/1", "/", ["b/2"]),
]


@pytest.mark.parametrize(("prefix", "after", "delimiter", "found"), LISTED)
def test_a_listing_knows_prefix_after_and_delimiter(
    listed: Place, prefix: str, after: str, delimiter: str, found: list[str]
) -> None:
    assert listed.paths("main", prefix, after, delimiter) == found


def test_a_folder_in_a_listing_says_that_it_is_one(listed: Place) -> None:
    found = {entry.path: entry.is_prefix for entry in listed.lake.list(listed.name, "main", "a/b", delimiter="/")}
    assert found == {"a/b/": True}
    assert not any(entry.is_prefix for entry in listed.lake.list(listed.name, "main"))


@pytest.fixture(scope="module")
def thousands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1,100 small files, most of them in one folder."""
    folder = tmp_path_factory.mktemp("thousands")
    for name in ("many", "few", "x1", "x2", "x3"):
        (folder / name).mkdir()
    for number in range(1050):
        (folder / "many" / f"{number:04}").write_text(str(number % 7))
    for number in range(50):
        (folder / ("few" if number % 2 else f"x{number % 3 + 1}") / f"{number:02}").write_text("x")
    return folder


def test_a_listing_goes_on_behind_its_first_thousand(place: Place, thousands: Path) -> None:
    place.lake.put_folder(place.name, "main", "d/", thousands, commit=signed())
    everything = sorted(f"d/{path.relative_to(thousands)}" for path in thousands.rglob("*") if path.is_file())
    assert place.paths() == everything
    assert place.paths(prefix="d/many/") == [path for path in everything if path.startswith("d/many/")]
    assert place.paths(after=everything[900]) == everything[901:]
    assert place.paths(prefix="d/", delimiter="/") == ["d/few/", "d/many/", "d/x1/", "d/x2/", "d/x3/"]


def test_staged_changes_and_differences_go_on_behind_their_first_thousand(place: Place, thousands: Path) -> None:
    first = place.head()
    place.lake.put_folder(place.name, "main", "", thousands)
    staged = place.changes()
    assert len(staged) == 1100
    assert list(place.changes(after="many/0999")) == [path for path in staged if path > "many/0999"]
    place.commit()
    assert list(place.diff(first, "main")) == list(staged)


def test_an_object_says_what_it_is(place: Place) -> None:
    before = time.time() - 2
    put = place.lake.put(
        place.name, "main", "a.csv", io.BytesIO(b"1,2"), content_type="text/csv", metadata={"origin": "JFK"}
    )
    place.commit()
    for entry in (place.lake.stat(place.name, "main", "a.csv"), next(place.lake.list(place.name, "main"))):
        assert (entry.path, entry.size, entry.content_type) == ("a.csv", 3, "text/csv")
        assert dict(entry.metadata) == {"origin": "JFK"}
        assert before <= entry.time <= time.time() + 2
        assert entry.digest in ("", hashlib.sha256(b"1,2").hexdigest())
        assert entry.checksum == put.checksum != ""


def test_equal_bytes_have_equal_checksums_and_others_have_not(place: Place) -> None:
    one, two, three = place.put("1", "x"), place.put("2", "x"), place.put("3", "y")
    assert one.checksum == two.checksum != three.checksum


def test_a_missing_object_suggests_the_nearest(place: Place) -> None:
    place.add(**{"2013-h1/01.parquet": "x", "2013-h1/02.parquet": "y"})
    for method in (place.lake.stat, place.lake.open, place.lake.map):
        with pytest.raises(ObjectNotFound, match='did you mean "2013-h1/01.parquet"'):
            method(place.name, "main", "2013-h1/01.parqet")


def test_a_folder_is_no_object(place: Place) -> None:
    place.add(**{"a/b": "1"})
    for path in ("a", "a/"):
        with pytest.raises(ObjectNotFound):
            place.lake.stat(place.name, "main", path)


SIZES = [0, 1, 1 << 16, (1 << 16) + 1, 3 << 20]


@pytest.mark.parametrize("size", SIZES)
def test_bytes_come_back_as_they_were_put(place: Place, size: int) -> None:
    data = secrets.token_bytes(size)
    assert place.lake.put(place.name, "main", "a", io.BytesIO(data)).size == size
    place.commit()
    with place.lake.open(place.name, "main", "a") as stream:
        assert stream.read() == data
    assert place.lake.map(place.name, "main", "a") == data
    assert place.lake.stat(place.name, "main", "a").size == size


def test_a_stream_is_read_in_blocks(place: Place) -> None:
    data = secrets.token_bytes(300_000)
    place.lake.put(place.name, "main", "a", io.BytesIO(data))
    with place.lake.open(place.name, "main", "a") as stream:
        blocks = list(iter(lambda: stream.read(70_001), b""))
    assert b"".join(blocks) == data
    assert max(map(len, blocks)) <= 70_001


def test_what_was_fetched_has_its_digest_and_lies_in_the_local_store(place: Place) -> None:
    data = secrets.token_bytes(100_000)
    place.lake.put(place.name, "main", "a", io.BytesIO(data))
    head = place.commit().id
    entry = place.lake.fetch(place.name, head, place.lake.stat(place.name, head, "a"))
    assert entry.digest == hashlib.sha256(data).hexdigest()
    assert place.objects.read(entry.digest) == data
    assert place.lake.fetch(place.name, head, entry) == entry


# -- staging ------------------------------------------------------------------------------------------


def test_a_file_is_put_by_its_path(place: Place, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"from a file")
    place.lake.put(place.name, "main", "a", tmp_path / "f")
    assert place.read("a") == "from a file"


def test_a_pipe_is_put_to_its_end(place: Place) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"through a pipe")
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        assert place.lake.put(place.name, "main", "a", stream).size == 14
    assert place.read("a") == "through a pipe"


def test_a_file_that_cannot_be_read_is_named_and_stages_nothing(place: Place, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as raised:
        place.lake.put(place.name, "main", "a", tmp_path / "nope.csv")
    assert "nope.csv" in str(raised.value)
    assert place.changes() == {}


ODD = [
    "..", ".", "../up", "a/../b", "/lead", "//", "a//b", "dir/", "x" * 1024, "é" * 512, "日本/語", "new\nline",
    "tab\t", "cr\r", " blank ", "a b", "100%", "a%2Fb", "%", "q?x=1&y=2", "h#1", "a+b", "a;b=c", "quo\"te's", "back\\slash",
    "a:b@c", "[x]{y}<z>|^`~", "\u202etxt", "nul-free\x01", "\U0001f600", "e\u0301", "*", "$", "main", "_lakefs",
]  # fmt: skip


@pytest.mark.parametrize("path", ODD)
def test_any_text_of_up_to_1024_bytes_is_a_path(place: Place, path: str) -> None:
    place.put(path, path)
    assert place.lake.stat(place.name, "main", path).path == path
    place.commit()
    assert place.texts() == {path: path}
    assert place.paths(prefix=path) == [path]
    assert place.diff("main~1", "main") == {path: "added"}
    place.lake.delete(place.name, "main", path)
    assert place.changes() == {path: "removed"}
    place.lake.reset(place.name, "main", path if not path.endswith("/") else "")
    assert place.paths(after=path) == []
    assert place.paths() == [path]


@pytest.mark.parametrize("path", ["", "x" * 1025, "é" * 513, "half\udc80"])
def test_what_is_no_path_is_refused(place: Place, path: str) -> None:
    with pytest.raises(UsageError):
        place.put(path)
    assert place.changes() == {}


@pytest.mark.parametrize("ref", ["v1", "main~1", "main@", "id"])
def test_only_a_branch_takes_objects(place: Place, ref: str) -> None:
    head = place.add(a="1").id
    place.lake.create_tag(place.name, "v1", "main")
    with pytest.raises(UsageError):
        place.put("b", "1", head if ref == "id" else ref)
    assert place.paths() == ["a"]


def test_what_is_staged_is_said(place: Place) -> None:
    place.add(kept="1", changed="1", removed="1")
    place.put("changed", "22")
    place.put("added", "333")
    place.lake.delete(place.name, "main", "removed")
    assert place.changes() == {"added": "added", "changed": "changed", "removed": "removed"}
    sizes = {item.path: item.size for item in place.lake.changes(place.name, "main")}
    assert sizes == {"added": 3, "changed": 2, "removed": 1}


def test_what_is_staged_is_said_below_a_prefix_and_behind_a_path(place: Place) -> None:
    for path in ("a/1", "a/2", "a/3", "b/1"):
        place.put(path)
    assert list(place.changes(prefix="a/")) == ["a/1", "a/2", "a/3"]
    assert list(place.changes(after="a/2")) == ["a/3", "b/1"]
    assert list(place.changes(prefix="a/", after="a/1")) == ["a/2", "a/3"]


def test_putting_what_is_there_already_changes_nothing(place: Place) -> None:
    place.add(a="1")
    place.put("a", "1")
    assert place.changes() == {}
    with pytest.raises(NothingToCommit):
        place.commit()


def test_an_object_that_is_only_staged_is_deleted_without_a_trace(place: Place) -> None:
    place.put("a", "1")
    place.lake.delete(place.name, "main", "a")
    assert (place.paths(), place.changes()) == ([], {})


def test_an_object_that_is_not_there_cannot_be_deleted(place: Place) -> None:
    place.add(a="1")
    place.lake.delete(place.name, "main", "a")
    for path in ("a", "b"):
        with pytest.raises(ObjectNotFound):
            place.lake.delete(place.name, "main", path)


@pytest.mark.parametrize(
    ("path", "left"),
    [("", []), ("a/", ["a", "b"]), ("a/1", ["a", "a/2", "b"]), ("b", ["a", "a/1", "a/2"]), ("a", ["a/1", "a/2", "b"])],
)
def test_what_is_staged_is_dropped_at_a_path_in_a_folder_or_everywhere(
    place: Place, path: str, left: list[str]
) -> None:
    for name in ("a", "a/1", "a/2", "b"):
        place.put(name)
    place.lake.reset(place.name, "main", path)
    assert list(place.changes()) == left


def test_a_removal_can_be_dropped(place: Place) -> None:
    place.add(a="1")
    place.lake.delete(place.name, "main", "a")
    place.lake.reset(place.name, "main", "a")
    assert place.texts() == {"a": "1"}


# -- committing ---------------------------------------------------------------------------------------


def test_a_commit_says_what_its_author_said(place: Place) -> None:
    before = place.head()
    place.put("a")
    made = place.lake.commit(place.name, "main", "one\ntwo ü", metadata={"k": "v", "empty": ""})
    assert len(made.id) == 64
    assert made.parents == (before,)
    assert made.message == "one\ntwo ü"
    assert dict(made.metadata) == {"k": "v", "empty": ""}
    assert abs(made.time - time.time()) < 60
    assert next(place.lake.log(place.name, "main")) == made
    assert place.head() == made.id
    assert place.changes() == {}


def test_a_commit_has_the_time_that_it_was_given(place: Place) -> None:
    place.put("a")
    assert place.lake.commit(place.name, "main", "m", time=1_356_998_400).time == 1_356_998_400


def test_a_commit_of_nothing_is_refused_unless_it_is_asked_for(place: Place) -> None:
    head = place.add(a="1").id
    with pytest.raises(NothingToCommit):
        place.commit()
    assert place.head() == head
    made = place.lake.commit(place.name, "main", "empty", allow_empty=True)
    assert (made.parents, place.texts()) == ((head,), {"a": "1"})


def test_a_commit_on_a_branch_that_moved_is_refused(place: Place) -> None:
    first, second = place.add(a="1"), place.add(a="2")
    place.put("a", "3")
    with pytest.raises(BranchMoved):
        place.lake.commit(place.name, "main", "m", parent=first.id)
    assert (place.head(), place.changes()) == (second.id, {"a": "changed"})
    assert place.lake.commit(place.name, "main", "m", parent=second.id).parents == (second.id,)


def test_the_log_goes_back_to_the_first_commit_the_newest_first(place: Place) -> None:
    made = [place.add(a=number).id for number in "123"]
    assert place.log()[:3] == made[::-1]
    assert [len(commit.parents) for commit in place.lake.log(place.name, "main")] == [1, 1, 1, 0]
    assert place.log("main~1") == place.log()[1:]


def test_the_log_goes_on_behind_its_first_page(place: Place) -> None:
    for number in range(120):
        place.lake.commit(place.name, "main", str(number), allow_empty=True)
    messages = [commit.message for commit in place.lake.log(place.name, "main")]
    assert messages[:-1] == [str(number) for number in reversed(range(120))]


# -- folders ------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three files, old enough for their times to say that they do not change."""
    made = tmp_path / "folder"
    (made / "sub" / "deep").mkdir(parents=True)
    (made / "a.csv").write_text("1")
    (made / "sub" / "b.csv").write_text("22")
    (made / "sub" / "deep" / "c.bin").write_bytes(b"\0" * 100_000)
    time.sleep(0.06)
    return made


def test_a_folder_is_staged_file_by_file(place: Place, folder: Path) -> None:
    done = place.lake.put_folder(place.name, "main", "data/", folder)
    assert (done.files, done.size, done.read, done.changes, done.commit) == (3, 100_003, 3, 3, None)
    assert place.changes() == dict.fromkeys(["data/a.csv", "data/sub/b.csv", "data/sub/deep/c.bin"], "added")
    assert place.read("data/sub/b.csv") == "22"


def test_a_folder_is_committed_when_that_is_asked(place: Place, folder: Path) -> None:
    before = place.head()
    done = place.lake.put_folder(place.name, "main", "", folder, commit=Signed(message="all", metadata={"k": "v"}))
    assert done.commit is not None
    assert (done.commit.message, done.commit.parents, dict(done.commit.metadata)) == ("all", (before,), {"k": "v"})
    assert place.head() == done.commit.id
    assert place.paths("main@") == ["a.csv", "sub/b.csv", "sub/deep/c.bin"]


def test_a_folder_that_did_not_change_is_not_read_again(place: Place, folder: Path) -> None:
    place.lake.put_folder(place.name, "main", "", folder, commit=signed())
    head = place.head()
    done = place.lake.put_folder(place.name, "main", "", folder, commit=signed())
    assert (done.files, done.size, done.read, done.changes, done.commit) == (3, 100_003, 0, 0, None)
    assert (place.head(), place.changes()) == (head, {})


def test_of_a_folder_only_what_changed_is_read_and_staged(place: Place, folder: Path) -> None:
    place.lake.put_folder(place.name, "main", "", folder, commit=signed())
    (folder / "a.csv").write_text("2")
    done = place.lake.put_folder(place.name, "main", "", folder)
    assert (done.read, done.changes, place.changes()) == (1, 1, {"a.csv": "changed"})
    assert place.read("a.csv") == "2"


def test_a_file_that_is_as_it_was_comes_back_where_the_lake_has_another(place: Place, folder: Path) -> None:
    place.lake.put_folder(place.name, "main", "", folder, commit=signed())
    place.add(**{"a.csv": "other", "sub/b.csv": None})
    place.lake.put_folder(place.name, "main", "", folder)
    assert (place.read("a.csv"), place.read("sub/b.csv")) == ("1", "22")


def test_objects_without_a_file_stay_unless_their_removal_is_asked(place: Place, folder: Path) -> None:
    place.add(**{"data/old": "1", "database": "1", "data": "1"})
    place.lake.put_folder(place.name, "main", "data/", folder)
    assert "data/old" in place.paths()
    done = place.lake.put_folder(place.name, "main", "data/", folder, delete=True)
    assert done.changes == 1
    assert place.changes()["data/old"] == "removed"
    assert place.paths() == ["data", "data/a.csv", "data/sub/b.csv", "data/sub/deep/c.bin", "database"]


def test_an_empty_folder_removes_everything_below_a_prefix(place: Place, tmp_path: Path) -> None:
    place.add(**{"a/1": "1", "a/2": "2", "b": "3"})
    place.put("a/3")
    done = place.lake.put_folder(place.name, "main", "a/", tmp_path, delete=True)
    assert (done.files, place.paths()) == (0, ["b"])


def test_a_link_to_a_file_is_followed(place: Place, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("linked")
    (folder / "link").symlink_to(tmp_path / "outside")
    place.lake.put_folder(place.name, "main", "", folder)
    assert place.read("link") == "linked"


@pytest.mark.parametrize("what", ["dangling", "pipe"])
def test_a_file_in_a_folder_that_cannot_be_read_stages_nothing(place: Place, folder: Path, what: str) -> None:
    bad = folder / "sub" / "bad"
    bad.symlink_to("nowhere") if what == "dangling" else os.mkfifo(bad)
    with pytest.raises(UsageError) as raised:
        place.lake.put_folder(place.name, "main", "", folder, commit=signed())
    assert str(bad) in str(raised.value)
    assert (place.paths(), place.changes()) == ([], {})


def test_a_folder_that_is_not_there_is_refused(place: Place, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for name in ("nope", "file"):
        with pytest.raises(UsageError):
            place.lake.put_folder(place.name, "main", "", tmp_path / name)


def test_putting_a_folder_tells_of_every_byte(place: Place, folder: Path) -> None:
    for _ in range(2):
        told: list[int] = []
        place.lake.put_folder(place.name, "main", "", folder, progress=told.append)
        assert sum(told) == 100_003


def test_a_lake_that_nobody_touched_is_undamaged(place: Place) -> None:
    place.add(a="1", b="x" * 100_000)
    assert list(place.lake.fsck()) == []
