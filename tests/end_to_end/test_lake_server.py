"""The same spec on a lake server: nothing in it changes, and neither does the run id."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from engine.lake.credentials import Credentials
from engine.lake.embedded.lake import EmbeddedLake
from engine.lake.lakefs import Server
from engine.lake.remote import RemoteLake
from engine.store.objects import ObjectStore
from lakes import served_address
from projects import Done, Project, engine, make_project

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Credentials]:
    with served_address(tmp_path_factory.mktemp("server")) as found:
        yield found


def variables(found: Credentials) -> dict[str, str]:
    return {
        "LAKECTL_SERVER_ENDPOINT_URL": found.endpoint,
        "LAKECTL_CREDENTIALS_ACCESS_KEY_ID": found.access_key_id,
        "LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY": found.secret_access_key,
    }


def copied_to(found: Credentials, project: Project, folder: Path) -> None:
    """Everything in the project's embedded lake, on the server."""
    there = RemoteLake(Server(found), ObjectStore(folder / "objects"), folder / "cache")
    here = EmbeddedLake(project.home / "lake", ObjectStore(project.home / "objects"))
    for repository in here.repositories():
        there.create_repository(repository.name)
        for entry in here.list(repository.name, "main"):
            with here.read(entry) as stream:
                there.put(repository.name, "main", entry.path, stream)
        there.commit(repository.name, "main", "copied")


@pytest.fixture(scope="module")
def project(credentials: Credentials, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with an embedded lake, and the same on the server."""
    made = make_project(tmp_path_factory.mktemp("project"))
    copied_to(credentials, made, tmp_path_factory.mktemp("copy"))
    return made


@contextmanager
def relay(found: Credentials) -> Iterator[tuple[Credentials, list[str]]]:
    """An address that passes requests on to the server, and the paths of the objects that were read, or whose bytes' address was asked for."""
    read: list[str] = []
    host = found.endpoint.removeprefix("http://")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            query = parse_qs(url.query)
            if url.path.endswith("/objects") or "presign" in query:
                read.extend(query["path"])
            there = HTTPConnection(host, timeout=30)
            there.request("GET", self.path, headers={**self.headers, "Host": host})
            answer = there.getresponse()
            self.send_response(answer.status)
            for name in ("Content-Type", "Content-Length"):
                self.send_header(name, str(answer.headers[name]))
            self.end_headers()
            self.wfile.write(answer.read())
            there.close()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield replace(found, endpoint=f"http://127.0.0.1:{server.server_address[1]}"), read
        server.shutdown()
        thread.join()


def use(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


def test_a_spec_has_the_same_run_id_and_model_on_a_server_as_without_one(
    credentials: Credentials, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    answer: Callable[..., Done],
) -> None:  # fmt: skip
    run = ("run", "spec.yaml", "--inline", "--json")
    alone = answer(project.root, *run).json
    with relay(credentials) as (address, read):
        use(monkeypatch, {"ENGINE_HOME": str(tmp_path / "home"), **variables(address)})
        served = answer(project.root, *run)
        assert served.code == 0, served.err
        assert (served.json["run_id"], served.json["status"]) == (alone["run_id"], "passed")
        assert served.json["model"] == alone["model"]
        assert sorted(read) == ["test.parquet", "train.parquet"]
        again = answer(project.root, *run).json
        assert (again["run_id"], again["executed"]) == (alone["run_id"], False)
        assert sorted(read) == ["test.parquet", "train.parquet"]


@pytest.mark.slow
def test_a_run_on_a_server_is_verified_at_its_commit_there_and_reproduced_without_it(
    credentials: Credentials, project: Project, tmp_path: Path
) -> None:
    home = {"ENGINE_HOME": str(tmp_path / "home")}
    served = engine(project.root, "run", "spec.yaml", "--inline", "--json", **home, **variables(credentials))
    run_id = served.json["run_id"]
    verified = engine(project.root, "verify", "--json", **home, **variables(credentials))
    assert (verified.code, verified.json["mismatches"]) == (0, [])
    gone = {**variables(credentials), "LAKECTL_SERVER_ENDPOINT_URL": "http://127.0.0.1:9"}
    away = engine(project.root, "verify", run_id, "--json", **home, **gone)
    assert (away.code, away.json["error"]["code"]) == (3, "lake-unavailable")
    again = engine(project.root, "reproduce", run_id, "--inline", "--json", **home, **gone)
    assert (again.code, again.json["reproduced"]) == (0, True)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_sample_spec_has_the_same_run_id_on_a_server_as_without_one(
    credentials: Credentials, tmp_path: Path
) -> None:
    shutil.copytree(ROOT / "specs", tmp_path / "specs")
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    spec, ids = "specs/model.yaml", []
    for home, environment in (("one", {}), ("two", variables(credentials))):
        given = {"ENGINE_HOME": str(tmp_path / home), **environment}
        assert engine(tmp_path, "quickstart", *(["--remote"] if environment else []), **given).code == 0
        done = engine(tmp_path, "run", spec, "--inline", "--json", **given)
        ids.append((done.json["run_id"], done.json["status"], done.json["model"]))
    assert ids[0] == ids[1]


WRONG = [
    ({"LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY": "wrong"}, 3, "lake-denied"),
    ({"LAKECTL_SERVER_ENDPOINT_URL": "http://127.0.0.1:9"}, 3, "lake-unavailable"),
    ({"LAKECTL_SERVER_ENDPOINT_URL": "nonsense://x"}, 2, "usage"),
    ({"LAKECTL_CREDENTIALS_ACCESS_KEY_ID": ""}, 2, "usage"),
]


@pytest.mark.parametrize("arguments", [("lake", "repos", "list"), ("plan", "spec.yaml")], ids=["lake", "plan"])
@pytest.mark.parametrize(("changed", "code", "name"), WRONG, ids=[f"{name} {code}" for _, code, name in WRONG])
def test_a_server_that_cannot_be_used_is_said_at_once(
    credentials: Credentials, project: Project, monkeypatch: pytest.MonkeyPatch, answer: Callable[..., Done],
    arguments: tuple[str, ...], changed: dict[str, str], code: int, name: str,
) -> None:  # fmt: skip
    use(monkeypatch, {**variables(credentials), **changed})
    started = time.monotonic()
    done = answer(project.root, *arguments, "--json")
    assert (done.code, done.json["error"]["code"]) == (code, name)
    assert done.json["error"]["hint"]
    assert time.monotonic() - started < 5
    assert credentials.secret_access_key not in done.out + done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("uri", ["lakefs://numbers/mian/train.parquet", "lakefs://numbers/main/trian.parquet"])
def test_what_is_not_on_the_server_is_said_with_the_nearest_and_the_line(
    credentials: Credentials, project: Project, monkeypatch: pytest.MonkeyPatch, answer: Callable[..., Done], uri: str
) -> None:
    use(monkeypatch, variables(credentials))
    project.write({"data.train.uri": uri}, name="wrong.yaml")
    done = answer(project.root, "plan", "wrong.yaml", "--json")
    assert (done.code, "did you mean" in done.json["error"]["hint"]) == (2, True)
    assert done.json["error"]["place"].startswith("wrong.yaml:5:")


def test_doctor_names_the_server(credentials: Credentials, tmp_path: Path) -> None:
    (tmp_path / ".engine").mkdir()
    done = engine(tmp_path, "doctor", **variables(credentials))
    assert f"on {credentials.endpoint}" in done.out + done.err


def test_the_sample_for_a_server_needs_one(tmp_path: Path) -> None:
    (tmp_path / ".engine").mkdir()
    done = engine(tmp_path, "quickstart", "--remote", "--json")
    assert (done.code, "LAKECTL_SERVER_ENDPOINT_URL" in done.json["error"]["hint"]) == (2, True)


def test_without_a_server_its_client_is_not_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from engine.wiring import open_home; from pathlib import Path;"
        "open_home(Path(sys.argv[1])).lake.repositories();"
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert {"lakefs_client", "starlette", "uvicorn", "yaml"}.isdisjoint(done.stdout.split())
