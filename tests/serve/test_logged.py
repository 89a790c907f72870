"""The prediction log of a server that is killed, and of one whose disk is full; and labels beside it."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from engine.predictions.labels import read_labels
from engine.predictions.log import read
from engine.serve.feedback import read_labels as labels_in
from engine.serve.model import Rejected
from engine.wiring import open_home
from projects import Project, engine, mounted
from serve_models import echo, plus, register
from serving import Server, serving, until


def project_in(root: Path, **serve: Any) -> Project:
    root.mkdir(exist_ok=True)
    (root / "pyproject.toml").write_text('[project]\nname = "p"\n')
    register(root, "plus", plus(1), serve=serve)
    return Project(root)


def killed_under_load(server: Server, seconds: float) -> list[tuple[float, str]]:
    """Ask from four clients for a while and kill the server: the predictions that were answered, and when."""
    seen: list[tuple[float, str]] = []

    def ask() -> None:
        while True:
            try:
                got = server.ask_x("plus", 1.0)
            except OSError:
                return
            seen.append((time.monotonic(), got.headers["engine-prediction"]))

    clients = [threading.Thread(target=ask) for _ in range(4)]
    for client in clients:
        client.start()
    time.sleep(seconds)
    os.kill(server.process.pid, signal.SIGKILL)
    for client in clients:
        client.join()
    server.process.wait()
    return sorted(seen)


def test_a_server_that_is_killed_loses_at_most_what_it_answered_in_the_last_200_ms(tmp_path: Path) -> None:
    project = project_in(tmp_path)
    with serving(project, "plus") as server:
        answered = killed_under_load(server, 1.0)
        kept = {row["prediction"] for row in server.log("plus")}
    end = answered[-1][0]
    assert len(answered) > 100
    lost = [moment for moment, prediction in answered if prediction not in kept]
    assert all(moment > end - 0.2 for moment in lost)


def test_with_fsync_always_a_server_that_is_killed_loses_nothing(tmp_path: Path) -> None:
    project = project_in(tmp_path, log={"fsync": "always"})
    with serving(project, "plus") as server:
        answered = killed_under_load(server, 1.0)
        kept = [row["prediction"] for row in server.log("plus")]
    assert {prediction for _, prediction in answered} <= set(kept)
    assert len(kept) == len(set(kept))


def test_the_next_server_turns_what_a_killed_one_left_into_parquet(tmp_path: Path) -> None:
    project = project_in(tmp_path)
    with serving(project, "plus") as server:
        answered = killed_under_load(server, 0.5)
        left = {row["prediction"] for row in server.log("plus")}
    folder = project.home / "predictions" / "plus"
    assert len(list(folder.glob("open/*.arrows"))) == 1
    with serving(project, "plus") as server:
        until(lambda: len(list(folder.glob("*/*.parquet"))) == 1)
        assert {row["prediction"] for row in server.log("plus")} == left
    assert len(answered) >= len(left) - 4


def test_a_disk_that_is_full_costs_lines_and_no_answer_and_is_said(tmp_path: Path) -> None:
    """The log has a disk of 1 MB of its own; once there is room again lines are kept again."""
    project = project_in(tmp_path / "project")
    register(project.root, "wide", echo({"x": ("FP32", (None, 1000))}))
    folder = project.home / "predictions"
    body = {"inputs": [{"name": "x", "shape": [100, 1000], "datatype": "FP32", "data": [0.5] * 100_000}]}
    folder.mkdir(parents=True)
    with mounted(folder, "-t", "tmpfs", "-o", "size=1m", "none"), serving(project, "plus", "wide") as server:
        for _ in range(8):
            assert server.ask("POST", "/v2/models/wide/infer", body).status == 200
            time.sleep(0.12)
        until(lambda: server.metric("engine_log_lines_total", outcome="dropped", model="wide") > 0)
        assert server.ask("GET", "/v2/health/ready").status == 200
        filler = folder / "filler"
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        assert [server.ask_x("plus", 1.0).status for _ in range(20)] == [200] * 20
        until(lambda: server.metric("engine_log_lines_total", outcome="dropped", model="plus") > 0)
        key = engine(project.root, "serve", "--add-key", "f", "--scope", "feedback", "--json")
        assert key.code == 0
        filler.unlink()
        server.ask_x("plus", 7.0)
        until(lambda: any(row["input.x"] == 7.0 for row in server.log("plus")))
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(10)
        assert server.process.stderr is not None
        said = server.process.stderr.read()
    assert "lines of the prediction log of wide were dropped until now: No space left on device" in said
    assert "Traceback" not in said


def test_answers_without_a_row_of_the_log_are_as_many_as_the_spec_says(tmp_path: Path) -> None:
    with serving(project_in(tmp_path, log={"sample": 0.3}), "plus") as server:
        for _ in range(400):
            server.ask_x("plus", 1.0, 2.0)
        until(lambda: server.metric("engine_requests_total") == 400)
        time.sleep(0.3)
        rows = server.log("plus")
    assert len(rows) / 800 == pytest.approx(0.3, abs=0.09)
    assert {row["prediction"] for row in rows if row["row"] == 0} == {row["prediction"] for row in rows}


def test_what_a_changed_spec_redacts_is_not_logged_any_more(tmp_path: Path) -> None:
    """A new operation is followed like an alias, and the version stays."""
    from engine.store.checked import write_checked

    project = project_in(tmp_path)
    home = open_home(tmp_path)
    with serving(project, "plus") as server:
        server.ask_x("plus", 1.0)
        until(lambda: len(server.log("plus")) == 1)
        folder = home.records.folder(home.registry.versions("plus")[0].runs[0]) / "operation"
        write_checked(folder / "2.json", json.dumps({"serve": {"log": {"redact": ["x"]}}}).encode())
        time.sleep(1)
        before = server.ask_x("plus", 5.0).headers["engine-prediction"]
        until(lambda: any(row["prediction"] == before for row in server.log("plus")))
        found = {row["prediction"]: row.get("input.x") for row in server.log("plus")}
    assert found[before] is None
    assert sorted(found.values(), key=str) == [1.0, None]


# -- labels --------------------------------------------------------------------------------------------------------------


def test_labels_are_kept_beside_the_predictions_and_joined_by_id_and_row(tmp_path: Path) -> None:
    project = project_in(tmp_path)
    key = engine(project.root, "serve", "--add-key", "f", "--scope", "feedback", "--json").json["key"]
    path = "/v2/models/plus/feedback"
    with serving(project, "plus") as server:
        first, second = (server.ask_x("plus", *values).headers["engine-prediction"] for values in ((1.0, 2.0), (3.0,)))
        labels = [{"prediction": first, "row": 1, "label": 3.5}, {"prediction": second, "label": 4}]
        assert server.ask("POST", path, {"labels": labels}).status == 401
        got = server.ask("POST", path, {"labels": labels}, X_Api_Key=key)
        assert (got.status, got.json) == (200, {"accepted": 2})
        assert server.ask("POST", path, labels[0] | {"row": 0}, X_Api_Key=key).json == {"accepted": 1}
        assert server.metric("engine_labels_total", model="plus") == 3
        time.sleep(0.5)  # of predictions the last 200 ms may be lost, of labels nothing
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait()
        time.sleep(0.1)
        kept = pa.concat_tables(read_labels(project.home / "predictions" / "plus"))
        rows = pa.concat_tables(read(project.home / "predictions" / "plus", ["prediction", "row", "output.value"]))
    assert kept.column_names == ["model", "prediction", "row", "time", "label"]
    joined = rows.join(kept.select(["prediction", "row", "label"]), ["prediction", "row"], join_type="inner")
    found = {
        (row["prediction"], row["row"]): (row["output.value"], json.loads(row["label"])) for row in joined.to_pylist()
    }
    assert found == {(first, 0): (2.0, 3.5), (first, 1): (3.0, 3.5), (second, 0): (4.0, 4)}


ID = "01890000-0000-7000-8000-000000000000"
WRONG: list[tuple[Any, list[Any] | None, str]] = [
    ([1], None, "the body: expected a JSON object"),
    ({"labels": []}, None, '"labels": expected a list of 1 to 100,000 labels, received []'),
    ({"labels": {"a": 1}}, None, '"labels": expected a list'),
    ({"labels": [3]}, None, "label 0: expected an object, received 3"),
    ({"prediction": "mine", "label": 1}, None, 'label 0, "prediction": expected the id of a prediction'),
    ({"label": 1}, None, 'label 0, "prediction": expected the id of a prediction, from the header engine-prediction'),
    ({"prediction": ID, "row": -1, "label": 1}, None, 'label 0, "row": expected the number of a row, from 0'),
    ({"prediction": ID, "row": True, "label": 1}, None, '"row": expected the number of a row'),
    ({"prediction": ID, "row": 2**31, "label": 1}, None, '"row": expected the number of a row'),
    ({"prediction": ID}, None, 'label 0, "label": expected a number, received nothing'),
    ({"prediction": ID, "label": True}, None, '"label": expected a number, received true'),
    ({"prediction": ID, "label": 1}, [False, True], '"label": expected one of false, true, received 1'),
    ({"labels": [{"prediction": ID, "label": "a"}, {"prediction": ID, "label": "c"}]}, ["a", "b"], 'label 1, "label"'),
]


@pytest.mark.parametrize(("body", "classes", "says"), WRONG)
def test_a_label_that_is_none_is_refused_and_named(body: Any, classes: list[Any] | None, says: str) -> None:
    with pytest.raises(Rejected) as refused:
        labels_in(json.dumps(body).encode(), classes)
    assert refused.value.status == 400
    assert says in str(refused.value)
