"""A server in a process of its own, and a client that sends exactly what it is told."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from engine.api import prepare_spec, run
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

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Got:
        """Ask on a connection of its own."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=30)
        data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        try:
            connection.request(method, path, data, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            return Got(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

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
        address = urlsplit(json.loads(line)["endpoint"])
        assert address.hostname is not None
        assert address.port is not None
        yield Server(process, address.hostname, address.port, project)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        process.stdout.close()
        process.stderr.close()
