"""The server beside MLServer 1.7, KServe 0.21 and a FastAPI server written by hand, under load from wrk.

    .venv/bin/python benchmarks/serve.py [--rounds 5] [--seconds 3] [--only load|cold|promotion|hour]

The model is a forest of 100 trees on 30 features. Every server answers from ONNX Runtime with one thread: ours with
the model that Engine exported, checks of every request, metrics and the log of predictions on; the others from a graph
of the same forest that takes one matrix, which is what suits them best. All are up at once and are asked in turn; each
slice of load is checked to have had answers of 200 only. wrk runs on the same machine, whose cores it shares with them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import signal
import socket
import statistics
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from peers import alternate, compile_ours, environment, quiet_environment, scratch

FEATURES, TREES, ROWS = 30, 100, 20_000
PEERS: Mapping[str, Sequence[str]] = {
    "mlserver": ("mlserver==1.7.*", "onnxruntime==1.*"),
    "kserve": ("kserve==0.21.*", "onnxruntime==1.*"),
    "fastapi": ("fastapi", "uvicorn[standard]", "orjson", "onnxruntime==1.*", "numpy"),
}
WANTED: Mapping[str, Mapping[str, float]] = {
    "1 row, 64 connections, JSON": {"mlserver": 10, "kserve": 10, "fastapi": 3, "engine, batching off": 1.5},
    "1 row, 1 connection, JSON": {"mlserver": 5, "engine, batching off": 0.9},
    "64 rows, 8 connections, binary": {"engine, JSON": 1.5},
}

MAKE = """
import io, json, sys
from pathlib import Path
import numpy as np, pyarrow as pa, pyarrow.parquet as pq
from engine.wiring import open_home
features, trees, rows = map(int, sys.argv[1:4])
random = np.random.default_rng(7)
x = random.random((rows, features)).round(4)
y = (x[:, 0] + x[:, 1] * x[:, 2] + 0.2 * random.normal(size=rows) > 0.8).astype(int)
names = [f"f{index}" for index in range(features)]
columns = {name: x[:, index] for index, name in enumerate(names)}
lake = open_home(Path()).lake
lake.create_repository("rows")
for part, chosen in (("train", slice(0, rows * 4 // 5)), ("test", slice(rows * 4 // 5, rows))):
    table = pa.table({**{name: column[chosen] for name, column in columns.items()}, "y": y[chosen]})
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    buffer.seek(0)
    lake.put("rows", "main", f"{part}.parquet", buffer)
lake.commit("rows", "main", "rows")
inside = {"dtype": "float64", "in_range": {"min_value": -10, "max_value": 10}}
schema = {"schema_type": "dataframe", "columns": {**{name: inside for name in names}, "y": {"dtype": "int64"}}}
Path("schema.json").write_text(json.dumps(schema))
params = {"n_estimators": trees, "max_depth": 8, "random_state": 7, "n_jobs": 1}
spec = {
    "name": "forest", "seed": 7,
    "data": {part: {"uri": f"lakefs://rows/main/{part}.parquet", "schema": "schema.json"}
             for part in ("train", "test")},
    "features": {"numeric": names}, "target": "y",
    "train": {"uses": "sklearn", "data": "train",
              "with": {"estimator": "sklearn.ensemble.RandomForestClassifier", "params": params}},
    "evaluate": {"data": "test", "metrics": ["roc_auc"], "gates": [{"metric": "roc_auc", "min": 0.6}]},
    "serve": {"max_batch_rows": 256, "log": {"sample": 1.0}},
    "monitor": {"reference": "train", "false_alarms": "1 per 1000 windows",
                "detectors": [{"name": "inputs", "uses": "ks", "window": 5000}]},
}
Path("spec.yaml").write_text(json.dumps(spec))
Path("pyproject.toml").write_text('[project]\\nname = "bench"\\n')
from sklearn.ensemble import RandomForestClassifier
from skl2onnx import to_onnx
model = RandomForestClassifier(**params).fit(x[: rows * 4 // 5].astype("float32"), y[: rows * 4 // 5])
graph = to_onnx(model, x[:1].astype("float32"), options={"zipmap": False})
Path("forest.onnx").write_bytes(graph.SerializeToString())
"""
SESSION = """
import onnxruntime as ort
options = ort.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = ort.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])
source = session.get_inputs()[0].name
"""
MLSERVER = """
import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse

class Forest(MLModel):
    async def load(self):
        scope = {"MODEL": self.settings.parameters.uri}
        exec(open("session.py").read(), scope)
        self.session, self.source = scope["session"], scope["source"]
        return True

    async def predict(self, payload):
        rows = NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32, copy=False)
        label, scores = self.session.run(None, {self.source: rows})
        outputs = [NumpyCodec.encode_output("label", label), NumpyCodec.encode_output("probabilities", scores)]
        return InferenceResponse(model_name=self.name, outputs=outputs)
"""
KSERVE = """
import sys
import numpy as np
import kserve
from kserve import InferOutput, InferResponse
scope = {"MODEL": sys.argv[1]}
exec(open("session.py").read(), scope)
session, source = scope["session"], scope["source"]

class Forest(kserve.Model):
    def load(self):
        self.ready = True

    async def predict(self, payload, headers=None):
        rows = payload.inputs[0].as_numpy().astype(np.float32, copy=False)
        label, scores = session.run(None, {source: rows})
        outputs = []
        for name, found, kind in (("label", label, "INT64"), ("probabilities", scores, "FP32")):
            output = InferOutput(name=name, shape=list(found.shape), datatype=kind)
            output.set_data_from_numpy(found, binary_data=False)
            outputs.append(output)
        return InferResponse(response_id=payload.id or "1", model_name=self.name, infer_outputs=outputs)

model = Forest("forest")
model.load()
kserve.ModelServer(http_port=int(sys.argv[2]), enable_grpc=False, workers=1, access_log_format=None).start([model])
"""
FASTAPI = """
import os, sys
import numpy as np, orjson, uvicorn
from fastapi import FastAPI, Request, Response
scope = {"MODEL": sys.argv[1]}
exec(open("session.py").read(), scope)
session, source = scope["session"], scope["source"]
app = FastAPI()

@app.post("/v2/models/forest/infer")
async def infer(request: Request):
    tensor = orjson.loads(await request.body())["inputs"][0]
    rows = np.array(tensor["data"], dtype=np.float32).reshape(tensor["shape"])
    label, scores = session.run(None, {source: rows})
    outputs = [
        {"name": "label", "datatype": "INT64", "shape": label.shape, "data": label.ravel()},
        {"name": "probabilities", "datatype": "FP32", "shape": scores.shape, "data": scores.ravel()},
    ]
    body = orjson.dumps({"model_name": "forest", "outputs": outputs}, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, media_type="application/json")

@app.get("/v2/health/ready")
async def ready():
    return {}

uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="error", access_log=False)
"""
LUA = """
local file = io.open("{body}", "rb")
wrk.method, wrk.body = "POST", file:read("*a")
wrk.headers["Content-Type"] = "{kind}"
{more}
"""
VARIED = """
local bodies, at = {{}}, 0
wrk.method = "POST"
wrk.headers["Content-Type"] = "{kind}"
function init()
  for body in io.lines("{body}") do bodies[#bodies + 1] = wrk.format(nil, nil, nil, body) end
end
function request()
  at = at % #bodies + 1
  return bodies[at]
end
"""
INFER = "/v2/models/forest/infer"


@dataclass(frozen=True)
class Side:
    """A server that is up, and the seconds from its start to its first answer."""

    process: subprocess.Popen[bytes]
    port: int
    seconds: float

    @property
    def megabytes(self) -> float:
        """The memory of its processes: what is theirs alone (USS)."""
        process = psutil.Process(self.process.pid)
        return sum(one.memory_full_info().uss for one in [process, *process.children(recursive=True)]) / 1e6


@dataclass(frozen=True)
class Load:
    """What wrk saw: requests a second, and milliseconds in the middle and at the 99th percentile."""

    rate: float
    middle: float
    last: float
    count: int
    refused: int = 0


# -- the servers --------------------------------------------------------------------------------------------------


def engine_words(*arguments: object) -> list[str]:
    """A command of ours."""
    return [sys.executable, "-m", "engine.cli.main", *map(str, arguments)]


def make(folder: Path) -> None:
    """The project, two versions of its model, and what the peers serve."""
    said = {"cwd": folder, "check": True, "env": quiet_environment(), "capture_output": True}
    subprocess.run([sys.executable, "-c", MAKE, str(FEATURES), str(TREES), str(ROWS)], **said)  # type: ignore[call-overload]
    for overrides in [], ["train.with.params.random_state=8"]:
        subprocess.run(engine_words("run", "spec.yaml", *overrides, "--inline"), **said)  # type: ignore[call-overload]
    (folder / "session.py").write_text(SESSION)
    (folder / "mlserver_forest.py").write_text(MLSERVER)
    (folder / "kserve_forest.py").write_text(KSERVE)
    (folder / "fastapi_forest.py").write_text(FASTAPI)
    settings = {"name": "forest", "implementation": "mlserver_forest.Forest", "parameters": {"uri": "forest.onnx"}}
    (folder / "model-settings.json").write_text(json.dumps(settings))


def free_port() -> int:
    """A port that nobody has."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def words_of(name: str, folder: Path, port: int) -> list[str]:
    """The command that starts a side."""
    if name == "engine":
        return engine_words("serve", "forest:1", "--port", port)
    if name == "engine, batching off":
        return engine_words("serve", "forest:1", "--port", port)
    python = environment(f"serve-{name}", *PEERS[name])
    if name == "mlserver":
        ports = {"http_port": port, "grpc_port": free_port(), "metrics_port": free_port()}
        quiet = {"host": "127.0.0.1", "parallel_workers": 0, "debug": False, "access_log": False}
        (folder / "settings.json").write_text(json.dumps({**ports, **quiet}))
        return [str(python.with_name("mlserver")), "start", str(folder)]
    return [str(python), f"{name}_forest.py", "forest.onnx", str(port)]


@contextlib.contextmanager
def started(name: str, folder: Path) -> Iterator[Side]:
    """A server, from its first answer on."""
    port = free_port()
    words = words_of(name, folder, port)
    kind, body = request(1, binary=False)
    began = time.perf_counter()
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(words, cwd=folder, env=quiet_environment(), stdout=log, stderr=log)
    try:
        while True:
            try:
                ask(port, kind, body)
                break
            except (urllib.error.URLError, ConnectionError):
                if process.poll() is not None or time.perf_counter() - began > 90:
                    raise SystemExit(f"{name} did not start:\n{(folder / f'{name}.log').read_text()[-3000:]}") from None
                time.sleep(0.01)
        yield Side(process, port, time.perf_counter() - began)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def ask(port: int, kind: Mapping[str, str], body: bytes) -> bytes:
    """One answer, to a request that has all it needs."""
    wanted = urllib.request.Request(f"http://127.0.0.1:{port}{INFER}", data=body, headers=dict(kind))
    with urllib.request.urlopen(wanted, timeout=10) as found:
        return bytes(found.read())


def request(rows: int, *, binary: bool) -> tuple[dict[str, str], bytes]:
    """Headers and body of a request for so many rows."""
    values = [round(((index * 7919) % 10_000) / 10_000, 4) for index in range(rows * FEATURES)]
    tensor: dict[str, object] = {"name": "numeric", "shape": [rows, FEATURES], "datatype": "FP32"}
    if not binary:
        document = {"inputs": [{**tensor, "data": values}]}
        return {"Content-Type": "application/json"}, json.dumps(document).encode()
    raw = struct.pack(f"<{len(values)}f", *values)
    tensor["parameters"] = {"binary_data_size": len(raw)}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    kind = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return kind, head + raw


# -- load ---------------------------------------------------------------------------------------------------------


def load(
    side: Side, folder: Path, rows: int, connections: int, seconds: float, *, binary: bool = False, strict: bool = True
) -> Load:
    """A slice of load from wrk, always of the same request.

    Raises:
        SystemExit: when ``strict``, and any answer was not 200.
    """
    headers, body = request(rows, binary=binary)
    name = folder / f"body-{rows}-{binary}"
    name.write_bytes(body)
    kind = headers.pop("Content-Type")
    more = "\n".join(f'wrk.headers["{key}"] = "{value}"' for key, value in headers.items())
    script = LUA.format(body=name, kind=kind, more=more)
    return loaded(side, folder, script, connections, seconds, strict=strict)


def varied_load(side: Side, folder: Path, connections: int, seconds: float, count: int) -> Load:
    """A slice of load from wrk, of ``count`` different rows like those of the training, in turn.

    Raises:
        SystemExit: when any answer was not 200.
    """
    name = folder / f"bodies-{count}"
    if not name.exists():
        chance = random.Random(count)
        rows = ([round(chance.random(), 4) for _ in range(FEATURES)] for _ in range(count))
        tensors = ({"name": "numeric", "shape": [1, FEATURES], "datatype": "FP32", "data": row} for row in rows)
        name.write_text("".join(json.dumps({"inputs": [tensor]}) + "\n" for tensor in tensors))
    return loaded(side, folder, VARIED.format(body=name, kind="application/json"), connections, seconds, strict=True)


def loaded(side: Side, folder: Path, lua: str, connections: int, seconds: float, *, strict: bool) -> Load:
    """What wrk says after a script."""
    script = folder / "load.lua"
    script.write_text(lua)
    words = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--latency", "-s", str(script)]
    done = subprocess.run([*words, f"http://127.0.0.1:{side.port}{INFER}"], capture_output=True, text=True, check=True)
    refused = sum(map(int, re.findall(r"(?:Non-2xx[^:]*: |timeout )(\d+)", done.stdout)))
    if strict and ("Non-2xx" in done.stdout or "Socket errors" in done.stdout):
        raise SystemExit(f"not every answer was 200:\n{done.stdout}")
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)[1])  # type: ignore[index]
    count = int(re.search(r"(\d+) requests in", done.stdout)[1])  # type: ignore[index]
    return Load(rate, *(milliseconds(done.stdout, share) for share in ("50%", "99%")), count, refused)


def milliseconds(said: str, share: str) -> float:
    """A percentile that wrk printed."""
    value, unit = re.search(rf"{share}\s+([\d.]+)(us|ms|s)", said).groups()  # type: ignore[union-attr]
    return float(value) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[unit]


WORKS = {
    "1 row, 64 connections, JSON": (1, 64, False),
    "1 row, 1 connection, JSON": (1, 1, False),
    "64 rows, 8 connections, JSON": (64, 8, False),
    "64 rows, 8 connections, binary": (64, 8, True),
}


def loads(folder: Path, unbatched: Path, rounds: int, seconds: float) -> None:
    """Every side under every kind of load, in turn."""
    with contextlib.ExitStack() as stack:
        names = ["engine", "engine, batching off", *PEERS]
        sides = {n: stack.enter_context(started(n, unbatched if "off" in n else folder)) for n in names}
        seen: dict[str, dict[str, list[Load]]] = {}
        for work, (rows, connections, binary) in WORKS.items():
            able = [name for name in names if not binary or name == "engine"]
            for name in able:
                load(sides[name], folder, rows, connections, 1, binary=binary)
            for _, name in alternate(able, rounds):
                found = load(sides[name], folder, rows, connections, seconds, binary=binary)
                seen.setdefault(work, {}).setdefault(name, []).append(found)
    text = seen["64 rows, 8 connections, JSON"]["engine"]
    seen["64 rows, 8 connections, binary"]["engine, JSON"] = text
    for work, by_name in seen.items():
        print(f"\n{work}  (medians of {rounds} slices of {seconds:g} s, [lowest .. highest])")
        mine = statistics.median(one.rate for one in by_name["engine"])
        for name, found in by_name.items():
            rates = [one.rate for one in found]
            middle, last = (statistics.median(getattr(one, what) for one in found) for what in ("middle", "last"))
            ratio = "" if name == "engine" else f"   {mine / statistics.median(rates):.2f}x"
            wanted = WANTED.get(work, {}).get(name)
            promised = f"   promised {wanted:g}x" if wanted else ""
            spread = f"[{min(rates):,.0f} .. {max(rates):,.0f}]"
            print(
                f"  {name:<22} {statistics.median(rates):>8,.0f} /s {spread:<20}"
                f" p50 {middle:7.2f} ms  p99 {last:7.2f} ms{ratio}{promised}"
            )


def cold(folder: Path, rounds: int) -> None:
    """From the start of a server to its first answer, and its memory then."""
    names = ["engine", *PEERS]
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for _, name in alternate(names, rounds):
        with started(name, folder) as side:
            seen[name].append((side.seconds, side.megabytes))
    print("\ncold start to the first answer, and memory then (promised: 1.5 s, 150 MB)")
    for name, found in seen.items():
        seconds, memory = (statistics.median(part) for part in zip(*found, strict=True))
        print(f"  {name:<22} {seconds:6.2f} s  {memory:7.1f} MB")


# -- promotion ----------------------------------------------------------------------------------------------------


def promotion(folder: Path, rounds: int, seconds: float) -> None:
    """An alias moves back and forth under full load: what answers cost then, and whose they are.

    Raises:
        SystemExit: when an answer was not 200, or came from a version that the alias did not mean within a second.
    """
    quiet, moved = [], []
    alias(folder, 1)
    port = free_port()
    words = engine_words("serve", "forest@production", "--port", port)
    process = subprocess.Popen(words, cwd=folder, env=quiet_environment(), stdout=subprocess.DEVNULL)
    side = Side(process, port, 0.0)
    try:
        kind, body = request(1, binary=False)
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with contextlib.suppress(urllib.error.URLError, ConnectionError):
                ask(port, kind, body)
                break
            time.sleep(0.05)
        count, moves = 1, [(time.time(), 1)]
        load(side, folder, 1, 64, 1)
        for number in range(rounds):
            quiet.append(load(side, folder, 1, 64, seconds))
            mover = subprocess.Popen([sys.executable, __file__, "--mover", str(folder), str(seconds), str(number)],
                                     stdout=subprocess.PIPE, text=True, env=quiet_environment())  # fmt: skip
            moved.append(load(side, folder, 1, 64, seconds))
            moves += [tuple(move) for move in json.loads(mover.communicate()[0])]
        count += sum(one.count for one in (*quiet, *moved))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    logged, wrong = from_log(folder, moves)
    print(f"\npromotion under full load: {len(moves) - 1} moves, {count:,} answers counted by wrk, all of them 200")
    print(f"  rows in the log: {logged:,}; of a version that the alias did not mean within the last second: {wrong}")
    before, during = (statistics.median(one.last for one in found) for found in (quiet, moved))
    print(f"  p99 {before:.2f} ms without, {during:.2f} ms with promotions: {during / before:.2f}x (promised 2x)")
    if wrong:
        raise SystemExit("an answer came from the wrong version")


def alias(folder: Path, version: int) -> None:
    """Move the alias."""
    from engine.registry.sqlite import SqliteRegistry

    SqliteRegistry(folder / ".engine" / "registry.db").set_alias("forest", "production", version)


def mover(folder: Path, seconds: float, number: int) -> None:
    """Move the alias every 1.5 seconds, and print when."""
    moves = []
    until = time.time() + seconds - 1.2
    version = 1 + number % 2
    while time.time() < until:
        version = 3 - version
        alias(folder, version)
        moves.append((time.time(), version))
        time.sleep(1.5)
    print(json.dumps(moves))


def from_log(folder: Path, moves: Sequence[tuple[float, int]]) -> tuple[int, int]:
    """How many rows the log of predictions has, and how many a version made that was not meant any more."""
    code = """
import json, sys
from pathlib import Path
from engine.predictions.log import read
rows = []
for table in read(Path(".engine/predictions/forest"), ["time", "version", "alias"]):
    columns = [table.column(name) for name in ("time", "version", "alias")]
    rows += zip(columns[0].cast("int64").to_pylist(), columns[1].to_pylist(), columns[2].to_pylist())
since = int(float(sys.argv[1]) * 1e6)
print(json.dumps([row[:2] for row in rows if row[2] == "production" and row[0] >= since]))
"""
    command = [sys.executable, "-c", code, str(moves[0][0])]
    said = {"cwd": folder, "env": quiet_environment(), "capture_output": True, "text": True, "check": True}
    done = subprocess.run(command, **said)  # type: ignore[call-overload]
    rows = json.loads(done.stdout)
    wrong = 0
    for micros, version in rows:
        at = micros / 1e6
        meant = {v for begun, v in moves if at - 1.0 <= begun <= at + 0.1}
        before = [v for begun, v in moves if begun <= at]
        wrong += version not in meant | set(before[-1:]) | ({before[-2]} if len(before) > 1 and meant else set())
    return len(rows), wrong


# -- an hour ------------------------------------------------------------------------------------------------------


def hour(folder: Path, seconds: float) -> None:
    """Mixed load for so long, and the server's memory every minute."""
    with started("engine", folder) as side:
        began, seen, asked, refused = time.monotonic(), [], 0, 0
        while time.monotonic() - began < seconds:
            for rows, connections, binary in WORKS.values():
                found = load(side, folder, rows, connections, 15, binary=binary, strict=False)
                asked, refused = asked + found.count, refused + found.refused
            seen.append(side.megabytes)
            print(f"  {time.monotonic() - began:6.0f} s  {seen[-1]:7.1f} MB", flush=True)
    fifth = len(seen) // 5
    print(f"{asked:,} requests, of which {refused:,} were late or turned away, as other work had the cores")
    first, last = statistics.median(seen[fifth : 2 * fifth]), statistics.median(seen[-fifth:])
    print(f"in the middle of the second fifth {first:.1f} MB, of the last {last:.1f} MB")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--only", choices=["load", "cold", "promotion", "hour"])
    parser.add_argument("--mover", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.mover:
        mover(Path(asked.mover[0]), float(asked.mover[1]), int(asked.mover[2]))
        return
    compile_ours()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with scratch() as folder:
        whole, unbatched = folder / "on", folder / "off"
        whole.mkdir()
        make(whole)
        if asked.only in (None, "load"):
            off(whole, unbatched)
            loads(whole, unbatched, asked.rounds, asked.seconds)
        if asked.only in (None, "cold"):
            cold(whole, asked.rounds)
        if asked.only in (None, "promotion"):
            promotion(whole, asked.rounds, max(asked.seconds, 6.0))
        if asked.only == "hour":
            hour(whole, 3600.0)


def off(whole: Path, unbatched: Path) -> None:
    """The same project, whose model is asked for one request at a time: the operation says so, the run is the same."""
    subprocess.run(["cp", "-r", str(whole), str(unbatched)], check=True)
    subprocess.run(engine_words("run", "spec.yaml", "serve.max_batch_rows=1", "--inline"), cwd=unbatched,
                   env=quiet_environment(), check=True, capture_output=True)  # fmt: skip


if __name__ == "__main__":
    main()
