"""What the server of the embedded lake answers over a real socket: to good requests, bad ones, slow ones and many."""

from __future__ import annotations

import base64
import http.client
import json
import re
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import pytest

from engine.digest import sha256
from engine.lake.credentials import Credentials
from engine.lake.embedded.lake import EmbeddedLake
from engine.store.objects import ObjectStore
from lakes import served_address

API = "/api/v1"
# A server that takes no object over 300,000 bytes and waits no longer than a second for the rest of a body.
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
state = State(keys=keys, largest=300_000, patience=1.0)
print(port, key.id, key.secret, flush=True)
run(application(embedded_lake(home), state), listening)
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, kw_only=True, slots=True)
class Face:
    """A server, the folder of its project, and how to ask it."""

    credentials: Credentials
    folder: Path

    @property
    def address(self) -> tuple[str, int]:
        url = urlsplit(self.credentials.endpoint)
        return str(url.hostname), int(url.port or 0)

    @property
    def key(self) -> str:
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
        connection = http.client.HTTPConnection(*self.address, timeout=30)
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
        kind = {"Content-Type": "application/octet-stream", **more.pop("headers", {})}
        place = f"{API}/repositories/{repository}/branches/main/objects"
        return self.ask("POST", place, data, headers=kind, path=path, **more)

    def get(self, repository: str, path: str, ref: str = "main", **more: Any) -> Answer:
        return self.ask("GET", f"{API}/repositories/{repository}/refs/{ref}/objects", path=path, **more)


@pytest.fixture(scope="module")
def face(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Face]:
    folder = tmp_path_factory.mktemp("face")
    (folder / "inside").mkdir()
    (folder / "inside" / "a.csv").write_bytes(b"a")
    (folder / "outside.csv").write_bytes(b"secret")
    (folder / "inside" / "link").symlink_to(folder / "outside.csv")
    with served_address(folder, "--import-root", str(folder / "inside")) as found:
        yield Face(credentials=found, folder=folder)


@pytest.fixture(scope="module")
def tight(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Face]:
    folder = tmp_path_factory.mktemp("tight")
    command = [sys.executable, "-c", TIGHT, str(folder / ".engine")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port, id, secret = process.stdout.readline().split()
            endpoint = f"http://127.0.0.1:{port}"
            face = Face(
                credentials=Credentials(endpoint=endpoint, access_key_id=id, secret_access_key=secret), folder=folder
            )
            new_repository(face, "repo")
            yield face
        finally:
            process.kill()


COUNT = iter(range(1000))


def new_repository(face: Face, name: str) -> str:
    body = {"name": name, "storage_namespace": f"local://{name}"}
    assert face.ask("POST", f"{API}/repositories", body).status == 201
    return name


@pytest.fixture
def repo(face: Face) -> str:
    return new_repository(face, f"repo-{next(COUNT)}")


# -- who may come in ----------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [None, "Basic xxx", "Basic QTpC", "Bearer a.99999999999.b", "Basic " + "A" * 5000])
def test_a_request_without_a_right_key_is_401(face: Face, key: str | None) -> None:
    answer = face.ask("GET", f"{API}/repositories", key=key)
    assert (answer.status, answer.json) == (401, {"message": "error authenticating request"})


def test_a_login_gives_a_token_in_the_place_of_the_key(face: Face) -> None:
    found = face.credentials
    body = {"access_key_id": found.access_key_id, "secret_access_key": found.secret_access_key}
    token = face.ask("POST", f"{API}/auth/login", body, key=None).json["token"]
    assert face.ask("GET", f"{API}/user", key=f"Bearer {token}").json["user"]["id"] == found.access_key_id
    assert face.ask("GET", f"{API}/user", key=f"Bearer {token[:-1]}x").status == 401
    assert face.ask("POST", f"{API}/auth/login", {**body, "secret_access_key": "x"}, key=None).status == 401


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:80", "", "localhost.evil:8000"])
def test_a_request_to_another_host_is_refused(face: Face, host: str) -> None:
    assert face.ask("GET", f"{API}/repositories", headers={"Host": host}).status in (400, 421)


def test_the_keys_are_kept_for_their_owner_only_and_without_the_secret(face: Face) -> None:
    path = face.folder / ".engine" / "lake" / "keys.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert face.credentials.secret_access_key not in path.read_text()
    assert face.credentials.access_key_id in path.read_text()


def test_a_second_server_of_the_same_lake_shows_no_secret_and_takes_the_same_key(face: Face, repo: str) -> None:
    command = [sys.executable, "-m", "engine.cli.main", "lake", "serve", "--port", "0", "--json"]
    with subprocess.Popen(command, cwd=face.folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        other = Face(
            credentials=Credentials(
                endpoint=said["endpoint"],
                access_key_id=face.credentials.access_key_id,
                secret_access_key=face.credentials.secret_access_key,
            ),
            folder=face.folder,
        )
        assert other.ask("GET", f"{API}/repositories/{repo}").status == 200
        process.send_signal(2)
        assert process.wait(10) == 130
    assert said["secret_access_key"] is None


def test_a_port_that_is_taken_is_said(face: Face) -> None:
    port = str(face.address[1])
    command = [sys.executable, "-m", "engine.cli.main", "lake", "serve", "--port", port]
    done = subprocess.run(command, cwd=face.folder, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 3
    assert f"127.0.0.1:{port}: cannot listen" in done.stderr
    assert "--port" in done.stderr


# -- bad requests -------------------------------------------------------------------------------------

BAD: list[tuple[str, str, object, int]] = [
    ("POST", "/repositories", b"{not json", 400),
    ("POST", "/repositories", b"[1]", 400),
    ("POST", "/repositories", {"name": 7, "storage_namespace": "local://x"}, 400),
    ("POST", "/repositories", {"storage_namespace": "local://x"}, 400),
    ("POST", "/repositories", {"name": "No"}, 400),
    ("POST", "/repositories", b'{"name": "' + b"x" * (2 << 20) + b'"}', 413),
    ("GET", "/repositories/none", None, 404),
    ("GET", "/repositories/none/branches", None, 404),
    ("GET", "/repositories/REPO/branches/none", None, 404),
    ("GET", "/repositories/REPO/refs/none/commits", None, 404),
    ("GET", "/repositories/REPO/refs/~~/commits", None, 400),
    ("GET", "/repositories/REPO/refs/main/objects", None, 400),
    ("GET", "/repositories/REPO/refs/main/objects?path=none", None, 404),
    ("GET", "/repositories/REPO/refs/main/objects/ls?amount=x", None, 400),
    ("POST", "/repositories/REPO/branches", {"name": "main", "source": "main"}, 409),
    ("POST", "/repositories/REPO/branches/main/commits", {"message": "m"}, 400),
    ("POST", "/repositories/REPO/branches/main/commits", {"message": "m", "metadata": {"a": 1}}, 400),
    ("PUT", "/repositories/REPO/branches/main", {"type": "everything"}, 400),
    ("DELETE", "/repositories/REPO/branches/main", None, 403),
    ("POST", "/repositories/REPO/branches/main/objects/delete", {"paths": "a"}, 400),
    ("PUT", "/repositories/REPO/branches/main/staging/backing?path=a", {"staging": {"physical_address": "x"}}, 400),
    ("POST", "/repositories/REPO/branches/main/import", {"paths": []}, 400),
    ("POST", "/auth/users", {}, 501),
    ("GET", "/repositories/REPO/settings/gc_rules", None, 501),
]


@pytest.mark.parametrize(("method", "path", "body", "status"), BAD, ids=[f"{m} {p} {s}" for m, p, _, s in BAD])
def test_a_bad_request_has_its_status_and_a_message_that_gives_nothing_away(
    face: Face, repo: str, method: str, path: str, body: object, status: int
) -> None:
    answer = face.ask(method, API + path.replace("REPO", repo), body)
    assert answer.status == status
    assert answer.json["message"]
    assert str(face.folder) not in answer.body.decode()
    assert "Traceback" not in answer.body.decode()


def test_an_object_that_is_too_large_is_413_and_leaves_nothing(tight: Face) -> None:
    assert tight.put("repo", "big", b"x" * 300_001).status == 413
    assert tight.get("repo", "big").status == 404
    assert [path for path in (tight.folder / ".engine" / "objects").rglob("tmp/*") if path.is_file()] == []
    assert tight.put("repo", "fits", b"x" * 300_000).status == 201


def test_a_slow_client_is_given_up_and_keeps_nobody_waiting(tight: Face) -> None:
    with socket.create_connection(tight.address, timeout=10) as slow:
        head = f"POST {API}/repositories/repo/branches/main/objects?path=slow HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        slow.sendall(f"{head}Authorization: {tight.key}\r\nContent-Length: 1000\r\n\r\nhalf".encode())
        started = time.monotonic()
        assert tight.ask("GET", f"{API}/repositories").status == 200
        assert time.monotonic() - started < 1
        assert slow.recv(4096).startswith(b"HTTP/1.1 408")
    assert tight.get("repo", "slow").status == 404


def test_a_client_that_goes_away_in_the_middle_leaves_nothing(face: Face, repo: str) -> None:
    with socket.create_connection(face.address, timeout=10) as client:
        head = f"POST {API}/repositories/{repo}/branches/main/objects?path=gone HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        client.sendall(
            f"{head}Authorization: {face.key}\r\nContent-Length: 9000000\r\n\r\n".encode() + b"x" * 3_000_000
        )
    deadline = time.monotonic() + 10
    objects = face.folder / ".engine" / "objects"
    while time.monotonic() < deadline and list(objects.glob("tmp/*")):
        time.sleep(0.05)
    assert list(objects.glob("tmp/*")) == []
    assert face.get(repo, "gone").status == 404


def test_200_clients_at_once_are_all_answered(face: Face, repo: str) -> None:
    barrier = threading.Barrier(50)

    def client(number: int) -> tuple[int, int, bytes]:
        if number < 50:
            barrier.wait(30)
        data = f"{number}".encode() * 100
        return face.put(repo, f"{number}", data).status, number, face.get(repo, f"{number}").body

    with ThreadPoolExecutor(50) as pool:
        found = list(pool.map(client, range(200)))
    assert [item for item in found if item != (201, item[1], f"{item[1]}".encode() * 100)] == []


# -- objects ------------------------------------------------------------------------------------------

PATHS = ["../up", "/root", "a//b", "x" * 1024, "é/\U0001f600", "new\nline", "a b+c%2Fd?e#f&g", "~$@^"]


@pytest.mark.parametrize("path", PATHS, ids=[repr(path[:20]) for path in PATHS])
def test_any_path_gives_back_what_was_put_there(face: Face, repo: str, path: str) -> None:
    assert face.put(repo, path, b"here").status == 201
    assert face.get(repo, path).body == b"here"
    listed = face.ask("GET", f"{API}/repositories/{repo}/refs/main/objects/ls").json["results"]
    assert [item["path"] for item in listed] == [path]


DATA = bytes(range(256)) * 4
RANGES = [
    ("bytes=0-9", 206, DATA[:10]),
    ("bytes=100-", 206, DATA[100:]),
    ("bytes=-7", 206, DATA[-7:]),
    ("bytes=5-5", 206, DATA[5:6]),
    ("bytes=0-999999999", 206, DATA),
    (f"bytes={len(DATA)}-", 416, None),
    ("bytes=9-3", 416, None),
    ("lines=1-2", 200, DATA),
    ("bytes=1-2,5-6", 200, DATA),
]


@pytest.fixture(scope="module")
def ranged(face: Face) -> str:
    """A repository with ``DATA`` in it."""
    repo = new_repository(face, "ranged")
    face.put(repo, "small", DATA)
    return repo


@pytest.mark.parametrize(("header", "status", "body"), RANGES, ids=[header for header, _, _ in RANGES])
def test_a_range_is_the_stretch_that_it_names(
    face: Face, ranged: str, header: str, status: int, body: bytes | None
) -> None:
    answer = face.get(ranged, "small", headers={"Range": header})
    assert answer.status == status
    assert body is None or answer.body == body


def test_a_range_of_a_large_object_is_read_without_the_rest(face: Face, repo: str) -> None:
    data = DATA * 400
    face.put(repo, "large", data)
    answer = face.get(repo, "large", headers={"Range": "bytes=300000-300009"})
    assert (answer.status, answer.body) == (206, data[300_000:300_010])
    assert answer.headers["content-range"] == f"bytes 300000-300009/{len(data)}"


def test_an_object_says_what_it_is_and_is_not_sent_to_who_has_it(face: Face, repo: str) -> None:
    put = face.put(repo, "a", b"text", headers={"Content-Type": "text/plain", "x-lakefs-meta-k": "v"})
    assert (put.json["content_type"], put.json["metadata"], put.json["checksum"]) == (
        "text/plain", {"k": "v"}, sha256(b"text"),
    )  # fmt: skip
    got = face.get(repo, "a")
    assert (got.headers["content-type"], got.headers["etag"]) == ("text/plain", f'"{sha256(b"text")}"')
    assert face.get(repo, "a", headers={"If-None-Match": got.headers["etag"]}).status == 304
    head = face.ask("HEAD", f"{API}/repositories/{repo}/refs/main/objects", path="a")
    assert (head.status, head.headers["content-length"], head.body) == (200, "4", b"")
    assert face.put(repo, "a", b"other", headers={"If-None-Match": "*"}).status == 412
    assert face.put(repo, "b", b"other", headers={"If-None-Match": "*"}).status == 201


def test_a_presigned_address_needs_no_key_and_cannot_be_altered(face: Face, repo: str) -> None:
    face.put(repo, "a", b"text")
    place = f"{API}/repositories/{repo}/refs/main/objects/stat"
    url = urlsplit(face.ask("GET", place, path="a", presign="true").json["physical_address"])
    assert face.ask("GET", f"{url.path}?{url.query}", key=None).body == b"text"
    other = url.path.replace(sha256(b"text"), sha256(b"a"))
    for path, query in [(other, url.query), (url.path, re.sub("expires=", "expires=9", url.query)), (url.path, "")]:
        assert face.ask("GET", f"{path}?{query}", key=None).status == 403


def test_an_upload_to_an_issued_address_is_linked_once_and_only_to_its_path(face: Face, repo: str) -> None:
    place = f"{API}/repositories/{repo}/branches/main/staging/backing"
    for path, again in (("a", 400), ("b", 400)):
        staging = face.ask("GET", place, path=path, presign="true").json
        url = urlsplit(staging["presigned_url"])
        body = {"staging": staging, "checksum": "x", "size_bytes": 5, "content_type": "text/plain"}
        assert face.ask("PUT", place, body, path=path).status == 400  # nothing is there yet; and it is used up
        staging = face.ask("GET", place, path=path, presign="true").json
        url = urlsplit(staging["presigned_url"])
        assert face.ask("PUT", f"{url.path}?{url.query}", b"bytes", key=None).status == 200
        body = {**body, "staging": staging}
        if path == "b":
            assert face.ask("PUT", place, body, path="elsewhere").status == 400
        else:
            assert face.ask("PUT", place, body, path=path).json["content_type"] == "text/plain"
            assert face.get(repo, path).body == b"bytes"
        assert face.ask("PUT", place, body, path=path).status == again


def import_from(face: Face, repo: str, path: str, kind: str = "object") -> Answer:
    body = {"paths": [{"path": path, "type": kind, "destination": "in/"}], "commit": {"message": "imported"}}
    return face.ask("POST", f"{API}/repositories/{repo}/branches/main/import", body)


@pytest.mark.parametrize(
    "name", ["outside.csv", "inside/../outside.csv", "inside/link", "inside/%2e%2e/outside.csv", ""]
)
def test_nothing_outside_of_the_import_roots_is_imported(face: Face, repo: str, name: str) -> None:
    assert import_from(face, repo, f"file://{quote(str(face.folder))}/{name}").status == 403


def test_what_lies_in_an_import_root_is_imported_and_committed(face: Face, repo: str) -> None:
    id = import_from(face, repo, f"file://{face.folder}/inside/a.csv").json["id"]
    place = f"{API}/repositories/{repo}/branches/main/import"
    while not (status := face.ask("GET", place, id=id).json)["completed"]:
        time.sleep(0.02)
    assert (status["commit"]["message"], status["ingested_objects"]) == ("imported", 1)
    assert face.get(repo, "in/", "main@").body == b"a"
    assert face.ask("GET", place, id="other").status == 404


@pytest.mark.parametrize("size", [1000, 5_000_000], ids=["packed", "a file"])
def test_altered_bytes_never_arrive_as_a_whole_object(face: Face, repo: str, size: int) -> None:
    data = bytes([size % 251]) * size
    face.put(repo, "a", data)
    store = ObjectStore(face.folder / ".engine" / "objects")
    location = store.packs.find(sha256(data))
    assert location is not None
    path = store.packs.path(location.pack) if location.pack else store.path(sha256(data))
    path.chmod(0o644)
    with path.open("r+b") as stream:
        stream.seek(location.offset + size - 10)
        stream.write(b"\0")
    try:
        answer = face.get(repo, "a")
    except http.client.IncompleteRead:
        return
    assert answer.status == 500
    assert "path" not in answer.json["message"]


def test_a_hook_that_says_no_is_412_and_its_run_can_be_asked_for(face: Face, repo: str) -> None:
    face.put(repo, "_lakefs_actions/guard.yaml", b"not an action")
    answer = face.ask("POST", f"{API}/repositories/{repo}/branches/main/commits", {"message": "m"})
    assert answer.status == 412
    runs = face.ask("GET", f"{API}/repositories/{repo}/actions/runs").json["results"]
    assert [(run["event_type"], run["status"]) for run in runs] == [("pre-commit", "failed")]


def test_what_the_server_wrote_is_what_the_embedded_lake_reads(face: Face, repo: str) -> None:
    face.put(repo, "a", b"1")
    id = face.ask("POST", f"{API}/repositories/{repo}/branches/main/commits", {"message": "m"}).json["id"]
    home = face.folder / ".engine"
    lake = EmbeddedLake(home / "lake", ObjectStore(home / "objects"))
    assert lake.resolve(repo, "main") == id
    assert lake.open(repo, "main", "a").read() == b"1"


def test_a_link_in_an_imported_folder_leads_nowhere_outside(face: Face, repo: str) -> None:
    id = import_from(face, repo, f"file://{face.folder}/inside/", "common_prefix").json["id"]
    place = f"{API}/repositories/{repo}/branches/main/import"
    while not (status := face.ask("GET", place, id=id).json)["completed"]:
        time.sleep(0.02)
    assert "outside" in json.dumps(status["error"]) or "--import-root" in json.dumps(status["error"])
    assert face.ask("GET", f"{API}/repositories/{repo}/refs/main/objects/ls").json["results"] == []
