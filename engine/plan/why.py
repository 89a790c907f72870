"""Why a step would run: what is otherwise than in the plan that was carried out before. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from engine.digest import manifest_digest, plain
from engine.plan.model import Plan, Step
from engine.spec.model import dotted

LONGEST_VALUE = 40
MOST_NAMED = 3
NOT_TEXT = re.compile(r"|none|null|~|true|false|yes|no|on|off|[-+.\d][-+.\w]*", re.IGNORECASE)
LAST_TIME = {"failed": "it failed the last time", "skipped": "it was skipped the last time"}
ALWAYS = "it runs in every run"
FIRST = "nothing was run before"


Outputs = Mapping[str, Mapping[str, str]]
"""By step, the digest of each of its outputs."""


def reasons(plan: Plan, before: Mapping[str, Any] | None, settled: Outputs) -> dict[str, tuple[str, ...]]:
    """For each step whose outcome is not known, why it would run.

    Args:
        before: the document of a plan of the same model that was carried out (:meth:`Plan.document`), if there is
            one; and of each step, by id, what became of it, ``status``, and its ``outputs``.
        settled: the steps whose outcome is known, with their outputs.
    """
    then = {step["id"]: step for step in (before or {}).get("steps", [])}
    return {
        step.id: tuple(why(step, then.get(step.id), before or {}, plan, settled))
        for step in plan.steps
        if step.id not in settled
    }


def why(
    step: Step, then: Mapping[str, Any] | None, before: Mapping[str, Any], plan: Plan, settled: Outputs
) -> Iterator[str]:
    """Why one step would run."""
    waits = [need for need in step.needs if need not in settled]
    found = [*changes(step, then, before), *platform_changes(plan, before)] if then is not None else []
    found += list(input_changes(step, before.get("outputs", {}), settled)) if not found else []
    if step.effects:
        yield ALWAYS
    elif found:
        yield from found
    elif then is None:
        yield "it is new" if before else FIRST
    elif waits:
        yield f"if {named(waits)} {'gives' if len(waits) == 1 else 'give'} something else"
    else:
        yield LAST_TIME.get(before.get("status", {}).get(step.id, ""), "its outcome is not in the cache")


def changes(step: Step, then: Mapping[str, Any], before: Mapping[str, Any]) -> Iterator[str]:
    """What of a step is otherwise than it was."""
    if step.kind == "ingest":
        yield from data_changes(step.params, then["params"])
    else:
        yield from parameter_changes(step, then["params"])
    if then["modules"] != manifest_digest(step.modules):
        had = before["modules"][then["modules"]]
        changed = [name for name in sorted(had.keys() | step.modules.keys()) if had.get(name) != step.modules.get(name)]
        known = (*had, *step.modules)
        yield f"code changed: {named([path_of(name, known) for name in changed])}"
    if then["distributions"] != manifest_digest(step.distributions):
        had = before["distributions"][then["distributions"]]
        names = sorted(had.keys() | step.distributions.keys())
        versions = [(name, had.get(name), step.distributions.get(name)) for name in names]
        yield named([f"{name} {old or 'none'} -> {new or 'none'}" for name, old, new in versions if old != new])
    if then["threads"] != step.resources.cpus:
        yield f"threads: {then['threads']} -> {step.resources.cpus}"
    wires = {port: [source.step, source.output] for port, source in step.inputs.items()}
    if then["inputs"] != wires:
        others = [f"{'/'.join(source)}" for port, source in wires.items() if then["inputs"].get(port) != source]
        yield f"it reads {named(others)}" if others else "it reads less"


def input_changes(step: Step, before: Outputs, settled: Outputs) -> Iterator[str]:
    """The inputs that are known, and are others than they were."""
    others = [
        f"{source.step}/{source.output}"
        for source in step.inputs.values()
        if source.step in settled
        and source.output in before.get(source.step, {})
        and settled[source.step].get(source.output) != before[source.step][source.output]
    ]
    if others:
        yield f"input changed: {named(others)}"


def platform_changes(plan: Plan, before: Mapping[str, Any]) -> Iterator[str]:
    """What of the platform is otherwise than it was."""
    had = before["platform"]
    for key in sorted(had.keys() | plan.platform.keys()):
        if had.get(key) != plan.platform.get(key):
            yield f"{key}: {had.get(key)} -> {plan.platform.get(key)}"


def data_changes(now: Mapping[str, Any], then: Mapping[str, Any]) -> Iterator[str]:
    """The files of a source that are others."""
    before, after = dict(map(tuple, then["files"])), dict(map(tuple, now["files"]))
    changed = [path for path in sorted(before.keys() | after.keys()) if before.get(path) != after.get(path)]
    if changed:
        yield f"data changed: {named(changed)}"
    if now["format"] != then["format"]:
        yield f"format: {then['format']} -> {now['format']}"


def parameter_changes(step: Step, then: Mapping[str, Any]) -> Iterator[str]:
    """The keys of the spec behind a step's parameters that have other values."""
    before, after = leaves(then), leaves(plain(step.params))
    if (before.pop(("baseline", "version"), None), after.get(("baseline", "version"))) != (None, None):
        yield from baseline_change(then.get("baseline"), step.params.get("baseline"))
    told = ["baseline"]
    if "model" in step.params:  # a baseline is evaluated
        yield from baseline_change(pinned(then), pinned(step.params))
        told += PINNED
    for path in dict.fromkeys([*before, *after]):
        if path[0] in told or shown(before.get(path), whole=True) == shown(after.get(path), whole=True):
            continue
        key = dotted((*step.key, *(path[1:] if path[0] in ("gate", "schema") else path)))
        old, new = shown(before.get(path)), shown(after.get(path))
        yield f"{key}: {old} -> {new}" if old and new else f"{key} changed"


PINNED = ("model", "version")


def pinned(params: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a step that evaluates a baseline is given of it."""
    return {"digest": params.get("model"), "version": params.get("version")}


def baseline_change(before: Mapping[str, Any] | None, now: Mapping[str, Any] | None) -> Iterator[str]:
    """The version that a baseline means, if that is another one."""
    versions = [(side or {}).get("version") for side in (before, now)]
    if (before or {}).get("digest") != (now or {}).get("digest"):
        yield f"baseline: version {versions[0] or 'none'} -> {versions[1] or 'none'}"


def leaves(value: object, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], object]:
    """Nested values by their paths."""
    if isinstance(value, Mapping):
        pairs = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, Sequence) and not isinstance(value, str):
        pairs = [(str(index), item) for index, item in enumerate(value)]
    else:
        return {path: value}
    return {key: leaf for name, item in pairs for key, leaf in leaves(item, (*path, name)).items()}


def shown(value: object, *, whole: bool = False) -> str:
    """A short value, in quotes where it would be read as another kind of value; nothing for a long one."""
    text = "none" if value is None else str(value)
    if isinstance(value, str) and NOT_TEXT.fullmatch(value):
        text = f"'{value}'"
    return text if whole or (len(text) <= LONGEST_VALUE and "\n" not in text) else ""


def path_of(module: str, packages: Collection[str] = ()) -> str:
    """The file of a module, as far as its name and those of the others say."""
    package = any(name.startswith(f"{module}.") for name in packages)
    return f"{module.replace('.', '/')}{'/__init__' if package else ''}.py"


def named(names: Sequence[str]) -> str:
    """The first of some names, and how many more there are."""
    more = len(names) - MOST_NAMED
    return ", ".join(names) if more <= 1 else f"{', '.join(names[:MOST_NAMED])} and {more} more"
