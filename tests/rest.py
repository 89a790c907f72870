"""A served lake as raw HTTP sees it: what the tests of ``engine lake serve`` share."""

from __future__ import annotations

import base64
import http.client
import json
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

LIMITED = """
import sys
from pathlib import Path
from engine.lake.rest.server import application, listen, run
from engine.lake.rest.state import Keys, State
from engine.wiring import embedded_lake
home, patience, largest = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
keys = Keys(home / "lake" / "keys.json")
made, listening = keys.first(), listen("127.0.0.1", 0)
print(listening.getsockname()[1], made.id, made.secret, flush=True)
run(application(embedded_lake(home), State(keys=keys, patience=patience, largest=largest)), listening)
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What a server answered. Header names are in small letters."""

    status: int
    headers: Mapping[str, str]
    data: bytes

    @property
    def json(self) -> Any:
        """The body, which must be JSON."""
        return json.loads(self.data)

    @property
    def message(self) -> str:
        """What an error says; every error says it in the same shape."""
        found = self.json
        assert set(found) == {"message"}, found
        return str(found["message"])


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """A served lake: its address, a key for it, and the process that serves it from ``folder``."""

    endpoint: str
    id: str
    secret: str
    pid: int
    folder: Path

    @property
    def port(self) -> int:
        """Where it listens."""
        return urlsplit(self.endpoint).port or 0

    @property
    def authorization(self) -> str:
        """The header that signs a request."""
        return "Basic " + base64.b64encode(f"{self.id}:{self.secret}".encode()).decode()

    def ask(
        self,
        method: str,
        place: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        /,
        *,
        seconds: float = 60,
        **query: object,
    ) -> Answer:
        """A signed request below ``/api/v1`` (or at a place that begins with ``/``), and the answer.

        A ``body`` that is neither bytes nor a stream is sent as JSON.
        """
        signed = {"Authorization": self.authorization, **(headers or {})}
        if body is not None and not isinstance(body, bytes) and not hasattr(body, "read"):
            body, signed = json.dumps(body).encode(), {"Content-Type": "application/json", **signed}
        target = (place if place.startswith("/") else f"/api/v1/{place}") + (f"?{urlencode(query)}" if query else "")
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)) as connection:
            connection.request(method, target, body, {key: value for key, value in signed.items() if value})
            response = connection.getresponse()
            found = {key.lower(): value for key, value in response.getheaders()}
            return Answer(status=response.status, headers=found, data=response.read())

    def memory(self) -> int:
        """The most memory that the process has ever used, in bytes."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])

    def repository(self) -> Repository:
        """A new repository."""
        name = f"rest-{secrets.token_hex(6)}"
        body = {"name": name, "storage_namespace": f"local://{name}"}
        assert self.ask("POST", "repositories", body).status == 201
        return Repository(site=self, name=name)


@dataclass(frozen=True, kw_only=True, slots=True)
class Repository:
    """A repository on a site, with short ways to what most tests do."""

    site: Site
    name: str

    def ask(self, method: str, place: str, body: Any = None, headers: Any = None, /, **query: Any) -> Answer:
        """A request below the repository."""
        return self.site.ask(method, f"repositories/{self.name}/{place}", body, headers, **query)

    def put(self, path: str, data: bytes = b"x", branch: str = "main", **headers: str) -> Answer:
        """Upload an object."""
        given = {"Content-Type": "application/octet-stream", **headers}
        return self.ask("POST", f"branches/{branch}/objects", data, given, path=path)

    def get(self, path: str, ref: str = "main", **headers: str) -> Answer:
        """Download an object."""
        return self.ask("GET", f"refs/{quote(ref, safe='')}/objects", None, headers, path=path)

    def commit(self, message: str = "m", branch: str = "main", **body: object) -> str:
        """Commit what is staged; the commit's id."""
        answer = self.ask("POST", f"branches/{branch}/commits", {"message": message, **body})
        assert answer.status == 201, answer
        return str(answer.json["id"])

    def add(self, branch: str = "main", **texts: str) -> str:
        """Upload texts and commit them; the commit's id."""
        for path, text in texts.items():
            assert self.put(path, text.encode(), branch).status == 201
        return self.commit(f"add {sorted(texts)}", branch)

    def branch(self, name: str, source: str = "main") -> None:
        """Make a branch."""
        assert self.ask("POST", "branches", {"name": name, "source": source}).status == 201

    def list(self, place: str, /, **query: object) -> list[Any]:
        """All results of a listing, page by page."""
        found: list[Any] = []
        while True:
            answer = self.ask("GET", place, **query)
            assert answer.status == 200, answer
            found += answer.json["results"]
            assert len(found) < 10_000
            if not answer.json["pagination"]["has_more"]:
                return found
            query["after"] = answer.json["pagination"]["next_offset"]

    def paths(self, ref: str = "main", **query: object) -> list[str]:
        """What a listing of objects gives."""
        return [item["path"] for item in self.list(f"refs/{ref}/objects/ls", **query)]

    def staged(self, branch: str = "main") -> dict[str, str]:
        """What is staged."""
        return {item["path"]: item["type"] for item in self.list(f"branches/{branch}/diff")}


@contextmanager
def served(folder: Path, *options: str) -> Iterator[Site]:
    """``engine lake serve`` for a project in ``folder``, in a process of its own."""
    (folder / ".engine").mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "engine.cli.main", "lake", "serve", "--port", "0", "--json", *options]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            said = json.loads(process.stdout.readline())
            id, secret = said["access_key_id"], said["secret_access_key"]
            yield Site(endpoint=said["endpoint"], id=id, secret=secret, pid=process.pid, folder=folder)
        finally:
            process.terminate()
            process.wait(30)


@contextmanager
def limited(folder: Path, *, patience: float, largest: int) -> Iterator[Site]:
    """A server that takes only objects of up to ``largest`` bytes and waits only ``patience`` seconds for a body."""
    command = [sys.executable, "-c", LIMITED, str(folder), str(patience), str(largest)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port, id, secret = process.stdout.readline().split()
            endpoint = f"http://127.0.0.1:{port}"
            yield Site(endpoint=endpoint, id=id, secret=secret, pid=process.pid, folder=folder)
        finally:
            process.terminate()
            process.wait(30)
