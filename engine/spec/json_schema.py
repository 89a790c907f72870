"""The spec as a JSON Schema (draft-07), for the YAML language server and its like. Pure.

Its frame is pydantic's schema of :class:`Spec`. To that come what each key means, the names that there are, the
parameters of each plugin, and what Hydra adds to YAML: a text with an interpolation may stand for any value, and a
spec with a defaults list may leave to its groups what would have to be there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from engine.plugins import Description, Kind, Parameter
from engine.spec.annotations import either, schema_of
from engine.spec.checks import BASELINE
from engine.spec.model import Spec
from engine.spec.vocabulary import MEASUREMENTS, PROPERTIES

Schema = dict[str, Any]

FILE = "engine.schema.json"
"""What the schema is called where it stands beside specs."""

DRAFT = "http://json-schema.org/draft-07/schema#"
INTERPOLATION: Schema = {"type": "string", "pattern": r"\$\{"}
URI = r"^lakefs://[a-z0-9][a-z0-9-]{2,62}/[^/]+"
CLASS = r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"
COMPONENTS: Mapping[str, Kind] = {"Train": "trainer", "Transform": "transform", "Detector": "detector"}
BOUNDS, COMPARISONS = ("min", "max", "between"), ("max_drop", "min_gain")
PARAMETER_TEXT = re.compile(r"`(\w+)`: (.+?)(?=[.;] `\w+`: |\.(?: |$))")

DESCRIPTIONS: Mapping[str, str] = {
    "Spec.name": "The model's name in the registry: small letters, digits and hyphens.",
    "Spec.seed": "The one source of chance: every `random_state` that is not set takes it.",
    "Spec.data": "Named sources. Each becomes one table, pinned to a commit and validated.",
    "Spec.transform": "What is done to the tables before anything is learned, in order.",
    "Spec.features": "The columns that the model reads, which are also the inputs of the server.",
    "Spec.target": "The column that the model predicts; several, of 0 and 1, for a model of several labels.",
    "Spec.group": "The column whose equal values are ranked together, for ranking.",
    "Spec.train": "Which trainer learns from which source.",
    "Spec.evaluate": "How the model is judged, and the gates that it must pass to be registered.",
    "Spec.serve": "How the model is served. A change here makes no other run.",
    "Spec.monitor": "What watches the model in production.",
    "Spec.sweep": "How the runs of `engine run -m` are compared.",
    "Spec.cluster": "The warm local Ray cluster.",
    "DataSource.uri": "lakefs://REPOSITORY/REF/PATH; a path that ends in / is a folder of files.",
    "DataSource.schema": "A pandera schema: a path relative to the main spec file, or the schema itself.",
    "DataSource.format": "The files' format, where their names do not tell it.",
    "Transform.name": "What the step is called.",
    "Transform.uses": "A transform plugin, or `module:Class` of the project.",
    "Transform.data": "The sources that it is applied to, each on its own.",
    "Transform.with": "The plugin's parameters.",
    "Features.numeric": "Columns of numbers.",
    "Features.categorical": "Columns of categories.",
    "Train.uses": "A trainer plugin, or `module:Class` of the project.",
    "Train.data": "The source to learn from.",
    "Train.with": "The trainer's parameters.",
    "Train.resources": "What the training may use.",
    "Resources.cpus": "Cores, and the number of threads.",
    "Resources.memory": "At most so much memory: 512MiB, 2GiB.",
    "Resources.gpus": "Graphics cards.",
    "Resources.timeout": "The longest that the step may take: 30s, 30m, 2h.",
    "Resources.retries": "How often the step is tried again when its process dies.",
    "Evaluate.data": "The source that the model is judged on.",
    "Evaluate.metrics": "What is computed of its predictions.",
    "Evaluate.weights": "The column that says how much a row counts.",
    "Evaluate.slices": "Parts on which the metrics are also computed: a column's values or ranges, or where SQL holds.",
    "Slice.name": "What the slice is called; by default as its column.",
    "Slice.column": "Each of its values is a part, or each range of it.",
    "Slice.ranges": "Ascending cuts of a numeric column: each range holds its lower cut.",
    "Slice.sql": "A condition in SQL over the columns: the rows where it holds.",
    "Evaluate.gates": "What the model must reach. A run with a refused gate registers nothing.",
    "Gate.name": "By default metric.kind[slice]@baseline.",
    "Gate.metric": "A metric of evaluate.metrics, or a property or measurement of the model.",
    "Gate.min": "The metric must be at least this.",
    "Gate.max": "The metric may be at most this.",
    "Gate.between": "The metric must lie between these two.",
    "Gate.baseline": "The model to compare with: an alias such as `production`, a version, a run, or NAME@ALIAS.",
    "Gate.max_drop": "At most so much worse than the baseline.",
    "Gate.min_gain": "At least so much better than the baseline.",
    "Gate.confidence": "How sure a comparison must be.",
    "Gate.slice": "Judge each part of this slice on its own.",
    "Gate.min_rows": "Leave out the slices that have fewer rows.",
    "Gate.tolerance": "For onnx_parity_share: how far two answers may be apart to count as the same.",
    "Gate.by": "For leaked rows: the columns by which a row is known again; by default all features.",
    "Gate.better": "For a metric of your own that is compared with a baseline: whether less or more of it is better.",
    "Gate.level": "`warn` only says so.",
    "Gate.on_missing": "What a missing baseline means: by default pass at a usual alias never set before, else refuse.",
    "Serve.max_batch_rows": "At most so many rows are predicted together.",
    "Serve.max_queue": "At most so many requests wait; the next is refused.",
    "Serve.deadline": "A request that waits longer is refused: 500ms, 1s.",
    "Serve.unknown_category": "A category that training never saw: refuse the request, or pass it on.",
    "Serve.workers": "Processes.",
    "Serve.log": "The prediction log.",
    "Serve.canary": "The share of requests that the alias `canary` answers, when it is set.",
    "Serve.shadow": "Also ask the alias `shadow`; its answer is only logged.",
    "PredictionLog.sample": "The share of predictions that is logged.",
    "PredictionLog.redact": "Columns whose values are not logged.",
    "PredictionLog.fsync": "Flush to the disk in groups, or for each prediction.",
    "Canary.traffic": "A share from 0 to 1.",
    "Monitor.reference": "The source that windows are compared with.",
    "Monitor.detectors": "Drift detectors, fitted on the reference when the run is made.",
    "Monitor.false_alarms": "How many false alarms the whole model may give: `1 per 30 days`, `1 per 1000 windows`.",
    "Monitor.performance": "Limits on the metrics of live predictions, once their labels are known.",
    "Monitor.on_alert": "What an alarm starts.",
    "Detector.name": "What the detector is called.",
    "Detector.uses": "A detector plugin, or `module:Class` of the project.",
    "Detector.with": "The detector's parameters.",
    "Detector.window": "A number of rows, or a time such as 1h; detectors with the same window are judged together.",
    "Performance.metric": "A metric of evaluate.metrics.",
    "Performance.min": "An alarm when the metric is below this.",
    "Performance.max": "An alarm when the metric is above this.",
    "Performance.window": "Over so many labelled rows.",
    "OnAlert.log": "Write a line to the log.",
    "OnAlert.webhook": "An https address, best as `${oc.env:NAME,null}`: it is a secret.",
    "OnAlert.signing_key": "Signs what is sent: HMAC-SHA-256; as `${oc.env:NAME,null}`, for it is a secret.",
    "OnAlert.retrain": "Run the spec again on the old data and what was labelled since; never sets production.",
    "OnAlert.cooldown": "Within this time an alarm that says the same again starts nothing: 1h.",
    "Retrain.alias": "The alias that a version gets whose gates passed: candidate or shadow.",
    "Retrain.cooldown": "No retraining within this time of another: 1d.",
    "Retrain.limit": "At most so many retrainings a day.",
    "Sweep.objective": "The metric that runs are compared by; by default that of the first gate.",
    "Sweep.direction": "By default whatever is better for the objective.",
    "Sweep.max_parallel": "So many runs at a time; by default as many as there are cores.",
    "Sweep.keep_going": "Go on when a run fails.",
    "Cluster.autostart": "Leave a warm cluster after the first run.",
    "Cluster.idle": "Stop it when nothing has run for so long: 15m.",
}
"""What each key means, by section and key."""


def spec_schema(plugins: Iterable[Description], metrics: Iterable[str]) -> Schema:
    """The schema of specs, for the plugins and metrics that there are."""
    described = tuple(plugins)
    frame = Spec.model_json_schema(ref_template="#/definitions/{model}")
    sections: dict[str, Schema] = {**frame.pop("$defs"), "Spec": frame}
    known = figures(metrics)
    for name, section in sections.items():
        for key, schema in section["properties"].items():
            value = with_names(name, key, tidied(schema), known, names_of(described, COMPONENTS.get(name)))
            section["properties"][key] = explained(value, DESCRIPTIONS[f"{name}.{key}"])
        section.pop("title")
        section["description"] = section["description"].replace("``", "`")
    for name, kind in COMPONENTS.items():
        if rules := [parameters_of(one) for one in described if one.reference.kind == kind]:
            sections[name]["allOf"] = rules
    sections["Gate"]["allOf"] = gate_limits()
    return assembled(sections)


def schema_text(plugins: Iterable[Description], metrics: Iterable[str]) -> str:
    """The schema as it is written to files: the same bytes for the same plugins and metrics."""
    return json.dumps(spec_schema(plugins, metrics), indent=2, ensure_ascii=False) + "\n"


def assembled(sections: Mapping[str, Schema]) -> Schema:
    """The sections as one schema. What must be there stands apart: it is asked for only without a defaults list."""
    complete = required_in(sections["Spec"], sections)
    loose = {name: section if name in IN_LISTS else without_required(section) for name, section in sections.items()}
    spec = loose.pop("Spec")
    return {
        "$schema": DRAFT,
        "title": "Engine spec",
        "description": spec["description"],
        "type": "object",
        "properties": {**spec["properties"], **HYDRA},
        "additionalProperties": False,
        "if": {"not": {"required": ["defaults"]}},
        "then": complete,
        "definitions": {"interpolation": INTERPOLATION, **loose},
    }


HYDRA: Mapping[str, Schema] = {
    "defaults": {
        "description": "Hydra's defaults list: the config groups that the spec is composed from.",
        "type": "array",
        "items": {"type": ["string", "object"]},
    },
    "hydra": {
        "description": "What may be set of Hydra: the sweeper, and a search path inside the project.",
        "type": "object",
        "properties": {"sweeper": {}, "searchpath": {"type": "array", "items": {"type": "string"}}},
        "additionalProperties": False,
    },
}
IN_LISTS = frozenset({"Transform", "Slice", "Gate", "Detector", "Performance"})
"""Sections that are items of lists: Hydra replaces a list whole, so each has all of its keys in one place."""


# -- values ----------------------------------------------------------------------------------------------


def tidied(schema: Schema) -> Schema:
    """Pydantic's schema of a value without what says nothing, in draft-07's words."""
    found = {key: value for key, value in schema.items() if key != "title" and (key, value) != ("default", None)}
    if isinstance(found.get("default"), Mapping):
        del found["default"]
    if found.get("additionalProperties") is True:
        del found["additionalProperties"]
    if "prefixItems" in found:
        found["items"] = found.pop("prefixItems")
    if "anyOf" in found:
        found |= without_branches([tidied(one) for one in found.pop("anyOf")])
    if isinstance(found.get("items"), Mapping):
        found["items"] = open_to_interpolation(tidied(found["items"]), or_null=True)
    return found


def without_branches(schemas: list[Schema]) -> Schema:
    """A union as one schema where that is possible: its errors are easier to read."""
    enums = [{"enum": schema["enum"]} if "enum" in schema else schema for schema in schemas]
    if enums[-1] == {"type": "null"} and len(enums) > 2:
        return either([either(enums[:-1]), enums[-1]])
    return either(enums)


def explained(value: Schema, text: str) -> Schema:
    """A key's schema: what it means, its default, and its value or an interpolation."""
    default = {"default": value.pop("default")} if "default" in value else {}
    return {"description": text, **default, **open_to_interpolation(value)}


def open_to_interpolation(value: Schema, *, or_null: bool = False) -> Schema:
    """``value``, or a text with an interpolation; in lists also null, which Hydra's users write to leave one out.

    With ``if`` and ``else`` a complaint is about the value itself, and not about every branch of a union. Editors do
    not look into them for what to offer, so the names stand beside them once more, in a union that admits everything.
    """
    if value.get("type") == "string" and not value.keys() & {"pattern", "enum", "anyOf"} and not or_null:
        return value
    exempt: Schema = {"$ref": "#/definitions/interpolation"}
    names = value.get("enum") or value.get("else", {}).get("enum")
    offered: Schema = {"anyOf": [{"enum": names}, {}]} if names else {}
    return {**offered, "if": {"anyOf": [exempt, {"type": "null"}]} if or_null else exempt, "then": {}, "else": value}


def with_names(section: str, key: str, value: Schema, known: Mapping[str, list[str]], uses: list[str]) -> Schema:
    """``value`` with the names that it may have."""
    match section, key:
        case ("Evaluate", "metrics"):
            return {
                **value,
                "items": open_to_interpolation(or_own(known["metrics"]), or_null=True),
                "uniqueItems": True,
            }
        case ("Evaluate", "slices"):
            items: Schema = {"if": {"type": "string"}, "then": {}, "else": {"$ref": "#/definitions/Slice"}}
            return {**value, "items": open_to_interpolation(items, or_null=True)}
        case ("Features", _) | ("Spec", "target"):
            return {**value, "uniqueItems": True}
        case ("Gate", "metric"):
            return or_own(known["all"])
        case ("Performance", "metric"):
            return or_own(known["metrics"])
        case ("Sweep", "objective"):
            return {"enum": [*known["metrics"], None]}
        case ("Gate", "baseline"):
            return {"type": ["string", "null"], "pattern": BASELINE.pattern}
        case ("DataSource", "uri"):
            return {"type": "string", "pattern": URI}
        case (_, "uses"):
            return or_own(uses)
        case (_, "with"):
            return {**value, "not": {"required": ["_target_"]}}
        case ("Spec", "data"):
            (label, source), *_ = value.pop("patternProperties").items()
            return {**value, "propertyNames": {"pattern": label}, "additionalProperties": open_to_interpolation(source)}
    return value


def or_own(names: list[str]) -> Schema:
    """One of the names, or a class or function of the project."""
    own: Schema = {"type": "string", "pattern": ":"}  # nothing yet is none, so that an editor offers the names
    return {"if": own, "then": {"pattern": CLASS}, "else": {"enum": names}}


def figures(metrics: Iterable[str]) -> dict[str, list[str]]:
    """The metrics, and all that a gate may judge."""
    ordered = sorted(metrics)
    return {"metrics": ordered, "all": [*ordered, *PROPERTIES, *MEASUREMENTS]}


def names_of(plugins: Iterable[Description], kind: Kind | None) -> list[str]:
    """What ``uses`` may name."""
    return [one.reference.name for one in plugins if one.reference.kind == kind]


# -- plugins ---------------------------------------------------------------------------------------------


def parameters_of(plugin: Description) -> Schema:
    """What ``with`` may hold where ``uses`` names the plugin."""
    said = " ".join(plugin.documentation.replace("``", "`").split())
    texts = dict(PARAMETER_TEXT.findall(said))
    given: Schema = {
        "description": plugin.summary,
        "properties": {one.name: parameter_schema(one, texts.get(one.name, "")) for one in plugin.parameters},
    }
    if not plugin.open_ended:
        given["additionalProperties"] = False
    then: Schema = {"properties": {"with": given}}
    if required := [one.name for one in plugin.parameters if one.required]:
        given["required"] = required
        then["required"] = ["with"]
    return {"if": {"properties": {"uses": {"const": plugin.reference.name}}, "required": ["uses"]}, "then": then}


def parameter_schema(parameter: Parameter, text: str) -> Schema:
    """A parameter: its type, what the docstring says of it, and its default as the source has it."""
    plain = parameter.default and not parameter.default.startswith("field(")
    default = f"default: {parameter.default}" if plain else ""
    said = "; ".join(part for part in (text, default) if part)
    return explained(schema_of(parameter.annotation), said or parameter.name)


# -- what must go together ---------------------------------------------------------------------------------


def given(key: str) -> Schema:
    """That a gate has a key, and not as null."""
    return {"required": [key], "properties": {key: {"not": {"type": "null"}}}}


def any_given(keys: Iterable[str]) -> Schema:
    """That a gate has one of the keys."""
    return {"anyOf": [given(key) for key in keys]}


def gate_limits() -> list[Schema]:
    """The rules of :func:`engine.spec.checks.gate_faults` that a schema can say."""
    measured: Schema = {"properties": {"metric": {"enum": [*PROPERTIES, *MEASUREMENTS]}}, "required": ["metric"]}
    rules: list[tuple[str, Schema]] = [
        ("this gate has no limit: give it min, max, between, max_drop or min_gain", any_given(BOUNDS + COMPARISONS)),
        ("make two gates of bounds and a comparison", never(any_given(BOUNDS), any_given(COMPARISONS))),
        ("make two gates of max_drop and min_gain", never(given("max_drop"), given("min_gain"))),
        ("keep either between or min and max", never(given("between"), any_given(("min", "max")))),
        ("max_drop and min_gain need a baseline", never(any_given(COMPARISONS), {"not": given("baseline")})),
        ("a baseline needs max_drop or min_gain", never(given("baseline"), {"not": any_given(COMPARISONS)})),
        ("this figure cannot be compared with a baseline", never(measured, any_given(COMPARISONS))),
        ("this figure has no slices", never(measured, given("slice"))),
    ]
    return [{**rule, "errorMessage": message} for message, rule in rules]


def never(first: Schema, second: Schema) -> Schema:
    """That two things do not hold together."""
    return {"not": {"allOf": [first, second]}}


# -- what must be there --------------------------------------------------------------------------------------


def required_in(schema: Schema, sections: Mapping[str, Schema]) -> Schema:
    """Only what a schema, and the sections below it that are no list items, require."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return required_in(sections[name], sections) if name in sections else {}
    found: Schema = {"required": schema["required"]} if schema.get("required") else {}
    inner = {key: required_in(value, sections) for key, value in schema.get("properties", {}).items()}
    if any(inner.values()):
        found["properties"] = {key: value for key, value in inner.items() if value}
    every = schema.get("additionalProperties")
    if isinstance(every, Mapping) and (below := required_in(dict(every), sections)):
        found["additionalProperties"] = below
    for rule in schema.get("allOf", ()):
        if "then" in rule and (below := required_in(rule["then"], sections)):
            found.setdefault("allOf", []).append({"if": rule["if"], "then": below})
    if "else" in schema:
        found |= required_in(schema["else"], sections)
    return found


def without_required(schema: Any) -> Any:
    """A schema without what it requires; the conditions of its rules stay whole."""
    if isinstance(schema, list):
        return [without_required(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    return {
        key: value if key in ("if", "not", "enum") else without_required(value)
        for key, value in schema.items()
        if key != "required" or not isinstance(value, list)
    }
