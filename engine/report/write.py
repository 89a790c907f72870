"""Write a report to a file, whole: ``--report html=out/report.html``."""

from __future__ import annotations

import importlib
import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from engine.digest import plain
from engine.errors import Failed, StorageFull, StorageUnwritable, UsageError, suggestion, writing
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


def later(module: str, function: str) -> Callable[[Report], str]:
    """A renderer whose module is loaded when it is first used: few runs are asked for a report."""

    def render(report: Report) -> str:
        text: str = getattr(importlib.import_module(f"engine.report.{module}"), function)(report)
        return text

    return render


FORMATS: Mapping[str, Callable[[Report], str]] = {
    "html": later("html", "html"),
    "json": document,
    "md": later("markdown", "markdown"),
    "junit": later("junit", "junit"),
    "sarif": later("sarif", "sarif"),
    "openmetrics": later("openmetrics", "openmetrics"),
    "dotenv": later("dotenv", "dotenv"),
}
"""What a report can be written as."""

ISSUE = "issue"
"""What stands for the format where ``--report issue=gh`` asks for an issue and not for a file."""


def parse_target(text: str) -> tuple[str, Path]:
    """``html=out/report.html`` as format and path.

    Raises:
        UsageError: when it is not FORMAT=PATH, or the format is not in :data:`FORMATS`.
    """
    name, equals, path = text.partition("=")
    known = f"known formats: {', '.join((*FORMATS, ISSUE))}"
    if not equals or not path:
        raise UsageError(f"{text!r} is not FORMAT=PATH", place="--report", hint=f"write html=report.html; {known}")
    if name not in FORMATS:
        near = suggestion(name, (*FORMATS, ISSUE))
        also = f"{near} " if near.startswith("did") else ""
        raise UsageError(f"no report format {name!r}", place="--report", hint=f"{also}{known}")
    return name, Path(path)


SOURCES = (".yaml", ".yml", ".py", ".toml", ".cfg")
"""Endings of what people write by hand; no report has one."""


def refuse_source(name: str, path: Path) -> None:
    """Refuse to write a report over a spec or another source.

    Raises:
        UsageError: then.
    """
    if path.suffix.lower() in SOURCES and path.exists():
        hint = f"give the report a name of its own, as {name}={path.stem}-report.{name}"
        raise UsageError(f"the {name} report would overwrite it", place=str(path), hint=hint)


ELSEWHERE = "write it to another folder or disk"


@contextmanager
def writing_report(path: Path) -> Iterator[None]:
    """As :func:`engine.errors.writing`, for a file that the user named: it need not be where state is kept."""
    try:
        with writing(path):
            yield
    except StorageFull as error:
        raise StorageFull(error.place, ELSEWHERE) from error
    except StorageUnwritable as error:
        raise StorageUnwritable(error.place, ELSEWHERE) from error


def check(targets: Sequence[tuple[str, Path]]) -> None:
    """See before anything runs whether every report can be written; nothing is created for it.

    Raises:
        UsageError: for a folder, a source that would be overwritten, and for two reports in one file.
        StorageUnwritable, Failed: for a folder that takes no files, or a parent that is none.
    """
    seen: dict[Path, str] = {}
    for name, path in targets:
        refuse_folder(name, path)
        refuse_source(name, path)
        whole = Path(os.path.abspath(path))  # noqa: PTH100  (links stay: they may be made meanwhile)
        if whole in seen:
            fact = f"{seen[whole]} and {name} are to be written to one file"
            raise UsageError(fact, place=str(path), hint="give each report a path of its own")
        seen[whole] = name
        parent = next(folder for folder in whole.parents if os.path.lexists(folder))
        if not parent.is_dir():
            raise Failed("is no folder", place=str(parent), hint=f"{name}={path} cannot be written below it")
        if not special(path) and not os.access(parent, os.W_OK | os.X_OK):
            raise StorageUnwritable(parent, ELSEWHERE)


def refuse_folder(name: str, path: Path) -> None:
    """Say that a report is a file."""
    if path.is_dir():
        raise UsageError("is a folder", place=str(path), hint=f"name a file in it: {name}={path / 'report'}.{name}")


def special(path: Path) -> bool:
    """Whether there is something at ``path`` that takes bytes and cannot be replaced, such as a pipe."""
    return path.exists() and not path.is_file()


def write(report: Report, target: str) -> Path:
    """Write ``report`` to ``target`` (FORMAT=PATH), making folders on the way; return the path.

    The file appears whole or not at all; one that was there is replaced. A pipe or a device is written to.

    Raises:
        UsageError: as :func:`parse_target`, or when the path is a folder.
        StorageFull, StorageUnwritable, Failed: when the file cannot be written; nothing is left behind.
    """
    name, path = parse_target(target)
    refuse_folder(name, path)
    put(path, FORMATS[name](report).encode())
    return path


def put(path: Path, data: bytes) -> None:
    """Put ``data`` at ``path``, whole; into a pipe or a device it is written."""
    if special(path):
        with writing_report(path):
            path.write_bytes(data)
    else:
        replace_whole(path, data)


def replace_whole(path: Path, data: bytes) -> None:
    """Put ``data`` at ``path`` in one step: a file beside it, flushed to the disk, then renamed."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with writing_report(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
