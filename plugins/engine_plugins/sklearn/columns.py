"""Arrow columns as scikit-learn wants them, encoded so that ONNX says the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
from sklearn.base import BaseEstimator, is_classifier
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.utils import get_tags

from engine.plugins import Feature, PluginFailed, TrainingTask

AnyArray = np.ndarray[Any, np.dtype[Any]]
Encoding = Literal["auto", "ordinal", "onehot"]
Imputation = Literal["none", "mean", "median"]

# Families that split on a threshold: for them the order of codes does no harm, and one column a feature is faster.
TREE_MODULES = ("sklearn.tree", "sklearn.ensemble._forest", "sklearn.ensemble._gb", "sklearn.ensemble._hist")
TREE_LIBRARIES = ("xgboost", "lightgbm")
# scikit-learn's other trees take NaN too, but skl2onnx sends it down the wrong branch.
NAN_MODULES = ("sklearn.ensemble._hist",)


def frame(table: pa.Table, features: Sequence[Feature]) -> pd.DataFrame:
    """The feature columns with the values that the served model will see.

    Numeric: float64 that holds the values rounded to float32, null as NaN. Text: ``str``, null as "". Whole
    categories: int64.

    Raises:
        PluginFailed: for a whole category that is null, which its tensor cannot say.
    """
    return pd.DataFrame({feature.name: values(table.column(feature.name), feature) for feature in features})


def values(column: pa.ChunkedArray, feature: Feature) -> AnyArray:
    """One feature's values, shape (rows,)."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if feature.datatype == "BYTES":
        text: AnyArray = column.cast(pa.string()).fill_null("").to_numpy()
        return text.astype(object)
    if feature.role == "categorical":
        return whole(column, feature.name)
    with np.errstate(over="ignore"):
        rounded = column.cast(pa.float64(), safe=False).to_numpy().astype(np.float32)
    return np.asarray(rounded, dtype=np.float64)


def whole(column: pa.ChunkedArray, name: str) -> AnyArray:
    """A column of whole categories as int64.

    Raises:
        PluginFailed: when there are nulls.
    """
    if column.null_count:
        fact = f'the categorical feature "{name}" is {column.type} and null in {column.null_count:,} rows'
        hint = f"turn it into text in a transform: cast({name} as varchar)"
        raise PluginFailed(fact, hint=hint, key="features.categorical")
    found: AnyArray = column.cast(pa.int64()).to_numpy()
    return found


def target_of(table: pa.Table, task: TrainingTask, estimator: BaseEstimator) -> AnyArray:
    """The target: classes as int64 (booleans as 0 and 1) or ``str``, values as float64.

    Raises:
        PluginFailed: when it is null, of a type that the estimator does not learn, or of one class only.
    """
    column = table.column(task.target)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if column.null_count:
        fact = f'the target "{task.target}" is null in {column.null_count:,} of {len(column):,} rows'
        raise PluginFailed(fact, hint="drop those rows in a transform", key="target")
    if is_classifier(estimator):
        return class_target(column, task.target)
    is_number = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    if not (is_number or pa.types.is_boolean(column.type) or pa.types.is_decimal(column.type)):
        fact = f'the target "{task.target}" is {column.type}, and {type(estimator).__name__} is a regressor'
        raise PluginFailed(fact, hint="name a classifier, or a target of numbers", key="with.estimator")
    found: AnyArray = column.cast(pa.float64()).to_numpy()
    require_finite_target(found, task.target)
    return found


def require_finite_target(found: AnyArray, target: str) -> None:
    """Refuse values that nothing can be learned from.

    Raises:
        PluginFailed: with how many there are.
    """
    count = int(np.sum(~np.isfinite(found)))
    if count:
        fact = f'the target "{target}" is NaN or infinite in {count:,} of {len(found):,} rows'
        raise PluginFailed(fact, hint="drop those rows in a transform", key="target")


def class_target(column: pa.ChunkedArray, target: str) -> AnyArray:
    """A target of classes.

    Raises:
        PluginFailed: when it is of no type that names classes, or of one class only.
    """
    kind = column.type
    found: AnyArray
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind):
        found = column.cast(pa.int64()).to_numpy()
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        found = column.cast(pa.string()).to_numpy().astype(object)
    else:
        hint = "name a regressor, or make classes of it in a transform (a boolean, an integer or text)"
        raise PluginFailed(f'the target "{target}" is {kind}, which names no classes', hint=hint, key="target")
    classes = pd.unique(found)
    if len(classes) < 2:
        hint = "look at the data and at what the transforms leave of it"
        raise PluginFailed(f'the target "{target}" has one class only: {classes[0]!r}', hint=hint, key="target")
    return found


def require_values(data: pd.DataFrame, task: TrainingTask, estimator: BaseEstimator, impute: Imputation) -> None:
    """Refuse missing and infinite numbers that the estimator cannot take.

    Raises:
        PluginFailed: with the columns and their counts.
    """
    numeric = [feature.name for feature in task.features if feature.role == "numeric"]
    allows = takes_nan(estimator)
    missing = {name: int(data[name].isna().sum()) for name in numeric}
    empty = [name for name in numeric if missing[name] == len(data)]
    if empty and impute != "none":
        fact = f'the feature "{empty[0]}" has no value in any row, so it has no {impute}'
        raise PluginFailed(fact, hint="take it out of the features", key="features.numeric")
    if impute == "none" and not allows and any(missing.values()):
        hint = "set `impute: median`, take HistGradientBoosting..., which takes NaN, or fill them in a transform"
        fact = f"{type(estimator).__name__} takes no NaN as ONNX, and there are some in {counted(missing)}"
        raise PluginFailed(fact, hint=hint, key="with.impute")
    infinite = {name: int(np.isinf(data[name]).sum()) for name in numeric}
    if any(infinite.values()) and (not allows or impute != "none"):
        fact = f"infinite as float32, which is what is served: {counted(infinite)}"
        raise PluginFailed(fact, hint="limit or scale them in a transform", key="features.numeric")


def counted(counts: dict[str, int]) -> str:
    """Columns and how many rows each, without the zeros."""
    return ", ".join(f"{name} ({count:,})" for name, count in counts.items() if count)


def encoder(features: Sequence[Feature], encode: Encoding, scale: bool, impute: Imputation) -> ColumnTransformer:
    """Numbers filled in and scaled as asked; categories as codes or a column each, unknown ones as -1 or all 0."""
    numeric = [feature.name for feature in features if feature.role == "numeric"]
    parts: list[tuple[str, Any, list[str]]] = []
    if numeric:
        parts.append(("numeric", numeric_part(scale, impute), numeric))
    for datatype in ("BYTES", "INT64"):
        names = [item.name for item in features if item.role == "categorical" and item.datatype == datatype]
        if names:
            parts.append((f"categorical_{datatype.lower()}", category_part(encode), names))
    return ColumnTransformer(parts, sparse_threshold=0.0, verbose_feature_names_out=False)


def numeric_part(scale: bool, impute: Imputation) -> Pipeline | str:
    """What is done to numbers."""
    steps: list[Any] = []
    if impute != "none":
        steps.append(SimpleImputer(strategy=impute))
    if scale:
        steps.append(StandardScaler())
    return make_pipeline(*steps) if steps else "passthrough"


def category_part(encode: Encoding) -> OrdinalEncoder | OneHotEncoder:
    """What is done to categories."""
    if encode == "ordinal":
        return OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    return OneHotEncoder(handle_unknown="ignore", sparse_output=False)


def takes_nan(estimator: BaseEstimator) -> bool:
    """Whether an estimator learns from NaN, and does the same with it as ONNX."""
    return bool(get_tags(estimator).input_tags.allow_nan) and is_of(estimator, NAN_MODULES)


def is_of(estimator: BaseEstimator, modules: tuple[str, ...]) -> bool:
    """Whether an estimator's class, or one that it inherits from, is of these modules or of a library of trees."""
    names = [kind.__module__ for kind in type(estimator).__mro__]
    return any(name.startswith(modules) or name.split(".")[0] in TREE_LIBRARIES for name in names)


def encoding_for(estimator: BaseEstimator, encode: Encoding) -> Encoding:
    """``auto`` decided: codes for trees and ensembles of trees, one column a category for everything else."""
    if encode != "auto":
        return encode
    return "ordinal" if is_of(estimator, TREE_MODULES) else "onehot"
