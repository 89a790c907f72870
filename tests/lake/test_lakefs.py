"""The door to lakeFS when answers are odd: nothing is taken for what it is not, and nothing is asked for ever."""

from __future__ import annotations

import io
import json
import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from engine.digest import sha256
from engine.errors import LakeUnavailable, UsageError
from engine.lake import lakefs
from engine.lake.credentials import Credentials, proxy_for
from engine.lake.lakefs import Server, seconds
from engine.lake.protocol import Entry, HookRefused, LakeDenied, ObjectNotFound, Signed
from engine.lake.remote import LARGE, RemoteLake
from engine.store.objects import ObjectStore
from lakes import served_address
from odd import REPOSITORIES, STATS, Odd, Reply, hang_up, odd_server, reply

COMMIT = "a" * 64
DATA = bytes(range(256)) * 400


@pytest.fixture
def odd() -> Iterator[Odd]:
    with odd_server() as found:
        yield found


def stats(**more: object) -> Reply:
    return reply(200, json.dumps({**STATS, **more}).encode())


def raw(head: str, body: bytes) -> Reply:
    """An answer to the byte, after which the connection ends."""

    def send(handler: BaseHTTPRequestHandler, _: bytes) -> None:
        handler.wfile.write(f"HTTP/1.1 {head}\r\n\r\n".replace("|", "\r\n").encode() + body)
        handler.wfile.flush()
        handler.connection.shutdown(socket.SHUT_RDWR)
        handler.close_connection = True

    return send


# -- bodies -------------------------------------------------------------------------------------------


def test_a_body_that_does_not_say_where_it_ends_is_refused(odd: Odd, tmp_path: Path) -> None:
    odd.replies = [raw("200 OK|Connection: close", b"hal")]
    with pytest.raises(LakeUnavailable, match="does not say where it ends"):
        odd.lake(tmp_path).fetch("repo", COMMIT, Entry(path="a", size=8))


def test_what_is_not_as_long_as_the_entry_gets_no_digest(odd: Odd, tmp_path: Path) -> None:
    odd.replies = [reply(200, b"half"), reply(200, b"complete")]
    lake = odd.lake(tmp_path)
    with pytest.raises(LakeUnavailable, match="4 bytes of an object of 8"):
        lake.fetch("repo", COMMIT, Entry(path="a", size=8))
    assert lake.fetch("repo", COMMIT, Entry(path="a", size=8)).digest == sha256(b"complete")


def test_a_body_that_was_encoded_on_the_way_is_refused(odd: Odd, tmp_path: Path) -> None:
    odd.replies = [reply(200, b"zipped", Content_Encoding="gzip")]
    with pytest.raises(LakeUnavailable, match="encoded as gzip"):
        odd.lake(tmp_path).open("repo", "main", "a")


def test_signed_bytes_must_be_as_many_as_the_lake_says(odd: Odd, tmp_path: Path) -> None:
    lake = odd.lake(tmp_path)
    lake._presigns = True
    odd.replies = [stats(physical_address=f"{odd.address}/signed"), reply(200, b"four")]
    with pytest.raises(LakeUnavailable, match="4 bytes, and the object of 5"):
        lake.open("repo", "main", "a")


def breaking(data: bytes, at: int, etag: str = '"e"') -> Reply:
    return raw(f"200 OK|ETag: {etag}|Content-Length: {len(data)}", data[:at])


def rest(data: bytes, at: int, etag: str = '"e"') -> Reply:
    return reply(206, data[at:], ETag=etag, Content_Range=f"bytes {at}-{len(data) - 1}/{len(data)}")


def test_a_body_that_breaks_off_is_gone_on_with(odd: Odd, tmp_path: Path) -> None:
    odd.replies = [breaking(DATA, 1000), rest(DATA, 1000)]
    with odd.lake(tmp_path).open("repo", "main", "a") as stream:
        assert stream.read() == DATA
    assert [headers.get("range") for *_, headers in odd.asked] == [None, f"bytes=1000-{len(DATA) - 1}"]


@pytest.mark.parametrize("other", [rest(DATA, 1000, '"f"'), rest(DATA, 999), reply(200, DATA, ETag='"e"')])
def test_a_body_is_not_gone_on_with_by_another_one(odd: Odd, tmp_path: Path, other: Reply) -> None:
    odd.replies = [breaking(DATA, 1000), other]
    with pytest.raises(LakeUnavailable), odd.lake(tmp_path).open("repo", "main", "a") as stream:
        stream.read()


@pytest.mark.parametrize("etag", ["", 'W/"e"'])
def test_a_body_without_a_strong_name_is_not_gone_on_with(odd: Odd, tmp_path: Path, etag: str) -> None:
    odd.replies = [breaking(DATA, 1000, etag)]
    with pytest.raises(LakeUnavailable), odd.lake(tmp_path).open("repo", "main", "a") as stream:
        stream.read()
    assert len(odd.asked) == 1


def test_a_body_that_breaks_off_again_and_again_is_given_up(odd: Odd, tmp_path: Path) -> None:
    again = raw(f'206 OK|ETag: "e"|Content-Length: 1|Content-Range: bytes 1000-{len(DATA) - 1}/{len(DATA)}', b"")
    odd.replies = [breaking(DATA, 1000), *[again] * 9]
    with pytest.raises(LakeUnavailable), odd.lake(tmp_path).open("repo", "main", "a") as stream:
        stream.read()
    assert len(odd.asked) == lakefs.RESETS


def test_a_download_from_a_served_lake_survives_a_cut_connection(tmp_path: Path) -> None:
    data = os.urandom(3 << 20)
    with served_address(tmp_path / "server") as found, cut_once(found.endpoint, 1 << 20) as relay:
        straight = RemoteLake(Server(found), ObjectStore(tmp_path / "a"), tmp_path / "b")
        straight.create_repository("repo")
        straight.put("repo", "main", "big", io.BytesIO(data))
        commit = straight.commit("repo", "main", "m").id
        key = Credentials(
            endpoint=relay.address, access_key_id=found.access_key_id, secret_access_key=found.secret_access_key
        )
        lake = RemoteLake(Server(key), ObjectStore(tmp_path / "c"), tmp_path / "d")
        lake._presigns = False
        entry = straight.stat("repo", commit, "big")
        assert lake.fetch("repo", commit, entry).digest == sha256(data)
        assert relay.cuts == 1


class cut_once:  # noqa: N801  (it reads as what it does)
    """A relay to a server that breaks off the first answer that is longer than ``most`` bytes."""

    def __init__(self, endpoint: str, most: int) -> None:
        self.target = endpoint.removeprefix("http://")
        self.most, self.cuts = most, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.thread = threading.Thread(target=self.accept)

    def __enter__(self) -> cut_once:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.listener.close()

    def accept(self) -> None:
        host, port = self.target.split(":")
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            far = socket.create_connection((host, int(port)))
            threading.Thread(target=self.carry, args=(near, far, None), daemon=True).start()
            threading.Thread(target=self.carry, args=(far, near, self.most), daemon=True).start()

    def carry(self, source: socket.socket, target: socket.socket, most: int | None) -> None:
        carried = 0
        with suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
                carried += len(data)
                if most is not None and carried > most and not self.cuts:
                    self.cuts += 1
                    break
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


# -- asking again -------------------------------------------------------------------------------------


def test_an_upload_whose_answer_was_lost_is_sent_again(odd: Odd, tmp_path: Path) -> None:
    odd.replies = [hang_up, stats()]
    assert odd.lake(tmp_path).put("repo", "main", "a", io.BytesIO(b"bytes")).digest == sha256(b"bytes")
    assert [body for _, _, body, _ in odd.asked] == [b"bytes", b"bytes"]


def test_a_removal_whose_answer_was_lost_was_done(odd: Odd, tmp_path: Path) -> None:
    odd.replies = [hang_up, reply(404, b'{"message": "not found"}')]
    odd.lake(tmp_path).delete_repository("repo")
    assert len(odd.asked) == 2


def test_a_server_that_keeps_silent_is_asked_once(odd: Odd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lakefs, "READ", 0.2)
    odd.replies = [lambda *_: time.sleep(1)] * 3
    with pytest.raises(LakeUnavailable, match="does not answer"):
        odd.lake(tmp_path).repositories()
    assert len(odd.asked) == 1


def test_what_the_server_asks_to_wait_is_waited(odd: Odd, tmp_path: Path) -> None:
    odd.replies = [reply(429, Retry_After="1"), reply(200, REPOSITORIES)]
    started = time.monotonic()
    odd.lake(tmp_path).repositories()
    assert time.monotonic() - started >= 1


@pytest.mark.parametrize("status", [423, 429, 503])
def test_a_server_that_wants_more_patience_than_there_is_is_given_up_at_once(
    odd: Odd, tmp_path: Path, status: int
) -> None:
    odd.replies = [reply(status, b'{"message": "slow down"}', Retry_After="3600")]
    started = time.monotonic()
    with pytest.raises(LakeUnavailable, match=f"{status}: slow down"):
        odd.lake(tmp_path).commit("repo", "main", "m")
    assert time.monotonic() - started < 1


def test_the_time_to_wait_may_be_a_date() -> None:
    then = datetime.now(UTC) + timedelta(seconds=30)
    assert 25 < seconds(format_datetime(then, usegmt=True)) <= 30
    assert (seconds("Wed, 21 Oct 2015 07:28:00 GMT"), seconds("soon"), seconds(None), seconds("7")) == (0, 0, 0, 7)


# -- answers that no lake gives -----------------------------------------------------------------------

ASK: dict[str, Callable[[RemoteLake], object]] = {
    "repositories": lambda lake: lake.repositories(),
    "create_repository": lambda lake: lake.create_repository("repo"),
    "resolve": lambda lake: lake.resolve("repo", "main"),
    "branches": lambda lake: lake.branches("repo"),
    "create_branch": lambda lake: lake.create_branch("repo", "b", "main"),
    "list": lambda lake: list(lake.list("repo", "main")),
    "stat": lambda lake: lake.stat("repo", "main", "a"),
    "put": lambda lake: lake.put("repo", "main", "a", io.BytesIO(b"x")),
    "changes": lambda lake: list(lake.changes("repo", "main")),
    "commit": lambda lake: lake.commit("repo", "main", "m"),
    "log": lambda lake: list(lake.log("repo", "main")),
    "diff": lambda lake: list(lake.diff("repo", "main", "b")),
    "merge": lambda lake: lake.merge("repo", "b", "main", Signed(message="m")),
    "revert": lambda lake: lake.revert("repo", "main", "main", Signed(message="m")),
    "cherry_pick": lambda lake: lake.cherry_pick("repo", "main", "b", Signed(message="m")),
}
NO_ANSWERS = {
    "nothing": {},
    "no such fields": {"results": [{}], "pagination": {"has_more": False}},
    "numbers": {"results": [1], "pagination": {"has_more": False}, "storage_config": 1, "parents": 1},
    "no more": {"results": [{}], "pagination": {}, "storage_config": None, "path_type": None},
}


@pytest.mark.parametrize("kind", sorted(NO_ANSWERS))
@pytest.mark.parametrize("name", sorted(ASK))
def test_an_answer_of_another_form_is_an_error_of_ours(odd: Odd, tmp_path: Path, name: str, kind: str) -> None:
    odd.replies = [reply(200, json.dumps(NO_ANSWERS[kind]).encode())] * 9
    with pytest.raises(LakeUnavailable, match="not the API of a lake"):
        ASK[name](odd.lake(tmp_path))


def test_a_page_that_leads_to_itself_ends(odd: Odd, tmp_path: Path) -> None:
    page = {"results": [], "pagination": {"has_more": True, "next_offset": "x"}}
    odd.replies = [reply(200, json.dumps(page).encode())] * 9
    with pytest.raises(LakeUnavailable):
        list(odd.lake(tmp_path).list("repo", "main"))
    assert len(odd.asked) == 2


# -- what is not allowed ------------------------------------------------------------------------------


def test_what_a_key_may_read_but_not_list_is_named_all_the_same(odd: Odd, tmp_path: Path) -> None:
    denied = reply(403, b'{"message": "insufficient permissions"}')
    odd.replies = [reply(404, b'{"message": "no such path"}'), denied, denied]
    with pytest.raises(ObjectNotFound, match=r"lakefs://repo/main/a.*no such path"):
        odd.lake(tmp_path).stat("repo", "main", "a")


def test_a_permission_that_lacks_is_not_taken_for_a_wrong_key(odd: Odd, tmp_path: Path) -> None:
    odd.replies = [reply(403, b'{"message": "cannot write to protected branch"}')]
    with pytest.raises(LakeDenied, match="protected branch") as raised:
        odd.lake(tmp_path).commit("repo", "main", "m")
    assert "permission" in raised.value.hint


def test_a_hook_may_refuse_that_a_tag_goes(odd: Odd, tmp_path: Path) -> None:
    odd.replies = [reply(412, b'{"message": "pre-delete-tag hook says no"}')]
    with pytest.raises(HookRefused, match="says no"):
        odd.lake(tmp_path).delete_tag("repo", "v1")


@pytest.mark.parametrize("status", [400, 403, 404, 500])
def test_what_storage_says_of_a_signed_address_is_not_shown(odd: Odd, tmp_path: Path, status: int) -> None:
    lake = odd.lake(tmp_path)
    lake._presigns = True
    odd.replies = [stats(physical_address=f"{odd.address}/a?Signature=SIGN"), reply(status, b"<Key>SIGN</Key>")]
    with pytest.raises(LakeUnavailable, match=f"lake's storage answered {status}") as raised:
        lake.open("repo", "main", "a")
    assert "SIGN" not in str(raised.value) + repr(raised.value)


def test_storage_that_is_out_of_reach_is_named_without_the_signature(odd: Odd, tmp_path: Path) -> None:
    lake = odd.lake(tmp_path)
    lake._presigns = True
    odd.replies = [stats(physical_address="http://127.0.0.1:9/a?Signature=SIGN")]
    with pytest.raises(LakeUnavailable) as raised:
        lake.open("repo", "main", "a")
    assert raised.value.place == "http://127.0.0.1:9"
    assert "SIGN" not in str(raised.value)


# -- where bytes lie ----------------------------------------------------------------------------------


def config(**storage: object) -> Reply:
    return reply(200, json.dumps({"storage_config": storage}).encode())


MADE = reply(201, b'{"id": "repo", "default_branch": "main", "creation_date": 1}')


@pytest.mark.parametrize(
    ("storage", "namespace"),
    [
        ({}, "local://repo"),
        ({"blockstore_type": "mem"}, "mem://repo"),
        ({"blockstore_type": "s3", "default_namespace_prefix": "s3://bucket/lake"}, "s3://bucket/lake/repo"),
        ({"blockstore_type": "s3", "default_namespace_prefix": "s3://bucket/"}, "s3://bucket/repo"),
    ],
)
def test_a_repository_lies_where_the_server_says(
    odd: Odd, tmp_path: Path, storage: dict[str, object], namespace: str
) -> None:
    odd.replies = [config(**storage), MADE]
    odd.lake(tmp_path).create_repository("repo")
    assert json.loads(odd.asked[1][2])["storage_namespace"] == namespace


def test_a_server_that_does_not_say_where_is_told_of(odd: Odd, tmp_path: Path) -> None:
    odd.replies = [config(blockstore_type="s3")]
    with pytest.raises(UsageError, match="default_namespace_prefix"):
        odd.lake(tmp_path).create_repository("repo")


@pytest.mark.parametrize(("kind", "block"), [("azure", "BlockBlob"), ("s3", None)])
def test_a_large_object_goes_to_where_it_is_to_lie(odd: Odd, tmp_path: Path, kind: str, block: str | None) -> None:
    size = LARGE
    place = json.dumps({"physical_address": "p", "presigned_url": f"{odd.address}/put?Signature=S"}).encode()
    linked = stats(size_bytes=size)
    odd.replies = [
        config(blockstore_type=kind, pre_sign_support=True), reply(200, place), reply(200, b"", ETag='"e"'), linked,
    ]  # fmt: skip
    lake = odd.lake(tmp_path)
    lake._presigns = None
    entry = lake.put("repo", "main", "a", io.BytesIO(b"x" * size))
    assert entry.digest == sha256(b"x" * size)
    assert [asked[0] for asked in odd.asked] == ["GET", "GET", "PUT", "PUT"]
    _, _, sent, headers = odd.asked[2]
    assert (len(sent), headers.get("x-ms-blob-type"), "authorization" in headers) == (size, block, False)
    assert json.loads(odd.asked[3][2])["checksum"] == "e"


# -- the way there ------------------------------------------------------------------------------------


def test_a_server_behind_a_proxy_is_asked_through_it(odd: Odd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", odd.address.replace("http://", "http://user:p%40ss@"))
    found = Credentials(endpoint="http://lake.invalid", access_key_id="i", secret_access_key="s")
    odd.replies = [reply(200, REPOSITORIES)]
    assert RemoteLake(Server(found), ObjectStore(tmp_path), tmp_path).repositories() == []
    _, path, _, headers = odd.asked[0]
    assert path.startswith("http://lake.invalid/api/v1/repositories")
    assert headers["proxy-authorization"] == "Basic dXNlcjpwQHNz"


def test_no_proxy_stands_before_this_machine_or_what_is_excepted() -> None:
    set_ = {"HTTPS_PROXY": "proxy.invalid:3128", "no_proxy": "inside.invalid"}
    assert proxy_for(set_, "https://lake.invalid") == ("http://proxy.invalid:3128", "")
    assert proxy_for(set_, "https://lake.inside.invalid:8443") is None
    assert proxy_for(set_, "https://localhost:8000") is None
    assert proxy_for(set_, "http://lake.invalid") is None
    with pytest.raises(UsageError, match="not the URL of a proxy"):
        proxy_for({"all_proxy": "socks5://proxy.invalid"}, "http://lake.invalid")


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A server with a certificate that it made itself: its address, and the certificate."""
    folder = tmp_path_factory.mktemp("tls")
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", "key", "-out", "certificate"]
    subprocess.run([*made, *names], cwd=folder, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate", folder / "key")
    with odd_server(context) as seen:
        seen.replies = [reply(200, REPOSITORIES)] * 9
        yield seen.address.replace("127.0.0.1", "localhost"), folder / "certificate"


def ask(address: str, folder: Path) -> object:
    found = Credentials(endpoint=address, access_key_id="i", secret_access_key="s")
    return RemoteLake(Server(found), ObjectStore(folder), folder).repositories()


def test_a_certificate_that_nobody_trusts_ends_it_with_what_to_set(
    secure: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(LakeUnavailable) as raised:
        ask(secure[0], tmp_path)
    assert "SSL_CERT_FILE" in raised.value.hint


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_a_certificate_of_ones_own_is_trusted_when_it_is_named(
    secure: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv(name, str(secure[1]))
    assert ask(secure[0], tmp_path) == []


def test_certificates_that_are_not_there_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "none.pem")
    with pytest.raises(UsageError, match=r"SSL_CERT_FILE: no file .none\.pem"):
        ask("https://localhost:9", tmp_path)
