"""The whole story in one function: load, resolve, compile, execute, record.

::

    YAML --load--> Spec --resolve--> ResolvedSpec --compile--> Plan --execute--> RunResult --record--> RunRecord
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from engine.digest import canonical_json, digest_of
from engine.errors import EngineError, Failed, Place, UsageError
from engine.execute.protocol import Executor, Report, StepEvent, StepOutcome, Work
from engine.plan.compile import compile
from engine.plan.model import Plan
from engine.record.build import build
from engine.record.collect import running
from engine.record.model import RunRecord, RunResult
from engine.record.parts import Parts
from engine.record.store import RecordStore
from engine.registry.protocol import Registry
from engine.resolve.closure import DISTRIBUTION, closure, sources
from engine.resolve.installed import survey
from engine.resolve.lookup import World, git_state, look_up, remember, schemas_in, this_platform
from engine.resolve.model import Answers, GitState, ResolvedSpec
from engine.resolve.questions import questions
from engine.resolve.resolve import resolve
from engine.spec.load import LoadedSpec
from engine.spec.model import KeyPath
from engine.spec.project import source_roots
from engine.store.claims import claim_path, claimed
from engine.store.objects import ObjectStore

LIGHT = ("gate", "register")


@dataclass(frozen=True, kw_only=True, slots=True)
class Desk:
    """What a run works with; ``wiring`` lays it out."""

    world: World
    store: ObjectStore
    records: RecordStore
    registry: Registry
    executor: Callable[[bool], Executor]
    settled: Callable[[Plan], Mapping[str, StepOutcome]]
    note: Callable[[], None]
    rest: Callable[[], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """A spec that was resolved and compiled, and what is known of its steps before anything runs.

    ``git`` is given where the sources are not those that lie in the project now.
    """

    loaded: LoadedSpec
    resolved: ResolvedSpec
    plan: Plan
    desk: Desk
    git: GitState | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """A run's record, and whether anything was executed for it now."""

    record: RunRecord
    resolved: ResolvedSpec
    executed: bool


def prepare(loaded: LoadedSpec, desk: Desk) -> Prepared:
    """Resolve and compile: everything short of running. Nothing is started.

    Raises:
        EngineError: for a ref, path, module or alias that cannot be pinned, with its place in the spec.
    """
    schemas = schemas_in(loaded.spec.data)
    answers = look_up(questions(loaded.spec), desk.world, schemas, loaded.positions)
    resolved = resolve(loaded.spec, answers, loaded.positions, loaded.shown)
    plan = compile(resolved)
    remember(desk.world)
    return Prepared(loaded=loaded, resolved=resolved, plan=plan, desk=desk)


def prepare_parts(parts: Parts, desk: Desk, root: Path) -> Prepared:
    """Resolve and compile what a recorded run, or a mixture of several, is made of. Nothing is looked up in the lake.

    Args:
        desk: its index reads sources below ``root``, where the modules of ``parts`` were laid out.

    Raises:
        UsageError: for a source of the spec that has no data.
        EngineError: for a module or plugin that is not there.
    """
    if absent := sorted(parts.spec.data.keys() - parts.data.keys()):
        raise UsageError(
            f'there is no data for "{absent[0]}"', hint="take spec and data from runs with the same sources"
        )
    asked = questions(parts.spec)
    installed = survey(desk.world.cache)
    answers = Answers(
        data=parts.data,
        schemas={name: dict(as_mapping(parts.spec.data[name].schema_)) for name in asked.schemas},
        code={question.key: closure(question, desk.world.index, installed) for question in asked.code},
        models=parts.models,
        platform=this_platform(),
    )
    remember(desk.world)
    resolved = resolve(parts.spec, answers)
    loaded = LoadedSpec(spec=parts.spec, path=root / "spec.yaml", shown="", root=root)
    return Prepared(loaded=loaded, resolved=resolved, plan=compile(resolved), desk=desk)


def as_mapping(schema: object) -> Mapping[str, Any]:
    """A schema that is written out in the spec."""
    assert isinstance(schema, Mapping)
    return schema


def plan_before(prepared: Prepared) -> Mapping[str, Any] | None:
    """The plan of the newest run of the same model and what became of its steps: what a plan of now is told from."""
    with suppress(EngineError):
        record = prepared.desk.records.newest_of(prepared.plan.name)
        if record is not None:
            plan = json.loads(prepared.desk.store.read(record.plan_digest))
            status = {step: outcome["status"] for step, outcome in record.steps.items()}
            return {**plan, "status": status, "outputs": {step: digests(o) for step, o in record.steps.items()}}
    return None


def digests(outcome: Mapping[str, Any]) -> dict[str, str]:
    """The digest of each output of a step that was recorded."""
    return {name: artifact["digest"] for name, artifact in outcome["outputs"].items()}


def run(prepared: Prepared, report: Report, inline: bool = False, fresh: bool = False) -> Finished:
    """Answer from the record, or execute and record. Of several processes with the same run one executes at a time.

    Args:
        report: is told when steps start and end, and when this waits for another process.
        inline: in this process rather than on Ray.
        fresh: execute again whatever is recorded or cached.

    Raises:
        EngineError: when the executor itself, or writing the record, fails. A failed step is no exception.
    """
    desk = prepared.desk
    require_registry(desk)
    known = None if fresh else desk.records.answer(prepared.resolved.run_id)
    record, executed = (known, False) if known else alone(prepared, report, inline, fresh)
    if executed:
        desk.note()
    else:
        desk.records.note_operation(prepared.resolved)
        if desk.records.newest_of(prepared.plan.name) is None:  # who made the record was killed right after it
            desk.records.point(prepared.plan.name, record.run_id)
        publish(record, desk.registry)
    desk.rest()
    return Finished(record=record, resolved=prepared.resolved, executed=executed)


def require_registry(desk: Desk) -> None:
    """Refuse to go on without the registry that the recorded runs are entered in.

    Raises:
        Failed: then; a new one would give the numbers of their models to others.
    """
    if not desk.registry.exists and any(map(desk.records.numbers, desk.records.folders())):
        hint = "put it back from a backup, or set ENGINE_HOME to a new folder; `engine verify` says what is missing"
        raise Failed("the registry is gone, but runs are recorded here", place=desk.registry.place, hint=hint)


def alone(prepared: Prepared, report: Report, inline: bool, fresh: bool) -> tuple[RunRecord, bool]:
    """Make a run while nobody else makes the same one; or have the answer of somebody who just did.

    Returns:
        the record, and whether it was made here.
    """
    records, run_id = prepared.desk.records, prepared.resolved.run_id
    home = records.root.parent

    def tell(holder: str) -> None:
        report(StepEvent(id="", what="waits", holder=holder))

    with running(home), claimed(claim_path(home, run_id), tell):
        known = None if fresh else records.answer(run_id)
        return (known, False) if known else (made(prepared, report, inline, fresh), True)


def made(prepared: Prepared, report: Report, inline: bool, fresh: bool) -> RunRecord:
    """Execute a run and record it."""
    desk, run_id = prepared.desk, prepared.resolved.run_id
    desk.records.open_run(prepared.resolved)
    keep_sources(prepared)
    result = execute(prepared, report, inline, fresh)
    statement = build(result, version(DISTRIBUTION))
    desk.registry.announce(run_id, digest_of(statement))
    desk.registry.sync()  # a version that the record names is never given to another model, whatever happens now
    record = desk.records.append(run_id, statement)
    publish(record, desk.registry)
    return record


def execute(prepared: Prepared, report: Report, inline: bool, fresh: bool) -> RunResult:
    """Carry out the plan. When only light steps are left, no cluster is started for them."""
    plan, desk, loaded = prepared.plan, prepared.desk, prepared.loaded
    done = {} if fresh else desk.settled(plan)
    left = [step for step in plan.steps if step.id not in done]
    chosen = desk.executor(inline or all(step.kind in LIGHT and not step.measures for step in left))
    work = Work(
        plan=plan,
        home=desk.records.root.parent,
        root=loaded.root,
        source_roots=source_roots(loaded.root),
        modules=frozenset(prepared.resolved.modules),
        done=done,
        fresh=fresh,
    )
    started, clock = datetime.now(UTC), time.perf_counter()
    report(StepEvent(id="", what="begun"))
    outcomes = chosen.execute(work, report)
    placed = {step.id: with_place(outcomes[step.id], step.key, loaded) for step in plan.steps}
    return RunResult(
        resolved=prepared.resolved,
        plan=plan,
        outcomes=placed,
        executor=chosen.name,
        started=iso(started),
        finished=iso(datetime.now(UTC)),
        seconds=time.perf_counter() - clock,
        git=prepared.git or git_state(loaded.root),
        verdicts=tuple(verdicts(plan, placed, desk.store)),
        overrides=loaded.overrides,
        host=host(),
    )


def host() -> dict[str, Any]:
    """Facts about this machine, for the record; none of them is identity."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "name": platform.node(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "memory": memory,
    }


def iso(moment: datetime) -> str:
    """A moment in UTC as ISO 8601 with milliseconds."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def with_place(outcome: StepOutcome, key: KeyPath, loaded: LoadedSpec) -> StepOutcome:
    """A failed outcome with the line of the spec that asked for the step."""
    if outcome.error is None:
        return outcome
    place = place_in_spec(str(outcome.error.get("key") or ""), key, loaded)
    return replace(outcome, error={**outcome.error, "spec": str(place)})


def place_in_spec(own: str, key: KeyPath, loaded: LoadedSpec) -> Place:
    """Where the key that an error names stands: below the step's own section, or from the top of the spec."""
    parts: KeyPath = tuple(int(part) if part.isdigit() else part for part in own.split(".") if part)
    top = bool(parts) and parts[0] in type(loaded.spec).model_fields and parts[0] != "data"
    return loaded.positions.place(parts if top else (*key, *parts))


def verdicts(plan: Plan, outcomes: Mapping[str, StepOutcome], store: ObjectStore) -> list[Mapping[str, Any]]:
    """The verdict of every gate that spoke, in the order of the plan."""

    found: list[Mapping[str, Any]] = []
    for step in plan.steps:
        outcome = outcomes[step.id]
        if step.kind == "gate" and outcome.done:
            measured = outcome.verdict
            found.append(measured or json.loads(store.read(outcome.outputs["verdict"].digest)))
    return found


def keep_sources(prepared: Prepared) -> None:
    """Keep what the pins name by digest, so that the run can be repeated without git: sources and manifests."""
    store, resolved = prepared.desk.store, prepared.resolved
    for data in sources(resolved.modules, prepared.desk.world.index).values():
        store.put(data)
    store.put(canonical_json(sorted(resolved.modules.items())))
    store.put(canonical_json(resolved.environment))
    store.put(canonical_json(prepared.plan.document()))
    for pin in resolved.answers.data.values():
        store.put(canonical_json(sorted(pin.manifest.items())))


def publish(record: RunRecord, registry: Registry) -> None:
    """Enter the record, now that it is on the disk, in the ledger; a model's version becomes visible with it."""
    model = record.summary["model"]
    if not registry.knows(record.digest):
        version = model["version"] if record.status == "passed" else None
        pins = {"data": record.summary["pins"]["data"], "code": record.summary["pins"]["code"]}
        registry.note_run(
            model["name"], record.run_id, record.digest, record.status, version, pins, execution=record.execution
        )
        registry.sync()
