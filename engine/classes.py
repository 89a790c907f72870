"""A class that a parameter names, ``package.module.Class``: looked up in its source, and nothing of it imported.

What cannot be told from the source, as it is made when it is imported, is not complained about.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from engine.errors import NotFound, UsageError
from engine.plugins import arguments, parsed, source_of

DEEPEST = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A definition, and the module that it stands in."""

    node: ast.ClassDef | ast.FunctionDef
    module: str
    path: Path


def parameters_of(name: str, roots: Sequence[Path] = ()) -> tuple[str, ...] | None:
    """The names that the constructor of a class takes; ``None`` when it takes any, or its source does not say.

    Args:
        name: ``package.module.Class`` or ``module:Class``.
        roots: where the project's own modules lie.

    Raises:
        NotFound: when the module is not there, or has no such name; with the nearest.
        UsageError: when the name is no class's, or a source does not parse.
    """
    module, _, attribute = name.partition(":") if ":" in name else name.rpartition(".")
    if not module or not attribute:
        hint = "write package.module.Class, or module:Class for one of the project"
        raise UsageError(f'"{name}" does not say where the class is', hint=hint)
    found = definition(module, attribute, tuple(roots))
    if found is None:
        return None
    if not isinstance(found.node, ast.ClassDef):
        raise UsageError(f'"{name}" is no class', hint="name a class")
    return constructor(found, tuple(roots))


def definition(module: str, attribute: str, roots: tuple[Path, ...], depth: int = 0) -> Found | None:
    """Where a name of a module is defined, through whatever imports it; ``None`` when that cannot be told.

    Raises:
        NotFound: when the module is not there, or surely has no such name.
    """
    path = source_of(module, roots)
    if path is None:
        if depth:
            return None
        raise NotFound("module", module, hint="it is looked for in the project and in the environment")
    if path.suffix != ".py" or depth > DEEPEST:
        return None
    is_package = path.name == "__init__.py"
    known: dict[str, None] = {}
    for node in statements(tree(path).body):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            if node.name == attribute:
                return Found(node=node, module=module, path=path)
            if node.name == "__getattr__":
                return None
            known[node.name] = None
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if alias.name == "*":
                    return None
                if (alias.asname or alias.name) == attribute:
                    return definition(absolute(module, node, is_package=is_package), alias.name, roots, depth + 1)
                known[alias.asname or alias.name] = None
        elif attribute in bound(node):
            return None
    if depth:
        return None
    public = [name for name in known if name[:1].isupper()]
    raise NotFound(f"class in {module}", attribute, public)


def statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a module, also those that stand under ``if`` and ``try``."""
    for node in body:
        yield node
        if isinstance(node, ast.If | ast.Try):
            yield from statements(node.body)
            yield from statements(node.orelse)
        if isinstance(node, ast.Try):
            for handler in node.handlers:
                yield from statements(handler.body)


def bound(node: ast.stmt) -> set[str]:
    """The names that a statement may bind, whatever they are then."""
    if isinstance(node, ast.Import):
        return {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
    if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.With | ast.For):
        return {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}
    return set()


def absolute(module: str, node: ast.ImportFrom, *, is_package: bool) -> str:
    """The module that ``from ... import`` names."""
    if not node.level:
        return node.module or ""
    parts = module.split(".")
    parts = parts[: len(parts) - node.level + (1 if is_package else 0)]
    return ".".join([*parts, *([node.module] if node.module else [])])


def constructor(found: Found, roots: tuple[Path, ...], depth: int = 0) -> tuple[str, ...] | None:
    """What ``__init__`` takes: a class's own, else that of the first of its bases that has one."""
    assert isinstance(found.node, ast.ClassDef)
    for node in found.node.body:
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            taken, open_ended = arguments(node.args, skip=1)
            return None if open_ended or node.args.vararg else tuple(parameter.name for parameter in taken)
    for base in found.node.bases if depth < DEEPEST else ():
        above = definition(found.module, base.id, roots, depth=1) if isinstance(base, ast.Name) else None
        if above is not None and isinstance(above.node, ast.ClassDef) and above.node is not found.node:
            names = constructor(above, roots, depth + 1)
            if names is not None:
                return names
    return None


@cache
def tree(path: Path) -> ast.Module:
    """The syntax tree of a file, read once."""
    return parsed(path)
