"""The JSON Schema of specs: it admits what Engine admits, and refuses what a schema can refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from engine.spec.annotations import fits, schema_of
from engine.spec.json_schema import DESCRIPTIONS, PARAMETER_TEXT, spec_schema
from engine.spec.known import known_metrics, known_plugins
from projects import SPEC, Done, engine

ROOT = Path(__file__).resolve().parents[2]
ERRORS = ROOT / "tests" / "errors"
BASE = (ERRORS / "base.yaml").read_text()
SCHEMA = spec_schema(known_plugins(), known_metrics())
CASES = {
    f"{file.stem}: {title}": case
    for file in sorted((ERRORS / "cases").glob("*.yaml"))
    for title, case in yaml.safe_load(file.read_text()).items()
    if "overrides" not in case
}
# A schema sees one value at a time, and nothing but the file. So of these rules it finds nothing:
BEYOND = {
    "column-unknown", "data-unknown", "data-unused", "detector-feature", "detector-window", "false-alarms", "format-unknown", "gate-metric", "gate-slice",
    "gates-contradict", "interpolation", "interpolation-unstable", "metric-twice", "name-taken", "objective",
    "performance-limit", "performance-metric", "plugin-source", "schema", "schema-key", "secret-misplaced",
    "secret-unset", "sql-source", "target-is-feature", "schema-value", "sql", "override", "composition", "gate-range", "metric-task", "slice", "slice-column", "metric-plugin",
}  # fmt: skip
# And of the rules that it does know, not these:
UNSEEN = {
    "columns: a feature as number and as category": "it compares two lists",
    "columns: no features": "either list may come from a config group",
    "plugins: a module that is not there": "it knows no modules",
    "gates: a share beyond no tolerance": "which keys a figure has is not for an editor",
    "gates: a tolerance that nothing reads": "as before",
    "gates: columns where no rows are looked for": "as before",
    "plugins: a class that is not there": "it knows no classes of the project",
    "plugins: an estimator with a typo": "which classes the library has is in its source",
    "plugins: a parameter of an estimator with a typo": "as before",
    "plugins: an unknown parameter": "the class is the project's own",
    "plugins: a missing parameter": "the class is the project's own",
    "plugins: a parameter of another type": "the class is the project's own",
    "plugins: a word that is not admitted": "the class is the project's own",
    "plugins: a boolean for a number": "the class is the project's own",
    "gates: limits the wrong way round": "it compares two numbers",
}


def complaints(values: Any) -> list[str]:
    """What the schema says of a spec."""
    return [f"{error.json_path}: {error.message}" for error in jsonschema.Draft7Validator(SCHEMA).iter_errors(values)]


def spec_of(case: dict[str, Any]) -> Any:
    """The broken spec of a case, as an editor reads it."""
    text = BASE
    for old, new in case.get("replace", {}).items():
        text = text.replace(old, new)
    return yaml.safe_load(text + case.get("append", ""))


def rules_of(case: dict[str, Any]) -> set[str]:
    """The rules by which a case is refused."""
    own = [said.split()[:3] for said in case["says"]]  # what is said of a config group is not about the spec's file
    found = {rule for severity, rule, place in own if severity == "error" and place.startswith("spec.yaml")}
    return {rule for rule in found if not rule.startswith("yaml-")}  # what is no YAML is for its parser to say


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)


SPECS = [*ROOT.glob("specs/*.yaml"), *ROOT.glob("benchmarks/**/*spec*.yaml"), ERRORS / "base.yaml"]


@pytest.mark.parametrize("path", SPECS, ids=lambda path: str(path.relative_to(ROOT)))
def test_it_admits_every_spec_of_the_repository(path: Path) -> None:
    assert complaints(yaml.safe_load(path.read_text())) == []


def test_it_admits_the_spec_of_the_tests() -> None:
    assert complaints(SPEC) == []


FINDABLE = {title: case for title, case in CASES.items() if rules_of(case) - BEYOND and title not in UNSEEN}


@pytest.mark.parametrize("case", FINDABLE.values(), ids=FINDABLE)
def test_it_finds_what_a_schema_can_find(case: dict[str, Any]) -> None:
    assert complaints(spec_of(case))


@pytest.mark.parametrize("title", UNSEEN)
def test_what_it_is_said_not_to_find_it_does_not(title: str) -> None:
    assert complaints(spec_of(CASES[title])) == []


LIBERTIES = {
    "seed": ("seed", "${data.n}"),
    "a name": ("name", "late-${seed}"),
    "a section": ("train", "${other}"),
    "a list": ("evaluate.metrics", "${metrics}"),
    "a duration": ("train.resources", {"timeout": "${limit}"}),
    "a metric": ("evaluate.metrics", ["${metric}"]),
    "an item that is left out": ("evaluate.gates", [None, {"metric": "mae", "max": 1}]),
    "a secret": ("monitor", {"reference": "train", "on_alert": {"webhook": "${oc.env:URL,null}"}}),
}


@pytest.mark.parametrize(("key", "value"), LIBERTIES.values(), ids=LIBERTIES)
def test_an_interpolation_may_stand_for_any_value(key: str, value: Any) -> None:
    changed = json.loads(json.dumps(SPEC))
    *parents, last = key.split(".")
    section = changed
    for part in parents:
        section = section[part]
    section[last] = value
    assert complaints(changed) == []


@pytest.mark.parametrize(
    ("spec", "answer"),
    [
        ({"defaults": ["_self_", {"train": "forest"}], "name": "half"}, True),
        ({"defaults": ["_self_"], "data": {"train": {"format": "csv"}}, "train": {"uses": "sklearn"}}, True),
        ({"defaults": "forest"}, False),
        ({"defaults": ["_self_"], "nam": "half"}, False),
        ({"defaults": ["_self_"], "evaluate": {"gates": [{"min": 1}]}}, False),
        ({"name": "half"}, False),
        ({**SPEC, "train": {"uses": "sklearn", "data": "train"}}, False),
        ({**SPEC, "hydra": {"sweeper": {"max": 1}}}, True),
        ({**SPEC, "hydra": {"run": {"dir": "/tmp"}}}, False),
    ],
)
def test_what_a_config_group_may_give_is_asked_for_only_without_a_defaults_list(spec: Any, answer: bool) -> None:
    assert (complaints(spec) == []) is answer


ANNOTATIONS = [
    "int", "float", "str", "bool", "None", "int | None", "str | int", "Literal['a', 'b']", "Literal['a'] | None",
    "Optional[int]", "Union[int, str]", "list[int]", "list[str] | None", "dict[str, int]", "dict[str, object]",
    "tuple[int, int]", "Strange", "'int'", "list[Strange]", "Mapping[str, list[int]]", "not a (", "int | Strange", "",
]  # fmt: skip
VALUES: list[Any] = [
    1, 1.5, "a", "c", True, None, [], [1], ["a"], {}, {"k": 1}, {"k": "a"}, {"k": [1]}, {"k": ["a"]},
]  # fmt: skip


@pytest.mark.parametrize("annotation", ANNOTATIONS)
def test_the_schema_of_an_annotation_admits_what_fits_it(annotation: str) -> None:
    validator = jsonschema.Draft7Validator(schema_of(annotation))
    assert [validator.is_valid(value) for value in VALUES] == [fits(annotation, value) for value in VALUES]


def test_every_key_is_described_and_nothing_else() -> None:
    sections = {**SCHEMA["definitions"], "Spec": SCHEMA}
    keys = {f"{name}.{key}" for name, section in sections.items() for key in section.get("properties", ())}
    assert keys - {"Spec.defaults", "Spec.hydra"} == set(DESCRIPTIONS)


def test_a_parameter_is_explained_by_what_the_docstring_says_of_it() -> None:
    text = "Fits. `depth`: of the tree, in levels; `loss`: what is minimised. Any number. `rate`: how fast."
    assert dict(PARAMETER_TEXT.findall(text)) == {
        "depth": "of the tree, in levels", "loss": "what is minimised", "rate": "how fast",
    }  # fmt: skip


def test_the_committed_schema_is_what_the_command_writes(tmp_path: Path) -> None:
    found: Done = engine(tmp_path, "schema", "--output", "new/s.json", "--json")
    assert (found.code, found.json) == (0, {"path": "new/s.json"})
    assert (tmp_path / "new/s.json").read_text() == (ROOT / "specs/engine.schema.json").read_text(), (
        "run `engine schema --output specs/engine.schema.json`"
    )


def test_the_schema_is_one_document_on_standard_output(tmp_path: Path) -> None:
    assert engine(tmp_path, "schema").json == engine(tmp_path, "schema", "--json").json == SCHEMA


def test_a_schema_cannot_be_written_over_a_folder(tmp_path: Path) -> None:
    found = engine(tmp_path, "schema", "--output", ".")
    assert (found.code, "Traceback" in found.err) == (2, False)
