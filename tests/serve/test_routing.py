"""Which version answers: the canary's share and who always gets it, and the shadow behind everybody's back."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.registry.model import ModelRef
from engine.serve.routing import place_of, wanted
from engine.wiring import open_home
from projects import Project
from serve_models import plus, register, spinning
from serving import Server, serving, until

SERVE = {"canary": {"traffic": 0.25}, "shadow": True}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A model ``plus`` whose versions 1, 2 and 3 add 1, 2 and 3."""
    root = tmp_path_factory.mktemp("routing")
    (root / "pyproject.toml").write_text('[project]\nname = "p"\n')
    for amount in (1, 2, 3):
        register(root, "plus", plus(amount), serve=SERVE)
    with serving(Project(root), "plus") as found:
        yield found


@pytest.fixture
def alias(server: Server) -> Iterator[Any]:
    """Sets an alias and waits until the server follows; afterwards all is in production again."""
    registry = open_home(server.project.root).registry

    def served() -> dict[str, int]:
        return {name: server_version(server, name) for name in registry.aliases("plus")}

    def point(name: str, version: int) -> None:
        registry.set_alias("plus", name, version)
        until(lambda: served() == registry.aliases("plus"))

    yield point
    for name in registry.aliases("plus"):
        point(name, 1)


def server_version(server: Server, alias: str) -> int:
    got = server.ask("GET", f"/v2/models/plus/versions/{alias}")
    return int(got.json["parameters"]["version"]) if got.status == 200 else 0


def versions(server: Server, count: int, **headers: str) -> Counter[str]:
    return Counter(server.ask_x("plus", 0.0, **headers).headers["engine-model"] for _ in range(count))


def test_a_client_with_a_key_stands_always_at_the_same_place_and_clients_are_spread_evenly() -> None:
    places = [place_of("m", f"client {number}") for number in range(10_000)]
    assert places == [place_of("m", f"client {number}") for number in range(10_000)]
    for share in (0.1, 0.5, 0.9):
        assert sum(place < share for place in places) / 10_000 == pytest.approx(share, abs=0.02)


def test_who_is_in_a_small_share_is_in_every_larger_one() -> None:
    places = [place_of("m", str(number)) for number in range(1000)]
    assert {n for n, place in enumerate(places) if place < 0.1} <= {n for n, place in enumerate(places) if place < 0.2}


def test_clients_are_drawn_anew_for_every_model() -> None:
    assert place_of("one", "client") != place_of("two", "client")


def test_only_beside_production_there_is_a_canary_and_a_shadow() -> None:
    assert list(wanted(ModelRef(name="m", alias="production"))) == ["production", "canary", "shadow"]
    assert list(wanted(ModelRef(name="m", alias="staging"))) == ["staging"]
    assert list(wanted(ModelRef(name="m", version=3))) == ["3"]


def test_the_canary_answers_its_share_and_no_more(server: Server, alias: Any) -> None:
    alias("canary", 2)
    found = versions(server, 600)
    assert set(found) == {"plus:1", "plus:2"}
    assert found["plus:2"] / 600 == pytest.approx(0.25, abs=0.08)


@pytest.mark.parametrize("how", ["header", "request id"])
def test_a_client_that_names_itself_is_always_answered_by_the_same_version(
    server: Server, alias: Any, how: str
) -> None:
    alias("canary", 2)
    body = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [0]}]}

    def ask(client: str) -> str:
        headers = {"Engine_Sticky": client} if how == "header" else {}
        sent = body if how == "header" else {**body, "id": client}
        return server.ask("POST", "/v2/models/plus/infer", sent, **headers).headers["engine-model"]

    first = {client: ask(client) for client in map(str, range(40))}
    assert set(first.values()) == {"plus:1", "plus:2"}
    assert first == {client: ask(client) for client in first}
    assert first == {client: f"plus:{2 if place_of('plus', client) < 0.25 else 1}" for client in first}


def test_who_names_a_version_or_alias_gets_it_whatever_the_shares_are(server: Server, alias: Any) -> None:
    alias("canary", 2)
    for version, answers in (("1", "plus:1"), ("2", "plus:2"), ("canary", "plus:2"), ("production", "plus:1")):
        got = [server.ask_x("plus", 5.0, version=version) for _ in range(8)]
        assert {one.headers["engine-model"] for one in got} == {answers}


def test_a_shadow_is_asked_and_logged_under_the_id_of_the_answer_and_changes_nothing(
    server: Server, alias: Any
) -> None:
    alias("shadow", 3)
    got = server.ask_x("plus", 10.0, 20.0)
    assert (got.headers["engine-model"], got.json["outputs"][0]["data"]) == ("plus:1", [11.0, 21.0])
    prediction = got.headers["engine-prediction"]

    def logged() -> dict[str, list[float]]:
        rows = [row for row in server.log("plus") if row["prediction"] == prediction]
        return {
            alias: [row["output.value"] for row in sorted(rows, key=lambda one: one["row"]) if row["alias"] == alias]
            for alias in sorted({row["alias"] for row in rows})
        }

    until(lambda: len(logged()) == 2)
    assert logged() == {"production": [11.0, 21.0], "shadow": [13.0, 23.0]}


def test_a_shadow_that_is_also_the_canary_is_asked_apart_from_it(server: Server, alias: Any) -> None:
    alias("canary", 2)
    alias("shadow", 2)
    before = server.metric("engine_requests_total", alias="shadow")
    found = versions(server, 100)
    until(lambda: server.metric("engine_requests_total", alias="shadow") >= before + found["plus:1"])
    assert found["plus:2"] > 0


def test_a_slow_shadow_neither_delays_nor_spoils_answers_and_is_dropped(tmp_path: Path) -> None:
    """Each of its calls takes until it is ended at the deadline, and only so many wait."""
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "p"\n')
    register(tmp_path, "mo", plus(1), serve={**SERVE, "deadline": 0.3, "max_batch_rows": 1})
    register(tmp_path, "mo", spinning(), serve={"deadline": 0.3, "max_batch_rows": 1})
    open_home(tmp_path).registry.set_alias("mo", "shadow", 2)
    with serving(Project(tmp_path), "mo") as server:
        values: list[float] = []

        def ask() -> None:
            for _ in range(100):
                got = server.ask_x("mo", 4_000_000.0)
                values.append(got.json["outputs"][0]["data"][0])

        clients = [threading.Thread(target=ask) for _ in range(4)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        assert values == [4_000_001.0] * 400
        assert server.metric("engine_shadow_dropped_total") > 100
        assert server.metric("engine_requests_total", alias="production") == 400
        assert server.metric("engine_refused_total", status="503") == 0


def test_statistics_tell_the_aliases_apart(server: Server, alias: Any) -> None:
    alias("canary", 2)
    versions(server, 40)
    rows = server.ask("GET", "/v2/models/plus/stats").json["model_stats"]
    aliases = {row["version"]: set(row["aliases"]) for row in rows}
    assert "production" in aliases["1"]
    assert "canary" in aliases["2"]
    assert json.dumps(rows)
