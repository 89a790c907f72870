"""Installed distributions: which one an import comes from, its version, and what it needs."""

from __future__ import annotations

import importlib.metadata
import json
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from engine.digest import digest_of
from engine.errors import StorageFull, StorageUnwritable
from engine.store.checked import read_checked, write_checked


@dataclass(frozen=True, kw_only=True, slots=True)
class Installed:
    """What is installed: import name -> distributions, and distribution -> [version, needs]."""

    provides: Mapping[str, list[str]]
    versions: Mapping[str, str]
    needs: Mapping[str, list[str]]

    def behind(self, imports: Iterable[str], always: str) -> dict[str, str]:
        """The distributions that ``imports`` come from and all that those need, with versions; and ``always``."""
        found: dict[str, str] = {}
        pending = [
            dist for name in imports for dist in self.provides.get(name, []) if name not in sys.stdlib_module_names
        ]
        while pending:
            dist = pending.pop()
            if dist in found or dist not in self.versions or dist == always:
                continue
            found[dist] = self.versions[dist]
            pending += self.needs.get(dist, [])
        if always in self.versions:
            found[always] = self.versions[always]
        return dict(sorted(found.items()))


def survey(cache: Path | None = None) -> Installed:
    """What is installed here; read anew when a folder of ``sys.path`` has changed since it was kept in ``cache``."""
    return (kept(place(cache)) if cache else None) or read(stamp())


def keep(cache: Path) -> None:
    """Keep what is installed here for the next :func:`survey`; where nothing can be written, that one takes longer."""
    if kept(place(cache)) is None:
        found = read(stamp())
        document = {"provides": found.provides, "versions": found.versions, "needs": found.needs}
        with suppress(StorageFull, StorageUnwritable):
            write_checked(place(cache), json.dumps(document).encode())


def kept(path: Path) -> Installed | None:
    """What a file of the cache says, if it is there and whole."""
    try:
        return Installed(**json.loads(read_checked(path) or b""))
    except (ValueError, TypeError):
        return None


def place(cache: Path) -> Path:
    """The file of the cache for what is installed now."""
    return cache / f"installed-{stamp()[:16]}.json"


def stamp() -> str:
    """A digest that changes with the folders of ``sys.path``."""
    return digest_of([[folder, mtime(folder)] for folder in sys.path if folder])


def mtime(folder: str) -> int:
    """When a folder last changed, in nanoseconds; 0 when it is not there."""
    path = Path(folder)
    return path.stat().st_mtime_ns if path.is_dir() else 0


@cache
def read(_: str) -> Installed:
    """Read every distribution's metadata; in one process once for each stamp of what is installed."""
    from packaging.utils import canonicalize_name

    versions: dict[str, str] = {}
    needs: dict[str, list[str]] = {}
    for dist in importlib.metadata.distributions():
        name = canonicalize_name(dist.name)
        if name not in versions:
            versions[name] = dist.version
            needs[name] = sorted(requirements(dist.requires or []))
    provides = {
        module: sorted({str(canonicalize_name(name)) for name in names})
        for module, names in importlib.metadata.packages_distributions().items()
    }
    return Installed(provides=provides, versions=versions, needs=needs)


def requirements(lines: Iterable[str]) -> set[str]:
    """The names of the requirements that apply here, extras left out."""
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    found: set[str] = set()
    for line in lines:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            found.add(canonicalize_name(requirement.name))
    return found
