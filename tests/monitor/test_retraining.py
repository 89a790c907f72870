"""An alarm leads to another version, on a branch of the lake, and never to production."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from engine.errors import NotFound
from engine.execute.protocol import StepEvent
from engine.monitor.table import Table
from engine.patrol import Duty, patrol
from engine.registry.model import ModelRef
from engine.retraining import retrain
from monitored import START, Served, every, noisy, observatory, shifted
from projects import engine, make_project

NOW = START + timedelta(days=2)


def silent(event: StepEvent) -> None:
    """Hear of a step."""


def alarmed(
    root: Path, *, labelled: int = 400, gate: float = 1.0, noise: float = 0.0, watched: bool = True
) -> tuple[Served, str]:
    """A model that answered 400 rows that drifted, of which the first got labels; and the alarm about them."""
    from engine.api import plan, run

    project = make_project(root)
    monitor = {
        "reference": "train",
        "detectors": [{"name": "inputs", "uses": "ks", "window": 400}],
        "false_alarms": "1 per 100 windows",
        "on_alert": {
            "retrain": {"alias": "shadow"},
            "webhook": "${oc.env:ALERT_URL,null}",
            "signing_key": "${oc.env:ALERT_KEY,null}",
        },
    }
    gates = [{"metric": "mae", "max": gate}]
    project.write({"evaluate.slices": None, "evaluate.gates": gates}, monitor=monitor)
    assert run(plan(project.spec), inline=True).status == "passed"
    served = Served(root, "numbers")
    table = shifted(pa.table(noisy(400, 3)), "x", 5.0)
    ids = served.answer(table, every(1, 400))
    x, z = table.column("x").to_numpy(), table.column("z").to_numpy()
    truth = 3 * x - z + 1 + noise * np.random.default_rng(1).normal(size=400)
    known = dict(zip(ids[:labelled], truth[:labelled].tolist(), strict=True))
    served.label(known, START + timedelta(days=1))
    return served, first_alarm(served) if watched else ""


def first_alarm(served: Served) -> str:
    """What a watch finds, which retrains nothing itself."""
    work = Duty(
        where=observatory(served.home),
        table=Table(served.home.path / "monitor"),
        post=lambda url, body, headers: (500, ""),
        clock=lambda: NOW,
    )
    list(patrol(["numbers"], work, once=True))
    return str(next(item["id"] for item in work.table.alarms("numbers") if item["signal"] == "drift"))


def retrained(served: Served, alarm: str) -> Mapping[str, Any]:
    return retrain("numbers", alarm, served.home, observatory(served.home), silent, NOW, inline=True)


@pytest.fixture(scope="module")
def passed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Served, str, Mapping[str, Any]]:
    served, alarm = alarmed(tmp_path_factory.mktemp("retrained") / "project")
    return served, alarm, retrained(served, alarm)


def test_a_version_whose_gates_pass_gets_the_alias_of_the_spec_and_not_production(
    passed: tuple[Served, str, Mapping[str, Any]],
) -> None:
    served, _, outcome = passed
    assert (outcome["status"], outcome["version"], outcome["alias"]) == ("passed", 2, "shadow")
    assert served.home.registry.aliases("numbers") == {"shadow": 2}


def test_the_ledger_and_the_commit_name_the_alarm_as_the_cause(passed: tuple[Served, str, Mapping[str, Any]]) -> None:
    served, alarm, outcome = passed
    entry = served.home.registry.ledger("numbers")[-1]
    assert alarm in str(entry)
    (commit, *_) = served.home.lake.log("numbers", outcome["branch"])
    assert commit.metadata["engine.alarm"] == alarm


def test_it_learns_from_the_old_data_and_the_older_labels_and_is_judged_on_the_newest(
    passed: tuple[Served, str, Mapping[str, Any]],
) -> None:
    _, _, outcome = passed
    assert outcome["rows"] == {"train": 200 + 280, "test": 120, "labelled": 400}


def test_the_version_predicts_what_became_true(passed: tuple[Served, str, Mapping[str, Any]]) -> None:
    served, _, outcome = passed
    assert served.home.registry.get(ModelRef(name="numbers", version=2)).runs == (outcome["run"],)
    assert outcome["metrics"]["mae"] < 1.0


def test_a_gate_that_refuses_sets_no_alias(tmp_path: Path) -> None:
    served, alarm = alarmed(tmp_path / "project", noise=20.0)
    outcome = retrained(served, alarm)
    assert (outcome["status"], outcome["version"]) == ("refused", None)
    assert "mae" in outcome["reason"]
    assert served.home.registry.aliases("numbers") == {}


def test_with_too_few_labels_it_waits_and_they_are_counted(tmp_path: Path) -> None:
    served, alarm = alarmed(tmp_path / "project", labelled=150)
    outcome = retrained(served, alarm)
    assert outcome["status"] == "waiting"
    assert "only 150 logged rows have a label, and it takes 200" in outcome["reason"]


def test_an_alarm_that_is_not_there_is_named(tmp_path: Path) -> None:
    served, _ = alarmed(tmp_path / "project", labelled=1)
    with pytest.raises(NotFound, match="no alarm of numbers"):
        retrained(served, "0" * 32)


@pytest.mark.slow
def test_a_watch_of_its_own_process_retrains_and_says_so(tmp_path: Path) -> None:
    served, _ = alarmed(tmp_path / "project", watched=False)
    done = engine(served.home.root, "monitor", "watch", "numbers", "--once", "--inline")
    assert done.code == 1
    assert "numbers@shadow is now version 2" in done.out
    (noted,) = [one for one in Table(served.home.path / "monitor").retrained("numbers") if one["outcome"].get("run")]
    assert noted["outcome"]["status"] == "passed"
    assert served.home.registry.aliases("numbers") == {"shadow": 2}
