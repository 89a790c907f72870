"""The clients that people have: tritonclient over HTTP and gRPC, kserve's and open-inference-openapi's.

Each runs in a process of its own: tritonclient and open-inference-grpc both register the package ``inference`` with
protobuf, and kserve needs other versions of half of everything.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from projects import Project
from serve_models import echo, plus, register
from serving import Server, serving

TYPES = {
    "a": ("FP32", (None, 1)), "b": ("FP64", (None, 2)), "c": ("INT64", (None, 1)), "d": ("BOOL", (None, 1)),
    "e": ("BYTES", (None, 1)),
}  # fmt: skip
ROWS = {
    "a": [[1.5], [-2.5]], "b": [[0.1, 1e300], [3.0, 4.0]], "c": [[2**53 + 1], [-7]], "d": [[True], [False]],
    "e": [["grün"], [""]],
}  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """``echo`` answers five inputs with themselves, ``plus`` adds 1 to x."""
    root = tmp_path_factory.mktemp("clients")
    (root / "pyproject.toml").write_text('[project]\nname = "p"\n')
    register(root, "echo", echo(TYPES))
    register(root, "plus", plus(1))
    with serving(Project(root), "echo", "plus", "--grpc-port", "0") as found:
        yield found


def said(code: str, *arguments: str, python: str = sys.executable) -> Any:
    """What Python that runs ``code`` in a process of its own prints: one JSON document."""
    start = f"import json, sys\nROWS = json.loads({json.dumps(json.dumps(ROWS))})\n"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [python, "-c", start + code, *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


TRITON = """
import importlib
import numpy as np
kind, url, binary = sys.argv[1], sys.argv[2], sys.argv[3] == "binary"
vendor = importlib.import_module(f"tritonclient.{kind}")
client = vendor.InferenceServerClient(url)
http = kind == "http"
KINDS = {"a": "FP32", "b": "FP64", "c": "INT64", "d": "BOOL", "e": "BYTES"}
NUMPY = {"FP32": np.float32, "FP64": np.float64, "INT64": np.int64, "BOOL": bool, "BYTES": object}
def tensor(name, datatype, values):
    array = np.array(values, NUMPY[datatype])
    made = vendor.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array, **({"binary_data": binary} if http else {}))
    return made
def plain(array):
    return [[item.decode() if isinstance(item, bytes) else item for item in row] for row in array.tolist()]
wanted = [vendor.InferRequestedOutput(f"{name}_out", **({"binary_data": binary} if http else {})) for name in KINDS]
inputs = [tensor(name, KINDS[name], ROWS[name]) for name in KINDS]
got = client.infer("echo", inputs, request_id="77", outputs=wanted)
one = client.infer("echo", inputs, model_version="1", outputs=wanted[2:3])
every = client.infer("plus", [tensor("x", "FP32", [[4.0]])], parameters={"note": "kept to itself"})
answer = got.get_response()
errors = []
for name, given in (("echo", inputs[:2]), ("nix", inputs), ("plus", [tensor("x", "FP32", [[1.0, 2.0]])])):
    try:
        client.infer(name, given)
    except vendor.InferenceServerException as error:
        errors.append(error.message())
metadata = client.get_model_metadata("echo")
metadata = metadata if http else {"name": metadata.name, "inputs": [
    {"name": one.name, "datatype": one.datatype, "shape": list(one.shape)} for one in metadata.inputs]}
found = {
    "rows": {name: plain(got.as_numpy(f"{name}_out")) for name in KINDS},
    "id": answer["id"] if http else answer.id,
    "version": answer["model_version"] if http else answer.model_version,
    "one": [item["name"] for item in one.get_response()["outputs"]] if http
        else [item.name for item in one.get_response().outputs],
    "every": every.as_numpy("value").tolist(),
    "errors": errors,
    "live": [client.is_server_live(), client.is_server_ready(), client.is_model_ready("echo"),
             client.is_model_ready("echo", "1"), client.is_model_ready("echo", "9")],
    "name": metadata["name"],
    "inputs": metadata["inputs"],
    "server": client.get_server_metadata()["name"] if http else client.get_server_metadata().name,
}
if http:
    found["index"] = client.get_model_repository_index()
    found["counted"] = client.get_inference_statistics("echo")["model_stats"][0]["inference_stats"]["success"]["count"]
print(json.dumps(found))
"""


@pytest.mark.parametrize(("kind", "form"), [("http", "json"), ("http", "binary"), ("grpc", "binary")])
def test_tritonclient_gets_what_it_asks_for(server: Server, kind: str, form: str) -> None:
    found = said(TRITON, kind, f"{server.host}:{server.port}" if kind == "http" else server.grpc, form)
    assert found["rows"] == ROWS
    assert (found["id"], found["version"], found["one"], found["every"]) == ("77", "1", ["c_out"], [[5.0]])
    assert found["live"] == [True, True, True, True, False]
    assert (found["server"], found["name"]) == ("engine", "echo")
    assert {item["name"]: item["datatype"] for item in found["inputs"]} == {
        name: kind for name, (kind, _) in TYPES.items()
    }
    assert [str(error).split(";")[0] for error in found["errors"]] == [
        'tensor "c": expected INT64 [-1, 1], received none',
        'no model "nix" here',
        'tensor "x": expected FP32 [-1, 1], received FP32 [1, 2]',
    ]
    if kind == "http":
        assert [item["name"] for item in found["index"]] == ["echo", "plus"]
        assert found["counted"] >= 2


OPENAPI = """
import httpx
from open_inference.openapi.client import InferenceRequest, OpenInferenceClient
client = OpenInferenceClient(base_url=sys.argv[1], httpx_client=httpx.Client())
client.check_server_liveness()
client.check_server_readiness()
client.check_model_readiness("plus")
document = httpx.get(sys.argv[1] + "/openapi.json").json()
example = document["paths"]["/v2/models/plus/infer"]["post"]["requestBody"]["content"]["application/json"]["example"]
metadata = client.read_model_metadata("plus")
got = client.model_infer("plus", request=InferenceRequest(id="5", inputs=[
    {"name": "x", "shape": [2, 1], "datatype": "FP32", "data": [1.0, 2.0]}]))
again = client.model_version_infer("plus", "1", request=InferenceRequest.parse_obj(example))
print(json.dumps({
    "name": client.read_server_metadata().name, "inputs": [item.name for item in metadata.inputs], "id": got.id,
    "values": list(got.outputs[0].data.__root__ if hasattr(got.outputs[0].data, "__root__") else got.outputs[0].data),
    "again": again.model_version,
}))
"""


def test_open_inference_openapi_gets_what_it_asks_for(server: Server) -> None:
    found = said(OPENAPI, f"http://{server.host}:{server.port}")
    assert found == {"name": "engine", "inputs": ["x"], "id": "5", "values": [2.0, 3.0], "again": "1"}


# What InferenceRESTClient of kserve 0.21 was seen to send for a request of two rows, with binary_data off and on.
KSERVE_JSON = b'{"id":"5","model_name":"plus","inputs":[{"name":"x","shape":[2,1],"datatype":"FP32","data":[1.0,2.0]}]}'
KSERVE_BINARY = (
    b'{"id":"5","model_name":"plus","inputs":[{"name":"x","shape":[2,1],"datatype":"FP32",'
    b'"parameters":{"binary_data_size":8}}]}'
)


@pytest.mark.parametrize("binary", [False, True])
def test_what_kserves_client_sends_is_answered(server: Server, binary: bool) -> None:
    body, headers = KSERVE_JSON, {"Content_Type": "application/json"}
    if binary:
        length = str(len(KSERVE_BINARY))
        headers = {"Content_Type": "application/octet-stream", "Inference_Header_Content_Length": length}
        body = KSERVE_BINARY + bytes.fromhex("0000803f00000040")
    got = server.ask("POST", "/v2/models/plus/infer", body, **headers)
    assert (got.status, got.json["id"], got.json["outputs"][0]["data"]) == (200, "5", [2.0, 3.0])


KSERVE = """
import asyncio
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
async def main(base):
    client = InferenceRESTClient(RESTConfig(protocol="v2", timeout=20))
    found = {"ready": [await client.is_server_live(base), await client.is_server_ready(base),
                       await client.is_model_ready(base, "echo")]}
    for binary in (False, True):
        kinds = {"a": ("FP32", np.float32), "b": ("FP64", np.float64), "c": ("INT64", np.int64), "d": ("BOOL", bool),
                 "e": ("BYTES", object)}
        inputs = []
        for name, (kind, dtype) in kinds.items():
            array = np.array(ROWS[name], dtype)
            made = InferInput(name, list(array.shape), kind)
            made.set_data_from_numpy(array, binary_data=binary)
            inputs.append(made)
        got = await client.infer(base, InferRequest("echo", inputs, request_id="5"), model_name="echo")
        found[str(binary)] = {one.name: [[v.decode() if isinstance(v, bytes) else v for v in row]
                              for row in one.as_numpy().tolist()] for one in got.outputs}
        found["id"] = got.id
    print(json.dumps(found))
asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_kserves_client_gets_what_it_asks_for(server: Server, tmp_path: Path) -> None:
    """In an environment of its own, which takes a minute or two to install."""
    uv = shutil.which("uv") or os.environ.get("UV")
    python = str(tmp_path / "venv" / "bin" / "python")
    if uv is not None:
        commands = [[uv, "venv", "-q", "-p", "3.11", str(tmp_path / "venv")]]
        commands += [[uv, "pip", "install", "-q", "--python", python, "kserve>=0.21,<1"]]
    else:
        commands = [[sys.executable, "-m", "venv", str(tmp_path / "venv")]]
        commands += [[python, "-m", "pip", "install", "-q", "kserve>=0.21,<1"]]
    for command in commands:
        subprocess.run(command, check=True, timeout=600)
    found = said(KSERVE, f"http://{server.host}:{server.port}", python=python)
    assert found["ready"] == [True, True, True]
    assert found["id"] == "5"
    for form in ("False", "True"):
        assert {name.removesuffix("_out"): rows for name, rows in found[form].items()} == ROWS
