"""What every executor does, whichever it is. The inline one is the reference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.api import prepare_spec, silent
from engine.execute.protocol import Executor, StepEvent, StepOutcome, Work
from engine.pipeline import execute, prepare, run
from engine.spec.load import load
from engine.wiring import desk_for
from projects import Project, engine, make_project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return make_project(tmp_path / "project")


@pytest.fixture(params=["inline", "ray"])
def inline(request: pytest.FixtureRequest) -> bool:
    if request.param == "ray":
        request.getfixturevalue("ray_address")
    return bool(request.param == "inline")


def outcomes(
    project: Project, inline: bool, request: pytest.FixtureRequest, *overrides: str, events: Any = silent
) -> dict[str, StepOutcome]:
    """Every step's outcome of a fresh execution."""
    address = None if inline else request.getfixturevalue("ray_address")
    prepared = prepare_spec(project.spec, overrides, address)
    return dict(execute(prepared, events, inline, fresh=True).outcomes)


def test_every_step_of_a_good_plan_is_done(project: Project, inline: bool, request: pytest.FixtureRequest) -> None:
    assert {outcome.status for outcome in outcomes(project, inline, request).values()} == {"ran"}


def test_every_step_is_announced_when_it_is_over(
    project: Project, inline: bool, request: pytest.FixtureRequest
) -> None:
    heard: list[StepEvent] = []
    done = outcomes(project, inline, request, events=heard.append)
    assert sorted(event.id for event in heard if event.what == "over") == sorted(done)


def test_a_failed_step_skips_only_what_needs_it(project: Project, inline: bool, request: pytest.FixtureRequest) -> None:
    done = outcomes(project, inline, request, "train.with.mode=raise")
    status = {name: outcome.status for name, outcome in done.items()}
    assert status["train"] == "failed"
    assert {name for name, value in status.items() if value == "ran"} == {
        "ingest.train", "ingest.test", "validate.train", "validate.test",
    }  # fmt: skip
    assert status["register"] == "skipped"


def test_a_plugin_that_raises_gives_its_own_traceback_and_the_line_of_the_spec(
    project: Project, inline: bool, request: pytest.FixtureRequest
) -> None:
    error = outcomes(project, inline, request, "train.with.mode=raise")["train"].error
    assert error is not None
    assert error["message"] == "ZeroDivisionError: division by zero"
    assert "helper.py" in error["details"]
    assert "engine/steps" not in error["details"]
    assert error["spec"].startswith(f"{project.spec}:")


def test_a_module_that_nobody_could_see_fails_the_step(
    project: Project, inline: bool, request: pytest.FixtureRequest
) -> None:
    error = outcomes(project, inline, request, "train.with.mode=late")["train"].error
    assert error is not None
    assert "module stranger was imported" in error["message"]


def test_what_is_known_already_is_not_done_again(
    project: Project, inline: bool, request: pytest.FixtureRequest
) -> None:
    first = outcomes(project, inline, request)
    address = None if inline else request.getfixturevalue("ray_address")
    prepared = prepare_spec(project.spec, ["evaluate.gates.0.max=0.9"], address)
    done = execute(prepared, silent, inline, fresh=False).outcomes
    assert {name for name, outcome in done.items() if outcome.status == "ran"} == {"gate.mae.max", "register"}
    assert done["train"].outputs == first["train"].outputs


def test_a_gate_that_refuses_registers_nothing_and_fails_nothing(
    project: Project, inline: bool, request: pytest.FixtureRequest
) -> None:
    done = outcomes(project, inline, request, "evaluate.gates.0.max=0.0000001")
    assert {outcome.status for outcome in done.values()} == {"ran"}
    assert done["register"].byproducts == {"version": None, "refused_by": ["gate.mae.max"]}


def artifacts(project: Project, *arguments: str, **environment: str) -> dict[str, Any]:
    """The digest of every artifact of a fresh run in a process of its own."""
    done = engine(project.root, "run", "spec.yaml", "--fresh", "--json", *arguments, **environment)
    assert done.code == 0, done.err
    found = {step["name"]: {k: v for k, v in step["outputs"].items() if k != "native"} for step in done.json["steps"]}
    return {"run": done.json["run_id"], **found}


def test_artifacts_are_the_same_bytes_inline_and_on_ray_and_for_every_hash_seed(
    project: Project, ray_address: str
) -> None:
    first = artifacts(project, "--inline", PYTHONHASHSEED="0")
    assert artifacts(project, "--inline", PYTHONHASHSEED="1") == first
    assert artifacts(project, "--inline", PYTHONHASHSEED="random") == first
    assert artifacts(project, "--address", ray_address) == first


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
    done = engine(project.root, "run", "spec.yaml", override, "--address", ray_address)
    assert (done.code, says in done.err) == (2, True), done.err


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
    from dataclasses import replace

    spied = replace(desk, executor=lambda inline: Spy(desk.executor(inline)))
    assert run(prepare(loaded, spied), silent).record.status == "passed"
    assert used == ["inline"]


def test_a_record_says_which_executor_it_was(project: Project, ray_address: str) -> None:
    done = engine(project.root, "run", "spec.yaml", "--address", ray_address, "--json")
    assert json.loads(done.out)["executor"] == "ray"
