"""The problems as one JSON document, for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from engine.errors import UsageError
from engine.report.problems.model import ABSENT, Checked
from engine.spec.rules import anchor


def document(checked: Sequence[Checked]) -> dict[str, Any]:
    """What ``--json`` prints: whether all is valid, the specs, and every problem.

    ``error`` is there when a spec does not exist.
    """
    problems = [problem for one in checked for problem in one.problems]
    absent = [problem for problem in problems if problem.rule == ABSENT]
    error = {"error": UsageError(absent[0].fact, hint=absent[0].hint).document()} if absent else {}
    return {
        **error,
        "valid": not any(one.errors for one in checked),
        "specs": [one.spec for one in checked],
        "problems": [{**problem.document(), "help": anchor(problem.rule)} for problem in problems],
    }


def json_text(checked: Sequence[Checked]) -> str:
    """The document on one line."""
    return json.dumps(document(checked), ensure_ascii=False) + "\n"
