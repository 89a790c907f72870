"""An unchanged run is answered without composing, checking or compiling its spec again.

Before a run everything that decides which run it is gets noted, and it is written down once there is an answer: the
bytes of the files that the spec was composed from, the sources behind it, what is installed, and what branches and
aliases meant. While all of that is the same, so is the run. Whatever differs, or cannot be told, is resolved as if
nothing had been written down.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine import __version__
from engine.digest import canonical_json, digest_of, sha256, sha256_file
from engine.errors import EngineError, Place, Problem
from engine.lake.uri import parse
from engine.registry.baseline import meant as version_meant
from engine.resolve.installed import stamp
from engine.spec.project import project_root
from engine.store.checked import read_checked, write_checked
from engine.wiring import Home, open_home

if TYPE_CHECKING:
    from engine.pipeline import Prepared
    from engine.record.model import RunRecord
    from engine.registry.protocol import Registry

FORM = 3
OWN = Path(__file__).resolve().parent


@dataclass(frozen=True, kw_only=True, slots=True)
class Recalled:
    """The record that answers, how the spec was typed, what its warnings were, and where its gates stand."""

    record: RunRecord
    home: Home
    shown: str
    warnings: tuple[Problem, ...]
    places: Mapping[str, Place]


def recall(spec: str, overrides: Sequence[str]) -> Recalled | None:
    """The record of the run that ``spec`` means, if nothing has changed since it was last asked for."""
    path = Path(spec).expanduser().absolute()
    if not path.is_file():
        return None
    path = path.resolve()
    root = project_root(path)
    with suppress(EngineError, OSError, ValueError, LookupError, TypeError):
        home = open_home(root)
        data = read_checked(place(home, path, overrides))
        if data is None:
            return None
        known = json.loads(data)
        if known["world"] != world(root) or not holds(known, home):
            return None
        record = home.records.answer(known["run"])
        if record is None or not home.registry.knows(record.digest):
            return None
        warnings = tuple(problem(item) for item in known["warnings"])
        places = {name: Place(**item) for name, item in known["places"].items()}
        return Recalled(record=record, home=home, shown=spec, warnings=warnings, places=places)
    return None


@dataclass(frozen=True, kw_only=True, slots=True)
class Noted:
    """What decided which run a prepared spec is, and the file that it is to be written to."""

    path: Path
    document: Mapping[str, Any]


def note(prepared: Prepared, home: Home) -> Noted | None:
    """Note what decides which run ``prepared`` is, before it begins: who edits the spec meanwhile means another run.

    Returns:
        ``None`` when a file is gone already.
    """
    loaded, resolved = prepared.loaded, prepared.resolved
    index = prepared.desk.world.index
    sources = [path for module in resolved.modules if (path := index.path(module)) is not None]
    written = (source.schema_ for source in loaded.spec.data.values())
    schemas = [loaded.path.parent / schema for schema in written if isinstance(schema, str)]
    names = {override.lstrip("+~").partition("=")[0] for override in loaded.overrides}
    with suppress(EngineError, OSError):
        document = {
            "run": resolved.run_id,
            "name": resolved.spec.name,
            "world": world(loaded.root),
            "files": {str(path): sha256_file(path) for path in {*loaded.files, *schemas}},
            "groups": {str(loaded.path.parent / name): (loaded.path.parent / name).is_dir() for name in names},
            "sources": {str(path): look(path) for path in sources},
            "folders": {str(path): modules_in(path) for path in folders(sources, loaded.root)},
            "data": {pin.uri: pin.commit for pin in resolved.answers.data.values()},
            "models": {ref: meaning(resolved.spec.name, ref, home.registry) for ref in resolved.answers.models},
            "variables": {name: name in os.environ for name in variables(resolved.operation)},
            "operation": sha256(canonical_json(resolved.operation)),
            "warnings": [plain(item) for item in loaded.warnings],
        }
        return Noted(path=place(home, loaded.path, loaded.overrides), document=document)
    return None


def remember(noted: Noted | None, places: Mapping[str, Place]) -> None:
    """Write down what was noted, now that the run has an answer. What cannot be written costs time only.

    Args:
        places: what the record's reports say about where in the spec's files its gates stand.
    """
    if noted is not None:
        stands = {name: spot(item) for name, item in places.items()}
        with suppress(EngineError, OSError):
            write_checked(noted.path, canonical_json({**noted.document, "places": stands}))


def place(home: Home, spec: Path, overrides: Sequence[str]) -> Path:
    """The file for a spec with these overrides."""
    return home.path / "cache" / "recall" / f"{digest_of([FORM, str(spec), list(overrides)])}.json"


def world(root: Path) -> dict[str, str]:
    """What the same spec would mean something else in: this version, this machine, what is installed, which project."""
    return {
        "version": __version__,
        "engine": digest_of([[str(path), look(path)] for path in sorted(OWN.rglob("*.py"))]),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "machine": f"{platform.system()} {platform.machine()}",
        "installed": stamp(),
        "root": str(root),
    }


def look(path: Path) -> list[int] | None:
    """When a file last changed, and its size; ``None`` when it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return [found.st_mtime_ns, found.st_size]


def modules_in(folder: Path) -> list[str] | None:
    """The names that could be modules in a folder, sorted; ``None`` when it is not there."""
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return None
    return sorted(entry.name for entry in entries if entry.name.endswith(".py") or may_be_package(entry))


def may_be_package(entry: os.DirEntry[str]) -> bool:
    """Whether a folder's name can be imported."""
    return entry.name.isidentifier() and entry.name != "__pycache__" and entry.is_dir()


def folders(sources: Iterable[Path], root: Path) -> set[Path]:
    """Where another module of the same name could appear: the project's roots, and the folders of its sources."""
    inside = {path.parent for path in sources if path.is_relative_to(root)}
    return {root, root / "src", *inside}


def variables(operation: object) -> Iterator[str]:
    """The environment variables that an operation names."""
    if isinstance(operation, Mapping):
        if isinstance(operation.get("env"), str):
            yield operation["env"]
        for item in operation.values():
            yield from variables(item)


def meaning(name: str, ref: str, registry: Registry) -> list[object]:
    """What a baseline means now: version, digest, and whether it ever meant one."""
    found, known = version_meant(name, ref, registry)
    return [found.version, found.digest, True] if found else [None, None, known]


def holds(known: Mapping[str, Any], home: Home) -> bool:
    """Whether everything that was written down is still so."""
    return (
        all((os.environ.get(name) is not None) == present for name, present in known["variables"].items())
        and all(look(Path(path)) == seen for path, seen in known["sources"].items())
        and all(modules_in(Path(path)) == seen for path, seen in known["folders"].items())
        and all(Path(path).is_dir() == there for path, there in known["groups"].items())
        and all(sha256_file(Path(path)) == digest for path, digest in known["files"].items())
        and home.records.operation_digest(known["run"]) == known["operation"]
        and all(meant(uri, home) == commit for uri, commit in known["data"].items())
        and all(meaning(known["name"], ref, home.registry) == seen for ref, seen in known["models"].items())
    )


def meant(text: str, home: Home) -> str:
    """The commit that a lake URI means now."""
    uri = parse(text)
    return home.lake.resolve(uri.repository, uri.ref)


def plain(item: Problem) -> dict[str, Any]:
    """A warning as JSON."""
    return {
        "rule": item.rule, "fact": item.fact, "hint": item.hint, "severity": item.severity, "place": spot(item.place),
    }  # fmt: skip


def spot(item: Place) -> dict[str, Any]:
    """A place as JSON."""
    return {"file": item.file, "line": item.line, "column": item.column, "key": item.key}


def problem(item: Mapping[str, Any]) -> Problem:
    """The warning that :func:`plain` wrote."""
    return Problem(**{**item, "place": Place(**item["place"])})
