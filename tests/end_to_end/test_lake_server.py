"""The same spec on a lake server: nothing in it changes, and neither does the run id."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.lake.credentials import Credentials
from engine.lake.embedded.lake import EmbeddedLake
from engine.lake.lakefs import Server
from engine.lake.remote import RemoteLake
from engine.store.objects import ObjectStore
from lakes import served_address
from projects import Project, engine, make_project

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


def test_a_spec_has_the_same_run_id_and_model_on_a_server_as_without_one(
    credentials: Credentials, tmp_path: Path
) -> None:
    project = make_project(tmp_path / "project")
    copied_to(credentials, project, tmp_path / "copy")
    alone = engine(project.root, "run", "spec.yaml", "--inline", "--json").json
    home = str(tmp_path / "home")
    served = engine(project.root, "run", "spec.yaml", "--inline", "--json", ENGINE_HOME=home, **variables(credentials))
    assert served.code == 0, served.err
    assert (served.json["run_id"], served.json["status"]) == (alone["run_id"], "passed")
    assert served.json["model"] == alone["model"]
    again = engine(project.root, "run", "spec.yaml", "--inline", "--json", ENGINE_HOME=home, **variables(credentials))
    assert (again.json["run_id"], again.json["executed"]) == (alone["run_id"], False)


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


@pytest.mark.parametrize(("changed", "code", "name"), WRONG, ids=[f"{name} {code}" for _, code, name in WRONG])
def test_a_server_that_cannot_be_used_is_said_at_once(
    credentials: Credentials, tmp_path: Path, changed: dict[str, str], code: int, name: str
) -> None:
    (tmp_path / ".engine").mkdir()
    started = time.monotonic()
    done = engine(tmp_path, "lake", "repos", "list", "--json", **{**variables(credentials), **changed})
    assert (done.code, done.json["error"]["code"]) == (code, name)
    assert time.monotonic() - started < 5
    assert credentials.secret_access_key not in done.out + done.err


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
