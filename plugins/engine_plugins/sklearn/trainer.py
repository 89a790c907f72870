"""Trainer ``sklearn``: a table -> a fitted scikit-learn pipeline that says the same through ONNX."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
from sklearn.base import BaseEstimator, is_classifier
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from engine.errors import suggestion
from engine.plugins import ClassName, ClassParameters, Feature, PluginFailed, TrainingTask
from engine_plugins.sklearn.columns import (
    AnyArray,
    Encoding,
    Imputation,
    encoder,
    encoding_for,
    frame,
    require_values,
    target_of,
)
from engine_plugins.sklearn.convert import OUTPUTS, require_convertible, to_onnx
from engine_plugins.sklearn.estimators import build, explained, prepared, require_probabilities, require_task


@dataclass(frozen=True, kw_only=True, slots=True)
class SklearnModel:
    """A fitted pipeline. ``classes`` are in the order of the score columns; ``None`` for regression."""

    pipeline: Pipeline
    features: tuple[Feature, ...]
    classes: tuple[str | int | bool, ...] | None
    cpus: int

    def scores(self, table: pa.Table) -> AnyArray:
        """float64 of shape (rows, classes) with probabilities, or (rows,) for regression."""
        data = frame(table, self.features)
        with threadpool_limits(self.cpus):
            ask = self.pipeline.predict if self.classes is None else self.pipeline.predict_proba
            found = np.asarray(ask(data), dtype=np.float64)
        return found.reshape(-1) if self.classes is None else found

    def to_onnx(self) -> bytes:
        """The pipeline as an ONNX graph, an input (rows, 1) a feature.

        Raises:
            PluginFailed: when a part of it has no ONNX form.
        """
        return to_onnx(self.pipeline, self.features, is_classifier=self.classes is not None)


@dataclass(frozen=True, kw_only=True, slots=True)
class SklearnTrainer:
    """Fits a scikit-learn estimator on the features as they come.

    ``estimator``: a dotted name in scikit-learn, or ``module:Class`` of the project, a BaseEstimator with an ONNX
    form. ``params``: its parameters. ``encode``: categories as codes (``ordinal``) or as a column each
    (``onehot``); ``auto`` takes codes for trees. ``scale``: numbers to mean 0 and variance 1. ``impute``: what
    missing numbers become. Every unset ``random_state`` takes the spec's seed.
    """

    estimator: ClassName
    params: ClassParameters = field(default_factory=dict)
    encode: Literal["auto", "ordinal", "onehot"] = "auto"
    scale: bool = False
    impute: Literal["none", "mean", "median"] = "none"

    def __post_init__(self) -> None:
        """Raises: PluginFailed, for an option that is not one of its values."""
        require_option("encode", self.encode, get_args(Encoding))
        require_option("impute", self.impute, get_args(Imputation))

    def fit(self, table: pa.Table, task: TrainingTask) -> SklearnModel:
        """Fit on the feature columns and the target of ``table``.

        Raises:
            PluginFailed: for an estimator, a parameter or data that this cannot be done with.
        """
        require_names(task)
        require_one_target(task)
        if table.num_rows == 0:
            hint = "look at the data and at what the transforms leave of it"
            raise PluginFailed("the training data has no rows", hint=hint, key="data")
        estimator = prepared(build(self.estimator, self.params), task)
        require_task(estimator)
        require_convertible(estimator, self.estimator)
        data, target = frame(table, task.features), target_of(table, task, estimator)
        require_values(data, task, estimator, self.impute)
        columns = encoder(task.features, encoding_for(estimator, self.encode), self.scale, self.impute)
        pipeline = Pipeline([("columns", columns), ("model", estimator)])
        with threadpool_limits(task.cpus), warnings.catch_warnings(), explained(estimator, self.params):
            # Some linear models say that n_jobs, which every estimator gets, has no effect on them.
            warnings.filterwarnings("ignore", message=".*n_jobs.*", category=FutureWarning)
            pipeline.fit(data, target)
        require_probabilities(estimator)
        return SklearnModel(pipeline=pipeline, features=task.features, classes=classes_of(estimator), cpus=task.cpus)


def require_option(name: str, value: object, known: tuple[Any, ...]) -> None:
    """Refuse a value that an option does not have.

    Raises:
        PluginFailed: with the nearest one.
    """
    if value not in known:
        raise PluginFailed(f"{value!r} is no value of {name}", hint=suggestion(str(value), known), key=f"with.{name}")


def require_one_target(task: TrainingTask) -> None:
    """Refuse several labels.

    Raises:
        PluginFailed: with what can learn them.
    """
    if task.labels:
        fact = f"the trainer sklearn learns one target, and the spec has {len(task.labels)}: {', '.join(task.labels)}"
        raise PluginFailed(fact, hint="write a trainer of your own, `uses: module:Class`", key="target")


def require_names(task: TrainingTask) -> None:
    """Refuse features with a name that the ONNX graph needs for an output.

    Raises:
        PluginFailed: for the first of them.
    """
    for name in task.names:
        if name in OUTPUTS:
            fact = f'a feature cannot be called "{name}", which is an output of the model'
            raise PluginFailed(fact, hint="rename it in a transform", key="features")


def classes_of(estimator: BaseEstimator) -> tuple[str | int | bool, ...] | None:
    """The classes as plain Python values, in the order of the score columns."""
    return tuple(estimator.classes_.tolist()) if is_classifier(estimator) else None
