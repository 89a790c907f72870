"""Models that take long, hang, or never get ready: health stays alive, deadlines hold, and others are served."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.errors import EngineError, Failed
from engine.serve.loading import Loading
from engine.wiring import open_home
from projects import Project
from serve_models import always_spinning, multiplying, plus, register, spinning
from serving import Server, serving, until

FOREVER = 100_000_000.0


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    root = tmp_path_factory.mktemp("slow")
    (root / "pyproject.toml").write_text('[project]\nname = "p"\n')
    register(root, "spin", spinning(), serve={"deadline": 0.5, "max_queue": 4, "max_batch_rows": 1})
    register(root, "wait", multiplying(), serve={"deadline": 0.2, "max_queue": 4})
    register(root, "plus", plus(1))
    return Project(root)


@pytest.fixture(scope="module")
def server(project: Project) -> Iterator[Server]:
    with serving(project, "spin", "wait", "plus") as found:
        yield found


class Busy:
    """Requests that are on their way in threads of their own."""

    def __init__(self, server: Server, model: str, value: float, count: int = 1) -> None:
        self.got: list[Any] = []
        self.threads = [
            threading.Thread(target=lambda: self.got.append(server.ask_x(model, value))) for _ in range(count)
        ]
        for thread in self.threads:
            thread.start()
        time.sleep(0.1)

    def statuses(self) -> list[int]:
        for thread in self.threads:
            thread.join()
        return sorted(got.status for got in self.got)


def test_while_a_model_hangs_health_and_other_models_answer_and_its_deadline_holds(server: Server) -> None:
    busy = Busy(server, "spin", FOREVER)
    for _ in range(5):
        assert server.ask("GET", "/v2/health/live").status == 200
        assert server.ask_x("plus", 1.0).json["outputs"][0]["data"] == [2.0]
    assert busy.statuses() == [504]
    assert busy.got[0].json["error"] == "spin: no answer within 0.5 s; send fewer rows at once"


def test_after_a_call_that_was_ended_the_model_answers_again(server: Server) -> None:
    Busy(server, "spin", FOREVER).statuses()
    until(lambda: server.ask_x("spin", 3.0).status == 200)
    assert server.ask_x("spin", 3.0).json["outputs"][0]["data"] == [3.0]


def test_more_requests_than_the_queue_holds_get_503_and_when_to_come_again(server: Server) -> None:
    busy = Busy(server, "spin", FOREVER, count=12)
    found = busy.statuses()
    assert set(found) == {503, 504}
    assert found.count(504) <= 6
    turned_away = next(got for got in busy.got if got.status == 503)
    assert turned_away.headers["retry-after"] == "1"
    assert turned_away.json["error"] == "spin: too many requests wait; try again in a second"
    assert server.metric("engine_refused_total", model="spin", kind="queue") > 0
    assert server.metric("engine_refused_total", model="spin", kind="deadline") > 0
    until(lambda: server.ask_x("spin", 3.0).status == 200)


def test_a_clients_own_time_limit_is_kept_when_it_is_shorter(server: Server) -> None:
    tensor = {"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [FOREVER]}
    started = time.monotonic()
    got = server.ask("POST", "/v2/models/spin/infer", {"inputs": [tensor], "parameters": {"timeout": 50_000}})
    assert got.status == 504
    assert time.monotonic() - started < 0.45
    until(lambda: server.ask_x("spin", 3.0).status == 200)


def test_a_call_that_cannot_be_ended_is_answered_for_and_the_model_is_not_ready_until_it_is_over(
    server: Server,
) -> None:
    busy = Busy(server, "wait", 5000.0)
    assert busy.statuses() == [504]
    assert server.ask("GET", "/v2/health/live").status == 200
    until(lambda: server.ask("GET", "/v2/models/wait/ready").status == 503)
    assert server.ask("GET", "/v2/health/ready").status == 503
    assert server.ask_x("plus", 1.0).status == 200
    until(lambda: server.ask("GET", "/v2/models/wait/ready").status == 200, 60)
    assert server.ask_x("wait", 3.0).status == 200


@pytest.mark.slow
def test_a_server_whose_model_hangs_ends_when_it_is_told_to(project: Project) -> None:
    with serving(project, "wait") as server:
        Busy(server, "wait", 9000.0).statuses()
        started = time.monotonic()
        assert server.end() == 0
        assert time.monotonic() - started < 15


def test_a_version_that_never_gets_ready_hinders_neither_the_old_one_nor_other_models(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "p"\n')
    register(tmp_path, "one", plus(1))
    register(tmp_path, "two", plus(1))
    registry = open_home(tmp_path).registry
    with serving(Project(tmp_path), "one", "two") as server:
        register(tmp_path, "one", always_spinning(100_000_000))
        register(tmp_path, "two", plus(2))
        registry.set_alias("one", "production", 2)
        time.sleep(0.5)
        registry.set_alias("two", "production", 2)
        until(lambda: server.ask_x("two", 1.0).headers["engine-model"] == "two:2", 3)
        assert server.ask_x("one", 1.0).headers["engine-model"] == "one:1"
        assert {"name": "one", "version": "2", "state": "UNAVAILABLE", "reason": "it is being loaded"} in server.ask(
            "POST", "/v2/repository/index"
        ).json
        registry.set_alias("one", "production", 1)
        until(lambda: not any(item["state"] != "READY" for item in server.ask("POST", "/v2/repository/index").json))


BAD = {
    "no ONNX": b"nonsense",
    "cut off": plus(1)[:60],
    "an output without rows": None,
    "an unknown operator": plus(1).replace(b"\x22\x03Add", b"\x22\x03Adx"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_version_that_cannot_be_loaded_or_asked_never_answers(tmp_path: Path, what: str) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "p"\n')
    register(tmp_path, "mo", plus(1))
    with serving(Project(tmp_path), "mo") as server:
        register(tmp_path, "mo", BAD[what] or without_rows())
        open_home(tmp_path).registry.set_alias("mo", "production", 2)
        until(lambda: any(item["state"] == "UNAVAILABLE" for item in server.ask("POST", "/v2/repository/index").json))
        (bad,) = [item for item in server.ask("POST", "/v2/repository/index").json if item["state"] != "READY"]
        assert (bad["name"], bad["version"]) == ("mo", "2")
        until(lambda: "being loaded" not in str(server.ask("POST", "/v2/repository/index").json))
        assert str(tmp_path) not in str(server.ask("POST", "/v2/repository/index").json)
        assert server.ask_x("mo", 1.0).headers["engine-model"] == "mo:1"
        assert server.ask("GET", "/v2/health/ready").status == 200


def without_rows() -> bytes:
    from onnx import helper

    from serve_models import model

    node = helper.make_node("ReduceSum", ["x"], ["value"], keepdims=0)
    return model([node], {"x": ("FP32", (None, 1))}, {"value": ("FP32", ())})


def test_what_is_being_loaded_is_waited_for_and_an_error_is_told_to_who_waits() -> None:
    go = threading.Event()
    told = threading.Event()

    def work() -> Any:
        go.wait()
        raise Failed("no")

    loading = Loading(work, told.set)
    assert loading.result(0.01) is None
    go.set()
    with pytest.raises(Failed, match="no"):
        loading.result(5)
    assert told.is_set()
    assert loading.is_over


def test_a_package_that_is_damaged_is_an_error_like_every_other() -> None:
    def work() -> Any:
        return {}["model"]

    with pytest.raises(EngineError, match="could not be loaded: KeyError"):
        Loading(work, lambda: None).result(5)
