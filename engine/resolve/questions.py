"""What must be known before a spec means one thing only. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from engine.plugins import Kind
from engine.spec.model import Spec
from engine.spec.vocabulary import MEASUREMENTS, METRICS, PROPERTIES

STEPS = "engine.steps"
DOTTED = re.compile(r"^[A-Za-z_]\w*(?:(?:\.\w+)+(?::\w+)?|:\w+)$")


@dataclass(frozen=True, kw_only=True, slots=True)
class DataQuestion:
    """Which commit and which bytes is this URI?"""

    name: str
    uri: str
    format: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class CodeQuestion:
    """Which source and which distributions stand behind this component?

    ``kind`` is ``None`` for a step's own module. ``mentions`` are dotted names among the component's parameters,
    such as an estimator's or a function's: what they name counts as well.
    """

    name: str
    kind: Kind | None = None
    mentions: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """What the answer is filed under."""
        return " ".join([f"{self.kind or 'step'} {self.name}", *self.mentions])


@dataclass(frozen=True, kw_only=True, slots=True)
class Questions:
    """Everything that is asked of the world, at once. ``models`` are baseline refs."""

    model: str
    data: tuple[DataQuestion, ...]
    schemas: tuple[str, ...]
    code: tuple[CodeQuestion, ...]
    models: tuple[str, ...]


def questions(spec: Spec) -> Questions:
    """What resolving ``spec`` needs to know."""
    return Questions(
        model=spec.name,
        data=tuple(DataQuestion(name=name, uri=item.uri, format=item.format) for name, item in spec.data.items()),
        schemas=tuple(name for name, item in spec.data.items() if item.schema_ is not None),
        code=tuple(dict.fromkeys([*step_questions(spec), *component_questions(spec)])),
        models=tuple(sorted({gate.baseline for gate in spec.evaluate.gates if gate.baseline})),
    )


def metric_questions(metrics: Iterable[str]) -> Iterator[CodeQuestion]:
    """The plugins among some figures that are judged."""
    for metric in metrics:
        if metric not in (*METRICS, *PROPERTIES, *MEASUREMENTS):
            yield component_question("metric", metric, {})


def step_questions(spec: Spec) -> Iterator[CodeQuestion]:
    """The step modules that a spec's plan will use."""
    steps = ["ingest", "train", "export", "evaluate", "gate", "register"]
    steps += ["validate"] if any(source.schema_ is not None for source in spec.data.values()) else []
    steps += ["transform"] if spec.transform else []
    steps += ["detect"] if spec.monitor and spec.monitor.detectors else []
    yield from (step_question(step) for step in steps)


def component_questions(spec: Spec) -> Iterator[CodeQuestion]:
    """The plugins that a spec's plan will use."""
    yield component_question("trainer", spec.train.uses, spec.train.with_)
    for transform in spec.transform:
        yield component_question("transform", transform.uses, transform.with_)
    for detector in spec.monitor.detectors if spec.monitor else ():
        yield component_question("detector", detector.uses, detector.with_)
    yield from judging_questions(spec)


def judging_questions(spec: Spec) -> Iterator[CodeQuestion]:
    """The plugins that evaluation uses: metrics that are not ours, and what runs the SQL of slices."""
    yield from metric_questions(spec.evaluate.metrics)
    if any(item.sql is not None for item in spec.evaluate.slices):
        yield component_question("transform", "sql", {})


def step_question(step: str) -> CodeQuestion:
    """The question about a step kind's own module."""
    return CodeQuestion(name=f"{STEPS}.{step}")


def component_question(kind: Kind, uses: str, given: Mapping[str, Any]) -> CodeQuestion:
    """The question about a plugin with its parameters."""
    return CodeQuestion(name=uses, kind=kind, mentions=tuple(sorted(set(mentions(given)))))


def mentions(value: object) -> Iterator[str]:
    """Every text in ``value`` that could name code."""
    if isinstance(value, str) and DOTTED.match(value):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from mentions(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from mentions(item)
