"""What a change to specs, code and data pins does to a plan: two plans side by side. Pure.

::

    then (a git ref) --\\
                        >-- against --> Against: spec keys, data pins, modules, and of each step what becomes of it
    now (the files) ---/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from engine.digest import plain
from engine.plan.model import Plan
from engine.plan.why import changes, leaves, platform_changes, reasons
from engine.resolve.model import ResolvedSpec

Change = Literal["same", "changed", "follows", "added", "removed", "always"]
"""``follows``: nothing of the step is otherwise, but of one before it. ``always``: it runs in every run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Compiled:
    """A spec that was resolved and compiled."""

    resolved: ResolvedSpec
    plan: Plan


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """Something with a name that differs; ``None`` is: not there."""

    name: str
    then: Any
    now: Any

    @property
    def kind(self) -> str:
        """``added``, ``removed`` or ``changed``."""
        if self.then is None:
            return "added"
        return "removed" if self.now is None else "changed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Pin:
    """A data source whose bytes or whose address differ: both pins as far as there are any, and its files."""

    name: str
    then: Mapping[str, str] | None
    now: Mapping[str, str] | None
    files: tuple[Item, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class StepChange:
    """What becomes of one step, and why."""

    id: str
    kind: str
    change: Change
    why: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Against:
    """Everything that a change does to a plan.

    ``note`` says what is odd about the ref: the spec is new there, was renamed since, or cannot be planned. Without a
    plan ``then`` there is nothing to compare with, and every step is added.
    """

    ref: str
    commit: str
    note: str = ""
    then: str | None = None
    now: str = ""
    spec: tuple[Item, ...] = ()
    data: tuple[Pin, ...] = ()
    code: tuple[Item, ...] = ()
    environment: tuple[Item, ...] = ()
    steps: tuple[StepChange, ...] = ()

    @property
    def same(self) -> bool:
        """Whether both are one run."""
        return self.then == self.now


def against(ref: str, commit: str, then: Compiled | None, now: Compiled, note: str = "") -> Against:
    """Compare the plan of ``now`` with the one that the ref has, if it has one."""
    if then is None:
        steps = tuple(StepChange(id=step.id, kind=step.kind, change="added") for step in now.plan.steps)
        return Against(ref=ref, commit=commit, note=note, now=now.resolved.run_id, steps=steps)
    return Against(
        ref=ref,
        commit=commit,
        note=note,
        then=then.resolved.run_id,
        now=now.resolved.run_id,
        spec=tuple(items(spec_of(then.resolved), spec_of(now.resolved))),
        data=tuple(pins(then.resolved, now.resolved)),
        code=tuple(items(then.resolved.modules, now.resolved.modules)),
        environment=tuple(items(distributions(then.resolved), distributions(now.resolved))),
        steps=tuple(step_changes(then.plan.document(), now.plan)),
    )


def items(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Item]:
    """The keys whose values differ, in the order of now, those that are gone at the end."""
    for name in dict.fromkeys([*now, *then]):
        if then.get(name) != now.get(name):
            yield Item(name=name, then=then.get(name), now=now.get(name))


def distributions(resolved: ResolvedSpec) -> Mapping[str, str]:
    """The installed packages that a run depends on."""
    found = resolved.environment["distributions"]
    assert isinstance(found, Mapping)
    return found


# -- the spec ----------------------------------------------------------------------------------------------------------


def spec_of(resolved: ResolvedSpec) -> dict[str, object]:
    """The keys of a spec with their values, those that are not set left out; the items of a list go by their names.

    A schema counts by its content, wherever it lies.
    """
    written = resolved.spec.model_dump(mode="json", by_alias=True)
    for name, schema in resolved.answers.schemas.items():
        written["data"][name]["schema"] = plain(schema)
    titles = [gate.title for gate in resolved.spec.evaluate.gates]
    gates = zip(titles, written["evaluate"]["gates"], strict=True)
    written["evaluate"]["gates"] = [{**gate, "name": title} for title, gate in gates]
    found = leaves(by_name(written))
    return {joined(path): value for path, value in found.items() if value is not None}


def by_name(value: object) -> object:
    """``value`` with each list of named things as a mapping from ``[name]``, so that moving one changes nothing."""
    if isinstance(value, Mapping):
        return {key: by_name(item) for key, item in value.items()}
    if not isinstance(value, list):
        return value
    names = [item.get("name") if isinstance(item, Mapping) else None for item in value]
    if not names or None in names or len(set(names)) < len(names):
        return [by_name(item) for item in value]
    rest = ({key: by_name(part) for key, part in item.items() if key != "name"} for item in value)
    return {f"[{name}]": item for name, item in zip(names, rest, strict=True)}


def joined(path: Sequence[str]) -> str:
    """A key as a person reads it: ``evaluate.gates[mae.max].max``."""
    return "".join(part if part.startswith("[") else f".{part}" for part in path).removeprefix(".")


# -- the data ----------------------------------------------------------------------------------------------------------


def pins(then: ResolvedSpec, now: ResolvedSpec) -> Iterator[Pin]:
    """The sources that lie elsewhere or have other bytes. Both sides were looked up in the same lake just now."""
    before, after = then.answers.data, now.answers.data
    for name in dict.fromkeys([*after, *before]):
        old, new = before.get(name), after.get(name)
        sides = [{"uri": pin.uri, "commit": pin.commit, "digest": pin.digest} if pin else None for pin in (old, new)]
        if sides[0] != sides[1]:
            files = items(old.manifest if old else {}, new.manifest if new else {})
            yield Pin(name=name, then=sides[0], now=sides[1], files=tuple(files))


# -- the steps ---------------------------------------------------------------------------------------------------------


def step_changes(then: Mapping[str, Any], now: Plan) -> Iterator[StepChange]:
    """What becomes of each step, in the order of the plan; then those that are gone."""
    before = {step["id"]: step for step in then["steps"]}
    same = untouched(then, now)
    why = reasons(now, then, {id: {} for id in same})
    for step in now.steps:
        change: Change = "same"
        if step.id not in before:
            change = "added"
        elif step.effects:
            change = "always"
        elif step.id not in same:
            change = "follows" if all(reason.startswith("if ") for reason in why[step.id]) else "changed"
        told = why.get(step.id, ()) if change in ("changed", "follows") else ()
        yield StepChange(id=step.id, kind=step.kind, change=change, why=told)
    kept = {step.id for step in now.steps}
    for id, gone in before.items():
        if id not in kept:
            yield StepChange(id=id, kind=gone["kind"], change="removed")


def untouched(then: Mapping[str, Any], now: Plan) -> set[str]:
    """The steps of which, and of all before which, nothing is otherwise."""
    before = {step["id"]: step for step in then["steps"]}
    if any(platform_changes(now, then)):
        return set()
    found: set[str] = set()
    for step in now.steps:
        old = before.get(step.id)
        if old is not None and set(step.needs) <= found and not any(changes(step, old, then)):
            found.add(step.id)
    return found


def document(found: Against) -> dict[str, Any]:
    """The comparison as JSON."""

    def pair(item: Item) -> dict[str, Any]:
        return {"name": item.name, "change": item.kind, "then": plain(item.then), "now": plain(item.now)}

    return {
        "ref": found.ref,
        "commit": found.commit,
        "note": found.note,
        "then": found.then,
        "now": found.now,
        "same": found.same,
        "spec": [pair(item) for item in found.spec],
        "data": [
            {"name": pin.name, "then": pin.then, "now": pin.now, "files": [pair(item) for item in pin.files]}
            for pin in found.data
        ],
        "code": [pair(item) for item in found.code],
        "environment": [pair(item) for item in found.environment],
        "steps": [
            {"name": step.id, "kind": step.kind, "change": step.change, "why": list(step.why)} for step in found.steps
        ],
    }
