"""Every task from data to a registered model with trainers and metrics of the project's own, in one process."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn import metrics as sk

import engine
from engine.api import Run
from engine.digest import bare
from engine.serve.onnx import open_session
from projects import Project, make_project

TRAINERS = '''"""Trainers of every task: linear models by the normal equations."""

from dataclasses import dataclass

import numpy as np
from onnx import TensorProto, helper as oh, numpy_helper


@dataclass(frozen=True, kw_only=True)
class Labels:
    """The chance of each label."""

    def fit(self, table, task):
        targets = np.stack([table.column(name).to_numpy(zero_copy_only=False) for name in task.labels], axis=1)
        return Linear(tuple(task.names), solved(table, task, targets.astype(float)), "labels", squash=True)


@dataclass(frozen=True, kw_only=True)
class Ranker:
    """A score that goes up with relevance; it looks at each group's own mean."""

    def fit(self, table, task):
        groups = table.column(task.group).to_numpy()
        relevance = table.column(task.target).to_numpy().astype(float)
        means = np.bincount(groups, weights=relevance) / np.maximum(np.bincount(groups), 1)
        return Linear(tuple(task.names), solved(table, task, (relevance - means[groups])[:, None]), "value")


@dataclass(frozen=True, kw_only=True)
class Quantiles:
    """A line, and lines beside it that leave a tenth of the rows below and above."""

    levels: list[float]

    def fit(self, table, task):
        y = table.column(task.target).to_numpy().astype(float)
        line = solved(table, task, y[:, None])
        beside = np.quantile(y - (design(table, task.names) @ line)[:, 0], self.levels)
        weights = np.repeat(line, len(self.levels), axis=1)
        weights[-1] += beside
        return Linear(tuple(task.names), weights, "value", quantiles=tuple(self.levels))


def design(table, names):
    x = np.stack([table.column(name).to_numpy().astype("float32") for name in names], axis=1)
    return np.c_[x, np.ones(len(x))]


def solved(table, task, targets):
    a = design(table, task.names)
    return np.linalg.solve(a.T @ a + 1e-6 * np.eye(a.shape[1]), a.T @ targets)


@dataclass
class Linear:
    names: tuple
    weights: np.ndarray
    output: str
    squash: bool = False
    quantiles: tuple = ()
    classes = None

    def scores(self, table):
        found = design(table, self.names) @ self.weights
        if self.squash:
            return np.clip(found, 0.01, 0.99)
        return found if found.shape[1] > 1 else found[:, 0]

    def to_onnx(self):
        names = list(self.names)
        last = "sum" if self.squash else self.output
        nodes = [
            oh.make_node("Concat", names, ["all"], axis=1),
            oh.make_node("MatMul", ["all", "w"], ["m"]),
            oh.make_node("Add", ["m", "b"], [last]),
        ]
        constants = {"w": self.weights[:-1], "b": self.weights[-1]}
        if self.squash:
            nodes.append(oh.make_node("Clip", [last, "low", "high"], [self.output]))
            constants |= {"low": np.array(0.01), "high": np.array(0.99)}
        inputs = [oh.make_tensor_value_info(name, TensorProto.FLOAT, [None, 1]) for name in names]
        outputs = [oh.make_tensor_value_info(self.output, TensorProto.FLOAT, [None, self.weights.shape[1]])]
        kept = [numpy_helper.from_array(np.asarray(value, dtype="float32"), name) for name, value in constants.items()]
        graph = oh.make_graph(nodes, "g", inputs, outputs, kept)
        return oh.make_model(graph, opset_imports=[oh.make_opsetid("", 15)], ir_version=8).SerializeToString()
'''
METRICS = '''"""Metrics of the project."""

import numpy as np


def cost(y_true, y_pred, y_score, weights):
    """Too little costs three times as much as too much."""
    errors = y_true - y_pred
    return np.average(np.where(errors > 0, 3 * errors, -errors), weights=weights)


def nothing(y_true, y_pred, y_score, weights):
    return float("nan")


def text(y_true, y_pred, y_score, weights):
    return "good"


def broken(y_true, y_pred, y_score, weights):
    return helped(y_true)


def helped(values):
    return {}["missing"]
'''


def rows(count: int, seed: int) -> pa.Table:
    """Two features, and a target for every task."""
    random = np.random.default_rng(seed)
    x, z = random.normal(size=count), random.integers(0, 10, count)
    y = 2 * x - z + 1 + random.normal(size=count)
    return pa.table(
        {
            "x": x,
            "z": z,
            "y": y,
            "group": ["ab"[i % 2] for i in range(count)],
            "late": (x + random.normal(size=count)) > 0.5,
            "full": (z + 3 * random.normal(size=count) > 5).astype(np.int64),
            "query": random.integers(0, count // 8, count),
            "relevance": np.digitize(y + random.normal(size=count), [-6, -2]),
            "seats": random.gamma(2, size=count),
        }
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    made = make_project(tmp_path_factory.mktemp("tasks") / "project")
    (made.root / "tasks.py").write_text(TRAINERS)
    (made.root / "costs.py").write_text(METRICS)
    made.put("train.parquet", rows(600, 1))
    made.put("test.parquet", rows(300, 2))
    return made


SOURCES = {name: {"uri": f"lakefs://numbers/main/{name}.parquet"} for name in ("train", "test")}


def run(project: Project, changes: dict[str, Any]) -> Run:
    """A run of the project with another task."""
    gates = changes.pop("gates", [])
    defaults = {"data": SOURCES, "evaluate.gates": gates, "evaluate.slices": ["group"]}
    return engine.run(project.write({**defaults, **changes}), inline=True)


def fault(found: Run) -> Any:
    """Why a run failed."""
    assert found.status == "failed"
    return found.document["error"]


def answers(found: Run, table: pa.Table) -> Any:
    """What the registered model says."""
    assert found.model["version"] is not None
    return open_session(found.store.read(bare(found.model["digest"]))).predict(table).scores


def evaluation(found: Run) -> Any:
    assert found.status == "passed", found.document
    return json.loads(found.store.read(found.document["evaluation"]))


def test_several_labels_are_learned_judged_and_registered(project: Project) -> None:
    names = ["f1", "f1_micro", "hamming_loss", "roc_auc", "brier"]
    found = run(
        project,
        {
            "target": ["late", "full"],
            "train.uses": "tasks:Labels",
            "evaluate.metrics": names,
            "gates": [{"metric": "roc_auc", "min": 0.6}, {"metric": "onnx_parity", "max": 1e-5}],
        },
    )
    said = evaluation(found)
    assert (said["task"], said["classes"]) == ("multilabel", ["late", "full"])
    test = rows(300, 2)
    true = np.stack([test.column(name).to_numpy(zero_copy_only=False).astype(int) for name in ("late", "full")], axis=1)
    scores = answers(found, test)
    assert scores.shape == (300, 2)
    assert found.metrics["roc_auc"] == pytest.approx(sk.roc_auc_score(true, scores))
    assert found.metrics["f1_micro"] == pytest.approx(sk.f1_score(true, scores > 0.5, average="micro"))
    assert [part["value"] for part in said["labels"]] == ["late", "full"]
    for number, part in enumerate(said["labels"]):
        assert part["metrics"]["roc_auc"] == pytest.approx(sk.roc_auc_score(true[:, number], scores[:, number]))
        assert part["intervals"]["roc_auc"][0] < part["metrics"]["roc_auc"] < part["intervals"]["roc_auc"][1]


RANKED = {"target": "relevance", "group": "query", "evaluate.metrics": ["ndcg", "mrr", "mean_average_precision"]}


@pytest.mark.parametrize(
    "trainer",
    [
        {"train.uses": "tasks:Ranker"},
        {"train.uses": "sklearn", "train.with": {"estimator": "sklearn.linear_model.Ridge"}},
    ],
    ids=["own", "sklearn"],
)
def test_rows_are_ranked_within_their_groups(project: Project, trainer: dict[str, Any]) -> None:
    found = run(project, {**RANKED, **trainer, "gates": [{"metric": "ndcg", "min": 0.5}]})
    said, test = evaluation(found), rows(300, 2)
    assert (said["task"], said["groups"]) == ("ranking", len(set(test.column("query").to_pylist())))
    scores, query = answers(found, test), test.column("query").to_numpy()
    relevance = test.column("relevance").to_numpy()
    members = [query == number for number in np.unique(query)]
    values = [
        sk.ndcg_score([relevance[rows]], [scores[rows]]) if rows.sum() > 1 else 1.0
        for rows in members
        if relevance[rows].any()
    ]
    assert found.metrics["ndcg"] == pytest.approx(np.mean(values))
    assert said["metrics"]["ndcg"]["method"] == "student"


def test_quantiles_are_judged_by_their_losses_and_by_how_often_they_hold(project: Project) -> None:
    found = run(
        project,
        {
            "train": {"uses": "tasks:Quantiles", "data": "train", "with": {"levels": [0.1, 0.5, 0.9]}},
            "evaluate.metrics": ["pinball", "interval_coverage", "mae"],
            "evaluate.weights": "seats",
            "gates": [{"metric": "interval_coverage", "between": [0.7, 0.9]}],
        },
    )
    said, test = evaluation(found), rows(300, 2)
    assert (said["task"], said["levels"]) == ("quantile", [0.1, 0.5, 0.9])
    scores, y, seats = answers(found, test), *(test.column(n).to_numpy() for n in ("y", "seats"))
    inside = (scores[:, 0] <= y) & (y <= scores[:, 2])
    assert found.metrics["interval_coverage"] == pytest.approx(np.average(inside, weights=seats))
    assert found.metrics["mae"] == pytest.approx(sk.mean_absolute_error(y, scores[:, 1], sample_weight=seats))
    assert said["metrics"]["interval_coverage"]["method"] == "wilson"


def test_a_metric_of_the_projects_own_has_an_interval_and_can_be_gated(project: Project) -> None:
    found = run(
        project,
        {
            "evaluate.metrics": ["mae", "costs:cost"],
            "evaluate.weights": "seats",
            "gates": [{"metric": "costs:cost", "max": 3}, {"metric": "costs:cost", "slice": "group", "max": 4}],
        },
    )
    said = evaluation(found)["metrics"]["costs:cost"]
    test = rows(300, 2)
    y, seats = (test.column(name).to_numpy() for name in ("y", "seats"))
    errors = y - answers(found, test)
    assert said["value"] == pytest.approx(np.average(np.where(errors > 0, 3 * errors, -errors), weights=seats))
    assert said["low"] < said["value"] < said["high"]
    assert said["method"] == "bootstrap"


def test_a_change_of_a_metrics_source_is_another_run(project: Project) -> None:
    wanted = {"evaluate.metrics": ["mae", "costs:cost"]}
    before = run(project, dict(wanted))
    source = (project.root / "costs.py").read_text()
    (project.root / "costs.py").write_text(source.replace("3 * errors", "4 * errors"))
    after = run(project, dict(wanted))
    (project.root / "costs.py").write_text(source)
    assert before.id != after.id
    assert before.metrics["mae"] == after.metrics["mae"]
    assert before.metrics["costs:cost"] < after.metrics["costs:cost"]


@pytest.mark.parametrize(
    ("metric", "fact", "hint"),
    [
        ("nothing", "the metric costs:nothing gave nan on all 300 rows", "mend it"),
        ("text", "the metric costs:text gave back str on 300 rows, not a number", "(y_true, y_pred, y_score, weights)"),
        ("broken", "the metric costs:broken raised KeyError on 300 rows: 'missing'", "let it return nan"),
    ],
)
def test_a_metric_that_gives_no_number_is_named_with_its_place(
    project: Project, metric: str, fact: str, hint: str
) -> None:
    error = fault(run(project, {"evaluate.metrics": ["mae", f"costs:{metric}"]}))
    assert error["message"] == fact
    assert hint in error["hint"]
    line = (project.root / "spec.yaml").read_text().splitlines().index(f"  - costs:{metric}") + 1
    assert error["place"].endswith(f"spec.yaml:{line}:5 evaluate.metrics.1")
    if metric == "broken":
        assert "in helped" in error["details"]


def test_the_sklearn_trainer_says_that_it_learns_one_target(project: Project) -> None:
    estimator = {"estimator": "sklearn.linear_model.LogisticRegression"}
    trained = {"uses": "sklearn", "data": "train", "with": estimator}
    error = fault(run(project, {"target": ["late", "full"], "train": trained, "evaluate.metrics": ["f1"]}))
    assert error["message"] == "the trainer sklearn learns one target, and the spec has 2: late, full"
    assert "target" in error["place"]


def test_a_metric_of_another_task_is_refused_with_those_that_there_are(project: Project) -> None:
    error = fault(run(project, {**RANKED, "evaluate.metrics": ["mae"], "train.uses": "tasks:Ranker"}))
    assert error["message"] == "mae is no metric for ranking"
    assert error["hint"] == "for ranking: mean_average_precision, mrr, ndcg, ndcg_at_10"
