"""V2 over gRPC (``inference.GRPCInferenceService``) in the same event loop: the only importer of grpc.

Tensors come as typed contents or as raw bytes, and go back in the form in which they came.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
from grpc import aio
from open_inference.grpc import protocol as v2
from open_inference.grpc import service

import engine
from engine.serve.boundary import attempt, fault
from engine.serve.model import DTYPES, AnyArray, InferenceAnswer, InferenceRequest, Rejected
from engine.serve.v2 import from_raw, microseconds, to_raw

if TYPE_CHECKING:
    from engine.serve.access import Gate
    from engine.serve.dataplane import DataPlane

STATUS: Mapping[int, grpc.StatusCode] = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
CONTENTS: Mapping[str, str] = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


class Servicer(service.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """The service in front of a data plane."""

    def __init__(self, plane: DataPlane, gate: Gate) -> None:
        self.plane = plane
        self.gate = gate

    async def ServerLive(self, _: Any, __: Any) -> Any:
        """Whether the server runs."""
        return v2.ServerLiveResponse(live=True)

    async def ServerReady(self, _: Any, __: Any) -> Any:
        """Whether every model answers."""
        return v2.ServerReadyResponse(ready=self.plane.is_ready())

    async def ModelReady(self, request: Any, _: Any) -> Any:
        """Whether a model answers."""
        return v2.ModelReadyResponse(ready=self.plane.is_ready(request.name, request.version))

    async def ServerMetadata(self, _: Any, __: Any) -> Any:
        """What this server is."""
        return v2.ServerMetadataResponse(name="engine", version=engine.__version__, extensions=["parameters"])

    async def ModelMetadata(self, request: Any, context: Any) -> Any:
        """A model's metadata."""
        try:
            self._let_in(context)
            found = self.plane.metadata(request.name, request.version)
        except Rejected as error:
            return await refuse(context, error)
        return v2.ModelMetadataResponse(
            name=found["name"],
            versions=found["versions"],
            platform=found["platform"],
            inputs=[v2.ModelMetadataResponse.TensorMetadata(**tensor) for tensor in found["inputs"]],
            outputs=[v2.ModelMetadataResponse.TensorMetadata(**tensor) for tensor in found["outputs"]],
        )

    def _let_in(self, context: Any) -> dict[bytes, bytes]:
        """The metadata of a call that may come in.

        Raises:
            Rejected: when it may not.
        """
        headers = {key.encode(): str(value).encode() for key, value in context.invocation_metadata() or ()}
        self.gate.let_in("infer", headers, address_of(context.peer()))
        return headers

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        """A prediction."""
        future: asyncio.Future[InferenceAnswer | Rejected] = asyncio.get_running_loop().create_future()

        def ask() -> None:
            headers = self._let_in(context)
            wish = read_request(request)
            wish.key = headers.get(b"engine-sticky", b"").decode("latin-1") or wish.id
            self.plane.infer(request.model_name, request.model_version, wish, lambda found: settle(future, found))

        refused = attempt(ask, lambda error: error if isinstance(error, Rejected) else fault(error))
        if refused is not None:
            self.plane.count_refused(request.model_name, refused)
            return await refuse(context, refused)
        answer = await future
        if isinstance(answer, Rejected):
            return await refuse(context, answer)
        model = f"{answer.model}:{answer.version}"
        context.set_trailing_metadata(
            (("engine-prediction", answer.prediction), ("engine-model", model), ("engine-run", answer.run))
        )
        return write_answer(answer, request.id, raw=bool(request.raw_input_contents))


def address_of(peer: str) -> str:
    """``ipv4:127.0.0.1:40000`` -> ``127.0.0.1``: one client has many ports."""
    return peer.partition(":")[2].rpartition(":")[0].strip("[]")


def settle(future: asyncio.Future[Any], found: object) -> None:
    """Give a waiting call its answer, unless its client has left."""
    if not future.done():
        future.set_result(found)


async def refuse(context: Any, why: Rejected) -> None:
    """End a call with a status and what is wrong."""
    await context.abort(STATUS.get(why.status, grpc.StatusCode.INTERNAL), str(why))


def read_request(request: Any) -> InferenceRequest:
    """A request of gRPC as the data plane takes it.

    Raises:
        Rejected: naming the tensor, what was expected and what came.
    """
    raw = list(request.raw_input_contents)
    if raw and len(raw) != len(request.inputs):
        raise Rejected(400, f"raw_input_contents: expected {len(request.inputs)} blocks, received {len(raw)}")
    tensors: dict[str, AnyArray] = {}
    for index, tensor in enumerate(request.inputs):
        if tensor.name in tensors:
            raise Rejected(400, f'tensor "{tensor.name}": it is given twice')
        tensors[tensor.name] = read_tensor(tensor, raw[index] if raw else None)
    if not tensors:
        raise Rejected(400, "inputs: expected tensors, received none")
    timeout = request.parameters["timeout"].int64_param if "timeout" in request.parameters else 0
    return InferenceRequest(
        tensors, id=request.id, outputs=tuple(one.name for one in request.outputs), timeout=microseconds(timeout)
    )


def read_tensor(tensor: Any, raw: bytes | None) -> AnyArray:
    """A tensor of a request.

    Raises:
        Rejected: naming the tensor, what was expected and what came.
    """
    name, datatype, shape = tensor.name, tensor.datatype, list(tensor.shape)
    if datatype not in DTYPES:
        raise Rejected(400, f'tensor "{name}": expected a datatype of {", ".join(DTYPES)}, received "{datatype[:20]}"')
    if any(size < 0 for size in shape):
        raise Rejected(400, f'tensor "{name}": expected a shape of whole numbers, received {shape}')
    count = int(np.prod(shape, dtype=object))
    if raw is not None:
        array, rest = from_raw(name, datatype, count, len(raw), memoryview(raw))
        assert not len(rest)
    else:
        array = from_contents(name, datatype, count, tensor.contents)
    try:
        return array.reshape(shape)
    except (ValueError, OverflowError):
        raise Rejected(400, f'tensor "{name}": no tensor has the shape {shape}') from None


def from_contents(name: str, datatype: str, count: int, contents: Any) -> AnyArray:
    """The elements of a tensor, (count,), from the field that its datatype has.

    Raises:
        Rejected: when there are too many or too few, or one is out of range or no text.
    """
    if datatype not in CONTENTS:
        raise Rejected(400, f'tensor "{name}": {datatype} comes in raw_input_contents only')
    values = getattr(contents, CONTENTS[datatype])
    if len(values) != count:
        raise Rejected(400, f'tensor "{name}": expected {count} elements of {datatype}, received {len(values)}')
    if datatype == "BYTES":
        return texts(name, values)
    try:
        return np.array(values, dtype=DTYPES[datatype])
    except OverflowError:
        raise Rejected(400, f'tensor "{name}": expected {datatype}, received a number out of its range') from None


def texts(name: str, values: Iterable[bytes]) -> AnyArray:
    """Elements that are text.

    Raises:
        Rejected: when one is not UTF-8.
    """
    try:
        found = [value.decode() for value in values]
    except UnicodeDecodeError:
        raise Rejected(400, f'tensor "{name}": an element is not UTF-8') from None
    array = np.empty(len(found), object)
    array[:] = found
    return array


def write_answer(answer: InferenceAnswer, id: str, *, raw: bool) -> Any:
    """An answer of the data plane as gRPC has it."""
    response = v2.ModelInferResponse(model_name=answer.model, model_version=str(answer.version), id=id)
    for name, array in answer.outputs.items():
        datatype = answer.datatypes[name]
        tensor = response.outputs.add(name=name, datatype=datatype, shape=array.shape)
        if raw or datatype not in CONTENTS:
            response.raw_output_contents.append(to_raw(array, datatype))
        else:
            values = array.reshape(-1).tolist()
            getattr(tensor.contents, CONTENTS[datatype]).extend(
                [str(value).encode() for value in values] if datatype == "BYTES" else values
            )
    return response


async def start(
    plane: DataPlane, gate: Gate, address: str, largest: int, certificate: tuple[bytes, bytes] | None = None
) -> tuple[Any, int]:
    """A server that listens at ``address`` (host:port; port 0 takes any that is free), and its port.

    Args:
        certificate: a private key and a certificate chain (PEM), for TLS.

    Raises:
        OSError: when the port is taken.
    """
    options = (("grpc.max_receive_message_length", largest), ("grpc.max_send_message_length", -1))
    server = aio.server(options=(*options, ("grpc.so_reuseport", 1)))
    service.add_GRPCInferenceServiceServicer_to_server(Servicer(plane, gate), server)
    try:
        if certificate is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, grpc.ssl_server_credentials([certificate]))
    except RuntimeError as error:
        raise OSError(f"cannot listen on {address}") from error
    await server.start()
    return server, port
