"""Wrong specs and what is said about them: place, fact, next act."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.errors import EngineError, SpecInvalid
from engine.spec.load import load
from projects import Project, make_project


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return make_project(tmp_path_factory.mktemp("spec"))


def complaints(project: Project, changes: dict[str, Any]) -> list[str]:
    """What is said of the base spec with changes, without the file's name."""
    path = project.write(changes, name="case.yaml")
    with pytest.raises(SpecInvalid) as raised:
        load(path.name, folder=project.root)
    return [str(problem).removeprefix("case.yaml:") for problem in raised.value.problems]


GATES = "evaluate.gates.0"
CASES: list[tuple[dict[str, Any], str]] = [
    ({"sed": 8}, '41:1 sed: unknown key "sed"; did you mean "seed"?'),
    ({"seed": "x"}, '2:7 seed: expected a whole number, got "x"'),
    ({"seed": 1.5}, "2:7 seed: expected a whole number, got 1.5"),
    ({"name": "Big Name"}, '1:7 name: "Big Name" does not match ^[a-z0-9][a-z0-9-]{1,62}$; use 2 to 63 small letters, digits and hyphens'),
    ({"name": None}, '1:1 name: the key "name" is missing; write `name: late-arrivals`'),
    ({"train.uses": None}, '15:1 train.uses: the key "uses" is missing; write `uses: PLUGIN`'),
    ({"target": "x"}, '12:5 features.numeric.0: the target "x" is among the features; remove it there'),
    ({"target": "yy"}, '14:9 target: no column "yy" in the schema of train or in its transforms; did you mean "y"?'),
    ({"features.numeric": ["x", "zed"]}, '13:5 features.numeric.1: no column "zed" in the schema of train or in its transforms; known: group, x, y, z'),
    ({"features.numeric": []}, "10:1 features: a model needs at least one feature; list columns under features.numeric or features.categorical"),
    ({"features.numeric": ["x", "x"]}, '13:5 features.numeric.1: "x" is a feature twice; remove one'),
    ({"train.data": "trian"}, '17:9 train.data: no data source "trian"; did you mean "train"?'),
    ({"evaluate.data": "tset"}, '19:9 evaluate.data: no data source "tset"; did you mean "test"?'),
    ({"train.uses": "sklern"}, '16:9 train.uses: no trainer plugin \'sklern\'; did you mean "sklearn"?'),
    ({"train.uses": "my_trainer:Lineer"}, '16:9 train.uses: no class or function in my_trainer.py \'Lineer\'; did you mean "Linear"?'),
    ({"train.uses": "nowhere:X"}, "16:9 train.uses: no module 'nowhere'; it is looked for in the project and in the environment"),
    ({"train.with": {"rigde": 1.0}}, '19:5 train.with.rigde: my_trainer:Linear has no parameter "rigde"; did you mean "ridge"?'),
    ({"train.with": {"ridge": "much"}}, '19:12 train.with.ridge: my_trainer:Linear takes ridge: float, got "much"'),
    ({"train.resources": {"memory": "2GG"}}, '19:13 train.resources.memory: expected a size such as 512MiB or 2GiB, got "2GG"'),
    ({"train.resources": {"timeout": "soon"}}, '19:14 train.resources.timeout: expected a duration such as 500ms, 30s, 30m, 2h or 7d, got "soon"'),
    ({"train.resources": {"cpus": 0}}, "19:11 train.resources.cpus: expected a value greater than or equal to 1, got 0"),
    ({"data.train.uri": "s3://x/y"}, '5:10 data.train.uri: "s3://x/y" is not a lake URI; write lakefs://REPOSITORY/REF/PATH, as in lakefs://flights/main/2013-h1/'),
    ({"data.train.uri": "lakefs://numbers/main/x.bin"}, '5:10 data.train.uri: the format of "x.bin" cannot be told from its name; end it in / for a folder, or write `format: arrow|csv|jsonl|parquet`'),
    ({"data.train.schema": "nope.yaml"}, '6:13 data.train.schema: no schema file "nope.yaml" beside the spec; schema paths are relative to the main spec file'),
    ({"data.train.format": "xlsx"}, "7:13 data.train.format: \"xlsx\" is not one of 'csv', 'parquet', 'arrow' or 'jsonl'; known: arrow, csv, jsonl, parquet"),
    ({"evaluate.metrics": ["mae", "auk"]}, '22:5 evaluate.metrics.1: no metric "auk"; did you mean "roc_auc"?'),
    ({"evaluate.metrics": ["mae", "mae"]}, '22:5 evaluate.metrics.1: "mae" is here twice; remove one'),
    ({"evaluate.metrics": []}, "20:12 evaluate.metrics: this is empty; give at least one"),
    ({f"{GATES}.metric": "rmse"}, '26:13 evaluate.gates.0.metric: nobody computes "rmse"; add it to evaluate.metrics'),
    ({f"{GATES}.metric": "maee"}, '26:13 evaluate.gates.0.metric: no metric "maee"; did you mean "mae"?'),
    ({f"{GATES}.max": None}, "26:5 evaluate.gates.0: this gate has no limit; give it min, max, between, max_drop or min_gain"),
    ({f"{GATES}.min": 2.0}, "26:5 evaluate.gates.0: the lower limit is above the upper one: nothing can pass; swap them"),
    ({f"{GATES}.max_drop": 0.1}, "26:5 evaluate.gates.0: this gate mixes max with max_drop; make two gates of it"),
    ({f"{GATES}.slice": "groop"}, '28:12 evaluate.gates.0.slice: no slice "groop"; did you mean "group"?'),
    ({f"{GATES}.confidence": 1.5}, "28:17 evaluate.gates.0.confidence: expected a value less than 1, got 1.5"),
    ({"evaluate.gates.3.slice": "group"}, "35:5 evaluate.gates.3: onnx_parity has no slices; remove `slice`"),
    ({"evaluate.gates.2.baseline": None}, '32:5 evaluate.gates.2: max_drop compares with nothing; add `baseline: production`'),
    ({"evaluate.gates.4": {"metric": "mae", "max": 0.5}}, '37:5 evaluate.gates.4: two gates are called "mae.max"; give one a `name`, or remove it'),
    ({"evaluate.gates.4": {"metric": "mae", "min": 5}}, '26:5 evaluate.gates.0: no mae is at least 5 (evaluate.gates.4) and at most 1; change one of them'),
    ({"monitor": {"reference": "tain"}}, '42:14 monitor.reference: no data source "tain"; did you mean "train"?'),
    ({"monitor": {"reference": "train", "detectors": [{"name": "d", "uses": "kz"}]}}, '45:11 monitor.detectors.0.uses: no detector plugin \'kz\'; known: alibi.TabularDrift, chi2, ks'),
    ({"monitor": {"reference": "train", "detectors": [{"name": "d", "uses": "ks", "with": {"features": ["q"]}}]}}, '48:7 monitor.detectors.0.with.features: no feature "q"; known: x, z'),
    ({"monitor": {"reference": "train", "performance": [{"metric": "rmse", "min": 1}]}}, '44:13 monitor.performance.0.metric: "rmse" is not among evaluate.metrics; known: mae, r2'),
    ({"sweep": {"objective": "auc"}}, '42:14 sweep.objective: "auc" is not among evaluate.metrics; known: mae, r2'),
    ({"name": "${oc.env:HOME}"}, "1:7 name: an environment variable may stand only for a whole secret (a webhook or a key); write the value, or pass it as an override"),
    ({"name": "${train.dat}"}, "1:7 name: Interpolation key 'train.dat' not found; an interpolation names another key of the spec, ${train.data}, or a variable, ${oc.env:NAME}"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "says"), CASES, ids=[said.split(" ", 2)[1] + str(i) for i, (_, said) in enumerate(CASES)]
)
def test_a_wrong_spec_is_refused_with_place_fact_and_next_act(
    project: Project, changes: dict[str, Any], says: str
) -> None:
    assert says in complaints(project, changes)


def test_a_typo_in_a_schema_is_found_that_pandera_would_pass_over(project: Project) -> None:
    inline = {"columns": {"x": {"dtyp": "float64"}, "z": {}, "y": {"checks": {"in_rnge": {}}}, "group": {}}}
    found = complaints(project, {"data.train.schema": inline})
    assert [said.split(": ", 1)[1] for said in found] == [
        'the schema\'s column x has an unknown key "dtyp"; did you mean "dtype"?',
        'the schema\'s column y has an unknown key "in_rnge"; did you mean "in_range"?',
    ]


def test_every_problem_is_reported_at_once(project: Project) -> None:
    found = complaints(project, {"sed": 1, "target": "yy", "evaluate.metrics": ["mae", "auk"], "train.uses": "sklern"})
    assert len(found) == 4


def test_the_good_spec_has_no_problem(project: Project) -> None:
    project.write()
    assert load(project.spec).warnings == ()


def test_an_unused_source_is_only_worth_a_word(project: Project) -> None:
    path = project.write({"data.more": {"uri": "lakefs://numbers/main/train.parquet"}}, name="more.yaml")
    assert [problem.severity for problem in load(path).warnings] == ["warning"]


RAW: list[tuple[str, str]] = [
    ("", "the file is empty"),
    ("- a\n- b\n", "the file is not a mapping of keys to values"),
    ("a: [1, 2\nb: 3\n", "not YAML"),
    ("a:\t- b\n  c: d: e\n", "not YAML"),
    ("name: a1\nname: b1\n", 'the key "name" is here twice'),
    ("on: 1\n", "YAML reads the key `on` as a boolean"),
    ("name: a1\n_target_: os.system\n", "`_target_` is not allowed in a spec"),
    ("hydra: {run: {dir: x}}\n", "`hydra.run` is not allowed in a spec"),
    ("name: ${now:%Y}\n", "changes from run to run"),
    ("a: &a [1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\n"
     "e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n", "too deep, or too many aliases"),
    ("a: &a [*a]\n", "too deep, or too many aliases"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "says"), RAW)
def test_a_file_that_is_no_spec_is_refused_with_its_line(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "raw.yaml"
    path.write_text(text)
    with pytest.raises(SpecInvalid) as raised:
        load(path)
    assert says in str(raised.value)
    assert raised.value.problems[0].place.line >= 1


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "raw.yaml"
    path.write_bytes(bytes(range(256)))
    with pytest.raises(SpecInvalid, match="cannot be read"):
        load(path)


def test_a_missing_spec_suggests_the_nearest(project: Project) -> None:
    project.write()
    with pytest.raises(EngineError, match='did you mean "spec.yaml"'):
        load("specc.yaml", folder=project.root)
