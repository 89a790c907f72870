"""The widget of a GitLab merge request: a code quality report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from engine.report.problems.model import Checked, Located, located


def gitlab(checked: Sequence[Checked]) -> str:
    """A list of issues in ASCII. Their fingerprints stay when lines move, so GitLab can tell what a change added."""
    return json.dumps([issue(found) for found in located(checked)], indent=2) + "\n"


def issue(found: Located) -> dict[str, Any]:
    """One problem with the keys that GitLab reads."""
    return {
        "type": "issue",
        "check_name": found.problem.rule,
        "description": found.message,
        "categories": ["Bug Risk"],
        "severity": "major" if found.is_error else "minor",
        "fingerprint": found.fingerprint,
        "location": {"path": found.path, "lines": {"begin": found.line}},
    }
