"""A server in a process of its own, and a client that sends exactly what it is told."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from prometheus_client.parser import text_string_to_metric_families

from engine.api import prepare_spec, run
from engine.predictions.log import read
from engine.wiring import open_home
from projects import Project, make_project

INFER = "/v2/models/numbers/infer"


def two_versions(root: Path, **serve: Any) -> Project:
    """A project with the versions 1, in production, and 2 of ``numbers``; they answer differently."""
    project = make_project(root)
    project.write(serve=serve or {"max_batch_rows": 64})
    for override in ("train.with.ridge=0.000001", "train.with.ridge=100.0"):
        overrides = [f"+{override}", "evaluate.gates=[]"]
        assert run(prepare_spec(project.spec, overrides), inline=True).status == "passed"
    open_home(project.root).registry.set_alias("numbers", "production", 1)
    return project


def until(found: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)


@dataclass(frozen=True)
class Got:
    """An answer of a server."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Server:
    """A server that runs."""

    process: subprocess.Popen[str]
    host: str
    port: int
    project: Project
    grpc: str = ""
    context: ssl.SSLContext | None = None

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Got:
        """Ask on a connection of its own."""
        connection = self.connect()
        data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        try:
            connection.request(method, path, data, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            return Got(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def connect(self) -> http.client.HTTPConnection:
        """A connection."""
        if self.context is not None:
            return http.client.HTTPSConnection(self.host, self.port, timeout=30, context=self.context)
        return http.client.HTTPConnection(self.host, self.port, timeout=30)

    def ask_x(self, model: str, *values: float, version: str = "", **headers: str) -> Got:
        """Ask a model whose only input is x."""
        tensor = {"name": "x", "shape": [len(values), 1], "datatype": "FP32", "data": list(values)}
        path = f"/v2/models/{model}{f'/versions/{version}' if version else ''}/infer"
        return self.ask("POST", path, {"inputs": [tensor]}, **headers)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        text = self.ask("GET", "/metrics").body.decode()
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return sum(one.value for one in samples if one.name == name and labels.items() <= one.labels.items())

    def log(self, model: str = "numbers") -> list[dict[str, Any]]:
        """The rows of the prediction log, whatever has been written of it."""
        return [row for table in read(self.project.home / "predictions" / model) for row in table.to_pylist()]

    def infer(self, *rows: tuple[float, float], path: str = INFER, **more: Any) -> Got:
        """Predict rows of (x, z)."""
        return self.ask("POST", path, request(*rows, **more))

    def raw(self, data: bytes, *, timeout: float = 20) -> bytes:
        """Send bytes and take everything until the server closes."""
        with socket.create_connection((self.host, self.port), timeout=timeout) as connection:
            connection.sendall(data)
            found = b""
            while block := connection.recv(65536):
                found += block
            return found

    def end(self) -> int:
        """Have it end, and wait for that."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


def request(*rows: tuple[float, float], **more: Any) -> dict[str, Any]:
    """A request for rows of (x, z)."""
    return {
        "inputs": [
            {"name": name, "shape": [len(rows), 1], "datatype": "FP32", "data": [row[index] for row in rows]}
            for index, name in enumerate(("x", "z"))
        ],
        **more,
    }


@contextmanager
def serving(project: Project, *arguments: str, **environment: str) -> Iterator[Server]:
    """A server of a project, until the end of the block."""
    command = [sys.executable, "-m", "engine.cli.main", "serve", *(arguments or ("numbers",)), "--port", "0", "--json"]
    process = subprocess.Popen(
        command, cwd=project.root, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        line = process.stdout.readline()
        assert line, process.stderr.read()
        told = json.loads(line)
        assert "endpoint" in told, told
        address = urlsplit(told["endpoint"])
        assert address.hostname is not None
        assert address.port is not None
        yield Server(process, address.hostname, address.port, project, told.get("grpc", ""))
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGCONT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        process.stdout.close()
        process.stderr.close()
