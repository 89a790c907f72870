"""The ``sklearn`` trainer: ONNX says what the estimator says, luck is the seed's, and what cannot be is told."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from engine.digest import sha256
from engine.plugins import Feature, PluginFailed, TrainingTask
from engine.serve.onnx import open_session
from engine.steps.onnx_graph import canonical, check
from engine_plugins.sklearn.trainer import SklearnModel, SklearnTrainer

ROWS = 600
FEATURES = (
    Feature(name="delay", role="numeric", datatype="FP32"),
    Feature(name="distance", role="numeric", datatype="FP32"),
    Feature(name="late before", role="numeric", datatype="FP32"),
    Feature(name="carrier", role="categorical", datatype="BYTES"),
    Feature(name="gate", role="categorical", datatype="INT64"),
)
TASK = TrainingTask(features=FEATURES, target="late", seed=7, cpus=1)


def flights(rows: int = ROWS, seed: int = 1) -> pa.Table:
    random = np.random.default_rng(seed)
    delay = random.normal(size=rows) * 3
    carrier = random.choice(["AA", "DL", "UA"], rows)
    gate = random.integers(0, 4, rows)
    value = delay + 2 * (carrier == "UA") + (gate == 2) + random.normal(size=rows)
    return pa.table(
        {
            "delay": delay,
            "distance": random.integers(100, 3_000, rows),
            "late before": random.random(rows) > 0.5,
            "carrier": pa.array(carrier, mask=random.random(rows) < 0.05),
            "gate": gate,
            "late": value > 1,
            "minutes": value * 10,
            "kind": np.select([value > 3, value > 0], ["very late", "late"], "on time"),
            "stops": random.integers(0, 2, rows),
        }
    )


def fit(estimator: str, target: str = "late", table: pa.Table | None = None, **given: Any) -> SklearnModel:
    task = TrainingTask(features=FEATURES, target=target, seed=7, cpus=1)
    return SklearnTrainer(estimator=estimator, **given).fit(flights() if table is None else table, task)


def failure(estimator: str, target: str = "late", table: pa.Table | None = None, **given: Any) -> PluginFailed:
    with pytest.raises(PluginFailed) as caught:
        fit(estimator, target, table, **given)
    return caught.value


def shown(scores: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return scores[:, 1] if scores.ndim == 2 and scores.shape[1] == 2 else scores


def with_column(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)


FOREST = "sklearn.ensemble.RandomForestClassifier"
BOOSTED = "sklearn.ensemble.HistGradientBoostingClassifier"
LOGISTIC = "sklearn.linear_model.LogisticRegression"
FEW: dict[str, object] = {"n_estimators": 10}


@pytest.mark.parametrize(
    ("estimator", "target", "given"),
    [
        (BOOSTED, "late", {"params": {"max_iter": 20}}),
        (BOOSTED, "kind", {"params": {"max_iter": 20}}),
        (BOOSTED, "late", {"params": {"max_iter": 20}, "encode": "onehot"}),
        ("sklearn.ensemble.HistGradientBoostingRegressor", "minutes", {"params": {"max_iter": 20}}),
        (FOREST, "late", {"params": FEW}),
        (FOREST, "stops", {"params": FEW, "encode": "onehot"}),
        ("sklearn.ensemble.RandomForestRegressor", "minutes", {"params": FEW}),
        ("sklearn.ensemble.GradientBoostingClassifier", "kind", {"params": FEW}),
        ("sklearn.ensemble.GradientBoostingClassifier", "late", {"params": FEW}),
        ("sklearn.tree.DecisionTreeClassifier", "kind", {"params": {"max_depth": 5}}),
        ("sklearn.tree.DecisionTreeRegressor", "late", {"params": {"max_depth": 5}}),
        (LOGISTIC, "late", {"scale": True}),
        (LOGISTIC, "kind", {"scale": True, "encode": "ordinal"}),
        ("sklearn.linear_model.LinearRegression", "minutes", {}),
        ("sklearn.linear_model.Ridge", "minutes", {"scale": True}),
        ("sklearn.neighbors.KNeighborsClassifier", "late", {"scale": True}),
        (
            "sklearn.ensemble.StackingClassifier",
            "late",
            {"params": {"estimators": [["a", {"estimator": LOGISTIC}], ["b", {"estimator": FOREST, "params": FEW}]]}},
        ),
    ],
)
def test_onnx_says_what_the_estimator_says(estimator: str, target: str, given: dict[str, Any]) -> None:
    model = fit(estimator, target, **given)
    data = canonical(model.to_onnx())
    check(data)
    session = open_session(data)
    seen, unseen = flights(), flights(50, 2)
    unseen = with_column(unseen, "carrier", pa.array(["??"] * 50))
    unseen = with_column(unseen, "gate", pa.array([99] * 50))
    for table in (seen, unseen):
        native, served = shown(model.scores(table)), session.predict(table).scores
        assert native.shape == served.shape
        assert np.max(np.abs(native - served) / np.maximum(np.abs(native), 1)) < 1e-5
    assert [tensor.name for tensor in session.inputs] == TASK.names
    assert {tensor.name for tensor in session.outputs} == (
        {"value"} if model.classes is None else {"label", "probabilities"}
    )


@pytest.mark.parametrize(
    ("target", "classes"),
    [("late", (0, 1)), ("kind", ("late", "on time", "very late")), ("stops", (0, 1))],
)
def test_classes_are_plain_values_in_the_order_of_the_scores(target: str, classes: tuple[object, ...]) -> None:
    model = fit(LOGISTIC, target, scale=True)
    assert model.classes == classes
    assert {type(item) for item in model.classes or ()} == {type(classes[0])}
    labels = open_session(model.to_onnx()).predict(flights()).label
    assert list(labels) == [classes[index] for index in model.scores(flights()).argmax(axis=1)]


@pytest.mark.parametrize("estimator", [BOOSTED, "sklearn.ensemble.HistGradientBoostingRegressor"])
def test_missing_numbers_go_the_same_way_in_onnx(estimator: str) -> None:
    table = with_column(
        flights(), "delay", pa.array(flights().column("delay").to_numpy(), mask=np.arange(ROWS) % 7 == 0)
    )
    model = fit(estimator, table=table)
    served = open_session(model.to_onnx()).predict(table).scores
    assert np.max(np.abs(shown(model.scores(table)) - served)) < 1e-5


@pytest.mark.parametrize("impute", ["mean", "median"])
def test_missing_numbers_are_filled_in_when_asked(impute: Any) -> None:
    table = with_column(
        flights(), "delay", pa.array(flights().column("delay").to_numpy(), mask=np.arange(ROWS) % 7 == 0)
    )
    model = fit(FOREST, table=table, impute=impute, params=FEW)
    served = open_session(model.to_onnx()).predict(table).scores
    assert np.max(np.abs(shown(model.scores(table)) - served)) < 1e-5


def test_every_unset_seed_takes_the_task_s_and_a_set_one_stays() -> None:
    nested = {"estimator": {"estimator": "sklearn.tree.DecisionTreeClassifier", "params": {"max_depth": 2}}}
    model = fit("sklearn.ensemble.AdaBoostClassifier", params={**nested, "n_estimators": 3})
    assert model.pipeline.steps[-1][1].get_params()["random_state"] == 7
    assert model.pipeline.steps[-1][1].get_params()["estimator__random_state"] == 7
    assert fit(FOREST, params={**FEW, "random_state": 3}).pipeline.steps[-1][1].random_state == 3


def test_an_unset_number_of_jobs_is_that_of_the_step() -> None:
    task = TrainingTask(features=FEATURES, target="late", seed=7, cpus=2)
    trained = SklearnTrainer(estimator=FOREST, params=FEW).fit(flights(), task)
    assert trained.pipeline.steps[-1][1].n_jobs == 2


@pytest.mark.parametrize(("estimator", "expected"), [(FOREST, "OrdinalEncoder"), (LOGISTIC, "OneHotEncoder")])
def test_trees_get_codes_and_others_a_column_a_category(estimator: str, expected: str) -> None:
    parts = fit(estimator).pipeline.steps[0][1].named_transformers_
    assert type(parts["categorical_bytes"]).__name__ == expected


def test_a_model_survives_a_pickle() -> None:
    model = fit(FOREST, params=FEW)
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(again.scores(flights()), model.scores(flights()))
    assert canonical(again.to_onnx()) == canonical(model.to_onnx())


def test_features_may_be_called_as_tensors_inside_the_graph() -> None:
    names = {"delay": "variable", "distance": "t0", "gate": "été à Paris"}
    table = flights().rename_columns([names.get(name, name) for name in flights().column_names])
    features = tuple(
        Feature(name=names.get(item.name, item.name), role=item.role, datatype=item.datatype) for item in FEATURES
    )
    task = TrainingTask(features=features, target="minutes", seed=7, cpus=1)
    model = SklearnTrainer(estimator="sklearn.linear_model.Ridge").fit(table, task)
    served = open_session(canonical(model.to_onnx())).predict(table).scores
    assert np.max(np.abs(model.scores(table) - served)) < 1e-3


PROJECT = """
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression

class Careful(LogisticRegression):
    def __init__(self, C=0.1):
        super().__init__(C=C)

class Own(ClassifierMixin, BaseEstimator):
    def fit(self, X, y):
        return self
    def predict_proba(self, X):
        return X

class Unrelated:
    pass
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"estimators_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(PROJECT)
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_a_class_of_the_project_is_trained_and_converted(project: str) -> None:
    model = fit(f"{project}:Careful", params={"C": 0.5}, scale=True)
    served = open_session(model.to_onnx()).predict(flights()).scores
    assert np.max(np.abs(shown(model.scores(flights())) - served)) < 1e-5


def test_a_class_of_the_project_needs_an_onnx_form(project: str) -> None:
    assert failure(f"{project}:Own").fact == f"{project}:Own has no ONNX conversion, so it cannot be served"
    assert failure(f"{project}:Unrelated").fact == f'"{project}:Unrelated" is not an estimator'


REFUSED = (
    "; an estimator of the project's own is written `module:Class` and is a subclass of sklearn.base.BaseEstimator"
)
INSTEAD = "; use e.g. sklearn.ensemble.HistGradientBoosting..., a random forest or a linear model"


@pytest.mark.parametrize(
    ("estimator", "given", "key", "message"),
    [
        ("os.system", {}, "with.estimator", f'"os.system" is not of sklearn, xgboost or lightgbm{REFUSED}'),
        (
            "subprocess:Popen",
            {},
            "with.estimator",
            f'"subprocess:Popen" is not of sklearn, xgboost or lightgbm{REFUSED}',
        ),
        (
            "pandas:DataFrame",
            {},
            "with.estimator",
            f'"pandas:DataFrame" is not of sklearn, xgboost or lightgbm{REFUSED}',
        ),
        (
            "sklearn.ensemble.HistGradientBostingClassifier",
            {},
            "with.estimator",
            f'no estimator "sklearn.ensemble.HistGradientBostingClassifier"; did you mean "{BOOSTED}"?',
        ),
        (
            "sklearn.ensembel.RandomForestClassifier",
            {},
            "with.estimator",
            f'no estimator "sklearn.ensembel.RandomForestClassifier"; did you mean "{FOREST}"?',
        ),
        ("sklearn.svm.SCV", {}, "with.estimator", 'no estimator "sklearn.svm.SCV"; did you mean "sklearn.svm.SVC"?'),
        (
            "sklearn.svm.Lasso",
            {},
            "with.estimator",
            'no estimator "sklearn.svm.Lasso"; did you mean "sklearn.linear_model.Lasso"?',
        ),
        (
            "RandomForestClassifier",
            {},
            "with.estimator",
            f'"RandomForestClassifier" does not say where the estimator is; did you mean "{FOREST}"?',
        ),
        (
            "sklearn.base.clone",
            {},
            "with.estimator",
            '"sklearn.base.clone" is not an estimator; name a subclass of sklearn.base.BaseEstimator',
        ),
        (
            "sklearn.cluster.KMeans",
            {},
            "with.estimator",
            "KMeans is neither a classifier nor a regressor; "
            "name one whose class ends in Classifier or Regressor, or a linear model",
        ),
        ("sklearn.svm.SVC", {}, "with.estimator", "SVC gives no probabilities; set `probability: true` under params"),
        (
            "sklearn.semi_supervised.LabelPropagation",
            {},
            "with.estimator",
            f"sklearn.semi_supervised.LabelPropagation has no ONNX conversion, so it cannot be served{INSTEAD}",
        ),
        (
            BOOSTED,
            {"params": {"max_itr": 5}},
            "with.params.max_itr",
            'HistGradientBoostingClassifier has no parameter "max_itr"; did you mean "max_iter"?',
        ),
        (
            BOOSTED,
            {"params": {"max_iter": -5}},
            "with.params.max_iter",
            "The 'max_iter' parameter of HistGradientBoostingClassifier must be an int in the range [1, inf). Got -5 "
            f"instead; see the parameters of HistGradientBoostingClassifier: python -m pydoc {BOOSTED}",
        ),
        (LOGISTIC, {"encode": "one-hot"}, "with.encode", "'one-hot' is no value of encode; did you mean \"onehot\"?"),
    ],
)
def test_what_cannot_be_trained_is_told(estimator: str, given: dict[str, Any], key: str, message: str) -> None:
    error = failure(estimator, **given)
    assert (error.key, str(error)) == (key, message)


def test_nothing_refused_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom engine.plugins import PluginFailed\nfrom engine_plugins.sklearn.estimators import find\n"
        "refused = []\n"
        "for name in ('antigravity.fly', 'antigravity:fly', 'turtle:Turtle'):\n"
        "    try: find(name, 'k')\n    except PluginFailed: refused.append(name)\n"
        "print(len(refused), sorted({'antigravity', 'turtle'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "3 []"


HOLES = pa.array(np.linspace(0, 1, ROWS), mask=np.arange(ROWS) < 12)


@pytest.mark.parametrize(
    ("estimator", "target", "column", "values", "key", "message"),
    [
        (
            LOGISTIC,
            "late",
            "delay",
            HOLES,
            "with.impute",
            "LogisticRegression takes no NaN as ONNX, and there are some in delay (12); set `impute: median`, take "
            "HistGradientBoosting..., which takes NaN, or fill them in a transform",
        ),
        (
            FOREST,
            "late",
            "delay",
            HOLES,
            "with.impute",
            "RandomForestClassifier takes no NaN as ONNX, and there are some in delay (12); set `impute: median`, take "
            "HistGradientBoosting..., which takes NaN, or fill them in a transform",
        ),
        (
            LOGISTIC,
            "late",
            "delay",
            pa.array([1e300] * ROWS),
            "features.numeric",
            "infinite as float32, which is what is served: delay (600); limit or scale them in a transform",
        ),
        (
            BOOSTED,
            "late",
            "gate",
            pa.array(range(ROWS), mask=np.arange(ROWS) < 3),
            "features.categorical",
            'the categorical feature "gate" is int64 and null in 3 rows; '
            "turn it into text in a transform: cast(gate as varchar)",
        ),
        (
            BOOSTED,
            "late",
            "late",
            pa.array([True] * ROWS),
            "target",
            'the target "late" has one class only: 1; look at the data and at what the transforms leave of it',
        ),
        (
            BOOSTED,
            "late",
            "late",
            pa.array([True, False, None] * 200),
            "target",
            'the target "late" is null in 200 of 600 rows; drop those rows in a transform',
        ),
        (
            BOOSTED,
            "minutes",
            "stops",
            pa.array([0] * ROWS),
            "target",
            'the target "minutes" is double, which names no classes; '
            "name a regressor, or make classes of it in a transform (a boolean, an integer or text)",
        ),
        (
            "sklearn.linear_model.Ridge",
            "kind",
            "stops",
            pa.array([0] * ROWS),
            "with.estimator",
            'the target "kind" is string, and Ridge is a regressor; name a classifier, or a target of numbers',
        ),
    ],
)
def test_data_that_cannot_be_learned_is_told(
    estimator: str, target: str, column: str, values: pa.Array, key: str, message: str
) -> None:
    error = failure(estimator, target, with_column(flights(), column, values))
    assert (error.key, str(error)) == (key, message)


def test_an_empty_table_is_told() -> None:
    assert failure(LOGISTIC, table=flights().slice(0, 0)).fact == "the training data has no rows"


def test_a_feature_cannot_be_called_as_an_output() -> None:
    task = TrainingTask(
        features=(Feature(name="value", role="numeric", datatype="FP32"),), target="late", seed=1, cpus=1
    )
    with pytest.raises(PluginFailed, match='a feature cannot be called "value"'):
        SklearnTrainer(estimator=LOGISTIC).fit(flights().append_column("value", pa.array([1.0] * ROWS)), task)


PROGRAM = """
import sys
sys.path.insert(0, {folder!r})
from test_sklearn_trainer import BOOSTED, FEW, FOREST, LOGISTIC, fit
from engine.digest import sha256
from engine.steps.onnx_graph import canonical
for model in fit(BOOSTED, params={{"max_iter": 5}}), fit(FOREST, params=FEW), fit(LOGISTIC, scale=True):
    print(sha256(canonical(model.to_onnx())))
"""


@pytest.mark.slow
def test_the_canonical_bytes_do_not_depend_on_the_hash_seed() -> None:
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM.format(folder=str(Path(__file__).parent))]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**one_thread, "PYTHONHASHSEED": seed})
        for seed in ("0", "1", "random")
    ]
    found = {process.communicate()[0] for process in started}
    ours = [fit(BOOSTED, params={"max_iter": 5}), fit(FOREST, params=FEW), fit(LOGISTIC, scale=True)]
    assert found == {"".join(f"{sha256(canonical(model.to_onnx()))}\n" for model in ours)}
