"""What makes another run, and what does not: the rules that DESIGN 7 gives for identity, one after the other.

Rule 1 key by key is in ``test_keys``; rule 7, what is measured, and rule 8, what answers, in ``record/test_store``;
inline and Ray in ``contracts/test_executors``; a lake on a server in ``end_to_end/test_lake_server``.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from engine.api import prepare_spec, run
from engine.digest import canonical_json, digest_of
from engine.wiring import open_home
from projects import SCHEMA, Project, engine, make_project, numbers

LARGE = b"x,z,y,group\n" + b"1.5,2,3.0,a\n" * 1_000_000


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


def exchange(project: Project, one: str, other: str) -> None:
    first, second = (project.root / one).read_text(), (project.root / other).read_text()
    (project.root / one).write_text(second)
    (project.root / other).write_text(first)


def dirty(project: Project) -> None:
    """A repository with a commit, and changes that were not committed to files that nobody uses."""
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.com"]
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *arguments], cwd=project.root, check=True)
    append(project, "stranger.py", "\n# not committed\n")
    (project.root / "notes.txt").write_text("not tracked")


# -- rule 1, 2, 4 and 10: what is identity, and what is a fact beside it -------------------------------------------

ANOTHER: list[tuple[str, Callable[[Project], None], list[str]]] = [
    ("seed", lambda p: None, ["seed=8"]),
    ("a gate's limit", lambda p: None, ["evaluate.gates.0.max=0.9"]),
    ("the order of features", lambda p: None, ["features.numeric=[z,x]"]),
    ("a parameter", lambda p: None, ["train.with.ridge=0.5"]),
    ("the threads", lambda p: None, ["train.resources.cpus=2"]),
    ("the data", lambda p: p.put("train.parquet", numbers(200, seed=9)), []),
    (
        "which data is which",
        lambda p: None,
        ["data.train.uri=lakefs://numbers/main/test.parquet", "data.test.uri=lakefs://numbers/main/train.parquet"],
    ),
    ("the schema's content", other_schema, []),
    ("1.0 where 1 stood in `with`", lambda p: None, ["train.with.ridge=1.0"]),
    ("two modules that changed places", lambda p: exchange(p, "helper.py", "stranger.py"), []),
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
    ("a working tree that is not clean", dirty, []),
    ("an override that says what stands there", lambda p: None, ["seed=7"]),
    ("1 where 1.0 stood in a typed field", lambda p: None, ["evaluate.gates.0.max=1"]),
    ("a module's times and mode", lambda p: (p.root / "helper.py").touch() or (p.root / "helper.py").chmod(0o600), []),
]  # fmt: skip


@pytest.mark.parametrize(("change", "overrides"), [row[1:] for row in ANOTHER], ids=[row[0] for row in ANOTHER])
def test_this_makes_another_run(project: Project, change: Callable[[Project], None], overrides: list[str]) -> None:
    project.write({"train.with": {"ridge": 1}})
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


def test_the_last_byte_of_a_large_file_makes_another_run(project: Project) -> None:
    project.put_bytes("train.csv", LARGE)
    project.write({"data.train.uri": "lakefs://numbers/main/train.csv"})
    before = run_id(project)
    project.put_bytes("train.csv", LARGE[:-2] + b"b\n")
    assert run_id(project) != before
    project.put_bytes("train.csv", LARGE)
    assert run_id(project) == before


def test_the_name_of_a_file_in_a_folder_is_part_of_the_data(project: Project) -> None:
    lake = open_home(project.root).lake
    for name in ("a", "b"):
        project.put(f"days/{name}.parquet", numbers(20, seed=ord(name)))
    project.write({"data.train.uri": "lakefs://numbers/main/days/"})
    before = run_id(project)
    lake.delete("numbers", "main", "days/a.parquet")
    project.put("days/c.parquet", numbers(20, seed=ord("a")))
    assert run_id(project) != before


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONHASHSEED": "1"},
        {"PYTHONHASHSEED": "4711"},
        {"LC_ALL": "C", "LANG": "C"},
        {"LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8"},
        {"TZ": "Asia/Kathmandu"},
        {"USER": "somebody", "LOGNAME": "somebody", "HOSTNAME": "elsewhere"},
        {"OMP_NUM_THREADS": "1"},
    ],
    ids=str,
)
def test_the_process_that_asks_is_not_part_of_it(project: Project, environment: dict[str, str]) -> None:
    asked = engine(project.root, "plan", "spec.yaml", "--json", **environment)
    assert asked.json["run_id"] == run_id(project)


def test_no_path_of_this_machine_is_in_an_identity(project: Project) -> None:
    identity = canonical_json(prepare_spec(project.spec).resolved.identity)
    assert not [path for path in (project.root, Path.home(), Path(sys.prefix)) if str(path).encode() in identity]


# -- rule 1 again: operation -------------------------------------------------------------------------------------


def test_the_monitors_window_and_webhook_are_operation(project: Project) -> None:
    monitor = {"reference": "train", "detectors": [{"name": "d", "uses": "ks", "window": 10}]}
    project.write({"monitor": monitor})
    before = run_id(project)
    assert run_id(project, "monitor.detectors.0.window=99", "monitor.on_alert.webhook=https://x") == before
    assert run_id(project, "monitor.detectors.0.with.p_val=0.01") != before


# -- rule 3: a baseline is a ref ---------------------------------------------------------------------------------


def test_a_baseline_that_moves_makes_another_run(project: Project) -> None:
    before = run_id(project)
    registry = open_home(project.root).registry
    version = registry.reserve("numbers", "a" * 64, "b" * 64)
    registry.announce("c" * 64, "d" * 64)
    registry.note_run("numbers", "c" * 64, "d" * 64, "passed", version)
    registry.set_alias("numbers", "production", version)
    assert run_id(project) != before


def test_only_the_gates_on_it_are_new_work_when_a_baseline_moves(project: Project) -> None:
    made = run(project.spec, inline=True)
    open_home(project.root).registry.set_alias("numbers", "production", made.model["version"])
    again = run(project.spec, inline=True)
    ran = {step["name"] for step in again.document["steps"] if step["status"] == "ran"}
    assert again.id != made.id
    assert ran == {"evaluate.production", "gate.mae.max_drop@production", "register"}


# -- rule 5: the environment -------------------------------------------------------------------------------------


def distribution(folder: Path, version: str, name: str = "tinydist") -> None:
    """A distribution of one module, installed in ``folder``."""
    for old in folder.glob(f"{name}-*.dist-info"):
        shutil.rmtree(old)
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "RECORD").write_text(f"{name}.py,,\n{info.name}/METADATA,,\n{info.name}/RECORD,,\n")
    (folder / f"{name}.py").write_text("VALUE = 1\n")


@pytest.mark.parametrize(("imported", "another"), [("import tinydist", True), ("", False)])
def test_a_distribution_counts_by_its_version_when_the_code_imports_it(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, imported: str, another: bool
) -> None:
    installed = tmp_path / "installed"
    distribution(installed, "1.0")
    monkeypatch.syspath_prepend(str(installed))
    append(project, "helper.py", f"\n{imported}\n")
    before = prepare_spec(project.spec).resolved
    assert ("tinydist" in before.environment["distributions"]) is another  # type: ignore[operator]
    distribution(installed, "1.1")
    assert (run_id(project) != before.run_id) is another


def test_neither_ray_nor_the_command_line_is_part_of_the_environment(project: Project) -> None:
    distributions = prepare_spec(project.spec).resolved.environment["distributions"]
    assert isinstance(distributions, dict)
    assert {"pyarrow", "numpy", "onnx"} <= set(distributions)
    assert {"ray", "typer", "hydra-core", "pytest"}.isdisjoint(distributions)


# -- rule 4: the code --------------------------------------------------------------------------------------------


def test_the_closure_has_the_projects_modules_and_the_steps(project: Project) -> None:
    modules = prepare_spec(project.spec).resolved.modules
    assert {"my_trainer", "helper", "engine.steps.train"} <= set(modules)
    assert "stranger" not in modules
    assert "engine.api" not in modules


# -- rule 9: versions --------------------------------------------------------------------------------------------


def test_another_run_of_the_same_bytes_is_evidence_for_the_same_version(project: Project) -> None:
    first = run(project.spec, inline=True)
    second = run(prepare_spec(project.spec, ["evaluate.gates.0.max=0.9"]), inline=True)
    (version,) = open_home(project.root).registry.versions("numbers")
    assert version.runs == (first.id, second.id)


@pytest.mark.parametrize("override", ["evaluate.gates.0.max=0.0000001", "train.with.mode=raise"])
def test_a_run_that_did_not_pass_makes_no_version(project: Project, override: str) -> None:
    run(prepare_spec(project.spec, [override]), inline=True)
    assert open_home(project.root).registry.models() == []


# -- rule 10: canonical JSON -------------------------------------------------------------------------------------


def test_equal_meaning_has_equal_digests_and_a_number_that_is_none_has_no_digest() -> None:
    assert digest_of({"b": (1, "ü"), "a": None}) == digest_of({"a": None, "b": [1, "ü"]})
    assert digest_of({"a": 1}) != digest_of({"a": 1.0})
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="not JSON compliant"):
            digest_of({"a": value})
