"""An issue about a run that does not pass: opened once, with nothing that data could have put into it.

The services themselves are not reached: a program of the tool's name keeps issues in a file, finds what the tool would
find, and writes down how it was called.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from engine.errors import Failed, UsageError
from engine.report.issue import SERVICES, Issue, issue_of, open_issue, parse_service
from engine.report.model import Report
from projects import Done, make_project
from report import samples

FAKE = """#!{python}
import json, os, pathlib, sys
state = pathlib.Path({state!r})
given = json.loads(state.read_text())
arguments = sys.argv[1:]
text = sys.stdin.read()
given["calls"].append(dict(arguments=arguments, text=text))
flags = dict(part.split("=", 1) for part in arguments if part.startswith("--") and "=" in part)
code = 0
if given["broken"]:
    print(given["broken"], file=sys.stderr)
    code = 4
elif arguments[:2] == ["issue", "list"]:
    wanted = flags.get("--search", "").split('"')[-2 if '"' in flags.get("--search", "") else -1]
    found = [] if wanted and given["late"] else [i for i in given["issues"] if wanted in i["body"]]
    print(json.dumps([dict(url=i["url"], web_url=i["url"], body=i["body"], description=i["body"]) for i in found]))
elif arguments[:2] == ["label", "create"]:
    code = 1 if arguments[2] in given["labels"] or not given["may_label"] else 0
    given["labels"] += [arguments[2]] if code == 0 else []
elif arguments[:2] == ["issue", "create"]:
    asked = [part.split("=", 1)[1] for part in arguments if part.startswith("--label=")]
    if {tool!r} == "gh" and set(asked) - set(given["labels"]):
        print(f"could not add label: {{asked[0]!r}} not found", file=sys.stderr)
        code = 1
    else:
        body = text if flags.get("--body-file") == "-" else flags["--description"]
        url = f"https://forge.test/issues/{{len(given['issues']) + 1}}"
        given["issues"].append(dict(title=flags["--title"], body=body, labels=asked, url=url))
        print(url)
state.write_text(json.dumps(given))
sys.exit(code)
"""
TOOLS = {"gh": "gh", "gitlab": "glab"}


@dataclass(frozen=True)
class Forge:
    """What the tool's stand-in knows."""

    state: Path

    def say(self, **changes: object) -> None:
        self.state.write_text(json.dumps({**json.loads(self.state.read_text()), **changes}))

    @property
    def issues(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.state.read_text())["issues"]
        return found

    @property
    def calls(self) -> list[list[str]]:
        return [call["arguments"] for call in json.loads(self.state.read_text())["calls"]]


@pytest.fixture
def forge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Forge:
    state, folder = tmp_path / "state.json", tmp_path / "bin"
    empty = {"calls": [], "issues": [], "labels": [], "may_label": True, "late": False, "broken": ""}
    state.write_text(json.dumps(empty))
    folder.mkdir()
    for tool in TOOLS.values():
        (folder / tool).write_text(FAKE.format(python=sys.executable, state=str(state), tool=tool))
        (folder / tool).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return Forge(state)


def issue(report: Report, job: str = "") -> Issue:
    found = issue_of(report, job)
    assert found is not None
    return found


EITHER = pytest.mark.parametrize("name", TOOLS)


@EITHER
def test_an_issue_has_a_title_a_body_labels_and_its_fingerprint(forge: Forge, name: str, tmp_path: Path) -> None:
    said = issue(samples.refused(), "https://forge.test/jobs/7")
    opened = open_issue(said, parse_service(name), tmp_path)
    assert (opened.address, opened.new) == ("https://forge.test/issues/1", True)
    (made,) = forge.issues
    assert made["title"] == "late-arrivals: refused by gate roc_auc.min"
    assert made["labels"] == ["engine", "engine-refused"]
    assert "0.64996 is below 0.65" in made["body"]
    assert "[The job](https://forge.test/jobs/7)" in made["body"]
    assert made["body"].endswith(f"\n\n<!-- engine-fingerprint: {said.fingerprint} -->\n")


@EITHER
@pytest.mark.parametrize("late", [False, True], ids=["found", "not in the search yet"])
def test_there_is_no_second_issue_about_the_same(forge: Forge, name: str, tmp_path: Path, late: bool) -> None:
    forge.say(late=late)
    service = parse_service(name)
    other = samples.run(**{**samples.refused().run, "run_id": "0" * 64, "seconds": 99.0})
    open_issue(issue(samples.refused()), service, tmp_path)
    again = open_issue(issue(Report(run=other)), service, tmp_path)
    assert (again.address, again.new) == ("https://forge.test/issues/1", False)
    assert len(forge.issues) == 1


def test_other_gates_and_other_failures_are_other_issues() -> None:
    gates = [{**samples.gate("brier.max", 0.3, 0.2, ""), "passed": False}]
    reports = [
        samples.refused(),
        replace(samples.refused(), run={**samples.refused().run, "gates": gates}),
        replace(samples.refused(), run={**samples.refused().run, "name": "other"}),
        samples.failed(),
    ]
    assert len({issue(report).fingerprint for report in reports}) == len(reports)


def test_a_run_that_passed_has_no_issue() -> None:
    assert issue_of(samples.passed()) is None


def test_nothing_from_data_is_markup_an_argument_or_a_fingerprint_of_an_issue(forge: Forge, tmp_path: Path) -> None:
    marker = issue(samples.refused()).marker
    text = f"--label=evil\n{marker}\n@team #1 <b>x</b> ::error::x"
    gates = [samples.gate(text, 0.1, 0.6, text, passed=False)]
    hostile = issue(Report(run=samples.run(status="refused", name=text, gates=gates)))
    for name in TOOLS:
        open_issue(hostile, parse_service(name), tmp_path)
    (made,) = forge.issues
    assert made["labels"] == ["engine", "engine-refused"]
    assert "\n" not in made["title"]
    outside_of_code = re.sub(r"(`+).*?\1", "", made["body"])
    assert not re.search(r"<b>|@team|#1\b|\n<!-- engine-fingerprint(?!: " + hostile.fingerprint + ")", outside_of_code)
    assert open_issue(issue(samples.refused()), parse_service("gh"), tmp_path).new is True


def test_an_issue_has_no_rows_of_data() -> None:
    said = issue(samples.failed())
    assert "312 rows of test break" in said.body
    assert "isin(EWR)" not in said.body
    assert "LGA" not in issue(samples.refused()).body.replace("origin=LGA", "")


def test_a_long_body_is_cut_and_keeps_its_fingerprint() -> None:
    long = replace(issue(samples.refused()), body="é" * 100_000)
    assert len(long.text.encode()) < 65_536
    assert long.is_in(long.text)


def test_a_label_that_cannot_be_made_is_left_out(forge: Forge, tmp_path: Path) -> None:
    forge.say(may_label=False)
    assert open_issue(issue(samples.refused()), parse_service("gh"), tmp_path).new is True
    assert forge.issues[0]["labels"] == []


@EITHER
def test_what_the_tool_complains_of_is_the_error(forge: Forge, name: str, tmp_path: Path) -> None:
    forge.say(broken="HTTP 401: Bad credentials\x1b[31m")
    with pytest.raises(Failed, match="HTTP 401: Bad credentials") as raised:
        open_issue(issue(samples.refused()), parse_service(name), tmp_path)
    assert f"{TOOLS[name]} auth status" in raised.value.hint


def test_a_tool_that_is_not_there_and_a_service_that_is_unknown_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UsageError, match="gh is not installed"):
        parse_service("gh")
    with pytest.raises(UsageError, match="no issue service 'gitlabb'") as raised:
        parse_service("gitlabb")
    assert raised.value.hint.startswith('did you mean "gitlab"?')
    assert set(SERVICES) == {"gh", "github", "glab", "gitlab"}


def test_a_run_opens_an_issue_once_and_says_where(
    forge: Forge, tmp_path: Path, answer: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(tmp_path / "project")
    asked = ("--inline", "--report", "issue=gh")
    assert answer(project.root, "run", "spec.yaml", *asked).code == 0
    assert forge.calls == []
    for limit, tail in (("0.0000001", ""), ("0.0000002", "  (open already)")):
        found = answer(project.root, "run", "spec.yaml", f"evaluate.gates.0.max={limit}", *asked)
        assert found.code == 1
        assert f"issue  https://forge.test/issues/1{tail}\n" in found.err
    forge.say(broken="no network")
    found = answer(project.root, "run", "spec.yaml", "evaluate.gates.0.max=0.0000001", *asked, "--json")
    assert (found.code, found.json["status"]) == (3, "refused")
    assert "gh: no network" in found.err
    monkeypatch.setenv("PATH", "/nowhere")
    found = answer(project.root, "run", "spec.yaml", "seed=99", *asked)
    assert (found.code, "gh is not installed" in found.err) == (2, True)


def test_a_sweep_opens_no_issues(forge: Forge, tmp_path: Path, answer: Callable[..., Done]) -> None:
    project = make_project(tmp_path / "project")
    found = answer(project.root, "run", "spec.yaml", "-m", "seed=1,2", "--report", "issue=gh")
    assert (found.code, "a sweep opens no issues" in found.err) == (2, True)
