"""Where user code is called: what it may touch, what is put back, and what is said when it fails."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from engine.api import prepare_spec
from engine.errors import StepFailed
from engine.execute.boundary import THREAD_VARIABLES, describe, limited_threads, project_on_path
from engine.execute.protocol import StepOutcome, Work, outcome_from, silent
from engine.pipeline import execute, run
from engine.plan.model import Plan
from engine.steps.model import Artifact
from projects import Project, make_project

WORK = Work(
    plan=Plan(run_id="", name="n", steps=()),
    home=Path("home"),
    root=Path(),
    source_roots=(),
    modules=frozenset(),
)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return make_project(tmp_path / "project")


# -- what went wrong -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "storage-full", "no space left on the device"),
        (OSError(errno.EROFS, "Read-only file system"), "storage-unwritable", "cannot be written"),
        (MemoryError(), "step-failed", "out of memory"),
        (StepFailed("a fact", key="with.a"), "step-failed", "a fact"),
        (ValueError("bad"), "step-raised", "ValueError: bad"),
        (KeyError("k"), "step-raised", "KeyError: 'k'"),
        (FileNotFoundError(errno.ENOENT, "gone", "f"), "step-raised", "FileNotFoundError: [Errno 2] gone: 'f'"),
        (ValueError(), "step-raised", "ValueError:"),
    ],
)
def test_whatever_is_raised_becomes_a_document(error: Exception, code: str, message: str) -> None:
    found = describe(error, WORK)
    assert (found["code"], found["message"]) == (code, message)
    assert {"place", "hint", "key", "details"} <= found.keys()


def test_a_traceback_begins_where_the_users_code_does(project: Project) -> None:
    prepared = prepare_spec(project.spec, ["train.with.mode=raise"])
    error = execute(prepared, silent, True, fresh=True).outcomes["train"].error
    assert error is not None
    files = [line.split('"')[1] for line in error["details"].splitlines() if line.lstrip().startswith('File "')]
    assert [Path(file).name for file in files] == ["my_trainer.py", "helper.py"]
    assert error["place"] == f"{project.root / 'helper.py'}:9"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("raise SystemError('odd')", "SystemError: odd"),
        ("raise AssertionError", "AssertionError"),
        ("raise StopIteration", "StopIteration"),
        ("raise BaseExceptionGroup('g', [ValueError('inner')])", "ExceptionGroup: g"),
        ("return None", "without `scores`"),
        ("return 3", "without `scores`"),
        ("import nowhere_at_all", "No module named 'nowhere_at_all'"),
        ("raise RecursionError", "RecursionError"),
        ("open('/nonexistent/x')", "FileNotFoundError"),
        ("raise UnicodeDecodeError('utf-8', b'x', 0, 1, 'odd')", "UnicodeDecodeError"),
        ("class Bad(Exception):\n            def __str__(self): return chr(27) + '[31m'\n        raise Bad", "Bad"),
    ],
)
def test_a_trainer_may_do_anything_and_the_run_is_a_failed_run(project: Project, body: str, says: str) -> None:
    path = project.root / "odd.py"
    path.write_text(f'"""Odd."""\n\n\nclass Odd:\n    """Odd."""\n\n    def fit(self, table, task):\n        {body}\n')
    project.write({"train.uses": "odd:Odd"})
    finished = run(prepare_spec(project.spec), silent, inline=True)
    error = finished.record.summary["error"]
    assert finished.record.status == "failed"
    assert says in error["message"]
    assert error["step"] == "train"


# -- the step's surroundings -----------------------------------------------------------------------------------


def test_threads_are_limited_inside_and_as_before_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    with limited_threads(3):
        assert {os.environ[name] for name in THREAD_VARIABLES} == {"3"}
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "MKL_NUM_THREADS" not in os.environ


def test_the_projects_folder_is_on_the_path_only_inside(tmp_path: Path) -> None:
    before = list(sys.path)
    with project_on_path((tmp_path,)):
        assert sys.path == [str(tmp_path), *before]
    assert sys.path == before


def test_the_path_is_as_before_also_after_a_failure(tmp_path: Path) -> None:
    before = list(sys.path)
    with pytest.raises(ZeroDivisionError), project_on_path((tmp_path,)):
        _ = 1 / 0
    assert sys.path == before


def test_what_a_step_prints_never_reaches_standard_output(project: Project, capfd: pytest.CaptureFixture[str]) -> None:
    execute(prepare_spec(project.spec), silent, True, fresh=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "mode fit" in err


def test_an_outcome_can_be_read_back() -> None:
    outcome = StepOutcome(
        id="train",
        kind="train",
        status="failed",
        key="k",
        outputs={"a": Artifact(digest="d", media="json", size=3)},
        byproducts={"metrics": {"mae": 1.5}},
        error={"message": "m"},
        log="l",
        seconds=1.5,
        usage={"pid": 1},
    )
    assert outcome_from(outcome.document()) == outcome


# -- the project's modules -------------------------------------------------------------------------------------


def message(project: Project, *overrides: str) -> str:
    """What a run in this process says went wrong."""
    return str(
        (run(prepare_spec(project.spec, overrides), silent, inline=True).record.summary["error"] or {}).get("message")
    )


def raising(project: Project, what: str) -> None:
    (project.root / "helper.py").write_text(f'"""Helps."""\n\n\ndef broken():\n    raise ValueError("{what}")\n')


def test_code_that_was_edited_is_imported_anew_in_the_same_process(project: Project) -> None:
    raising(project, "the first")
    first = message(project, "train.with.mode=raise")
    raising(project, "the second one")
    assert (first, message(project, "train.with.mode=raise")) == ("ValueError: the first", "ValueError: the second one")


def test_two_projects_may_have_modules_of_one_name(project: Project, tmp_path: Path) -> None:
    other = make_project(tmp_path / "other")
    raising(project, "here")
    raising(other, "there")
    said = [message(where, "train.with.mode=raise") for where in (project, other, project)]
    assert said == ["ValueError: here", "ValueError: there", "ValueError: here"]


def test_a_module_that_nobody_could_see_is_refused_every_time(project: Project) -> None:
    for _ in range(2):
        assert "module stranger was imported" in message(project, "train.with.mode=late")


def test_a_file_of_the_project_that_its_code_reads_is_refused_as_nothing_pins_it(project: Project) -> None:
    (project.root / "settings.json").write_text("{}")
    for _ in range(2):
        prepared = prepare_spec(project.spec, ["train.with.mode=read"])
        error = execute(prepared, silent, True, fresh=True).outcomes["train"].error
        assert error is not None
        assert error["message"] == "settings.json was read while the step ran, but no run is pinned with it"
        assert error["place"].startswith(f"{project.root / 'helper.py'}:")


def test_a_file_that_a_step_wrote_itself_may_be_read(project: Project) -> None:
    assert message(project, "train.with.mode=write") == "None"


def test_the_callers_own_modules_are_as_they_were(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = ModuleType("helper")
    mine.__file__ = str(project.root / "helper.py")
    monkeypatch.setitem(sys.modules, "helper", mine)
    assert message(project) == "None"
    assert sys.modules["helper"] is mine
    assert "my_trainer" not in sys.modules


# -- secrets ---------------------------------------------------------------------------------------------------


def test_the_value_of_a_secret_is_nowhere_in_the_home(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    value = "s3cr3t-0123456789"
    monkeypatch.setenv("ALERT_URL", f"https://hooks.invalid/{value}")
    monitor: dict[str, Any] = {"reference": "train", "on_alert": {"webhook": "${oc.env:ALERT_URL}"}}
    project.write({"monitor": monitor})
    assert run(prepare_spec(project.spec), silent, inline=True).record.status == "passed"
    kept = [path for path in project.home.rglob("*") if path.is_file()]
    assert any(b"ALERT_URL" in path.read_bytes() for path in kept)
    assert not [path for path in kept if value.encode() in path.read_bytes()]
