"""The whole circle on the flights: run, promote, serve, watch, alarm, retrain, shadow, promote with the data, trace."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

from engine.monitor.table import Table
from engine.registry.model import ModelRef
from engine.wiring import open_home
from projects import Done, Project, engine
from serving import Server, serving, until

ROOT = Path(__file__).resolve().parents[2]
NAME = "late-arrivals"
REQUEST, REQUESTS = 100, 12
MONTHS = (7, 8, 9, 10, 11, 12)
Keys = list[tuple[str, int]]


@pytest.fixture(scope="module")
def flights(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The sample's model of January to June in production, watched: an alarm leads to a shadow."""
    root = tmp_path_factory.mktemp("circle")
    shutil.copytree(ROOT / "specs", root / "specs")
    (root / "pyproject.toml").write_text('[project]\nname = "p"\n')
    path = root / "specs" / "model.yaml"
    spec = yaml.safe_load(path.read_text())
    spec["features"]["numeric"] = ["month", "sched_dep_time", "sched_arr_time", "distance"]
    spec["evaluate"]["gates"] = [{"metric": "roc_auc", "min": 0.55}, {"metric": "onnx_parity", "max": 1e-5}]
    spec["serve"]["unknown_category"] = "pass"
    spec["monitor"] = {
        "reference": "train",
        "false_alarms": "1 per 100 windows",
        "detectors": [
            {"name": "numbers", "uses": "ks", "window": 1000},
            {"name": "names", "uses": "chi2", "window": 1000},
        ],
        "performance": [{"metric": "roc_auc", "min": 0.6, "window": 1000}],
        "on_alert": {"retrain": {"alias": "shadow"}},
    }
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    done(root, "quickstart")
    done(root, "run", "specs/model.yaml", "--inline")
    done(root, "models", "promote", f"{NAME}:1", "--to", "production", "--why", "the first")
    return Project(root)


@pytest.fixture(scope="module")
def server(flights: Project) -> Iterator[Server]:
    with serving(flights, NAME) as found:
        yield found


def done(root: Path, *arguments: str, code: int = 0) -> Done:
    """A command that ends as it should."""
    found = engine(root, *arguments, timeout=300)
    assert found.code == code, (found.out, found.err)
    return found


def month(project: Project, number: int) -> pa.Table:
    """Some flights of a month, and whether they were late."""
    lake = open_home(project.root).lake
    data = lake.map("flights", "main", f"2013-h2/{number:02d}.parquet")
    table = pq.read_table(pa.BufferReader(pa.py_buffer(data)))
    table = table.filter(pc.is_valid(table.column("arr_delay"))).slice(0, REQUEST * REQUESTS)
    return table.append_column("late", pc.greater(table.column("arr_delay"), 15))


def asked(server: Server, table: pa.Table) -> Keys:
    """Have flights predicted, and the name of each prediction."""
    known = server.ask("GET", f"/v2/models/{NAME}").json["inputs"]
    keys: Keys = []
    for start in range(0, table.num_rows, REQUEST):
        part = table.slice(start, REQUEST)
        tensors = [
            {**tensor, "shape": [part.num_rows, 1], "data": part.column(tensor["name"]).to_pylist()} for tensor in known
        ]
        got = server.ask("POST", f"/v2/models/{NAME}/infer", {"inputs": tensors})
        assert got.status == 200, got.body
        keys += [(got.headers["engine-prediction"], row) for row in range(part.num_rows)]
    return keys


def tell(project: Project, keys: Keys, late: Sequence[bool]) -> None:
    """Say what became of flights."""
    path = project.root / "labels.parquet"
    table = {"prediction": [key for key, _ in keys], "row": [row for _, row in keys], "late": list(late)}
    pq.write_table(pa.table(table), path)
    done(project.root, "monitor", "labels", NAME, "--from", str(path))


def served_version(server: Server, alias: str) -> str:
    """The version that a server has under an alias."""
    got = server.ask("GET", f"/v2/models/{NAME}/versions/{alias}")
    return str(got.json["parameters"]["version"]) if got.status == 200 else ""


def logged(server: Server, alias: str) -> int:
    """How many rows the log has of an alias."""
    return sum(row["alias"] == alias for row in server.log(NAME))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_flights_go_round_from_a_run_to_an_alarm_to_the_next_version_and_a_trace_shows_it_all(
    flights: Project, server: Server
) -> None:
    root, home = flights.root, open_home(flights.root)
    table = Table(flights.home / "monitor")
    before: tuple[Keys, list[bool]] | None = None
    keys: Keys = []
    alarms: list[dict[str, Any]] = []
    promoted: dict[str, Any] = {}
    for number in MONTHS:
        rows = month(flights, number)
        keys = asked(server, rows)
        until(lambda: logged(server, "production") >= REQUEST * REQUESTS * (number - 6))  # noqa: B023
        if before is not None:
            tell(flights, *before)  # a month late
        before = keys, rows.column("late").to_pylist()
        found = engine(root, "monitor", "watch", NAME, "--once", "--inline", "--json", timeout=300)
        assert found.code in (0, 1), found.err
        alarms += found.json["alarms"]
        passed = [item for item in table.retrained(NAME) if item["outcome"]["status"] == "passed"]
        if passed and not promoted:
            promoted = passed[0]
            version = promoted["outcome"]["version"]
            until(lambda: served_version(server, "shadow") == str(version))  # noqa: B023
            asked(server, rows.slice(0, REQUEST))
            until(lambda: logged(server, "shadow") >= REQUEST)
            branch = promoted["outcome"]["branch"]
            done(root, "models", "promote", f"{NAME}:{version}", "--to", "production", "--merge-data", branch,
                 "--why", "the shadow held")  # fmt: skip
            until(lambda: served_version(server, "production") == str(version))  # noqa: B023
    assert alarms
    assert promoted, [item["outcome"] for item in table.retrained(NAME)]
    outcome = promoted["outcome"]
    assert home.registry.get(ModelRef(name=NAME, alias="production")).version == outcome["version"] == 2
    merged = {entry.path for entry in home.lake.list("flights", "main", prefix="retrained/")}
    assert any(path.endswith("train.parquet") for path in merged)
    prediction = keys[-1][0]
    said = json.dumps(done(root, "trace", prediction, "--json").json)
    for what in (prediction, outcome["run"], promoted["alarm"][:12], outcome["branch"], "the shadow held"):
        assert what in said, what
    status = done(root, "monitor", "status", NAME, "--json").json["figures"]
    live = {(row["version"], row["metric"]) for row in status if row["kind"] == "live" and row["window"] == "month"}
    assert {(1, "roc_auc"), (2, "roc_auc")} <= live
