"""What the server of the embedded lake answers over a real socket: to good requests, bad ones, slow ones and many."""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import secrets
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain, repeat
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from engine.digest import sha256
from engine.lake.embedded.lake import EmbeddedLake
from engine.store.objects import ObjectStore
from faces import API, Answer, Face, another, new_repository

# -- who may come in ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [None, "Basic xxx", "Basic QTpC", "Bearer a.99999999999.b", "Basic " + "A" * 5000, f"Bearer a.{'9' * 5000}.b"],
    ids=range(6),
)
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
    with another(face) as (process, other, said):
        assert other.ask("GET", f"{API}/repositories/{repo}").status == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
    assert said["secret_access_key"] is None


def test_ctrl_c_ends_a_server_that_clients_keep_waiting(face: Face, repo: str) -> None:
    face.put(repo, "large", b"x" * 20_000_000)
    place, rest = f"{API}/repositories/{repo}", f"HTTP/1.1\r\nHost: localhost\r\nAuthorization: {face.key}\r\n"
    upload = f"POST {place}/branches/main/objects?path=a {rest}Content-Length: 9000000\r\n\r\n" + "x" * 3_000_000
    download = f"GET {place}/refs/main/objects?path=large {rest}\r\n"
    unfinished = f"GET {place} {rest}"
    with another(face) as (process, other, _), ExitStack() as clients:
        for sent in (upload, download, unfinished):
            client = clients.enter_context(socket.create_connection(other.address, timeout=10))
            client.sendall(sent.encode())
        assert other.ask("GET", f"{API}/config").status == 200
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert time.monotonic() - started < 5
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
    assert list((face.folder / ".engine" / "objects").glob("tmp/*")) == []
    assert face.get(repo, "a").status == 404


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
    ("POST", "/repositories/REPO/branches/main/import", {"paths": [1]}, 400),
    ("GET", f"/repositories/REPO/refs/main/objects/ls?amount={'9' * 5000}", None, 400),
    ("POST", "/repositories/REPO/branches/main/commits", {"message": "m", "date": "now"}, 400),
    ("POST", "/repositories/REPO/branches/main/commits", {"message": "m", "date": 1 << 63}, 400),
    ("POST", "/repositories/REPO/branches/main/revert", {"ref": ["main"]}, 400),
    ("POST", "/repositories/REPO/branches/main/revert", {"ref": "main", "parent_number": (1 << 64) - 1}, 400),
    ("POST", "/repositories/REPO/refs/main/merge/main", {"strategy": "mine"}, 400),
    ("PUT", "/repositories/REPO/branches/main/objects/stat/user_metadata?path=a", {"set": {"a": 1}}, 404),
    ("POST", "/repositories/REPO/branches/main/objects?path=" + "x" * 1025, b"", 400),
    ("POST", "/repositories/REPO/branches/main/objects?path=", b"", 400),
    ("GET", "/repositories/REPO/actions/runs/none", None, 404),
    ("GET", "/repositories/REPO/refs/a%00b/commits", None, 404),
    ("POST", "/auth/users", {}, 501),
    ("POST", "/repositories?bare=true", {"name": "bare-one"}, 501),
    ("POST", "/repositories", {"name": "read-only", "read_only": True}, 501),
    ("POST", "/repositories/REPO/refs/main/merge/main", {"squash_merge": True}, 501),
    ("GET", "/repositories/REPO/settings/gc_rules", None, 501),
]


@pytest.mark.parametrize(("method", "path", "body", "status"), BAD, ids=[f"{m} {p[:60]} {s}" for m, p, _, s in BAD])
def test_a_bad_request_has_its_status_and_a_message_that_gives_nothing_away(
    face: Face, repo: str, method: str, path: str, body: object, status: int
) -> None:
    answer = face.ask(method, API + path.replace("REPO", repo), body)
    assert answer.status == status
    assert answer.json["message"]
    assert str(face.folder) not in answer.body.decode()
    assert "Traceback" not in answer.body.decode()


def test_an_object_that_is_too_large_is_413_and_leaves_nothing(tight: Face) -> None:
    assert tight.put("repo", "big", b"x" * 20_000_001).status == 413
    assert tight.get("repo", "big").status == 404
    assert [path for path in (tight.folder / ".engine" / "objects").rglob("tmp/*") if path.is_file()] == []
    assert tight.put("repo", "fits", b"x" * 20_000_000).status == 201


@pytest.mark.parametrize("sent", [4, 1_500_000], ids=["a little", "so much that it is being written"])
def test_a_slow_client_is_given_up_and_keeps_nobody_waiting(tight: Face, sent: int) -> None:
    with socket.create_connection(tight.address, timeout=10) as slow:
        head = f"POST {API}/repositories/repo/branches/main/objects?path=slow HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        slow.sendall(f"{head}Authorization: {tight.key}\r\nContent-Length: 1600000\r\n\r\n".encode() + b"x" * sent)
        started = time.monotonic()
        assert tight.ask("GET", f"{API}/repositories").status == 200
        assert time.monotonic() - started < 1
        assert slow.recv(4096).startswith(b"HTTP/1.1 408")
    assert tight.get("repo", "slow").status == 404
    assert [path for path in (tight.folder / ".engine" / "objects").rglob("tmp/*") if path.is_file()] == []


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


@pytest.mark.parametrize("header", ['"x","{}"', 'W/"{}"', "*", '"{}", "x"'])
def test_who_has_an_object_already_is_not_sent_it_again(face: Face, ranged: str, header: str) -> None:
    answer = face.get(ranged, "small", headers={"If-None-Match": header.format(sha256(DATA))})
    assert (answer.status, answer.body) == (304, b"")
    assert face.get(ranged, "small", headers={"If-None-Match": '"x"'}).body == DATA


def test_a_download_goes_on_only_if_the_object_is_still_the_same(face: Face, ranged: str) -> None:
    wanted = {"Range": "bytes=1000-"}
    same = face.get(ranged, "small", headers={**wanted, "If-Range": f'"{sha256(DATA)}"'})
    other = face.get(ranged, "small", headers={**wanted, "If-Range": '"other"'})
    assert (same.status, same.body) == (206, DATA[1000:])
    assert (other.status, other.body) == (200, DATA)


def test_of_many_that_want_to_be_the_first_at_a_path_one_is(face: Face, repo: str) -> None:
    barrier = threading.Barrier(16)

    def client(number: int) -> int:
        barrier.wait(30)
        return face.put(repo, "once", f"{number}".encode(), headers={"If-None-Match": "*"}).status

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(client, range(16)))
    assert sorted(found) == [201] + [412] * 15
    assert face.get(repo, "once").body == f"{found.index(201)}".encode()


@pytest.mark.parametrize("condition", [{"If-Match": '"x"'}, {"If-None-Match": '"x"'}], ids=["is", "is not"])
def test_a_condition_of_a_write_that_is_not_supported_is_not_passed_over(
    face: Face, repo: str, condition: dict[str, str]
) -> None:
    assert face.put(repo, "a", b"x", headers=condition).status == 501
    assert face.get(repo, "a").status == 404


PART = b'--XX\r\nContent-Disposition: form-data; name="%s"; filename="f"\r\n\r\n'
FORMS = [
    ("whole", PART % b"content" + b"bytes\r\n--XX--\r\n", 201),
    ("empty object", PART % b"content" + b"\r\n--XX--\r\n", 201),
    ("ends early", PART % b"content" + b"half of the by", 400),
    ("ends behind the first line", b"--XX\r\n", 400),
    ("other part", PART % b"other" + b"bytes\r\n--XX--\r\n", 400),
    ("no form", b"bytes", 400),
    ("nothing", b"", 400),
]


@pytest.mark.parametrize(("body", "status"), [row[1:] for row in FORMS], ids=[row[0] for row in FORMS])
def test_only_a_form_that_came_to_its_end_is_an_upload(face: Face, repo: str, body: bytes, status: int) -> None:
    place = f"{API}/repositories/{repo}/branches/main/objects"
    sent = face.ask("POST", place, body, headers={"Content-Type": "multipart/form-data; boundary=XX"}, path="a")
    assert sent.status == status
    assert face.get(repo, "a").status == (200 if status == 201 else 404)


def test_of_two_parts_with_the_content_the_first_is_it(face: Face, repo: str) -> None:
    body = PART % b"note" + b"x\r\n" + PART % b"content" + b"one\r\n" + PART % b"content" + b"two\r\n--XX--\r\n"
    place = f"{API}/repositories/{repo}/branches/main/objects"
    face.ask("POST", place, body, headers={"Content-Type": "multipart/form-data; boundary=XX"}, path="a")
    assert face.get(repo, "a").body == b"one"


def test_a_presigned_address_needs_no_key_and_cannot_be_altered(face: Face, repo: str) -> None:
    face.put(repo, "a", b"text")
    place = f"{API}/repositories/{repo}/refs/main/objects/stat"
    url = urlsplit(face.ask("GET", place, path="a", presign="true").json["physical_address"])
    assert face.ask("GET", f"{url.path}?{url.query}", key=None).body == b"text"
    other = url.path.replace(sha256(b"text"), sha256(b"a"))
    altered = [re.sub("expires=", "expires=9", url.query), re.sub("[0-9]+", "9" * 5000, url.query, count=1), ""]
    for path, query in [(other, url.query), *((url.path, query) for query in altered)]:
        assert face.ask("GET", f"{path}?{query}", key=None).status == 403


def test_a_presigned_address_is_of_no_use_when_its_time_is_over(tight: Face) -> None:
    assert tight.ask("GET", f"/presigned/objects/{'a' * 64}?{tight.over}", key=None).status == 403


@pytest.mark.parametrize("query", ["", "expires=99999999999&signature=x"])
def test_nothing_is_uploaded_to_an_address_that_was_not_issued(face: Face, repo: str, query: str) -> None:
    place = f"{API}/repositories/{repo}/branches/main/staging/backing"
    token = face.ask("GET", place, path="a").json["physical_address"].rpartition("/")[2]
    for name in (token, "other", "..%2f.."):
        assert face.ask("PUT", f"/presigned/uploads/{name}?{query}", b"bytes", key=None).status in (403, 404)
    staging = {"physical_address": f"local://uploads/{token}"}
    assert face.ask("PUT", place, {"staging": staging, "checksum": "x", "size_bytes": 5}, path="a").status == 400


def test_a_link_replaces_nothing_where_a_new_path_is_wanted(face: Face, repo: str) -> None:
    place, new = f"{API}/repositories/{repo}/branches/main/staging/backing", {"If-None-Match": "*"}
    for status, bytes_there in ((200, b"first"), (412, b"first")):
        staging = face.ask("GET", place, path="a", presign="true").json
        url = urlsplit(staging["presigned_url"])
        face.ask("PUT", f"{url.path}?{url.query}", b"first" if status == 200 else b"other", key=None)
        body = {"staging": staging, "checksum": "x", "size_bytes": 5}
        assert face.ask("PUT", place, body, path="a", headers=new).status == status
        assert face.get(repo, "a").body == bytes_there


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


def imported(face: Face, repo: str, started: Answer) -> Any:
    """What became of an import."""
    place = f"{API}/repositories/{repo}/branches/main/import"
    while not (status := face.ask("GET", place, id=started.json["id"]).json)["completed"]:
        time.sleep(0.02)
    return status


def test_a_folder_with_a_link_out_of_the_import_roots_is_not_imported(face: Face, repo: str) -> None:
    status = imported(face, repo, import_from(face, repo, f"file://{face.folder}/inside/", "common_prefix"))
    assert "--import-root" in status["error"]["message"]
    assert "commit" not in status
    assert face.ask("GET", f"{API}/repositories/{repo}/refs/main/objects/ls").json["results"] == []


ABSENT = [("none", "object"), ("a.csv", "common_prefix"), ("", "object"), ("pipe", "object"), ("y" * 300, "object")]


@pytest.mark.parametrize(("name", "kind"), ABSENT, ids=[f"{name[:5]} {kind}" for name, kind in ABSENT])
def test_an_import_that_cannot_be_says_so_and_not_where_files_lie(face: Face, repo: str, name: str, kind: str) -> None:
    status = imported(face, repo, import_from(face, repo, f"file://{face.folder}/inside/{name}", kind))
    assert status["error"]["message"]
    assert str(face.folder) not in json.dumps(status)


@pytest.mark.parametrize("url", ["file:///a%00b", "file://[", "file://elsewhere/a", "s3://bucket/a", "a.csv", ""])
def test_what_is_no_address_of_a_file_is_not_imported(face: Face, repo: str, url: str) -> None:
    assert import_from(face, repo, url).status == 400


def test_what_lies_in_an_import_root_is_imported_and_committed(face: Face, repo: str) -> None:
    status = imported(face, repo, import_from(face, repo, f"file://{face.folder}/inside/a.csv"))
    assert (status["commit"]["message"], status["ingested_objects"]) == ("imported", 1)
    assert face.get(repo, "in/", "main@").body == b"a"
    assert face.ask("GET", f"{API}/repositories/{repo}/branches/main/import", id="other").status == 404


@pytest.mark.parametrize(("time", "status"), [(0, 200), (1 << 31, 200), (-1, 400), (10**12, 400), (1 << 63, 400)])
def test_an_object_has_a_time_that_a_calendar_has_and_can_be_read(
    face: Face, repo: str, time: int, status: int
) -> None:
    place = f"{API}/repositories/{repo}/branches/main/staging/backing"
    staging = face.ask("GET", place, path="a", presign="true").json
    url = urlsplit(staging["presigned_url"])
    face.ask("PUT", f"{url.path}?{url.query}", b"bytes", key=None)
    body = {"staging": staging, "checksum": "x", "size_bytes": 5, "mtime": time}
    assert face.ask("PUT", place, body, path="a").status == status
    assert face.get(repo, "a").status == (200 if status == 200 else 404)


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


def test_a_part_of_an_altered_object_is_not_given_either(face: Face, repo: str) -> None:
    data = secrets.token_bytes(3_000_000)
    face.put(repo, "a", data)
    path = ObjectStore(face.folder / ".engine" / "objects").path(sha256(data))
    path.chmod(0o644)
    with path.open("r+b") as stream:
        stream.seek(10)
        stream.write(bytes([data[10] ^ 1]))
    for wanted in ("bytes=0-99", "bytes=5-99", "bytes=-99", "bytes=0-2999998"):
        assert face.get(repo, "a", headers={"Range": wanted}).status == 500


def test_a_hook_that_says_no_is_412_and_its_run_can_be_asked_for(face: Face, repo: str) -> None:
    face.put(repo, "_lakefs_actions/guard.yaml", b"not an action")
    answer = face.ask("POST", f"{API}/repositories/{repo}/branches/main/commits", {"message": "m"})
    assert answer.status == 412
    runs = face.ask("GET", f"{API}/repositories/{repo}/actions/runs").json["results"]
    assert [(run["event_type"], run["status"]) for run in runs] == [("pre-commit", "failed")]


ACTION = """
name: guard
on: {pre-commit: {branches: [main]}}
hooks: [{id: asked, type: webhook, properties: {url: "http://127.0.0.1:PORT/hook"}}]
"""


class Refusing(BaseHTTPRequestHandler):
    """Says no to every hook."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(422)
        self.end_headers()
        self.wfile.write(b"bad column")

    def log_message(self, *_: object) -> None:
        pass


def test_a_webhook_that_refuses_stops_the_commit_and_its_words_are_kept(face: Face, repo: str) -> None:
    place = f"{API}/repositories/{repo}"
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as hooks:
        threading.Thread(target=hooks.serve_forever, args=(0.02,), daemon=True).start()
        face.put(repo, "_lakefs_actions/guard.yaml", ACTION.replace("PORT", str(hooks.server_port)).encode())
        answer = face.ask("POST", f"{place}/branches/main/commits", {"message": "m"})
        hooks.shutdown()
    assert answer.status == 412
    assert "bad column" in answer.json["message"]
    assert len(face.ask("GET", f"{place}/refs/main/commits").json["results"]) == 1
    run = face.ask("GET", f"{place}/actions/runs").json["results"][0]["run_id"]
    hook = face.ask("GET", f"{place}/actions/runs/{run}/hooks").json["results"][0]
    assert (hook["hook_id"], hook["status"]) == ("asked", "failed")
    output = face.ask("GET", f"{place}/actions/runs/{run}/hooks/{hook['hook_run_id']}/output")
    assert "bad column" in output.body.decode()


def test_what_the_server_wrote_is_what_the_embedded_lake_reads(face: Face, repo: str) -> None:
    face.put(repo, "a", b"1")
    id = face.ask("POST", f"{API}/repositories/{repo}/branches/main/commits", {"message": "m"}).json["id"]
    home = face.folder / ".engine"
    lake = EmbeddedLake(home / "lake", ObjectStore(home / "objects"))
    assert lake.resolve(repo, "main") == id
    assert lake.open(repo, "main", "a").read() == b"1"


def peak(process: int) -> int:
    """The most memory that a process ever held, in KiB."""
    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{process}/status").read_text())
    assert found is not None
    return int(found[1])


def up_and_down(face: Face, repo: str, mebibytes: int, form: bool) -> None:
    """Send an object block by block, and fetch it likewise: what comes back is what was sent."""
    block = bytes(range(256)) * 4096
    head, tail = (PART % b"content", b"\r\n--XX--\r\n") if form else (b"", b"")
    size = len(head) + mebibytes * len(block) + len(tail)
    kind = "multipart/form-data; boundary=XX" if form else "application/octet-stream"
    connection = http.client.HTTPConnection(*face.address, timeout=60)
    headers = {"Authorization": face.key, "Content-Type": kind, "Content-Length": str(size)}
    place = f"{API}/repositories/{repo}"
    body = chain([head], repeat(block, mebibytes), [tail])
    connection.request("POST", f"{place}/branches/main/objects?path=a", body, headers)
    with connection.getresponse() as response:
        assert (response.status, len(response.read()) > 0) == (201, True)
    connection.request("GET", f"{place}/refs/main/objects?path=a", headers={"Authorization": face.key})
    with connection.getresponse() as response:
        hasher, sent = hashlib.sha256(), hashlib.sha256()
        while found := response.read(1 << 20):
            hasher.update(found)
    connection.close()
    for _ in range(mebibytes):
        sent.update(block)
    assert hasher.digest() == sent.digest()


def growth(face: Face, repo: str, mebibytes: int) -> int:
    """How many KiB more a server takes for an object of that many MiB than for one of 4."""
    with another(face) as (process, other, _):
        for form in (True, False):
            up_and_down(other, repo, 4, form)
        before = peak(process.pid)
        for form in (True, False):
            up_and_down(other, repo, mebibytes, form)
        return peak(process.pid) - before


def test_a_large_object_takes_little_memory_of_the_server(face: Face, repo: str) -> None:
    assert growth(face, repo, 128) < 32 * 1024


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_gibibyte_takes_little_memory_of_the_server(face: Face, repo: str) -> None:
    assert growth(face, repo, 1024) < 32 * 1024
