"""The served lake at its edges: heads of requests, hosts, full disks, pages of folders, logs of paths, imports."""

from __future__ import annotations

import http.client
import json
import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from engine.digest import sha256
from faces import API, Face, new_repository, tight_face
from lakes import served_address


def branch_of(repo: str, name: str = "main") -> str:
    return f"{API}/repositories/{repo}/branches/{name}"


def commit(face: Face, repo: str, message: str, time: int | None = None, **texts: str) -> str:
    for path, text in texts.items():
        assert face.put(repo, path, text.encode()).status == 201
    answer = face.ask("POST", f"{branch_of(repo)}/commits", {"message": message, "date": time, "allow_empty": True})
    return str(answer.json["id"])


def pages(face: Face, place: str, **query: Any) -> Iterator[list[Any]]:
    """The pages of a listing."""
    for _ in range(100):
        found = face.ask("GET", place, **query).json
        yield found["results"]
        if not found["pagination"]["has_more"]:
            return
        query["after"] = found["pagination"]["next_offset"]
    pytest.fail("the pages do not end")


# -- heads --------------------------------------------------------------------------------------------


def spoken(face: Face, *parts: bytes) -> bytes:
    """What a server says to bytes on a new connection until it closes it."""
    found = b""
    with socket.create_connection(face.address, timeout=10) as client:
        try:
            for part in parts:
                client.sendall(part)
                time.sleep(0.01)
        except OSError:
            pass  # it has heard enough
        try:
            while data := client.recv(65536):
                found += data
        except ConnectionResetError:
            pass
    return found


HEADS = {
    "nothing": ([], 408),
    "half a line": ([b"GET / HT"], 408),
    "half a head": ([b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"], 408),
    "an endless line": ([b"GET /", *[b"x" * 20_000] * 20], 431),
    "endless lines": ([b"GET / HTTP/1.1\r\n", *[b"a: " + b"x" * 20_000 + b"\r\n"] * 20], 431),
    "no request": ([b"good evening\r\n\r\n"], 400),
    "two lengths": ([b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"], 400),
}


@pytest.mark.parametrize(("parts", "status"), HEADS.values(), ids=HEADS)
def test_a_head_that_does_not_end_or_is_none_is_answered_and_no_longer_heard(
    tight: Face, parts: list[bytes], status: int
) -> None:
    answer = spoken(tight, *parts)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert b'\r\n\r\n{"message":"' in answer


def test_a_second_request_may_come_late_and_many_may_come_at_once(tight: Face) -> None:
    with socket.create_connection(tight.address, timeout=10) as client:
        client.sendall(f"GET {API}/healthcheck HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        assert client.recv(4096).startswith(b"HTTP/1.1 204")
        time.sleep(1.2)
        client.sendall(f"GET {API}/healthcheck HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode() * 3)
        found = b""
        while found.count(b"HTTP/1.1 204") < 3 and (data := client.recv(4096)):
            found += data
        assert found.count(b"HTTP/1.1 204") == 3


def test_an_answer_that_is_long_in_coming_is_not_cut_by_the_next_request(tight: Face) -> None:
    data = b"x" * 20_000_000
    tight.put("repo", "long", data)
    with socket.create_connection(tight.address, timeout=10) as client:
        place = f"{API}/repositories/repo/refs/main/objects?path=long"
        client.sendall(f"GET {place} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {tight.key}\r\n\r\nGET".encode())
        time.sleep(1.5)
        found = bytearray()
        while len(found) < len(data) and (block := client.recv(1 << 20)):
            found += block
        assert found.startswith(b"HTTP/1.1 200")
        assert len(found) > len(data)


# -- hosts --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def everywhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Face]:
    """A server that listens on all addresses."""
    folder = tmp_path_factory.mktemp("everywhere")
    with served_address(folder, "--host", "0.0.0.0") as found:
        yield Face(credentials=found, folder=folder)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.2", 200), ("10.1.2.3:80", 200), ("[fe80::1]:80", 200), ("LocalHost", 200),
        ("evil.example", 421), ("1.2.3.4.evil.example", 421), ("[::1", 421), ("127.0.0.1:80:80", 421), ("", 421),
    ],
)  # fmt: skip
def test_a_server_on_all_addresses_goes_by_any_number_and_by_no_name(everywhere: Face, host: str, status: int) -> None:
    assert everywhere.ask("GET", f"{API}/repositories", headers={"Host": host}).status == status


def test_a_server_on_loopback_goes_by_no_other_number(face: Face) -> None:
    assert face.ask("GET", f"{API}/repositories", headers={"Host": "10.1.2.3"}).status == 421


def test_a_presigned_address_calls_the_server_as_the_client_does(everywhere: Face) -> None:
    repo = new_repository(everywhere)
    everywhere.put(repo, "a", b"text")
    host = f"localhost:{everywhere.address[1]}"
    place = f"{API}/repositories/{repo}/refs/main/objects/stat"
    found = everywhere.ask("GET", place, path="a", presign="true", headers={"Host": host}).json["physical_address"]
    assert urlsplit(found).netloc == host


# -- texts and numbers --------------------------------------------------------------------------------


def test_a_path_that_is_not_utf8_is_refused_and_not_renamed(face: Face, repo: str) -> None:
    place = f"{branch_of(repo)}/objects?path=%ff%fe"
    assert face.ask("POST", place, b"x", headers={"Content-Type": "application/octet-stream"}).status == 400
    assert face.ask("GET", f"{API}/repositories/{repo}/refs/main/objects/ls").json["results"] == []


def test_what_a_user_writes_on_an_object_may_be_any_text_in_utf8(face: Face, repo: str) -> None:
    face.put(repo, "a", b"x", headers={"x-lakefs-meta-who": "Jørgen 中".encode()})
    stat = face.ask("GET", f"{API}/repositories/{repo}/refs/main/objects/stat", path="a").json
    assert stat["metadata"] == {"who": "Jørgen 中"}


@pytest.mark.parametrize("delimiter", ["", "/"])
@pytest.mark.parametrize("presign", ["false", "true"])
def test_a_listing_can_leave_out_what_users_wrote(face: Face, repo: str, delimiter: str, presign: str) -> None:
    face.put(repo, "a", b"x", headers={"x-lakefs-meta-k": "v"})
    place = f"{API}/repositories/{repo}/refs/main/objects/ls"
    for wanted, there in (("true", True), ("false", False)):
        found = face.ask("GET", place, user_metadata=wanted, delimiter=delimiter, presign=presign).json["results"]
        assert ("metadata" in found[0]) is there


def test_an_object_that_is_not_there_can_be_deleted_as_in_lakefs(face: Face, repo: str) -> None:
    assert face.ask("DELETE", f"{branch_of(repo)}/objects", path="none").status == 204
    assert face.ask("DELETE", f"{branch_of(repo, 'none')}/objects", path="none").status == 404


def test_a_path_with_a_slash_at_its_end_is_another_and_no_redirect(face: Face, repo: str) -> None:
    assert face.ask("GET", f"{API}/repositories/{repo}/").status == 501


# -- full ---------------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Face]:
    """A server whose home lies on a disk of three megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)], check=False).returncode:
        pytest.skip("only root may mount")
    try:
        with tight_face(disk / ".engine", largest=1 << 30, patience=10) as face:
            yield face
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_is_507_and_what_was_there_stays(small: Face) -> None:
    repo = new_repository(small)
    small.put(repo, "kept", b"kept")
    assert small.put(repo, "large", b"x" * 9_000_000).status == 507
    for number in range(200):
        answer = small.put(repo, f"{number}", bytes([number]) * 60_000)
        if answer.status != 201:
            break
    assert answer.status == 507
    assert "no space left" in answer.json["message"]
    assert str(small.folder) not in answer.json["message"]
    assert small.get(repo, "kept").body == b"kept"
    assert small.get(repo, "large").status == 404
    assert list((small.folder / ".engine" / "objects").glob("tmp/*")) == []


def test_damaged_keys_let_nobody_in_and_are_said(tmp_path: Path) -> None:
    with tight_face(tmp_path / ".engine", largest=1000, patience=1) as face:
        (tmp_path / ".engine" / "lake" / "keys.json").write_text("{")
        answer = face.ask("GET", f"{API}/repositories", key="Basic YTpi")
        assert (answer.status, answer.json) == (500, {"message": "the file of access keys is damaged"})


@pytest.mark.slow
def test_a_lake_that_another_process_keeps_locked_is_503_and_worth_another_try(tmp_path: Path) -> None:
    with tight_face(tmp_path / ".engine", largest=1000, patience=1) as face:
        repo = new_repository(face)
        with closing(sqlite3.connect(tmp_path / ".engine" / "lake" / "lake.db", isolation_level=None)) as db:
            db.execute("begin immediate")
            answer = face.put(repo, "a", b"x", headers={"Content-Type": "application/octet-stream"})
            assert (answer.status, answer.json, answer.headers["retry-after"]) == (
                503, {"message": "the lake is busy; try again"}, "1",
            )  # fmt: skip
            assert face.ask("GET", f"{API}/repositories/{repo}").status == 200
        assert face.put(repo, "a", b"x").status == 201


# -- history ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("amount", [1, 2, 100])
def test_pages_of_folders_in_a_diff_come_to_an_end(face: Face, repo: str, amount: int) -> None:
    for path in ("a", "x/1", "x/2", "x/y/3", "x0", "z/1"):
        face.put(repo, path, b"1")
    wanted = ["a", "x/", "x0", "z/"]
    staged = pages(face, f"{branch_of(repo)}/diff", delimiter="/", amount=amount)
    assert [item["path"] for page in staged for item in page] == wanted
    face.ask("POST", f"{branch_of(repo)}/commits", {"message": "m"})
    differing = pages(face, f"{API}/repositories/{repo}/refs/main~1/diff/main", delimiter="/", amount=amount)
    assert [item["path"] for page in differing for item in page] == wanted


@pytest.fixture(scope="module")
def storied(face: Face) -> tuple[str, dict[str, str]]:
    """A repository with commits a second apart from 1000 on, and their ids by message."""
    repo = new_repository(face)
    made = {"one": commit(face, repo, "one", 1000, a="1", **{"d/x": "1"})}
    made["two"] = commit(face, repo, "two", 1001, b="1")
    face.ask("POST", f"{API}/repositories/{repo}/branches", {"name": "dev", "source": "main"})
    made["three"] = commit(face, repo, "three", 1002, a="2")
    made["four"] = commit(face, repo, "four", 1003, **{"d/y": "1", "d0": "1"})
    return repo, made


LOGS: list[tuple[dict[str, Any], list[str]]] = [
    ({"objects": "a"}, ["three", "one"]),
    ({"objects": "d"}, []),
    ({"prefixes": "d/"}, ["four", "one"]),
    ({"prefixes": "d/", "objects": "b"}, ["four", "two", "one"]),
    ({"prefixes": "d/", "limit": "true", "amount": 1}, ["four"]),
    ({"since": "1970-01-01T00:16:42Z"}, ["four", "three"]),
    ({"since": "1970-01-01T01:16:43+01:00"}, ["four"]),
    ({"stop_at": "dev"}, ["four", "three", "two"]),
    ({"after": "main~1", "stop_at": "dev"}, ["two"]),
    ({"amount": 1, "stop_at": "main~2"}, ["four", "three", "two"]),
]


@pytest.mark.parametrize(("query", "messages"), LOGS, ids=[str(query) for query, _ in LOGS])
def test_a_log_is_of_some_paths_or_some_time(
    face: Face, storied: tuple[str, dict[str, str]], query: dict[str, Any], messages: list[str]
) -> None:
    found = pages(face, f"{API}/repositories/{storied[0]}/refs/main/commits", **query)
    assert [item["message"] for page in found for item in page] == messages


@pytest.mark.parametrize("query", [{"since": "yesterday"}, {"stop_at": "none"}, {"after": "none"}], ids=str)
def test_a_log_of_no_time_or_commit_is_refused(
    face: Face, storied: tuple[str, dict[str, str]], query: dict[str, str]
) -> None:
    answer = face.ask("GET", f"{API}/repositories/{storied[0]}/refs/main/commits", **query)
    assert answer.status in (400, 404)


# -- imports ------------------------------------------------------------------------------------------


@pytest.fixture
def files(face: Face, repo: str) -> Iterator[Path]:
    """A folder from which may be imported."""
    folder = face.folder / "inside" / repo
    (folder / "deep").mkdir(parents=True)
    (folder / "1").write_text("one")
    (folder / "deep" / "2").write_bytes(b"two" * 30_000)
    yield folder
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()


def imported(face: Face, repo: str, *sources: tuple[Path, str, str], **signed: Any) -> Any:
    """What became of an import of paths, each with its type and destination."""
    paths = [{"path": f"file://{path}", "type": kind, "destination": place} for path, kind, place in sources]
    started = face.ask("POST", f"{branch_of(repo)}/import", {"paths": paths, "commit": signed})
    while not (status := face.ask("GET", f"{branch_of(repo)}/import", id=started.json["id"]).json)["completed"]:
        time.sleep(0.02)
    return status


def paths_in(face: Face, repo: str, ref: str = "main") -> list[str]:
    listed = face.ask("GET", f"{API}/repositories/{repo}/refs/{ref}/objects/ls").json["results"]
    return [item["path"] for item in listed]


def staged(face: Face, repo: str) -> list[Any]:
    return list(face.ask("GET", f"{branch_of(repo)}/diff").json["results"])


def test_files_and_folders_are_imported_as_one_commit(face: Face, repo: str, files: Path) -> None:
    sources = [(files, "common_prefix", "in"), (files / "1", "object", "single")]
    status = imported(face, repo, *sources, message="all", metadata={"k": "v"})
    assert (status["ingested_objects"], status["commit"]["metadata"]) == (3, {"k": "v"})
    assert paths_in(face, repo, "main@") == ["in/1", "in/deep/2", "single"]
    assert face.get(repo, "in/deep/2").headers["etag"] == f'"{sha256(b"two" * 30_000)}"'
    assert len(face.ask("GET", f"{API}/repositories/{repo}/refs/main/commits").json["results"]) == 2


def test_an_imported_folder_takes_the_place_of_what_was_there(face: Face, repo: str, files: Path) -> None:
    commit(face, repo, "before", **{"in/1": "old", "in/old": "old", "in0": "old"})
    assert "commit" in imported(face, repo, (files, "common_prefix", "in/"))
    assert paths_in(face, repo) == ["in/1", "in/deep/2", "in0"]
    assert face.get(repo, "in/1").body == b"one"


def test_an_import_does_not_commit_what_somebody_staged(face: Face, repo: str, files: Path) -> None:
    face.put(repo, "staged", b"mine")
    status = imported(face, repo, (files, "common_prefix", "in/"))
    assert "uncommitted" in status["error"]["message"]
    assert (paths_in(face, repo, "main@"), [item["path"] for item in staged(face, repo)]) == ([], ["staged"])


def test_an_import_of_what_is_there_says_so(face: Face, repo: str, files: Path) -> None:
    imported(face, repo, (files, "common_prefix", "in/"))
    status = imported(face, repo, (files, "common_prefix", "in/"))
    assert "already" in status["error"]["message"]


def test_an_import_that_fails_at_its_end_leaves_nothing(face: Face, repo: str, files: Path) -> None:
    status = imported(face, repo, (files, "common_prefix", "in/"), (files / "none", "object", "x"))
    assert status["error"]["message"]
    assert (paths_in(face, repo), staged(face, repo)) == ([], [])


@pytest.mark.parametrize("wrong", [{"metadata": {"a": 1}}, {"message": 7}, {"date": -1}], ids=str)
def test_an_import_that_could_not_be_committed_does_not_begin(
    face: Face, repo: str, files: Path, wrong: dict[str, Any]
) -> None:
    paths = [{"path": f"file://{files}", "type": "common_prefix", "destination": ""}]
    answer = face.ask("POST", f"{branch_of(repo)}/import", {"paths": paths, "commit": wrong})
    assert answer.status == 400


@pytest.fixture
def no() -> Iterator[str]:
    """The address of a hook that says no."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_error(422)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_an_import_that_a_hook_refuses_leaves_nothing_staged(face: Face, repo: str, files: Path, no: str) -> None:
    hook = {"id": "says-no", "type": "webhook", "properties": {"url": no}}
    text = json.dumps({"name": "guard", "on": {"pre-commit": {"branches": ["main"]}}, "hooks": [hook]})
    face.ask("POST", f"{API}/repositories/{repo}/branches", {"name": "dev", "source": "main"})
    kind = {"Content-Type": "application/octet-stream"}
    face.ask("POST", f"{branch_of(repo, 'dev')}/objects", text.encode(), headers=kind, path="_lakefs_actions/a.yaml")
    assert face.ask("POST", f"{branch_of(repo, 'dev')}/commits", {"message": "m"}).status == 201
    assert face.ask("POST", f"{API}/repositories/{repo}/refs/dev/merge/main", {}).status == 200
    status = imported(face, repo, (files, "common_prefix", "in/"), (files / "1", "object", "single"))
    assert status["error"]["message"]
    assert (paths_in(face, repo), staged(face, repo)) == (["_lakefs_actions/a.yaml"], [])


def test_an_import_can_be_stopped(face: Face, repo: str, files: Path) -> None:
    for number in range(4000):
        (files / "deep" / f"n{number}").write_bytes(b"%d" % number)
    paths = [{"path": f"file://{files}", "type": "common_prefix", "destination": ""}]
    connection = http.client.HTTPConnection(*face.address, timeout=10)
    started = face.ask("POST", f"{branch_of(repo)}/import", {"paths": paths}).json["id"]
    connection.request("DELETE", f"{branch_of(repo)}/import?id={started}", headers={"Authorization": face.key})
    assert connection.getresponse().status == 204
    connection.close()
    while not (status := face.ask("GET", f"{branch_of(repo)}/import", id=started).json)["completed"]:
        time.sleep(0.02)
    assert "cancelled" in status["error"]["message"]
    assert (paths_in(face, repo), staged(face, repo)) == ([], [])
    assert face.ask("DELETE", f"{branch_of(repo)}/import", id=started).status == 409
