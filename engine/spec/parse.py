"""Plain values -> the typed spec, or every reason why not. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from engine.errors import Place, Problem, nearest, suggestion
from engine.spec.grounds import Grounds
from engine.spec.model import SECRET, KeyPath, SecretRef, Spec, dotted
from engine.spec.positions import Positions

WORDS: Mapping[str, str] = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "mapping_type": "a mapping",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}
OVERRIDDEN = "override "
MOST_ROUNDS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Composed:
    """Values after composing. ``origin`` maps a key to the key it had before null list items were dropped.

    On the same ``grounds``, with the same overrides, it is the same composition, if it is ``repeatable`` at all.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    origin: Mapping[KeyPath, KeyPath] = field(default_factory=dict)
    positions: Positions = Positions()
    files: tuple[Path, ...] = ()
    problems: tuple[Problem, ...] = ()
    grounds: Grounds = Grounds()
    repeatable: bool = True

    def place(self, path: KeyPath, at: str = "value") -> Place:
        """Where a person changes the key ``path``."""
        place = self.positions.place(self.origin.get(path, path), at)
        said = place.file.startswith(OVERRIDDEN) and names_key(place.file, dotted(path))
        return Place(file=place.file, line=place.line, column=place.column, key="" if said else dotted(path))


def names_key(override: str, key: str) -> bool:
    """Whether the text of an override begins with a key, so that a message need not say it again."""
    return override.removeprefix(OVERRIDDEN).lstrip("~+").startswith(f"{key}=")


def drop_nulls(values: Any) -> tuple[Any, dict[KeyPath, KeyPath]]:
    """``values`` without the null items of its lists, and where each key that moved came from."""
    origin: dict[KeyPath, KeyPath] = {}

    def visit(value: Any, new: KeyPath, old: KeyPath) -> Any:
        if new != old:
            origin[new] = old
        if isinstance(value, dict):
            return {key: visit(item, (*new, key), (*old, key)) for key, item in value.items()}
        if isinstance(value, list):
            kept = [(index, item) for index, item in enumerate(value) if item is not None]
            return [visit(item, (*new, at), (*old, index)) for at, (index, item) in enumerate(kept)]
        return value

    return visit(values, (), ()), origin


@dataclass(frozen=True, kw_only=True, slots=True)
class Parsed:
    """A spec, and what is wrong with it.

    When something is wrong, ``spec`` is what is left without the keys at ``removed``, so that the rest can be checked
    as well; it is ``None`` when too little is left. ``secrets`` are the keys at which a secret is out of place.
    """

    spec: Spec | None
    problems: tuple[Problem, ...] = ()
    removed: tuple[KeyPath, ...] = ()
    secrets: tuple[KeyPath, ...] = ()

    def is_about_removed(self, path: KeyPath) -> bool:
        """Whether a finding at ``path`` may come from what was removed."""
        return any(
            (len(gone) > 1 and path[: len(gone) - 1] == gone[:-1])
            or path[: len(gone)] == gone
            or gone[: len(path)] == path
            for gone in self.removed
        ) or any(secret[: len(path)] == path for secret in self.secrets)


def parse(composed: Composed) -> Parsed:
    """The spec, or every problem that keeps it from being one."""
    values = composed.values
    problems: list[Problem] = []
    removed: list[KeyPath] = []
    for _ in range(MOST_ROUNDS):
        try:
            spec = Spec.model_validate(values)
        except ValidationError as error:
            own = [with_key(one, values) for one in error.errors(include_url=False) if is_own(one)]
            details = list(merge_unions(own))
            told = [detail for detail in details if not is_misspelt(detail, details)]
            problems += [problem_of(detail, composed) for detail in told if key_path(detail) not in removed]
            paths = [key_path(detail) for detail in details if detail["type"] != "missing"]
            values, before = without(values, paths), values
            removed += paths
            if values == before or len(paths) < len(details):
                return Parsed(spec=None, problems=tuple(problems))
        else:
            secrets = tuple(path for path in misplaced_secrets(composed) if path not in removed)
            problems += [secret_problem(path, composed) for path in secrets]
            return Parsed(spec=spec, problems=tuple(problems), removed=tuple(removed), secrets=secrets)
    return Parsed(spec=None, problems=tuple(problems))


def without(values: Any, paths: list[KeyPath]) -> Any:
    """``values`` less the keys at ``paths``; list items stay, so that the others keep their numbers."""
    if isinstance(values, Mapping):
        gone = {path[0] for path in paths if len(path) == 1}
        return {
            key: without(item, [path[1:] for path in paths if len(path) > 1 and path[0] == key])
            for key, item in values.items()
            if key not in gone
        }
    if isinstance(values, list):
        return [
            without(item, [path[1:] for path in paths if len(path) > 1 and path[0] == index])
            for index, item in enumerate(values)
        ]
    return values


def is_misspelt(detail: ErrorDetails, details: list[ErrorDetails]) -> bool:
    """Whether a key is only missing because it is there with a typing error, which is told anyway."""
    path = key_path(detail)
    if detail["type"] != "missing":
        return False
    unknown = [key_path(other) for other in details if other["type"] == "extra_forbidden"]
    beside = [str(other[-1]) for other in unknown if other[:-1] == path[:-1]]
    return any(nearest(name, known_keys(path[:-1])) == path[-1] for name in beside)


def is_own(detail: ErrorDetails) -> bool:
    """Whether a detail stands for itself (a union reports each of its members; one of them is enough)."""
    return not (detail["loc"] and detail["loc"][-1] == "SecretRef")


def merge_unions(details: list[ErrorDetails]) -> Iterator[ErrorDetails]:
    """One detail for each place: a union of types gives one for each member that did not fit."""
    seen: set[KeyPath] = set()
    for detail in details:
        path = key_path(detail)
        if path not in seen:
            seen.add(path)
            yield detail


def with_key(detail: ErrorDetails, values: Any) -> ErrorDetails:
    """A detail whose ``loc`` is a key of the spec: pydantic puts the names of types between, which are no keys."""
    path: list[str | int] = []
    for index, part in enumerate(detail["loc"]):
        is_item = isinstance(values, list) and isinstance(part, int) and part < len(values)
        if is_item or (isinstance(values, Mapping) and part in values):
            values = values[part]
        elif detail["type"] not in ("missing", "invalid_key") or index < len(detail["loc"]) - 1:
            continue
        path.append(part)
    return {**detail, "loc": tuple(path)}


def key_path(detail: ErrorDetails) -> KeyPath:
    """The key that a detail is about."""
    return detail["loc"]


def problem_of(detail: ErrorDetails, composed: Composed) -> Problem:
    """One of pydantic's findings as a problem: place, fact, hint."""
    path = key_path(detail)
    kind = detail["type"]
    if kind == "extra_forbidden":
        hint = suggestion(str(path[-1]), known_keys(path[:-1]))
        owner = f" in {dotted(path[:-1])}" if path[:-1] else ""
        return Problem(
            rule="key-unknown", fact=f'unknown key "{path[-1]}"{owner}', hint=hint, place=composed.place(path, "key")
        )
    if kind == "invalid_key":
        fact, hint = f"a key must be text, got {path[-1]}", f'put it in quotes: "{path[-1]}"'
        return Problem(rule="yaml-key", fact=fact, hint=hint, place=composed.place(path, "key"))
    if kind == "missing":
        place = composed.place(path[:-1], "key")
        place = Place(file=place.file, line=place.line, column=place.column, key=dotted(path))
        return Problem(rule="key-missing", fact=f'the key "{path[-1]}" is missing', hint=example(path), place=place)
    secret = isinstance(detail["input"], str) and SECRET in detail["input"]
    if secret:
        return secret_problem(path, composed)
    return Problem(rule="value", fact=fact_of(detail), hint=hint_of(detail), place=composed.place(path))


def fact_of(detail: ErrorDetails) -> str:
    """What is wrong with a value, with the value."""
    kind, given = detail["type"], shown(detail["input"])
    if kind in WORDS:
        return f"expected {WORDS[kind]}, got {given}"
    if kind == "literal_error":
        return f"{given} is not one of {detail['ctx']['expected']}"
    if kind == "value_error":
        return f"{detail['ctx']['error']}, got {given}"
    if kind == "string_pattern_mismatch":
        return f"{given} does not match {detail['ctx']['pattern']}"
    if kind == "too_short":
        return "this is empty"
    message = detail["msg"].replace("Input should be", "expected a value").replace("value a", "a").replace("a a ", "a ")
    return f"{message}, got {given}"


def hint_of(detail: ErrorDetails) -> str:
    """The nearest admissible value, where there is a list of them."""
    if detail["type"] == "literal_error":
        options = re.findall(r"'([^']*)'", str(detail["ctx"]["expected"]))
        return suggestion(str(detail["input"]), options)
    if detail["type"] == "string_pattern_mismatch":
        return "use 2 to 63 small letters, digits and hyphens" if "a-z0-9-" in str(detail["ctx"]["pattern"]) else ""
    if detail["type"] == "too_short":
        return "give at least one"
    return ""


def shown(value: object) -> str:
    """A value as messages print it: short, in quotes when it is text."""
    if isinstance(value, str):
        return f'"{value}"' if len(value) < 60 else f'"{value[:57]}..."'
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    return str(value)


def known_keys(path: KeyPath) -> list[str]:
    """The keys that the section at ``path`` may have."""
    section = section_at(path)
    if section is None:
        return []
    return [info.alias or name for name, info in section.model_fields.items()]


def section_at(path: KeyPath) -> type[BaseModel] | None:
    """The model class of the section at ``path``."""
    section: type[BaseModel] = Spec
    for part in path:
        if isinstance(part, int):
            continue
        info = next((i for name, i in section.model_fields.items() if part in (name, i.alias)), None)
        if info is None:
            continue  # the name of a data source
        inner = next(iter(model_classes(info.annotation)), None)
        if inner is None:
            return None
        section = inner
    return section


def model_classes(annotation: object) -> Iterator[type[BaseModel]]:
    """The model classes that an annotation mentions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel) and annotation is not SecretRef:
        yield annotation
    for argument in get_args(annotation):
        yield from model_classes(argument)


SECRETS = (("webhook",), ("signing_key",))
"""The ends of the keys that hold a secret."""
EXAMPLES: Mapping[str, str] = {
    "name": "name: late-arrivals",
    "data": "data: {train: {uri: lakefs://repo/main/train.parquet}}",
    "uri": "uri: lakefs://repo/main/path.parquet",
    "features": "features: {numeric: [a, b], categorical: [c]}",
    "target": "target: COLUMN",
    "train": "train: {uses: sklearn, data: train, with: {...}}",
    "evaluate": "evaluate: {data: test, metrics: [roc_auc]}",
    "uses": "uses: PLUGIN",
    "metric": "metric: roc_auc",
    "metrics": "metrics: [roc_auc]",
}


def example(path: KeyPath) -> str:
    """A line to copy for a missing key."""
    found = "data: train" if path[-1] == "data" and len(path) > 1 else EXAMPLES.get(str(path[-1]))
    return f"write `{found}`" if found else ""


def misplaced_secrets(composed: Composed) -> Iterator[KeyPath]:
    """Every place outside the secret fields that an environment variable would flow into."""
    for path, value in leaves(composed.values, ()):
        whole = path[-1:] in SECRETS and str(value).startswith(SECRET)
        if isinstance(value, str) and SECRET in value and not whole:
            yield path


def secret_problem(path: KeyPath, composed: Composed) -> Problem:
    """An environment variable where it would become part of the run."""
    return Problem(
        rule="secret-misplaced",
        fact="an environment variable may stand only for a whole secret (a webhook or a key)",
        hint="write the value, or pass it as an override",
        place=composed.place(path),
    )


def leaves(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    """Every scalar with its key."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from leaves(item, (*path, index))
    else:
        yield path, value
