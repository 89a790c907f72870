"""Composition: Hydra's grammar, config groups, and where each value came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.errors import EngineError, SpecInvalid
from engine.spec.load import LoadedSpec, expand_sweep, load
from projects import SPEC, Project, make_project, set_key


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    made = make_project(tmp_path_factory.mktemp("load"))
    (made.root / "train").mkdir()
    (made.root / "train" / "soft.yaml").write_text("uses: my_trainer:Linear\ndata: train\nwith: {ridge: 10.0}\n")
    (made.root / "train" / "wrong.yaml").write_text("uses: my_trainer:Linear\ndata: train\nwith: {rigde: 10.0}\n")
    (made.root / "train" / "evil.yaml").write_text("_target_: os.system\nuses: my_trainer:Linear\ndata: train\n")
    made.write({"train": None}, name="grouped.yaml")
    text = (made.root / "grouped.yaml").read_text()
    (made.root / "grouped.yaml").write_text("defaults:\n  - train: soft\n  - _self_\n" + text)
    return made


OVERRIDES: list[tuple[list[str], str, Any]] = [
    (["seed=8"], "seed", 8),
    (["++seed=8"], "seed", 8),
    (["train.with.ridge=0.5"], "train.with_.ridge", 0.5),
    (["+train.with.ridge=0.5"], "train.with_.ridge", 0.5),
    (["train.resources.cpus=2"], "train.resources.cpus", 2),
    (["train.resources.memory=2GiB"], "train.resources.memory", 2 * 2**30),
    (["evaluate.gates.0.max=0.7"], "evaluate.gates.0.max", 0.7),
    (["evaluate.gates[0].max=0.7"], "evaluate.gates.0.max", 0.7),
    (["evaluate.gates.0=null"], "evaluate.gates.0.title", "mae.max[group]"),
    (["~evaluate.gates"], "evaluate.gates", ()),
    (["evaluate.metrics=[mae]", "~evaluate.gates"], "evaluate.metrics", ("mae",)),
]


def at(loaded: LoadedSpec, path: str) -> Any:
    """The value of a dotted field."""
    value: Any = loaded.spec
    for part in path.split("."):
        value = value[int(part)] if part.isdigit() else value[part] if isinstance(value, dict) else getattr(value, part)
    return value


@pytest.mark.parametrize(("overrides", "path", "value"), OVERRIDES)
def test_an_override_sets_its_key(project: Project, overrides: list[str], path: str, value: Any) -> None:
    project.write()
    assert at(load(project.spec, overrides), path) == value


BAD_OVERRIDES = [
    ("sed=8", 'override sed=8: unknown key "sed"; did you mean "seed"?'),
    ("evaluate.gates.9.max=1", "override evaluate.gates.9.max=1: there is no such list item"),
    ("~evaluate.gates.0", "a list item cannot be deleted with ~; set it to null: evaluate.gates.0=null"),
    ("seed", "override seed: not an override"),
    ("hydra.run.dir=x", "`hydra.run.dir` is not allowed in a spec"),
    ("+train._target_=os.system", "`_target_` is not allowed in a spec"),
    ("name=${now:%Y}", "changes from run to run"),
    ("seed=[1", "override seed=[1:"),
    ("~nothing", "override ~nothing:"),
]


@pytest.mark.parametrize(("override", "says"), BAD_OVERRIDES)
def test_a_wrong_override_is_named(project: Project, override: str, says: str) -> None:
    project.write()
    with pytest.raises(SpecInvalid) as raised:
        load(project.spec, [override])
    assert says in str(raised.value)


def test_a_config_group_is_composed(project: Project) -> None:
    assert load(project.root / "grouped.yaml").spec.train.with_ == {"ridge": 10.0}


def test_a_problem_in_a_group_file_is_placed_there(project: Project) -> None:
    with pytest.raises(SpecInvalid) as raised:
        load("grouped.yaml", ["train=wrong"], folder=project.root)
    assert str(raised.value.problems[0]).startswith("train/wrong.yaml:3:8 train.with.rigde: my_trainer:Linear has no")


def test_an_unknown_option_of_a_group_suggests_the_nearest(project: Project) -> None:
    with pytest.raises(SpecInvalid, match='config group "train" has no option "sift"; did you mean "soft"'):
        load(project.root / "grouped.yaml", ["train=sift"])


def test_a_group_file_is_data_and_not_code(project: Project) -> None:
    with pytest.raises(SpecInvalid, match="`_target_` is not allowed"):
        load(project.root / "grouped.yaml", ["train=evil"])


def test_a_spec_is_found_from_any_folder(project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    project.write()
    monkeypatch.chdir(tmp_path)
    absolute = load(project.spec)
    monkeypatch.chdir(project.root / "train")
    assert load("../spec.yaml").spec == absolute.spec
    assert load("../spec.yaml").root == project.root


def test_a_secret_is_a_reference_and_its_value_is_never_read(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALERT_URL", "https://hush")
    monitor = {"reference": "train", "on_alert": {"webhook": "${oc.env:ALERT_URL,null}"}}
    loaded = load(project.write({"monitor": monitor}, name="secret.yaml"))
    assert "hush" not in loaded.spec.model_dump_json()
    assert loaded.spec.monitor is not None
    assert loaded.spec.monitor.on_alert.webhook.env == "ALERT_URL"  # type: ignore[union-attr]


def test_an_unset_secret_is_a_warning(project: Project) -> None:
    monitor = {"reference": "train", "on_alert": {"webhook": "${oc.env:NOBODY_SET_THIS}"}}
    warnings = load(project.write({"monitor": monitor}, name="unset.yaml")).warnings
    assert [(problem.rule, problem.severity) for problem in warnings] == [("secret-unset", "warning")]


SWEEPS = [
    (["seed=1,2,3"], 3),
    (["seed=range(0,4)"], 4),
    (["seed=choice(1,2)", "train.with.ridge=0.1,1.0"], 4),
    (["train=glob(s*)"], 1),
]


@pytest.mark.parametrize(("overrides", "count"), SWEEPS)
def test_a_sweep_is_every_combination(project: Project, overrides: list[str], count: int) -> None:
    assert len(expand_sweep(project.root / "grouped.yaml", overrides)) == count


LEAVES = ["seed", "name", "target", "train.uses", "train.data", "data.train.uri", "data.train.schema", "evaluate.metrics",
          "evaluate.gates", "evaluate.gates.0.max", "evaluate.gates.0.metric", "features.numeric", "features", "train",
          "monitor", "serve", "evaluate.slices", "data"]  # fmt: skip
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=st.sampled_from(LEAVES), junk=JUNK)
def test_a_mutated_spec_is_good_or_has_problems_with_places(project: Project, key: str, junk: Any) -> None:
    path = project.write({key: junk}, name="mutant.yaml")
    try:
        assert load(path).spec.name
    except SpecInvalid as error:
        assert error.problems
        assert all(problem.place.file for problem in error.problems)
    except EngineError as error:
        pytest.fail(f"{type(error)} is not a finding: {error}")


def test_setting_a_key_in_the_base_spec_works() -> None:
    values: dict[str, Any] = {"a": [{"b": 1}]}
    set_key(values, "a.0.b", 2)
    assert values == {"a": [{"b": 2}]}
    assert SPEC["name"] == "numbers"
