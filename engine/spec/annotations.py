"""Whether a YAML value fits a parameter's type annotation, read from source and never evaluated. Pure."""

from __future__ import annotations

import ast
from collections.abc import Mapping

SCALARS: Mapping[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "str": (str,),
    "bool": (bool,),
    "None": (type(None),),
    "list": (list, tuple),
    "tuple": (list, tuple),
    "Sequence": (list, tuple),
    "dict": (Mapping,),
    "Mapping": (Mapping,),
}


def fits(annotation: str, value: object) -> bool:
    """Whether ``value`` is admissible under ``annotation``. What is not understood admits everything."""
    if not annotation:
        return True
    try:
        tree = ast.parse(annotation, mode="eval").body
    except SyntaxError:
        return True
    if isinstance(tree, ast.Constant) and isinstance(tree.value, str):
        return fits(tree.value, value)
    return admits(tree, value)


def admits(node: ast.expr, value: object) -> bool:
    """The rule for one node of an annotation's syntax tree."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return admits(node.left, value) or admits(node.right, value)
    if isinstance(node, ast.Constant):
        return node.value is not None or value is None
    name = name_of(node.value if isinstance(node, ast.Subscript) else node)
    if isinstance(node, ast.Subscript):
        return admits_generic(name, node.slice, value)
    expected = SCALARS.get(name)
    if expected is None:
        return True
    if isinstance(value, bool):
        return bool in expected
    return isinstance(value, expected)


def admits_generic(name: str, inner: ast.expr, value: object) -> bool:
    """The rule for ``Literal[...]``, ``Optional[...]``, ``list[...]`` and ``dict[..., ...]``."""
    parts = inner.elts if isinstance(inner, ast.Tuple) else [inner]
    if name == "Literal":
        return any(isinstance(part, ast.Constant) and part.value == value for part in parts)
    if name == "Optional":
        return value is None or admits(parts[0], value)
    if name == "Union":
        return any(admits(part, value) for part in parts)
    expected = SCALARS.get(name)
    if expected is None:
        return True
    if not isinstance(value, expected) or isinstance(value, bool):
        return False
    if isinstance(value, Mapping):
        return len(parts) != 2 or all(admits(parts[1], item) for item in value.values())
    if isinstance(value, (list, tuple)) and name != "tuple":
        return all(admits(parts[0], item) for item in value)
    return True


def options(annotation: str) -> list[str]:
    """The texts that a ``Literal[...]`` annotation admits."""
    try:
        tree = ast.parse(annotation, mode="eval").body
    except SyntaxError:
        return []
    if not isinstance(tree, ast.Subscript) or name_of(tree.value) != "Literal":
        return []
    parts = tree.slice.elts if isinstance(tree.slice, ast.Tuple) else [tree.slice]
    return [str(part.value) for part in parts if isinstance(part, ast.Constant)]


def name_of(node: ast.expr) -> str:
    """The last part of a dotted name."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""
