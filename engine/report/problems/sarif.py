"""SARIF 2.1.0, which code scanning and editors read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from engine.report.problems.model import Checked, Located, located
from engine.report.sarif import BRACKETS, SCHEMA, TOOL
from engine.spec.rules import RULES, Rule

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
    """A rule with its explanation, and where it is written about."""
    return {
        "id": rule.id,
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": rule.why},
        "help": {"text": rule.why, "markdown": f"{rule.why}\n\n[{rule.id}]({rule.anchor})"},
        "helpUri": rule.anchor,
        "defaultConfiguration": {"level": LEVELS[rule.severity]},
    }


def result(found: Located) -> dict[str, Any]:
    """One problem at its place."""
    key = found.problem.place.key
    logical = {"logicalLocations": [{"fullyQualifiedName": key}]} if key else {}
    physical = {
        "artifactLocation": {"uri": uri(found.path)},
        "region": {"startLine": found.line, "startColumn": found.column},
    }
    return {
        "ruleId": found.problem.rule,
        "ruleIndex": BY_ID[found.problem.rule],
        "level": LEVELS[found.problem.severity],
        "message": {"text": found.message.translate(BRACKETS)},
        "locations": [{"physicalLocation": physical, **logical}],
        "partialFingerprints": {"engineProblem/v1": found.fingerprint},
    }


def uri(path: str) -> str:
    """A relative path as it is, an absolute one as a file's."""
    return PurePath(path).as_uri() if PurePath(path).is_absolute() else quote(path)
