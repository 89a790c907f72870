"""Who may ask for what, TLS, pages of other origins, workers, and how a server ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.wiring import open_home
from projects import Project, engine
from serve_models import plus, register, spinning
from serving import Server, serving, until

LOAD, UNLOAD = (f"/v2/repository/models/plus/{what}" for what in ("load", "unload"))
FEEDBACK = "/v2/models/plus/feedback"
INFER = "/v2/models/plus/infer"
BODY = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1.0]}]}


def project_in(root: Path, **serve: Any) -> Project:
    (root / "pyproject.toml").write_text('[project]\nname = "p"\n')
    register(root, "plus", plus(1), serve=serve)
    return Project(root)


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, dict[str, str]]:
    """A project with a key for each scope."""
    project = project_in(tmp_path_factory.mktemp("keyed"))
    keys = {
        scope: engine(project.root, "serve", "--add-key", f"for-{scope}", "--scope", scope, "--json").json["key"]
        for scope in ("infer", "feedback", "admin")
    }
    return project, keys


@pytest.fixture(scope="module")
def beyond(keyed: tuple[Project, dict[str, str]]) -> Iterator[Server]:
    with serving(keyed[0], "plus", "--host", "0.0.0.0", "--grpc-port", "0") as server:
        yield replace(server, host="127.0.0.1", grpc=server.grpc.replace("0.0.0.0", "127.0.0.1"))


# -- keys ------------------------------------------------------------------------------------------------------------

ASKED = {
    "infer": [
        ("POST", INFER), ("GET", "/v2/models/plus"), ("GET", "/v2/models/plus/stats"), ("GET", "/metrics"),
        ("GET", "/openapi.json"), ("POST", "/v2/repository/index"),
    ],
    "feedback": [("POST", FEEDBACK)],
    "admin": [("POST", LOAD), ("POST", UNLOAD), ("POST", LOAD)],
}  # fmt: skip


@pytest.mark.parametrize("scope", ASKED)
def test_beyond_this_machine_each_page_opens_to_keys_of_its_scope_alone(
    beyond: Server, keyed: tuple[Project, dict[str, str]], scope: str
) -> None:
    for method, path in ASKED[scope]:
        assert beyond.ask(method, path, BODY if path == INFER else b"").status == 401
        for other, key in keyed[1].items():
            body = {"prediction": "01890000-0000-7000-8000-000000000000", "label": 1} if path == FEEDBACK else b""
            got = beyond.ask(method, path, BODY if path == INFER else body, X_Api_Key=key)
            assert (got.status == 403) == (other != scope), (path, other, got.status)
            assert got.status in (200, 403)


def test_health_needs_no_key(beyond: Server) -> None:
    for path in ("/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/plus/ready"):
        assert beyond.ask("GET", path).status == 200


def test_a_key_opens_grpc_as_it_opens_http(beyond: Server, keyed: tuple[Project, dict[str, str]]) -> None:
    code = """
import grpc, sys
from open_inference.grpc import protocol as v2, service
stub = service.GRPCInferenceServiceStub(grpc.insecure_channel(sys.argv[1]))
request = v2.ModelInferRequest(model_name="plus", inputs=[v2.ModelInferRequest.InferInputTensor(
    name="x", datatype="FP32", shape=[1, 1], contents=v2.InferTensorContents(fp32_contents=[1.0]))])
for key in (None, "engine_wrong", *sys.argv[2:]):
    try:
        stub.ModelInfer(request, metadata=[("authorization", f"Bearer {key}")] if key else [])
        print("OK")
    except grpc.RpcError as error:
        print(error.code().name)
print(stub.ServerReady(v2.ServerReadyRequest()).ready)
"""
    keys = [keyed[1]["admin"], keyed[1]["infer"]]
    assert run_code(code, beyond.grpc, *keys) == [
        "UNAUTHENTICATED",
        "UNAUTHENTICATED",
        "PERMISSION_DENIED",
        "OK",
        "True",
    ]


def run_code(code: str, *arguments: str) -> list[str]:
    """Python in a process of its own: its lines."""
    import sys

    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_with_insecure_it_listens_beyond_this_machine_and_everything_is_open(tmp_path: Path) -> None:
    with serving(project_in(tmp_path), "plus", "--host", "0.0.0.0", "--insecure") as server:
        local = replace(server, host="127.0.0.1")
        assert local.ask("POST", INFER, BODY).status == 200
        assert local.ask("POST", UNLOAD, b"").status == 200
        assert local.ask("GET", "/v2", Host="some.name").status == 200


# -- limits ------------------------------------------------------------------------------------------------------------


def test_a_body_is_as_large_as_it_may_be_and_no_larger(tmp_path: Path) -> None:
    with serving(project_in(tmp_path), "plus", "--max-body", "0.01") as server:
        padded = json.dumps(BODY).encode()
        assert server.ask("POST", INFER, padded + b" " * (10_000 - len(padded))).status == 200
        got = server.ask("POST", INFER, padded + b" " * (10_001 - len(padded)))
        assert (got.status, got.json["error"]) == (413, "the body: expected at most 10000 bytes, received 10001")


def test_one_client_cannot_keep_more_bodies_in_memory_than_four_of_the_largest(tmp_path: Path) -> None:
    with serving(project_in(tmp_path), "plus", "--max-body", "0.1") as server:
        head = f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n".encode()
        held = [socket.create_connection((server.host, server.port)) for _ in range(5)]
        for one in held:
            one.sendall(head + b" " * 99_000)
        held[-1].settimeout(10)
        answers = []
        for one in held:
            one.settimeout(0.5)
            try:
                answers.append(one.recv(1000)[:12])
            except TimeoutError:
                answers.append(b"")
        assert sorted(answers) == [b"", b"", b"", b"", b"HTTP/1.1 503"]
        for one in held:
            one.close()
        until(lambda: server.ask("POST", INFER, BODY).status == 200)


def test_pages_of_other_origins_may_ask_only_where_the_operator_said_so(tmp_path: Path) -> None:
    project = project_in(tmp_path)
    with serving(project, "plus") as server:
        assert server.ask("OPTIONS", INFER, Origin="https://a.example").status == 405
        assert "access-control-allow-origin" not in server.ask("POST", INFER, BODY, Origin="https://a.example").headers
    with serving(project, "plus", "--cors", "https://a.example") as server:
        got = server.ask("OPTIONS", INFER, Origin="https://a.example")
        assert got.status == 204
        assert "POST" in got.headers["access-control-allow-methods"]
        for answer in (got, server.ask("POST", INFER, BODY), server.ask("GET", "/v2"), server.ask("POST", INFER, b"")):
            assert answer.headers["access-control-allow-origin"] == "https://a.example"
    refused = engine(project.root, "serve", "plus", "--port", "0", "--cors", "*")
    assert (refused.code, '"*" is no origin' in refused.err) == (2, True)


def test_head_has_no_body_and_the_connection_goes_on(tmp_path: Path) -> None:
    with serving(project_in(tmp_path), "plus") as server:
        sent = b"HEAD /v2 HTTP/1.1\r\nHost: localhost\r\n\r\nGET /v2/health/live HTTP/1.0\r\nHost: localhost\r\n\r\n"
        found = server.raw(sent)
    assert found.count(b"HTTP/1.1 200 OK") == 2
    assert found.count(b'"name":"engine"') == 0
    assert found.endswith(b'{"live":true}')


def test_a_device_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    refused = engine(project_in(tmp_path).root, "serve", "plus", "--port", "0", "--device", "cuda")
    assert refused.code != 0
    assert "has no device cuda here" in refused.err
    assert "Traceback" not in refused.err


def test_a_port_that_is_taken_is_said_so_also_by_a_server_that_shares_its_own(tmp_path: Path) -> None:
    project = project_in(tmp_path)
    with serving(project, "plus", "--workers", "2", "--grpc-port", "0") as server:
        for taken in (["--port", str(server.port), "--workers", "2"], ["--grpc-port", server.grpc.split(":")[1]]):
            refused = engine(project.root, "serve", "plus", "--port", "0", *taken)
            assert (refused.code, "Address already in use" in refused.err) == (3, True), refused.err


# -- TLS -----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    pair = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
         "subjectAltName=DNS:localhost,IP:127.0.0.1", "-out", str(pair[0]), "-keyout", str(pair[1])],
        check=True, capture_output=True,
    )  # fmt: skip
    return pair


def test_with_a_certificate_http_and_grpc_are_encrypted(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    chain, key = certificate
    tls = ("--tls-cert", str(chain), "--tls-key", str(key))
    with serving(project_in(tmp_path), "plus", *tls, "--grpc-port", "0") as plain:
        server = replace(plain, context=ssl.create_default_context(cafile=str(chain)))
        assert server.ask("POST", INFER, BODY).json["outputs"][0]["data"] == [2.0]
        with socket.create_connection((plain.host, plain.port), timeout=10) as connection:
            connection.sendall(b"GET /v2 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"HTTP" not in connection.recv(1000)
        code = """
import grpc, sys
from open_inference.grpc import protocol as v2, service
credentials = grpc.ssl_channel_credentials(open(sys.argv[2], "rb").read())
for channel in (grpc.secure_channel(sys.argv[1], credentials), grpc.insecure_channel(sys.argv[1])):
    try:
        print(service.GRPCInferenceServiceStub(channel).ServerLive(v2.ServerLiveRequest(), timeout=5).live)
    except grpc.RpcError as error:
        print(error.code().name)
"""
        assert run_code(code, plain.grpc.replace("127.0.0.1", "localhost"), str(chain)) == ["True", "UNAVAILABLE"]


def test_a_certificate_without_its_key_is_refused(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    root, chain = project_in(tmp_path).root, str(certificate[0])
    for given, says in (
        (["--tls-cert", chain], "belong together"),
        (["--tls-cert", chain, "--tls-key", chain], "no certificate with its key"),
        (["--tls-cert", chain, "--tls-key", "nowhere.pem"], "nowhere.pem"),
    ):
        refused = engine(root, "serve", "plus", "--port", "0", *given)
        assert (refused.code, says in refused.err, "Traceback" in refused.err) == (2, True, False)


# -- workers and the end -------------------------------------------------------------------------------------------------


def test_what_one_worker_is_told_to_load_or_unload_all_of_them_do(tmp_path: Path) -> None:
    project = project_in(tmp_path)
    register(project.root, "more", plus(2))
    key = engine(project.root, "serve", "--add-key", "boss", "--scope", "admin", "--json").json["key"]
    with serving(project, "plus", "--workers", "3") as server:

        def statuses(model: str) -> set[int]:
            return {server.ask_x(model, 1.0).status for _ in range(24)}

        assert statuses("more") == {404}
        assert server.ask("POST", "/v2/repository/models/more/load", b"", X_Api_Key=key).status == 200
        until(lambda: statuses("more") == {200})
        assert server.ask("POST", UNLOAD, b"", X_Api_Key=key).status == 200
        until(lambda: statuses("plus") == {404})
        assert statuses("more") == {200}


def test_a_worker_that_dies_is_replaced_and_nothing_that_was_counted_or_logged_is_lost(tmp_path: Path) -> None:
    with serving(project_in(tmp_path), "plus", "--workers", "2") as server:
        for _ in range(40):
            assert server.ask_x("plus", 1.0).status == 200
        time.sleep(5.5)  # one that dies at once is not started again
        until(lambda: len(server.log("plus")) == 40)
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGKILL)
        until(
            lambda: (
                len(set(Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()))
                == 2
            )
        )
        until(lambda: all(answered(server) for _ in range(10)))
        assert server.metric("engine_requests_total") >= 50
        until(lambda: len(server.log("plus")) == server.metric("engine_requests_total"))


def answered(server: Server) -> bool:
    try:
        return server.ask_x("plus", 1.0).status == 200
    except OSError:
        return False


def test_a_server_that_ends_still_answers_what_has_begun_to_come_and_closes_what_is_silent(tmp_path: Path) -> None:
    with serving(project_in(tmp_path), "plus", "--grpc-port", "0") as server:
        silent, begun = (socket.create_connection((server.host, server.port)) for _ in range(2))
        data = json.dumps(BODY).encode()
        begun.sendall(f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n".encode())
        time.sleep(0.2)
        server.process.send_signal(signal.SIGTERM)
        silent.settimeout(5)
        assert silent.recv(10) == b""
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((server.host, server.port), timeout=1).close()
        begun.sendall(data)
        begun.settimeout(5)
        got = begun.recv(65536)
        assert got.startswith(b"HTTP/1.1 200")
        assert b"Connection: close" in got
        assert server.process.wait(10) == 0
        assert len(server.log("plus")) == 1


def test_a_server_that_ends_is_not_ready_and_answers_a_slow_request(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "p"\n')
    register(tmp_path, "spin", spinning(), serve={"deadline": 5.0})
    with serving(Project(tmp_path), "spin") as server:
        got: list[Any] = []
        client = threading.Thread(target=lambda: got.append(server.ask_x("spin", 600_000.0)))
        client.start()
        time.sleep(0.2)
        assert server.end() == 0
        client.join()
        assert got[0].status == 200
    assert open_home(tmp_path).registry.models() == ["spin"]


def test_the_access_log_has_a_line_of_json_for_each_request_and_nothing_of_what_was_in_it(tmp_path: Path) -> None:
    with serving(project_in(tmp_path), "plus", "--access-log") as server:
        secret = {**BODY, "id": "secret-id"}
        server.ask("POST", INFER, secret, X_Api_Key="secret-key")
        server.ask("GET", "/nowhere?token=secret-token")
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(10)
        assert server.process.stderr is not None
        text = server.process.stderr.read()
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    assert [(one["method"], one["path"], one["status"]) for one in lines] == [
        ("POST", INFER, 200), ("GET", "/nowhere", 404),
    ]  # fmt: skip
    assert "secret" not in text
