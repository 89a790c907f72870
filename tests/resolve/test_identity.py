"""What makes another run, and what does not."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from engine.api import prepare_spec
from engine.wiring import open_home
from projects import SCHEMA, Project, make_project, numbers


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return make_project(tmp_path / "one")


def run_id(project: Project, *overrides: str) -> str:
    return prepare_spec(project.spec, overrides).resolved.run_id


def append(project: Project, name: str, text: str) -> None:
    path = project.root / name
    path.write_text(path.read_text() + text)


def other_schema(project: Project) -> None:
    changed = {**SCHEMA, "columns": {**SCHEMA["columns"], "z": {"dtype": "int64", "nullable": True}}}  # type: ignore[dict-item]
    (project.root / "schema.yaml").write_text(yaml.safe_dump(changed))


ANOTHER: list[tuple[str, Callable[[Project], None], list[str]]] = [
    ("seed", lambda p: None, ["seed=8"]),
    ("a gate's limit", lambda p: None, ["evaluate.gates.0.max=0.9"]),
    ("the order of features", lambda p: None, ["features.numeric=[z,x]"]),
    ("a parameter", lambda p: None, ["train.with.ridge=0.5"]),
    ("the threads", lambda p: None, ["train.resources.cpus=2"]),
    ("the data", lambda p: p.put("train.parquet", numbers(200, seed=9)), []),
    ("the schema's content", other_schema, []),
    ("the trainer's source", lambda p: append(p, "my_trainer.py", "\n# another line\n"), []),
    ("a helper that the trainer imports", lambda p: append(p, "helper.py", "\n# another line\n"), []),
]
THE_SAME: list[tuple[str, Callable[[Project], None], list[str]]] = [
    ("a comment in the spec", lambda p: append(p, "spec.yaml", "\n# nothing\n"), []),
    ("a module that nobody imports", lambda p: append(p, "stranger.py", "\n# another line\n"), []),
    ("a branch that moved to the same bytes", lambda p: p.put("unrelated.parquet", numbers(5)), []),
    ("the schema's file name", lambda p: (p.root / "schema.yaml").rename(p.root / "s.yaml") and None,
     ["data.train.schema=s.yaml", "data.test.schema=s.yaml"]),
    ("memory, timeout and retries", lambda p: None,
     ["train.resources.memory=1GiB", "train.resources.timeout=9m", "train.resources.retries=0"]),
    ("how it is served", lambda p: None, ["serve.max_batch_rows=8", "serve.workers=2"]),
    ("how sweeps go", lambda p: None, ["sweep.objective=mae", "sweep.direction=minimize"]),
    ("git", lambda p: subprocess.run(["git", "init", "-q"], cwd=p.root, check=True) and None, []),
    ("an override that says what stands there", lambda p: None, ["seed=7"]),
]  # fmt: skip


@pytest.mark.parametrize(("change", "overrides"), [row[1:] for row in ANOTHER], ids=[row[0] for row in ANOTHER])
def test_this_makes_another_run(project: Project, change: Callable[[Project], None], overrides: list[str]) -> None:
    before = run_id(project)
    change(project)
    assert run_id(project, *overrides) != before


@pytest.mark.parametrize(("change", "overrides"), [row[1:] for row in THE_SAME], ids=[row[0] for row in THE_SAME])
def test_this_does_not(project: Project, change: Callable[[Project], None], overrides: list[str]) -> None:
    before = run_id(project)
    change(project)
    assert run_id(project, *overrides) == before


def test_another_folder_is_the_same_run(project: Project, tmp_path: Path) -> None:
    assert run_id(make_project(tmp_path / "deep" / "two")) == run_id(project)


def test_the_monitors_window_and_webhook_are_operation(project: Project) -> None:
    monitor = {"reference": "train", "detectors": [{"name": "d", "uses": "ks", "window": 10}]}
    project.write({"monitor": monitor})
    before = run_id(project)
    assert run_id(project, "monitor.detectors.0.window=99", "monitor.on_alert.webhook=https://x") == before
    assert run_id(project, "monitor.detectors.0.with.p_val=0.01") != before


def test_a_baseline_that_moves_makes_another_run(project: Project) -> None:
    before = run_id(project)
    registry = open_home(project.root).registry
    version = registry.reserve("numbers", "a" * 64, "b" * 64)
    registry.note_run("numbers", "c" * 64, "d" * 64, "passed", version)
    registry.set_alias("numbers", "production", version)
    assert run_id(project) != before


def test_neither_ray_nor_the_command_line_is_part_of_the_environment(project: Project) -> None:
    distributions = prepare_spec(project.spec).resolved.environment["distributions"]
    assert isinstance(distributions, dict)
    assert {"pyarrow", "numpy", "onnx"} <= set(distributions)
    assert {"ray", "typer", "hydra-core", "pytest"}.isdisjoint(distributions)


def test_the_closure_has_the_projects_modules_and_the_steps(project: Project) -> None:
    modules = prepare_spec(project.spec).resolved.modules
    assert {"my_trainer", "helper", "engine.steps.train"} <= set(modules)
    assert "stranger" not in modules
    assert "engine.api" not in modules
