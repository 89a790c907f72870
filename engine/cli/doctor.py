"""``engine doctor``."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import typer

from engine.cli import view
from engine.errors import FAILED, YES, EngineError
from engine.plugins import installed, source_of
from engine.wiring import Home, home_here

REQUIRED = ("ray", "hydra-core", "omegaconf", "onnxruntime", "pandera", "lakefs-client", "duckdb", "pyarrow")
LOW_SPACE = 2**30


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that was looked at: how it is, and what to do when it is not well."""

    what: str
    well: bool
    fact: str
    hint: str = ""


def register(app: typer.Typer, summary: str) -> None:
    """Add the command."""
    app.command("doctor", help=summary)(command)


def command(json: bool = typer.Option(False, "--json", help="Print one JSON document.")) -> int:
    """Look at everything that Engine needs."""
    home = home_here()
    found = [finding for examine in EXAMINATIONS for finding in examine(home)]
    ill = [finding for finding in found if not finding.well]
    if json:
        listed = [{"what": f.what, "well": f.well, "fact": f.fact, "hint": f.hint} for f in found]
        view.document({"well": not ill, "findings": listed})
        return FAILED if ill else YES
    for finding in found:
        mark = (
            view.paint("ok ", "\x1b[32m", stream=sys.stdout)
            if finding.well
            else view.paint("bad", view.RED, stream=sys.stdout)
        )
        view.line(f"{mark} {finding.what:<16} {finding.fact}" + (f"; {finding.hint}" if finding.hint else ""))
    view.line("everything is well" if not ill else view.counted(len(ill), "thing") + " to mend")
    return FAILED if ill else YES


def python_is_supported(_: Home) -> Iterator[Finding]:
    """Python 3.11 or 3.12."""
    well = (3, 11) <= sys.version_info[:2] <= (3, 12)
    hint = "" if well else "make a virtual environment with Python 3.11 or 3.12"
    yield Finding(what="python", well=well, fact=f"{platform.python_version()} on {platform.machine()}", hint=hint)


def distributions_are_installed(_: Home) -> Iterator[Finding]:
    """The core distributions, with their versions."""
    for name in REQUIRED:
        try:
            yield Finding(what=name, well=True, fact=importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(what=name, well=False, fact="not installed", hint=f"pip install {name}")


def plugins_can_be_found(_: Home) -> Iterator[Finding]:
    """Every registered plugin has a source."""
    lost = [item for item in installed() if source_of(item.module) is None]
    for item in lost:
        hint = f"install {item.distribution} again"
        yield Finding(what="plugin", well=False, fact=f"{item.name}: no module {item.module}", hint=hint)
    if not lost:
        names = ", ".join(item.name for item in installed())
        yield Finding(
            what="plugins", well=bool(names), fact=names or "none", hint="" if names else "install mlops-engine again"
        )


def home_is_writable(home: Home) -> Iterator[Finding]:
    """A file can be written where Engine keeps its state, and there is space."""
    folder = next(path for path in (home.path, *home.path.parents) if path.is_dir())
    try:
        with tempfile.TemporaryFile(dir=folder):
            well, fact = True, str(home.path)
    except OSError as error:
        well, fact = False, f"{home.path}: {error.strerror}"
    hint = "" if well else "set ENGINE_HOME to a folder that you may write to"
    yield Finding(what="ENGINE_HOME", well=well, fact=fact, hint=hint)
    free = shutil.disk_usage(folder).free
    hint = "" if free > LOW_SPACE else "free some space"
    yield Finding(what="disk", well=free > LOW_SPACE, fact=f"{free / 2**30:.1f} GiB free", hint=hint)


def lake_answers(home: Home) -> Iterator[Finding]:
    """The lake can be read."""
    try:
        names = sorted(repository.name for repository in home.lake.repositories())
    except EngineError as error:
        yield Finding(what="lake", well=False, fact=error.fact, hint=error.hint)
        return
    hint = "" if names else "`engine quickstart` puts the sample data there"
    where = f"on {home.server}" if home.server else "embedded"
    yield Finding(what="lake", well=True, fact=f"{where}: {', '.join(names) or 'empty'}", hint=hint)


def ports_can_be_bound(_: Home) -> Iterator[Finding]:
    """A server can listen on the loopback address; Ray needs that."""
    try:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
        yield Finding(what="loopback", well=True, fact="127.0.0.1 can be listened on")
    except OSError as error:
        yield Finding(what="loopback", well=False, fact=str(error.strerror), hint="run with --inline")


def ray_folder_is_short(_: Home) -> Iterator[Finding]:
    """Ray's sockets lie in the temporary folder, whose path must be short."""
    folder = Path(tempfile.gettempdir())
    well = len(str(folder)) < 40 and os.access(folder, os.W_OK)
    hint = "" if well else "set TMPDIR to a short path that you may write to, such as /tmp"
    yield Finding(what="temporary", well=well, fact=str(folder), hint=hint)


EXAMINATIONS: tuple[Callable[[Home], Iterator[Finding]], ...] = (
    python_is_supported,
    distributions_are_installed,
    plugins_can_be_found,
    home_is_writable,
    lake_answers,
    ports_can_be_bound,
    ray_folder_is_short,
)
