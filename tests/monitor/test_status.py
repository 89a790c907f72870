"""The one table: what was tested, estimated, measured and compared, with the versions of model, run, code and data."""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest

from engine.cli.main import main
from engine.wiring import open_home
from monitored import Served, every
from projects import Done, Project, make_project, numbers

Answer = Callable[..., Done]
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "monitoring.md"
DETECTORS = [{"name": "inputs", "uses": "ks", "window": 100}]
MONTHS = (datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC), datetime(2026, 5, 1, tzinfo=UTC))


@dataclass(frozen=True)
class Deployed:
    """A model with two versions, of two versions of the data, of which each was in production; a request had 2 rows."""

    project: Project
    runs: dict[int, Any]

    def commit(self, version: int) -> str:
        """The data version that a version learned from."""
        return str(self.runs[version]["pins"]["data"]["train"]["commit"])


def ran(project: Project) -> dict[str, Any]:
    """A run that passed."""
    found: dict[str, Any] = json.loads(commanded(project, "run", "spec.yaml", "--inline", "--json"))
    return found


def commanded(project: Project, *words: str) -> str:
    """What a command that succeeds prints, in this process."""
    said = io.StringIO()
    with contextlib.chdir(project.root), contextlib.redirect_stdout(said):
        assert main([*words]) == 0
    return said.getvalue()


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    """Version 1 answers in March and April, version 2 in April and May; four rows of five get a label later."""
    project = make_project(tmp_path_factory.mktemp("status") / "p")
    project.write({"monitor": {"reference": "train", "detectors": DETECTORS, "false_alarms": "1 per 30 days"}})
    runs = {1: ran(project)}
    project.put("train.parquet", numbers(300, seed=5), "more flights")
    runs[2] = ran(project)
    for version in runs:
        commanded(project, "models", "promote", f"numbers:{version}", "--to", "production")
    random = np.random.default_rng(3)
    for version, month, rows in ((1, 0, 200), (1, 1, 120), (2, 1, 80), (2, 2, 240)):
        served = Served(project.root, "numbers", version)
        asked = numbers(rows, seed=10 * version + month)
        keys = served.answer(asked, every(3600, rows // 2, MONTHS[month] + timedelta(days=10 * version - 9)), request=2)
        truth = np.asarray(asked.column("y").to_numpy()) + random.normal(scale=0.1 * (month + version), size=rows)
        kept = {key: float(value) for key, value in zip(keys, truth, strict=True) if random.random() < 0.8}
        served.label(kept, MONTHS[month] + timedelta(days=40))
    return Deployed(project=project, runs=runs)


def documented() -> str:
    """The query that the documentation answers the question with."""
    question = DOCUMENT.read_text().partition("## How did each data version")[2]
    found = re.search(r"```sql\n(.*?)```", question, re.DOTALL)
    assert found
    return found[1]


def raw(project: Project) -> tuple[list[dict[str, Any]], dict[tuple[str, int], float]]:
    """Every row of the log, and the last label of each, straight from the files."""
    folder = project.home / "predictions" / "numbers"
    logged = [row for path in sorted(folder.glob("2*/*.parquet")) for row in pq.read_table(path).to_pylist()]
    labels = [row for path in sorted(folder.glob("labels/2*/*.parquet")) for row in pq.read_table(path).to_pylist()]
    told = sorted(labels, key=lambda row: row["time"])
    return logged, {(row["prediction"], row["row"]): json.loads(row["label"]) for row in told}


def by_hand(deployed: Deployed) -> dict[tuple[str, str], tuple[int, float]]:
    """The mean absolute error and its rows by data version and month, of the raw log and the raw labels."""
    logged, labels = raw(deployed.project)
    errors: dict[tuple[str, str], list[float]] = {}
    for row in logged:
        key = (row["prediction"], row["row"])
        if key in labels:
            value = row["output.value"]
            answered = float(value[0] if isinstance(value, list) else value)
            place = (deployed.commit(row["version"]), f"{row['time']:%Y-%m}")
            errors.setdefault(place, []).append(abs(answered - labels[key]))
    return {place: (len(found), float(np.mean(found))) for place, found in errors.items()}


def test_how_each_data_version_did_in_production_is_what_the_raw_log_and_labels_say(
    deployed: Deployed, answer: Answer
) -> None:
    done = answer(deployed.project.root, "monitor", "status", "numbers", "--sql", documented(), "--json")
    assert done.code == 0, done.err
    found = {(row["train_commit"], row["month"]): row for row in done.json["rows"] if row["metric"] == "mae"}
    wanted = by_hand(deployed)
    assert len(wanted) == 4
    assert {key: row["labelled"] for key, row in found.items()} == {key: n for key, (n, _) in wanted.items()}
    for key, (_, value) in wanted.items():
        assert found[key]["live"] == pytest.approx(value, rel=1e-5)
        assert found[key]["low"] <= found[key]["live"] <= found[key]["high"]


def test_the_documented_query_gives_the_test_figure_of_the_same_version(deployed: Deployed, answer: Answer) -> None:
    done = answer(deployed.project.root, "monitor", "status", "numbers", "--sql", documented(), "--json")
    tests = {(row["version"], row["metric"]): row["test"] for row in done.json["rows"]}
    for version, run in deployed.runs.items():
        assert tests[version, "mae"] == run["metrics"]["mae"]


def test_any_duckdb_answers_the_documented_query_from_the_parquet(deployed: Deployed, answer: Answer) -> None:
    ours = answer(deployed.project.root, "monitor", "status", "numbers", "--sql", documented(), "--json").json["rows"]
    file = deployed.project.home / "monitor" / "figures.parquet"
    with duckdb.connect() as db:
        theirs = db.execute(documented().replace("from figures", f"from '{file}'")).fetchall()
    assert [tuple(row.values()) for row in ours] == theirs


def test_every_figure_has_the_versions_behind_it(deployed: Deployed, answer: Answer) -> None:
    assert answer(deployed.project.root, "monitor", "check", "numbers").code in (0, 1)
    found = answer(deployed.project.root, "monitor", "status", "numbers", "--json").json["figures"]
    assert {row["kind"] for row in found} == {"test", "live", "drift", "schema"}  # no estimate of a regression
    for row in found:
        run = deployed.runs[row["version"]]
        assert row["run"] == run["run_id"]
        assert row["code_digest"] == run["pins"]["code"]["digest"]
        assert row["code_commit"] == (run["pins"]["code"]["commit"] or "")
        assert row["train_commit"] == deployed.commit(row["version"])
        assert {name: pin["commit"] for name, pin in row["data"].items()} == {
            name: pin["commit"] for name, pin in run["pins"]["data"].items()
        }
        assert row["n"] > 0
        assert row["kind"] == "test" or row["window_start"] < row["window_end"]


def test_what_a_check_finds_is_in_the_table(deployed: Deployed, answer: Answer) -> None:
    checked = answer(deployed.project.root, "monitor", "check", "numbers:2", "--json").json["checks"][0]
    query = "select feature, value, distance, n from figures where kind = 'drift' and detector = 'inputs'"
    rows = answer(deployed.project.root, "monitor", "status", "numbers", "--sql", query, "--json").json["rows"]
    of_check = checked["verdicts"]["inputs"]
    assert {row["feature"]: (row["value"], row["distance"], row["n"]) for row in rows} == {
        name: (p_val, of_check["distance"][name], 100) for name, p_val in of_check["p_val"].items()
    }


def test_a_table_that_is_checked_leaves_no_figure(deployed: Deployed, answer: Answer, tmp_path: Path) -> None:
    query = "select count(*) as n from figures where kind in ('drift', 'schema')"

    def count() -> int:
        rows = answer(deployed.project.root, "monitor", "status", "numbers", "--sql", query, "--json").json["rows"]
        return int(rows[0]["n"])

    before = count()
    pq.write_table(numbers(100, seed=77), tmp_path / "t.parquet")
    asked = answer(deployed.project.root, "monitor", "check", "numbers", "--data", str(tmp_path / "t.parquet"))
    assert asked.code in (0, 1), asked.err
    assert count() == before


def test_status_shows_each_version_with_its_data_month_by_month(deployed: Deployed, answer: Answer) -> None:
    done = answer(deployed.project.root, "monitor", "status", "numbers")
    lines = [line for line in done.out.splitlines() if " mae " in line]
    assert [line.split()[:4] for line in lines] == [
        ["v1", "production", "month", "2026-03-01"],
        ["v1", "production", "month", "2026-04-01"],
        ["v2", "production", "month", "2026-04-01"],
        ["v2", "production", "month", "2026-05-01"],
    ]
    for line in lines:
        assert deployed.commit(int(line[1]))[:12] in line


@pytest.mark.parametrize(
    "query",
    [
        "select * from '/etc/passwd'",
        "select nothing from figures",
        "selec",
        "copy figures to '/tmp/x'",
        "install httpfs",
    ],
)
def test_a_query_that_is_none_or_looks_elsewhere_is_refused(deployed: Deployed, answer: Answer, query: str) -> None:
    done = answer(deployed.project.root, "monitor", "status", "numbers", "--sql", query)
    assert done.code == 2
    assert "Traceback" not in done.err


def test_a_query_about_text_that_is_json_is_answered(deployed: Deployed, answer: Answer) -> None:
    query = "select distinct data->'test'->>'uri' as uri from figures"
    done = answer(deployed.project.root, "monitor", "status", "numbers", "--sql", query, "--json")
    assert done.json == {"rows": [{"uri": "lakefs://numbers/main/test.parquet"}]}


def test_the_table_opens_empty_where_nothing_was_predicted(tmp_path: Path, answer: Answer) -> None:
    project = make_project(tmp_path / "p")
    ran(project)
    done = answer(project.root, "monitor", "status", "numbers")
    assert done.code == 0
    assert "no predictions are logged yet" in done.out
    assert open_home(project.root).path.joinpath("monitor", "figures.parquet").is_file()


def test_a_model_that_is_not_there_has_no_status(tmp_path: Path, answer: Answer) -> None:
    project = make_project(tmp_path / "p")
    done = answer(project.root, "monitor", "status", "stranger")
    assert done.code == 2
    assert "stranger" in done.err


def test_the_page_has_a_band_a_version_and_the_data_that_each_learned_from(deployed: Deployed, answer: Answer) -> None:
    done = answer(deployed.project.root, "monitor", "status", "numbers", "--report", "html=out/m.html")
    assert done.code == 0, done.err
    source = (deployed.project.root / "out" / "m.html").read_text()
    assert set(re.findall(r'data-version="(\d+)"', source)) == {"1", "2"}
    for version, run in deployed.runs.items():
        assert run["run_id"] in source
        assert deployed.commit(version) in source
    assert "<h3>x</h3>" in source
    assert "<h3>mae</h3>" in source


def test_a_report_of_another_form_is_refused_before_anything_is_computed(deployed: Deployed, answer: Answer) -> None:
    for target in ("pdf=x.pdf", "html=", "html", "html=spec.yaml"):
        done = answer(deployed.project.root, "monitor", "status", "numbers", "--report", target)
        assert done.code == 2, target
    assert not (deployed.project.root / "x.pdf").exists()
