"""The index answers for the records, whatever became of its file; and a history has all that is before and after."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from engine.api import run
from engine.errors import NotFound, UsageError
from engine.lake.listing import commit_of
from engine.record.index import Row
from engine.record.openlineage import events
from engine.record.query import Query, answer
from engine.record.trace import Node, Sources, document, trace
from engine.store.sqlite import close_kept
from engine.wiring import open_home
from projects import Project, engine, make_project, numbers, read_only

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Four runs: passed, refused, failed, and one with other data, the second execution of which is the newest."""
    made = make_project(tmp_path_factory.mktemp("index") / "project")
    run(made.spec, inline=True)
    run(made.spec, overrides=["evaluate.gates.0.max=0.000001"], inline=True)
    run(made.spec, overrides=["train.with.mode=raise"], inline=True)
    open_home(made.root).lake.create_tag("numbers", "first", "main")
    made.put("train.parquet", numbers(150, seed=4))
    run(made.spec, inline=True)
    run(made.spec, inline=True, fresh=True)
    open_home(made.root).registry.set_alias("numbers", "production", 2)
    close_kept()
    return made


@pytest.fixture
def copied(project: Project, tmp_path: Path) -> Project:
    return Project(shutil.copytree(project.root, tmp_path / "project"))


def asked(project: Project, **query: Any) -> list[Row]:
    home = open_home(project.root)
    with home.runs.opened() as db:
        return answer(db, Query(**query), NOW, lambda uri: commit_of(uri, home.lake))


def statuses(project: Project, **query: Any) -> list[str]:
    return [row.status for row in asked(project, **query)]


ALL = ["passed", "failed", "refused", "passed"]
QUERIES: list[tuple[dict[str, Any], list[str]]] = [
    ({}, ALL),
    ({"reverse": True}, ALL[::-1]),
    ({"limit": 2}, ALL[:2]),
    ({"status": "passed"}, ["passed", "passed"]),
    ({"name": "numbers"}, ALL),
    ({"name": "others"}, []),
    ({"metrics": ("r2>0.5",)}, ["passed", "refused", "passed"]),
    ({"metrics": ("r2 > 0.5", "mae<=-1")}, []),
    ({"metrics": ("mae!=0",), "status": "refused"}, ["refused"]),
    ({"since": "2000-01-01"}, ALL),
    ({"until": "2000-01-01T00:00"}, []),
    ({"since": "400w"}, ALL),
    ({"since": "99999999999d"}, ALL),
    ({"until": "99999999w"}, []),
    ({"limit": 10**20}, ALL),
    ({"data": "lakefs://numbers/first/"}, ALL[1:]),
    ({"data": "lakefs://numbers/main/train.parquet"}, ALL[:1]),
    ({"sort": "status"}, ["failed", "passed", "passed", "refused"]),
    ({"sort": "mae", "limit": 1, "status": "failed"}, ["failed"]),
]


@pytest.mark.parametrize(("query", "expected"), QUERIES, ids=[json.dumps(row[0]) for row in QUERIES])
def test_these_runs_are_meant(project: Project, query: dict[str, Any], expected: list[str]) -> None:
    assert statuses(project, **query) == expected


def test_runs_are_sorted_by_a_metric_and_those_without_it_come_last(project: Project) -> None:
    values = [row.values.get("mae") for row in asked(project, sort="mae")]
    assert values[-1] is None
    assert values[:-1] == sorted(values[:-1], reverse=True)


@pytest.mark.parametrize(
    ("query", "error", "word"),
    [
        ({"metrics": ("maee<1",)}, NotFound, 'mean "mae"'),
        ({"metrics": ("mae<x",)}, UsageError, "number"),
        ({"metrics": ("mae",)}, UsageError, "METRIC>=NUMBER"),
        ({"status": "pased"}, UsageError, 'mean "passed"'),
        ({"since": "tomorrow"}, UsageError, "2026-11-23"),
        ({"data": "yesterday's"}, UsageError, "lakefs://"),
        ({"data": "lakefs://numbers/firts/"}, NotFound, "first"),
        ({"sort": "nothing"}, NotFound, "mae"),
    ],
)
def test_a_condition_that_means_nothing_is_said(
    project: Project, query: dict[str, Any], error: type[Exception], word: str
) -> None:
    with pytest.raises(error) as raised:
        asked(project, **query)
    assert word in f"{raised.value} {getattr(raised.value, 'hint', '')}"


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
def test_a_lost_or_damaged_index_is_made_anew(copied: Project, damage: bytes | None) -> None:
    path = copied.home / "cache" / "runs.db"
    path.unlink()
    if damage is not None:
        path.write_bytes(damage)
    assert statuses(copied) == ALL


def test_a_run_that_came_or_went_without_the_index_is_followed(copied: Project, project: Project) -> None:
    passed = asked(copied, status="refused")[0].run
    shutil.rmtree(copied.home / "runs" / passed)
    assert statuses(copied) == ["passed", "failed", "passed"]
    shutil.copytree(project.home / "runs" / passed, copied.home / "runs" / passed)
    assert statuses(copied) == ALL


def test_a_damaged_record_is_left_out_and_the_others_are_listed(copied: Project) -> None:
    run_id = asked(copied, status="refused")[0].run
    path = copied.home / "runs" / run_id / "executions" / "1" / "record.json"
    path.chmod(0o600)
    path.write_text("{")
    (copied.home / "cache" / "runs.db").unlink()
    assert statuses(copied) == ["passed", "failed", "passed"]


def test_a_home_that_takes_no_writes_is_listed_without_its_index(copied: Project, tmp_path: Path) -> None:
    (copied.home / "cache" / "runs.db").unlink()
    close_kept()
    with read_only(copied.home, tmp_path / "seen"):
        done = engine(copied.root, "runs", "list", "--json", ENGINE_HOME=str(tmp_path / "seen"))
    assert [run["status"] for run in done.json["runs"]] == ALL


def test_the_command_lists_and_filters(project: Project) -> None:
    done = engine(project.root, "runs", "list", "--metric", "r2>0.5", "--status", "passed", "--limit", "1", "--json")
    assert (done.code, len(done.json["runs"]), done.json["runs"][0]["execution"]) == (0, 1, 2)
    shown = engine(project.root, "runs", "list", "--status", "failed")
    assert len(shown.out.splitlines()) == 2
    assert engine(project.root, "runs", "list", "--name", "others").out == "no run is like that\n"


# -- histories ------------------------------------------------------------------------------------------------------


@contextmanager
def sources(project: Project) -> Iterator[Sources]:
    home = open_home(project.root)
    with home.runs.opened() as db:
        yield Sources(
            db=db,
            records=home.records,
            registry=home.registry,
            lake=home.lake,
            predictions=home.path / "predictions",
            monitor=home.path / "monitor",
        )


def traced(project: Project, text: str) -> Node:
    with sources(project) as found:
        return trace(text, found)


def kinds(found: tuple[tuple[str, Node], ...]) -> list[tuple[str, str]]:
    return [(word, node.kind) for word, node in found]


def ids(project: Project) -> dict[str, str]:
    """Ids of every kind: of the run that passed first."""
    record = open_home(project.root).records.latest(asked(project, status="passed", reverse=True)[0].run)
    assert record is not None
    pin = record.dependencies["data/train"]
    ((_, content),) = json.loads(open_home(project.root).store.read(pin["digest"]["sha256"]))
    return {
        "run": record.run_id, "artifact": record.subjects["export/model"], "manifest": pin["digest"]["sha256"],
        "commit": pin["annotations"]["commit"], "object": content, "code": record.dependencies["code"]["digest"]["sha256"],
    }  # fmt: skip


def test_a_run_leads_back_to_its_pins_and_on_to_its_artifacts_and_model(project: Project) -> None:
    node = traced(project, ids(project)["run"][:8])
    assert [node for node in kinds(node.up) if node[1] == "data"] == [
        ("read as test", "data"),
        ("read as train", "data"),
    ]
    assert {"code", "environment", "data"} == {kind for _, kind in kinds(node.up)}
    assert node.down[-1][1].shown == "numbers:1"
    assert len([1 for word, _ in node.down if word == "made"]) == 16


@pytest.mark.parametrize("name", ["numbers:1", "numbers@production", "numbers"])
def test_a_model_leads_back_to_its_run_and_the_data_behind_it(project: Project, name: str) -> None:
    node = traced(project, name)
    assert (node.kind, node.id) == ("model", "numbers:1" if name == "numbers:1" else "numbers:2")
    ((word, made),) = [(word, found) for word, found in node.up if found.kind == "run"]
    assert (word, made.kind) == ("made by", "run")
    assert "data" in {one.kind for _, one in made.up}
    assert [one.shown for _, one in node.down] == ([] if name == "numbers:1" else ["@production"])


def test_an_artifact_leads_back_to_its_run_and_on_to_the_model_that_it_is(project: Project) -> None:
    node = traced(project, f"sha256:{ids(project)['artifact']}")
    assert {word for word, _ in node.up} == {"made as export/model by"}
    assert [one.id for _, one in node.down] == ["numbers:1"]


@pytest.mark.parametrize("name", ["object", "manifest"])
def test_data_by_its_content_leads_on_to_the_runs_and_models_that_saw_it(project: Project, name: str) -> None:
    node = traced(project, ids(project)[name])
    assert [one.shown for _, one in node.down] == ["numbers failed", "numbers refused", "numbers passed", "numbers:1"]


@pytest.mark.parametrize("text", ["lakefs://numbers/first/", "lakefs://numbers/first/train.parquet", "COMMIT"])
def test_a_tag_a_path_and_a_commit_say_which_models_they_trained(project: Project, text: str) -> None:
    node = traced(project, ids(project)["commit"][:12] if text == "COMMIT" else text)
    assert [one.id for word, one in node.down if word == "trained"] == ["numbers:1"]
    judged = [one.id for word, one in node.down if "judged" in word]
    assert judged == ([] if text.endswith("train.parquet") else ["numbers:2"])  # the test data is the same


def test_a_later_commit_with_the_same_bytes_says_so(copied: Project) -> None:
    copied.put("unrelated.parquet", numbers(5))
    node = traced(copied, "lakefs://numbers/main/")
    assert node.facts["runs_at_other_commits_with_the_same_bytes"] == 4
    assert [(word, one.id) for word, one in node.down] == [
        ("the same bytes trained", "numbers:2"), ("the same bytes judged", "numbers:1"),
    ]  # fmt: skip


def executed_at_two_commits(project: Project) -> tuple[str, str, str]:
    """A run that was executed at two commits with the same data: its id, and the commits."""
    home = open_home(project.root)
    first = home.lake.resolve("numbers", "main")
    made = run(project.spec, inline=True).id
    home.lake.commit("numbers", "main", "nothing new", allow_empty=True)
    assert run(project.spec, inline=True, fresh=True).id == made
    return made, first, home.lake.resolve("numbers", "main")


def test_every_commit_at_which_any_execution_read_leads_to_the_run_and_the_run_to_each(copied: Project) -> None:
    made, *commits = executed_at_two_commits(copied)
    for commit, others in zip(commits, (3, 4), strict=True):
        assert made in {row.run for row in asked(copied, data=commit)}
        node = traced(copied, commit)
        assert ("read at this commit by", made) in [(word, other.id) for word, other in node.down]
        assert node.facts["runs_at_other_commits_with_the_same_bytes"] == others
    read = [other.id for word, other in traced(copied, made).up if word == "read as train"]
    assert read == [f"lakefs://numbers/{commit}/train.parquet" for commit in reversed(commits)]


def test_runs_are_found_by_an_object_that_they_read(project: Project) -> None:
    home = open_home(project.root)
    found = [home.lake.stat("numbers", ref, "train.parquet").digest for ref in ("first", "main")]
    assert [row.status for row in asked(project, data=found[0][:12])] == ALL[1:]
    assert [row.status for row in asked(project, data=found[1])] == ALL[:1]


@pytest.mark.parametrize("path", ["typo/", "typo", "train"])
def test_where_nothing_lies_nothing_is_said_of_runs(project: Project, path: str) -> None:
    with pytest.raises(NotFound):
        traced(project, f"lakefs://numbers/main/{path}")
    with pytest.raises(NotFound):
        asked(project, data=f"lakefs://numbers/main/{path}")


def test_a_run_that_was_collected_is_said_to_be_removed(copied: Project) -> None:
    gone = asked(copied, status="refused")[0].run
    assert engine(copied.root, "runs", "gc", "--keep", "0").code == 0
    with pytest.raises(NotFound) as raised:
        traced(copied, gone[:10])
    assert "removed its records on" in raised.value.hint


def test_an_ascii_terminal_is_shown_letters_that_it_has_and_json_that_says_the_same(copied: Project) -> None:
    open_home(copied.root).registry.describe("numbers", None, "größer")
    ascii_only = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    assert "\\u2514" in engine(copied.root, "trace", "numbers", **ascii_only).out
    shown = engine(copied.root, "models", "list", "numbers", "--json", **ascii_only)
    assert shown.json == engine(copied.root, "models", "list", "numbers", "--json").json


def test_a_baseline_leads_on_to_the_runs_that_were_compared_with_it(copied: Project) -> None:
    made = run(copied.spec, inline=True)
    node = traced(copied, "numbers:2")
    assert ("baseline of", made.id) in [(word, one.id) for word, one in node.down]
    assert "numbers:2" in {one.id for _, one in traced(copied, made.id).up}


def test_code_leads_on_to_the_runs_that_it_made(project: Project) -> None:
    node = traced(project, ids(project)["code"])
    assert (node.kind, len([1 for _, one in node.down if one.kind == "run"])) == ("code", 4)


@pytest.mark.parametrize(
    "text", ["ffffffff", "nothing", "numbers:9", "numbers@nobody", "lakefs://numbers/nowhere/", "abc", "NO NAME"]
)
def test_what_names_nothing_is_said(project: Project, text: str) -> None:
    done = engine(project.root, "trace", text, "--json")
    assert (done.code, bool(done.json["error"]["hint"])) == (2, True)


def test_a_history_is_one_document_whose_edges_lead_to_nodes(project: Project) -> None:
    found = document(traced(project, "numbers:1"))
    assert found["subject"] in found["nodes"]
    assert {edge[end] for edge in found["edges"] for end in ("from", "to")} <= set(found["nodes"])
    assert engine(project.root, "trace", "numbers:1", "--json").json == found
    shown = engine(project.root, "trace", "numbers:1").out
    assert "read as train data lakefs://numbers/main/train.parquet" in shown


def test_a_history_as_openlineage_has_what_its_schema_asks_for(project: Project) -> None:
    home = open_home(project.root)
    found = events(traced(project, "lakefs://numbers/first/"), home.records)
    assert [event["eventType"] for event in found] == ["COMPLETE", "COMPLETE", "FAIL"]
    for event in found:
        assert {"eventType", "eventTime", "run", "job", "producer", "schemaURL"} <= event.keys()
        assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", event["run"]["runId"])
        assert datetime.fromisoformat(event["eventTime"]).tzinfo
        assert {"namespace", "name"} <= event["job"].keys()
        for dataset in (*event["inputs"], *event["outputs"]):
            assert {"namespace", "name"} <= dataset.keys()
            assert all({"_producer", "_schemaURL"} <= facet.keys() for facet in dataset["facets"].values())
    assert [one["name"] for one in found[0]["inputs"]] == ["test.parquet", "train.parquet"]
    done = engine(project.root, "trace", "lakefs://numbers/first/", "--format", "openlineage")
    assert json.loads(done.out) == found


def test_the_index_is_whole_after_each_run_without_being_asked(project: Project) -> None:
    before = (project.home / "cache" / "runs.db").stat().st_mtime_ns
    time.sleep(0.01)
    assert statuses(project) == ALL
    assert (project.home / "cache" / "runs.db").stat().st_mtime_ns == before


def test_a_model_names_the_decisions_that_gave_it_an_alias(project: Project) -> None:
    node = traced(project, "numbers@production")
    entries = [found for word, found in node.up if word == "named in"]
    assert [entry.facts["alias"] for entry in entries] == ["production"]
    assert all(entry.id.isdigit() for entry in entries)
