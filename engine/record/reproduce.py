"""A run again, from nothing, against its record: which artifacts are the same bytes, and why others are not."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from engine.errors import Refused
from engine.plan.model import Plan, Step
from engine.record.build import artifacts
from engine.record.model import RunRecord, RunResult
from engine.record.parts import Parts, is_project_module
from engine.resolve.model import ResolvedSpec
from engine.store.objects import ObjectStore

OWN_CODE = ("train", "transform", "detect")
"""The kinds of steps in which components are called, and with them any code."""


class EnvironmentDiffers(Refused):
    """A run cannot be reproduced here: something that it depends on is another version here than it was."""

    code = "environment-differs"

    def __init__(self, run_id: str, changes: list[Change]) -> None:
        self.changes = changes
        self.details = "\n".join(f"  {change}" for change in changes)
        things = "1 thing differs" if len(changes) == 1 else f"{len(changes)} things differ"
        super().__init__(
            f"this is not the environment of the run: {things}",
            place=f"run {run_id[:12]}",
            hint="install what the run had, or use --here to run in spite of it and see what comes out otherwise",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """Something that a run depends on and that is otherwise now; ``None`` is: not there."""

    name: str
    before: str | None
    now: str | None

    def __str__(self) -> str:
        return f"{self.name}: {self.before or 'nothing'} -> {self.now or 'nothing'}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """One artifact: its recorded digest, that of now (``None`` when there is none), and why they may differ."""

    name: str
    recorded: str | None
    now: str | None
    reasons: tuple[str, ...] = ()

    @property
    def same(self) -> bool:
        """Whether it is the same, byte for byte."""
        return self.recorded == self.now


def changes(parts: Parts, resolved: ResolvedSpec) -> Iterator[Change]:
    """What the run of ``parts`` depends on and is otherwise here: platform, distributions, Engine's own code."""
    now: Mapping[str, Any] = resolved.environment
    for key in sorted(parts.environment.keys() - {"distributions"}):
        if parts.environment[key] != now.get(key):
            yield Change(name=key, before=str(parts.environment[key]), now=str(now.get(key)))
    yield from versions_changed(parts.distributions, now["distributions"])
    for name in sorted(parts.modules.keys() | resolved.modules.keys()):
        before, after = parts.modules.get(name), resolved.modules.get(name)
        if before != after:
            yield Change(name=f"source of {name}", before=shown(before), now=shown(after))


def versions_changed(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[Change]:
    """Distributions of another version, gone or come."""
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            yield Change(name=name, before=before.get(name), now=now.get(name))


def shown(digest: str | None) -> str | None:
    """The beginning of a digest."""
    return digest and digest[:12]


def take_out(parts: Parts, source: ObjectStore, target: ObjectStore) -> None:
    """Put what a run starts from, its data and its baselines, into an empty store; every byte is hashed on the way.

    Raises:
        NotFound, DigestMismatch: when something is not there as it was.
    """
    digests = {file.digest for pin in parts.data.values() for file in pin.files}
    digests |= {pin.digest for pin in parts.models.values() if pin.digest}
    for digest in sorted(digests):
        source.check(digest)
        path = target.path(digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):
            os.link(source.path(digest), path)
            continue
        target.put(source.read(digest))


def compared(record: RunRecord, plan_then: Mapping[str, Any], result: RunResult) -> list[Compared]:
    """Every artifact of the record and of the run of now, in the order of the plan."""
    recorded, now = record.subjects, dict(artifacts(result))
    found: list[Compared] = []
    differ: set[str] = set()
    for name in [*recorded, *(name for name in now if name not in recorded)]:
        item = Compared(name=name, recorded=recorded.get(name), now=now.get(name))
        if not item.same:
            step = name.rpartition("/")[0]
            item = Compared(
                name=name, recorded=item.recorded, now=item.now, reasons=tuple(reasons(step, differ, plan_then, result))
            )
            differ.add(step)
        found.append(item)
    return found


def reasons(step_id: str, differ: set[str], plan_then: Mapping[str, Any], result: RunResult) -> Iterator[str]:
    """Why a step's artifacts may be others than they were.

    Args:
        differ: the steps before it whose artifacts are others.
    """
    outcome = result.outcomes.get(step_id)
    if outcome is None or not outcome.done:
        error = (outcome.error or {}) if outcome else {}
        yield f"the step {outcome.status if outcome else 'is not in the plan'} {error.get('message', '')}".strip()
        return
    step = result.plan.step(step_id)
    behind = [step, *unseen(step, result.plan)]
    before = {need: None for one in behind for need in one.needs if need in differ}
    if before:
        yield f"it was made from {', '.join(before)}"
        return
    for one in behind:
        yield from own_reasons(one, plan_then, result)


def unseen(step: Step, plan: Plan) -> list[Step]:
    """The steps before ``step`` that left nothing to compare: those that made a native model."""
    needed = (plan.step(need) for need in step.needs)
    return [need for need in needed if need.kind == "train"]


def own_reasons(step: Step, plan_then: Mapping[str, Any], result: RunResult) -> Iterator[str]:
    """Why a step may give something else from the same inputs."""
    then = next((item for item in plan_then["steps"] if item["id"] == step.id), None)
    had = plan_then["distributions"][then["distributions"]] if then else step.distributions
    for change in versions_changed(had, step.distributions):
        yield f"{step.id} depends on {change}"
    if step.resources.cpus > 1:
        yield f"{step.id} used {step.resources.cpus} threads, and sums in another order differ in their last bits"
    strangers = result.outcomes[step.id].usage.get("unpinned") or []
    if strangers:
        yield f"{step.id} imported what the run is not pinned with: {', '.join(strangers)}"
    if step.kind in OWN_CODE:
        own = [name for name in step.modules if is_project_module(name)]
        whose = ", ".join(own) if own else str(step.params.get("uses", step.kind))
        yield f"{whose} may draw random numbers without the seed, or read the clock, the network or files"


def plan_of(record: RunRecord, store: ObjectStore) -> dict[str, Any]:
    """The plan that a record's run carried out."""
    found: dict[str, Any] = json.loads(store.read(record.plan_digest))
    return found
