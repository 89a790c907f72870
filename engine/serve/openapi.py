"""What a server takes, as an OpenAPI document: each model's own tensors, with an example that can be sent as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import engine
from engine.serve.direct import request_of
from engine.serve.feedback import LAST_ROW, MOST_LABELS
from engine.serve.loading import Loaded, example
from engine.serve.model import Tensor

if TYPE_CHECKING:
    from engine.serve.dataplane import DataPlane

KINDS = {"BYTES": {"type": "string"}, "BOOL": {"type": "boolean"}}
ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string"}},
    "additionalProperties": False,
}
SAID = {"content": {"application/json": {"schema": ERROR}}}
REFUSED: dict[str, Any] = {"4XX": {"description": "The request is wrong, or not allowed", **SAID}}


def openapi(plane: DataPlane) -> dict[str, Any]:
    """The document."""
    paths: dict[str, Any] = {
        "/v2": {"get": operation("What this server is")},
        "/v2/health/live": {"get": operation("Whether the server runs")},
        "/v2/health/ready": {"get": operation("Whether every model answers", {"503": "A model does not answer yet"})},
        "/v2/repository/index": {"post": operation("The models that are here")},
        "/metrics": {"get": operation("Prometheus metrics")},
    }
    for name, route in sorted(plane.routes.items()):
        main = route.aliases.get(route.main)
        if main is None:
            continue
        place = f"/v2/models/{name}"
        paths[place] = {"get": operation(f"The metadata of {name}")}
        paths[f"{place}/ready"] = {"get": operation(f"Whether {name} answers")}
        paths[f"{place}/stats"] = {"get": operation(f"What {name} was asked")}
        paths[f"{place}/infer"] = {"post": inference(main.loaded)}
        paths[f"{place}/feedback"] = {"post": feedback(main.loaded)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "engine", "version": engine.__version__, "description": "Open Inference Protocol V2"},
        "paths": paths,
    }


def operation(summary: str, others: dict[str, str] | None = None) -> dict[str, Any]:
    """An operation that takes nothing."""
    answers: dict[str, Any] = {"200": {"description": summary}, **REFUSED}
    answers |= {status: {"description": what} for status, what in (others or {}).items()}
    return {"summary": summary, "responses": answers}


def inference(loaded: Loaded) -> dict[str, Any]:
    """The operation that predicts."""
    return {
        "summary": f"Predict with {loaded.name}",
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": schema(loaded), "example": request(loaded)}},
        },
        "responses": {
            "200": {"description": "A prediction for each row"},
            "400": {"description": "The request names a tensor that is wrong", **SAID},
            **REFUSED,
            "503": {"description": "Too many requests wait, or the server ends", **SAID},
            "504": {"description": "The deadline is over", **SAID},
        },
    }


def feedback(loaded: Loaded) -> dict[str, Any]:
    """The operation that takes labels."""
    classes = loaded.package["signature"].get("classes")
    label = {
        "type": "object",
        "required": ["prediction", "label"],
        "properties": {
            "prediction": {"type": "string", "format": "uuid", "description": "as the header engine-prediction had it"},
            "row": {"type": "integer", "minimum": 0, "maximum": LAST_ROW, "default": 0},
            "label": {"type": "number"} if classes is None else {"enum": list(classes)},
        },
    }
    body = {
        "type": "object",
        "required": ["labels"],
        "properties": {"labels": {"type": "array", "minItems": 1, "maxItems": MOST_LABELS, "items": label}},
    }
    return {
        "summary": f"Say what was true of earlier predictions of {loaded.name}; needs a key with the scope feedback",
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {
            "200": {"description": "The labels are kept"},
            "400": {"description": "A label is wrong", **SAID},
            "401": {"description": "There is no key that is known", **SAID},
            "403": {"description": "The key does not open this", **SAID},
            **REFUSED,
        },
    }


def schema(loaded: Loaded) -> dict[str, Any]:
    """The JSON Schema of a request."""
    tensors = [tensor_schema(tensor) for tensor in loaded.session.inputs]
    tensors += [packed_schema(name, columns) for name, columns in loaded.inputs.packs.items()]
    return {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string", "maxLength": 256},
            "inputs": {"type": "array", "minItems": 1, "items": {"oneOf": tensors}},
            "outputs": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {"name": {"enum": [tensor.name for tensor in loaded.session.outputs]}},
                },
            },
            "parameters": {"type": "object"},
        },
    }


def tensor_schema(tensor: Tensor) -> dict[str, Any]:
    """The JSON Schema of one input."""
    sizes = [{"type": "integer", "minimum": 1} if size == -1 else {"const": size} for size in tensor.shape]
    return described(tensor.name, tensor.datatype, sizes)


def packed_schema(name: str, columns: tuple[Tensor, ...]) -> dict[str, Any]:
    """The JSON Schema of columns that come in one tensor."""
    found = described(name, columns[0].datatype, [{"type": "integer", "minimum": 1}, {"const": len(columns)}])
    return {**found, "description": f"in this order: {', '.join(column.name for column in columns)}"}


def described(name: str, datatype: str, sizes: list[dict[str, Any]]) -> dict[str, Any]:
    """The JSON Schema of a tensor."""
    return {
        "type": "object",
        "required": ["name", "datatype", "shape", "data"],
        "properties": {
            "name": {"const": name},
            "datatype": {"const": datatype},
            "shape": {"type": "array", "prefixItems": sizes, "minItems": len(sizes), "maxItems": len(sizes)},
            "data": {"type": "array", "items": KINDS.get(datatype, {"type": "number"})},
        },
    }


def request(loaded: Loaded) -> dict[str, Any]:
    """A request of one row that is answered."""
    return request_of(loaded.session, example(loaded.session.inputs, loaded.checks, 1))
