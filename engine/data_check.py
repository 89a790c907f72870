"""The hook that keeps bad data out: what a spec reads of a branch is ingested and validated before it gets there.

It does the very steps that the spec's plan begins with, under the same keys, so a later run finds them done::

    event at a branch --> the spec's sources on it, read at the event's ref --> ingest --> validate --> 200 or 422
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.errors import EngineError, NotFound, SpecInvalid, UsageError
from engine.execute.boundary import perform
from engine.execute.protocol import StepOutcome, Work
from engine.lake.protocol import Lake, RefNotFound, RepositoryNotFound
from engine.lake.refs import reads_head
from engine.lake.uri import parse
from engine.plan.model import Draft, Plan, Step
from engine.plan.passes.data import lower_data
from engine.plan.passes.tidying import attach_code
from engine.registry.sqlite import SqliteRegistry
from engine.resolve.closure import SourceIndex
from engine.resolve.lookup import World, look_up, pin_data, remember, schemas_in
from engine.resolve.model import DataPin, ResolvedSpec
from engine.resolve.questions import Questions, questions, step_question
from engine.spec.load import LoadedSpec, load
from engine.spec.project import source_roots

YES, BAD_REQUEST, BAD_DATA = 200, 400, 422
ENDINGS = (".yaml", ".yml")
ALONE = threading.Lock()  # composing a spec and performing a step change what belongs to the whole process


@dataclass(frozen=True, kw_only=True, slots=True)
class Grounds:
    """Where the data and the specs are: a lake, a project's root, and the home that keeps its state."""

    lake: Lake
    root: Path
    home: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrival:
    """What is about to reach a branch: ``source`` is the ref at which it can be read."""

    repository: str
    branch: str
    source: str


def answer(body: Mapping[str, Any], query: Mapping[str, str], grounds: Grounds) -> tuple[int, str]:
    """Answer a hook of lakeFS: a status, and text for a person.

    Args:
        body: what lakeFS sends; ``repository_id``, ``branch_id`` and ``source_ref`` of it are read.
        query: ``spec`` is the path of the spec below the project's root.

    Returns:
        200 when the data is as the spec's schemas say or there is none, 422 when it is not, 400 when that cannot be
        told.
    """
    with ALONE:
        try:
            arrival = arrival_of(body)
            return judge(load_within(query.get("spec", ""), grounds.root), arrival, grounds)
        except SpecInvalid as error:
            return BAD_REQUEST, f"{error.fact}\n{error}"
        except EngineError as error:
            return BAD_REQUEST, str(error)


def arrival_of(body: Mapping[str, Any]) -> Arrival:
    """What a hook's body tells of.

    Raises:
        UsageError: when it is none of a commit or merge.
    """
    keys = ("repository_id", "branch_id", "source_ref")
    repository, branch, source = (body.get(key) for key in keys)
    if isinstance(repository, str) and isinstance(branch, str) and isinstance(source, str) and source:
        return Arrival(repository=repository, branch=branch, source=source)
    raise UsageError(f"the body has no {', '.join(keys)}", hint="send what lakeFS sends to a webhook")


def load_within(path: str, root: Path) -> LoadedSpec:
    """The spec at a path below the project's root.

    Raises:
        UsageError: for a path that leads out of it, and for a spec that is missing or invalid.
    """
    outside = UsageError(f'"{path}" is no spec of this project', hint="write ?spec=PATH, from the project's root")
    if not path.endswith(ENDINGS) or not path.isprintable():
        raise outside
    if not (root / path).resolve().is_relative_to(root.resolve()):
        raise outside
    return load(path, folder=root)


def judge(loaded: LoadedSpec, arrival: Arrival, grounds: Grounds) -> tuple[int, str]:
    """Ingest and validate what a spec reads of a branch."""
    asked = questions(loaded.spec)
    pins: dict[str, DataPin] = {}
    notes: list[str] = []
    for item in asked.data:
        uri = parse(item.uri)
        if uri.repository == arrival.repository and reads_head(uri.ref, arrival.branch):
            try:
                pins[item.name] = pin_data(item, grounds.lake, arrival.source)
            except (RepositoryNotFound, RefNotFound):
                raise
            except NotFound:
                notes.append(f"{item.name}: nothing is at {uri.path}")
    if not pins:
        where = f"lakefs://{arrival.repository}/{arrival.branch}"
        return YES, "\n".join(notes) or f"{loaded.shown} reads nothing of {where}"
    resolved = resolved_data(loaded, asked, pins, grounds)
    return verdict(perform_all(loaded, resolved, grounds), notes)


def resolved_data(loaded: LoadedSpec, asked: Questions, pins: Mapping[str, DataPin], grounds: Grounds) -> ResolvedSpec:
    """As much of a resolved spec as the steps of its data need."""
    world = World(
        lake=grounds.lake,
        registry=SqliteRegistry(grounds.home / "registry.db"),
        folder=loaded.path.parent,
        index=SourceIndex(source_roots(loaded.root), grounds.home / "cache" / "imports.json"),
        cache=grounds.home / "cache",
    )
    schemas = tuple(name for name in asked.schemas if name in pins)
    code = tuple(step_question(kind) for kind in ("ingest", "validate"))
    part = replace(asked, data=(), schemas=schemas, code=code, models=())
    answers = replace(look_up(part, world, schemas_in(loaded.spec.data), loaded.positions), data=pins)
    remember(world)
    spec = loaded.spec.model_copy(update={"data": {name: loaded.spec.data[name] for name in pins}})
    return ResolvedSpec(spec=spec, identity={}, operation={}, answers=answers, positions=loaded.positions)


def perform_all(loaded: LoadedSpec, resolved: ResolvedSpec, grounds: Grounds) -> list[tuple[Step, StepOutcome]]:
    """Do the steps of the data, or take their outcomes from the cache."""
    steps = attach_code(lower_data(Draft(), resolved), resolved).steps
    plan = Plan(run_id="", name=loaded.spec.name, steps=steps, platform=resolved.answers.platform.document())
    work = Work(
        plan=plan,
        home=grounds.home,
        root=loaded.root,
        source_roots=source_roots(loaded.root),
        modules=frozenset(resolved.modules),
    )
    outcomes: dict[str, StepOutcome] = {}
    for step in steps:
        outcomes[step.id] = perform(work, step, outcomes)
    return [(step, outcomes[step.id]) for step in steps]


def verdict(done: list[tuple[Step, StepOutcome]], notes: list[str]) -> tuple[int, str]:
    """What the steps' outcomes say of the data: the worst of each source first, then all of it."""
    failed = [(str(step.key[1]), outcome.error) for step, outcome in done if outcome.error is not None]
    if not failed:
        names = dict.fromkeys(str(step.key[1]) for step, _ in done)
        return YES, "\n".join([f"{', '.join(names)}: as the spec says", *notes])
    heads = [f"{name}: {error['message']}" for name, error in failed]
    details = [f"\n{name}\n{error['details']}" for name, error in failed if error.get("details")]
    return BAD_DATA, "\n".join([*heads, *details])
