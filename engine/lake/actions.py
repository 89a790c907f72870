"""What an action file of lakeFS (``_lakefs_actions/*.yaml``) says. Pure.

::

    name: good data
    on: {pre-merge: {branches: [main]}, pre-commit: {branches: [main, "release-*"]}}
    hooks:
      - id: validate
        type: webhook
        if: success()
        properties: {url: "https://checks.example.org/new", timeout: 2m, headers: {key: "{{ ENV.LAKEFSACTION_KEY }}"}}

What this lake does not do (other events, other types of hooks, unknown keys) is refused when the file is read, so that
nobody relies on a check that never runs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, get_args

import yaml

from engine.errors import UsageError, suggestion
from engine.lake.events import Kind

EVENTS: tuple[Kind, ...] = get_args(Kind)
NAME = re.compile(r"\w[\w\-. ]+", re.ASCII)
ID = re.compile(r"[_a-zA-Z][-_a-zA-Z0-9]{1,255}")
HEADER = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
OWN_HEADERS = frozenset({"connection", "content-length", "content-type", "host", "transfer-encoding"})
PATTERN = re.compile(r"(?:[\w*?-]|\[\^?[\w-]+\])+", re.ASCII)
DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:h|ms|m|s))+")
MERGE = "tag:yaml.org,2002:merge"
TRUTH = "true|True|TRUE|false|False|FALSE"
PART = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s)")
SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
DEFAULT_SECONDS, MOST_SECONDS = 60.0, 300.0
VARIABLE = re.compile(r"\{\{ ?ENV\.([^{} ]*) ?\}\}")
VARIABLES = "LAKEFSACTION_"
CONDITIONS: Mapping[str, tuple[bool, bool]] = {
    "": (True, False),
    "success()": (True, False),
    "failure()": (False, True),
    "true": (True, True),
    "false": (False, False),
}
"""What ``if:`` may say, and whether the hook then runs after success and after failure."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Hook:
    """A POST to make within ``seconds``. ``query`` and ``headers`` may hold ``{{ ENV.LAKEFSACTION_X }}``."""

    id: str
    url: str
    condition: str = ""
    seconds: float = DEFAULT_SECONDS
    query: tuple[tuple[str, str], ...] = ()
    headers: tuple[tuple[str, str], ...] = ()

    def runs_after(self, failed: bool) -> bool:
        """Whether the hook runs when the ones before it in its action have, or have not, failed."""
        return CONDITIONS[self.condition][failed]


@dataclass(frozen=True, kw_only=True, slots=True)
class Action:
    """Hooks that run one after the other, and when: ``on`` maps an event to patterns of branches (none: all)."""

    name: str
    on: Mapping[Kind, tuple[str, ...]]
    hooks: tuple[Hook, ...]

    def fires(self, kind: Kind, branch: str) -> bool:
        """Whether something that happens to a branch starts the action."""
        patterns = self.on.get(kind)
        return patterns is not None and (not patterns or any(matches(pattern, branch) for pattern in patterns))


def parse_action(data: bytes) -> Action:
    """Read an action file.

    Raises:
        UsageError: whose place is the key that is wrong.
    """
    content = mapping(values(data), "", ("name", "description", "on", "hooks"))
    name = text(content, "name", "name")
    if not NAME.fullmatch(name):
        raise wrong("name", "must be letters, digits, blanks and _ - . after a letter or digit")
    hooks = tuple(parse_hook(item, f"hooks.{index}") for index, item in enumerate(items(content, "hooks", "hooks")))
    ids = [hook.id for hook in hooks]
    for index, id in enumerate(ids):
        if id in ids[:index]:
            raise wrong(f"hooks.{index}.id", f'"{id}" is the id of an earlier hook')
    return Action(name=name, on=parse_events(content.get("on")), hooks=hooks)


def parse_events(given: object) -> dict[Kind, tuple[str, ...]]:
    """The events that start an action, and the branches."""
    found: dict[Kind, tuple[str, ...]] = {}
    for event, more in mapping(given, "on").items():
        kind = next((kind for kind in EVENTS if kind == event), None)
        if kind is None:
            raise wrong(f"on.{event}", "this lake has no hooks for that event", suggestion(event, EVENTS))
        where = f"on.{event}.branches"
        content = {} if more is None else mapping(more, f"on.{event}", ("branches",))
        patterns = items(content, "branches", where)
        for pattern in patterns:
            if not isinstance(pattern, str) or not PATTERN.fullmatch(pattern):
                raise wrong(where, "must be branch names, in which *, ? and [a-z] may stand for others")
        found[kind] = tuple(str(pattern) for pattern in patterns)
    if not found:
        raise wrong("on", "names no event", suggestion("", EVENTS))
    return found


def parse_hook(given: object, where: str) -> Hook:
    """One hook of an action."""
    content = mapping(given, where, ("id", "type", "description", "if", "properties"))
    id, kind = text(content, "id", f"{where}.id"), text(content, "type", f"{where}.type")
    if not ID.fullmatch(id):
        raise wrong(f"{where}.id", "must be 2 to 256 letters, digits, _ and -, a letter or _ first")
    if kind != "webhook":
        raise wrong(f"{where}.type", f'this lake has no hooks of type "{kind[:40]}"', "use a webhook")
    condition = content.get("if", "")
    if isinstance(condition, bool):
        condition = "true" if condition else "false"
    if not isinstance(condition, str) or condition.replace(" ", "") not in CONDITIONS:
        raise wrong(f"{where}.if", "is not understood", "write success(), failure(), true or false")
    where += ".properties"
    properties = mapping(content.get("properties"), where, ("url", "timeout", "query_params", "headers"))
    return Hook(
        id=id,
        url=text(properties, "url", f"{where}.url"),
        condition=condition.replace(" ", ""),
        seconds=parse_seconds(properties, f"{where}.timeout"),
        query=parse_query(properties.get("query_params"), f"{where}.query_params"),
        headers=parse_headers(properties.get("headers"), f"{where}.headers"),
    )


def parse_seconds(properties: Mapping[str, Any], where: str) -> float:
    """A time limit as Go writes durations, at most :data:`MOST_SECONDS`."""
    if "timeout" not in properties:
        return DEFAULT_SECONDS
    given = text(properties, "timeout", where)
    if not DURATION.fullmatch(given):
        raise wrong(where, "is not a duration", "write 30s, 500ms or 1m30s")
    seconds = sum(float(number) * SECONDS[unit] for number, unit in PART.findall(given))
    if not seconds:
        raise wrong(where, "leaves no time", "write 30s, 500ms or 1m30s")
    return min(seconds, MOST_SECONDS)


def parse_query(given: object, where: str) -> tuple[tuple[str, str], ...]:
    """Query parameters; one that is a list is given several times."""
    found: list[tuple[str, str]] = []
    for name, value in mapping({} if given is None else given, where).items():
        for item in value if isinstance(value, list) else [value]:
            if not isinstance(item, str):
                raise wrong(f"{where}.{name}", "must be text, or a list of texts", "put it in quotes")
            found.append((name, checked(item, f"{where}.{name}")))
    return tuple(found)


def parse_headers(given: object, where: str) -> tuple[tuple[str, str], ...]:
    """Headers of the request."""
    found: list[tuple[str, str]] = []
    for name, value in mapping({} if given is None else given, where).items():
        if not HEADER.fullmatch(name) or name.lower() in OWN_HEADERS:
            raise wrong(f"{where}.{name}", "is not a header that can be set")
        if not isinstance(value, str):
            raise wrong(f"{where}.{name}", "must be text", "put it in quotes")
        found.append((name, checked(value, f"{where}.{name}")))
    return tuple(found)


def checked(value: str, where: str) -> str:
    """A value, all of whose variables an action file may name."""
    for name in VARIABLE.findall(value):
        if not name.startswith(VARIABLES):
            hint = f"name a variable that begins with {VARIABLES}"
            raise wrong(where, f"an action file may not read the variable {name[:40]!r}", hint)
    return value


def filled(value: str, environment: Mapping[str, str]) -> str:
    """A value with its variables' values in their places.

    Raises:
        UsageError: for a variable that is not set.
    """

    def put(found: re.Match[str]) -> str:
        if found[1] not in environment:
            raise UsageError(f"the variable {found[1]} is not set", hint="set it where the lake runs")
        return environment[found[1]]

    return VARIABLE.sub(put, value)


def masked(value: str) -> str:
    """A value as a log shows it: nothing of one that holds a variable."""
    return "*******" if VARIABLE.search(value) else value


def matches(pattern: str, branch: str) -> bool:
    """Whether a pattern in the grammar of Go's ``path.Match`` means a branch."""
    return fnmatchcase(branch, pattern.replace("[^", "[!"))


# -- YAML ----------------------------------------------------------------------------------------------


class Loader(yaml.SafeLoader):
    """YAML as lakeFS reads it: ``on`` and ``yes`` are text, and a key stands once. Mappings are not merged (``<<``)."""

    yaml_implicit_resolvers = {  # noqa: RUF012  (so PyYAML has it)
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping, unless a key stands in it twice."""
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        complaint = "a key stands twice" if len({key.value for key in keys}) < len(keys) else ""
        if any(key.tag == MERGE for key in keys):
            complaint = "mappings cannot be merged here"  # a few nested ones would fill the memory
        if complaint:
            raise yaml.constructor.ConstructorError(problem=complaint, problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile("^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


def values(data: bytes) -> object:
    """What a YAML file holds."""
    try:
        return yaml.load(data.decode(), Loader)  # noqa: S506  (it is a SafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise wrong("", f"is not YAML: {' '.join(str(error).split())[:200]}") from error


def mapping(given: object, where: str, known: Sequence[str] = ()) -> dict[str, Any]:
    """A mapping whose keys are texts, and, where ``known`` names some, are among these."""
    if not isinstance(given, dict):
        raise wrong(where, "must be a mapping" if given is not None else "is missing")
    for key in given:
        if not isinstance(key, str):
            raise wrong(where, "has a key that is not text", "put it in quotes")
        if known and key not in known:
            raise wrong(f"{where}.{key}".lstrip("."), "is not known here", suggestion(key, known))
    return given


def items(content: Mapping[str, Any], key: str, where: str) -> list[Any]:
    """A list, which may be left out."""
    given = content.get(key)
    if given is not None and not isinstance(given, list):
        raise wrong(where, "must be a list")
    return given or []


def text(content: Mapping[str, Any], key: str, where: str) -> str:
    """A text that must be there."""
    given = content.get(key)
    if not isinstance(given, str) or not given:
        raise wrong(where, "is missing" if given is None else "must be text", "put it in quotes" if given else "")
    return given


def wrong(where: str, fact: str, hint: str = "") -> UsageError:
    """What is wrong with a key of an action file."""
    return UsageError(fact, place=where, hint=hint)
