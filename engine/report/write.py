"""Write a report to a file, whole: ``--report html=out/report.html``."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path

from engine.digest import plain
from engine.errors import UsageError, suggestion, writing
from engine.report.html import html
from engine.report.markdown import markdown
from engine.report.model import Report


def document(report: Report) -> str:
    """The run's document as JSON in ASCII, indented; a number that JSON cannot name is null."""
    return json.dumps(finite(plain(report.run)), indent=2, allow_nan=False) + "\n"


def finite(value: object) -> object:
    """``value``, as :func:`engine.digest.plain` gives it, with null for infinity."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and value in (float("inf"), float("-inf")) else value


FORMATS: Mapping[str, Callable[[Report], str]] = {"html": html, "json": document, "md": markdown}
"""What a report can be written as."""


def parse_target(text: str) -> tuple[str, Path]:
    """``html=out/report.html`` as format and path.

    Raises:
        UsageError: when it is not FORMAT=PATH, or the format is not in :data:`FORMATS`.
    """
    name, equals, path = text.partition("=")
    known = f"known formats: {', '.join(FORMATS)}"
    if not equals or not path:
        raise UsageError(f"{text!r} is not FORMAT=PATH", place="--report", hint=f"write html=report.html; {known}")
    if name not in FORMATS:
        near = suggestion(name, FORMATS)
        also = f"{near} " if near.startswith("did") else ""
        raise UsageError(f"no report format {name!r}", place="--report", hint=f"{also}{known}")
    return name, Path(path)


def write(report: Report, target: str) -> Path:
    """Write ``report`` to ``target`` (FORMAT=PATH), making folders on the way; return the path.

    The file appears whole or not at all; one that was there is replaced.

    Raises:
        UsageError: as :func:`parse_target`, or when the path is a folder.
        StorageFull, StorageUnwritable, Failed: when the file cannot be written; nothing is left behind.
    """
    name, path = parse_target(target)
    if path.is_dir():
        raise UsageError("is a folder", place=str(path), hint=f"name a file in it: {name}={path / 'report'}.{name}")
    replace_whole(path, FORMATS[name](report).encode())
    return path


def replace_whole(path: Path, data: bytes) -> None:
    """Put ``data`` at ``path`` in one step: a file beside it, flushed to the disk, then renamed."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
