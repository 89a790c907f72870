"""What a spec was composed from and judged by, and whether all of it is still so.

Nothing here knows YAML or types: an unchanged spec is answered without them.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from engine import __version__
from engine.digest import digest_of, sha256
from engine.errors import Place, Problem, StorageFull, StorageUnwritable, Suggestion
from engine.plugins import source_of
from engine.spec.project import home_path, project_root, source_roots
from engine.store.checked import read_checked, write_checked

FORM = 1
MOST = 500
OWN = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, kw_only=True, slots=True)
class Grounds:
    """Everything outside the judge that a composition, or what is said of it, came from.

    Attributes:
        texts: the digest of what each file says.
        folders: whether each is there.
        sources: in which file each module is.
        variables: whether each is set.
    """

    texts: Mapping[Path, str] = field(default_factory=dict)
    folders: Mapping[Path, bool] = field(default_factory=dict)
    sources: Mapping[str, Path] = field(default_factory=dict)
    variables: Mapping[str, bool] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """The same as JSON."""
        return {
            "texts": [[str(path), digest] for path, digest in self.texts.items()],
            "folders": [[str(path), there] for path, there in self.folders.items()],
            "sources": [[module, str(path)] for module, path in self.sources.items()],
            "variables": dict(self.variables),
        }


def grounds_from(document: Mapping[str, Any]) -> Grounds:
    """The grounds that a document describes."""
    return Grounds(
        texts={Path(path): digest for path, digest in document["texts"]},
        folders={Path(path): there for path, there in document["folders"]},
        sources={module: Path(path) for module, path in document["sources"]},
        variables=document["variables"],
    )


def holds(grounds: Grounds, root: Path) -> bool:
    """Whether everything is as it was, in the project at ``root``."""
    roots = source_roots(root) if grounds.sources else ()
    return (
        all(digest_now(path) == digest for path, digest in grounds.texts.items())
        and all(path.is_dir() == there for path, there in grounds.folders.items())
        and all(source_of(module, roots) == path for module, path in grounds.sources.items())
        and all((name in os.environ) == there for name, there in grounds.variables.items())
    )


def digest_now(path: Path) -> str | None:
    """The digest of what a file says; ``None`` when it says nothing."""
    try:
        return digest_of_text(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return None


def digest_of_text(text: str) -> str:
    """The digest of a text."""
    return sha256(text.encode("utf-8", "surrogatepass"))


@cache
def judge() -> list[Any]:
    """What composes and judges: this code, what is installed, and the interpreter."""
    code = [path for part in ("*.py", "spec/*.py", "lake/*.py", "monitor/*.py") for path in sorted(OWN.glob(part))]
    folders = [Path(entry) for entry in sys.path if entry and entry != os.getcwd()]  # noqa: PTH109  (to compare texts)
    looks = [[str(path), changed(path)] for path in (*code, *folders)]
    return [FORM, __version__, platform.python_version(), looks]


def changed(path: Path) -> int:
    """When a file or folder last changed, in nanoseconds; 0 when it is not there."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Shelf:
    """A folder in which what was found out is kept, each in a file of its own; the oldest make room."""

    folder: Path

    def take(self, question: Sequence[object]) -> Any:
        """The answer to ``question`` by this judge; ``None`` when there is none, or not as it was written."""
        data = read_checked(self.place(question))
        return None if data is None else json.loads(data)

    def put(self, question: Sequence[object], data: bytes) -> None:
        """Keep an answer, as JSON. What cannot be written costs time only."""
        with suppress(StorageFull, StorageUnwritable, OSError):
            self.make_room()
            place = self.place(question)
            place.unlink(missing_ok=True)
            write_checked(place, data)

    def place(self, question: Sequence[object]) -> Path:
        """The file of a question."""
        return self.folder / f"{digest_of([judge(), *question])}.json"

    def make_room(self) -> None:
        """Remove the older half when there are too many."""
        files = sorted(self.folder.glob("*.json"), key=changed)
        for file in files[: MOST // 2] if len(files) >= MOST else ():
            file.unlink(missing_ok=True)


def shelf_of(root: Path) -> Shelf | None:
    """Where things are kept for the project at ``root``; nowhere before it has a home.

    In CI a home is believed that the environment names: one in the checkout may come with the change that is judged.
    """
    home = home_path(root)
    trusted = "ENGINE_HOME" in os.environ or not os.environ.get("CI")
    return Shelf(folder=home / "cache" / "specs") if trusted and home.is_dir() else None


# -- what was said of a spec ---------------------------------------------------------------------------------


def warnings_before(spec: str, overrides: Iterable[str], shelf: Shelf, root: Path) -> tuple[Problem, ...] | None:
    """What there was to say of a good spec, if nothing has changed since; ``None`` when it is to be judged."""
    known = shelf.take(question(spec, overrides, root))
    with suppress(LookupError, TypeError, ValueError):
        if known is not None and holds(grounds_from(known["grounds"]), root):
            return tuple(problem(item) for item in known["warnings"])
    return None


def keep_warnings(
    spec: str, overrides: Iterable[str], shelf: Shelf, root: Path, grounds: Grounds, warnings: Sequence[Problem]
) -> None:
    """Keep what there is to say of a good spec."""
    document = {"grounds": grounds.document(), "warnings": [plain(item) for item in warnings]}
    shelf.put(question(spec, overrides, root), json.dumps(document).encode())


def question(spec: str, overrides: Iterable[str], root: Path) -> list[object]:
    """What is asked: of which file, as messages name it, with which overrides."""
    return ["verdict", str(Path(spec).expanduser().resolve()), spec, list(overrides), str(root)]


def plain(item: Problem) -> dict[str, Any]:
    """A problem as JSON."""
    known, nearest = getattr(item.hint, "known", ()), getattr(item.hint, "nearest", None)
    return {**asdict(item), "hint": [str(item.hint), known, nearest]}


def problem(item: Mapping[str, Any]) -> Problem:
    """The problem that :func:`plain` wrote."""
    return Problem(**{**item, "place": Place(**item["place"]), "hint": Suggestion(*item["hint"])})


def root_of(spec: str) -> Path:
    """The project of a spec."""
    return project_root(Path(spec).expanduser().resolve())
