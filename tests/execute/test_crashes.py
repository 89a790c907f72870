"""The power goes, or the disk ends, at any moment: nothing half-written is ever seen, and the next run goes on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

import moments
from engine.digest import sha256
from engine.store.objects import ObjectStore
from engine.wiring import open_home
from projects import Project, engine, left_behind, make_project, mounted, read_only


def altered(home: Path) -> list[str]:
    """Every object that is not what its name says, and every record that cannot be read."""
    store = ObjectStore(home / "objects")
    found = [digest for digest in store.digests() if sha256(store.path(digest).read_bytes()) != digest]
    for path in [*home.glob("runs/*/spec.json"), *home.glob("runs/*/executions/*/record.json")]:
        try:
            json.loads(path.read_bytes())
        except ValueError:
            found.append(str(path))
    return found + [name for name in ("lake/lake.db", "registry.db") if not is_whole(home / name)]


def is_whole(path: Path) -> bool:
    """Whether SQLite finds nothing wrong with a file; it is looked at elsewhere, since its own disk may be full."""
    with tempfile.TemporaryDirectory() as elsewhere:
        for part in path.parent.glob(f"{path.name}*"):
            shutil.copy(part, elsewhere)
        with closing(sqlite3.connect(Path(elsewhere) / path.name)) as db:
            return [answer for (answer,) in db.execute("pragma integrity_check")] == ["ok"]


def artifacts(document: dict[str, Any]) -> dict[str, dict[str, str]]:
    return {s["name"]: {k: v for k, v in s["outputs"].items() if k != "native"} for s in document["steps"]}


PAGE = os.sysconf("SC_PAGESIZE")
MOMENTS: list[tuple[str, int]] = [
    ("cache/.installed", 1),
    ("cache/steps", 3),
    ("home.key.making", 1),
    ("registry.db.making", 4),
    ("executions", 2),
    ("insert or ignore into version_runs", 0),
]


def killed(project: Project, text: str, number: int) -> bool:
    """Run, and die ``number`` steps after the first whose path, or SQL, has ``text`` in it; whether it came that far."""
    command = [*moments.COMMAND, "run", "spec.yaml", "--inline"]
    environment = moments.dying(project.home, text, number)
    done = subprocess.run(command, cwd=project.root, env=environment, capture_output=True, check=False)
    assert done.returncode in (-signal.SIGKILL, 0), done.stderr.decode()
    return done.returncode != 0


def goes_on(project: Project, expected: dict[str, Any]) -> None:
    """The next run gives what one that was never killed gives."""
    found = engine(project.root, "run", "spec.yaml", "--inline", "--json").json
    assert (found.get("status"), found.get("run_id")) == ("passed", expected["run_id"]), found
    assert artifacts(found) == artifacts(expected)
    assert found["model"] == expected["model"]
    assert [item.version for item in open_home(project.root).registry.versions("numbers")] == [1]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, dict[str, Any]]:
    """A project that never ran, and what a run of it gives."""
    never = make_project(tmp_path_factory.mktemp("never") / "project")
    project = shutil.copytree(never.root, never.root.with_name("finished"))
    return never, engine(project, "run", "spec.yaml", "--inline", "--json", ENGINE_HOME="").json


@pytest.fixture(scope="module")
def finished(whole: tuple[Project, dict[str, Any]]) -> Project:
    """A project with a run that passed."""
    return Project(whole[0].root.with_name("finished"))


def test_a_run_that_is_killed_at_many_moments_leaves_nothing_wrong_and_the_next_one_goes_on(
    whole: tuple[Project, dict[str, Any]], tmp_path: Path
) -> None:
    project = Project(shutil.copytree(whole[0].root, tmp_path / "killed"))
    for text, number in MOMENTS:
        assert killed(project, text, number), text
        assert altered(project.home) == []
    goes_on(project, whole[1])


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_run_that_is_killed_at_any_moment_leaves_nothing_wrong_and_the_next_one_goes_on(
    whole: tuple[Project, dict[str, Any]], tmp_path: Path
) -> None:
    for number in range(0, 1000, 7):
        project = Project(shutil.copytree(whole[0].root, tmp_path / str(number)))
        if not killed(project, "", number):
            break
        assert altered(project.home) == []
        goes_on(project, whole[1])
    assert number > 100


@contextmanager
def small_disk(project: Project, folder: Path, room: int) -> Iterator[Path]:
    """A copy of a project's home on a disk with ``room`` bytes left."""
    used = sum(-(-path.stat().st_size // PAGE) * PAGE for path in project.home.rglob("*") if path.is_file())
    with mounted(folder, "-t", "tmpfs", "-o", f"size={used + room}", "tmpfs") as home:
        subprocess.run(["cp", "-r", f"{project.home}/.", str(home)], check=True)
        yield home


@pytest.mark.parametrize("room", [20_000, 80_000, 160_000])
def test_a_disk_that_ends_in_the_middle_of_a_run_is_said_and_leaves_nothing_half_written(
    whole: tuple[Project, dict[str, Any]], tmp_path: Path, room: int
) -> None:
    with small_disk(whole[0], tmp_path / "disk", room) as home:
        done = engine(whole[0].root, "run", "spec.yaml", "--inline", "--json", ENGINE_HOME=str(home))
        assert done.code == 3, done.err
        assert "Traceback" not in done.err
        assert "no space left on the device" in json.dumps(done.json)
        assert altered(home) == []
        assert left_behind(home) == []


def test_a_disk_with_room_again_lets_the_run_go_on(whole: tuple[Project, dict[str, Any]], tmp_path: Path) -> None:
    with small_disk(whole[0], tmp_path / "disk", 80_000) as home:
        assert engine(whole[0].root, "run", "spec.yaml", "--inline", ENGINE_HOME=str(home)).code == 3
        subprocess.run(["mount", "-o", "remount,size=4m", str(home)], check=True)
        done = engine(whole[0].root, "run", "spec.yaml", "--inline", "--json", ENGINE_HOME=str(home))
        assert (done.code, done.json["status"]) == (0, "passed")


READ_ONLY: list[tuple[list[str], int]] = [
    (["validate", "spec.yaml"], 0),
    (["plan", "spec.yaml"], 0),
    (["runs", "list"], 0),
    (["models", "list"], 0),
    (["run", "spec.yaml", "--inline"], 0),  # answered from the record
    (["run", "spec.yaml", "--inline", "seed=8"], 3),
    (["run", "spec.yaml", "--inline", "serve.max_batch_rows=3"], 3),
    (["quickstart"], 3),
]


@pytest.mark.parametrize(("command", "code"), READ_ONLY, ids=[" ".join(command) for command, _ in READ_ONLY])
def test_a_home_on_a_disk_that_takes_no_writes_can_be_read_and_says_what_it_cannot(
    finished: Project, tmp_path: Path, command: list[str], code: int
) -> None:
    with read_only(finished.home, tmp_path / "home") as home:
        done = engine(finished.root, *command, "--json", ENGINE_HOME=str(home))
    assert done.code == code, done.err
    assert "Traceback" not in done.err
    if code:
        assert done.json["error"]["code"] == "storage-unwritable"
        assert done.json["error"]["hint"]
