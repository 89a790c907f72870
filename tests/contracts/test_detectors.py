"""What every detector of Engine's keeps to, ours and alibi's: one suite for all."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from engine.digest import plain
from engine.monitor.detectors import made, restored
from engine.plugins import DriftVerdict, Feature, FittedDetector, OnlineDetector, PluginFailed, describe, find, names

FEATURES = (
    Feature(name="delay", role="numeric", datatype="FP32"),
    Feature(name="hour", role="numeric", datatype="FP32"),
    Feature(name="carrier", role="categorical", datatype="BYTES"),
    Feature(name="gate", role="categorical", datatype="INT64"),
    Feature(name="cargo", role="numeric", datatype="FP32"),
)


@dataclass(frozen=True)
class Case:
    """A detector with its parameters, what makes a window that it must see, and in what it sees it.

    Without a change it alarms in at most ``most`` of 60 windows: of tests at 0.05 no more than 9, with 99.9 %.
    """

    uses: str
    given: dict[str, Any] = field(default_factory=dict)
    change: str = "shift"
    sees: str = "delay"
    most: int = 9

    def __str__(self) -> str:
        return self.uses


# A reference of 200 rows is soon fitted, and so far off what it is of that false alarms may come three times as often.
SMALL = {"ert": 1_000, "n_bootstraps": 2_500, "window_size": 10, "reference_rows": 200}
CASES = [
    Case("ks"),
    Case("chi2", change="carriers"),
    Case("psi"),
    Case("js", {"bins": 20}),
    Case("wasserstein"),
    Case("unseen", change="carriers"),
    Case("missing", change="holes"),
    Case("cusum", {"ert": 20_000}),
    Case("alibi.TabularDrift"),
    Case("alibi.KSDrift"),
    Case("alibi.CVMDrift"),
    Case("alibi.ChiSquareDrift", change="carriers"),
    Case("alibi.FETDrift", {"features": ["cargo"]}, change="cargo"),
    Case("alibi.ClassifierDrift", {"model": "logistic", "reference_rows": 1_000}, sees="*"),
    Case("alibi.IForest", change="far", sees="*"),
    Case("alibi.Mahalanobis", change="far", sees="*"),
    # 60 streams of 500 rows have 15 alarms, and with 99.9 % no more than 27.
    Case("alibi.CVMDriftOnline", {"ert": 2_000, "features": ["delay", "hour"], "reference_rows": 200}, most=27),
    Case("alibi.FETDriftOnline", {"ert": 2_000, "features": ["cargo"]}, "cargo", most=27),
    Case("alibi.MMDDrift", {"n_permutations": 50}, sees="*"),
    Case("alibi.LSDDDrift", {"n_permutations": 50}, sees="*"),
    Case("alibi.MMDDriftOnline", SMALL, "far", "*", most=90),
    Case("alibi.LSDDDriftOnline", SMALL, "far", "*", most=90),
]
LONG = {"alibi.CVMDriftOnline", "alibi.FETDriftOnline"}
TORCH = {"alibi.MMDDrift", "alibi.LSDDDrift", "alibi.MMDDriftOnline", "alibi.LSDDDriftOnline"}
without_torch = pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch is not installed")


def flights(rows: int, seed: int, change: str = "") -> pa.Table:
    random = np.random.default_rng(seed)
    delay = random.normal(size=rows) + (change == "shift") + 5 * (change == "far")
    carriers = ("AA", "DL", "ZZ") if change == "carriers" else ("AA", "DL", "UA")
    table = pa.table(
        {
            "delay": delay.astype(np.float32),
            "hour": random.integers(0, 24, rows),
            "carrier": random.choice(carriers, rows),
            "gate": random.integers(1, 5, rows),
            "cargo": (random.random(rows) < (0.8 if change == "cargo" else 0.3)).astype(np.float32),
        }
    )
    holes = pa.array(random.random(rows) < 0.2)
    if change == "holes":
        empty = pa.nulls(rows, pa.float32())
        table = table.set_column(0, "delay", pa.compute.if_else(holes, empty, table.column("delay")))
    return table


@pytest.fixture(scope="module")
def fitted() -> Callable[[Case], FittedDetector]:
    known: dict[str, FittedDetector] = {}

    def fit(case: Case) -> FittedDetector:
        if case.uses not in known:
            known[case.uses] = made(case.uses, case.given).fit(flights(5_000, 1), FEATURES, 7)
        return known[case.uses]

    return fit


def marks(case: Case) -> list[pytest.MarkDecorator]:
    if case.uses in TORCH:
        return [without_torch, pytest.mark.slow]
    return [pytest.mark.slow] if case.uses in LONG else []


every = pytest.mark.parametrize("case", [pytest.param(case, marks=marks(case), id=case.uses) for case in CASES])
online = pytest.mark.parametrize(
    "case", [pytest.param(case, marks=marks(case), id=case.uses) for case in CASES if "ert" in case.given]
)
Fit = Callable[[Case], FittedDetector]


def through_json(case: Case, detector: FittedDetector) -> FittedDetector:
    state, reference = detector.state()
    stored = {"uses": case.uses, "with": case.given, "state": plain(state)}
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, reference.schema) as writer:
        writer.write_table(reference)
    table = pa.ipc.open_file(sink.getvalue()).read_all()
    return restored(json.loads(json.dumps(stored)), table)


def test_every_detector_is_in_the_suite() -> None:
    assert sorted(case.uses for case in CASES) == names("detector")


@every
@pytest.mark.parametrize("change", ["", "shift", "carriers", "holes", "cargo"])
def test_what_was_stored_gives_the_same_verdict(case: Case, change: str, fitted: Fit) -> None:
    window = flights(400, 3, change)
    assert through_json(case, fitted(case)).predict(window) == fitted(case).predict(window)


@every
def test_the_same_seed_gives_the_same_state(case: Case, fitted: Fit) -> None:
    again = made(case.uses, case.given).fit(flights(5_000, 1), FEATURES, 7)
    assert again.state() == fitted(case).state()


@every
def test_a_change_is_seen(case: Case, fitted: Fit) -> None:
    found = fitted(case).predict(flights(1_000, 4, case.change))
    assert found.drift
    assert found.drifted[0] == {"carriers": "carrier", "cargo": "cargo"}.get(case.change, case.sees)


@every
def test_without_a_change_alarms_are_rare(case: Case, fitted: Fit) -> None:
    verdicts = [fitted(case).predict(flights(500, seed)) for seed in range(100, 160)]
    assert sum(len(verdict.at) or verdict.drift for verdict in verdicts) <= case.most


@every
def test_a_window_without_rows_is_no_alarm(case: Case, fitted: Fit) -> None:
    found = fitted(case).predict(flights(0, 5))
    assert (found.drift, found.rows, set(found.p_val.values())) in [(False, 0, {1.0}), (False, 0, set())]


@every
def test_the_order_of_rows_and_columns_and_other_columns_change_nothing(case: Case, fitted: Fit) -> None:
    if isinstance(fitted(case), OnlineDetector):
        pytest.skip("an online detector reads rows in their order")
    window = flights(300, 6)
    mixed = window.take(np.random.default_rng(0).permutation(300))
    mixed = mixed.select(["cargo", "gate", "carrier", "hour", "delay"])
    assert fitted(case).predict(mixed.append_column("more", pa.nulls(300))) == fitted(case).predict(window)


@every
def test_figures_are_probabilities_and_distances(case: Case, fitted: Fit) -> None:
    for change in ("", "shift", "carriers", "holes"):
        found = fitted(case).predict(flights(200, 8, change))
        assert all(0 <= value <= 1 for value in found.p_val.values())
        assert all(value >= 0 for value in found.distance.values())
        assert set(found.drifted) <= set(found.distance)


@every
def test_a_window_without_a_column_names_it(case: Case, fitted: Fit) -> None:
    watched = [item["name"] for item in fitted(case).state()[0]["features"]]  # type: ignore[attr-defined]
    with pytest.raises(PluginFailed, match=f'the window has no column "{watched[0]}"'):
        fitted(case).predict(flights(50, 2).drop_columns([watched[0]]))


@every
def test_a_feature_that_is_not_there_is_named_with_its_key(case: Case) -> None:
    with pytest.raises(PluginFailed) as caught:
        made(case.uses, {**case.given, "features": ["dealy"]}).fit(flights(50, 2), FEATURES, 0)
    assert caught.value.key == "with.features.0"


@every
def test_its_source_says_what_it_is_for(case: Case) -> None:
    declares = describe(find("detector", case.uses)).constants
    assert set(declares["roles"]) <= {"numeric", "categorical"}
    assert declares["least_rows"] >= 1


@online
@pytest.mark.parametrize("cuts", [[1], [999], [10, 11, 500], [300, 300, 301]])
def test_how_a_stream_is_cut_and_a_restart_change_no_alarm(case: Case, cuts: list[int], fitted: Fit) -> None:
    detector = fitted(case)
    assert isinstance(detector, OnlineDetector)
    stream = pa.concat_tables([flights(400, 1), flights(600, 2, case.change)])
    whole = detector.update(detector.begin(), stream)
    known, alarms = detector.begin(), list[int]()
    for start, end in zip([0, *cuts], [*cuts, 1_000], strict=True):
        detector = through_json(case, detector)  # type: ignore[assignment]
        known, part = detector.update(json.loads(json.dumps(known)), stream.slice(start, end - start))
        alarms += part.at
    assert (known, tuple(alarms)) == (whole[0], whole[1].at)
    assert alarms


@online
def test_a_stream_of_many_rows_needs_no_more_memory_than_one_of_few(case: Case, fitted: Fit) -> None:
    detector = fitted(case)
    assert isinstance(detector, OnlineDetector)
    few, _ = detector.update(detector.begin(), flights(200, 1))
    many, _ = detector.update(few, flights(1_000, 2))
    assert len(json.dumps(many)) <= 2 * len(json.dumps(few))


@online
def test_a_verdict_says_where_an_online_alarm_was(case: Case, fitted: Fit) -> None:
    stream = pa.concat_tables([flights(200, 1), flights(300, 2, case.change)])
    found: DriftVerdict = fitted(case).predict(stream)
    assert any(200 < row <= 300 for row in found.at)
    assert all(0 < row <= 500 for row in found.at)


@online
def test_an_online_detector_says_its_run_length(case: Case, fitted: Fit) -> None:
    assert fitted(case).state()[0]["ert"] == case.given["ert"]
    assert describe(find("detector", case.uses)).constants["online"]
