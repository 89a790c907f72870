"""Bad data never reaches main: what `engine lake hook` prints, committed, refuses it. No server runs."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
import yaml
from typer.testing import CliRunner

from engine.cli import lake_hook
from engine.data_check import Grounds, answer
from engine.errors import UsageError
from engine.lake.protocol import Commit, HookRefused, Lake, Signed
from engine.wiring import open_home
from projects import Project, engine, make_project, numbers

BODY = {"repository_id": "numbers", "branch_id": "main", "source_ref": "main"}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return make_project(tmp_path / "project")


def hook(project: Project, *arguments: str) -> str:
    """What `engine lake hook` prints."""
    app = typer.Typer()
    app.callback()(lambda: None)
    lake_hook.register(app)
    done = CliRunner().invoke(app, ["hook", str(project.spec), *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def guarded(project: Project) -> Lake:
    """The project's lake with the hook on main."""
    project.put_bytes("_lakefs_actions/numbers.yaml", hook(project).encode(), "guard")
    return open_home(project.root).lake


def stage(lake: Lake, branch: str, table: pa.Table, path: str = "train.parquet") -> None:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    lake.put("numbers", branch, path, io.BytesIO(buffer.getvalue()))


def bad(rows: int = 50) -> pa.Table:
    return numbers(rows, seed=9).set_column(3, "group", pa.array(["c"] * 30 + ["a"] * (rows - 30)))


def commit(lake: Lake, branch: str) -> Commit:
    return lake.commit("numbers", branch, "more", author="me")


def ask(project: Project, spec: str = "spec.yaml", **body: Any) -> tuple[int, str]:
    grounds = Grounds(lake=open_home(project.root).lake, root=project.root, home=project.home)
    return answer({**BODY, **body}, {"spec": spec}, grounds)


def test_what_is_printed_is_an_action_of_lakefs_on_the_branches_that_the_spec_reads(project: Project) -> None:
    project.write({"data.test.uri": "lakefs://numbers/release-1/test.parquet"})
    found = yaml.load(hook(project, "--url", "https://checks.example.org/"), yaml.BaseLoader)
    assert found["on"] == {event: {"branches": ["main", "release-1"]} for event in ("pre-commit", "pre-merge")}
    (only,) = found["hooks"]
    assert only["type"] == "webhook"
    assert only["properties"]["url"] == "https://checks.example.org/engine/hooks/validate?spec=spec.yaml"


def test_tags_and_commits_need_no_guard(project: Project) -> None:
    lake = open_home(project.root).lake
    lake.create_tag("numbers", "v1", "main")
    project.write({"data.test.uri": f"lakefs://numbers/{lake.resolve('numbers', 'main')}/test.parquet"})
    assert yaml.load(hook(project), yaml.BaseLoader)["on"]["pre-merge"]["branches"] == ["main"]
    project.write({f"data.{name}.uri": f"lakefs://numbers/v1/{name}.parquet" for name in ("train", "test")})
    with pytest.raises(UsageError, match="reads no branch"):
        hook(project)


def test_of_several_repositories_one_is_chosen(project: Project) -> None:
    project.write({"data.test.uri": "lakefs://others/main/test.parquet"})
    with pytest.raises(UsageError, match="reads branches of numbers, others"):
        hook(project)
    assert json.loads(hook(project, "--repository", "others", "--json"))["repository"] == "others"


def test_a_url_that_no_hook_may_have_is_wrong_usage(project: Project) -> None:
    found = engine(project.root, "lake", "hook", "spec.yaml", "--url", "ftp://x")
    assert (found.code, found.out) == (2, "")
    assert "--url ftp://x: its url is none" in found.err


def test_the_commands_of_the_lake_refuse_bad_data_with_the_failure_cases(project: Project) -> None:
    (project.root / "hook.yaml").write_text(engine(project.root, "lake", "hook", "spec.yaml").out)
    target = "lakefs://numbers/main/_lakefs_actions/numbers.yaml"
    assert engine(project.root, "lake", "put", "hook.yaml", target, "--commit", "-m", "guard").code == 0
    stage(open_home(project.root).lake, "main", bad())
    found = engine(project.root, "lake", "commit", "lakefs://numbers/main", "-m", "bad")
    assert (found.code, found.out) == (1, "")
    assert "answered 422: train: 30 failure cases in 50 rows" in found.err
    assert "isin(['a', 'b'])" in found.err
    assert "Traceback" not in found.err
    document = engine(project.root, "lake", "commit", "lakefs://numbers/main", "-m", "bad", "--json").json["error"]
    assert document["code"] == "hook-refused"
    assert "isin" in document["details"]


def test_bad_data_is_not_committed_and_the_reason_is_told(project: Project) -> None:
    lake = guarded(project)
    head = lake.resolve("numbers", "main")
    stage(lake, "main", bad())
    with pytest.raises(HookRefused) as caught:
        commit(lake, "main")
    assert "answered 422: train: 30 failure cases in 50 rows; the worst: column group" in caught.value.fact
    assert "isin" in caught.value.details  # type: ignore[attr-defined]
    assert lake.resolve("numbers", "main") == head


def test_good_data_is_committed_and_the_next_run_finds_it_validated(project: Project) -> None:
    lake = guarded(project)
    stage(lake, "main", numbers(120, seed=5))
    commit(lake, "main")
    plan = engine(project.root, "plan", "spec.yaml", "--json").json
    cached = {step["name"] for step in plan["steps"] if step["status"] == "cached"}
    assert cached == {"ingest.train", "ingest.test", "validate.train", "validate.test"}


def test_bad_data_is_not_merged(project: Project) -> None:
    lake = guarded(project)
    lake.create_branch("numbers", "topic", "main")
    stage(lake, "topic", bad())
    commit(lake, "topic")
    head = lake.resolve("numbers", "main")
    with pytest.raises(HookRefused, match="30 failure cases"):
        lake.merge("numbers", "topic", "main", Signed(message="m"))
    assert lake.resolve("numbers", "main") == head
    stage(lake, "topic", numbers(90, seed=3))
    commit(lake, "topic")
    assert lake.merge("numbers", "topic", "main", Signed(message="m")).parents[0] == head


def test_a_file_that_is_no_parquet_is_refused(project: Project) -> None:
    lake = guarded(project)
    lake.put("numbers", "main", "train.parquet", io.BytesIO(b"these are no columns"))
    with pytest.raises(HookRefused, match=r"train: train\.parquet cannot be read"):
        commit(lake, "main")


def test_what_the_spec_does_not_read_is_not_asked_about(project: Project) -> None:
    lake = guarded(project)
    stage(lake, "main", bad(), "elsewhere.parquet")
    commit(lake, "main")
    lake.create_branch("numbers", "topic", "main")
    stage(lake, "topic", bad())
    assert ask(project, branch_id="topic", source_ref="topic") == (
        200, "spec.yaml reads nothing of lakefs://numbers/topic",
    )  # fmt: skip


def test_data_that_is_not_there_yet_breaks_no_schema(project: Project) -> None:
    project.write({"data.train.uri": "lakefs://numbers/main/new.parquet"})
    status, text = ask(project)
    assert (status, text) == (200, "test: as the spec says\ntrain: nothing is at new.parquet")


def test_every_source_that_is_bad_is_named_first(project: Project) -> None:
    lake = open_home(project.root).lake
    for path in ("train.parquet", "test.parquet"):
        stage(lake, "main", bad(40), path)
    status, text = ask(project)
    assert status == 422
    assert [line.partition(":")[0] for line in text.splitlines()[:2]] == ["test", "train"]


def test_a_schema_that_pandera_does_not_accept_refuses(project: Project) -> None:
    columns = {name: {"is_monotonic": {"increasing": True}} for name in ("x", "y", "z", "group")}
    (project.root / "schema.yaml").write_text(yaml.safe_dump({"schema_type": "dataframe", "columns": columns}))
    status, text = ask(project)
    assert status == 422
    assert "Traceback" not in text


def test_a_schema_with_a_data_type_that_is_none_is_a_problem_of_the_spec(project: Project) -> None:
    columns = {name: {"dtype": "int65"} for name in ("x", "y", "z", "group")}
    (project.root / "schema.yaml").write_text(yaml.safe_dump({"schema_type": "dataframe", "columns": columns}))
    status, text = ask(project)
    assert status == 400
    assert 'no data type "int65"' in text


@pytest.mark.parametrize(
    "spec", ["", "nope.yaml", "../other/spec.yaml", "/etc/passwd", "/etc/x.yaml", "a\n.yaml", "link.yaml"]
)
def test_only_specs_inside_the_project_are_read(project: Project, spec: str) -> None:
    outside = make_project(project.root.parent / "other")
    (project.root / "link.yaml").symlink_to(outside.spec)
    assert ask(project, spec)[0] == 400


def test_an_invalid_spec_says_what_is_wrong_with_it(project: Project) -> None:
    project.write({"sed": 1})
    status, text = ask(project)
    assert status == 400
    assert "1 problem in the spec" in text
    assert 'did you mean "seed"?' in text


@pytest.mark.parametrize("missing", list(BODY))
def test_a_body_that_is_not_lakefs_is_a_bad_request(project: Project, missing: str) -> None:
    assert ask(project, **{missing: None})[0] == 400


def test_a_repository_that_is_not_there_is_a_bad_request(project: Project) -> None:
    project.write({"data.train.uri": "lakefs://nothere/main/train.parquet"})
    assert ask(project, repository_id="nothere")[0] == 400
