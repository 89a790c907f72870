"""Reports of a run where they are asked for, and what CI services get without being asked."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from engine.recall import recall
from engine.wiring import open_home
from projects import Done, Project, engine, make_project

Answer = Callable[..., Done]
REFUSE = "evaluate.gates.0.max=0.0000001"


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with one passed run."""
    made = make_project(tmp_path_factory.mktemp("reports") / "project")
    assert engine(made.root, "run", "spec.yaml", "--inline").code == 0
    return made


@pytest.fixture
def project(done: Project, tmp_path: Path) -> Project:
    return Project(shutil.copytree(done.root, tmp_path / "project"))


def outputs_in(path: Path) -> dict[str, str]:
    """GITHUB_OUTPUT as the runner reads it."""
    lines, found = path.read_text().splitlines(), {}
    while lines:
        name, delimiter = lines.pop(0).split("<<")
        end = lines.index(delimiter)
        found[name] = "\n".join(lines[:end])
        del lines[: end + 1]
    return found


def sarif_location(path: Path) -> Any:
    return json.loads(path.read_text())["runs"][0]["results"][0]["locations"][0]["physicalLocation"]


def test_every_format_is_written_for_a_refused_run(project: Project, answer: Answer) -> None:
    names = ("junit", "sarif", "md", "openmetrics", "dotenv", "json", "html")
    asked = [part for name in names for part in ("--report", f"{name}=out/report.{name}")]
    project.write({"evaluate.gates.0.max": 0.0000001})
    assert answer(project.root, "run", "spec.yaml", "--inline", *asked).code == 1
    assert {path.name for path in (project.root / "out").iterdir()} == {f"report.{name}" for name in names}
    suites = ElementTree.parse(project.root / "out/report.junit").getroot()
    assert (suites.get("tests"), suites.get("failures")) == ("6", "1")
    line = next(n for n, text in enumerate(project.spec.read_text().splitlines(), 1) if "1.0e-07" in text)
    location = sarif_location(project.root / "out/report.sarif")
    assert location["artifactLocation"]["uri"] == "spec.yaml"
    assert location["region"]["startLine"] == line
    assert "ENGINE_STATUS=refused\n" in (project.root / "out/report.dotenv").read_text()


def test_a_limit_that_an_override_set_is_placed_at_its_gate_in_the_file(project: Project, answer: Answer) -> None:
    assert answer(project.root, "run", "spec.yaml", REFUSE, "--inline", "--report", "sarif=r.sarif").code == 1
    location = sarif_location(project.root / "r.sarif")
    line = next(n for n, text in enumerate(project.spec.read_text().splitlines(), 1) if "max: 1.0" in text)
    assert (location["artifactLocation"]["uri"], location["region"]["startLine"]) == ("spec.yaml", line)


def test_an_answer_that_is_recalled_is_reported_and_told_as_one_that_is_not(
    project: Project, answer: Answer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "output"))
    names = ("junit", "sarif", "md", "openmetrics", "dotenv", "json", "html")
    asked = [part for name in names for part in ("--report", f"{name}=out/report.{name}")]
    project.write({"evaluate.gates.0.max": 0.0000001})

    def found() -> list[object]:
        done = answer(project.root, "run", "spec.yaml", "--inline", *asked)
        commands = [line for line in done.err.splitlines() if line.startswith("::error ")]
        files = [path.read_bytes() for path in sorted((project.root / "out").iterdir())]
        return [done.code, done.out, commands, files]

    for _ in range(2):  # the folder has its final form after the first
        assert found()[0] == 1
    assert recall("spec.yaml", []) is not None
    recalled = found()
    shutil.rmtree(project.home / "cache" / "recall")
    assert found() == recalled
    assert "::error file=spec.yaml,line=" in str(recalled[2])
    assert (tmp_path / "output").read_text().count("status<<") == 4


def test_places_are_named_from_the_top_of_the_repository(project: Project, answer: Answer) -> None:
    (project.root.parent / ".git").mkdir()
    answer(project.root, "run", "spec.yaml", REFUSE, "--inline", "--report", "sarif=r.sarif")
    assert sarif_location(project.root / "r.sarif")["artifactLocation"]["uri"] == "project/spec.yaml"


def test_a_failed_step_is_reported_at_its_place(project: Project, answer: Answer) -> None:
    asked = ("--report", "junit=r.xml", "--report", "sarif=r.sarif")
    assert answer(project.root, "run", "spec.yaml", "train.with.mode=raise", "--inline", *asked).code == 3
    suites = ElementTree.parse(project.root / "r.xml").getroot()
    assert suites.get("errors") == "1"
    assert len(suites.findall(".//skipped")) == 6
    assert sarif_location(project.root / "r.sarif")["region"]["startLine"] > 1


def test_a_path_that_cannot_be_written_is_said_before_the_run(project: Project, answer: Answer) -> None:
    found = answer(project.root, "run", "spec.yaml", "seed=99", "--inline", "--report", "md=spec.yaml/r.md")
    assert found.code == 3
    assert "is no folder" in found.err
    assert len(answer(project.root, "runs", "list", "--json").json["runs"]) == 1


def test_the_markdown_stands_against_production_on_the_same_rows(project: Project, answer: Answer) -> None:
    open_home(project.root).registry.set_alias("numbers", "production", 1)
    assert answer(project.root, "run", "spec.yaml", "train.with.ridge=5", "--inline", "--report", "md=r.md").code == 0
    text = (project.root / "r.md").read_text()
    assert "production (version 1)" in text
    assert "on the same rows" in text
    assert re.search(r"\| `mae` \|.*\| worse \|", text)


def test_without_a_gate_on_it_production_is_taken_from_the_registry(project: Project, answer: Answer) -> None:
    open_home(project.root).registry.set_alias("numbers", "production", 1)
    project.write({"evaluate.gates": [{"metric": "mae", "max": 1.0}], "train.with": {"ridge": 5.0}})
    answer(project.root, "run", "spec.yaml", "--inline", "--report", "md=r.md")
    assert "production: version 1" in (project.root / "r.md").read_text()
    answer(project.root, "run", "spec.yaml", "train.with.ridge=1.0e-6", "--inline", "--report", "md=own.md")
    assert "production" not in (project.root / "own.md").read_text(), "its own model is no other one to compare with"


def test_github_is_told_without_being_asked(
    project: Project, answer: Answer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    summary, output = tmp_path / "summary", tmp_path / "output"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    monkeypatch.setenv("GITHUB_OUTPUT", str(output))
    found = answer(project.root, "run", "spec.yaml", REFUSE, "--inline", "--json")
    assert found.code == 1
    assert summary.read_text().startswith("before\n## ")
    assert outputs_in(output)["run_id"] == found.json["run_id"]
    assert outputs_in(output)["status"] == "refused"
    (line,) = [line for line in found.err.splitlines() if line.startswith("::error ")]
    assert re.match(
        r"::error file=spec\.yaml,line=\d+,col=\d+,title=numbers%3A gate refuses::gate mae\.max: mae ", line
    )


def test_the_runs_of_a_sweep_are_all_in_the_summary_and_none_is_the_output(
    project: Project, answer: Answer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    summary, output = tmp_path / "summary", tmp_path / "output"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    monkeypatch.setenv("GITHUB_OUTPUT", str(output))
    asked = ("--inline", "--report", "junit=out/r.xml")
    assert answer(project.root, "run", "spec.yaml", "-m", "seed=7,8", *asked).code == 0
    assert summary.read_text().count("## \u2705 numbers: PASSED") == 2
    assert not output.exists()
    assert len(list((project.root / "out").iterdir())) == 2


def test_a_file_of_github_that_cannot_be_written_changes_no_exit_code(
    project: Project, answer: Answer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "none" / "summary"))
    found = answer(project.root, "run", "spec.yaml")
    assert found.code == 0
    assert found.err.count("warning: ") == 2


def test_what_a_step_printed_is_no_command_to_github(
    project: Project, answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    trainer = project.root / "my_trainer.py"
    trainer.write_text(trainer.read_text().replace('print("mode", self.mode)', 'print("::set-output name=x::evil")'))
    found = subprocess.run(
        [sys.executable, "-m", "engine.cli.main", "run", "spec.yaml", "train.with.mode=raise", "--inline"],
        cwd=project.root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    lines = found.stdout.splitlines()
    evil = [number for number, line in enumerate(lines) if "evil" in line]
    assert evil
    assert all(is_stopped(lines, number) for number in evil)
    assert not is_stopped(lines, next(number for number, line in enumerate(lines) if line.startswith("::error ")))


def is_stopped(lines: list[str], number: int) -> bool:
    """Whether the runner takes no commands at a line."""
    token = ""
    for line in lines[:number]:
        if line.startswith("::stop-commands::"):
            token = line.removeprefix("::stop-commands::")
        elif token and line == f"::{token}::":
            token = ""
    return bool(token)


def test_gitlab_gets_a_section_in_its_log(project: Project, answer: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITLAB_CI", "true")
    found = answer(project.root, "run", "spec.yaml", "--json")
    assert found.json["status"] == "passed"
    starts = re.findall(r"\x1b\[0Ksection_start:(\d+):(engine_\w+)\[collapsed=true\]\r\x1b\[0K(.*)", found.err)
    ((_, name, title),) = starts
    assert title == "Engine report: numbers passed"
    assert re.search(rf"\x1b\[0Ksection_end:\d+:{name}\r\x1b\[0K", found.err)


def test_a_run_of_a_broken_spec_is_told_where_reports_were_asked_for(
    project: Project, answer: Answer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    project.write({"evaluate.metrics": ["auk"]})
    asked = [part for name in ("junit", "sarif", "md") for part in ("--report", f"{name}=out/report.{name}")]
    found = answer(project.root, "run", "spec.yaml", "--inline", *asked)
    assert found.code == 2
    assert "::error file=spec.yaml,line=" in found.err
    assert ElementTree.parse(project.root / "out/report.junit").getroot().get("failures") != "0"
    assert json.loads((project.root / "out/report.sarif").read_text())["runs"][0]["results"]
    assert "auk" in (project.root / "out/report.md").read_text()
    assert "was not run" in (tmp_path / "summary.md").read_text()


def test_data_that_is_not_there_is_told_to_github(
    project: Project, answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    found = answer(project.root, "run", "spec.yaml", "data.train.uri=lakefs://nowhere/main/a.csv", "--inline")
    assert found.code == 2
    assert "::error title=" in found.err
