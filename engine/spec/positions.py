"""Where each key of a YAML file stands, and what is wrong with the file before anyone asks what it means."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from engine.errors import Place, Problem
from engine.spec.model import KeyPath, dotted

MAX_BYTES = 1_000_000
MAX_DEPTH = 40
SHOWN_DEPTH = 4
SHALLOW = 2000
MAX_NODES = 50_000
BOOLEAN = "tag:yaml.org,2002:bool"
MERGE = "tag:yaml.org,2002:merge"
FORBIDDEN_RESOLVERS = ("now:", "hydra:")


@dataclass(frozen=True, kw_only=True, slots=True)
class Spot:
    """Where a key and its value begin: (line, column), 1-based."""

    key: tuple[int, int]
    value: tuple[int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """One source of values: a file mounted at a key (``prefix``), or an override."""

    name: str
    prefix: KeyPath = ()
    spots: Mapping[KeyPath, Spot] = field(default_factory=dict)

    def find(self, path: KeyPath) -> Spot | None:
        """The spot of ``path`` in this layer, if it sets it."""
        if path[: len(self.prefix)] != self.prefix:
            return None
        own = path[len(self.prefix) :]
        return self.spots.get(own) or self.spots.get(tuple(str(part) for part in own))  # a key may be a number

    def nearest(self, path: KeyPath) -> tuple[int, Spot] | None:
        """The spot of the longest beginning of ``path`` that this layer sets, and its length."""
        spots = ((length, self.find(path[:length])) for length in range(len(path), -1, -1))
        return next(((length, spot) for length, spot in spots if spot is not None), None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Positions:
    """The layers of a composed spec, the later ones winning."""

    layers: tuple[Layer, ...] = ()

    def place(self, path: KeyPath, at: str = "value") -> Place:
        """Where to change ``path``; of its nearest ancestor when nothing sets it.

        The first item of what is written as one name (``data: train`` for ``data: [train]``) is that name.
        """
        found: tuple[int, Layer, Spot] | None = None
        for layer in reversed(self.layers):
            nearest = layer.nearest(path)
            if nearest is None:
                continue
            length, spot = nearest
            if found is None or length > found[0]:
                found = length, layer, spot
            if length < len(path) and isinstance(path[length], int):
                break  # it sets the whole list: of what earlier layers say of its items nothing is left
        if found is None:
            return Place(file=self.layers[0].name if self.layers else "", key=dotted(path))
        length, layer, spot = found
        exact = path[length:] in ((), (0,))
        line, column = spot.key if at == "key" or not exact else spot.value
        return Place(file=layer.name, line=line, column=column, key=dotted(path))


@dataclass(frozen=True, kw_only=True, slots=True)
class Scan:
    """What one pass over a YAML file found. ``root`` tells whether it is a mapping at all."""

    spots: Mapping[KeyPath, Spot]
    problems: tuple[Problem, ...]


def scan(text: str, name: str) -> Scan:
    """Find every key of ``text`` and everything wrong with its form.

    Reported: bad syntax, duplicate keys, keys that YAML 1.1 reads as booleans, keys that are not text, too much
    nesting or too many aliases, keys that would make the spec a program, and interpolations that differ each time.
    """
    if len(text) > MAX_BYTES:
        return refused(name, "yaml-size", f"the file is larger than {MAX_BYTES:,} bytes", "a spec is data about data")
    try:
        root = read(yaml.compose, text)
    except yaml.MarkedYAMLError as error:
        return syntax_problem(error, name, text)
    except (yaml.YAMLError, ValueError) as error:
        return refused(name, "yaml-syntax", str(error).splitlines()[0], "a spec is UTF-8 text")
    except RecursionError:
        return refused(name, "yaml-depth", "the nesting is too deep", f"at most {MAX_DEPTH} levels are read")
    if root is None:
        return refused(name, "yaml-empty", "the file is empty", "begin with `name: ...`, or copy specs/model.yaml")
    if not isinstance(root, yaml.MappingNode):
        return refused(name, "yaml-mapping", "the file is not a mapping of keys to values", "begin with `name: ...`")
    walk = Walk(name=name)
    walk.visit(root, (), 0)
    return Scan(spots=walk.spots, problems=tuple(walk.problems))


def read(do: Callable[[str, Any], Any], text: str) -> Any:
    """``yaml.compose`` or ``yaml.load`` of a text by libyaml, or by the loader in Python, whose complaints are plainer.

    Libyaml's recursion does not notice where the stack ends, so what may be nested deeply is not for it: every level
    takes one of these characters, or a line.
    """
    most = sum(map(text.count, ("[", "{", "- ", "-\t", "? ", "?\t", "\n", "\r", "\u2028", "\u2029", "\x85")))
    if yaml.__with_libyaml__ and most < SHALLOW:
        with suppress(yaml.YAMLError, ValueError):
            return do(text, yaml.CSafeLoader)
    return do(text, yaml.SafeLoader)


def refused(name: str, rule: str, fact: str, hint: str) -> Scan:
    """A scan that found one problem with the whole file."""
    problem = Problem(rule=rule, fact=fact, hint=hint, place=Place(file=name, line=1, column=1))
    return Scan(spots={}, problems=(problem,))


UNQUOTED = re.compile(r"""[:,\[]\s*([^\s"'#{}\[\],]*\$\{[^}\n]*\})""")


def syntax_problem(error: yaml.MarkedYAMLError, name: str, text: str = "") -> Scan:
    """YAML's own complaint, at its own mark; where an interpolation without quotes caused it, with that."""
    mark = error.problem_mark or error.context_mark
    place = Place(file=name, line=mark.line + 1 if mark else 1, column=mark.column + 1 if mark else 1)
    parts = [part for part in (error.problem, error.context) if part]
    if str(error.problem).startswith("but "):
        parts.reverse()
    fact = f"not YAML: {' '.join(parts)}"
    hint = "check the indentation, quotes and brackets here and on the line before"
    line = text.splitlines()[place.line - 1] if place.line <= len(text.splitlines()) else ""
    if (bare := UNQUOTED.search(line)) and bare.start(1) <= place.column:
        place = replace(place, column=bare.start(1) + 1)
        fact, hint = f"not YAML: in braces or brackets {bare[1]} ends at its `}}`", f'put it in quotes: "{bare[1]}"'
    return Scan(spots={}, problems=(Problem(rule="yaml-syntax", fact=fact, hint=hint, place=place),))


class Walk:
    """One depth-first pass over a composed YAML document."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.spots: dict[KeyPath, Spot] = {}
        self.problems: list[Problem] = []
        self.nodes = 0

    def report(self, node: yaml.Node, path: KeyPath, rule: str, fact: str, hint: str) -> None:
        """Note a problem at ``node``."""
        line, column = start(node)
        place = Place(file=self.name, line=line, column=column, key=dotted(path))
        self.problems.append(Problem(rule=rule, fact=fact, hint=hint, place=place))

    def visit(self, node: yaml.Node, path: KeyPath, depth: int) -> None:
        """Note the spots and problems below ``node``."""
        self.nodes += 1
        if depth > MAX_DEPTH or self.nodes > MAX_NODES:
            if not any(problem.rule == "yaml-depth" for problem in self.problems):
                self.report(
                    node, path[:SHOWN_DEPTH], "yaml-depth", "too deep, or too many aliases", "write it out flat"
                )
            return
        if not path:
            self.spots[()] = Spot(key=start(node), value=start(node))
        if isinstance(node, yaml.MappingNode):
            self.visit_mapping(node, path, depth)
        elif isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self.spots[(*path, index)] = Spot(key=start(item), value=start(item))
                self.visit(item, (*path, index), depth + 1)
        elif isinstance(node, yaml.ScalarNode):
            self.visit_text(node, path)

    def visit_mapping(self, node: yaml.MappingNode, path: KeyPath, depth: int) -> None:
        """Note each key of a mapping, then go below it."""
        seen: set[str] = set()
        for key_node, value_node in node.value:
            if key_node.tag == MERGE:
                self.visit(value_node, path, depth + 1)
                continue
            if not self.is_good_key(key_node, path, seen):
                continue
            seen.add(key_node.value)
            below = (*path, key_node.value)
            self.check_key(key_node, below)
            self.spots[below] = Spot(key=start(key_node), value=start(value_node))
            self.visit(value_node, below, depth + 1)

    def is_good_key(self, node: yaml.Node, path: KeyPath, seen: set[str]) -> bool:
        """Whether ``node`` can be a key here; a problem is noted when it cannot."""
        if not isinstance(node, yaml.ScalarNode):
            self.report(node, path, "yaml-key", "a key must be a name", "write `key: value`")
            return False
        below = (*path, node.value)
        if node.tag == BOOLEAN:
            hint = f'put it in quotes: "{node.value}"'
            self.report(node, below, "yaml-boolean-key", f"YAML reads the key `{node.value}` as a boolean", hint)
            return False
        if node.value in seen:
            self.report(
                node, below, "yaml-duplicate-key", f'the key "{node.value}" is here twice', "remove one of them"
            )
            return False
        return True

    def check_key(self, node: yaml.ScalarNode, path: KeyPath) -> None:
        """Refuse keys that would make the spec a program."""
        key = str(node.value)
        if key in ("_target_", "_recursive_", "_convert_", "_partial_", "_args_"):
            hint = "name a plugin with `uses:`; a spec is data, not code"
            self.report(node, path, "spec-is-data", f"`{key}` is not allowed in a spec", hint)
        if len(path) == 1 and key == "hydra":
            return
        if len(path) == 2 and path[0] == "hydra" and key not in ("searchpath", "sweeper"):
            hint = "only hydra.searchpath (inside the project) and hydra.sweeper may be set"
            self.report(node, path, "spec-is-data", f"`hydra.{key}` is not allowed in a spec", hint)

    def visit_text(self, node: yaml.ScalarNode, path: KeyPath) -> None:
        """Refuse interpolations whose value differs from one run to the next."""
        for resolver in FORBIDDEN_RESOLVERS:
            if "${" + resolver in node.value.replace(" ", ""):
                fact = "`${" + resolver + "...}` changes from run to run"
                self.report(node, path, "interpolation-unstable", fact, "write the value itself")


def start(node: yaml.Node) -> tuple[int, int]:
    """Where a node begins: (line, column), 1-based."""
    mark = node.start_mark
    return mark.line + 1, mark.column + 1


def in_order(problems: Iterator[Problem] | tuple[Problem, ...] | list[Problem]) -> list[Problem]:
    """Problems by file, line and column."""
    return sorted(problems, key=lambda item: (item.place.file, item.place.line, item.place.column, item.rule))
