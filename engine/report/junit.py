"""A run as JUnit XML, as Jenkins, GitLab and GitHub's readers take it: one test case a gate.

::

    gate passed                     a test case
    gate refused                    a failure, with its reason and its place in the spec
    gate of level ``warn``          a test case that says so on its output: it refuses nothing
    gate that was not judged        skipped
    step that failed                an error, in a suite of its own
"""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from engine.report import words
from engine.report.facts import facts
from engine.report.model import Facts, Gate, Report

GATE_STEP = "gate."


def junit(report: Report) -> str:
    """The run as one document of test suites; text cannot become markup. Ends with a newline."""
    said = facts(report)
    suites = [suite(said, "gates", list(gate_cases(said)))]
    if said.status == "failed":
        suites.append(suite(said, "steps", [fault_case(said)]))
    root = Element("testsuites", {"name": said.name, "time": seconds(said.seconds), **counts(suites)})
    root.extend(suites)
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def suite(said: Facts, what: str, cases: list[Element]) -> Element:
    """Test cases, and before them what the run was made from."""
    found = Element("testsuite", name=f"{said.name} {what}", time=seconds(said.seconds if what == "steps" else 0.0))
    held = SubElement(found, "properties")
    for name, value in properties(said):
        SubElement(held, "property", name=name, value=value)
    found.extend(cases)
    each = {"failures": "failure", "errors": "error", "skipped": "skipped"}
    found.set("tests", str(len(cases)))
    for key, tag in each.items():
        found.set(key, str(sum(case.find(tag) is not None for case in cases)))
    return found


def counts(suites: list[Element]) -> dict[str, str]:
    """What the suites have in all."""
    return {key: str(sum(int(each.get(key, "0")) for each in suites)) for key in ("tests", "failures", "errors")}


def properties(said: Facts) -> Iterator[tuple[str, str]]:
    """The versions that everything in the suite belongs to."""
    yield "run", said.run_id
    yield "status", said.status
    yield "model", said.model
    yield "model.digest", said.model_digest
    for pin in said.pins:
        yield f"{pin.kind}.{pin.name}".rstrip("."), f"{pin.version} {pin.digest}".strip()


def gate_cases(said: Facts) -> Iterator[Element]:
    """A test case for each gate, those that never came to speak included."""
    for gate in said.gates:
        yield gate_case(gate, said)
    judged = {gate.name for gate in said.gates}
    for step in said.steps:
        name = step.name.removeprefix(GATE_STEP)
        if step.kind == "gate" and name != step.name and name not in judged and step.status != "failed":
            found = case(name, said, "gates")
            SubElement(found, "skipped", message="not judged: the run failed before")
            yield found


def gate_case(gate: Gate, said: Facts) -> Element:
    """One gate's answer."""
    found = case(gate.name, said, "gates")
    told = sentence(gate)
    if gate.mark == "refuse":
        kind = "measurement" if gate.measured else "gate"
        SubElement(found, "failure", type=f"{kind}-refused", message=gate.reason or "refused").text = told
    else:
        SubElement(found, "system-out").text = f"warning: {told}" if gate.mark == "warn" else told
    return found


def sentence(gate: Gate) -> str:
    """A gate's figure, limit, reason and place, a line each."""
    again = "a measurement: the next run measures it again" if gate.measured and not gate.passed else ""
    spot = f"at {gate.place}" if str(gate.place) else ""
    figures = f"value {words.value_of(gate)}, limit {words.limit(gate)}"
    return "\n".join(line for line in (gate.reason, figures, again, spot) if line)


def fault_case(said: Facts) -> Element:
    """The step that failed, as a test that could not be carried out."""
    fault = said.fault
    name = (fault.step if fault else "") or next((s.name for s in said.steps if s.status == "failed"), "run")
    found = case(name, said, "steps")
    message = fault.message if fault else "it stopped before a verdict"
    error = SubElement(found, "error", type=(fault.code if fault else "") or "failed", message=message)
    parts = (fault.place, *fault.details, fault.hint) if fault else ()
    error.text = "\n".join(part for part in (message, *parts) if part)
    return found


def case(name: str, said: Facts, what: str) -> Element:
    """A test case without an answer yet."""
    return Element("testcase", name=name, classname=f"{said.name}.{what}", time="0.000")


def seconds(value: float | None) -> str:
    """A time as JUnit has it."""
    return f"{max(value or 0.0, 0.0):.3f}"
