"""Specs and the plans that they become: a table of cases, the laws of every plan, and what a step depends on."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.digest import canonical_json
from engine.plan.compile import PASSES, compile
from engine.plan.graph import ancestors, depth, descendants, in_order
from engine.plan.laws import broken
from engine.plan.model import Draft, Plan, Source, Step
from engine.plan.render import document, lines
from engine.resolve.model import Answers, Closure, DataFile, DataPin, ModelPin, Platform, ResolvedSpec
from engine.resolve.questions import questions
from engine.resolve.resolve import resolve
from engine.spec.model import Spec

CASES = Path(__file__).parent / "cases"
BASE: dict[str, Any] = {
    "name": "numbers",
    "data": {"train": {"uri": "lakefs://repo/main/a.csv"}, "test": {"uri": "lakefs://repo/main/b.csv"}},
    "features": {"numeric": ["x"]},
    "target": "y",
    "train": {"uses": "own:Trainer", "data": "train"},
    "evaluate": {"data": "test", "metrics": ["mae"]},
}
CLEAN = {"name": "clean", "uses": "sql", "data": ["train", "test"], "with": {"query": "select * from {source}"}}
GATES = [
    {"metric": "mae", "max": 1.0},
    {"metric": "mae", "baseline": "production", "max_drop": 0.1},
    {"metric": "latency_p99_ms", "max": 5.0},
    {"metric": "model_mb", "max": 5.0, "level": "warn"},
]
DETECTORS = [{"name": "inputs", "uses": "ks"}, {"name": "more", "uses": "chi2"}]


def with_schema(name: str) -> dict[str, Any]:
    return {**BASE["data"], name: {**BASE["data"][name], "schema": {"columns": {}}}}


SPECS: dict[str, dict[str, Any]] = {
    "smallest": {},
    "schemas": {"data": with_schema("train")},
    "one-source": {"evaluate": {"data": "train", "metrics": ["mae"]}},
    "unused-source": {"data": {**BASE["data"], "spare": {"uri": "lakefs://repo/main/c.csv"}}},
    "transforms": {"transform": [CLEAN, {**CLEAN, "name": "more", "data": ["test"]}]},
    "gates": {"evaluate": {"data": "test", "metrics": ["mae"], "gates": GATES[:1] + GATES[2:]}},
    "baseline": {"evaluate": {"data": "test", "metrics": ["mae"], "gates": GATES}},
    "no-baseline-yet": {"evaluate": {"data": "test", "metrics": ["mae"], "gates": GATES}},
    "monitor": {"monitor": {"reference": "train", "detectors": DETECTORS}},
    "everything": {
        "data": with_schema("test"),
        "transform": [CLEAN],
        "evaluate": {"data": "test", "metrics": ["mae"], "gates": GATES},
        "monitor": {"reference": "test", "detectors": DETECTORS},
    },
}


def resolved(title: str, **more: Any) -> ResolvedSpec:
    """A case, resolved with answers from a dict: no lake, no registry, no source is read."""
    spec = Spec.model_validate({**BASE, **SPECS[title], **more})
    asked = questions(spec)
    pins = {
        item.name: DataPin(
            uri=item.uri, commit="c" * 64, files=(DataFile(path="a.csv", digest=item.name, size=1),), format="csv"
        )
        for item in asked.data
    }
    known = ModelPin() if title == "no-baseline-yet" else ModelPin(version=3, digest="m" * 64, known=True)
    answers = Answers(
        data=pins,
        schemas={name: {"columns": {}} for name in asked.schemas},
        code={item.key: Closure(modules={item.name: "s" * 64}, distributions={"numpy": "1"}) for item in asked.code},
        models=dict.fromkeys(asked.models, known),
        platform=Platform(implementation="CPython", python="3.11", system="Linux", machine="x86_64"),
    )
    return resolve(spec, answers)


def plan_of(title: str, **more: Any) -> Plan:
    return compile(resolved(title, **more))


def picture(plan: Plan) -> str:
    """A plan as people see it, without the run id; and below it every connection."""
    shown = "\n".join(lines(plan, set(), False, {})).replace(plan.run_id[:12], "............")
    wires = [
        f"{step.id}.{port} = {item.step}.{item.output}" for step in plan.steps for port, item in step.inputs.items()
    ]
    return "\n".join([shown, "", *wires]) + "\n"


@pytest.mark.parametrize("title", SPECS)
def test_a_spec_becomes_this_plan(title: str) -> None:
    assert picture(plan_of(title)) == (CASES / f"{title}.txt").read_text()


def test_every_case_is_tested() -> None:
    assert {path.stem for path in CASES.glob("*.txt")} == set(SPECS)


@pytest.mark.parametrize("title", SPECS)
def test_every_plan_keeps_the_laws(title: str) -> None:
    assert broken(plan_of(title)) == []


@pytest.mark.parametrize("title", SPECS)
def test_compiling_twice_gives_the_same_bytes(title: str) -> None:
    first, second = plan_of(title), plan_of(title)
    assert canonical_json(document(first, (), False, {})) == canonical_json(document(second, (), False, {}))
    assert first.digest == second.digest


# -- laws ------------------------------------------------------------------------------------------------------


def changed(plan: Plan, id: str, **changes: Any) -> Plan:
    """A plan with one step altered."""
    return replace(plan, steps=tuple(replace(step, **changes) if step.id == id else step for step in plan.steps))


BROKEN: list[tuple[Callable[[Plan], Plan], str]] = [
    (lambda plan: replace(plan, steps=(plan.steps[0], *plan.steps)), "two steps are called ingest.test"),
    (
        lambda plan: replace(plan, steps=(*plan.steps[1:], plan.steps[0])),
        "evaluate needs ingest.test, which does not stand before it",
    ),
    (
        lambda plan: changed(plan, "train", inputs={"table": Source(step="ingest.train", output="tabel")}),
        "train.table needs ingest.train.tabel, which does not exist",
    ),
    (
        lambda plan: changed(plan, "train", inputs={"table": Source(step="nobody", output="table")}),
        "train needs nobody, which does not stand before it",
    ),
    (
        lambda plan: changed(plan, "register", inputs={"model": Source(step="export", output="model")}),
        "register does not wait for gate.mae.max",
    ),
]


@pytest.mark.parametrize(("breaks", "says"), BROKEN, ids=[says for _, says in BROKEN])
def test_a_broken_plan_is_found_out(breaks: Callable[[Plan], Plan], says: str) -> None:
    assert says in broken(breaks(plan_of("gates")))


def test_a_pass_that_breaks_a_law_cannot_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    def twice(draft: Draft, _: ResolvedSpec) -> Draft:
        return draft.add(draft.steps[0])

    monkeypatch.setattr(sys.modules[compile.__module__], "PASSES", (*PASSES, twice))
    with pytest.raises(AssertionError, match="two steps are called"):
        plan_of("smallest")


def test_serving_waits_for_every_gate() -> None:
    plan = plan_of("everything")
    gates = {step.id for step in plan.steps if step.kind == "gate"}
    assert len(gates) == 4
    assert gates <= ancestors(plan.steps, "register")


# -- what a step depends on ------------------------------------------------------------------------------------


def definitions(plan: Plan) -> dict[str, bytes]:
    """What each step is, without what it is connected to."""
    return {step.id: canonical_json(step.definition) for step in plan.steps}


def altered(first: Plan, second: Plan) -> set[str]:
    """The steps whose definition differs."""
    one, other = definitions(first), definitions(second)
    return {id for id in one.keys() | other.keys() if one.get(id) != other.get(id)}


TOUCHES: list[tuple[str, dict[str, Any], set[str]]] = [
    ("seed", {"seed": 9}, {"train", "detect.inputs", "detect.more"}),
    ("target", {"target": "z"}, {"train", "evaluate", "evaluate.production"}),
    ("features", {"features": {"numeric": ["x", "w"]}}, {"train", "detect.inputs", "detect.more"}),
    ("parameters", {"train": {**BASE["train"], "with": {"a": 1}}}, {"train"}),
    ("threads", {"train": {**BASE["train"], "resources": {"cpus": 2}}}, {"train"}),
    ("memory", {"train": {**BASE["train"], "resources": {"memory": "1GiB", "timeout": "1h", "retries": 0}}}, set()),
    ("serving", {"serve": {"max_batch_rows": 3}, "sweep": {"direction": "minimize"}}, set()),
    ("name", {"name": "other"}, {"register"}),
    ("transform", {"transform": [{**CLEAN, "with": {"query": "select 1"}}]}, {"transform.clean.train", "transform.clean.test"}),
]  # fmt: skip


@pytest.mark.parametrize(("change", "touched"), [row[1:] for row in TOUCHES], ids=[row[0] for row in TOUCHES])
def test_a_change_touches_these_steps_and_no_other(change: dict[str, Any], touched: set[str]) -> None:
    assert altered(plan_of("everything"), plan_of("everything", **change)) == touched


def test_a_gates_limit_touches_only_that_gate() -> None:
    other = {"data": "test", "metrics": ["mae"], "gates": [{"metric": "mae", "max": 0.5}, *GATES[1:]]}
    assert altered(plan_of("everything"), plan_of("everything", evaluate=other)) == {"gate.mae.max"}


def test_the_level_of_a_gate_touches_registration_and_not_the_gate() -> None:
    other = {"data": "test", "metrics": ["mae"], "gates": [{**GATES[0], "level": "warn"}, *GATES[1:]]}
    assert altered(plan_of("everything"), plan_of("everything", evaluate=other)) == {"register"}


def test_a_key_depends_on_the_platform_and_on_the_inputs() -> None:
    plan = plan_of("smallest")
    train = plan.step("train")
    key = plan.key(train, {"table": "a"})
    assert key != plan.key(train, {"table": "b"})
    assert key != replace(plan, platform={**plan.platform, "machine": "arm64"}).key(train, {"table": "a"})
    assert key == plan_of("smallest", name="other").key(train, {"table": "a"})


# -- graphs ----------------------------------------------------------------------------------------------------


def step(id: str, *needs: str) -> Step:
    return Step(id=id, kind="ingest", inputs={need: Source(step=need, output="x") for need in needs}, outputs=("x",))


DIAMOND = (step("a"), step("b", "a"), step("c", "a"), step("d", "b", "c"), step("e"))


def test_steps_are_put_after_what_they_need() -> None:
    assert [item.id for item in in_order(DIAMOND[::-1])] == ["e", "a", "c", "b", "d"]


def test_steps_that_wait_for_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="wait for each other: a, b"):
        in_order((step("a", "b"), step("b", "a")))


def test_ancestors_and_descendants_of_a_step() -> None:
    assert ancestors(DIAMOND, "b") == {"a", "b"}
    assert descendants(DIAMOND, "b") == {"b", "d"}


def test_the_depth_of_a_step_is_its_longest_way() -> None:
    assert depth(DIAMOND) == {"a": 0, "b": 1, "c": 1, "d": 2, "e": 0}
