"""A run as OpenMetrics text, as GitLab's metrics reports and Prometheus' text collectors take it.

Only ``engine_run_info`` names the run and its versions: the labels of the figures stay the same from run to run, so
that those who compare two reports find the same series in both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from engine.report.facts import facts
from engine.report.model import Facts, Gate, Report

DIGITS = 9
"""Significant decimal digits of every number."""

ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})
Labels = Sequence[tuple[str, str]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """A metric family: samples that differ in their labels. ``kind`` is ``gauge`` or ``info``."""

    name: str
    help: str
    samples: Sequence[tuple[Labels, float]]
    kind: str = "gauge"
    unit: str = ""


def openmetrics(report: Report) -> str:
    """The run as OpenMetrics 1.0: families in a fixed order, samples by their labels, ``# EOF`` at the end."""
    said = facts(report)
    return "".join(f"{line}\n" for family in families(said) for line in lines(family)) + "# EOF\n"


def families(said: Facts) -> Iterator[Family]:
    """Everything that is exposed of a run."""
    model = ("model", said.name)
    yield Family(name="engine_run", kind="info", help="The run and its versions.", samples=[(versions(said), 1)])
    passed = [([model], float(said.status == "passed"))]
    yield Family(name="engine_run_passed", help="1 when every gate that may refuse passed.", samples=passed)
    took = [] if said.seconds is None else [([model], said.seconds)]
    yield Family(
        name="engine_run_seconds", help="How long the run took when it was executed.", samples=took, unit="seconds"
    )
    figures = [([model, ("metric", item.name)], item.value) for item in said.metrics if item.value is not None]
    yield Family(name="engine_metric", help="A metric of the run's model on its test data.", samples=figures)
    theirs = said.baseline.metrics if said.baseline else {}
    before = [([model, ("metric", name)], value) for name, value in theirs.items() if value is not None]
    yield Family(name="engine_production_metric", help="The same of the model in production.", samples=before)
    yield from gate_families(said.gates, model)


def gate_families(gates: Sequence[Gate], model: tuple[str, str]) -> Iterator[Family]:
    """What the gates said."""
    named = [([model, ("gate", gate.name)], gate) for gate in gates]
    answers = [([*labels, ("level", gate.level)], float(gate.passed)) for labels, gate in named]
    yield Family(name="engine_gate_passed", help="1 when the gate passed.", samples=answers)
    values = [(labels, gate.value) for labels, gate in named if gate.value is not None]
    yield Family(name="engine_gate_value", help="The figure that the gate judged.", samples=values)
    limits = [
        ([*labels, ("bound", bound)], limit)
        for labels, gate in named
        for bound, limit in zip(("low", "high") if len(gate.limit) > 1 else ("limit",), gate.limit, strict=False)
    ]
    yield Family(name="engine_gate_limit", help="The gate's limit, or both of its bounds.", samples=limits)


def versions(said: Facts) -> Labels:
    """The run, the model and the pins that every figure belongs to."""
    pins = [(f"{pin.kind}_{pin.name}".rstrip("_"), pin.version or pin.digest) for pin in said.pins]
    version = "" if said.version is None else str(said.version)
    own = [("run", said.run_id), ("status", said.status), ("model", said.name), ("version", version)]
    names = {label_name(name): value for name, value in [*pins, ("digest", said.model_digest), *own]}
    return list(names.items())


def lines(family: Family) -> Iterator[str]:
    """A family as lines; nothing for one without samples. Of samples with the same labels the first counts."""
    if not family.samples:
        return
    yield f"# TYPE {family.name} {family.kind}"
    if family.unit:
        yield f"# UNIT {family.name} {family.unit}"
    yield f"# HELP {family.name} {family.help}"
    suffix = "_info" if family.kind == "info" else ""
    found: dict[str, float] = {}
    for labels, value in family.samples:
        found.setdefault(",".join(f'{name}="{text.translate(ESCAPES)}"' for name, text in sorted(labels)), value)
    for labels_text, value in sorted(found.items()):
        yield f"{family.name}{suffix}{{{labels_text}}} {number(value)}"


def number(value: float) -> str:
    """``value`` with :data:`DIGITS` significant digits."""
    return f"{value:.{DIGITS}g}"


def label_name(text: str) -> str:
    """``text`` as the name of a label."""
    found = "".join(letter if letter.isascii() and (letter.isalnum() or letter == "_") else "_" for letter in text)
    return found if found[:1].isalpha() else f"pin_{found}"
