"""Fold the answers into the spec: what is identity goes one way, what is operation the other. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.digest import digest_of, manifest_digest, plain
from engine.resolve.model import Answers, ResolvedSpec
from engine.spec.model import Gate, Spec
from engine.spec.positions import Positions

FORMAT = "engine/run-spec/v1"
OPERATION = {
    "train": ("resources",),
    "monitor": ("false_alarms", "performance", "on_alert"),
}
WHOLE_SECTIONS = ("serve", "sweep", "cluster")


def resolve(spec: Spec, answers: Answers, positions: Positions = Positions(), shown: str = "") -> ResolvedSpec:
    """A spec and the answers to its questions, as one value that means one thing only."""
    written = spec.model_dump(mode="json", by_alias=True)
    resolved = ResolvedSpec(
        spec=spec, identity={}, operation=operation(written), answers=answers, positions=positions, shown=shown
    )
    identity = {
        "format": FORMAT,
        **definition(spec, written),
        "data": {name: data_identity(name, answers) for name in spec.data},
        "models": {ref: pin.document() for ref, pin in answers.models.items()},
        "code": manifest_digest(resolved.modules),
        "environment": digest_of(resolved.environment),
    }
    return ResolvedSpec(
        spec=spec,
        identity=plain_mapping(identity),
        operation=resolved.operation,
        answers=answers,
        positions=positions,
        shown=shown,
    )


def definition(spec: Spec, written: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a spec in which every change makes another run (CONTRACT 1, keys marked I)."""
    kept = {key: value for key, value in written.items() if key not in WHOLE_SECTIONS}
    kept["train"] = {**without(kept["train"], OPERATION["train"]), "cpus": spec.train.resources.cpus}
    kept["evaluate"] = {**kept["evaluate"], "gates": [gate_identity(gate) for gate in spec.evaluate.gates]}
    if spec.monitor is not None:
        monitor = without(kept["monitor"], OPERATION["monitor"])
        kept["monitor"] = {**monitor, "detectors": [without(item, ("window",)) for item in monitor["detectors"]]}
    return kept


def operation(written: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a spec that may change without another run. Secrets stand in it by name only."""
    kept = {section: written[section] for section in WHOLE_SECTIONS}
    kept["train"] = {"resources": without(written["train"]["resources"], ("cpus",))}
    monitor = written.get("monitor")
    if monitor:
        kept["monitor"] = {key: monitor[key] for key in OPERATION["monitor"]}
        kept["monitor"]["windows"] = {item["name"]: item["window"] for item in monitor["detectors"]}
    return plain_mapping(kept)


def gate_identity(gate: Gate) -> dict[str, Any]:
    """A gate with its defaults written out."""
    return {**gate.model_dump(mode="json"), "name": gate.title}


def data_identity(name: str, answers: Answers) -> dict[str, Any]:
    """A source by content: its manifest's digest, its schema, and how its bytes are read."""
    pin = answers.data[name]
    return {"digest": pin.digest, "format": pin.format, "schema": answers.schemas.get(name)}


def without(section: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    """A section less some keys."""
    return {key: value for key, value in section.items() if key not in keys}


def plain_mapping(value: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping as plain JSON values."""
    found = plain(value)
    assert isinstance(found, dict)
    return found
