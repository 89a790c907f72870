"""What is collected and what never is; and what a large repository costs."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.digest import sha256
from engine.errors import NotFound
from engine.lake.embedded.lake import EmbeddedLake
from engine.lake.protocol import Entry, Signed, Swept
from engine.store.objects import ObjectStore

NOW = -5.0  # seconds: older than what will be put in five seconds, and so everything


@pytest.fixture
def lake(tmp_path: Path) -> EmbeddedLake:
    made = EmbeddedLake(tmp_path / "lake", ObjectStore(tmp_path / "objects"))
    made.create_repository("repo")
    return made


def put(lake: EmbeddedLake, branch: str, path: str, data: bytes) -> str:
    return lake.put("repo", branch, path, io.BytesIO(data)).digest


def side_branch(lake: EmbeddedLake, *objects: bytes) -> str:
    """A commit on a branch that is deleted again."""
    lake.create_branch("repo", "side", "main")
    for data in objects:
        put(lake, "side", sha256(data), data)
    commit = lake.commit("repo", "side", "m").id
    lake.delete_branch("repo", "side")
    return commit


SMALL, LARGE = b"small", bytes(100_000)


def test_what_no_ref_leads_to_is_removed_with_its_bytes(lake: EmbeddedLake, tmp_path: Path) -> None:
    side_branch(lake, SMALL, LARGE)
    swept = lake.gc(older_than=NOW)
    assert (swept.commits, swept.objects, swept.size) == (1, 2, len(SMALL) + len(LARGE))
    assert [path for path in (tmp_path / "objects").rglob("*") if path.suffix == ".pack" or len(path.name) > 60] == []
    assert list(lake.fsck()) == []


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_what_a_run_pins_is_kept_whatever_names_it(lake: EmbeddedLake, data: bytes) -> None:
    commit = side_branch(lake, data)
    assert lake.gc([commit], older_than=NOW).objects == 0
    assert lake.open("repo", commit, sha256(data)).read() == data
    assert lake.gc([sha256(data)], older_than=NOW).commits == 1
    assert lake.objects.open(sha256(data)).read() == data


def test_what_is_staged_tagged_or_an_ancestor_is_kept(lake: EmbeddedLake) -> None:
    put(lake, "main", "old", b"old")
    lake.commit("repo", "main", "m")
    lake.delete("repo", "main", "old")
    lake.commit("repo", "main", "m")
    lake.create_branch("repo", "side", "main")
    put(lake, "side", "tagged", b"tagged")
    lake.commit("repo", "side", "m")
    lake.create_tag("repo", "v1", "side")
    lake.delete_branch("repo", "side")
    put(lake, "main", "staged", b"staged")
    assert lake.gc(older_than=NOW).objects == 0
    assert lake.open("repo", "main~1", "old").read() == b"old"
    assert lake.open("repo", "v1", "tagged").read() == b"tagged"
    assert lake.open("repo", "main", "staged").read() == b"staged"


def test_what_came_lately_is_spared(lake: EmbeddedLake) -> None:
    commit = side_branch(lake, SMALL)
    assert lake.gc() == Swept(commits=0, objects=0, size=0)
    assert lake.open("repo", commit, sha256(SMALL)).read() == SMALL
    assert lake.gc(older_than=NOW).objects == 1


def test_the_same_bytes_elsewhere_keep_an_object(lake: EmbeddedLake) -> None:
    put(lake, "main", "same", SMALL)
    lake.commit("repo", "main", "m")
    side_branch(lake, SMALL, b"other")
    assert lake.gc(older_than=NOW).objects == 1
    assert lake.open("repo", "main", "same").read() == SMALL


def test_a_pack_that_is_mostly_unused_is_written_anew_and_the_rest_stays_readable(
    lake: EmbeddedLake, tmp_path: Path
) -> None:
    put(lake, "main", "kept", b"kept" * 10)
    lake.commit("repo", "main", "m")
    side_branch(lake, *(os.urandom(1000) for _ in range(20)))
    packs = list((tmp_path / "objects" / "packs").glob("*.pack"))
    assert lake.gc(older_than=NOW).objects == 20
    left = list((tmp_path / "objects" / "packs").glob("*.pack"))
    assert ([path.stat().st_size for path in left], set(left) & set(packs)) == ([40], set())
    assert lake.open("repo", "main", "kept").read() == b"kept" * 10
    assert list(lake.fsck()) == []


def test_a_file_of_a_folder_whose_object_was_collected_is_read_again(lake: EmbeddedLake, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a").write_bytes(b"a")
    os.utime(folder / "a", (1, 1))
    time.sleep(0.1)
    lake.create_branch("repo", "side", "main")
    lake.put_folder("repo", "side", "", folder, commit=Signed(message="m"))
    assert lake.put_folder("repo", "main", "", folder).read == 0
    lake.reset("repo", "main")
    lake.delete_branch("repo", "side")
    assert lake.gc(older_than=NOW).objects == 1
    lake.put_folder("repo", "main", "", folder, commit=Signed(message="m"))
    assert lake.open("repo", "main", "a").read() == b"a"
    assert list(lake.fsck()) == []


def test_an_object_that_is_not_there_cannot_be_staged(lake: EmbeddedLake) -> None:
    with pytest.raises(NotFound):
        lake.stage("repo", "main", Entry(path="a", digest="0" * 64, size=1))


def test_a_deleted_repository_leaves_nothing_behind_once_it_is_collected(lake: EmbeddedLake) -> None:
    put(lake, "main", "a", SMALL)
    lake.commit("repo", "main", "m")
    lake.delete_repository("repo")
    assert lake.repositories() == []
    swept = lake.gc(older_than=NOW)
    assert (swept.commits, swept.objects) == (2, 1)


ONE_COMMIT = r"""
import io, re, sys
from pathlib import Path
from engine.lake.embedded.lake import EmbeddedLake
from engine.store.objects import ObjectStore
home = Path(sys.argv[1])
lake = EmbeddedLake(home / "lake", ObjectStore(home / "objects"))
lake.put("repo", "main", "0/100", io.BytesIO(sys.argv[2].encode()))
lake.commit("repo", "main", "m")
print(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])
"""


def test_the_memory_of_a_commit_does_not_grow_with_the_repository(lake: EmbeddedLake, tmp_path: Path) -> None:
    digest = put(lake, "main", "x", b"x")
    used = []
    for size in (10, 100_000):
        lake.stage("repo", "main", *(Entry(path=f"{n % 7}/{n}", digest=digest, size=1, time=1) for n in range(size)))
        lake.commit("repo", "main", "m")
        done = subprocess.run(
            [sys.executable, "-c", ONE_COMMIT, str(tmp_path), str(size)], capture_output=True, text=True, check=True
        )
        used.append(int(done.stdout))
    assert used[1] - used[0] <= 2000  # KiB
