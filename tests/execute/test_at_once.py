"""Runs at the same time: what two would do, one does, and the other takes what it gave."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest

from engine.wiring import open_home
from projects import Project, make_project
from warm import begin, warm

RUN = ("run", "spec.yaml", "--json")
HELD = ("train.with.mode=sleep",)
OTHER = "evaluate.gates.0.max=0.9"
SLEEPS = "time.sleep(self.seconds)"
WAITS = """while not (Path(__file__).parent / "go").exists():
                time.sleep(0.01)"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project whose trainer, in the mode `sleep`, waits until there is a file ``go``."""
    made = make_project(tmp_path / "project")
    trainer = made.root / "my_trainer.py"
    text = trainer.read_text().replace("import time\n", "import time\nfrom pathlib import Path\n")
    assert SLEEPS in text
    trainer.write_text(text.replace(SLEEPS, WAITS))
    return made


def go_on(project: Project) -> None:
    """Let the trainer go on."""
    (project.root / "go").touch()


def statuses(document: dict[str, Any]) -> dict[str, str]:
    return {step["name"]: step["status"] for step in document["steps"]}


def executions(project: Project, run_id: str) -> list[int]:
    return open_home(project.root).records.numbers(run_id)


@pytest.mark.parametrize("how", ["--inline", "ray"])
def test_of_two_identical_runs_one_computes_and_both_answer(
    project: Project, how: str, request: pytest.FixtureRequest
) -> None:
    other = ["--inline"] if how == "--inline" else ["--address", request.getfixturevalue("ray_address")]
    first = begin(project.root, *RUN, *HELD, "--inline")
    first.says("validate.train")
    second = begin(project.root, *RUN, *HELD, *other)
    second.says(f"waiting for process {first.pid}, which does the same")
    go_on(project)
    one, two = first.wait().json, second.wait().json
    assert (one["executed"], two["executed"]) == (True, False)
    assert {key: one[key] for key in ("run_id", "status", "model", "metrics", "gates")} == {
        key: two[key] for key in ("run_id", "status", "model", "metrics", "gates")
    }
    assert executions(project, one["run_id"]) == [1]
    assert [entry.event["what"] for entry in open_home(project.root).registry.ledger()] == ["version"]


@pytest.mark.parametrize("how", ["--inline", "ray"])
def test_of_two_runs_that_share_a_step_one_does_it(project: Project, how: str, request: pytest.FixtureRequest) -> None:
    other = ["--inline"] if how == "--inline" else ["--address", request.getfixturevalue("ray_address")]
    first = begin(project.root, *RUN, *HELD, "--inline")
    first.says("mode sleep")
    second = begin(project.root, *RUN, *HELD, OTHER, *other)
    second.says(f"train waits for process {first.pid}, which does the same")
    go_on(project)
    one, two = first.wait().json, second.wait().json
    assert (one["status"], two["status"]) == ("passed", "passed")
    assert one["run_id"] != two["run_id"]
    assert (statuses(one)["train"], statuses(two)["train"]) == ("ran", "cached")
    assert statuses(two)["gate.mae.max"] == "ran"


@pytest.mark.slow
def test_a_step_that_waits_is_not_yet_in_its_time(project: Project, ray_address: str) -> None:
    first = begin(project.root, *RUN, *HELD, "--inline")
    first.says("mode sleep")
    limits = ("train.resources.timeout=1s", OTHER)
    second = begin(project.root, *RUN, *HELD, *limits, "--address", ray_address)
    second.says("train waits for process")
    time.sleep(1.3)
    go_on(project)
    assert second.wait().json["status"] == "passed"
    assert first.wait().code == 0


def test_whoever_waits_for_a_run_that_is_killed_does_it(project: Project) -> None:
    first = begin(project.root, *RUN, *HELD, "--inline")
    first.says("mode sleep")
    second = begin(project.root, *RUN, *HELD, "--inline")
    second.says("waiting for process")
    first.send(signal.SIGKILL)
    go_on(project)
    document = second.wait().json
    assert (document["status"], document["executed"]) == ("passed", True)
    assert statuses(document)["ingest.train"] == "cached"
    assert statuses(document)["train"] == "ran"


def test_whoever_waits_for_a_step_that_is_killed_does_it(project: Project) -> None:
    first = begin(project.root, *RUN, *HELD, "--inline")
    first.says("mode sleep")
    second = begin(project.root, *RUN, *HELD, OTHER, "--inline")
    second.says("train waits for process")
    first.send(signal.SIGKILL)
    go_on(project)
    assert statuses(second.wait().json)["train"] == "ran"


def test_ctrl_c_ends_the_waiting_and_not_what_is_waited_for(project: Project) -> None:
    first = begin(project.root, *RUN, *HELD, "--inline")
    first.says("mode sleep")
    waiting = [begin(project.root, *RUN, *HELD, *more, "--inline") for more in ([], [OTHER])]
    for other in waiting:
        other.says("for process")
        other.send(signal.SIGINT)
        assert other.wait().code == 130
    go_on(project)
    document = first.wait().json
    assert (document["status"], document["executed"]) == ("passed", True)


def test_a_fresh_run_waits_and_then_executes_again(project: Project) -> None:
    first = begin(project.root, *RUN, *HELD, "--inline")
    first.says("mode sleep")
    second = begin(project.root, *RUN, *HELD, "--inline", "--fresh")
    second.says("waiting for process")
    go_on(project)
    one, two = first.wait().json, second.wait().json
    assert (one["executed"], two["executed"]) == (True, True)
    assert set(statuses(two).values()) == {"ran"}
    assert executions(project, one["run_id"]) == [1, 2]


def test_a_failed_run_does_not_answer_whoever_waited_for_it(project: Project) -> None:
    trainer = project.root / "my_trainer.py"
    trainer.write_text(trainer.read_text().replace(WAITS, f"{WAITS}\n            helper.broken()"))
    first = begin(project.root, *RUN, *HELD, "--inline")
    first.says("mode sleep")
    second = begin(project.root, *RUN, *HELD, "--inline")
    second.says("waiting for process")
    go_on(project)
    one, two = first.wait().json, second.wait().json
    assert (one["status"], two["status"], two["executed"]) == ("failed", "failed", True)
    assert executions(project, one["run_id"]) == [1, 2]


@pytest.mark.slow
def test_many_runs_at_once_of_a_few_specs_leave_one_execution_of_each(project: Project) -> None:
    commands = [begin(project.root, *RUN, "--inline", f"seed={number % 3}") for number in range(9)]
    documents = [command.wait().json for command in commands]
    assert {document["status"] for document in documents} == {"passed"}
    assert sum(document["executed"] for document in documents) == 3
    assert all(executions(project, document["run_id"]) == [1] for document in documents)
    assert warm(project.root, "verify", "--json").json["mismatches"] == []
