"""Where a project begins: read by everything, so this module imports nothing that takes time."""

from __future__ import annotations

from pathlib import Path

ROOT_MARKS = ("pyproject.toml", ".engine", ".git")


def project_root(spec: Path) -> Path:
    """The nearest ancestor that looks like a project: of the spec, else of the working folder, else the spec's."""
    for start in (spec.parent, Path.cwd()):
        for candidate in (start, *start.parents):
            if any((candidate / mark).exists() for mark in ROOT_MARKS) and candidate != Path(candidate.anchor):
                return candidate
    return spec.parent
