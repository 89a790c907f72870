"""A fitted pipeline -> ONNX. The only importer of skl2onnx, which is loaded when it is first needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline

from engine.plugins import Feature, PluginFailed

if TYPE_CHECKING:
    from onnx import GraphProto

# Old enough for every ONNX Runtime that Engine accepts, so that an upgrade of skl2onnx changes no model.
TARGET_OPSET: Mapping[str, int] = {"": 17, "ai.onnx.ml": 3}
CLASSIFIER_OUTPUTS = ("label", "probabilities")
REGRESSOR_OUTPUTS = ("value",)
OUTPUTS = frozenset({*CLASSIFIER_OUTPUTS, *REGRESSOR_OUTPUTS})
INSTEAD = "use e.g. sklearn.ensemble.HistGradientBoosting..., a random forest or a linear model"


def require_convertible(estimator: BaseEstimator, name: str) -> None:
    """Refuse, before the fit, an estimator that skl2onnx has no converter for.

    A subclass is converted as the nearest class that has one; the parity gate says whether that holds.

    Raises:
        PluginFailed: with what to use instead.
    """
    from skl2onnx._supported_operators import sklearn_operator_name_map as converters

    kinds = [kind for kind in type(estimator).__mro__ if kind in converters]
    if not kinds:
        raise PluginFailed(f"{name} has no ONNX conversion, so it cannot be served", hint=INSTEAD, key="with.estimator")
    converters.setdefault(type(estimator), converters[kinds[0]])


def to_onnx(pipeline: Pipeline, features: Sequence[Feature], is_classifier: bool) -> bytes:
    """The pipeline as an ONNX graph.

    Inputs: one (rows, 1) a feature, under its name. Outputs: ``label`` (rows,) and ``probabilities``
    (rows, classes), or ``value`` (rows, 1).

    Raises:
        PluginFailed: when skl2onnx cannot convert a part of it.
    """
    from skl2onnx import convert_sklearn

    estimator = pipeline.steps[-1][1]
    require_convertible(estimator, type(estimator).__name__)
    options = {id(estimator): {"zipmap": False}} if is_classifier else None
    types = [(feature.name, tensor_type(feature)) for feature in features]
    try:
        model = convert_sklearn(pipeline, initial_types=types, options=options, target_opset=dict(TARGET_OPSET))
        outputs = CLASSIFIER_OUTPUTS if is_classifier else REGRESSOR_OUTPUTS
        rename(model.graph, [feature.name for feature in features], outputs)
    except (RuntimeError, NotImplementedError, ValueError, TypeError, NameError, AttributeError, KeyError) as error:
        fact = f"{type(estimator).__name__} with these parameters cannot become ONNX: {sentence(error)}"
        raise PluginFailed(fact, hint=INSTEAD, key="with.estimator") from error
    return bytes(model.SerializeToString())


def tensor_type(feature: Feature) -> Any:
    """The type of a feature's input in skl2onnx's terms, shape (any, 1)."""
    from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType

    kinds = {"BYTES": StringTensorType, "INT64": Int64TensorType}
    return kinds.get(feature.datatype, FloatTensorType)([None, 1])


def rename(graph: GraphProto, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Give the inputs and outputs of a graph their names in place, in their order.

    skl2onnx makes identifiers of the columns' names. A tensor inside that is called so already makes room.

    Raises:
        ValueError: when the graph has another number of inputs or outputs.
    """
    new = {name: f"inner.{name}" for name in [*inputs, *outputs]}
    new.update({value.name: name for value, name in zip(graph.input, inputs, strict=True)})
    new.update({value.name: name for value, name in zip(graph.output, outputs, strict=True)})
    for item in [*graph.input, *graph.output, *graph.initializer]:
        item.name = new.get(item.name, item.name)
    for node in graph.node:
        node.input[:] = [new.get(name, name) for name in node.input]
        node.output[:] = [new.get(name, name) for name in node.output]


def sentence(error: Exception) -> str:
    """The first sentence of what skl2onnx says."""
    text = " ".join(str(error).split())
    return text.partition(". ")[0][:200].rstrip(".") or type(error).__name__
