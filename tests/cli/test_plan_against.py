"""``engine plan --against``: what a change does to a plan, told from git without running anything of it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from guards.test_guards import HEAVY, command, modules_after
from projects import Done, Project, engine, left_behind, make_project, numbers

Answer = Callable[..., Done]


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=t", "-c", "user.email=t@t.invalid")
    subprocess.run(["git", *identity, "-C", str(folder), *arguments], check=True, capture_output=True)


def commit(project: Project, message: str = "more") -> None:
    git(project.root, "add", "-A")
    git(project.root, "commit", "-q", "-m", message)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project in a git repository with one passed run; tests copy it."""
    project = make_project(tmp_path_factory.mktemp("against") / "project")
    (project.root / ".gitignore").write_text(".engine/\n__pycache__/\n")
    git(project.root, "init", "-q", "-b", "main")
    commit(project, "first")
    assert engine(project.root, "run", "spec.yaml", "--inline").code == 0
    return project


@pytest.fixture
def project(ran: Project, tmp_path: Path) -> Project:
    return Project(shutil.copytree(ran.root, tmp_path / "project"))


@pytest.fixture
def told(project: Project, answer: Answer) -> Callable[..., dict[str, Any]]:
    """What the comparison says as JSON."""

    def ask(*arguments: str, ref: str = "main", spec: str = "spec.yaml") -> dict[str, Any]:
        done = answer(project.root, "plan", spec, *arguments, "--against", ref, "--format", "json")
        assert done.code == 0, done.err + done.out
        assert left_behind(project.home) == []
        found: dict[str, Any] = done.json["against"]
        return found

    return ask


def changes(found: dict[str, Any]) -> dict[str, str]:
    return {step["name"]: step["change"] for step in found["steps"] if step["change"] not in ("same", "always")}


Told = Callable[..., dict[str, Any]]


def test_nothing_that_changed_is_the_same_run(project: Project, told: Told) -> None:
    project.spec.write_text("# a comment\n" + project.spec.read_text())
    found = told()
    assert found["same"] is True
    assert (found["spec"], found["data"], found["code"], changes(found)) == ([], [], [], {})


def test_a_key_of_the_spec_that_differs_changes_its_step_and_what_follows(project: Project, told: Told) -> None:
    project.write({"train.with": {"ridge": 0.5}})
    found = told()
    assert found["spec"] == [{"name": "train.with.ridge", "change": "added", "then": None, "now": 0.5}]
    assert found["steps"][[step["name"] for step in found["steps"]].index("train")]["why"] == [
        "train.with.ridge: none -> 0.5"
    ]
    assert changes(found)["train"] == "changed"
    assert changes(found)["export"] == "follows"
    assert "ingest.train" not in changes(found)


def test_a_gate_that_is_put_first_changes_no_other(project: Project, told: Told) -> None:
    spec = yaml.safe_load(project.spec.read_text())
    spec["evaluate"]["gates"].insert(0, {"metric": "r2", "min": 0.1})
    del spec["evaluate"]["gates"][-1]
    project.spec.write_text(yaml.safe_dump(spec))
    found = told()
    assert changes(found) == {"gate.r2.min": "added", "gate.latency_p99_ms.max": "removed"}
    assert {item["name"].partition("]")[0] for item in found["spec"]} == {
        "evaluate.gates[r2.min",
        "evaluate.gates[latency_p99_ms.max",
    }


def test_a_file_of_code_that_differs_is_named(project: Project, told: Told) -> None:
    (project.root / "helper.py").write_text("NEW = 1\n")
    (project.root / "stranger.py").write_text("NEW = 1\n")
    found = told()
    assert [(item["name"], item["change"]) for item in found["code"]] == [("helper", "changed")]
    assert changes(found)["train"] == "changed"


def test_code_that_came_and_code_that_went_is_named(project: Project, told: Told) -> None:
    trainer = project.root / "my_trainer.py"
    trainer.write_text(trainer.read_text().replace("import helper", "import another as helper"))
    (project.root / "helper.py").rename(project.root / "another.py")
    assert {item["name"]: item["change"] for item in told()["code"]} == {
        "my_trainer": "changed",
        "another": "added",
        "helper": "removed",
    }


def test_a_pin_that_differs_is_told_with_its_files(project: Project, told: Told) -> None:
    project.put("later.parquet", numbers(50, seed=5))
    project.write({"data.train.uri": "lakefs://numbers/main/later.parquet"})
    (pin,) = told()["data"]
    assert pin["name"] == "train"
    assert pin["then"]["uri"].endswith("train.parquet")
    assert pin["now"]["uri"].endswith("later.parquet")
    assert {(item["name"], item["change"]) for item in pin["files"]} == {
        ("later.parquet", "added"),
        ("train.parquet", "removed"),
    }


def test_a_schema_counts_by_its_content(project: Project, told: Told) -> None:
    schema = project.root / "schema.yaml"
    schema.write_text(schema.read_text().replace("max_value: 1000", "max_value: 2000"))
    assert {item["name"] for item in told()["spec"]} == {
        f"data.{name}.schema.columns.x.in_range.max_value" for name in ("train", "test")
    }


def test_what_is_operation_differs_in_the_spec_and_runs_nothing(project: Project, told: Told) -> None:
    project.write({"serve": {"workers": 2}})
    found = told()
    assert ([item["name"] for item in found["spec"]], found["same"]) == (["serve.workers"], True)


def test_overrides_count_on_both_sides(told: Told) -> None:
    assert told("seed=9")["same"] is True


# -- what is odd about the ref -----------------------------------------------------------------------------------------


def test_a_spec_that_is_new_is_said_to_be_new(project: Project, told: Told) -> None:
    project.write(name="other.yaml")
    found = told(spec="other.yaml")
    assert found["note"] == "other.yaml is new: main does not have it"
    assert {step["change"] for step in found["steps"]} == {"added"}


def test_a_spec_that_was_renamed_is_compared_with_what_it_was(project: Project, told: Told) -> None:
    (project.root / "specs").mkdir()
    project.spec.unlink()
    project.write(
        {"data.train.schema": "../schema.yaml", "data.test.schema": "../schema.yaml"}, name="specs/model.yaml"
    )
    found = told(spec="specs/model.yaml")
    assert found["note"] == "specs/model.yaml was spec.yaml in main"
    assert found["same"] is True


def test_a_spec_that_was_invalid_is_said_to_have_been(project: Project, told: Told) -> None:
    project.write({"trian": {}, "evaluate.metrics": ["mea"]})
    commit(project)
    project.write()
    found = told()
    assert found["note"].startswith("the spec of main is invalid: spec.yaml:")
    assert "more)" in found["note"]


def test_a_spec_whose_data_is_gone_is_said_not_to_be_plannable(project: Project, told: Told) -> None:
    project.write({"data.train.uri": "lakefs://numbers/gone/train.parquet"})
    commit(project)
    project.write()
    assert told()["note"].startswith("the spec of main cannot be planned: spec.yaml:")


def test_code_that_was_not_there_yet_is_not_taken_from_the_working_tree(project: Project, answer: Answer) -> None:
    git(project.root, "rm", "-q", "my_trainer.py")
    commit(project)
    git(project.root, "checkout", "-q", "HEAD~1", "--", "my_trainer.py")
    done = engine(project.root, "plan", "spec.yaml", "--against", "main", "--json")
    assert "my_trainer" in done.json["against"]["note"]


@pytest.mark.parametrize(
    ("ref", "says"),
    [
        ("mian", "no git ref 'mian'; did you mean \"main\"?"),
        ("origin/main", "fetch it first: git fetch origin main"),
        ("--output=x", "no git ref '--output=x'"),
        ("", "no git ref ''"),
        ("main:spec.yaml", "no git ref"),
    ],
)
def test_a_ref_that_does_not_exist_is_not_found(project: Project, answer: Answer, ref: str, says: str) -> None:
    done = answer(project.root, "plan", "spec.yaml", f"--against={ref}")
    assert done.code == 2
    assert says in done.err.replace("\n ", ";")
    assert left_behind(project.home) == []


def test_outside_of_a_repository_is_a_clear_error(tmp_path: Path, answer: Answer) -> None:
    project = make_project(tmp_path / "project")
    done = answer(project.root, "plan", "spec.yaml", "--against", "main", "--format", "json")
    assert done.code == 2
    assert done.json["error"]["message"].startswith("not a git repository")


def test_without_git_is_a_clear_error(project: Project, answer: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    done = answer(project.root, "plan", "spec.yaml", "--against", "main")
    assert (done.code, "git cannot be run" in done.err) == (2, True)


# -- nothing of it is run ----------------------------------------------------------------------------------------------


def test_neither_code_nor_hooks_nor_filters_of_the_ref_are_run(project: Project, told: Told, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    script = tmp_path / "script"
    script.write_text(f"#!/bin/sh\ntouch {mark}\ncat\n")
    script.chmod(0o755)
    (project.root / "helper.py").write_text(f"import pathlib\npathlib.Path({str(mark)!r}).touch()\n")
    (project.root / ".gitattributes").write_text(
        "* filter=evil diff=evil ident export-subst\nhelper.py export-ignore\n"
    )
    commit(project)
    hooks = project.root / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    for name in ("post-checkout", "post-index-change", "reference-transaction", "pre-auto-gc", "fsmonitor-watchman"):
        shutil.copy(script, hooks / name)
    for key in ("filter.evil.smudge", "filter.evil.clean", "filter.evil.process", "diff.evil.textconv",
                "diff.external", "core.fsmonitor", "core.pager"):  # fmt: skip
        git(project.root, "config", key, str(script))
    mark.unlink(missing_ok=True)
    git(project.root, "config", "filter.evil.required", "true")
    (project.root / "helper.py").write_text("NEW = 1\n")
    assert [item["name"] for item in told()["code"]] == ["helper"]
    assert not mark.exists()


def test_a_link_in_the_ref_leads_nowhere(project: Project, told: Told, tmp_path: Path) -> None:
    (tmp_path / "secret.yaml").write_text("columns: {secret: {}}\n")
    (project.root / "schema.yaml").unlink()
    (project.root / "schema.yaml").symlink_to(tmp_path / "secret.yaml")
    commit(project)
    git(project.root, "checkout", "-q", "HEAD~1", "--", "schema.yaml")
    found = told()
    assert found["note"].startswith("the spec of main is invalid")
    assert "secret" not in json.dumps(found)


def test_a_project_below_the_top_is_compared_from_any_folder(project: Project, answer: Answer, tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    inner = Project(project.root.rename(top / "inner"))
    shutil.rmtree(inner.root / ".git")
    git(top, "init", "-q", "-b", "main")
    git(top, "add", "-A")
    git(top, "commit", "-q", "-m", "all")
    inner.write({"seed": 8})
    done = answer(tmp_path, "plan", str(inner.spec), "--against", "HEAD", "--json")
    assert [item["name"] for item in done.json["against"]["spec"]] == ["seed"]


def test_a_comparison_imports_nothing_heavy(project: Project) -> None:
    project.write({"seed": 8})
    found = modules_after(command("plan", "spec.yaml", "--against", "main"), project.root)
    assert HEAVY.isdisjoint(found)


# -- how it looks ------------------------------------------------------------------------------------------------------


def test_the_lines_say_what_differs_and_what_each_step_would_do(project: Project, answer: Answer) -> None:
    project.write({"train.with": {"ridge": 0.5}})
    (project.root / "helper.py").write_text("NEW = 1\n")
    out = answer(project.root, "plan", "spec.yaml", "--against", "main").out
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[0].startswith("numbers against main (")
    assert "train.with.ridge (none) -> 0.5" in lines
    assert "helper.py changed" in lines
    assert any(line.startswith("train changed would run train.with.ridge: none -> 0.5; code") for line in lines)
    assert any(line.startswith("export changed would run code changed: helper.py") for line in lines)
    assert "now: 4 to run, 6 that may, 4 cached" in lines[-1]


def test_the_markdown_escapes_what_a_spec_says(project: Project, answer: Answer) -> None:
    project.write({"features.numeric": ["x", "z|<b>@all</b>`"], "data.train.schema": None, "data.test.schema": None})
    out = answer(project.root, "plan", "spec.yaml", "--against", "main", "--format", "md").out
    assert out.startswith("## Plan: `numbers` against `main`\n")
    assert "### Spec" in out
    in_spec, in_steps = [line for line in out.splitlines() if "features.numeric.1" in line]
    assert in_spec == "| `features.numeric.1` | `z` | `` z\\|<b>@all</b>` `` |"
    assert "z\\|&lt;b&gt;@<!-- -->all&lt;/b&gt;\\`" in in_steps


def test_markdown_needs_no_ref(project: Project, answer: Answer) -> None:
    out = answer(project.root, "plan", "spec.yaml", "seed=9", "--format", "md").out
    assert out.startswith("## Plan: `numbers`\n")
    assert (
        "| `train` | would run | train.seed: 7 \\-\\> 9 |" in out
        or "| `train` | would run | train.seed: 7 -&gt; 9 |" in out
    )


def test_format_json_is_json(project: Project, answer: Answer) -> None:
    both = [answer(project.root, "plan", "spec.yaml", *form).out for form in (["--json"], ["--format", "json"])]
    assert both[0] == both[1]
    assert json.loads(both[0])["recorded"] is True
    assert answer(project.root, "plan", "none.yaml", "--format", "json").json["error"]["code"] == "not-found"


@pytest.mark.parametrize(("change", "code"), [({}, 0), ({"seed": 8}, 1)])
def test_the_exit_code_says_whether_something_would_run(
    project: Project, answer: Answer, change: dict[str, object], code: int
) -> None:
    project.write(change)
    assert answer(project.root, "plan", "spec.yaml", "--against", "main", "--exit-code").code == code
