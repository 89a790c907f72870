"""What every executor does, whichever it is. The inline one is the reference."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from engine.api import prepare_spec
from engine.errors import UsageError
from engine.execute.protocol import Executor, Report, StepEvent, StepOutcome, Work, silent
from engine.pipeline import execute, prepare, run
from engine.spec.load import load
from engine.wiring import desk_for
from projects import Project, engine, make_project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return make_project(tmp_path / "project")


@dataclass(frozen=True)
class Place:
    """A project, and the executor that carries out its plans: Ray at ``address``, else inline."""

    project: Project
    address: str | None

    def outcomes(self, *overrides: str, fresh: bool = False, report: Report = silent) -> dict[str, StepOutcome]:
        """Every step's outcome."""
        prepared = prepare_spec(self.project.spec, overrides, self.address)
        return dict(execute(prepared, report, self.address is None, fresh=fresh).outcomes)


@pytest.fixture(scope="module", params=["inline", "ray"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Place:
    address = request.getfixturevalue("ray_address") if request.param == "ray" else None
    return Place(make_project(tmp_path_factory.mktemp("place") / "project"), address)


@pytest.fixture(scope="module")
def whole(place: Place) -> tuple[dict[str, StepOutcome], list[StepEvent]]:
    """What a good plan gives, and what was told meanwhile."""
    heard: list[StepEvent] = []
    return place.outcomes(fresh=True, report=heard.append), heard


@pytest.fixture(scope="module")
def good(whole: tuple[dict[str, StepOutcome], list[StepEvent]]) -> dict[str, StepOutcome]:
    return whole[0]


@pytest.fixture(scope="module")
def broken(place: Place, good: dict[str, StepOutcome]) -> dict[str, StepOutcome]:
    """What a plan gives whose trainer raises."""
    return place.outcomes("train.with.mode=raise")


def test_every_step_of_a_good_plan_is_done(good: dict[str, StepOutcome]) -> None:
    assert {outcome.status for outcome in good.values()} == {"ran"}


def test_every_step_is_announced_when_it_is_over(whole: tuple[dict[str, StepOutcome], list[StepEvent]]) -> None:
    done, heard = whole
    assert sorted(event.id for event in heard if event.what == "over") == sorted(done)


def test_a_failed_step_skips_only_what_needs_it(broken: dict[str, StepOutcome]) -> None:
    status = {name: outcome.status for name, outcome in broken.items()}
    assert status["train"] == "failed"
    assert {name for name, value in status.items() if value == "cached"} == {
        "ingest.train", "ingest.test", "validate.train", "validate.test",
    }  # fmt: skip
    assert status["register"] == "skipped"


def test_a_plugin_that_raises_gives_its_own_traceback_and_the_line_of_the_spec(
    broken: dict[str, StepOutcome], place: Place
) -> None:
    error = broken["train"].error
    assert error is not None
    assert error["message"] == "ZeroDivisionError: division by zero"
    assert "helper.py" in error["details"]
    assert "engine/steps" not in error["details"]
    assert error["spec"].startswith(f"{place.project.spec}:")


def test_a_module_that_nobody_could_see_fails_the_step(place: Place, good: dict[str, StepOutcome]) -> None:
    error = place.outcomes("train.with.mode=late")["train"].error
    assert error is not None
    assert "module stranger was imported" in error["message"]


def test_what_is_known_already_is_not_done_again(place: Place, good: dict[str, StepOutcome]) -> None:
    done = place.outcomes("evaluate.gates.0.max=0.9")
    assert {name for name, outcome in done.items() if outcome.status == "ran"} == {"gate.mae.max", "register"}
    assert done["train"].outputs == good["train"].outputs


def test_a_gate_that_refuses_registers_nothing_and_fails_nothing(place: Place) -> None:
    done = place.outcomes("evaluate.gates.0.max=0.0000001", fresh=True)
    assert {outcome.status for outcome in done.values()} == {"ran"}
    assert done["register"].byproducts == {"version": None, "refused_by": ["gate.mae.max"]}


# -- the same bytes --------------------------------------------------------------------------------------------


def fresh_run(project: Project, *arguments: str, **environment: str) -> dict[str, Any]:
    """The document of a fresh run in a process of its own."""
    done = engine(project.root, "run", "spec.yaml", "--fresh", "--json", *arguments, **environment)
    assert done.code == 0, done.err
    document: dict[str, Any] = done.json
    return document


def artifacts(document: dict[str, Any]) -> dict[str, Any]:
    """The digest of every artifact of a run."""
    found = {step["name"]: {k: v for k, v in step["outputs"].items() if k != "native"} for step in document["steps"]}
    return {"run": document["run_id"], **found}


@pytest.fixture(scope="module")
def on_ray(ray_address: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return fresh_run(make_project(tmp_path_factory.mktemp("ray") / "project"), "--address", ray_address)


def test_artifacts_are_the_same_bytes_inline_and_on_ray_and_for_another_hash_seed(
    project: Project, on_ray: dict[str, Any]
) -> None:
    assert artifacts(fresh_run(project, "--inline", PYTHONHASHSEED="1")) == artifacts(on_ray)


@pytest.mark.slow
@pytest.mark.parametrize("seed", ["0", "2", "random"])
def test_artifacts_are_the_same_bytes_for_every_hash_seed(project: Project, on_ray: dict[str, Any], seed: str) -> None:
    assert artifacts(fresh_run(project, "--inline", PYTHONHASHSEED=seed)) == artifacts(on_ray)


def test_a_record_says_which_executor_it_was(on_ray: dict[str, Any]) -> None:
    assert on_ray["executor"] == "ray"


# -- what only a cluster can say -------------------------------------------------------------------------------


def test_a_step_whose_process_dies_is_reported_and_the_rest_skipped(project: Project, ray_address: str) -> None:
    prepared = prepare_spec(project.spec, ["train.with.mode=die", "train.resources.retries=1"], ray_address)
    done = execute(prepared, silent, False, fresh=True).outcomes
    assert done["train"].error is not None
    assert done["train"].error["message"] == "the process of train died 2 times"
    assert done["export"].status == "skipped"
    assert done["validate.test"].status == "ran"


def test_a_step_past_its_time_is_ended(project: Project, ray_address: str) -> None:
    prepared = prepare_spec(project.spec, ["train.with.mode=sleep", "train.resources.timeout=1s"], ray_address)
    error = execute(prepared, silent, False, fresh=True).outcomes["train"].error
    assert error is not None
    assert error["message"] == "train took longer than 1 s and was ended"
    assert error["spec"] == "override train.resources.timeout=1s train.resources.timeout"


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("train.resources.gpus=3", "train asks for 3 GPUs; the cluster has 0"),
        ("train.resources.cpus=900", "train asks for 900 CPUs"),
        ("train.resources.memory=900TiB", "GiB of memory; the cluster has"),
    ],
)
def test_what_the_cluster_does_not_have_is_refused_before_it_waits(
    project: Project, ray_address: str, override: str, says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        execute(prepare_spec(project.spec, [override], ray_address), silent, False, fresh=True)


def test_only_light_steps_left_start_no_cluster(project: Project) -> None:
    run(prepare_spec(project.spec), silent, inline=True)
    used: list[str] = []

    class Spy:
        """Carries out nothing but tells which executor was chosen."""

        def __init__(self, inner: Executor) -> None:
            self.inner = inner
            self.name = inner.name

        def execute(self, work: Work, report: Any) -> dict[str, StepOutcome]:
            used.append(self.name)
            return self.inner.execute(work, report)

    loaded = load(project.spec, ["evaluate.gates.0.max=0.9"])
    desk = desk_for(loaded)
    spied = replace(desk, executor=lambda inline: Spy(desk.executor(inline)))
    assert run(prepare(loaded, spied), silent).record.status == "passed"
    assert used == ["inline"]
