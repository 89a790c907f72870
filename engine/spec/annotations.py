"""What a parameter's type annotation, read from source and never evaluated, says of YAML values. Pure."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

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
    "Probability": (int, float),
    "Count": (int,),
    "ClassName": (str,),
    "ClassParameters": (Mapping,),
}
RANGES: Mapping[str, dict[str, float]] = {
    "Probability": {"exclusiveMinimum": 0, "exclusiveMaximum": 1},
    "Count": {"minimum": 1},
}
RANGE_WORDS: Mapping[str, str] = {
    "Probability": "give a number above 0 and below 1, such as 0.05",
    "Count": "give a whole number of at least 1",
}
JSON_TYPES: Mapping[str, str] = {
    "int": "integer",
    "float": "number",
    "str": "string",
    "bool": "boolean",
    "None": "null",
    "list": "array",
    "tuple": "array",
    "Sequence": "array",
    "dict": "object",
    "Mapping": "object",
    "Probability": "number",
    "Count": "integer",
    "ClassName": "string",
    "ClassParameters": "object",
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
    return isinstance(value, expected) and is_within(name, value)


def is_within(name: str, value: object) -> bool:
    """Whether a number is in the range that its type's name stands for; most types have none."""
    bounds = RANGES.get(name, {})
    return not isinstance(value, int | float) or (
        value >= bounds.get("minimum", value)
        and ("exclusiveMinimum" not in bounds or value > bounds["exclusiveMinimum"])
        and ("exclusiveMaximum" not in bounds or value < bounds["exclusiveMaximum"])
    )


def range_words(annotation: str) -> str:
    """What to give where a type has a range; empty where it has none."""
    return next((words for name, words in RANGE_WORDS.items() if name in annotation), "")


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


def schema_of(annotation: str) -> dict[str, Any]:
    """The JSON Schema of the values that :func:`fits` admits."""
    try:
        tree = ast.parse(annotation, mode="eval").body
    except SyntaxError:
        return {}
    if isinstance(tree, ast.Constant) and isinstance(tree.value, str):
        return schema_of(tree.value)
    return admitted(tree)


def admitted(node: ast.expr) -> dict[str, Any]:
    """The JSON Schema of one node of an annotation's syntax tree; the mirror of :func:`admits`."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return either([admitted(node.left), admitted(node.right)])
    if isinstance(node, ast.Constant):
        return {"type": "null"} if node.value is None else {}
    name = name_of(node.value if isinstance(node, ast.Subscript) else node)
    if not isinstance(node, ast.Subscript):
        return {"type": JSON_TYPES[name], **RANGES.get(name, {})} if name in JSON_TYPES else {}
    parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    if name == "Literal":
        return {"enum": [part.value for part in parts if isinstance(part, ast.Constant)]}
    if name in ("Optional", "Union"):
        return either([*map(admitted, parts), *([{"type": "null"}] if name == "Optional" else [])])
    found: dict[str, Any] = {"type": JSON_TYPES[name]} if name in JSON_TYPES else {}
    if found == {"type": "object"} and len(parts) == 2:
        return {**found, "additionalProperties": admitted(parts[1])}
    if found == {"type": "array"} and name != "tuple":
        return {**found, "items": admitted(parts[0])}
    return found


def either(schemas: list[dict[str, Any]]) -> dict[str, Any]:
    """A schema that admits what any of ``schemas`` does; one level deep where that is possible, for the reader."""
    if not all(schemas):
        return {}
    if all(schema.keys() == {"type"} for schema in schemas):
        return {"type": [kind for schema in schemas for kind in as_list(schema["type"])]}
    if len(schemas) == 2 and schemas[1] == {"type": "null"} and schemas[0].keys() == {"enum"}:
        return {"enum": [*schemas[0]["enum"], None]}
    if len(schemas) == 2 and schemas[1] == {"type": "null"} and "type" in schemas[0] and "enum" not in schemas[0]:
        return {**schemas[0], "type": [*as_list(schemas[0]["type"]), "null"]}
    return {"anyOf": schemas}


def as_list(value: str | list[str]) -> list[str]:
    """One type or several as several."""
    return [value] if isinstance(value, str) else value


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
