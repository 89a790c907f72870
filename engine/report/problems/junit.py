"""JUnit XML, which every CI service shows: a suite a spec, a test case a problem."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from xml.etree.ElementTree import Element, SubElement, tostring

from engine.errors import Problem
from engine.report.clean import terminal
from engine.report.problems.model import Checked, message


def junit(checked: Sequence[Checked]) -> str:
    """A spec without problems is a case that passes; a warning is one that passes and says something."""
    errors = sum(one.errors for one in checked)
    cases = sum(max(len(one.problems), 1) for one in checked)
    root = Element("testsuites", name="engine validate", tests=str(cases), failures=str(errors), errors="0")
    root.extend(suite(one) for one in checked)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{tostring(root, encoding="unicode")}\n'


def suite(one: Checked) -> Element:
    """One spec."""
    spec = terminal(one.spec)
    counts = {"tests": str(max(len(one.problems), 1)), "failures": str(one.errors), "errors": "0"}
    made = Element("testsuite", {"name": spec, **counts})
    made.extend(cases(one.problems, spec))
    return made


def cases(problems: Sequence[Problem], spec: str) -> Iterator[Element]:
    """A case a problem, or one that passes."""
    if not problems:
        yield Element("testcase", name="valid", classname=spec)
    for problem in problems:
        name = terminal(f"{problem.rule} {problem.place.key}".strip())
        case = Element("testcase", name=name, classname=spec)
        if problem.severity == "error":
            failure = SubElement(case, "failure", message=message(problem), type=problem.rule)
            failure.text = terminal(str(problem))
        else:
            SubElement(case, "system-out").text = terminal(f"warning: {problem}")
        yield case
