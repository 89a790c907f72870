"""A run as SARIF 2.1.0, as code scanning takes it: what refuses, warns or failed, at its place in the spec."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from engine.digest import digest_of
from engine.errors import Place
from engine.report import words
from engine.report.facts import facts
from engine.report.model import Facts, Fault, Gate, Report

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
RULES: Mapping[str, tuple[str, str]] = {
    "gate-refused": ("error", "A gate refuses the model: it is not registered."),
    "gate-warned": ("warning", "A gate of level warn did not pass; the model is registered all the same."),
    "step-failed": ("error", "A step could not do its work, so that the run has no verdict."),
}
"""What a run can be found guilty of: the level, and what it means."""

TOOL = "mlops-engine"
BRACKETS = str.maketrans({"[": "\\[", "]": "\\]", "{": "{{", "}": "}}"})
"""What opens a link or a placeholder in a message (SARIF 2.1.0, 3.11.5 and 3.11.6)."""


def sarif(report: Report) -> str:
    """The run as a SARIF log in ASCII. Results that stay the same keep their fingerprints when lines move."""
    said = facts(report)
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run(said)]}
    return json.dumps(log, indent=2, allow_nan=False) + "\n"


def run(said: Facts) -> dict[str, Any]:
    """What the tool is, what it found, and the versions that this belongs to."""
    return {
        "tool": {"driver": {"name": TOOL, "rules": [rule(name) for name in RULES]}},
        "automationDetails": {"id": f"engine-run/{quote(said.name, safe='')}/"},
        "invocations": [{"executionSuccessful": said.status != "failed"}],
        "columnKind": "unicodeCodePoints",
        "results": list(results(said)),
        "properties": {
            "run": said.run_id,
            "status": said.status,
            "model": said.model,
            "pins": {f"{pin.kind}.{pin.name}".rstrip("."): pin.version or pin.digest for pin in said.pins},
        },
    }


def rule(name: str) -> dict[str, Any]:
    """A rule as SARIF describes it."""
    level, meaning = RULES[name]
    return {"id": name, "shortDescription": {"text": meaning}, "defaultConfiguration": {"level": level}}


def results(said: Facts) -> Iterator[dict[str, Any]]:
    """A result for each gate that did not pass, and one for the step that failed."""
    for gate in said.gates:
        if not gate.passed:
            name = "gate-warned" if gate.mark == "warn" else "gate-refused"
            yield result(name, told(gate), gate.place, said, gate.name)
    if said.status == "failed":
        fault = said.fault or Fault(code="failed", message=words.summary(said), place="", hint="")
        message = f"{fault.message}; {fault.hint}" if fault.hint else fault.message
        yield result("step-failed", message, fault.spot, said, fault.step or fault.code)


def told(gate: Gate) -> str:
    """What a gate says, in a sentence."""
    why = gate.reason or f"{words.value_of(gate)}, limit {words.limit(gate)}"
    again = " (a measurement: the next run measures it again)" if gate.measured else ""
    return f"gate {gate.name}: {why}{again}"


def result(name: str, message: str, place: Place, said: Facts, subject: str) -> dict[str, Any]:
    """A finding. What it is about makes its fingerprint: neither its figures nor its line."""
    return {
        "ruleId": name,
        "ruleIndex": list(RULES).index(name),
        "level": RULES[name][0],
        "message": {"text": message.translate(BRACKETS)},
        "locations": [location(place, said)],
        "partialFingerprints": {"engineFinding/v1": digest_of([name, said.name, subject])},
    }


def location(place: Place, said: Facts) -> dict[str, Any]:
    """The place in the spec's file; the file alone where the line is not known."""
    physical: dict[str, Any] = {"artifactLocation": {"uri": quote(place.file or said.spec or "spec.yaml")}}
    if place.line > 0:
        physical["region"] = {"startLine": place.line, "startColumn": max(place.column, 1)}
    logical = {"logicalLocations": [{"fullyQualifiedName": place.key}]} if place.key else {}
    return {"physicalLocation": physical, **logical}
