"""The client of a lake server: patient with a busy one, never fooled by a broken answer, sparing with bytes."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from engine.digest import sha256
from engine.errors import EngineError, LakeUnavailable, UsageError
from engine.lake.credentials import Credentials
from engine.lake.lakefs import Asked, Server
from engine.lake.protocol import Entry, HookRefused, LakeDenied, RepositoryNotFound, Signed
from engine.lake.remote import LARGE, RemoteLake
from engine.store.objects import ObjectStore
from lakes import served_address

# -- a server that misbehaves -------------------------------------------------------------------------

Reply = Callable[[BaseHTTPRequestHandler, bytes], None]


def reply(status: int, body: bytes = b"{}", **headers: str) -> Reply:
    def send(handler: BaseHTTPRequestHandler, _: bytes) -> None:
        said = {name.replace("_", "-"): value for name, value in headers.items()}
        handler.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **said}.items():
            handler.send_header(name, value)
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
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
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
    lake = odd.lake(tmp_path)
    odd.replies = [cut(b"half", 8), cut(b"half", 8)]
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


def cut(body: bytes, length: int) -> Reply:
    """Announce more than comes."""

    def send(handler: BaseHTTPRequestHandler, _: bytes) -> None:
        reply(200, body, Content_Length=str(length))(handler, b"")
        handler.connection.shutdown(2)

    return send


def test_an_answer_that_breaks_off_is_asked_for_again(odd: Odd, tmp_path: Path) -> None:
    half = cut(REPOSITORIES[:20], len(REPOSITORIES))
    odd.replies = [half, half, reply(200, REPOSITORIES)]
    assert odd.lake(tmp_path).repositories() == []


def test_a_server_whose_answers_always_break_off_is_given_up(odd: Odd, tmp_path: Path) -> None:
    odd.replies = [cut(b"{", 9)] * 10
    with pytest.raises(LakeUnavailable, match="broke off"):
        odd.lake(tmp_path).repositories()
    assert len(odd.asked) == 3


def test_a_commit_whose_answer_breaks_off_is_not_sent_again(odd: Odd, tmp_path: Path) -> None:
    odd.replies = [cut(b"{", 9), reply(201)]
    with pytest.raises(LakeUnavailable, match="broke off"):
        odd.lake(tmp_path).commit("repo", "main", "m")
    assert [method for method, *_ in odd.asked] == ["POST"]


def test_a_removal_whose_answer_was_lost_was_done(odd: Odd, tmp_path: Path) -> None:
    gone = reply(404, b'{"message": "branch not found"}')
    odd.replies = [reply(200, b'{"id": "repo", "default_branch": "main", "creation_date": 1}'), hang_up, gone]
    odd.lake(tmp_path).delete_branch("repo", "dev")
    assert [method for method, *_ in odd.asked] == ["GET", "DELETE", "DELETE"]


def test_a_server_that_says_nothing_is_given_up(odd: Odd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.lake.lakefs.READ", 0.2)
    odd.replies = [lambda *_: time.sleep(0.5)] * 9
    with pytest.raises(LakeUnavailable, match="does not answer"):
        odd.lake(tmp_path, patience=0.1).repositories()
    assert len(odd.asked) == 1


def test_an_object_without_a_length_that_ends_early_is_not_taken_for_it(odd: Odd, tmp_path: Path) -> None:
    def endless(handler: BaseHTTPRequestHandler, _: bytes) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhalf")
        handler.close_connection = True

    lake = odd.lake(tmp_path)
    odd.replies = [endless, endless]
    for _ in range(2):
        with pytest.raises(LakeUnavailable, match="does not say where it ends"):
            lake.fetch("repo", "a" * 64, Entry(path="a", size=8, checksum="c"))


@pytest.mark.parametrize("status", [404, 405])
def test_a_server_of_something_else_is_told_from_a_lake(odd: Odd, tmp_path: Path, status: int) -> None:
    odd.replies = [reply(status, b"<html>Not Found</html>", Content_Type="text/html")] * 2
    for ask in (RemoteLake.repositories, lambda lake: lake.create_repository("repo")):
        with pytest.raises(LakeUnavailable, match="not the API of a lake"):
            ask(odd.lake(tmp_path))


def test_a_page_about_an_error_is_not_shown_as_its_reason(odd: Odd, tmp_path: Path) -> None:
    odd.replies = [reply(502, b"<html><h1>Bad Gateway</h1></html>", Content_Type="text/html")]
    with pytest.raises(LakeUnavailable, match="502") as raised:
        odd.lake(tmp_path).repositories()
    assert "<" not in str(raised.value)


# -- storage behind the server ------------------------------------------------------------------------

SIGNED = "/storage/object?X-Amz-Signature=hidden"


def staging(odd: Odd) -> Reply:
    return reply(200, json.dumps({"physical_address": "s3://b/o", "presigned_url": odd.address + SIGNED}).encode())


def signing(odd: Odd, folder: Path) -> RemoteLake:
    lake = odd.lake(folder)
    lake._presigns = True
    return lake


def test_a_large_object_goes_straight_to_the_storage_and_is_linked(odd: Odd, tmp_path: Path) -> None:
    data = os.urandom(LARGE)
    linked = reply(200, json.dumps({**STATS, "size_bytes": len(data)}).encode())
    odd.replies = [staging(odd), reply(503), reply(200, ETag='"tag"'), linked]
    entry = signing(odd, tmp_path).put("repo", "main", "a", io.BytesIO(data), metadata={"Who": "ü"})
    assert [(method, path.partition("?")[0].rpartition("/")[2]) for method, path, *_ in odd.asked] == [
        ("GET", "backing"), ("PUT", "object"), ("PUT", "object"), ("PUT", "backing"),
    ]  # fmt: skip
    assert [body == data for _, _, body, _ in odd.asked] == [False, True, True, False]
    assert ["authorization" in headers for *_, headers in odd.asked] == [True, False, False, True]
    said = json.loads(odd.asked[3][2])
    assert (said["checksum"], said["size_bytes"], said["user_metadata"]) == ("tag", LARGE, {"Who": "ü"})
    assert (said["staging"]["physical_address"], entry.digest) == ("s3://b/o", sha256(data))


def test_a_small_object_goes_through_the_server(odd: Odd, tmp_path: Path) -> None:
    odd.replies = [reply(201, json.dumps({**STATS, "size_bytes": 1}).encode())]
    signing(odd, tmp_path).put("repo", "main", "a", io.BytesIO(b"x"))
    assert [method for method, *_ in odd.asked] == ["POST"]


@pytest.mark.parametrize("answer", [reply(403, b"<Error/>"), reply(404), reply(302, Location="/x"), hang_up])
def test_storage_that_fails_is_named_without_its_signature(odd: Odd, tmp_path: Path, answer: Reply) -> None:
    lake = signing(odd, tmp_path)
    odd.replies = [reply(200, json.dumps({**STATS, "physical_address": odd.address + SIGNED}).encode()), *[answer] * 3]
    with pytest.raises(LakeUnavailable, match="the lake's storage") as raised:
        lake.open("repo", "main", "a")
    assert (raised.value.place, "hidden" in str(raised.value)) == (odd.address, False)


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


@pytest.fixture
def sent(lake: RemoteLake, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What the server is asked from now on; it is asked none the less."""
    seen: list[tuple[str, str]] = []
    ask = lake.server._once

    def noted(asked: Asked, signed: bool) -> object:
        seen.append((asked.method, asked.url.partition("?")[0].rpartition("/")[2]))
        return ask(asked, signed)

    monkeypatch.setattr(lake.server, "_once", noted)
    return seen


def test_of_a_folder_only_what_changed_is_sent(lake: RemoteLake, tmp_path: Path, sent: list[tuple[str, str]]) -> None:
    repo, folder = name_of(lake), tmp_path / "folder"
    folder.mkdir()
    for number in range(5):
        (folder / str(number)).write_bytes(b"%d" % number)
    counts = []
    for name in ("0", "3", "new", ""):
        if name:
            (folder / name).write_bytes(b"other" + name.encode())
        sent.clear()
        lake.put_folder(repo, "main", "", folder)
        counts.append(sent.count(("POST", "objects")))
    assert counts == [5, 1, 1, 0]


def test_a_file_that_others_put_on_the_branch_is_put_right(lake: RemoteLake, tmp_path: Path) -> None:
    repo, folder = name_of(lake), tmp_path / "folder"
    folder.mkdir()
    (folder / "a").write_bytes(b"mine")
    lake.put_folder(repo, "main", "", folder)
    lake.put(repo, "main", "a", io.BytesIO(b"ours"))
    assert lake.put_folder(repo, "main", "", folder).changes == 1
    with lake.open(repo, "main", "a") as stream:
        assert stream.read() == b"mine"


def nowhere(path: Path) -> None:
    path.symlink_to("nowhere")


def never_read(path: Path) -> None:
    path.symlink_to("/proc/self/mem")  # whose first byte not even root can read


@pytest.mark.parametrize("made", [nowhere, never_read])
def test_a_folder_with_a_file_that_cannot_be_read_stages_nothing(
    lake: RemoteLake, tmp_path: Path, made: Callable[[Path], None]
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a").write_bytes(b"a")
    made(folder / "b")
    with pytest.raises(UsageError, match="cannot be read") as raised:
        lake.put_folder(name_of(lake), "main", "", folder)
    assert raised.value.place == str(folder / "b")
    assert list(lake.changes(name_of(lake), "main")) == []


def test_a_file_that_cannot_be_read_is_not_a_server_that_does_not_answer(lake: RemoteLake, tmp_path: Path) -> None:
    never_read(tmp_path / "b")
    with pytest.raises(UsageError, match="cannot be read"):
        lake.put(name_of(lake), "main", "b", tmp_path / "b")

    class Broken(io.BytesIO):
        def read(self, _: int | None = -1) -> bytes:
            raise OSError(errno.EIO, "broken")

    with pytest.raises(UsageError, match="cannot be read: broken"):
        lake.put(name_of(lake), "main", "b", Broken(b"bytes"))


class Written(io.BytesIO):
    """A file that somebody else writes to as soon as its length was looked at."""

    def __init__(self, data: bytes, later: bytes) -> None:
        super().__init__(data)
        self.later = later

    def read(self, size: int | None = -1) -> bytes:
        at = self.tell()
        self.seek(0)
        self.truncate()
        self.write(self.later)
        self.seek(at)
        return super().read(size)


def test_a_file_that_grows_while_it_is_sent_is_sent_as_long_as_it_was(lake: RemoteLake) -> None:
    entry = lake.put(name_of(lake), "main", "a", Written(b"12345", b"1234567"))
    assert (entry.size, entry.digest) == (5, sha256(b"12345"))
    assert lake.stat(name_of(lake), "main", "a").size == 5


def test_a_file_that_shrinks_while_it_is_sent_is_refused_at_once(lake: RemoteLake) -> None:
    started = time.monotonic()
    with pytest.raises(UsageError, match="became shorter"):
        lake.put(name_of(lake), "main", "a", Written(b"12345", b"12"))
    assert list(lake.changes(name_of(lake), "main")) == []
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    "metadata",
    [{"Capital": "A"}, {"ü": "é\n2"}, {"a": " x "}, {"a": ""}, {"a": "x", "B C": "y"}, {"": "\t"}, {"a": "x" * 5000}],
    ids=repr,
)
def test_what_a_user_writes_on_an_object_comes_back_as_it_was(lake: RemoteLake, metadata: dict[str, str]) -> None:
    lake.put(name_of(lake), "main", "a", io.BytesIO(b"1"), metadata=metadata, content_type="text/x; a=1")
    entry = lake.stat(name_of(lake), "main", "a")
    assert (entry.metadata, entry.content_type) == (metadata, "text/x; a=1")
    assert [item.metadata for item in lake.list(name_of(lake), "main")] == [metadata]


@pytest.mark.parametrize("content_type", ["a\r\nAuthorization: b", "é€", "\0"])
def test_a_content_type_that_no_header_can_hold_is_refused(lake: RemoteLake, content_type: str) -> None:
    with pytest.raises(UsageError, match="is not a content type"):
        lake.put(name_of(lake), "main", "a", io.BytesIO(b"1"), content_type=content_type)


@pytest.mark.parametrize("ref", ["", ".", "..", "a/b", "../main", "main/../main"])
def test_a_ref_that_would_lead_elsewhere_is_one_that_is_not_there(lake: RemoteLake, ref: str) -> None:
    for ask in (lake.list, lake.log, lambda repo, ref: lake.diff(repo, ref, "main")):
        with pytest.raises(UsageError, match="no branch, tag or commit|is not a ref"):
            list(ask(name_of(lake), ref))


@pytest.mark.parametrize("name", ["", ".", "..", "a/b"])
def test_a_repository_that_would_lead_elsewhere_is_one_that_is_not_there(lake: RemoteLake, name: str) -> None:
    with pytest.raises(RepositoryNotFound):
        lake.resolve(name, "main")


def test_what_is_no_text_is_said_before_anything_is_asked(lake: RemoteLake, sent: list[tuple[str, str]]) -> None:
    repo = name_of(lake)
    for ask in (lambda: lake.stat(repo, "main", "\udc80"), lambda: list(lake.list(repo, "\udc80"))):
        with pytest.raises(UsageError, match="not Unicode text"):
            ask()
    assert sent == []


def test_many_threads_share_one_server(lake: RemoteLake, caplog: pytest.LogCaptureFixture) -> None:
    repo = name_of(lake)

    def work(number: int) -> bytes:
        lake.put(repo, "main", f"{number}", io.BytesIO(b"%d" % number))
        with lake.open(repo, "main", f"{number}") as stream:
            return stream.read()

    with ThreadPoolExecutor(40) as pool:
        found = list(pool.map(work, range(120)))
    assert found == [b"%d" % number for number in range(120)]
    assert [record.message for record in caplog.records] == []


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
from engine.lake.lakefs import Asked, Server
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
