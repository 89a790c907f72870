"""Every form in which problems can be written, by its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from engine.report.problems.document import json_text
from engine.report.problems.github import github
from engine.report.problems.gitlab import gitlab
from engine.report.problems.junit import junit
from engine.report.problems.model import Checked
from engine.report.problems.sarif import sarif
from engine.report.problems.text import text

Render = Callable[[Sequence[Checked]], str]
RENDERERS: Mapping[str, Render] = {
    "text": text,
    "json": json_text,
    "github": github,
    "gitlab": gitlab,
    "sarif": sarif,
    "junit": junit,
}
