"""What was composed and judged before: known again while nothing has changed, and judged anew whatever has."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from engine.errors import Problem
from engine.spec import surroundings
from engine.spec.grounds import MOST, Shelf, keep_warnings, root_of, shelf_of, warnings_before
from engine.spec.load import load
from projects import SCHEMA, Done, Project, engine, make_project

Answer = Callable[..., Done]
OVERRIDE = "seed=8"
GROUPED = "grouped.yaml"
TYPES = {"yaml", "omegaconf", "pydantic", "hydra"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = make_project(tmp_path_factory.mktemp("grounds") / "project")
    project.home.mkdir(exist_ok=True)
    return project


@pytest.fixture
def project(made: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project with a home, of which two specs were judged: one with an override, one with a config group."""
    monkeypatch.delenv("CI", raising=False)
    project = Project(shutil.copytree(made.root, tmp_path / "project"))
    values = yaml.safe_load(project.spec.read_text())
    (project.root / "train").mkdir()
    (project.root / "train/own.yaml").write_text(yaml.safe_dump(values.pop("train")))
    monitor = {"reference": "train", "on_alert": {"webhook": "${oc.env:ALERT_URL}"}}
    grouped = {"defaults": ["_self_", {"train": "own"}], **values, "monitor": monitor}
    (project.root / GROUPED).write_text(yaml.safe_dump(grouped, sort_keys=False))
    monkeypatch.chdir(project.root)
    judge_both()
    return project


def judge_both() -> None:
    """Judge both specs as `engine validate` does."""
    for spec, overrides in ((SPEC, [OVERRIDE]), (GROUPED, [])):
        root = root_of(spec)
        shelf = shelf_of(root)
        loaded = load(spec, overrides, keeping=shelf_of)
        if shelf and loaded.grounds:
            keep_warnings(spec, overrides, shelf, root, loaded.grounds, loaded.warnings)


SPEC = "spec.yaml"


def known(spec: str = SPEC, overrides: tuple[str, ...] = (OVERRIDE,)) -> tuple[Problem, ...] | None:
    """What is said of a spec without judging it."""
    shelf = shelf_of(root_of(spec))
    return warnings_before(spec, overrides, shelf, root_of(spec)) if shelf else None


def append(name: str) -> Callable[[Path], object]:
    return lambda root: (root / name).write_text((root / name).read_text() + "\n# another line\n")


def write(name: str, text: str = "x = 1\n") -> Callable[[Path], object]:
    def change(root: Path) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)

    return change


NOTICED: dict[str, Callable[[Path], object]] = {
    "the spec": append(SPEC),
    "the schema": lambda root: (root / "schema.yaml").write_text(yaml.safe_dump({**SCHEMA, "strict": False})),
    "a schema that is gone": lambda root: (root / "schema.yaml").unlink(),
    "the trainer": append("my_trainer.py"),
    "a package in the place of the trainer": write("my_trainer/__init__.py"),
    "a folder that makes the override a group": lambda root: (root / "seed").mkdir(),
    "what was kept": lambda root: [
        (path.chmod(0o600), path.write_bytes(b"{}")) for path in root.glob(".engine/cache/specs/*")
    ],
}


@pytest.mark.parametrize("change", NOTICED.values(), ids=NOTICED)
def test_whatever_could_change_what_is_said_is_noticed(project: Project, change: Callable[[Path], object]) -> None:
    assert known() == ()
    change(project.root)
    assert known() is None


def test_the_file_of_a_config_group_is_noticed(project: Project) -> None:
    assert known(GROUPED, ()) is not None
    append("train/own.yaml")(project.root)
    assert known(GROUPED, ()) is None


def test_a_warning_is_said_again_until_its_variable_is_set(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    found = known(GROUPED, ())
    assert found == load(GROUPED).warnings
    assert found is not None
    assert [problem.rule for problem in found] == ["secret-unset"]
    monkeypatch.setenv("ALERT_URL", "https://example.com")
    assert known(GROUPED, ()) is None


def test_other_overrides_and_other_names_are_other_questions(project: Project) -> None:
    assert known(SPEC, ()) is None
    assert known(str(project.spec)) is None


def test_what_is_kept_composes_to_the_same_with_the_same_places(project: Project) -> None:
    for spec, overrides in ((SPEC, [OVERRIDE]), (GROUPED, [])):
        assert load(spec, overrides, keeping=shelf_of) == load(spec, overrides)


def test_a_broken_spec_is_never_kept(project: Project, answer: Answer) -> None:
    project.write({"target": "nothing"})
    first = answer(project.root, "validate", SPEC)
    assert (first.code, answer(project.root, "validate", SPEC).out) == (1, first.out)


def test_what_may_appear_or_differ_elsewhere_is_not_kept(project: Project) -> None:
    text = (project.root / GROUPED).read_text()
    for change in ("- optional train: own", "- train: ${oc.select:choice,own}"):
        (project.root / GROUPED).write_text(text.replace("- train: own", change))
        assert load(GROUPED, keeping=shelf_of).grounds is None
        judge_both()
        assert known(GROUPED, ()) is None


def test_a_project_without_a_home_is_left_without(tmp_path: Path, made: Project, answer: Answer) -> None:
    root = shutil.copytree(made.root, tmp_path / "new", ignore=shutil.ignore_patterns(".engine"))
    (root / "pyproject.toml").touch()
    assert answer(root, "validate", SPEC).code == 0
    assert not (root / ".engine").exists()


def test_in_ci_a_home_in_the_checkout_is_not_believed(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    assert known() is None
    monkeypatch.setenv("ENGINE_HOME", str(project.home))
    assert known() == ()


def test_an_unchanged_spec_is_answered_without_yaml_or_types(project: Project) -> None:
    code = "import sys; from engine.cli.main import main; main(['validate', 'spec.yaml']); print(*sys.modules)"
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("spec.yaml: valid\n")
    assert TYPES.isdisjoint(done.stdout.split())


def test_the_oldest_make_room(tmp_path: Path) -> None:
    shelf = Shelf(folder=tmp_path)
    for number in range(MOST + 1):
        shelf.put([number], b"1")
    assert len(list(tmp_path.iterdir())) == MOST // 2 + 1
    assert shelf.take([MOST]) == 1


@pytest.mark.slow
def test_a_sweep_composes_each_of_its_runs_by_itself(project: Project) -> None:
    found = engine(project.root, "run", SPEC, "-m", "seed=1,2", "--inline", "--json").json
    assert len({run["run_id"] for run in found["runs"]}) == 2


def test_what_duckdb_said_of_a_query_is_kept_and_said_again_without_it(
    project: Project, answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = "select *, xx > 1 as b from {source}"
    project.write({"transform": [{"name": "t", "uses": "sql", "data": ["train", "test"], "with": {"query": query}}]})
    first = answer(project.root, "validate", SPEC)
    assert 'a column "xx" that is not there' in first.out
    surroundings.bound_once.cache_clear()
    monkeypatch.setattr(surroundings, "bound", lambda *_: pytest.fail("DuckDB is asked again"))
    again = answer(project.root, "validate", SPEC, "--", "seed=9")
    assert (again.code, again.out) == (first.code, first.out)
