"""What git says, if there is one."""

from __future__ import annotations

import subprocess
from pathlib import Path


def git(root: Path, *arguments: str) -> str | None:
    """What a git command prints, or ``None`` when it fails or there is no git."""
    try:
        done = subprocess.run(  # noqa: S603
            ["git", "-C", str(root), *arguments],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def signature(root: Path) -> str:
    """Who git thinks commits at ``root``: ``name <email>``, as far as it was told; else nothing."""
    told = git(root, "config", "--get-regexp", r"^user\.(name|email)$") or ""
    known = dict(line.split(" ", 1) for line in told.splitlines() if " " in line)
    email = f"<{known['user.email']}>" if "user.email" in known else ""
    return " ".join(part for part in (known.get("user.name", ""), email) if part)
