"""The Python API, as a notebook uses it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from engine.api import as_table
from engine.errors import UsageError
from projects import Project, make_project

CODE = """
import engine
from engine.errors import UsageError
assert engine.plan("spec.yaml").plan.steps
first = engine.plan("spec.yaml", overrides=["seed=8"])
run = engine.run(first, inline=True)
assert engine.plan("spec.yaml", overrides=["seed=8"]).resolved.run_id == run.id
import engine.plan.model
from engine import plan
assert callable(plan) and callable(engine.plan)
assert (run.status, run.model["version"], run.pins["environment"]["python"][:2]) == ("passed", 1, "3.")
assert 0 < run.metrics["mae"] < 1
scores = engine.load_model("numbers:1").predict({"x": [1.0, 2.0], "z": [2, 3]})
assert abs(scores[0] - 1.0) < 0.1 and scores.shape == (2,)
try:
    engine.load_model("numbers").predict({"x": [1.0, 2.0], "z": [2]})
except UsageError as error:
    assert str(error).startswith('column "z": expected 2 rows as "x" has, received 1')
else:
    raise AssertionError
import pandas
frame = pandas.DataFrame({"x": [1.0, 2.0], "z": [2, 3]})
assert (engine.load_model("numbers").predict(frame) == scores).all()
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return make_project(tmp_path / "project")


def python(project: Project, code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=project.root, capture_output=True, text=True, check=False)


def test_the_api_plans_runs_and_predicts_as_often_as_it_is_asked(project: Project) -> None:
    done = python(project, CODE)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"x": [1.0, 2.0], "z": [1]}, 'column "z": expected 2 rows as "x" has, received 1'),
        ({"x": [1.0, "a"]}, 'column "x": expected values of one type; '),
        ({"x": 1.0}, 'column "x": expected values of one type; '),
        ({"x": "text"}, "column \"x\": expected values of one type; received 'text'"),
        ([{"x": 1.0}], "list is no table; give a pyarrow.Table, a pandas.DataFrame or a mapping of columns"),
        (pd.DataFrame({"x": [1, "a", {}]}), "the frame is no table: "),
    ],
)
def test_what_is_no_table_is_told_what_one_is(given: object, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        as_table(given)
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    "given",
    [
        pa.table({"x": [1, 2]}),
        pd.DataFrame({"x": [1, 2]}, index=[7, 8]),
        {"x": [1, 2]},
        {"x": (1, 2)},
        {"x": np.array([1, 2])},
        {"x": pd.Series([1, 2])},
        {"x": pa.chunked_array([[1], [2]])},
    ],
    ids=lambda given: type(given).__name__,
)
def test_a_table_may_come_in_any_of_these_forms(given: object) -> None:
    assert as_table(given).to_pydict() == {"x": [1, 2]}


def test_no_columns_are_a_table_without_any() -> None:
    assert as_table({}).column_names == []


def test_a_loaded_model_refuses_altered_bytes(project: Project) -> None:
    code = (
        "import engine; engine.run('spec.yaml', inline=True); from engine.wiring import home_here; home = home_here(); v = home.registry.versions('numbers')[0];"
        "p = home.store.path(v.digest); p.chmod(0o644); d = bytearray(p.read_bytes()); d[50] ^= 1; p.write_bytes(bytes(d));"
        "engine.load_model('numbers')"
    )
    assert "DigestMismatch" in python(project, code).stderr


def test_a_step_that_leaves_the_process_is_a_failed_run(project: Project) -> None:
    (project.root / "leaver.py").write_text(
        "import sys\n\n\nclass Leaver:\n    def fit(self, table, task):\n        sys.exit(0)\n"
    )
    project.write({"train.uses": "leaver:Leaver"})
    code = "import engine; r = engine.run('spec.yaml', inline=True); print(r.status, r.document['error']['message'])"
    assert python(project, code).stdout == "failed the step called sys.exit(0)\n"


def test_a_model_that_cannot_be_kept_is_named(project: Project) -> None:
    source = (
        "class Local:\n    def fit(self, table, task):\n        class Model:\n            classes = None\n"
        "            scores = to_onnx = 1\n        return Model()\n"
    )
    (project.root / "local.py").write_text(source)
    project.write({"train.uses": "local:Local"})
    code = "import engine; print(engine.run('spec.yaml', inline=True).document['error']['message'])"
    assert python(project, code).stdout.startswith("the model of local:Local cannot be pickled")
