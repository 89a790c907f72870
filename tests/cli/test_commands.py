"""What a user types and gets: exit codes, one JSON document, errors with a next act."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pyarrow as pa
import pytest

from engine.cli.view import folded
from engine.record.store import RecordStore
from projects import Done, Project, engine, left_behind, make_project, numbers

Answer = Callable[..., Done]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return make_project(tmp_path / "project")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with one passed run."""
    made = make_project(tmp_path_factory.mktemp("done"))
    assert engine(made.root, "run", "spec.yaml", "--inline").code == 0
    return made


COMMANDS = [
    (["validate", "spec.yaml"], 0),
    (["validate", "nope.yaml"], 2),
    (["plan", "spec.yaml"], 0),
    (["plan", "spec.yaml", "--exit-code"], 0),
    (["plan", "spec.yaml", "seed=9", "--exit-code"], 1),
    (["run", "spec.yaml"], 0),
    (["run", "spec.yaml", "sed=9"], 2),
    (["run", "nope.yaml"], 2),
    (["run", "spec.yaml", "evaluate.gates.0.max=0.0000001", "--inline"], 1),
    (["run", "spec.yaml", "train.with.mode=raise", "--inline"], 3),
    (["run", "spec.yaml", "--report", "pdf=x.pdf"], 2),
    (["run", "spec.yaml", "-m", "seed=7,7", "--inline"], 0),
    (["runs", "list"], 0),
    (["runs", "show", "zzzzzz"], 2),
    (["runs", "show", "abc"], 2),
    (["models", "list"], 0),
    (["models", "list", "numbrs"], 2),
    (["plugins", "list"], 0),
    (["plugins", "show", "sklearn"], 0),
    (["plugins", "show", "sklern"], 2),
    (["doctor"], 0),
    (["rum", "spec.yaml"], 2),
    (["run"], 2),
    (["run", "spec.yaml", "--bogus"], 2),
]


@pytest.mark.parametrize(("command", "code"), COMMANDS, ids=[" ".join(command) for command, _ in COMMANDS])
def test_a_command_has_its_exit_code_and_never_a_traceback(done: Project, command: list[str], code: int) -> None:
    found = engine(done.root, *command)
    assert found.code == code, found.err
    assert "Traceback" not in found.err


ANSWERED = [row for row in COMMANDS if row[1] != 2]
REFUSED = [command for command, code in COMMANDS if code == 2]


@pytest.mark.parametrize(("command", "code"), ANSWERED, ids=[" ".join(command) for command, _ in ANSWERED])
def test_json_is_one_document_on_standard_output(done: Project, command: list[str], code: int, answer: Answer) -> None:
    found = answer(done.root, *command, "--json")
    assert found.code == code
    failed = found.json.get("error") is not None
    assert failed is (found.json.get("status") == "failed")


@pytest.mark.parametrize("command", REFUSED, ids=" ".join)
def test_what_cannot_be_done_is_a_document_with_an_error(done: Project, command: list[str], answer: Answer) -> None:
    found = answer(done.root, *command, "--json")
    assert found.code == 2
    error = found.json["error"]
    assert {"code", "message", "place", "hint"} <= error.keys()
    assert error["code"]
    assert error["message"]


def test_the_run_document_has_what_the_contract_says(done: Project, answer: Answer) -> None:
    document = answer(done.root, "run", "spec.yaml", "--json").json
    assert len(document["run_id"]) == 64
    assert (document["status"], document["executed"]) == ("passed", False)
    assert document["model"]["version"] == 1
    assert document["pins"]["data"]["train"].keys() == {"uri", "commit", "digest"}
    assert document["pins"]["models"]["production"] == {"version": None, "digest": None}
    assert document["pins"]["environment"]["python"] == f"3.{sys.version_info.minor}"
    assert {step["status"] for step in document["steps"]} == {"cached"}
    assert {"name", "passed", "value", "limit", "reason"} <= document["gates"][0].keys()


def test_help_names_every_command(done: Project) -> None:
    found = engine(done.root, "--help")
    assert found.code == 0
    assert all(
        word in found.out for word in ("quickstart", "validate", "plan", "run", "runs", "models", "plugins", "doctor")
    )


def test_a_run_works_from_another_folder(done: Project, tmp_path: Path) -> None:
    found = engine(tmp_path, "run", str(done.spec), "--json")
    assert (found.code, found.json["executed"]) == (0, False)


def test_reports_are_written_where_they_were_asked_for(done: Project, answer: Answer) -> None:
    found = answer(done.root, "run", "spec.yaml", "--report", "html=out/r.html", "--report", "md=out/r.md")
    assert found.code == 0, found.err
    assert (done.root / "out/r.html").read_text().startswith("<!doctype html>")
    assert "mae" in (done.root / "out/r.md").read_text()


def test_changing_operation_executes_nothing_and_is_recorded(done: Project, answer: Answer) -> None:
    found = answer(done.root, "run", "spec.yaml", "serve.max_batch_rows=8", "--json").json
    assert found["executed"] is False
    assert RecordStore(done.home).operation(found["run_id"])["serve"]["max_batch_rows"] == 8


def test_a_sweep_knows_that_less_of_an_error_is_better(done: Project, answer: Answer) -> None:
    found = answer(done.root, "run", "spec.yaml", "-m", "train.with.ridge=1000,0.01", "--inline", "--json").json
    assert found["best"]["overrides"] == ["train.with.ridge=0.01"]


def test_a_sweep_names_its_best_run(done: Project, answer: Answer) -> None:
    found = answer(
        done.root,
        "run",
        "spec.yaml",
        "-m",
        "train.with.ridge=0.01,1000",
        "sweep.direction=minimize",
        "--inline",
        "--json",
    ).json
    assert len(found["runs"]) == 2
    assert found["best"]["overrides"][0] == "train.with.ridge=0.01"


BAD: list[tuple[str, dict[str, object], int, str]] = [
    ("repository", {"data.train.uri": "lakefs://nombers/main/train.parquet"}, 2, 'did you mean "numbers"?'),
    ("branch", {"data.train.uri": "lakefs://numbers/mian/train.parquet"}, 2, 'did you mean "main"?'),
    ("object", {"data.train.uri": "lakefs://numbers/main/trian.parquet"}, 2, 'did you mean "train.parquet"?'),
    ("folder", {"data.train.uri": "lakefs://numbers/main/nope/"}, 2, "no folder in lakefs://numbers/main/"),
    (
        "target",
        {"target": "late", "data.train.schema": None, "data.test.schema": None},
        3,
        'the target "late" is not a column of the data',
    ),
    (
        "feature",
        {"features.numeric": ["x", "q"], "data.train.schema": None, "data.test.schema": None},
        3,
        'no column "q"',
    ),
    (
        "slice",
        {"evaluate.slices": ["gruop"], "evaluate.gates": [], "data.train.schema": None, "data.test.schema": None},
        3,
        'did you mean "group"?',
    ),
]


@pytest.mark.parametrize(("changes", "code", "says"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_what_is_not_there_is_named(
    project: Project, changes: dict[str, object], code: int, says: str, answer: Answer
) -> None:
    project.write(changes)
    found = answer(project.root, "run", "spec.yaml", "--inline")
    assert found.code == code, found.err
    assert says in found.err + found.out
    assert left_behind(project.home) == []


@pytest.mark.parametrize(
    ("command", "changes", "code"),
    [("run", {}, 2), ("plan", {}, 2), ("run", {"train.uses": "sklern"}, 2), ("validate", {"train.uses": "sklern"}, 1)],
)
def test_what_could_not_start_creates_nothing(
    project: Project, command: str, changes: dict[str, object], code: int
) -> None:
    shutil.rmtree(project.home)
    project.write(changes)
    assert engine(project.root, command, "spec.yaml").code == code
    assert not project.home.exists()


def test_a_place_in_the_spec_stands_before_what_is_not_there(project: Project, answer: Answer) -> None:
    project.write({"data.train.uri": "lakefs://numbers/mian/train.parquet"})
    assert "spec.yaml:5:10 data.train.uri: " in answer(project.root, "run", "spec.yaml").err


def test_data_that_breaks_its_schema_is_a_failed_run_that_is_recorded(project: Project, answer: Answer) -> None:
    bad = numbers(50).set_column(3, "group", pa.array(["c"] * 30 + ["a"] * 20))
    project.put("train.parquet", bad)
    found = answer(project.root, "run", "spec.yaml", "--inline", "--json")
    assert (found.code, found.json["status"]) == (3, "failed")
    assert "30 failure cases in 50 rows; the worst: column group" in found.json["error"]["message"]
    assert answer(project.root, "runs", "list", "--json").json["runs"][0]["status"] == "failed"


def test_an_empty_table_is_a_clear_failure(project: Project, answer: Answer) -> None:
    project.put("train.parquet", numbers(0))
    project.write({"data.train.schema": None})
    found = answer(project.root, "run", "spec.yaml", "--inline", "--json")
    assert found.code == 3
    assert found.json["error"]["message"] == "the training data has no rows"


def test_a_file_that_is_not_what_its_name_says_is_a_clear_failure(project: Project, answer: Answer) -> None:
    project.put_bytes("train.parquet", b"these are no columns")
    found = answer(project.root, "run", "spec.yaml", "--inline", "--json")
    assert (found.code, found.json["error"]["code"]) == (3, "data-unreadable")


def test_a_home_that_is_no_folder_is_a_clear_error(project: Project, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = engine(project.root, "quickstart", ENGINE_HOME=str(tmp_path / "file" / "home"))
    assert found.code == 3
    assert "Traceback" not in found.err


def test_a_full_disk_is_a_clear_error_and_leaves_nothing_half_written(project: Project, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], check=False).returncode:
        pytest.skip("only root may mount a small disk")
    try:
        project.put("train.parquet", numbers(60_000))
        subprocess.run(["cp", "-r", str(project.home / "lake"), str(disk / "lake")], check=True)
        found = engine(project.root, "quickstart", ENGINE_HOME=str(disk))
        assert found.code == 3, found.err
        assert "no space left" in found.err
        assert left_behind(disk) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def interrupt(project: Project, number: signal.Signals, *arguments: str) -> tuple[int, str, list[psutil.Process]]:
    """Start a run that sleeps in its training, send it a signal, and tell how it ended and what is left of it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "engine.cli.main", "run", "spec.yaml", "train.with.mode=sleep", *arguments],
        cwd=project.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stderr is not None
    said = ""
    while said.count("ran ") < 4:
        line = process.stderr.readline()
        assert line, f"it ended too early: {said}"
        said += line
    time.sleep(1.0)
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    _, rest = process.communicate(timeout=30)
    _, alive = psutil.wait_procs(family, timeout=5)
    return process.returncode, said + rest, alive


@pytest.mark.parametrize(
    ("how", "number"),
    [
        ("--inline", signal.SIGTERM),
        ("ray", signal.SIGINT),
        pytest.param("--inline", signal.SIGINT, marks=pytest.mark.slow),
        pytest.param("ray", signal.SIGTERM, marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_run_stops_cleanly_and_keeps_what_was_finished(
    project: Project, how: str, number: signal.Signals
) -> None:
    code, said, alive = interrupt(project, number, *([how] if how == "--inline" else []))
    assert (code, alive) == (130, [])
    assert "interrupted; finished steps stay cached" in said
    assert left_behind(project.home) == []
    plan = engine(project.root, "plan", "spec.yaml", "train.with.mode=sleep", "--json").json
    assert {step["name"] for step in plan["steps"] if step["status"] == "cached"} >= {"ingest.train", "validate.test"}


@pytest.mark.parametrize("arguments", ["runs list --json", "schema", "plan spec.yaml", "plugins list"])
def test_a_reader_who_leaves_before_the_end_is_told_nothing_and_the_code_says_so(
    project: Project, arguments: str
) -> None:
    command = [sys.executable, "-m", "engine.cli.main", *arguments.split()]
    process = subprocess.Popen(command, cwd=project.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(60) == 141


def test_a_person_sees_no_word_broken_at_the_edge() -> None:
    said = "  └── made by run 127a30a83bb5  late-arrivals passed  average_precision 0.4338"
    lines = folded(said, 40).splitlines()
    assert lines == [
        "  └── made by run 127a30a83bb5",
        "        late-arrivals passed",
        "        average_precision 0.4338",
    ]
    assert folded(said, 200) == said


def test_ctrl_c_while_a_command_is_loaded_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    code = "import sys; from engine.cli import start; sys.exit(start())"
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout, found.stderr) == (130, "", "error: interrupted\n")
