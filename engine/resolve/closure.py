"""The static import closure of a module: which sources and which distributions stand behind a component.

Sources are parsed, never imported. Owned modules (a step's or shipped plugin's own, and the project's) are hashed;
other modules of Engine are followed only for what they import; installed distributions count by version.
What a file imports is remembered by its size and time, so an unchanged project costs a few stats.
"""

from __future__ import annotations

import ast
import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.digest import sha256
from engine.errors import NotFound, StorageFull, StorageUnwritable
from engine.plugins import find, parsed, source_of
from engine.resolve.installed import Installed
from engine.resolve.model import Closure
from engine.resolve.questions import CodeQuestion
from engine.store.checked import read_checked, write_checked

SHIPPED = ("engine.steps", "engine_plugins")
ENGINE = "engine"
DISTRIBUTION = "mlops-engine"


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceFile:
    """What one file imports (absolute dotted names, in which the last part may be an attribute) and its SHA-256."""

    digest: str
    imports: tuple[str, ...]


class SourceIndex:
    """What source files import, kept between runs in ``cache``. ``roots`` are the project's source folders."""

    def __init__(self, roots: tuple[Path, ...], cache: Path | None = None) -> None:
        self.roots = roots
        self.cache = cache
        self.known: dict[str, list[object]] = read_cache(cache)
        self.changed = False
        self.paths: dict[str, Path | None] = {}

    def path(self, module: str) -> Path | None:
        """The source file of a dotted module, if it has one."""
        if module not in self.paths:
            self.paths[module] = source_of(module, self.roots)
        return self.paths[module]

    def read(self, module: str, path: Path) -> SourceFile:
        """What the file at ``path`` imports."""
        stat = path.stat()
        stamp = [stat.st_mtime_ns, stat.st_size]
        entry = self.known.get(str(path))
        if entry is None or entry[:2] != stamp:
            imports = sorted(set(imports_of(parsed(path), module, path.name == "__init__.py")))
            entry = [*stamp, sha256(path.read_bytes()), imports]
            self.known[str(path)] = entry
            self.changed = True
        found = entry[3]
        assert isinstance(found, list)
        return SourceFile(digest=str(entry[2]), imports=tuple(str(name) for name in found))

    def save(self) -> None:
        """Keep what was learned for the next run."""
        if self.cache is not None and self.changed:
            with contextlib.suppress(StorageFull, StorageUnwritable):  # a cache that is not kept costs time only
                write_checked(self.cache, json.dumps(self.known).encode())

    def is_project(self, path: Path) -> bool:
        """Whether a file belongs to the project and not to an environment inside its folder."""
        return any(path.is_relative_to(root) for root in self.roots) and "site-packages" not in path.parts


def read_cache(cache: Path | None) -> dict[str, list[object]]:
    """The index as it was saved; a damaged one is forgotten."""
    data = read_checked(cache) if cache else None
    if data is None:
        return {}
    found = json.loads(data)
    return found if isinstance(found, dict) else {}


def closure(question: CodeQuestion, index: SourceIndex, installed: Installed) -> Closure:
    """The code and the distributions behind a component.

    Raises:
        NotFound: when the component's module has no source.
        UsageError: when a source does not parse.
    """
    root = question.name if question.kind is None else find(question.kind, question.name).module
    if index.path(root) is None:
        raise NotFound("module", root, hint="it is looked for in the project and in the environment")
    starts = [root, *(part for name in question.mentions for part in mentioned(name, index))]
    foreign = {name.split(".")[0].split(":")[0] for name in question.mentions}
    modules: dict[str, str] = {}
    pending, seen = starts, set(starts)
    while pending:
        module = pending.pop()
        if module == ENGINE:
            continue  # it only names the Python API, which loads on demand and in no step
        path = index.path(module)
        if path is None or not (is_followed(module) or index.is_project(path)):
            foreign.add(module.split(".")[0])
            continue
        source = index.read(module, path)
        if is_owned(module, path, index):
            modules[module] = source.digest
        for found in (*parents(module), *resolved(source.imports, index)):
            if found not in seen:
                seen.add(found)
                pending.append(found)
    return Closure(
        modules=dict(sorted(modules.items())), distributions=installed.behind(foreign - {ENGINE}, DISTRIBUTION)
    )


def mentioned(name: str, index: SourceIndex) -> Iterator[str]:
    """The project's module behind a dotted name among a component's parameters."""
    module = name.partition(":")[0]
    while module:
        path = index.path(module)
        if path is not None and index.is_project(path):
            yield module
            return
        module = module.rpartition(".")[0]


def is_followed(module: str) -> bool:
    """Whether a module is one of Engine's or a shipped plugin's."""
    return module.split(".")[0] in (ENGINE, "engine_plugins")


def is_owned(module: str, path: Path, index: SourceIndex) -> bool:
    """Whether a module's source is identity: a step, a shipped plugin, or the project's."""
    if is_followed(module):
        return any(module == name or module.startswith(f"{name}.") for name in SHIPPED)
    return index.is_project(path)


def parents(module: str) -> Iterator[str]:
    """The packages that importing ``module`` runs first."""
    parts = module.split(".")
    yield from (".".join(parts[:length]) for length in range(1, len(parts)))


def resolved(imports: Iterable[str], index: SourceIndex) -> Iterator[str]:
    """Imported names as modules: the last part of a ``from`` import may be an attribute."""
    for name in imports:
        top = name.split(".")[0]
        path = index.path(top)
        if path is not None and not is_followed(name) and not index.is_project(path):
            yield top
        elif index.path(name) is not None:
            yield name
        else:
            yield name.rpartition(".")[0] or name


def imports_of(tree: ast.Module, module: str, is_package: bool) -> Iterator[str]:
    """Every absolute name that a source imports, anywhere in it but under ``if TYPE_CHECKING``."""
    package = module if is_package else module.rpartition(".")[0]
    for node in run_time_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = absolute(node, package)
            yield from (f"{base}.{alias.name}" if alias.name != "*" else base for alias in node.names)


def run_time_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Every node below ``node`` but what only a type checker sees."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from run_time_nodes(child)


def absolute(node: ast.ImportFrom, package: str) -> str:
    """The module that a ``from`` import names."""
    if not node.level:
        return node.module or ""
    base = package.split(".")
    base = base[: len(base) - node.level + 1]
    return ".".join([*base, *([node.module] if node.module else [])])


def sources(modules: Mapping[str, str], index: SourceIndex) -> dict[str, bytes]:
    """The source of each module, to be kept with the run."""
    found = {}
    for module in modules:
        path = index.path(module)
        if path is not None:
            found[module] = path.read_bytes()
    return found
