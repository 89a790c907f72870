"""The client of a lake server: patient with a busy one, never fooled by a broken answer, sparing with bytes."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from engine.digest import sha256
from engine.errors import EngineError, LakeUnavailable
from engine.lake.credentials import Credentials
from engine.lake.lakefs import Server
from engine.lake.protocol import HookRefused, LakeDenied, Signed
from engine.lake.remote import RemoteLake
from engine.store.objects import ObjectStore
from lakes import served_address

# -- a server that misbehaves -------------------------------------------------------------------------

Reply = Callable[[BaseHTTPRequestHandler, bytes], None]


def reply(status: int, body: bytes = b"{}", **headers: str) -> Reply:
    def send(handler: BaseHTTPRequestHandler, _: bytes) -> None:
        handler.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return send


def hang_up(handler: BaseHTTPRequestHandler, _: bytes) -> None:
    handler.connection.shutdown(2)


@dataclass
class Odd:
    """A real server that answers each request with the next of its replies, and notes what it was asked."""

    replies: list[Reply] = field(default_factory=list)
    asked: list[tuple[str, str, bytes, dict[str, str]]] = field(default_factory=list)
    address: str = ""

    def lake(self, folder: Path, patience: float = 20.0) -> RemoteLake:
        found = Credentials(endpoint=self.address, access_key_id="id", secret_access_key="hidden")
        lake = RemoteLake(Server(found, patience), ObjectStore(folder / "objects"), folder / "cache")
        lake._presigns = False
        return lake


@pytest.fixture
def odd() -> Iterator[Odd]:
    seen = Odd()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            if self.headers.get("Transfer-Encoding") == "chunked":
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            else:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            seen.asked.append((self.command, self.path, body, {k.lower(): v for k, v in self.headers.items()}))
            seen.replies.pop(0)(self, body)

        do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    seen.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield seen
    server.shutdown()
    server.server_close()
    thread.join()


REPOSITORIES = json.dumps({"pagination": {"has_more": False}, "results": []}).encode()
STATS = {"path": "a", "path_type": "object", "physical_address": "x", "checksum": "c", "mtime": 1}
BUSY = {
    "too many": reply(429, Retry_After="0"),
    "unavailable": reply(503),
    "locked": reply(500, b'{"message": "branch is currently locked, try again"}'),
    "hung up": hang_up,
}


@pytest.mark.parametrize("kind", sorted(BUSY))
def test_a_busy_server_is_asked_again(odd: Odd, tmp_path: Path, kind: str) -> None:
    odd.replies = [BUSY[kind], BUSY[kind], reply(200, REPOSITORIES)]
    assert odd.lake(tmp_path).repositories() == []
    assert len(odd.asked) == 3


def test_a_server_that_stays_busy_is_given_up_in_time(odd: Odd, tmp_path: Path) -> None:
    odd.replies = [reply(503)] * 100
    started = time.monotonic()
    with pytest.raises(LakeUnavailable, match="503"):
        odd.lake(tmp_path, patience=0.5).repositories()
    assert time.monotonic() - started < 3


def test_a_commit_whose_answer_was_lost_is_not_sent_again(odd: Odd, tmp_path: Path) -> None:
    odd.replies = [hang_up]
    with pytest.raises(LakeUnavailable):
        odd.lake(tmp_path).commit("repo", "main", "m")
    assert [method for method, *_ in odd.asked] == ["POST"]


def test_an_upload_that_was_refused_for_now_begins_anew_with_all_its_bytes(odd: Odd, tmp_path: Path) -> None:
    data = os.urandom(300_000)
    stats = json.dumps({**STATS, "size_bytes": len(data)}).encode()
    odd.replies = [reply(503), reply(201, stats)]
    entry = odd.lake(tmp_path).put("repo", "main", "a", io.BytesIO(data))
    assert [body for _, _, body, _ in odd.asked] == [data, data]
    assert entry.digest == sha256(data)


def test_a_stream_that_cannot_begin_anew_is_sent_once(odd: Odd, tmp_path: Path) -> None:
    class Once(io.BytesIO):
        def seekable(self) -> bool:
            return False

    odd.replies = [reply(503), reply(201, json.dumps({**STATS, "size_bytes": 5}).encode())]
    with pytest.raises(LakeUnavailable):
        odd.lake(tmp_path).put("repo", "main", "a", Once(b"bytes"))
    assert [body for _, _, body, _ in odd.asked] == [b"bytes"]


def test_a_body_that_ends_early_is_never_taken_for_the_object(odd: Odd, tmp_path: Path) -> None:
    def short(handler: BaseHTTPRequestHandler, _: bytes) -> None:
        reply(200, b"half", Content_Length="8")(handler, b"")
        handler.connection.shutdown(2)

    lake = odd.lake(tmp_path)
    odd.replies = [short, short]
    with pytest.raises(LakeUnavailable), lake.open("repo", "main", "a") as stream:
        stream.read()
    with pytest.raises(LakeUnavailable):
        lake.map("repo", "main", "a")
    assert list(lake.objects.packs.all()) == []


def test_the_key_goes_to_no_other_address(odd: Odd, tmp_path: Path) -> None:
    lake = odd.lake(tmp_path)
    lake._presigns = True
    address = f"{odd.address}/elsewhere"
    odd.replies = [reply(200, json.dumps({**STATS, "physical_address": address}).encode()), reply(200, b"bytes")]
    with lake.open("repo", "main", "a") as stream:
        assert stream.read() == b"bytes"
    assert ["authorization" in headers for *_, headers in odd.asked] == [True, False]


def test_a_redirect_is_not_followed(odd: Odd, tmp_path: Path) -> None:
    odd.replies = [reply(302, Location=f"{odd.address}/elsewhere"), reply(200, REPOSITORIES)]
    with pytest.raises(EngineError):
        odd.lake(tmp_path).repositories()
    assert len(odd.asked) == 1


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_is_not_taken_is_said_without_the_secret(odd: Odd, tmp_path: Path, status: int) -> None:
    odd.replies = [reply(status, b'{"message": "no"}')]
    with pytest.raises(LakeDenied) as raised:
        odd.lake(tmp_path).repositories()
    assert "LAKECTL_CREDENTIALS" in raised.value.hint
    assert "hidden" not in str(raised.value)


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"results": 1}', b""])
def test_what_is_no_answer_of_a_lake_is_an_error_of_ours(odd: Odd, tmp_path: Path, body: bytes) -> None:
    odd.replies = [reply(200, body)]
    with pytest.raises(LakeUnavailable, match="not the API of a lake"):
        odd.lake(tmp_path).repositories()


def test_a_hook_that_says_no_is_a_refusal_with_its_words(odd: Odd, tmp_path: Path) -> None:
    odd.replies = [reply(412, b'{"message": "pre-commit hook aborted: bad rows"}')]
    with pytest.raises(HookRefused, match="bad rows"):
        odd.lake(tmp_path).commit("repo", "main", "m")


def test_a_server_that_is_not_there_is_said_within_seconds(tmp_path: Path) -> None:
    found = Credentials(endpoint="http://127.0.0.1:9", access_key_id="i", secret_access_key="hidden")
    started = time.monotonic()
    with pytest.raises(LakeUnavailable) as raised:
        RemoteLake(Server(found), ObjectStore(tmp_path), tmp_path).repositories()
    assert time.monotonic() - started < 3
    assert raised.value.place == "http://127.0.0.1:9"
    assert "engine doctor" in raised.value.hint


# -- the embedded lake behind its server --------------------------------------------------------------


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Credentials, Path]]:
    folder = tmp_path_factory.mktemp("served")
    with served_address(folder) as found:
        yield found, folder


@pytest.fixture
def lake(served: tuple[Credentials, Path], tmp_path: Path) -> RemoteLake:
    made = RemoteLake(Server(served[0]), ObjectStore(tmp_path / "objects"), tmp_path / "cache")
    made.create_repository(f"repo-{tmp_path.name.replace('_', '-')[-40:]}")
    return made


def name_of(lake: RemoteLake) -> str:
    return lake.cache.parent.parent.name.replace("_", "-")[-40:].join(["repo-", ""])


def test_what_was_fetched_once_is_not_fetched_again(lake: RemoteLake, monkeypatch: pytest.MonkeyPatch) -> None:
    repo = name_of(lake)
    lake.put(repo, "main", "a", io.BytesIO(b"bytes"))
    commit = lake.commit(repo, "main", "m").id
    first = lake.fetch(repo, commit, lake.stat(repo, commit, "a"))
    entry = lake.stat(repo, commit, "a")
    sent = monkeypatch.setattr(lake.server, "_once", lambda *_: pytest.fail("the server was asked"))
    assert sent is None
    assert lake.fetch(repo, commit, entry) == first
    assert first.digest == sha256(b"bytes")


def test_a_fetched_object_that_is_gone_is_fetched_again(lake: RemoteLake) -> None:
    repo = name_of(lake)
    lake.put(repo, "main", "a", io.BytesIO(b"x" * 100_000))
    commit = lake.commit(repo, "main", "m").id
    digest = lake.fetch(repo, commit, lake.stat(repo, commit, "a")).digest
    lake.objects.remove(digest)
    assert lake.fetch(repo, commit, lake.stat(repo, commit, "a")).digest == digest
    assert lake.objects.read(digest) == b"x" * 100_000


def test_a_folder_is_sent_once_and_then_only_what_changed(lake: RemoteLake, tmp_path: Path) -> None:
    repo, folder = name_of(lake), tmp_path / "folder"
    folder.mkdir()
    for number in range(20):
        (folder / str(number)).write_bytes(b"%d" % number)
        os.utime(folder / str(number), (1, 1))
    time.sleep(0.1)
    assert lake.put_folder(repo, "main", "", folder, commit=Signed(message="m")).changes == 20
    (folder / "3").write_bytes(b"other")
    done = lake.put_folder(repo, "main", "", folder, commit=Signed(message="m"))
    assert (done.read, done.changes) == (1, 1)
    assert lake.put_folder(repo, "main", "", folder, commit=Signed(message="m")).commit is None


def test_bytes_that_changed_on_the_server_are_damage(lake: RemoteLake, served: tuple[Credentials, Path]) -> None:
    repo = name_of(lake)
    lake.put(repo, "main", "a", io.BytesIO(b"to be changed, in the pack of the server"))
    commit = lake.commit(repo, "main", "m").id
    digest = lake.fetch(repo, commit, lake.stat(repo, commit, "a")).digest
    store = ObjectStore(served[1] / ".engine" / "objects")
    location = store.packs.find(digest)
    assert location is not None
    with store.packs.path(location.pack).open("r+b") as pack:
        pack.seek(location.offset)
        pack.write(b"T")
    damage = [item for item in lake.fsck() if repo in item.name]
    assert [item.name for item in damage] == [f"lakefs://{repo}/{commit}/a"]


UP_AND_DOWN = r"""
import re, sys
from pathlib import Path
from engine.lake.credentials import Credentials
from engine.lake.lakefs import Server
from engine.lake.remote import RemoteLake
from engine.store.objects import ObjectStore
endpoint, id, secret, folder, repo = sys.argv[1:]
folder = Path(folder)
found = Credentials(endpoint=endpoint, access_key_id=id, secret_access_key=secret)
lake = RemoteLake(Server(found), ObjectStore(folder / "o"), folder / "c")
def peak(): return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])
lake.put(repo, "main", "small", folder / "small")
before = peak()
up = lake.put(repo, "main", "big", folder / "big")
with lake.open(repo, "main", "big") as stream:
    while stream.read(1 << 20): pass
lake.map(repo, "main", "big")
print(peak() - before, up.digest)
"""


def up_and_down(lake: RemoteLake, served: tuple[Credentials, Path], folder: Path, size: int) -> None:
    """Send and fetch an object of that many MiB; the client and the server may each take 32 MiB more."""
    (folder / "small").write_bytes(b"x")
    with (folder / "big").open("wb") as stream:
        for _ in range(size):
            stream.write(os.urandom(1 << 20))
    found = served[0]
    key = (found.endpoint, found.access_key_id, found.secret_access_key)
    temporary = folder / "tmp"
    temporary.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", UP_AND_DOWN, *key, str(folder), name_of(lake)],
        capture_output=True, text=True, check=True, env={**os.environ, "TMPDIR": str(temporary)},
    )  # fmt: skip
    more, digest = done.stdout.split()
    assert int(more) < 32 * 1024
    assert list(temporary.iterdir()) == []
    assert digest == lake.fetch(name_of(lake), "main", lake.stat(name_of(lake), "main", "big")).digest


def test_a_large_object_goes_up_and_down_in_little_memory(
    lake: RemoteLake, served: tuple[Credentials, Path], tmp_path: Path
) -> None:
    up_and_down(lake, served, tmp_path, 100)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_gibibyte_goes_up_and_down_in_little_memory(
    lake: RemoteLake, served: tuple[Credentials, Path], tmp_path: Path
) -> None:
    up_and_down(lake, served, tmp_path, 1024)
