"""A served lake as raw HTTP sees it: what the tests of ``engine lake serve`` share."""

from __future__ import annotations

import base64
import http.client
import json
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from engine.lake.credentials import Credentials

API = "/api/v1"
# A server that takes no object over some bytes and waits no longer than some seconds for the rest of a body.
TIGHT = """
import sys
from pathlib import Path
from engine.lake.rest.server import application, listen, run
from engine.lake.rest.state import Keys, State
from engine.wiring import embedded_lake
home = Path(sys.argv[1])
keys = Keys(home / "lake" / "keys.json")
key = keys.first()
listening = listen("127.0.0.1", 0)
port = listening.getsockname()[1]
state = State(keys=keys, largest=int(sys.argv[2]), patience=float(sys.argv[3]))
print(port, key.id, key.secret, state.sign("read " + "a" * 64, -1)[0], flush=True)
run(application(embedded_lake(home), state), listening)
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What a server answered; names of headers are in small letters."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True, kw_only=True, slots=True)
class Face:
    """A server, the folder of its project, and how to ask it; ``over`` signed an address that is no longer valid."""

    credentials: Credentials
    folder: Path
    over: str = ""

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        url = urlsplit(self.credentials.endpoint)
        return str(url.hostname), int(url.port or 0)

    @property
    def key(self) -> str:
        """The header that signs a request."""
        both = f"{self.credentials.access_key_id}:{self.credentials.secret_access_key}"
        return f"Basic {base64.b64encode(both.encode()).decode()}"

    def ask(
        self,
        method: str,
        target: str,
        body: object = None,
        *,
        key: str | None = "",
        headers: Any = None,
        **query: object,
    ) -> Answer:
        """Send a request; ``key`` is the header that signs it, ours unless another or ``None`` is given."""
        sent = {"Authorization": self.key if key == "" else key, "Content-Type": "application/json", **(headers or {})}
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        connection = http.client.HTTPConnection(*self.address, timeout=60)
        target += f"?{urlencode(query)}" if query else ""
        connection.request(method, target, data, {name: value for name, value in sent.items() if value is not None})
        response = connection.getresponse()
        found = Answer(status=response.status, headers={k.lower(): v for k, v in response.getheaders()}, body=b"")
        try:
            found = Answer(status=found.status, headers=found.headers, body=response.read())
        finally:
            connection.close()
        return found

    def put(self, repository: str, path: str, data: bytes, **more: Any) -> Answer:
        """Upload an object."""
        kind = {"Content-Type": "application/octet-stream", **more.pop("headers", {})}
        place = f"{API}/repositories/{repository}/branches/main/objects"
        return self.ask("POST", place, data, headers=kind, path=path, **more)

    def get(self, repository: str, path: str, ref: str = "main", **more: Any) -> Answer:
        """Download an object."""
        return self.ask("GET", f"{API}/repositories/{repository}/refs/{ref}/objects", path=path, **more)


@contextmanager
def another(face: Face) -> Iterator[tuple[subprocess.Popen[str], Face, dict[str, str]]]:
    """A second server of the same lake, which the same key opens, and what it said."""
    command = [sys.executable, "-m", "engine.cli.main", "lake", "serve", "--port", "0", "--json"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=face.folder, text=True, **pipes) as process:
        try:
            assert process.stdout is not None
            said = json.loads(process.stdout.readline())
            yield process, replace(face, credentials=replace(face.credentials, endpoint=said["endpoint"])), said
        finally:
            process.kill()


@contextmanager
def tight_face(home: Path, *, largest: int, patience: float) -> Iterator[Face]:
    """A server of the lake in ``home`` that takes objects of ``largest`` bytes and waits ``patience`` seconds."""
    command = [sys.executable, "-c", TIGHT, str(home), str(largest), str(patience)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port, id, secret, over = process.stdout.readline().split()
            endpoint = f"http://127.0.0.1:{port}"
            found = Credentials(endpoint=endpoint, access_key_id=id, secret_access_key=secret)
            yield Face(credentials=found, folder=home.parent, over=over)
        finally:
            process.kill()


def new_repository(face: Face, name: str = "") -> str:
    """A repository of that name, or of one of its own."""
    name = name or f"repo-{secrets.token_hex(6)}"
    body = {"name": name, "storage_namespace": f"local://{name}"}
    assert face.ask("POST", f"{API}/repositories", body).status == 201
    return name
