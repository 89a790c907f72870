"""A plan says of each step that would run what is otherwise than it was."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from engine.api import prepare_spec, run
from engine.cli.plan import outputs_of
from engine.pipeline import plan_before
from engine.plan.render import status_of
from engine.plan.why import ALWAYS, reasons
from engine.wiring import open_home
from projects import Project, engine, make_project, numbers

NOTHING: Callable[[Project], object] = lambda project: None  # noqa: E731


def append(name: str) -> Callable[[Project], object]:
    def change(project: Project) -> None:
        path = project.root / name
        path.write_text(path.read_text() + "\n# another line\n")

    return change


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with a run that passed; tests copy it."""
    project = make_project(tmp_path_factory.mktemp("why") / "project")
    assert engine(project.root, "run", "spec.yaml", "--inline").code == 0
    return project


@pytest.fixture
def project(ran: Project, tmp_path: Path) -> Project:

    return Project(shutil.copytree(ran.root, tmp_path / "project"))


def told(project: Project, *overrides: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    """The status of each step that is not cached, and why."""
    prepared = prepare_spec(project.spec, overrides)
    settled = outputs_of(prepared.desk.settled(prepared.plan))
    why = reasons(prepared.plan, plan_before(prepared), settled)
    steps = [step for step in prepared.plan.steps if step.id not in settled]
    return {step.id: (status_of(step, settled, False, why), why[step.id]) for step in steps}


CASES: list[tuple[str, Callable[[Project], object], list[str], dict[str, str]]] = [
    ("a gate's limit", NOTHING, ["evaluate.gates.0.max=0.9"], {"gate.mae.max": "evaluate.gates.0.max: 1.0 -> 0.9"}),
    ("a helper of the trainer", append("helper.py"), [], {
        "train": "code changed: helper.py", "export": "code changed: helper.py", "evaluate": "code changed: helper.py"}),
    ("a parameter", NOTHING, ["train.with.ridge=0.5"], {"train": "train.with.ridge: none -> 0.5"}),
    ("the seed", NOTHING, ["seed=8"], {"train": "train.seed: 7 -> 8"}),
    ("a new gate", NOTHING, ["+evaluate.gates.6.metric=r2", "+evaluate.gates.6.min=0.1"], {}),
    ("threads", NOTHING, ["train.resources.cpus=2"], {"train": "threads: 1 -> 2"}),
    ("data", lambda p: p.put("train.parquet", numbers(200, seed=9)), [],
     {"ingest.train": "data changed: train.parquet"}),
    ("a schema", lambda p: (p.root / "schema.yaml").write_text(
        (p.root / "schema.yaml").read_text().replace("1000", "2000")), [],
     {"validate.train": "data.train.schema.columns.x.in_range.max_value: 1000 -> 2000; "
                        "data.train.schema.columns.x.in_range.min_value: -1000 -> -2000",
      "validate.test": "data.test.schema.columns.x.in_range.max_value: 1000 -> 2000; "
                       "data.test.schema.columns.x.in_range.min_value: -1000 -> -2000"}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "overrides", "expected"), [row[1:] for row in CASES if row[3]], ids=[row[0] for row in CASES if row[3]]
)
def test_what_was_changed_is_why_these_steps_would_run_and_what_follows_may(
    project: Project, change: Callable[[Project], object], overrides: list[str], expected: dict[str, str]
) -> None:
    change(project)
    found = told(project, *overrides)
    would = {id: "; ".join(why) for id, (status, why) in found.items() if status == "would run" and id != "register"}
    assert would == expected
    assert found["register"] == ("would run", (ALWAYS,))
    assert all(why[0].startswith("if ") for status, why in found.values() if status == "may run")


@pytest.mark.parametrize(("change", "overrides"), [
    (append("stranger.py"), []),
    (append("spec.yaml"), []),
    (NOTHING, ["serve.workers=2"]),
])  # fmt: skip
def test_what_is_no_identity_leaves_nothing_to_run(
    project: Project, change: Callable[[Project], object], overrides: list[str]
) -> None:
    change(project)
    prepared = prepare_spec(project.spec, overrides)
    assert prepared.desk.records.answer(prepared.resolved.run_id) is not None


def test_a_baseline_that_moved_is_why_it_is_evaluated_and_compared_with_anew(project: Project) -> None:
    registry = open_home(project.root).registry
    for override in ("train.with.ridge=1", "train.with.ridge=2"):
        run(prepare_spec(project.spec, [f"+{override}"]), inline=True)
    registry.set_alias("numbers", "production", 1)
    run(project.spec, inline=True)
    registry.set_alias("numbers", "production", 2)
    found = {id: why for id, (status, why) in told(project).items() if status in ("would run", "may run")}
    assert found.pop("register") == (ALWAYS,)
    assert set(found) == {"evaluate.production", "gate.mae.max_drop@production"}
    assert set(found.values()) == {("baseline: version 1 -> 2",)}


def test_a_step_whose_output_is_the_same_cuts_off_what_follows(project: Project) -> None:
    table = numbers(200)
    project.put("train.parquet", table.append_column("unused", pa.array(range(200))))
    project.put("train.parquet", table)  # the same bytes again are the same data
    assert prepare_spec(project.spec).desk.records.run_ids() == [prepare_spec(project.spec).resolved.run_id]
    helper = project.root / "helper.py"
    helper.write_text(helper.read_text() + "\nNEW = 1\n")
    made = run(project.spec, inline=True)
    statuses = {step["name"]: step["status"] for step in made.document["steps"]}
    assert (statuses["train"], statuses["export"], statuses["evaluate"]) == ("ran", "ran", "ran")
    assert {status for name, status in statuses.items() if name.startswith("gate") and "latency" not in name} == {
        "cached"
    }


def test_an_input_that_was_settled_by_another_run_is_why(project: Project) -> None:
    project.put("train.parquet", numbers(150, seed=3))
    run(project.spec, inline=True)
    run(
        project.spec,
        overrides=["data.train.uri='lakefs://numbers/main~1/train.parquet'", "train.with.ridge=0.1"],
        inline=True,
    )
    found = told(project, "train.with.ridge=0.1")
    assert found["train"] == ("would run", ("input changed: validate.train/table",))


def test_a_step_that_failed_is_said_to_have_failed(project: Project) -> None:
    run(project.spec, overrides=["train.with.mode=raise"], inline=True)
    found = told(project, "train.with.mode=raise")
    assert found["train"] == ("would run", ("it failed the last time",))


def test_a_lost_artifact_is_a_step_that_is_not_in_the_cache(project: Project) -> None:
    prepared = prepare_spec(project.spec)
    record = prepared.desk.records.newest_of("numbers")
    assert record is not None
    prepared.desk.store.path(record.subjects["export/model"]).unlink()
    found = told(project, "evaluate.gates.0.max=0.9")
    assert found["export"] == ("would run", ("its outcome is not in the cache",))


def test_the_first_plan_says_that_nothing_was_run(tmp_path: Path) -> None:

    project = make_project(tmp_path / "project")
    found = told(project)
    assert {why for id, (_, why) in found.items() if id != "register"} == {("nothing was run before",)}


def test_the_command_shows_why_and_so_does_its_document(project: Project) -> None:
    append("helper.py")(project)
    done = engine(project.root, "plan", "spec.yaml")
    assert "would run  code changed: helper.py" in done.out
    assert done.out.splitlines()[-1] == "4 to run, 6 that may, 4 cached"
    steps = {step["name"]: step for step in engine(project.root, "plan", "spec.yaml", "--json").json["steps"]}
    assert steps["train"]["why"] == ["code changed: helper.py"]
    assert steps["ingest.train"]["why"] == []
    assert engine(project.root, "plan", "spec.yaml", "--exit-code").code == 1
