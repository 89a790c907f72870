"""Whatever byte of a run is altered, `engine verify` names what it belongs to; and a run that was left alone is clean."""

from __future__ import annotations

import json
import random
import re
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.digest import canonical_json, sha256
from engine.record.model import RunRecord
from engine.record.store import digests
from engine.record.verify import Mismatch, Seen, verify_home
from engine.store.objects import ObjectStore
from engine.store.sqlite import close_kept
from engine.wiring import open_home
from projects import Project, engine, make_project, numbers

MUTATIONS = 1000
README = Path(__file__).resolve().parents[2] / "README.md"


@pytest.fixture(scope="module")
def passed(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with a run that passed, one that was refused and one that failed. Nobody changes it for good."""
    project = make_project(tmp_path_factory.mktemp("verified") / "project")
    for overrides, code in ([], 0), (["evaluate.gates.0.max=0.000001"], 1), (["train.with.mode=raise"], 3):
        assert engine(project.root, "run", "spec.yaml", *overrides, "--inline").code == code
    close_kept()
    return project


@pytest.fixture
def copied(passed: Project, tmp_path: Path) -> Project:
    """The same, to be changed."""
    return Project(shutil.copytree(passed.root, tmp_path / "project"))


def found(project: Project) -> list[Mismatch]:
    """What does not match in a project's home."""
    try:
        return list(verify_home(open_home(project.root).archive, Seen()))
    finally:
        close_kept()


def files(project: Project) -> list[Path]:
    """Every file that has bytes in a project's home."""
    below = sorted(path for path in project.home.rglob("*") if path.is_file() and path.stat().st_size)
    assert not [path for path in below if path.name.endswith(("-wal", "-shm"))]
    return below


@contextmanager
def altered(path: Path, position: int, value: int) -> Iterator[None]:
    """One byte of a file has another value inside; its size and mode are the same."""
    mode, before = path.stat().st_mode, path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(before[:position] + bytes([value]) + before[position + 1 :])
    try:
        yield
    finally:
        path.write_bytes(before)
        path.chmod(mode)


def test_runs_that_were_left_alone_are_as_they_were_recorded(passed: Project) -> None:
    assert found(passed) == []


KINDS: dict[str, str] = {
    "the run's spec and operation": r"runs/\w+/(spec|operation/\d+)\.json",
    "records and their digests": r"runs/\w+/executions/.*",
    "artifacts, sources, manifests": r"objects/\w\w/\w+",
    "the data, as it was committed": r"objects/packs/.*\.pack",
    "the index of the data": r"objects/packs/index\.db",
    "the lake's branches, commits and trees": r"lake/lake\.db",
    "the registry and its ledger": r"registry\.db",
    "sums of these databases": r".*\.db\.sum",
    "cached steps, and what speeds up planning": r"cache/.*(?<!\.sum)",
    "the home's key and its seals": r"(home\.key|seals/.*)",
}
"""What a file of the home is, as the README has it."""


def by_kind(project: Project) -> dict[str, list[Path]]:
    """Every file by what it is; none is left out."""
    found: dict[str, list[Path]] = {kind: [] for kind in KINDS}
    for path in files(project):
        name = str(path.relative_to(project.home))
        (kind,) = [kind for kind, pattern in KINDS.items() if re.fullmatch(pattern, name)]
        found[kind].append(path)
    return found


def test_every_one_of_a_thousand_altered_bytes_anywhere_in_the_home_is_found(passed: Project) -> None:
    choose = random.Random(7)
    altered_bytes, seen = Counter[str](), Counter[str]()
    for kind, paths in by_kind(passed).items():
        for number in range(MUTATIONS // len(KINDS)):
            path = paths[number] if number < len(paths) else choose.choice(paths)
            before = path.read_bytes()
            position = choose.randrange(len(before))
            with altered(path, position, before[position] ^ (1 << choose.randrange(8))):
                altered_bytes[kind] += 1
                seen[kind] += bool(found(passed))
    assert seen == altered_bytes
    assert altered_bytes.total() == MUTATIONS
    assert found(passed) == []
    table = "".join(f"| {kind} | {altered_bytes[kind]} | {seen[kind]} |\n" for kind in KINDS)
    assert table in README.read_text()


def whats(project: Project) -> set[str]:
    """The kinds of things that do not match."""
    return {item.what for item in found(project)}


def execute(path: Path, *statements: str) -> None:
    """Change a database as anybody can."""
    with closing(sqlite3.connect(path)) as db:
        for statement in statements:
            db.execute(statement)
        db.commit()


def records(project: Project, status: str) -> Path:
    """The folder of the record of the run with that status."""
    for path in project.home.glob("runs/*/executions/1/record.json"):
        if RunRecord(run_id="", execution=1, statement=json.loads(path.read_bytes())).status == status:
            return path.parent
    raise AssertionError(status)


def rewrite(folder: Path, old: str, new: str) -> None:
    """Forge a record: the change, and digests that fit it."""
    whole = (folder / "record.json").read_bytes().replace(old.encode(), new.encode())
    for name, data in ("record.json", whole), ("digests.json", canonical_json(digests(json.loads(whole), whole))):
        (folder / name).unlink()
        (folder / name).write_bytes(data)


def test_a_copied_record_with_another_metric_and_digests_that_fit_is_in_no_ledger(copied: Project) -> None:
    folder = records(copied, "passed")
    forged = Path(shutil.copytree(folder, folder.with_name("2")))
    rewrite(forged, '"status":"passed"', '"status":"failed"')
    run_id = folder.parent.parent.name
    expected = [("record", f"{run_id}/executions/2", "no entry of the ledger names it")]
    assert [(item.what, item.name, item.fact) for item in found(copied)] == expected
    assert engine(copied.root, "verify", run_id[:8]).code == 1


def test_a_forged_record_never_answers_a_run(copied: Project) -> None:
    folder = records(copied, "passed")
    rewrite(Path(shutil.copytree(folder, folder.with_name("2"))), '"executor":"inline"', '"executor":"forged"')
    done = engine(copied.root, "run", "spec.yaml", "--inline", "--json")
    assert done.code == 3
    assert "the registry knows nothing of" in done.json["error"]["message"]
    fresh = engine(copied.root, "run", "spec.yaml", "--inline", "--fresh", "--json")
    assert fresh.code == 0
    assert fresh.json["executor"] == "inline"


@pytest.mark.parametrize("move", [shutil.copytree, shutil.move], ids=["copied", "renamed"])
def test_a_record_under_another_number_is_not_the_execution_that_the_ledger_has(copied: Project, move: Any) -> None:
    folder = records(copied, "passed")
    move(folder, folder.with_name("5"))
    assert [item.fact for item in found(copied)] == ["the ledger has this record as execution 1"]


def test_without_its_registry_a_home_is_not_as_it_was_and_runs_nothing(copied: Project) -> None:
    for path in copied.home.glob("registry.db*"):
        path.unlink()
    assert [(item.what, item.fact) for item in found(copied)] == [("ledger", "it is gone; 3 records were in it")]
    done = engine(copied.root, "run", "spec.yaml", "seed=5", "--inline", "--json")
    assert (done.code, done.json["error"]["message"]) == (3, "the registry is gone, but runs are recorded here")
    assert not (copied.home / "registry.db").exists()


def test_records_that_an_older_registry_does_not_have_are_named(copied: Project) -> None:
    registry = copied.home / "registry.db"
    before = {path: path.read_bytes() for path in copied.home.glob("registry.db*")}
    assert engine(copied.root, "run", "spec.yaml", "train.with.ridge=0.1", "--inline").code == 0
    close_kept()
    for path in copied.home.glob("registry.db*"):
        path.unlink()
    for path, data in before.items():
        path.write_bytes(data)
    assert registry.is_file()
    assert [(item.what, item.fact) for item in found(copied)] == [("record", "no entry of the ledger names it")]


def test_a_record_whose_process_died_before_it_was_entered_is_no_mismatch_and_entered_later(copied: Project) -> None:
    home = open_home(copied.root)
    (run_id,) = [run for run in home.records.run_ids() if home.records.latest(run).status == "passed"]  # type: ignore[union-attr]
    folder = records(copied, "passed")
    rewrite(Path(shutil.copytree(folder, folder.with_name("2"))), '"executor":"inline"', '"executor":"later"')
    late = home.records.read(run_id, 2)
    home.registry.announce(run_id, late.digest)
    assert found(copied) == []
    assert engine(copied.root, "run", "spec.yaml", "--inline").code == 0
    assert open_home(copied.root).registry.knows(late.digest)
    assert found(copied) == []


def test_a_database_without_its_sum_is_named(copied: Project) -> None:
    (copied.home / "registry.db.sum").unlink()
    assert [(item.what, item.name, item.fact) for item in found(copied)] == [
        ("database", "registry.db", "its sum is gone")
    ]


def test_an_operation_that_was_taken_away_is_missed(copied: Project) -> None:
    folder = records(copied, "passed").parent.parent
    (folder / "operation" / "1.json").unlink()
    assert [(item.what, item.fact) for item in found(copied)] == [("operation", "it is gone")]


def test_what_is_no_run_among_the_runs_is_named(copied: Project) -> None:
    (copied.home / "runs" / "notes").mkdir()
    assert [(item.what, item.name) for item in found(copied)] == [("run", "notes")]


def test_what_the_lake_does_later_is_no_mismatch(copied: Project) -> None:
    copied.put("train.parquet", numbers(300, seed=5))
    assert found(copied) == []


def test_a_forged_record_with_digests_that_fit_is_not_what_the_ledger_names(copied: Project) -> None:
    rewrite(records(copied, "passed"), '"status":"passed"', '"status":"failed"')
    assert whats(copied) == {"record"}


@pytest.mark.parametrize("status", ["passed", "refused", "failed"])
def test_a_record_that_was_taken_away_is_missed(copied: Project, status: str) -> None:
    run_id = records(copied, status).parent.parent.name
    shutil.rmtree(copied.home / "runs" / run_id)
    assert [(item.what, item.name) for item in found(copied)] == [("record", run_id)]


@pytest.mark.parametrize(
    "statement",
    [
        "delete from ledger where number = 2",
        "delete from ledger where number = 3",
        "update ledger set event = replace(event, 'passed', 'failed')",
        "update versions set digest = lower(hex(randomblob(32)))",
        "insert into aliases values ('numbers', 'production', 1)",
        "delete from version_runs",
        "update runs set status = 'passed'",
        "update versions set created = '2020-01-01T00:00:00.000Z'",
    ],
)
def test_a_change_of_the_registry_that_a_database_would_allow_is_found(copied: Project, statement: str) -> None:
    execute(copied.home / "registry.db", statement)
    assert "ledger" in whats(copied)


def test_a_lost_object_is_named_with_every_artifact_that_it_was(copied: Project) -> None:
    digest = open_home(copied.root).records.newest_of("numbers").subjects["ingest.train/table"]  # type: ignore[union-attr]
    ObjectStore(copied.home / "objects").path(digest).unlink()
    missing = [item for item in found(copied) if digest[:12] in item.name]
    assert {item.what for item in missing} == {"artifact"}
    assert all("ingest.train/table" in item.name or "validate.train/table" in item.name for item in missing)
    assert len({item.name.split()[0] for item in missing}) == 3  # in each of the runs


def test_data_whose_commit_is_gone_is_named(copied: Project) -> None:
    open_home(copied.root).lake.delete_repository("numbers")
    missing = [item for item in found(copied) if item.what == "data"]
    assert len({item.name for item in missing}) == 6  # two sources of three runs
    assert all("lakefs://numbers/main/" in item.name for item in missing)


def test_a_run_alone_is_verified_with_all_that_it_names(copied: Project) -> None:
    run_id = records(copied, "passed").parent.parent.name
    assert engine(copied.root, "verify", run_id[:8]).code == 0
    source = sha256((copied.root / "helper.py").read_bytes())
    path = ObjectStore(copied.home / "objects").path(source)
    path.chmod(0o600)
    path.write_bytes(b"altered")
    for subject in (run_id[:8], "numbers", "numbers:1"):
        done = engine(copied.root, "verify", subject, "--json")
        assert done.code == 1
        assert [(item["what"], item["name"].split()[1:3]) for item in done.json["mismatches"]] == [
            ("source", ["code", "helper"])
        ]


@pytest.mark.parametrize("subject", ["ffffffff", "nobody", "numbers@production", "numbers:7", "NOT A NAME"])
def test_what_is_neither_a_run_nor_a_model_is_said(passed: Project, subject: str) -> None:
    done = engine(passed.root, "verify", subject, "--json")
    assert (done.code, done.err) == (2, "")
    assert done.json["error"]["hint"]


def test_nothing_to_verify_is_no_mismatch_and_makes_nothing(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").touch()
    assert engine(tmp_path, "verify").code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["pyproject.toml"]
