"""An unchanged run is answered from what was written down of it, and anything that could make it another is noticed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from engine.api import prepare_spec
from engine.recall import note, recall, remember
from engine.store.sqlite import close_kept
from engine.wiring import open_home
from projects import SCHEMA, Done, Project, make_project, numbers

HEAVY = {"ray", "hydra", "omegaconf", "pydantic", "numpy", "pyarrow", "sklearn", "onnx", "yaml", "rich.console"}
Answer = Callable[..., Done]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = make_project(tmp_path_factory.mktemp("recall") / "project")
    close_kept()
    return project


@pytest.fixture
def project(ran: Project, tmp_path: Path, answer: Answer) -> Project:
    """A project with a run that passed and can be recalled."""
    project = Project(shutil.copytree(ran.root, tmp_path / "project"))
    assert answer(project.root, "run", "spec.yaml", "--inline").code == 0
    assert answer(project.root, "run", "spec.yaml", "--inline").code == 0  # the folder has its final form now
    assert recall("spec.yaml", []) is not None
    return project


def append(name: str, text: str = "\n# another line\n") -> Callable[[Project], object]:
    def change(project: Project) -> None:
        path = project.root / name
        path.write_text(path.read_text() + text)

    return change


def write(name: str, text: str) -> Callable[[Project], object]:
    def change(project: Project) -> None:
        path = project.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    return change


def other_operation(project: Project) -> None:
    """Another spec of the same identity had the last word on how the model is served."""
    project.write({"serve": {"workers": 2}}, name="other.yaml")
    subprocess.run(
        [sys.executable, "-m", "engine.cli.main", "run", "other.yaml", "--inline"],
        cwd=project.root,
        check=True,
        capture_output=True,
    )


NOTICED: list[tuple[str, Callable[[Project], object]]] = [
    ("the spec", append("spec.yaml")),
    ("the schema", lambda p: (p.root / "schema.yaml").write_text(yaml.safe_dump({**SCHEMA, "strict": False}))),
    ("the trainer", append("my_trainer.py")),
    ("a helper", append("helper.py")),
    ("a package in the place of a helper", write("helper/__init__.py", "def broken(): pass\n")),
    ("a module under src", write("src/helper.py", "def broken(): pass\n")),
    ("a branch that moved", lambda p: p.put("train.parquet", numbers(50, seed=3))),
    ("a branch that moved to the same bytes", lambda p: p.put("more.parquet", numbers(5))),
    ("the baseline", lambda p: open_home(p.root).registry.set_alias("numbers", "production", 1)),
    ("a lost record", lambda p: shutil.rmtree(p.home / "runs")),
    ("a lost registry", lambda p: (p.home / "registry.db").unlink()),
    ("a lost lake", lambda p: shutil.rmtree(p.home / "lake")),
    ("an operation that another spec noted", other_operation),
    ("a damaged entry", lambda p: [(path.chmod(0o600), path.write_bytes(b"{}")) for path in p.home.glob("cache/recall/*")]),
]  # fmt: skip


@pytest.mark.parametrize("change", [row[1] for row in NOTICED], ids=[row[0] for row in NOTICED])
def test_whatever_could_make_it_another_run_is_noticed(project: Project, change: Callable[[Project], object]) -> None:
    change(project)
    assert recall("spec.yaml", []) is None


def test_other_overrides_are_another_question(project: Project) -> None:
    assert recall("spec.yaml", ["seed=8"]) is None


def test_what_is_installed_decides(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    assert recall("spec.yaml", []) is None


def test_a_variable_that_is_set_now_changes_the_warnings(
    project: Project, answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monitor = {"reference": "train", "on_alert": {"webhook": "${oc.env:ALERT_URL}"}}
    project.write(monitor=monitor)
    for _ in range(2):
        done = answer(project.root, "run", "spec.yaml", "--inline")
        assert "ALERT_URL" in done.err
    assert recall("spec.yaml", []) is not None
    monkeypatch.setenv("ALERT_URL", "https://example.com")
    assert recall("spec.yaml", []) is None


def test_it_says_what_it_says_without(project: Project, answer: Answer) -> None:
    again = answer(project.root, "run", "spec.yaml", "--inline", "--json").json
    shutil.rmtree(project.home / "cache" / "recall")
    assert answer(project.root, "run", "spec.yaml", "--inline", "--json").json == again
    assert again["executed"] is False
    assert {step["status"] for step in again["steps"]} == {"cached"}


EDITED = {
    "the spec": append("spec.yaml"),
    "the schema": append("schema.yaml"),
    "the trainer": append("my_trainer.py"),
    "a new module": write("src/helper.py", "x = 1\n"),
    "the baseline": lambda p: open_home(p.root).registry.set_alias("numbers", "production", 1),
}


@pytest.mark.parametrize("change", EDITED.values(), ids=EDITED)
def test_what_is_edited_while_a_run_goes_on_is_not_taken_for_what_it_ran(
    project: Project, change: Callable[[Project], object]
) -> None:
    prepared = prepare_spec("spec.yaml")
    noted = note(prepared, open_home(project.root))
    change(project)
    remember(noted, {})
    assert recall("spec.yaml", []) is None


def test_a_report_beside_the_sources_changes_no_answer(project: Project) -> None:
    (project.root / "report.md").write_text("text")
    assert recall("spec.yaml", []) is not None


def test_fresh_is_never_answered_so(project: Project, answer: Answer) -> None:
    assert answer(project.root, "run", "spec.yaml", "--inline", "--fresh", "--json").json["executed"] is True


def test_a_failed_run_is_never_recalled(project: Project, answer: Answer) -> None:
    for _ in range(2):
        done = answer(project.root, "run", "spec.yaml", "train.with.mode=raise", "--inline", "--json")
        assert (done.code, done.json["executed"]) == (3, True)


def test_from_another_folder_it_is_the_same_question(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.root.parent)
    assert recall(str(project.spec), []) is not None
    assert recall(os.path.relpath(project.spec), []) is not None


def test_neither_hydra_nor_pydantic_nor_ray_is_imported_for_it(project: Project) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "engine.cli.main", "run", "spec.yaml"]
    for _ in range(2):  # this process has another path to import from
        done = subprocess.run(command, cwd=project.root, capture_output=True, text=True, check=True)
    modules = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "engine.recall" in modules
    assert HEAVY.isdisjoint(modules)
