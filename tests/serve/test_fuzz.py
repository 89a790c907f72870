"""Whatever comes, the server answers as V2 has it or closes: no crash, no traceback, and no memory that is not let go.

A few hundred tries of each kind in `make test`, ten thousand in `make test-all`.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
import schemathesis
from hypothesis import given
from hypothesis import strategies as st
from schemathesis.checks import CHECKS

from engine.serve.model import DTYPES, InferenceRequest, Rejected
from engine.serve.v2 import read_request
from projects import Project
from serve_models import echo, register
from serving import Server, serving

FEW, MANY = 300, 10_000
TYPES = {
    "a": ("FP32", (None, 1)), "b": ("FP64", (None, 2)), "c": ("INT64", (None, 1)), "d": ("BOOL", (None, 1)),
    "e": ("BYTES", (None, 1)),
}  # fmt: skip
GROWTH = 24 << 20  # bytes of memory that a server may gain over ten thousand requests: caches that fill up
PLAIN: dict[str, Any] = {"deadline": None, "database": None, "suppress_health_check": list(hypothesis.HealthCheck)}


def tries(count: int) -> Any:
    return hypothesis.settings(max_examples=count, derandomize=True, **PLAIN)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("fuzz")
    (root / "pyproject.toml").write_text('[project]\nname = "p"\n')
    schema = {"columns": {"a": {"dtype": "float64", "in_range": {"min_value": -5, "max_value": 5}}}}
    register(root, "echo", echo(TYPES), schema=schema, categories={"e": ["x", "y"]})
    with serving(Project(root), "echo", "--max-body", "1", "--insecure") as found:
        yield found
        found.process.poll()
        assert found.process.returncode is None
        found.process.terminate()
        found.process.wait(20)
        assert found.process.stderr is not None
        assert "Traceback" not in found.process.stderr.read()


def memory(server: Server) -> int:
    """What the server has in memory, in bytes."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return 1024 * int(re.findall(r"VmRSS:\s+(\d+)", status)[0])


@pytest.fixture
def steady(server: Server) -> Iterator[None]:
    """The server is alive afterwards and has grown by no more than its caches."""
    before = memory(server)
    yield
    assert server.ask("GET", "/v2/health/ready").status == 200
    assert memory(server) - before < GROWTH


# -- the parser of requests ----------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
datatypes = st.sampled_from([*DTYPES, "FP8", "", "bytes"])
shapes = st.lists(st.integers(-1, 4) | st.sampled_from([0, 2**31, 2**63, 2**70]), max_size=3) | json_values
tensors = st.fixed_dictionaries(
    {"name": st.sampled_from("abcdex") | json_values, "datatype": datatypes | json_values, "shape": shapes},
    optional={
        "data": st.lists(
            st.integers(-5, 300) | st.floats() | st.booleans() | st.text(max_size=3) | json_values, max_size=6
        )
        | json_values,
        "parameters": st.fixed_dictionaries({"binary_data_size": st.integers(-3, 40) | json_values}) | json_values,
    },
)
requests = st.fixed_dictionaries(
    {"inputs": st.lists(tensors, max_size=5) | json_values},
    optional={
        "id": st.text(max_size=300) | json_values,
        "parameters": st.dictionaries(st.sampled_from(["timeout", "binary_data_output", "x"]), json_values, max_size=3)
        | json_values,
        "outputs": st.lists(st.fixed_dictionaries({"name": st.sampled_from(["a_out", "z"]) | json_values}), max_size=3)
        | json_values,
    },
)


@st.composite
def bodies(draw: st.DrawFn) -> tuple[bytes, int | None]:
    """A body that is nearly right, or not at all, and where its JSON document ends."""
    nearly = st.builds(lambda found: json.dumps(found).encode(), requests)
    document = bytearray(draw(nearly | st.binary(max_size=80)))
    for place in draw(st.lists(st.integers(0, max(len(document) - 1, 0)), max_size=2)):
        document[place : place + 1] = draw(st.binary(max_size=3))
    body = bytes(document) + draw(st.binary(max_size=64))
    header = draw(st.none() | st.just(len(document)) | st.integers(-2, len(body) + 2))
    return body, header


def parses_or_refuses(found: tuple[bytes, int | None]) -> None:
    body, header = found
    try:
        request = read_request(body, header)
    except Rejected as refused:
        assert refused.status == 400
        assert str(refused)
        return
    assert isinstance(request, InferenceRequest)
    assert all(isinstance(array, np.ndarray) for array in request.tensors.values())


@tries(FEW)
@given(bodies())
def test_any_body_is_a_request_or_refused(found: tuple[bytes, int | None]) -> None:
    parses_or_refuses(found)


@pytest.mark.slow
@tries(MANY)
@given(bodies())
def test_any_of_ten_thousand_bodies_is_a_request_or_refused(found: tuple[bytes, int | None]) -> None:
    parses_or_refuses(found)


@tries(FEW)
@given(st.sampled_from([name for name in DTYPES if name != "BYTES"]), st.integers(0, 9), st.binary(max_size=80))
def test_binary_tensors_have_exactly_the_bytes_that_their_shape_says(kind: str, count: int, data: bytes) -> None:
    tensor = {"name": "t", "datatype": kind, "shape": [count], "parameters": {"binary_data_size": len(data)}}
    head = json.dumps({"inputs": [tensor]}).encode()
    size = count * np.dtype(DTYPES[kind]).itemsize
    try:
        array = read_request(head + data, len(head)).tensors["t"]
    except Rejected:
        assert size != len(data) or (kind == "BOOL" and max(data) > 1)
    else:
        assert array.tobytes() == data
        assert array.nbytes == size


@tries(FEW)
@given(st.lists(st.text(max_size=12), max_size=6), st.integers(-3, 3), st.integers(-1, 1))
def test_binary_text_is_what_was_sent_and_a_wrong_length_is_refused(texts: list[str], cut: int, more: int) -> None:
    data = b"".join(len(item.encode()).to_bytes(4, "little") + item.encode() for item in texts)
    data = data[:cut] if cut < 0 else data + bytes(cut)
    tensor = {
        "name": "t",
        "datatype": "BYTES",
        "shape": [len(texts) + more],
        "parameters": {"binary_data_size": len(data)},
    }
    head = json.dumps({"inputs": [tensor]}).encode()
    try:
        found = read_request(head + data, len(head)).tensors["t"].tolist()
    except Rejected:
        assert cut or more or not texts
    else:
        assert found[: len(texts)] == texts


# -- a server that runs --------------------------------------------------------------------------------------------------


def answered_as_v2(server: Server, found: tuple[bytes, int | None]) -> None:
    body, header = found
    headers = {} if header is None else {"Inference_Header_Content_Length": str(header)}
    got = server.ask("POST", "/v2/models/echo/infer", body, **headers)
    assert got.status == 200 or 400 <= got.status < 500, got
    if got.status != 200:
        assert list(got.json) == ["error"]


@pytest.mark.usefixtures("steady")
def test_a_server_answers_any_body_as_v2_has_it(server: Server) -> None:
    tries(FEW)(given(bodies())(lambda found: answered_as_v2(server, found)))()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("steady")
def test_a_server_answers_ten_thousand_bodies_as_v2_has_it(server: Server) -> None:
    tries(MANY)(given(bodies())(lambda found: answered_as_v2(server, found)))()


GOOD = b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"
lines = st.sampled_from(
    [b"Host: localhost", b"Content-Length: 5", b"Transfer-Encoding: chunked", b"Connection: close", b"Expect: 100-continue",
     b"Content-Length: -1", b"Upgrade: h2c", b"Content-Encoding: gzip", b"Inference-Header-Content-Length: 9", b"x: y"]
) | st.binary(max_size=30)  # fmt: skip
starts = st.sampled_from(
    [b"POST /v2/models/echo/infer HTTP/1.1", b"GET /v2 HTTP/1.1", b"PRI * HTTP/2.0", b"GET /%00 HTTP/1.1"]
)


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Bytes that a client might send on a connection."""
    if draw(st.booleans()):
        data = bytearray(GOOD * draw(st.integers(1, 3)))
        for place in draw(st.lists(st.integers(0, len(data) - 1), min_size=1, max_size=4)):
            data[place : place + 1] = draw(st.binary(max_size=3))
        return bytes(data)
    parts = [
        draw(starts | st.binary(max_size=40)),
        *draw(st.lists(lines, max_size=5)),
        b"",
        draw(st.binary(max_size=60)),
    ]
    return b"\r\n".join(parts)


def stands(server: Server, data: bytes) -> None:
    """Whatever comes back begins like HTTP, and is no fault of the server's."""
    with socket.create_connection((server.host, server.port), timeout=10) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        found = b""
        try:
            while block := connection.recv(65536):
                found += block
        except ConnectionResetError:
            pass
    assert found == b"" or found.startswith(b"HTTP/1.1 ")
    assert not re.findall(rb"HTTP/1.1 5(?!03)\d\d", found)


@pytest.mark.usefixtures("steady")
def test_a_server_stands_any_bytes(server: Server) -> None:
    tries(FEW)(given(streams())(lambda data: stands(server, data)))()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("steady")
def test_a_server_stands_ten_thousand_streams_of_bytes(server: Server) -> None:
    tries(MANY)(given(streams())(lambda data: stands(server, data)))()


# -- what the API document allows, and what it does not --------------------------------------------------------------------


def each_operation_as_documented(server: Server, count: int) -> None:
    """Requests to every operation that the document allows, and requests that it does not."""
    document = schemathesis.openapi.from_url(f"http://{server.host}:{server.port}/openapi.json")
    operations = [found.ok() for found in document.get_all_operations()]
    assert {operation.path for operation in operations} >= {"/v2", "/v2/models/echo/infer", "/v2/models/echo/feedback"}
    for operation in operations:
        for mode in schemathesis.GenerationMode if operation.body else [schemathesis.GenerationMode.POSITIVE]:
            tries(count)(given(operation.as_strategy(generation_mode=mode))(as_documented))()


def as_documented(case: Any) -> None:
    got = case.call_and_validate(checks=CHECKS.get_by_names(list(CHECKED)))
    if got.status_code >= 400 and got.content:
        assert list(got.json()) == ["error"]


CHECKED = ("not_a_server_error", "status_code_conformance", "response_schema_conformance")


@pytest.mark.usefixtures("steady")
def test_every_operation_answers_as_the_api_document_says(server: Server) -> None:
    each_operation_as_documented(server, 20)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("steady")
def test_every_operation_answers_ten_thousand_requests_as_the_api_document_says(server: Server) -> None:
    each_operation_as_documented(server, 2500)


# -- clients that mean no good ---------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("steady")
def test_a_body_of_a_gigabyte_is_cut_off_at_the_limit(server: Server) -> None:
    head = b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"100000\r\n" + bytes(0x100000) + b"\r\n"
    sent, answer = 0, b""
    with socket.create_connection((server.host, server.port), timeout=10) as connection:
        connection.sendall(head)
        try:
            while sent < 1 << 30:
                connection.sendall(chunk)
                sent += len(chunk)
            answer = connection.recv(1000)
        except (ConnectionResetError, BrokenPipeError):
            pass
    assert sent < 64 << 20
    assert answer in (b"", answer if answer.startswith(b"HTTP/1.1 413") else b"")


@pytest.mark.slow
def test_who_sends_a_head_or_a_body_too_slowly_is_turned_away_and_others_are_served(server: Server) -> None:
    """A head has ten seconds, a body thirty."""
    slow = [socket.create_connection((server.host, server.port), timeout=60) for _ in range(200)]
    for one in slow[:100]:
        one.sendall(b"GET /v2 HTTP/1.1\r\nHost: loc")
    for one in slow[100:]:
        one.sendall(b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
    assert server.ask("GET", "/v2/health/ready").status == 200
    assert {one.recv(1000)[:12] for one in slow} == {b"HTTP/1.1 408"}
    for one in slow:
        one.close()
