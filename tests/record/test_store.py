"""What is recorded is written once, whole, and speaks for its run only when it may."""

from __future__ import annotations

import json
import os
import pickle
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engine.api import Run, prepare_spec, run
from engine.digest import sha256
from engine.errors import DigestMismatch, NotFound, UsageError
from engine.record.store import RecordStore
from engine.store.checked import read_checked, write_checked
from engine.wiring import open_home
from projects import Project, make_project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return make_project(tmp_path / "project")


@pytest.fixture(scope="module")
def passed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, Run]:
    """A run that passed, to look at."""
    project = make_project(tmp_path_factory.mktemp("passed") / "project")
    return project, run(project.spec, inline=True)


def test_the_spec_file_hashes_to_the_run_id(passed: tuple[Project, Run]) -> None:
    project, made = passed
    assert sha256((project.home / "runs" / made.id / "spec.json").read_bytes()) == made.id


def test_everything_that_is_recorded_is_read_only(passed: tuple[Project, Run]) -> None:
    project, made = passed
    files = [path for path in (project.home / "runs" / made.id).rglob("*") if path.is_file()]
    files += [path for path in (project.home / "objects").glob("??/*") if path.is_file()]
    assert files
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o444}


def test_the_same_run_again_answers_from_the_record(passed: tuple[Project, Run]) -> None:
    project, first = passed
    again = run(project.spec, inline=True)
    assert (again.id, again.finished.executed) == (first.id, False)


def test_fresh_executes_again_and_appends(project: Project) -> None:
    made = run(project.spec, inline=True)
    run(project.spec, inline=True, fresh=True)
    assert [record.execution for record in RecordStore(project.home).executions(made.id)] == [1, 2]


def test_an_answer_makes_good_what_a_killed_process_did_not_remember(passed: tuple[Project, Run]) -> None:
    project, first = passed
    records = open_home(project.root).records
    records.pointer("numbers").unlink()
    assert records.newest_of("numbers") is None
    run(project.spec, inline=True)
    found = records.newest_of("numbers")
    assert found is not None
    assert found.run_id == first.id


def test_a_failed_run_never_answers(project: Project) -> None:
    prepared = prepare_spec(project.spec, ["train.with.mode=raise"])
    assert run(prepared, inline=True).status == "failed"
    assert run(prepared, inline=True).finished.executed


def test_a_refused_run_answers(project: Project) -> None:
    prepared = prepare_spec(project.spec, ["evaluate.gates.0.max=0.0000001"])
    assert run(prepared, inline=True).status == "refused"
    assert not run(prepared, inline=True).finished.executed


def test_a_refusal_that_rests_on_a_measurement_is_measured_again(project: Project) -> None:
    prepared = prepare_spec(project.spec, ["evaluate.gates.5.max=0.0000001"])
    assert run(prepared, inline=True).status == "refused"
    again = run(prepared, inline=True)
    assert again.finished.executed
    ran = {step["name"] for step in again.document["steps"] if step["status"] == "ran"}
    assert ran == {"gate.latency_p99_ms.max", "register"}


def test_a_gate_that_only_warns_refuses_nothing(project: Project) -> None:
    made = run(
        prepare_spec(project.spec, ["evaluate.gates.0.max=0.0000001", "evaluate.gates.0.level=warn"]), inline=True
    )
    assert (made.status, made.model["version"]) == ("passed", 1)
    assert not made.document["gates"][0]["passed"]


def test_the_statement_names_every_artifact_and_pin(passed: tuple[Project, Run]) -> None:
    statement = passed[1].finished.record.statement
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert {"export/model", "evaluate/evaluation", "register/package"} <= {
        item["name"] for item in statement["subject"]
    }
    assert not any("native" in item["name"] for item in statement["subject"])
    names = {item["name"] for item in statement["predicate"]["buildDefinition"]["resolvedDependencies"]}
    assert {"data/train", "data/test", "code", "environment"} <= names


def test_measurements_are_in_no_artifact(project: Project) -> None:
    first, second = (run(project.spec, inline=True, fresh=True).finished.record.statement for _ in range(2))
    assert first["subject"] == second["subject"]


def test_sources_are_kept_so_that_a_run_needs_no_git(project: Project) -> None:
    made = run(project.spec, inline=True)
    modules = prepare_spec(project.spec).resolved.modules
    (project.root / "my_trainer.py").unlink()
    assert b"Ridge regression" in made.store.read(modules["my_trainer"])


def test_concurrent_executions_get_numbers_of_their_own(project: Project) -> None:
    made = run(project.spec, inline=True)
    store = RecordStore(project.home)
    with ThreadPoolExecutor(8) as pool:
        records = list(pool.map(lambda _: store.append(made.id, made.finished.record.statement), range(24)))
    assert sorted(record.execution for record in records) == list(range(2, 26))


def test_a_run_is_found_by_its_first_digits(passed: tuple[Project, Run]) -> None:
    project, made = passed
    store = RecordStore(project.home)
    assert store.find(made.id[:6]) == made.id
    with pytest.raises(NotFound):
        store.find(made.id[:11] + ("0" if made.id[11] != "0" else "1"))
    with pytest.raises(UsageError, match="too short"):
        store.find(made.id[:5])


def test_an_altered_object_is_not_used(project: Project) -> None:
    made = run(project.spec, inline=True)
    path = made.store.path(made.model["digest"].removeprefix("sha256:"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(bytes(data))
    with pytest.raises(DigestMismatch):
        made.store.read(made.model["digest"].removeprefix("sha256:"))


def test_altered_lake_data_stops_the_ingest(project: Project) -> None:
    prepared = prepare_spec(project.spec)
    digest = prepared.resolved.answers.data["train"].files[0].digest
    location = prepared.desk.store.packs.find(digest)
    assert location is not None
    with prepared.desk.store.packs.path(location.pack).open("r+b") as pack:
        pack.seek(location.offset + location.size - 1)
        pack.write(b"!")
    made = run(prepared, inline=True)
    assert (made.status, made.document["error"]["code"]) == ("failed", "digest-mismatch")


class Planted:
    """What its pickle does when it is loaded: it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.folder),)


def planted(project: Project, folder: Path) -> str:
    """Let the cache name a pickle that makes ``folder`` as the trained model; its digest. The export has to be done."""
    store = run(project.spec, inline=True).store
    found = {path: json.loads(read_checked(path) or b"") for path in project.home.glob("cache/steps/*/*.json")}
    entries = {kept["id"]: path for path, kept in found.items()}
    payload = pickle.dumps(Planted(folder))
    kept = found[entries["train"]]
    digest = kept["outputs"]["native"]["digest"] = store.put(payload)
    kept["outputs"]["native"]["size"] = len(payload)
    write_checked(entries["train"], json.dumps(kept).encode())
    entries["export"].unlink()
    return digest


def statuses(project: Project) -> dict[str, str]:
    """What became of each step of another run."""
    made = run(prepare_spec(project.spec, ["evaluate.gates.0.max=0.9"]), inline=True)
    return {step["name"]: step["status"] for step in made.document["steps"]}


def test_a_native_model_that_this_home_did_not_seal_is_fitted_anew(project: Project, tmp_path: Path) -> None:
    planted(project, tmp_path / "loaded")
    found = statuses(project)
    assert (found["train"], found["export"], found["register"]) == ("ran", "ran", "ran")
    assert not (tmp_path / "loaded").exists()


def test_a_native_model_with_a_false_seal_is_not_unpickled(project: Project, tmp_path: Path) -> None:
    digest = planted(project, tmp_path / "loaded")
    (project.home / "seals" / digest).write_text("0" * 64)
    found = statuses(project)
    assert (found["train"], found["export"]) == ("cached", "failed")
    assert not (tmp_path / "loaded").exists()
    pickle.loads(open_home(project.root).store.read(digest))
    assert (tmp_path / "loaded").exists()


def test_the_newest_operation_of_several_runs_is_the_one_that_was_recorded_last(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    for number, run_id in enumerate(("first", "second")):
        folder = store.folder(run_id) / "operation"
        folder.mkdir(parents=True)
        write_checked(folder / "1.json", json.dumps({"from": run_id}).encode())
        os.utime(folder / "1.json", (1000 + number, 1000 + number))
    assert store.newest_operation(["first", "second"]) == {"from": "second"}
    write_checked(store.folder("first") / "operation" / "2.json", b'{"from": "first again"}')
    assert store.newest_operation(["first", "second"]) == {"from": "first again"}
    assert store.newest_operation([]) == {}
    assert store.newest_operation(["nowhere"]) == {}
