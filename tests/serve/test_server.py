"""A server as clients see it: the protocol, what it refuses, and how it ends."""

from __future__ import annotations

import json
import re
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.predictions.log import read
from engine.wiring import open_home
from projects import Project, engine
from serving import INFER, Server, request, serving, two_versions, until


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return two_versions(tmp_path_factory.mktemp("serve") / "project")


@pytest.fixture(scope="module")
def server(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    own = Project(shutil.copytree(project.root, tmp_path_factory.mktemp("served") / "own"))
    with serving(own, "numbers", "--max-body", "1") as found:
        yield found


def value(got: Any) -> float:
    return float(got.json["outputs"][0]["data"][0])


# -- predictions -----------------------------------------------------------------------------------------------------


def test_an_answer_says_what_the_model_says_and_which_model_said_it(server: Server) -> None:
    got = server.infer((1.0, 2.0), (0.0, 1.0), id="mine")
    version = open_home(server.project.root).registry.versions("numbers")[1]
    assert got.status == 200
    assert (got.json["id"], got.json["model_name"], got.json["model_version"]) == ("mine", "numbers", "1")
    assert got.json["outputs"][0]["data"] == pytest.approx([1.0, 0.0], abs=0.05)
    assert got.headers["engine-model"] == "numbers:1"
    assert got.headers["engine-run"] == version.runs[0]
    assert len(got.headers["engine-prediction"]) == 36


def test_columns_may_come_packed(server: Server) -> None:
    body = {"inputs": [{"name": "numeric", "shape": [1, 2], "datatype": "FP32", "data": [1.0, 2.0]}]}
    assert server.ask("POST", INFER, body).json["outputs"] == server.infer((1.0, 2.0)).json["outputs"]


def test_binary_tensors_go_in_and_out(server: Server) -> None:
    inputs = [
        {"name": name, "shape": [1, 1], "datatype": "FP32", "parameters": {"binary_data_size": 4}} for name in "xz"
    ]
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    data = head + np.array([1, 2], np.float32).tobytes()
    got = server.ask("POST", INFER, data, Inference_Header_Content_Length=str(len(head)))
    size = int(got.headers["inference-header-content-length"])
    assert got.headers["content-type"] == "application/octet-stream"
    assert np.frombuffer(got.body[size:], "<f4")[0] == pytest.approx(value(server.infer((1.0, 2.0))))


def test_only_the_outputs_that_are_wanted_are_sent_and_an_unknown_one_is_named(server: Server) -> None:
    got = server.infer((1.0, 2.0), outputs=[{"name": "valu"}])
    assert got.status == 400
    assert got.json == {"error": 'the model has no output "valu"; it has value'}
    assert len(server.infer((1.0, 2.0), outputs=[{"name": "value"}]).json["outputs"]) == 1


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", None])
def test_the_content_type_does_not_matter(server: Server, kind: str | None) -> None:
    headers = {} if kind is None else {"Content_Type": kind}
    assert server.ask("POST", INFER, request((1.0, 2.0)), **headers).status == 200


def test_a_body_may_be_compressed(server: Server) -> None:
    import gzip

    data = gzip.compress(json.dumps(request((1.0, 2.0))).encode())
    assert server.ask("POST", INFER, data, Content_Encoding="gzip").status == 200
    assert server.ask("POST", INFER, data[:20], Content_Encoding="gzip").status == 400
    assert server.ask("POST", INFER, gzip.compress(bytes(3_000_000)), Content_Encoding="gzip").status == 413


def test_a_version_is_asked_for_by_its_number_or_alias(server: Server) -> None:
    assert server.infer((1.0, 2.0), path="/v2/models/numbers/versions/1/infer").headers["engine-model"] == "numbers:1"
    assert server.infer((1.0, 2.0), path="/v2/models/numbers/versions/production/infer").status == 200
    got = server.infer((1.0, 2.0), path="/v2/models/numbers/versions/7/infer")
    assert (got.status, got.json["error"][:31]) == (404, 'no version "7" of numbers here;')


# -- what is wrong -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "says"),
    [
        ("POST", INFER, b"", 400, "the body is not JSON"),
        ("POST", INFER, request((5000.0, 1.0)), 400, 'tensor "x": expected a number between -1000 and 1000'),
        ("POST", INFER, request((0.0, 1.5)), 400, 'tensor "z": expected a whole number, received 1.5'),
        ("POST", INFER, request((0.0, 1.0), (0.0, 1.5)), 400, 'row 1, tensor "z": expected a whole number'),
        (
            "POST",
            "/v2/models/number/infer",
            request((0.0, 1.0)),
            404,
            'no model "number" here; did you mean "numbers"?',
        ),
        ("GET", INFER, None, 405, "/v2/models/numbers/infer takes POST"),
        ("GET", "/nowhere", None, 404, "nothing is at /nowhere"),
        ("POST", "/v2/health/live", b"", 405, "/v2/health/live takes GET"),
        ("GET", "/v2/models/other", None, 404, 'no model "other" here'),
        ("POST", "/v2/repository/models/numbers/unload", b"", 401, "this needs a key"),
    ],
)
def test_a_refusal_has_the_form_of_v2_and_says_what_is_wrong(
    server: Server, method: str, path: str, body: Any, status: int, says: str
) -> None:
    got = server.ask(method, path, body)
    assert got.status == status
    assert list(got.json) == ["error"]
    assert says in got.json["error"]
    assert "Traceback" not in got.json["error"]
    assert str(server.project.root) not in got.json["error"]


def test_a_bad_row_never_spoils_its_neighbours(server: Server) -> None:
    good, bad = json.dumps(request((1.0, 2.0))), json.dumps(request((5000.0, 2.0)))
    sent = b"".join(
        f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(one)}\r\n\r\n{one}".encode()
        for one in (good, bad, good, bad, good)
    )
    found = server.raw(sent + b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert re.findall(rb"HTTP/1.1 (\d+)", found) == [b"200", b"400", b"200", b"400", b"200", b"200"]


# -- health, metadata, statistics ---------------------------------------------------------------------------------------


def test_health_metadata_and_index(server: Server) -> None:
    assert server.ask("GET", "/v2/health/live").json == {"live": True}
    assert server.ask("GET", "/v2/health/ready").json == {"ready": True}
    assert server.ask("GET", "/v2/models/numbers/ready").json == {"name": "numbers", "ready": True}
    assert server.ask("GET", "/v2/models/numbers/versions/9/ready").status == 404
    metadata = server.ask("GET", "/v2/models/numbers").json
    assert metadata["inputs"] == [{"name": name, "datatype": "FP32", "shape": [-1, 1]} for name in "xz"]
    assert metadata["versions"] == ["1"]
    assert server.ask("POST", "/v2/repository/index").json == [
        {"name": "numbers", "version": "1", "state": "READY", "reason": ""}
    ]


def test_the_example_in_the_api_document_is_answered(server: Server) -> None:
    document = server.ask("GET", "/openapi.json").json
    content = document["paths"][INFER]["post"]["requestBody"]["content"]["application/json"]
    assert server.ask("POST", INFER, content["example"]).status == 200


def test_statistics_and_metrics_count_what_was_answered_and_refused(server: Server) -> None:
    def counted() -> tuple[int, int]:
        (row,) = server.ask("GET", "/v2/models/numbers/stats").json["model_stats"]
        return row["inference_stats"]["success"]["count"], row["inference_count"]

    server.infer((0.0, 0.0))
    requests, rows = counted()
    server.infer((1.0, 2.0), (1.0, 2.0), (1.0, 2.0))
    assert counted() == (requests + 1, rows + 3)
    server.infer((5000.0, 2.0))
    text = server.ask("GET", "/metrics").body.decode()
    assert 'engine_refused_total{kind="range",model="numbers",status="400"}' in text
    found = re.findall(r'engine_requests_total\{.*model="numbers",version="1"\} (\d+)', text)
    assert sum(map(int, found)) == requests + 1


def test_a_server_imports_nothing_that_it_has_no_use_for(server: Server) -> None:
    """After a prediction that was logged."""
    assert server.infer((1.0, 2.0)).status == 200
    until(lambda: len(server.log()) > 0)
    maps = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert "/onnxruntime/" in maps
    assert "/pyarrow/" in maps
    for name in ("pandas", "sklearn", "scipy", "ray", "pydantic_core"):
        assert f"/{name}/" not in maps, name


# -- clients that mean no good ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n", b"421"),
        (b"GET / HTTP/1.1\r\n" + b"".join(b"a%d: b\r\n" % n for n in range(200)) + b"\r\n", b"431"),
        (b"GET / HTTP/1.1\r\nx: " + b"a" * 200_000, b"431"),
        (b"POST /v2 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n", b"413"),
        (b"POST /v2 HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", b"400"),
        (
            b"POST /v2 HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
            + b"10000\r\n" + bytes(0x10000) + b"\r\n" + (b"100000\r\n" + bytes(0x100000) + b"\r\n") * 2,
            b"413",
        ),
    ],
    ids=["nonsense", "another host", "many headers", "a long header", "a large body", "a negative length", "chunks"],
)  # fmt: skip
def test_what_is_no_request_is_answered_and_the_connection_closed(server: Server, sent: bytes, status: bytes) -> None:
    try:
        found = server.raw(sent)
    except ConnectionResetError:  # it was closed while we still sent
        return
    assert found.startswith(b"HTTP/1.1 " + status)


def test_random_bytes_never_end_the_server(server: Server) -> None:
    random = np.random.default_rng(1)
    head = b"POST /v2/models/numbers/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n{}{}{}"
    for number in range(300):
        data = bytearray(head if number % 2 else random.bytes(random.integers(1, 300)))
        for place in random.integers(0, len(data), 3):
            data[place] = random.integers(0, 256)
        with socket.create_connection((server.host, server.port), timeout=10) as connection:
            connection.sendall(bytes(data))
    assert server.infer((1.0, 2.0)).status == 200


def test_a_thousand_connections_that_say_nothing_hinder_nobody(server: Server) -> None:
    idle = [socket.create_connection((server.host, server.port)) for _ in range(1000)]
    try:
        assert server.infer((1.0, 2.0)).status == 200
    finally:
        for one in idle:
            one.close()


# -- following, ending, logging ------------------------------------------------------------------------------------------


def test_an_alias_that_moves_is_followed_and_no_answer_is_lost_or_of_a_wrong_version(
    project: Project, tmp_path: Path
) -> None:
    own = Project(shutil.copytree(project.root, tmp_path / "own"))
    registry = open_home(own.root).registry
    seen: list[tuple[int, str, float]] = []
    with serving(own) as server:
        one, two = value(server.infer((3.0, 1.0))), 0.0
        done = threading.Event()

        def ask() -> None:
            while not done.is_set():
                got = server.infer((3.0, 1.0))
                seen.append((got.status, got.headers["engine-model"], value(got)))

        clients = [threading.Thread(target=ask) for _ in range(4)]
        for client in clients:
            client.start()
        time.sleep(0.3)
        registry.set_alias("numbers", "production", 2)
        moved = time.monotonic()
        while server.infer((3.0, 1.0)).headers["engine-model"] != "numbers:2":
            assert time.monotonic() < moved + 3
        time.sleep(0.3)
        two = value(server.infer((3.0, 1.0)))
        done.set()
        for client in clients:
            client.join()
    assert one != two
    assert {status for status, _, _ in seen} == {200}
    assert {(model, round(found, 4)) for _, model, found in seen} == {
        ("numbers:1", round(one, 4)), ("numbers:2", round(two, 4)),
    }  # fmt: skip


def test_a_version_whose_bytes_were_altered_never_answers_and_the_old_one_stays(
    project: Project, tmp_path: Path
) -> None:
    own = Project(shutil.copytree(project.root, tmp_path / "own"))
    home = open_home(own.root)
    version = home.registry.versions("numbers")[0]
    path = home.store.path(version.digest)
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with serving(own) as server:
        home.registry.set_alias("numbers", "production", 2)
        time.sleep(1)
        assert server.infer((1.0, 2.0)).headers["engine-model"] == "numbers:1"
        states = {item["state"]: item["reason"] for item in server.ask("POST", "/v2/repository/index").json}
    assert "is not what was recorded" in states["UNAVAILABLE"]
    refused = engine(own.root, "serve", "numbers:2", "--port", "0")
    assert refused.code == 1
    assert "is not what was recorded" in refused.err
    assert "Traceback" not in refused.err


def test_what_was_answered_is_in_the_log_with_its_inputs_outputs_and_origin(project: Project, tmp_path: Path) -> None:
    own = Project(shutil.copytree(project.root, tmp_path / "own"))
    with serving(own) as server:
        got = server.infer((1.0, 2.0), (3.0, 4.0))
        assert server.end() == 0
    import pyarrow as pa

    table = pa.concat_tables(read(own.home / "predictions" / "numbers"))
    rows = table.to_pylist()
    assert [row["row"] for row in rows] == [0, 1]
    assert {row["prediction"] for row in rows} == {got.headers["engine-prediction"]}
    assert [(row["input.x"], row["input.z"]) for row in rows] == [(1.0, 2.0), (3.0, 4.0)]
    assert [row["output.value"] for row in rows] == pytest.approx(got.json["outputs"][0]["data"])
    assert {(row["model"], row["version"], row["run"], row["alias"]) for row in rows} == {
        ("numbers", 1, got.headers["engine-run"], "production")
    }


def test_a_server_that_ends_gives_the_answers_that_it_owes(project: Project, tmp_path: Path) -> None:
    own = Project(shutil.copytree(project.root, tmp_path / "own"))
    with serving(own) as server, socket.create_connection((server.host, server.port)) as connection:
        data = json.dumps(request((1.0, 2.0))).encode()
        connection.sendall(f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n".encode())
        connection.sendall(data)
        time.sleep(0.2)
        assert server.end() == 0
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")


# -- who may come in ----------------------------------------------------------------------------------------------------


def test_beyond_this_machine_a_key_is_needed(project: Project, tmp_path: Path) -> None:
    own = Project(shutil.copytree(project.root, tmp_path / "own"))
    refused = engine(own.root, "serve", "numbers", "--host", "0.0.0.0", "--port", "0")
    assert refused.code == 2
    assert "a key is needed" in refused.err
    key = engine(own.root, "serve", "--add-key", "ci", "--scope", "infer", "--json").json["key"]
    with serving(own, "numbers", "--host", "0.0.0.0") as server:
        local = Server(server.process, "127.0.0.1", server.port, own)
        assert local.infer((1.0, 2.0)).status == 401
        asked = request((1.0, 2.0))
        assert local.ask("POST", INFER, asked, Authorization=f"Bearer {key}").status == 200
        assert local.ask("POST", INFER, asked, Authorization="Bearer other").status == 401
        unload = "/v2/repository/models/numbers/unload"
        assert local.ask("POST", unload, b"", Authorization=f"Bearer {key}").status == 403


def test_a_model_is_unloaded_and_loaded_with_a_key_of_the_scope_admin(project: Project, tmp_path: Path) -> None:
    own = Project(shutil.copytree(project.root, tmp_path / "own"))
    key = engine(own.root, "serve", "--add-key", "boss", "--scope", "admin", "--json").json["key"]
    with serving(own) as server:
        repository = "/v2/repository/models/numbers"
        assert server.ask("POST", f"{repository}/unload", b"", X_Api_Key=key).status == 200
        assert server.infer((1.0, 2.0)).status == 404
        assert server.ask("POST", f"{repository}/load", b"", X_Api_Key=key).status == 200
        assert server.infer((1.0, 2.0)).status == 200
        assert server.ask("POST", "/v2/repository/models/nix/load", b"", X_Api_Key=key).status == 404


def test_more_requests_than_the_rate_allows_are_turned_away(project: Project, tmp_path: Path) -> None:
    own = Project(shutil.copytree(project.root, tmp_path / "own"))
    with serving(own, "numbers", "--rate", "5") as server:
        statuses = [server.infer((1.0, 2.0)).status for _ in range(12)]
    assert statuses[:5] == [200] * 5
    assert 429 in statuses[5:]


def test_workers_share_one_address_one_page_of_metrics_and_one_log(project: Project, tmp_path: Path) -> None:
    own = Project(shutil.copytree(project.root, tmp_path / "own"))
    with serving(own, "numbers", "--workers", "2") as server:
        for _ in range(40):
            assert server.infer((1.0, 2.0)).status == 200
        text = server.ask("GET", "/metrics").body.decode()
        server.end()
    assert 'engine_requests_total{alias="production",model="numbers",version="1"} 40.0' in text
    assert sum(table.num_rows for table in read(own.home / "predictions" / "numbers")) == 40


def test_a_prediction_is_traced_to_the_run_and_the_data_that_made_it_and_to_its_labels(
    project: Project, tmp_path: Path
) -> None:
    own = Project(shutil.copytree(project.root, tmp_path / "own"))
    key = engine(own.root, "serve", "--add-key", "labels", "--scope", "feedback", "--json").json["key"]
    with serving(own) as server:
        got = server.infer((1.0, 2.0))
        prediction, run = got.headers["engine-prediction"], got.headers["engine-run"]
        label = {"prediction": prediction, "label": 1.25}
        assert server.ask("POST", "/v2/models/numbers/feedback", label, X_Api_Key=key).status == 200
        until(lambda: len(server.log()) == 1)
        for _ in range(2):  # while the log is open, and when it is closed
            found = engine(own.root, "trace", prediction, "--json").json
            node = found["nodes"][found["subject"]]
            (row,), (said,) = node["rows"], node["labels"]
            assert (row["input.x"], row["alias"], said["label"]) == (1.0, "production", "1.25")
            text = json.dumps(found)
            assert run in text
            assert "lakefs://numbers/main/train.parquet" in text
            if server.process.poll() is None:
                server.end()
    lines = engine(own.root, "trace", prediction).out
    assert f"prediction {prediction}" in lines
    assert "numbers:1" in lines
    unknown = engine(own.root, "trace", "01890000-0000-7000-8000-000000000000")
    assert (unknown.code, "no prediction" in unknown.err) == (2, True)
