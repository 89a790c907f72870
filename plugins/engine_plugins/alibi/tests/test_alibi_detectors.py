"""alibi's TabularDrift behind our protocol says what alibi says, and is restored without a pickle."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from engine.plugins import Feature, PluginFailed, find, load
from engine_plugins.alibi.detectors import TabularDrift
from engine_plugins.alibi.library import library
from engine_plugins.drift.detectors import ChiSquare, KolmogorovSmirnov

FEATURES = (
    Feature(name="delay", role="numeric", datatype="FP32"),
    Feature(name="distance", role="numeric", datatype="FP32"),
    Feature(name="carrier", role="categorical", datatype="BYTES"),
)


def flights(rows: int, seed: int, shift: float = 0.0, carriers: tuple[str, ...] = ("AA", "DL", "UA")) -> pa.Table:
    random = np.random.default_rng(seed)
    return pa.table(
        {
            "delay": random.normal(size=rows).astype(np.float32) + np.float32(shift),
            "distance": random.integers(100, 3_000, rows),
            "carrier": random.choice(carriers, rows),
        }
    )


def matrix(table: pa.Table, codes: dict[str, int]) -> np.ndarray[Any, np.dtype[np.float64]]:
    coded = [codes[name] for name in table.column("carrier").to_pylist()]
    return np.column_stack([table.column("delay").to_numpy(), table.column("distance").to_numpy(), coded])


@pytest.mark.parametrize("correction", ["bonferroni", "fdr"])
@pytest.mark.parametrize("shift", [0.0, 0.15, 2.0])
def test_the_verdict_is_that_of_alibi_on_the_whole_table(correction: Any, shift: float) -> None:
    before, after = flights(2_000, 1), flights(500, 2, shift)
    codes = {"AA": 0, "DL": 1, "UA": 2}
    theirs = library().tabular_drift(
        matrix(before, codes), p_val=0.05, categories_per_feature={2: 3}, correction=correction
    )
    expected = theirs.predict(matrix(after, codes))["data"]
    found = TabularDrift(correction=correction).fit(before, FEATURES, 0).predict(after)
    assert found.drift == bool(expected["is_drift"])
    assert list(found.p_val.values()) == [float(value) for value in expected["p_val"]]
    assert list(found.distance.values()) == [float(value) for value in expected["distance"]]
    assert found.threshold == pytest.approx(float(np.min(expected["threshold"])))


def test_it_agrees_with_our_own_tests() -> None:
    before, after = flights(20_000, 1), flights(500, 2, 0.1, ("AA", "AA", "UA"))
    theirs = TabularDrift().fit(before, FEATURES, 0).predict(after)
    numeric = KolmogorovSmirnov().fit(before, FEATURES, 0).predict(after)
    categorical = ChiSquare().fit(before, FEATURES, 0).predict(after)
    ours = {**numeric.p_val, **categorical.p_val}
    assert theirs.p_val == pytest.approx(ours, rel=1e-6, abs=1e-30)


@pytest.mark.parametrize("correction", ["bonferroni", "fdr"])
def test_a_restored_detector_gives_the_same_verdict(correction: Any) -> None:
    fitted = TabularDrift(correction=correction, reference_rows=700).fit(flights(2_000, 1), FEATURES, 7)
    parameters, reference = fitted.state()
    restored = TabularDrift().restore(json.loads(json.dumps(parameters)), reference)
    window = flights(300, 2, 0.2, ("AA", "UA", "WN"))
    assert restored.predict(window) == fitted.predict(window)
    assert reference.num_rows == 700


def test_an_unseen_category_is_a_change() -> None:
    fitted = TabularDrift(features=["carrier"]).fit(flights(1_000, 1), FEATURES, 0)
    verdict = fitted.predict(flights(300, 2, carriers=("AA", "DL", "UA", "WN")))
    assert verdict.drifted == ("carrier",)
    assert fitted.predict(flights(300, 3)).drifted == ()


def test_missing_values_are_left_out_feature_by_feature() -> None:
    fitted = TabularDrift().fit(flights(1_000, 1), FEATURES, 0)
    window = flights(300, 2)
    holes = pa.table(
        {
            "delay": pa.array([None, float("nan")], window.schema.field("delay").type),
            "distance": pa.array([None, None], pa.int64()),
            "carrier": pa.array([None, ""], pa.string()),
        }
    )
    assert fitted.predict(pa.concat_tables([window, holes])).p_val == fitted.predict(window).p_val


def test_a_window_without_a_value_of_a_feature_says_nothing_of_it() -> None:
    fitted = TabularDrift(features=["delay"]).fit(flights(100, 1), FEATURES, 0)
    assert fitted.predict(pa.table({"delay": pa.array([None], pa.float64())})).p_val == {"delay": 1.0}


def test_an_unknown_feature_is_named() -> None:
    with pytest.raises(PluginFailed) as caught:
        TabularDrift(features=["carier"]).fit(flights(9, 1), FEATURES, 0)
    assert str(caught.value) == 'no feature "carier"; did you mean "carrier"?'


def test_it_is_found_by_its_name() -> None:
    assert load(find("detector", "alibi.TabularDrift")) is TabularDrift


SHORT = """
import sys
from engine_plugins.alibi.library import library
library()
left = sorted(name for name in sys.modules if name.partition(".")[0] == "alibi_detect")
print(left, sorted({"numba", "transformers", "torch"} & set(sys.modules)))
import alibi_detect.cd
print(alibi_detect.cd.TabularDrift.__name__)
"""
LONG = """
import sys, alibi_detect.cd
from engine_plugins.alibi.library import library
print(library().tabular_drift is alibi_detect.cd.TabularDrift)
"""


def printed(code: str) -> str:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


def test_only_the_detector_is_loaded_and_the_library_can_still_be_imported_whole() -> None:
    assert printed(SHORT).splitlines() == ["[] []", "TabularDrift"]


@pytest.mark.slow
def test_what_is_loaded_already_is_used() -> None:
    assert printed(LONG).splitlines() == ["True"]
