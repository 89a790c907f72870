"""alibi's TabularDrift behind our protocol says what alibi says, and is restored without a pickle."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from engine.plugins import Feature, PluginFailed, find, load
from engine_plugins.alibi.detectors import CVMDrift, FETDrift, KSDrift, TabularDrift
from engine_plugins.alibi.library import library, part
from engine_plugins.alibi.online import CVMDriftOnline, cramer_von_mises, knowing
from engine_plugins.alibi.outliers import IForest, Mahalanobis
from engine_plugins.alibi.whole import ClassifierDrift, MMDDrift
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
    assert theirs.p_val == pytest.approx(ours, rel=1e-3, abs=1e-30)  # ours is asymptotic


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


PARTS = """
import sys
import numpy as np
from engine_plugins.alibi.library import at_work, part
detector = part("cd.cvm_online", "CVMDriftOnline")
with at_work():
    made = detector(np.random.rand(20, 1), ert=20, window_sizes=[3], n_bootstraps=64, verbose=False)
    made.predict(np.zeros(1)); made.predict(np.zeros(1)); made.predict(np.zeros(1))
for module in ("cd.fet_online", "cd.sklearn.classifier", "od.isolationforest", "od.mahalanobis", "cd.fet"):
    __import__("engine_plugins.alibi.library").alibi.library.part(module, "np")
left = sorted(name for name in sys.modules if name.partition(".")[0] == "alibi_detect")
print(left, sorted({"transformers", "torch"} & set(sys.modules)))
"""


@pytest.mark.slow
def test_no_detector_needs_the_rest_of_the_library() -> None:
    assert printed(PARTS).splitlines() == ["[] []"]


def test_only_the_detector_is_loaded_and_the_library_can_still_be_imported_whole() -> None:
    assert printed(SHORT).splitlines() == ["[] []", "TabularDrift"]


@pytest.mark.slow
def test_what_is_loaded_already_is_used() -> None:
    assert printed(LONG).splitlines() == ["True"]


# -- one feature at a time ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("detector", "module", "name"),
    [(KSDrift(), "cd.ks", "KSDrift"), (CVMDrift(), "cd.cvm", "CVMDrift")],
    ids=["KSDrift", "CVMDrift"],
)
@pytest.mark.parametrize("shift", [0.0, 0.15])
def test_tests_of_numbers_say_what_alibi_says(detector: Any, module: str, name: str, shift: float) -> None:
    random = np.random.default_rng(4)
    before, after = (random.normal(size=(rows, 2)).astype(np.float32) for rows in (1_000, 300))
    after += np.float32(shift)
    features = tuple(Feature(name=name, role="numeric", datatype="FP32") for name in "ab")
    theirs = part(module, name)(before).predict(after)["data"]
    fitted = detector.fit(pa.table({"a": before[:, 0], "b": before[:, 1]}), features, 0)
    found = fitted.predict(pa.table({"a": after[:, 0], "b": after[:, 1]}))
    assert list(found.p_val.values()) == pytest.approx([float(value) for value in theirs["p_val"]], rel=1e-3)
    assert list(found.distance.values()) == pytest.approx([float(value) for value in theirs["distance"]], rel=1e-3)
    assert found.drift == bool(theirs["is_drift"])


def test_equal_numbers_are_no_drift_for_cramer_and_von_mises() -> None:
    random = np.random.default_rng(1)
    feature = (Feature(name="hour", role="numeric", datatype="FP32"),)
    fitted = CVMDrift().fit(pa.table({"hour": random.integers(0, 24, 5_000)}), feature, 0)
    windows = [pa.table({"hour": random.integers(0, 24, 500)}) for _ in range(200)]
    alarms = sum(fitted.predict(window).drift for window in windows)
    low, high = stats.binom.interval(0.999, 200, 0.05)
    assert low <= alarms <= high


@pytest.mark.parametrize("correction", ["bonferroni", "fdr"])
def test_a_feature_that_is_asked_alone_has_the_threshold_of_all(correction: Any) -> None:
    fitted = TabularDrift(correction=correction).fit(flights(2_000, 1), FEATURES, 0)
    window = flights(500, 2, shift=0.5)
    alone, all_of_them = fitted.only(["delay"]).predict(window), fitted.predict(window)
    assert alone.threshold == all_of_them.threshold
    assert alone.p_val == {"delay": all_of_them.p_val["delay"]}


def test_a_feature_of_three_values_is_not_for_fishers_test() -> None:
    with pytest.raises(PluginFailed, match='"carrier" has 3 values in the reference, and the test is for two'):
        FETDrift(features=["carrier"]).fit(flights(100, 1), FEATURES, 0)


def test_fishers_test_is_that_of_scipy() -> None:
    before, after = flights(900, 1, carriers=("AA", "DL")), flights(300, 2, carriers=("AA", "DL", "DL"))
    found = FETDrift(features=["carrier"]).fit(before, FEATURES, 0).predict(after)
    counts = [[table.column("carrier").to_pylist().count(name) for table in (after, before)] for name in ("DL", "AA")]
    assert found.p_val["carrier"] == pytest.approx(stats.fisher_exact(counts)[1], rel=1e-9)
    assert found.drifted == ("carrier",)


# -- whole rows and outliers -------------------------------------------------------------------------------------------


def linked(rows: int, seed: int, sign: float = 1.0) -> pa.Table:
    """Two numbers that go together, or against each other: alone neither changes."""
    random = np.random.default_rng(seed)
    first = random.normal(size=rows)
    second = sign * 0.9 * first + np.sqrt(1 - 0.81) * random.normal(size=rows)
    return pa.table({"delay": first, "distance": second})


@pytest.mark.parametrize("model", ["boosting", "forest"])
def test_a_classifier_sees_what_no_feature_shows_alone(model: Any) -> None:
    before, after = linked(3_000, 1), linked(600, 2, sign=-1.0)
    assert not KolmogorovSmirnov().fit(before, FEATURES[:2], 0).predict(after).drift
    assert ClassifierDrift(model=model).fit(before, FEATURES[:2], 0).predict(after).p_val["*"] < 1e-6


@pytest.mark.parametrize("detector", [IForest(), Mahalanobis()], ids=["IForest", "Mahalanobis"])
def test_a_window_of_outliers_is_seen_and_its_share_told(detector: Any) -> None:
    fitted = detector.fit(flights(4_000, 1), FEATURES, 3)
    window = pa.concat_tables([flights(180, 2), flights(20, 3, shift=9.0)])
    found = fitted.predict(window)
    assert found.drifted == ("*",)
    assert 0.05 < found.distance["*"] < 0.2


@pytest.mark.parametrize("detector", [IForest(n_estimators=10), Mahalanobis()], ids=["IForest", "Mahalanobis"])
def test_over_many_references_outliers_are_false_alarms_as_often_as_p_val_says(detector: Any) -> None:
    alarms = sum(
        detector.fit(flights(400, 1_000 + number), FEATURES, number).predict(flights(200, number)).drift
        for number in range(80)
    )
    assert alarms <= stats.binom.ppf(0.999, 80, 0.05)


def test_a_forest_that_grows_otherwise_refuses_to_judge() -> None:
    parameters, reference = IForest(n_estimators=10).fit(flights(200, 1), FEATURES, 3).state()
    learned: Any = parameters["learned"]
    with pytest.raises(PluginFailed, match="is not the one that was fitted"):
        IForest().restore({**parameters, "learned": {**learned, "seed": 4}}, reference)


@pytest.mark.skipif(find_spec("torch") is not None, reason="PyTorch is installed")
def test_without_pytorch_its_detectors_say_what_to_install() -> None:
    with pytest.raises(PluginFailed) as caught:
        MMDDrift().fit(flights(100, 1), FEATURES, 0)
    assert str(caught.value).startswith(
        'MMDDrift needs PyTorch, which is not installed; install it: pip install "mlops'
    )


# -- online ------------------------------------------------------------------------------------------------------------


def test_statistics_by_ranks_are_those_of_alibi() -> None:
    random = np.random.default_rng(0)
    reference, stream = random.normal(size=(100, 1)), random.normal(size=30)
    detector = knowing(part("cd.cvm_online", "CVMDriftOnline"), thresholds=np.full((1, 1), np.inf))(
        reference, ert=100, window_sizes=[5, 10], verbose=False
    )
    below = (reference[:, 0] < stream[:, None]).sum(axis=1)
    for row, value in enumerate(stream):
        theirs = detector.predict(np.array([value]))["data"]["test_stat"][:, 0]
        ours = [
            cramer_von_mises(below[None, row + 1 - size : row + 1], 100)[0] if row + 1 >= size else np.nan
            for size in (5, 10)
        ]
        assert theirs == pytest.approx(ours, rel=1e-5, nan_ok=True)


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"ert": 30}, "with.ert"),
        ({"window_sizes": [1]}, "with.window_sizes"),
        ({"reference_rows": 50}, "with.reference_rows"),
        ({"n_bootstraps": 100}, "with.n_bootstraps"),
        ({"ert": 10_000_000}, "with.ert"),
    ],
)
def test_windows_and_run_lengths_that_do_not_go_together_are_named(given: Any, key: str) -> None:
    with pytest.raises(PluginFailed) as caught:
        CVMDriftOnline(**given).fit(flights(200, 1), FEATURES, 0)
    assert caught.value.key == key
