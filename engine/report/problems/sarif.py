"""SARIF 2.1.0, which code scanning and editors read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from engine.report.problems.model import Checked, Located, located
from engine.report.problems.rules import fenced
from engine.report.sarif import BRACKETS, SCHEMA, TOOL
from engine.spec.rules import RULES, Rule, plain

LEVELS = {"error": "error", "warning": "warning"}
BY_ID = {rule.id: index for index, rule in enumerate(RULES)}


def sarif(checked: Sequence[Checked]) -> str:
    """A log in ASCII with every rule and every problem. Fingerprints stay when lines move."""
    run = {
        "tool": {"driver": {"name": TOOL, "rules": [described(rule) for rule in RULES]}},
        "automationDetails": {"id": "engine-validate/"},
        "invocations": [{"executionSuccessful": True}],
        "columnKind": "unicodeCodePoints",
        "results": [result(found) for found in located(checked)],
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def described(rule: Rule) -> dict[str, Any]:
    """A rule with its explanation and its examples."""
    breaks, keeps = (fenced(plain(one.text), "" if one.command else "yaml") for one in (rule.bad, rule.good))
    markdown = f"{rule.why}\n\nBreaks it:\n\n{breaks}\n\nKeeps it:\n\n{keeps}"
    return {
        "id": rule.id,
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": rule.why},
        "help": {"text": f"{rule.why} See `engine validate --explain {rule.id}`.", "markdown": markdown},
        "defaultConfiguration": {"level": LEVELS[rule.severity]},
    }


def result(found: Located) -> dict[str, Any]:
    """One problem at its place."""
    key = found.problem.place.key
    logical = {"logicalLocations": [{"fullyQualifiedName": key}]} if key else {}
    region = {"startLine": found.line, "startColumn": found.column}
    placed = {"artifactLocation": {"uri": uri(found.path)}, "region": region}
    location = {**({"physicalLocation": placed} if found.is_placed else {}), **logical}
    return {
        "ruleId": found.problem.rule,
        "ruleIndex": BY_ID[found.problem.rule],
        "level": LEVELS[found.problem.severity],
        "message": {"text": found.message.translate(BRACKETS)},
        "locations": [location] if location else [],
        "partialFingerprints": {"engineProblem/v1": found.fingerprint},
    }


def uri(path: str) -> str:
    """A relative path as it is, an absolute one as a file's."""
    return PurePath(path).as_uri() if PurePath(path).is_absolute() else quote(path)
