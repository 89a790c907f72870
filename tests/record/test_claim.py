"""Of two processes that are asked for the same run, one makes it, and both have its answer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.record.store import RecordStore
from projects import TRAINER, Project, make_project

FIT = "        x = columns(table, task.names)\n"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project whose training says that it has begun, and waits until it may go on."""
    project = make_project(tmp_path / "project")
    begun, go = tmp_path / "begun", tmp_path / "go"
    waits = (
        f"        import pathlib\n        pathlib.Path({str(begun)!r}).write_text(str(os.getpid()))\n"
        f"        while not pathlib.Path({str(go)!r}).exists():\n            time.sleep(0.02)\n"
    )
    (project.root / "my_trainer.py").write_text(TRAINER.replace(FIT, FIT + waits))
    return project


def start(project: Project, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "engine.cli.main", "run", "spec.yaml", "--inline", "--json", *options]
    return subprocess.Popen(command, cwd=project.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(path: Path, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end
        time.sleep(0.02)


def said(process: subprocess.Popen[str], word: str) -> str:
    """The first line on standard error with ``word`` in it."""
    assert process.stderr is not None
    for line in process.stderr:
        if word in line:
            return line
    raise AssertionError(word)


def allow(project: Project) -> None:
    (project.root.parent / "go").touch()


def test_one_makes_the_run_and_the_other_waits_for_it_and_answers_the_same(project: Project) -> None:
    first = start(project)
    wait_for(project.root.parent / "begun")
    second = start(project)
    assert f"waiting for process {first.pid}" in said(second, "waiting")
    allow(project)
    answers = [json.loads(process.communicate(timeout=60)[0]) for process in (first, second)]
    assert [answer["executed"] for answer in answers] == [True, False]
    assert answers[0]["run_id"] == answers[1]["run_id"]
    assert answers[0]["model"] == answers[1]["model"]
    assert RecordStore(project.home).numbers(answers[0]["run_id"]) == [1]


def test_who_waits_for_one_that_is_killed_makes_the_run(project: Project) -> None:
    first = start(project)
    wait_for(project.root.parent / "begun")
    second = start(project)
    said(second, "waiting")
    (project.root.parent / "begun").unlink()
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    wait_for(project.root.parent / "begun")
    allow(project)
    answer = json.loads(second.communicate(timeout=60)[0])
    assert (answer["status"], answer["executed"]) == ("passed", True)


@pytest.mark.slow
def test_ctrl_c_while_waiting_ends_the_one_that_waits(project: Project) -> None:
    first = start(project)
    wait_for(project.root.parent / "begun")
    second = start(project)
    said(second, "waiting")
    second.send_signal(signal.SIGINT)
    _, err = second.communicate(timeout=30)
    assert second.returncode == 130
    assert "Traceback" not in err
    allow(project)
    assert json.loads(first.communicate(timeout=60)[0])["status"] == "passed"


@pytest.mark.slow
def test_fresh_ones_are_executed_one_after_the_other(project: Project) -> None:
    first = start(project, "--fresh")
    wait_for(project.root.parent / "begun")
    second = start(project, "--fresh")
    said(second, "waiting")
    allow(project)
    answers = [json.loads(process.communicate(timeout=60)[0]) for process in (first, second)]
    assert [answer["executed"] for answer in answers] == [True, True]
    assert RecordStore(project.home).numbers(answers[0]["run_id"]) == [1, 2]
