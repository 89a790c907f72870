"""Where a project begins: read by everything, so this module imports nothing that takes time."""

from __future__ import annotations

import os
from pathlib import Path

ROOT_MARKS = ("pyproject.toml", ".engine", ".git")


def project_root(spec: Path) -> Path:
    """The nearest ancestor that looks like a project: of the spec, else of the working folder, else the spec's."""
    for start in (spec.parent, Path.cwd()):
        for candidate in (start, *start.parents):
            if any((candidate / mark).exists() for mark in ROOT_MARKS) and candidate != Path(candidate.anchor):
                return candidate
    return spec.parent


def source_roots(root: Path) -> tuple[Path, ...]:
    """Where a project's own modules are looked for: its root, and ``src`` below it."""
    return tuple(folder for folder in (root, root / "src") if folder.is_dir())


def home_path(root: Path) -> Path:
    """Where the state of the project at ``root`` is kept."""
    given = os.environ.get("ENGINE_HOME")
    return Path(given).expanduser().absolute() if given else root / ".engine"
