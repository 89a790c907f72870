"""Following logs of predictions: windows, alarms, messages and retrainings, each once whatever happens to the watcher."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.cli.main import main
from engine.cli.monitor_watch import post
from engine.monitor.table import Table
from engine.patrol import Alarmed, Began, Delivered, Duty, Notice, Passed, WindowJudged, patrol
from engine.registry.model import ModelRef
from engine.wiring import open_home
from monitored import START, Served, every, observatory, shifted
from projects import Done, Project, make_project, numbers

Answer = Callable[..., Done]
WINDOW = 100
MONITOR: dict[str, Any] = {
    "reference": "train",
    "detectors": [
        {"name": "inputs", "uses": "ks", "window": WINDOW},
        {"name": "moves", "uses": "cusum", "window": WINDOW},
    ],
    "false_alarms": "1 per 30 days",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A model in production that nobody has asked yet."""
    project = make_project(tmp_path_factory.mktemp("watch") / "p")
    project.write({"evaluate.slices": [], "evaluate.gates": [{"metric": "mae", "max": 1.0}], "monitor": MONITOR})
    before = Path.cwd()
    os.chdir(project.root)
    try:
        assert main(["run", "spec.yaml", "--inline"]) == 0
        assert main(["models", "promote", "numbers:1", "--to", "production"]) == 0
    finally:
        os.chdir(before)
    return project


@pytest.fixture
def project(made: Project, tmp_path: Path) -> Project:
    """A copy of it."""
    shutil.copytree(made.root, tmp_path / "p")
    return Project(root=tmp_path / "p")


def asked(project: Project, *, calm: int = 500, moved: int = 300, start: datetime = START) -> list[tuple[str, int]]:
    """Predictions without drift, a minute apart, and then predictions with drift; their keys."""
    served = Served(project.root, "numbers")
    keys = served.answer(numbers(calm, seed=5), every(60, calm, start))
    return keys + served.answer(
        shifted(numbers(moved, seed=6), "x", 3.0), every(60, moved, start + timedelta(minutes=calm))
    )


def duty(project: Project, **changes: Any) -> Duty:
    """What a patrol of the project works with."""
    home = open_home(project.root)
    given = {"where": observatory(home), "table": Table(home.path / "monitor"), "post": post, **changes}
    return Duty(**given)


def watched(project: Project, **changes: Any) -> list[Notice]:
    """What happens when all that is there is judged."""
    return list(patrol(["numbers"], duty(project, **changes), once=True))


def alarms(project: Project) -> list[dict[str, Any]]:
    """The alarms of the table without the moment at which they were found."""
    found = Table(project.home / "monitor").alarms("numbers")
    return [{key: value for key, value in item.items() if key != "raised"} for item in found]


def figures(project: Project) -> list[dict[str, Any]]:
    """The tests for drift of the table without the moment at which they were computed."""
    found = Table(project.home / "monitor").figures("numbers", kind="drift")
    return [{key: value for key, value in item.items() if key != "computed"} for item in found]


def test_every_full_window_is_judged_and_a_change_is_an_alarm_that_names_its_feature(project: Project) -> None:
    asked(project)
    found = watched(project)
    windows = [item.judgement for item in found if isinstance(item, WindowJudged)]
    assert [item.window.rows for item in windows] == [WINDOW] * 8
    assert [item.alarm is not None for item in windows] == [False] * 5 + [True] * 3
    raised = [item.raised for item in found if isinstance(item, Alarmed) and "cusum" not in item.raised.text]
    assert all(item.features[0] == "x" for item in raised)


def test_what_was_judged_is_not_judged_again(project: Project) -> None:
    asked(project)
    watched(project)
    before = alarms(project)
    again = watched(project)
    assert [item.resumed for item in again if isinstance(item, Began)] == [True]
    assert not [item for item in again if isinstance(item, Alarmed | WindowJudged)]
    assert alarms(project) == before


def test_a_watcher_that_is_killed_and_started_again_gives_the_same_alarms_once(
    project: Project, tmp_path: Path
) -> None:
    asked(project, calm=2500, moved=1500)
    other = Project(root=tmp_path / "whole")
    shutil.copytree(project.root, other.root)
    watched(other)
    chance = random.Random(11)
    for _ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-m", "engine.cli.main", "monitor", "watch", "numbers"], cwd=project.root,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stderr is not None
        assert "watching" in process.stderr.readline()
        time.sleep(chance.uniform(1.5, 4.0))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    watched(project)
    assert len(alarms(other)) >= 15
    assert alarms(project) == alarms(other)
    assert figures(project) == figures(other)


def test_rows_that_come_in_pieces_give_the_windows_of_rows_that_came_at_once(project: Project, tmp_path: Path) -> None:
    other = Project(root=tmp_path / "whole")
    shutil.copytree(project.root, other.root)
    rows = numbers(730, seed=9)
    times = every(60, 730)
    served, log = Served(project.root, "numbers"), None
    ids = []
    log = served.log()
    for start in range(0, 730, 73):
        ids += served.answer(rows.slice(start, 73), times[start : start + 73], log=log, close=False)
        watched(project)
    log.close()
    watched(project)
    Served(other.root, "numbers").answer(rows, times)
    watched(other)
    ours, theirs = figures(project), figures(other)
    assert len(ours) == len(theirs) > 0
    assert [item["value"] for item in ours] == [item["value"] for item in theirs]


def test_a_file_that_is_damaged_is_told_of_once_and_the_rest_is_read(project: Project) -> None:
    asked(project)
    day = project.home / "predictions" / "numbers" / "2026-03-01"
    (day / "1-20260301T000000000000-1-1.parquet").write_bytes(b"PAR1 this is no table PAR1")
    found = watched(project)
    passed = [item.damage for item in found if isinstance(item, Passed)]
    assert [Path(item.file).name for item in passed] == ["1-20260301T000000000000-1-1.parquet"]
    assert len([item for item in found if isinstance(item, WindowJudged)]) == 8


def test_rows_of_a_clock_that_went_back_are_judged_as_late_ones(project: Project) -> None:
    served = Served(project.root, "numbers")
    served.answer(numbers(150, seed=5), every(60, 150))
    watched(project)
    served.answer(numbers(150, seed=6), every(60, 150, START - timedelta(hours=5)))
    found = [item.judgement for item in watched(project) if isinstance(item, WindowJudged)]
    assert [item.window.rows for item in found] == [WINDOW, WINDOW]
    assert sum(item.window.late for item in found) == 150
    assert all(item.alarm is None for item in found)


def test_two_cannot_watch_a_model_at_once(project: Project, answer: Answer) -> None:
    asked(project, moved=0, calm=WINDOW)
    first = patrol(["numbers"], duty(project))
    assert isinstance(next(first), Began)
    refused = answer(project.root, "monitor", "watch", "numbers", "--once")
    first.close()
    assert refused.code == 2
    assert "another process watches this model" in refused.err


def test_a_model_that_is_not_registered_is_named(project: Project, answer: Answer) -> None:
    refused = answer(project.root, "monitor", "watch", "nombers", "--once")
    assert refused.code == 2
    assert "nombers" in refused.err
    assert 'did you mean "numbers"' in refused.err


def test_the_command_says_what_drifted_and_its_exit_code_that_something_did(project: Project, answer: Answer) -> None:
    asked(project)
    first = answer(project.root, "monitor", "watch", "--once")
    again = answer(project.root, "monitor", "watch", "--once")
    assert (first.code, again.code, again.out) == (1, 0, "no alarm\n")
    assert "drift of x" in first.out
    assert "mean" in first.out


# -- messages --------------------------------------------------------------------------------------------------------


@contextmanager
def receiver(port: int = 0) -> Iterator[tuple[int, list[tuple[dict[str, str], bytes]]]]:
    """A server that takes messages: its port, and what came."""
    came: list[tuple[dict[str, str], bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            came.append(({key.lower(): value for key, value in self.headers.items()}, body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port, came
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def with_webhook(project: Project, port: int, webhook: str = "${oc.env:ALERT_URL}") -> None:
    """Have alarms sent, which changes no run."""
    project.write(
        {
            "evaluate.slices": [], "evaluate.gates": [{"metric": "mae", "max": 1.0}],
            "monitor": {**MONITOR, "on_alert": {"webhook": webhook, "signing_key": "${oc.env:ALERT_KEY}"}},
        }
    )  # fmt: skip
    words = [sys.executable, "-m", "engine.cli.main", "run", "spec.yaml", "--inline"]
    environment = {**os.environ, "ALERT_URL": f"http://127.0.0.1:{port}/alarms", "ALERT_KEY": "secret"}
    subprocess.run(words, cwd=project.root, env=environment, check=True, capture_output=True)


def test_a_receiver_that_was_down_for_a_day_gets_every_message_once_and_signed(project: Project) -> None:
    with receiver() as (port, _):
        pass  # a port that is free now
    with_webhook(project, port)
    asked(project)
    environment = {"ALERT_URL": f"http://127.0.0.1:{port}/alarms", "ALERT_KEY": "secret"}
    now = datetime(2026, 3, 3, tzinfo=UTC)
    down = watched(project, environment=environment, clock=lambda: now)
    wanted = [item.raised.id for item in down if isinstance(item, Alarmed) and item.told]
    tries = [item.sent for item in down if isinstance(item, Delivered)]
    assert wanted
    assert not any(item.done for item in tries)
    later = now + timedelta(days=1)
    with receiver(port) as (_, came):
        watched(project, environment=environment, clock=lambda: later)
        watched(project, environment=environment, clock=lambda: later + timedelta(days=1))
    assert sorted(json.loads(body)["alarm"] for _, body in came) == sorted(wanted)
    for headers, body in came:
        at, _, made = headers["engine-signature"].partition(",v1=")
        signed = at.removeprefix("t=").encode() + b"." + body
        assert made == hmac.new(b"secret", signed, hashlib.sha256).hexdigest()
        assert json.loads(body)["alarm"] == headers["engine-alarm"]


def test_alarms_that_say_the_same_are_announced_once_within_the_cool_down(project: Project) -> None:
    asked(project)
    now = datetime(2026, 3, 3, tzinfo=UTC)
    drifts = [
        item for item in watched(project, clock=lambda: now)
        if isinstance(item, Alarmed) and set(item.raised.features) == {"x", "score"}
    ]  # fmt: skip
    assert [item.told for item in drifts] == [True] + [False] * (len(drifts) - 1)
    assert len(drifts) > 1


# -- metrics ---------------------------------------------------------------------------------------------------------


def test_prometheus_is_answered_with_what_is_known(project: Project) -> None:
    asked(project)
    process = subprocess.Popen(
        [sys.executable, "-m", "engine.cli.main", "monitor", "watch", "numbers", "--metrics-port", "0"],
        cwd=project.root, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        address = process.stderr.readline().split()[-1]
        until, text = time.monotonic() + 30, ""
        while "engine_monitor_windows_total" not in text or " 8.0" not in text:
            assert time.monotonic() < until, text
            time.sleep(0.2)
            with urllib.request.urlopen(address) as response:
                text = response.read().decode()
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate()
    assert process.returncode == 130
    stream = 'alias="production",model="numbers",slice="",version="1"'
    assert f"engine_monitor_windows_total{{{stream}}} 8.0" in text
    assert 'signal="drift"' in text


# -- retraining ------------------------------------------------------------------------------------------------------


def labelled(project: Project, *, late: int = 40) -> None:
    """Predictions with drift whose labels came later: what they were is what the drifted inputs lead to."""
    served = Served(project.root, "numbers")
    calm, moved = numbers(500, seed=5), numbers(900, seed=6)
    keys = served.answer(calm, every(60, 500))
    x = shifted(moved, "x", 3.0)
    keys += served.answer(x, every(60, 900, START + timedelta(minutes=500)))
    truth = [*calm.column("y").to_pylist(), *(np.asarray(moved.column("y").to_numpy()) + 6.0).tolist()]
    served.label({key: float(value) for key, value in zip(keys, truth, strict=True)}, START + timedelta(days=late))


def retrain_wanted(project: Project, **options: Any) -> None:
    """Have an alarm start a retraining, which changes no run."""
    project.write(
        {
            "evaluate.slices": [], "evaluate.gates": [{"metric": "mae", "max": 1.0}],
            "monitor": {**MONITOR, "on_alert": {"retrain": options or True}},
        }
    )  # fmt: skip
    words = [sys.executable, "-m", "engine.cli.main", "run", "spec.yaml", "--inline"]
    subprocess.run(words, cwd=project.root, check=True, capture_output=True)


def test_an_alarm_retrains_on_a_branch_and_never_sets_production(project: Project, answer: Answer) -> None:
    retrain_wanted(project, alias="shadow")
    labelled(project)
    done = answer(project.root, "monitor", "watch", "--once", "--inline")
    home = open_home(project.root)
    registry = home.registry
    shadow = registry.get(ModelRef(name="numbers", alias="shadow"))
    (entry,) = [
        item for item in Table(home.path / "monitor").retrained("numbers") if item["outcome"]["status"] == "passed"
    ]
    assert done.code == 1, done.err
    assert registry.get(ModelRef(name="numbers", alias="production")).version == 1
    assert shadow.version == entry["outcome"]["version"] == 2
    assert entry["outcome"]["branch"] in home.lake.branches("numbers")
    history = answer(project.root, "models", "history", "numbers", "--json").out
    assert entry["alarm"] in history


def test_retrainings_keep_to_their_limit(project: Project, answer: Answer) -> None:
    retrain_wanted(project)
    labelled(project)
    answer(project.root, "monitor", "watch", "--once", "--inline")
    found = [item["outcome"]["status"] for item in Table(project.home / "monitor").retrained("numbers")]
    assert found.count("passed") == 1
    assert set(found) <= {"passed", "held back"}


def test_a_retraining_waits_for_labels_and_is_carried_out_when_they_came(project: Project, answer: Answer) -> None:
    retrain_wanted(project)
    keys = asked(project, moved=900)
    first = answer(project.root, "monitor", "watch", "--once", "--inline")
    truth = [*numbers(500, seed=5).column("y").to_pylist()]
    truth += (np.asarray(numbers(900, seed=6).column("y").to_numpy()) + 6.0).tolist()
    Served(project.root, "numbers").label(dict(zip(keys, map(float, truth), strict=True)), START + timedelta(days=40))
    second = answer(project.root, "monitor", "watch", "--once", "--inline")
    assert "retraining waiting: only 0 logged rows have a label, and it takes 200" in first.out
    assert "numbers@candidate is now version 2" in second.out


def test_a_retraining_for_an_alarm_that_is_none_is_refused(project: Project, answer: Answer) -> None:
    refused = answer(project.root, "monitor", "retrain", "numbers", "--alarm", "nothing")
    assert refused.code == 2
    assert "no alarm of numbers 'nothing'" in refused.err


def test_a_webhook_whose_variable_may_be_missing_and_is_gets_no_message(project: Project) -> None:
    with_webhook(project, 1, webhook="${oc.env:ALERT_URL_THAT_NOBODY_SET,null}")
    asked(project)
    found = watched(project, environment={})
    assert [item for item in found if isinstance(item, Alarmed)]
    assert not [item for item in found if isinstance(item, Delivered)]
    assert Table(project.home / "monitor").outbox("numbers") == []


def test_a_slice_that_is_none_is_refused_before_there_are_rows(project: Project, answer: Answer) -> None:
    refused = answer(project.root, "monitor", "check", "numbers", "--slice", "nonsense")
    assert refused.code == 2
    assert "no input 'nonsense'" in refused.err


def test_detectors_that_were_changed_are_asked_though_the_model_is_the_same(project: Project) -> None:
    other = {**MONITOR, "detectors": [{"name": "other", "uses": "js", "window": 50}, MONITOR["detectors"][1]]}
    project.write({"evaluate.slices": [], "evaluate.gates": [{"metric": "mae", "max": 1.0}], "monitor": other})
    words = [sys.executable, "-m", "engine.cli.main", "run", "spec.yaml", "--inline"]
    subprocess.run(words, cwd=project.root, check=True, capture_output=True)
    asked(project)
    found = [item.judgement for item in watched(project) if isinstance(item, WindowJudged)]
    assert open_home(project.root).registry.versions("numbers")[-1].version == 1
    assert {name for item in found for name in item.verdicts} == {"other", "outputs"}
    assert {item.window.rows for item in found if "other" in item.verdicts} == {50}


def test_status_as_json_has_the_retrainings(project: Project, answer: Answer) -> None:
    retrain_wanted(project)
    asked(project)
    answer(project.root, "monitor", "watch", "--once", "--inline")
    (first, *_) = answer(project.root, "monitor", "status", "numbers", "--json").json["retrained"]
    assert first["outcome"]["status"] == "waiting"
    assert datetime.fromisoformat(first["moment"]).tzinfo is not None


def test_the_beginning_of_an_alarms_id_names_it(project: Project, answer: Answer) -> None:
    retrain_wanted(project)
    labelled(project)
    answer(project.root, "monitor", "watch", "--once", "--inline")
    first = next(item for item in Table(project.home / "monitor").alarms("numbers") if item["announced"])
    done = answer(project.root, "monitor", "retrain", "numbers", "--alarm", first["id"][:12], "--inline", "--json")
    assert done.json["status"] in ("passed", "refused")


def test_a_file_with_a_few_changed_bytes_is_told_of_and_not_believed(project: Project) -> None:
    asked(project)
    paths = sorted((project.home / "predictions" / "numbers").glob("2*/*.parquet"))
    data = bytearray(paths[0].read_bytes())
    data[len(data) // 3 : len(data) // 3 + 20] = bytes(20)
    paths[0].write_bytes(data)
    found = watched(project)
    assert [Path(item.damage.file).name for item in found if isinstance(item, Passed)] == [paths[0].name]
