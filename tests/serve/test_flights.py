"""The flights model under load: promoted, tried as a shadow and as a canary, and rolled back, and nothing is lost."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from engine.predictions.log import read
from projects import Project, engine
from serving import Server, serving, until

ROOT = Path(__file__).resolve().parents[2]
NAME = "late-arrivals"
CONNECTIONS = 32
WRK = """
local threads, expected = {}, {}
function setup(thread) table.insert(threads, thread) end
function init()
  wrk.method = "POST"
  wrk.body = BODY
  statuses, models, answers = {}, {}, {}
end
function response(status, headers, body)
  local model = headers["engine-model"] or "none"
  local value = string.match(body, '"data":(%b[])') or body
  statuses[status] = (statuses[status] or 0) + 1
  models[model] = (models[model] or 0) + 1
  answers[model .. " " .. value] = (answers[model .. " " .. value] or 0) + 1
end
function done()
  for _, thread in ipairs(threads) do
    for _, name in ipairs({"statuses", "models", "answers"}) do
      for key, count in pairs(thread:get(name)) do io.write("COUNT\\t", name, "\\t", key, "\\t", count, "\\n") end
    end
  end
end
"""


@pytest.fixture(scope="module")
def flights(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Two versions of the sample spec that both pass their gates; the first is in production."""
    root = tmp_path_factory.mktemp("flights")
    shutil.copytree(ROOT / "specs", root / "specs")
    (root / "pyproject.toml").write_text('[project]\nname = "p"\n')
    done(root, "quickstart")
    patient = "evaluate.gates.4.max=1000"  # milliseconds: how busy this machine is is no question here
    for more in ([], ["train.with.params.max_iter=50"]):
        done(root, "run", "specs/model.yaml", patient, *more, "--inline")
    promote(root, 1, "production")
    return Project(root)


def done(root: Path, *arguments: str) -> None:
    found = engine(root, *arguments, timeout=300)
    assert found.code == 0, found.err


def promote(root: Path, version: int, alias: str) -> None:
    done(root, "models", "promote", f"{NAME}:{version}", "--to", alias, "--why", "a test")


@pytest.fixture(scope="module")
def server(flights: Project) -> Iterator[Server]:
    with serving(flights, NAME) as found:
        yield found


def load(server: Server, folder: Path) -> subprocess.Popen[str]:
    """wrk with the example of the server's own API document, until it is interrupted."""
    document = server.ask("GET", "/openapi.json").json
    content = document["paths"][f"/v2/models/{NAME}/infer"]["post"]["requestBody"]["content"]
    body = json.dumps(content["application/json"]["example"])
    script = folder / "post.lua"
    script.write_text(f"BODY = [==[{body}]==]\n{WRK}")
    url = f"http://{server.host}:{server.port}/v2/models/{NAME}/infer"
    command = [
        "wrk",
        "-t",
        "2",
        "-c",
        str(CONNECTIONS),
        "-d",
        "800s",
        "--timeout",
        "10s",
        "-s",
        str(script),
        url,
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def counted(process: subprocess.Popen[str]) -> dict[str, Counter[str]]:
    """What wrk counted: answers by status, by model, and by model and what was answered."""
    assert process.poll() is None, "the load ended before the last step"
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert "Socket errors" not in output, output
    found: dict[str, Counter[str]] = {"statuses": Counter(), "models": Counter(), "answers": Counter()}
    for line in output.splitlines():
        if line.startswith("COUNT\t"):
            _, name, key, count = line.split("\t")
            found[name][key] += int(count)
    return found


def served(server: Server, alias: str) -> str:
    got = server.ask("GET", f"/v2/models/{NAME}/versions/{alias}")
    return str(got.json["parameters"]["version"]) if got.status == 200 else ""


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_the_flights_model_is_promoted_and_rolled_back_under_load_and_every_answer_is_accounted_for(
    server: Server, tmp_path: Path
) -> None:
    root = server.project.root
    process = load(server, tmp_path)
    moments: dict[str, tuple[datetime, datetime]] = {}

    def step(name: str, alias: str, version: str, *arguments: str) -> None:
        """Do something to the registry, wait until the server follows, and let some traffic through."""
        time.sleep(3)
        begun = datetime.now(UTC)
        done(root, *arguments)
        until(lambda: served(server, alias) == version)
        moments[name] = begun, datetime.now(UTC)

    to = ("models", "promote", f"{NAME}:2", "--why", "a test", "--to")
    step("shadow", "shadow", "2", *to, "shadow")
    step("canary", "canary", "2", *to, "canary")
    step("production", "production", "2", *to, "production")
    step("rollback", "production", "1", "models", "rollback", NAME, "--why", "a test")
    time.sleep(3)
    seen = counted(process)
    time.sleep(0.5)
    asked = {
        (version, alias): server.metric("engine_requests_total", version=version, alias=alias)
        for version in "12" for alias in ("production", "canary", "shadow")
    }  # fmt: skip
    dropped = server.metric("engine_shadow_dropped_total")
    assert server.metric("engine_refused_total") == 0
    assert server.metric("engine_log_lines_total", outcome="dropped") == 0
    table = pa.concat_tables(
        read(root / ".engine" / "predictions" / NAME, ["prediction", "row", "time", "version", "alias", "output.label"])
    )
    rows = table.to_pylist()
    logged = Counter((str(row["version"]), row["alias"]) for row in rows)
    everything_is_accounted_for(seen, rows, logged, asked, dropped, moments)


def everything_is_accounted_for(
    seen: dict[str, Counter[str]],
    rows: list[dict[str, Any]],
    logged: Counter[tuple[str, str]],
    asked: dict[tuple[str, str], float],
    dropped: float,
    moments: dict[str, tuple[datetime, datetime]],
) -> None:
    # What clients got: only answers, and of each version only its own.
    assert set(seen["statuses"]) == {"200"}
    assert set(seen["models"]) == {f"{NAME}:1", f"{NAME}:2"}
    assert len(seen["answers"]) == 2
    # What was counted is what was logged, and is what clients got, but for what was on its way when wrk left.
    assert {key: count for key, count in asked.items() if count} == dict(logged)
    main = [row for row in rows if row["alias"] != "shadow"]
    for version in "12":
        got = seen["models"][f"{NAME}:{version}"]
        assert 0 <= sum(str(row["version"]) == version for row in main) - got <= CONNECTIONS
    # Every prediction has an id of its own, which a shadow shares with the answer beside it.
    ids = Counter(row["prediction"] for row in main)
    assert max(ids.values()) == 1
    shadows = [row["prediction"] for row in rows if row["alias"] == "shadow"]
    assert len(set(shadows)) == len(shadows) > 100
    assert set(shadows) <= set(ids)
    assert {row["version"] for row in rows if row["alias"] == "shadow"} == {2}
    assert len(shadows) + dropped <= len(main)
    # Who answered when.
    between = windows(main, moments)
    assert {row["version"] for row in between["before"]} == {1}
    assert {(row["alias"], row["version"]) for row in between["shadow"]} == {("production", 1)}
    assert {(row["alias"], row["version"]) for row in between["canary"]} == {("production", 1), ("canary", 2)}
    share = sum(row["alias"] == "canary" for row in between["canary"]) / len(between["canary"])
    assert share == pytest.approx(0.1, abs=0.02)
    assert {row["version"] for row in between["production"]} == {2}
    assert {(row["alias"], row["version"]) for row in between["rollback"]} == {("production", 1), ("canary", 2)}


def windows(
    rows: list[dict[str, Any]], moments: dict[str, tuple[datetime, datetime]]
) -> dict[str, list[dict[str, Any]]]:
    """The rows from when a step was followed until the next one was begun."""
    first, last = min(row["time"] for row in rows), max(row["time"] for row in rows)
    starts = [first, *(followed for _, followed in moments.values())]
    ends = [*(begun for begun, _ in moments.values()), last]
    return {
        name: [row for row in rows if start <= row["time"] <= end]
        for name, start, end in zip(["before", *moments], starts, ends, strict=True)
    }
