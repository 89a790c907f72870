"""A cluster that stays between runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Client
from multiprocessing.context import AuthenticationError
from pathlib import Path
from typing import Any

import pytest

from engine.execute.reaper import has_open
from engine.execute.warm import Kept, grounds, kept, standing, start, write_down
from projects import Project, make_project

QUIET = 45.0
SOON = 15.0
"""A training that nobody ends goes on for a minute."""
DEAF = """
import os, socket, sys, time
from engine.cli.main import main
from engine.execute import warm
from engine.execute.ray_executor import Attached

def outcomes(driver, report):
    assert isinstance(driver.connection.recv(), Attached)
    socket.socket(fileno=os.dup(driver.connection.fileno())).shutdown(socket.SHUT_RD)
    time.sleep(60)

warm.Driver.outcomes = outcomes
main()
"""
"""A run that hears nothing any more once it is on the cluster, as one does that is killed at that moment."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project whose cluster is up."""
    made = make_project(tmp_path_factory.mktemp("warm") / "project")
    engine(made, "cluster", "up", "--cpus", "2", PYTHONDONTWRITEBYTECODE="")
    yield made
    engine(made, "cluster", "down", "--now")


def engine(project: Project, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The command line in the project's folder."""
    return subprocess.run(
        [sys.executable, "-m", "engine.cli.main", *words], cwd=project.root, capture_output=True, text=True,
        timeout=120, env={**os.environ, **variables},
    )  # fmt: skip


def ran(project: Project, *overrides: str, **variables: str) -> dict[str, Any]:
    """The document of a run that went well."""
    done = engine(project, "run", "spec.yaml", "--json", *overrides, **variables)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def record_of(project: Project, run: dict[str, Any]) -> str:
    """All that is recorded of a run, with what its steps printed."""
    folder = project.root / ".engine" / "runs" / run["run_id"].removeprefix("sha256:")
    return "".join(path.read_text() for path in sorted(folder.rglob("*.json")))


def cluster_of(project: Project) -> Kept:
    """The project's cluster, which is up."""
    found = kept(project.root / ".engine")
    assert found is not None
    return found


def done_on(project: Project) -> int:
    """How many runs were on the cluster."""
    found = standing(cluster_of(project))
    assert found is not None
    return found.done


def begun(project: Project, *overrides: str) -> subprocess.Popen[str]:
    """A run whose training goes on for a minute, and has begun."""
    assert not trainers(project)
    process = subprocess.Popen(
        [sys.executable, "-m", "engine.cli.main", "run", "spec.yaml", "train.with.mode=sleep", *overrides],
        cwd=project.root, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    if not awaited(lambda: trainers(project)):
        process.kill()
        raise AssertionError(f"no training began in {QUIET:g} s: {process.communicate()[1]}")
    return process


def trainers(project: Project) -> list[int]:
    """The cluster's workers that train now: Ray gives them the name of their step."""
    folder = str(Path(cluster_of(project).socket).parent)
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if (entry / "cmdline").read_bytes().startswith(b"ray::train") and has_open(entry, folder):
                    found.append(int(entry.name))
    return found


def awaited(law: Any, seconds: float = QUIET) -> bool:
    """Whether something becomes true in time."""
    until = time.monotonic() + seconds
    while not law() and time.monotonic() < until:
        time.sleep(0.05)
    return bool(law())


def test_a_run_on_a_cluster_that_stays_gives_the_same_bytes_as_one_inline(project: Project, tmp_path: Path) -> None:
    before = done_on(project)
    here = ran(project, "train.with.ridge=0.25")
    other = make_project(tmp_path / "project")
    there = ran(other, "train.with.ridge=0.25", "--inline")
    assert done_on(project) == before + 1
    assert (here["run_id"], here["model"]["digest"]) == (there["run_id"], there["model"]["digest"])


def test_a_source_that_changed_within_its_second_is_not_served_from_before(project: Project) -> None:
    source = project.root / "my_trainer.py"
    text, status = source.read_text(), source.stat()
    try:
        now = time.time_ns() // 10**9 * 10**9
        os.utime(source, ns=(now, now))
        ran(project, "train.with.ridge=0.5", PYTHONDONTWRITEBYTECODE="")
        source.write_text(text.replace('print("mode", self.mode)', 'print("MODE", self.mode)'))
        os.utime(source, ns=(now, now + 1000))
        changed = ran(project, "train.with.ridge=0.5", PYTHONDONTWRITEBYTECODE="")
        assert "MODE fit" in record_of(project, changed)
    finally:
        source.write_text(text)
        os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_steps_have_the_environment_of_who_asked(project: Project) -> None:
    source = project.root / "my_trainer.py"
    text = source.read_text()
    try:
        source.write_text(text.replace("self.mode)", "self.mode, os.environ.get('COLOUR_OF_TODAY'), os.getcwd())"))
        found = ran(project, "train.with.ridge=0.75", COLOUR_OF_TODAY="green")
        assert f"mode fit green {project.root}" in record_of(project, found)
    finally:
        source.write_text(text)


def test_what_is_written_down_is_for_its_owner_alone(project: Project) -> None:
    assert (project.root / ".engine" / "cluster.json").stat().st_mode & 0o077 == 0


def test_who_has_not_the_key_is_not_answered(project: Project) -> None:
    with pytest.raises((AuthenticationError, EOFError, ConnectionError)):
        Client(cluster_of(project).socket, "AF_UNIX", authkey=b"another").recv()
    assert standing(cluster_of(project)) is not None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_of_a_run_goes_on_when_who_asked_for_it_is_gone(project: Project, number: signal.Signals) -> None:
    with begun(project, f"seed={int(number)}") as process:
        process.send_signal(number)
        process.communicate()
    assert awaited(lambda: not trainers(project), SOON)
    assert kept(project.root / ".engine") is not None


def test_nothing_of_a_run_goes_on_when_who_asked_for_it_cannot_be_told_of_it(project: Project) -> None:
    before = done_on(project)
    words = [sys.executable, "-c", DEAF, "run", "spec.yaml", "train.with.mode=sleep", "seed=5"]
    with subprocess.Popen(words, cwd=project.root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        assert awaited(lambda: done_on(project) > before)
        time.sleep(1.0)  # a worker takes the name of its step a moment after it began
        assert awaited(lambda: not trainers(project), SOON)
        process.kill()


def test_a_cluster_with_a_run_on_it_does_not_end_unless_it_must(project: Project) -> None:
    with begun(project, "seed=77") as process:
        refused = engine(project, "cluster", "down")
        process.send_signal(signal.SIGINT)
        process.communicate()
    assert refused.returncode == 1
    assert "runs are on the cluster" in refused.stdout
    assert kept(project.root / ".engine") is not None


def test_a_cluster_that_imported_other_packages_is_started_anew(project: Project) -> None:
    home, before = project.root / ".engine", cluster_of(project)
    write_down(Kept(**{**{name: getattr(before, name) for name in Kept.__slots__}, "grounds": "of yesterday"}), home)
    ran(project, "train.with.ridge=0.125")
    after = cluster_of(project)
    assert (after.process != before.process, after.cpus) == (True, before.cpus)
    assert after.grounds == grounds(home)


@pytest.mark.slow
def test_a_step_that_asks_for_more_than_the_cluster_has_gets_a_cluster_of_its_own(project: Project) -> None:
    before = done_on(project)
    ran(project, "train.resources.cpus=3", "train.with.ridge=0.375")
    assert done_on(project) == before


def test_a_cluster_whose_keeper_is_killed_leaves_nothing_and_the_next_run_does_without(tmp_path: Path) -> None:
    made = make_project(tmp_path / "project")
    home = made.root / ".engine"
    found = start(home, 1, None)
    folder = Path(found.socket).parent
    os.kill(found.process, signal.SIGKILL)
    assert awaited(lambda: not folder.exists())
    assert kept(home) is None
    assert engine(made, "cluster", "status").returncode == 1
    assert ran(made)["status"] == "passed"


def test_a_run_starts_a_cluster_where_the_spec_says_so_and_it_ends_when_nothing_runs(tmp_path: Path) -> None:
    made = make_project(tmp_path / "project")
    home = made.root / ".engine"
    ran(made, "+cluster.autostart=true", "+cluster.idle=1s")
    found = kept(home)
    assert found is None or found.idle == 1.0
    assert awaited(lambda: kept(home) is None)
    assert not (home / "cluster.json").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [(("up", "--idle", "soon"), '"soon" is no duration'), (("up", "--cpus", "5"), "a cluster of 2 cores is running")],
)
def test_a_cluster_that_cannot_be_as_wanted_is_refused(project: Project, words: tuple[str, ...], told: str) -> None:
    refused = engine(project, "cluster", *words)
    assert refused.returncode == 2
    assert told in refused.stderr


def test_a_sweep_has_one_cluster_and_leaves_none_behind(tmp_path: Path) -> None:
    made = make_project(tmp_path / "project")
    done = engine(made, "run", "spec.yaml", "-m", "train.with.ridge=0.1,0.2,0.3", "--json")
    assert [run["status"] for run in json.loads(done.stdout)["runs"]] == ["passed"] * 3
    assert kept(made.root / ".engine") is None
    assert not (made.root / ".engine" / "cluster.json").exists()


@pytest.mark.parametrize("seconds", [3.0, 30.0])
def test_a_sweep_that_is_killed_leaves_no_cluster(tmp_path: Path, seconds: float) -> None:
    made = make_project(tmp_path / "project")
    process = subprocess.Popen(
        [sys.executable, "-m", "engine.cli.main", "run", "spec.yaml", "-m", "train.with.mode=sleep", "seed=1,2"],
        cwd=made.root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    home = made.root / ".engine"
    until = time.monotonic() + seconds
    while time.monotonic() < until and kept(home) is None:
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert awaited(lambda: not keepers_of(home), 5.0)
    assert kept(home) is None


def keepers_of(home: Path) -> list[int]:
    """The keepers whose log is in a home."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if (entry / "fd" / "1").readlink() == home / "cluster.log":
                    found.append(int(entry.name))
    return found
