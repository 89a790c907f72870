"""Killed at a random moment: the record is absent or whole, everything is as it was recorded, the next run goes on."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine.record.verify import Mismatch, Seen, verify_home
from engine.store.checked import read_checked
from engine.store.sqlite import close_kept
from engine.wiring import open_home
from nursery import Nursery, nursery
from projects import Project, make_project

TIMES, RAY_TIMES, MANY = 40, 10, 200
RUN = ("run", "spec.yaml", "--inline")


@pytest.fixture(scope="module")
def born() -> Iterator[Nursery]:
    with nursery() as found:
        yield found


@pytest.fixture(scope="module")
def whole(born: Nursery, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, dict[str, str], float]:
    """A project that never ran, what a run of it gives, and how long it takes."""
    folder = tmp_path_factory.mktemp("whole")
    project = make_project(folder / "never")
    close_kept()
    finished = Project(shutil.copytree(project.root, folder / "finished"))
    assert born.run(finished.root, *RUN) == 0
    again = Project(shutil.copytree(project.root, folder / "again"))  # the first one also imports what was left
    started = time.monotonic()
    assert born.run(again.root, *RUN) == 0
    return project, artifacts(finished), time.monotonic() - started


def artifacts(project: Project) -> dict[str, str]:
    """The artifacts of the newest run that passed."""
    record = open_home(project.root).records.newest_of("numbers")
    assert record is not None
    assert record.status == "passed"
    return record.subjects


def mismatches(project: Project) -> list[Mismatch]:
    try:
        return list(verify_home(open_home(project.root).archive, Seen()))
    finally:
        close_kept()


def finished_steps(project: Project) -> set[str]:
    """The steps whose outcome a later run can use."""
    entries = (read_checked(path) for path in project.home.glob("cache/steps/*/*.json"))
    return {json.loads(entry)["id"] for entry in entries if entry is not None}


def goes_on(project: Project, born: Nursery, expected: dict[str, str]) -> None:
    """The next run uses what was finished, and gives what one that was never killed gives."""
    ready = finished_steps(project)
    assert mismatches(project) == []
    assert born.run(project.root, *RUN) == 0
    assert artifacts(project) == expected
    (run_id,) = open_home(project.root).records.run_ids()
    steps = open_home(project.root).records.executions(run_id)[0].steps
    reused = {step for step, outcome in steps.items() if outcome["status"] == "cached"}
    assert ready - reused <= {"register"} or len(open_home(project.root).records.executions(run_id)) == 1
    assert mismatches(project) == []
    assert [item.version for item in open_home(project.root).registry.versions("numbers")] == [1]


def killed_inline(times: int, seed: int, whole: Any, born: Nursery, folder: Path) -> int:
    """Kill so many runs at random moments; how many had not ended by themselves."""
    never, expected, seconds = whole
    choose, count = random.Random(seed), 0
    for number in range(times):
        project = Project(shutil.copytree(never.root, folder / str(number)))
        count += born.run(project.root, *RUN, kill_after=choose.uniform(0, seconds)) == -signal.SIGKILL
        goes_on(project, born, expected)
        shutil.rmtree(project.root)
    return count


@pytest.mark.timeout(600)
def test_forty_runs_that_are_killed_at_random_moments_leave_nothing_wrong_and_the_next_ones_go_on(
    whole: Any, born: Nursery, tmp_path: Path
) -> None:
    assert killed_inline(TIMES, 1, whole, born, tmp_path) > TIMES / 4


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_two_hundred_runs_that_are_killed_at_random_moments(whole: Any, born: Nursery, tmp_path: Path) -> None:
    assert killed_inline(MANY, 2, whole, born, tmp_path) > MANY / 4


# -- with Ray -------------------------------------------------------------------------------------------------------


def start(project: Project) -> subprocess.Popen[str]:
    """A run with a cluster of its own."""
    command = [sys.executable, "-m", "engine.cli.main", "run", "spec.yaml", "--json"]
    return subprocess.Popen(command, cwd=project.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Everything that a run has started by now."""
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def named(found: list[psutil.Process], what: str) -> list[psutil.Process]:
    """The cluster's processes of a kind: ``worker``, or the name of a program of Ray's."""
    chosen = []
    for process in found:
        try:
            line = process.cmdline()
        except psutil.Error:
            continue
        is_worker = any(part.endswith("default_worker.py") for part in line) or (
            "".join(line).startswith("ray::") and "Agent" not in line[0]  # an agent's death is its raylet's
        )
        if is_worker if what == "worker" else any(f"/{what}" in part for part in line[:1]):
            chosen.append(process)
    return chosen


def left(known: list[psutil.Process], seconds: float = 5) -> list[str]:
    """Which of some processes are still there after a while."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not all(map(gone, known)):
        time.sleep(0.1)
    return [str(process) for process in known if not gone(process)]


def gone(process: psutil.Process) -> bool:
    """Whether a process has ended."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return True


@pytest.mark.timeout(600)
def test_a_driver_a_worker_or_rays_head_that_is_killed_leaves_nothing_wrong_and_no_process(
    whole: Any, born: Nursery, tmp_path: Path
) -> None:
    never, expected, _ = whole
    choose = random.Random(3)
    for number in range(RAY_TIMES):
        what = ("driver", "worker", "gcs_server", "raylet")[number % 4]
        project = Project(shutil.copytree(never.root, tmp_path / str(number)))
        process = start(project)
        known: dict[int, psutil.Process] = {}
        end = time.monotonic() + choose.uniform(1.0, 7.0)
        while time.monotonic() < end and process.poll() is None:
            known.update((one.pid, one) for one in family(process))
            time.sleep(0.1)
        while what == "worker" and process.poll() is None and not named(family(process), what):
            time.sleep(0.01)
        victims = [psutil.Process(process.pid)] if what == "driver" else named(family(process), what)
        if victims:
            with suppress(psutil.NoSuchProcess):
                choose.choice(victims).kill()
        known.update((one.pid, one) for one in family(process))
        out, err = process.communicate(timeout=90)
        assert process.returncode in ((-signal.SIGKILL, 0) if what == "driver" else (0, 3)), (what, out, err)
        assert what != "worker" or process.returncode == 0, err
        assert "Traceback" not in err, err
        assert left(list(known.values())) == []
        goes_on(project, born, expected)
