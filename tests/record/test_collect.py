"""What is collected is what was not asked to be kept, and never what a registered model needs."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from engine.api import run
from engine.record.collect import Keep, doomed, running
from engine.record.index import Row, rows
from engine.record.verify import Seen, verify_home
from engine.store.sqlite import close_kept
from engine.wiring import open_home
from projects import Done, Project, make_project

Answer = Callable[..., Done]
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def row(run: str, name: str, status: str, days: int) -> Row:
    started = (NOW - timedelta(days=days)).isoformat()
    return Row(run, 1, name, status, started, None, "", "{}", "{}")


KNOWN = [
    row("a1", "a", "passed", 0),
    row("b1", "b", "failed", 1),
    row("a2", "a", "refused", 2),
    row("b2", "b", "passed", 40),
    row("a3", "a", "failed", 50),
]


@pytest.mark.parametrize(
    ("keep", "needed", "expected"),
    [
        (Keep(newest=0), set(), ["a1", "b1", "a2", "b2", "a3"]),
        (Keep(newest=1), set(), ["a2", "b2", "a3"]),
        (Keep(newest=1), {"a3"}, ["a2", "b2"]),
        (Keep(since=timedelta(days=3)), set(), ["b2", "a3"]),
        (Keep(statuses=("passed", "refused")), set(), ["b1", "a3"]),
        (Keep(newest=1, since=timedelta(days=3), statuses=("failed",)), set(), ["b2"]),
        (Keep(newest=9), set(), []),
    ],
)
def test_whatever_says_keep_keeps(keep: Keep, needed: set[str], expected: list[str]) -> None:
    assert doomed(KNOWN, needed, keep, NOW) == expected


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A model of two runs with the same bytes, a refused run, and two failed ones."""
    project = make_project(tmp_path_factory.mktemp("collect") / "project")
    for overrides in ([], ["evaluate.gates.0.max=0.9"], ["evaluate.gates.0.max=0.000001", "train.with.ridge=0.5"]):
        run(project.spec, overrides=overrides, inline=True)
    for mode in ("raise", "late"):
        run(project.spec, overrides=[f"train.with.mode={mode}"], inline=True)
    close_kept()
    return project


@pytest.fixture
def project(ran: Project, tmp_path: Path) -> Project:
    return Project(shutil.copytree(ran.root, tmp_path / "project"))


def statuses(project: Project) -> list[str]:
    with open_home(project.root).runs.opened() as db:
        return sorted(found.status for found in rows(db, "where e.newest = 1"))


def clean(project: Project) -> bool:
    try:
        return list(verify_home(open_home(project.root).archive, Seen())) == []
    finally:
        close_kept()


def test_all_that_can_go_goes_and_what_stays_is_whole(project: Project, answer: Answer) -> None:
    objects = len(list(project.home.glob("objects/??/*")))
    done = answer(project.root, "runs", "gc", "--keep", "0", "--json").json
    assert (len(done["runs"]), done["needed"]) == (3, 2)
    assert done["objects"] == objects - len(list(project.home.glob("objects/??/*"))) > 0
    assert statuses(project) == ["passed", "passed"]
    assert clean(project)
    (first, *_) = open_home(project.root).registry.versions("numbers")[0].runs
    assert answer(project.root, "reproduce", first, "--inline").code == 0
    answered = answer(project.root, "run", "spec.yaml", "--inline", "--json").json
    assert (answered["run_id"], answered["executed"]) == (first, False)


def test_a_removed_run_can_be_made_again_and_removed_again(project: Project, answer: Answer) -> None:
    for _ in range(2):
        assert answer(project.root, "runs", "gc", "--keep", "0").code == 0
        again = answer(project.root, "run", "spec.yaml", "train.with.mode=raise", "--inline", "--json")
        assert (again.code, again.json["executed"]) == (3, True)
        assert clean(project)


def test_a_second_collection_finds_nothing(project: Project, answer: Answer) -> None:
    answer(project.root, "runs", "gc", "--keep", "0")
    assert (
        answer(project.root, "runs", "gc", "--keep", "0").out
        == "removed 0 runs, 0 cached steps and 0 objects, 0.0 MB\n"
    )


def test_a_dry_run_changes_nothing(project: Project, answer: Answer) -> None:
    before = {path: path.stat().st_mtime_ns for path in project.home.rglob("*") if path.is_file()}
    done = answer(project.root, "runs", "gc", "--keep", "1", "--dry-run")
    assert done.out.splitlines()[-1] == "2 runs would be removed; 2 are needed by models"
    after = {path: path.stat().st_mtime_ns for path in project.home.rglob("*") if path.is_file()}
    assert after.items() >= before.items()


def test_what_the_lake_has_is_not_collected(project: Project, answer: Answer) -> None:
    answer(project.root, "runs", "gc", "--keep", "0")
    assert answer(project.root, "lake", "fsck").code == 0
    assert answer(project.root, "run", "spec.yaml", "seed=9", "--inline").code == 0


@pytest.mark.parametrize(
    ("options", "word"), [([], "--keep 10"), (["--keep-status", "pased"], "passed"), (["--keep", "-1"], "--keep")]
)
def test_what_makes_no_sense_removes_nothing(project: Project, options: list[str], word: str, answer: Answer) -> None:
    done = answer(project.root, "runs", "gc", *options)
    assert (done.code, word in done.err) == (2, True)
    assert len(statuses(project)) == 5


def test_nothing_is_collected_while_a_run_goes_on_and_no_run_begins_while_it_is(
    project: Project, answer: Answer
) -> None:
    with running(project.home):
        done = answer(project.root, "runs", "gc", "--keep", "0")
    assert (done.code, "a run is going on" in done.err) == (3, True)
    assert len(statuses(project)) == 5
    assert answer(project.root, "runs", "gc", "--keep", "0").code == 0


def test_a_home_without_runs_has_nothing_to_collect(tmp_path: Path, answer: Answer) -> None:
    (tmp_path / "pyproject.toml").touch()
    assert answer(tmp_path, "runs", "gc", "--keep", "0").code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["pyproject.toml"]


def test_a_collector_that_is_killed_leaves_what_the_next_one_takes(project: Project, answer: Answer) -> None:
    for delay in (0.30, 0.34, 0.38, 0.42, 0.46, 0.50):
        command = [sys.executable, "-m", "engine.cli.main", "runs", "gc", "--keep", "0"]
        process = subprocess.Popen(command, cwd=project.root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        timer = threading.Timer(delay, process.send_signal, [signal.SIGKILL])
        timer.start()
        process.wait()
        timer.cancel()
        assert clean(project)
        run(project.spec, overrides=["train.with.mode=raise"], inline=True)
    assert answer(project.root, "runs", "gc", "--keep", "0").code == 0
    assert statuses(project) == ["passed", "passed"]
    assert clean(project)
