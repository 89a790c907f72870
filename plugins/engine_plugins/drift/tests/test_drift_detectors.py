"""Our detectors agree with scipy, keep their word after a restore, and name what they cannot watch."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from engine.plugins import Detector, Feature, PluginFailed
from engine_plugins.drift.columns import SingleArray
from engine_plugins.drift.counts import Missing, Unseen
from engine_plugins.drift.detectors import (
    ChiSquare,
    KolmogorovSmirnov,
    homogeneity,
    one_sided,
    tail,
)
from engine_plugins.drift.divergence import JensenShannon, StabilityIndex
from engine_plugins.drift.gap import FEWEST, Reference
from engine_plugins.drift.transport import Wasserstein

FEATURES = (
    Feature(name="delay", role="numeric", datatype="FP32"),
    Feature(name="hour", role="numeric", datatype="FP32"),
    Feature(name="carrier", role="categorical", datatype="BYTES"),
    Feature(name="gate", role="categorical", datatype="INT64"),
)
DETECTORS: list[Detector] = [
    KolmogorovSmirnov(),
    ChiSquare(),
    KolmogorovSmirnov(correction="none", p_val=0.01),
    StabilityIndex(),
    JensenShannon(bins=20),
    Wasserstein(),
    Unseen(),
    Missing(),
]


def flights(rows: int, seed: int, shift: float = 0.0, carriers: tuple[str, ...] = ("AA", "DL", "UA")) -> pa.Table:
    random = np.random.default_rng(seed)
    return pa.table(
        {
            "delay": random.normal(size=rows) + shift,
            "hour": random.integers(0, 24, rows),
            "carrier": random.choice(carriers, rows),
            "gate": random.integers(1, 5, rows),
        }
    )


@pytest.mark.parametrize(
    ("reference", "window"), [(30, 7), (2_000, 1_000), (10_000, 10_000), (20_000, 300), (20_000, 15_000), (50, 12_000)]
)
@pytest.mark.parametrize("shift", [0.0, 0.1, 5.0])
@pytest.mark.parametrize("column", ["delay", "hour"])
def test_kolmogorov_smirnov_says_what_scipy_says(reference: int, window: int, shift: float, column: str) -> None:
    before, after = flights(reference, 1), flights(window, 2, shift)
    found = KolmogorovSmirnov().fit(before, FEATURES, 0).predict(after)
    sides = [table.column(column).to_numpy().astype(np.float32).astype(np.float64) for table in (before, after)]
    expected = stats.ks_2samp(*sides)
    exact = max(reference, window) <= 10_000
    assert found.p_val[column] == pytest.approx(expected.pvalue, rel=1e-9 if exact else 1e-3, abs=1e-300)
    assert found.distance[column] == pytest.approx(expected.statistic, rel=1e-12)


@pytest.mark.parametrize("size", [100, 300, 1_000, 4_000, 10_000])
@pytest.mark.parametrize("exponent", [-100.0, -12.0, -7.0, -4.0, -2.0, -1.01, -0.99, -0.5, -0.05, -0.001])
def test_the_tail_of_many_values_is_that_of_scipy(size: int, exponent: float) -> None:
    distance = float(stats.kstwo.isf(10**exponent, size))
    assert tail(size, distance) == pytest.approx(float(stats.kstwo.sf(distance, size)), rel=1e-3)


@pytest.mark.parametrize("size", [100, 1_000, 10_000])
@pytest.mark.parametrize("exponent", [-200.0, -9.0, -3.0, -1.0])
def test_the_one_sided_probability_is_exact(size: int, exponent: float) -> None:
    distance = float(stats.ksone.isf(10**exponent, size))
    assert one_sided(size, distance) == pytest.approx(float(special.smirnov(size, distance)), rel=1e-9)


@pytest.mark.parametrize("size", [20_000, 1_000_000])
@pytest.mark.parametrize("exponent", [-7.0, -4.0, -1.0, -0.05])
def test_the_tail_of_very_many_values_is_close_to_that_of_scipy(size: int, exponent: float) -> None:
    distance = float(stats.kstwo.isf(10**exponent, size))
    assert tail(size, distance) == pytest.approx(float(stats.kstwo.sf(distance, size)), rel=3e-3)


SINGLES = st.lists(st.sampled_from([-1.5, 0.0, -0.0, 0.5, 1e30, 3.0, 3.0000002, float("inf")]), min_size=1, max_size=30)


def distance(left: SingleArray, right: SingleArray) -> float:
    """The largest distance of two distribution functions at any value of either, one after the other."""
    places = np.concatenate([left, right])
    shares = [np.searchsorted(np.sort(side), places, "right") / len(side) for side in (left, right)]
    return float(np.abs(shares[0] - shares[1]).max())


@given(SINGLES, SINGLES)
def test_the_gap_is_the_largest_one_at_any_value(left: list[float], right: list[float]) -> None:
    sides = [np.array(side, dtype=np.float32) for side in (left, right)]
    assert Reference(sides[0]).gap(sides[1]) == pytest.approx(distance(*sides), abs=1e-12)


@pytest.mark.parametrize("shift", [0.0, 0.05, 3.0])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("form", ["uniform", "rounded", "skewed", "tiny", "huge", "constant", "endless", "few"])
def test_the_gap_of_many_values_is_exact_whatever_their_distribution(form: str, seed: int, shift: float) -> None:
    random = np.random.default_rng(seed)
    sides = [drawn(random, form, int(random.integers(FEWEST, 6_000))) for _ in range(2)]
    spread = float(np.quantile(sides[0], 0.7).astype(float) - np.quantile(sides[0], 0.3).astype(float))
    sides[1] = (sides[1] + shift * spread).astype(np.float32)
    assert Reference(sides[0]).gap(sides[1]) == distance(*sides)


def drawn(random: np.random.Generator, form: str, rows: int) -> SingleArray:
    """Values of a distribution."""
    normal = random.normal(size=rows)
    found: SingleArray = {
        "uniform": random.random(rows),
        "rounded": random.random(rows).round(2),
        "skewed": np.exp(3 * normal),
        "tiny": normal * 1e-40,
        "huge": normal * 1e37,
        "constant": np.full(rows, 7.0),
        "endless": np.where(random.random(rows) < 0.1, np.inf, normal),
        "few": random.integers(0, 3, rows),
    }[form].astype(np.float32)
    return found


def test_no_distance_is_no_surprise_and_none_is_beyond_one() -> None:
    assert tail(5_000, 0.0) == 1.0
    assert tail(5_000, 1.0) == 0.0
    values = [tail(500, distance) for distance in np.linspace(0, 1, 400)]
    assert all(later <= earlier * (1 + 1e-3) for earlier, later in itertools.pairwise(values))


def test_chi_square_of_two_categories_says_what_scipy_says() -> None:
    before, after = {"a": 300, "b": 100}, {"a": 60, "b": 40}
    expected = stats.chi2_contingency([[300, 100], [60, 40]])
    assert homogeneity(before, after) == pytest.approx((expected.pvalue, expected.statistic), rel=1e-12)


def test_chi_square_says_what_scipy_says() -> None:
    before, after = flights(500, 1), flights(200, 2, carriers=("AA", "AA", "UA", "WN"))
    found = ChiSquare().fit(before, FEATURES, 0).predict(after)
    names = ["AA", "DL", "UA", "WN"]
    counts = [[table.column("carrier").to_pylist().count(name) for name in names] for table in (before, after)]
    expected = stats.chi2_contingency(counts)
    assert found.p_val["carrier"] == expected.pvalue
    assert found.distance["carrier"] == expected.statistic
    assert found.drifted == ("carrier",)


@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_a_restored_detector_gives_the_same_verdict(detector: Detector, shift: float) -> None:
    fitted = detector.fit(flights(3_000, 1), FEATURES, 7)
    parameters, reference = fitted.state()
    restored = type(detector)().restore(json.loads(json.dumps(parameters)), reference)
    window = flights(400, 2, shift)
    assert restored.predict(window) == fitted.predict(window)


@pytest.mark.parametrize(
    "detector", [KolmogorovSmirnov(), ChiSquare(), StabilityIndex(), JensenShannon(), Wasserstein()]
)
def test_false_alarms_are_as_rare_as_p_val_says(detector: Detector) -> None:
    fitted = detector.fit(flights(50_000, 1), FEATURES, 7)
    alarms = [fitted.predict(flights(400, seed)).drift for seed in range(100, 300)]
    assert 0 < sum(alarms) <= 20


@pytest.mark.parametrize("detector", DETECTORS)
def test_the_reference_itself_does_not_drift(detector: Detector) -> None:
    verdict = detector.fit(flights(3_000, 1), FEATURES, 7).predict(flights(3_000, 1))
    assert set(verdict.distance.values()) == {0.0}
    assert (verdict.drift, verdict.rows) == (False, 3_000)


@pytest.mark.parametrize(("correction", "threshold"), [("bonferroni", 0.01), ("none", 0.02)])
def test_the_threshold_is_divided_by_the_number_of_features(correction: Any, threshold: float) -> None:
    detector = KolmogorovSmirnov(p_val=0.02, correction=correction)
    verdict = detector.fit(flights(100, 1), FEATURES, 0).predict(flights(100, 2, 9.0))
    assert verdict.threshold == threshold
    assert verdict.drifted == ("delay",)


def test_missing_values_are_left_out_feature_by_feature() -> None:
    fitted = KolmogorovSmirnov().fit(flights(500, 1), FEATURES, 0)
    window = flights(300, 2)
    holes = pa.table({"delay": [None, float("nan")], "hour": pa.array([None, None], pa.int64())})
    assert (
        fitted.predict(pa.concat_tables([window.select(["delay", "hour"]), holes])).p_val
        == fitted.predict(window).p_val
    )


@pytest.mark.parametrize("empty", [None, ""])
def test_a_window_without_a_value_of_a_feature_says_nothing_of_it(empty: str | None) -> None:
    fitted = ChiSquare(features=["carrier"]).fit(flights(100, 1), FEATURES, 0)
    verdict = fitted.predict(pa.table({"carrier": pa.array([empty] * 5, pa.string())}))
    assert verdict.p_val == {"carrier": 1.0}
    assert not verdict.drift


def test_a_window_of_served_floats_is_not_a_change() -> None:
    prices = pa.table({"price": [0.1, 0.2, 0.3] * 200})
    served = pa.table({"price": prices.column("price").cast(pa.float32())})
    feature = Feature(name="price", role="numeric", datatype="FP32")
    assert KolmogorovSmirnov().fit(prices, [feature], 0).predict(served).distance == {"price": 0.0}


def test_a_long_reference_is_drawn_by_the_seed() -> None:
    detector = KolmogorovSmirnov(reference_rows=50)
    table = flights(500, 1)
    first, second, other = (detector.fit(table, FEATURES, seed).state()[1] for seed in (1, 1, 2))
    assert first == second
    assert first != other
    assert first.num_rows == 50
    assert first.column_names == ["delay", "hour"]


@pytest.mark.parametrize(
    ("detector", "table", "key", "message"),
    [
        (
            KolmogorovSmirnov(features=["dealy"]),
            flights(9, 1),
            "with.features.0",
            'no feature "dealy"; did you mean "delay"?',
        ),
        (
            KolmogorovSmirnov(features=["delay", "carrier"]),
            flights(9, 1),
            "with.features.1",
            'the feature "carrier" is categorical, and this detector is for numeric ones; use the detector chi2 for it',
        ),
        (
            ChiSquare(features=["hour"]),
            flights(9, 1),
            "with.features.0",
            'the feature "hour" is numeric, and this detector is for categorical ones; use the detector ks for it',
        ),
        (
            KolmogorovSmirnov(),
            flights(9, 1).set_column(0, "delay", pa.nulls(9, pa.float64())),
            "with.features",
            'the feature "delay" has no value in the reference; leave it out under `features:` of the detector',
        ),
    ],
)
def test_what_cannot_be_watched_is_named(detector: Detector, table: pa.Table, key: str, message: str) -> None:
    with pytest.raises(PluginFailed) as caught:
        detector.fit(table, FEATURES, 0)
    assert (caught.value.key, str(caught.value)) == (key, message)


def test_a_detector_needs_a_feature_of_its_kind() -> None:
    with pytest.raises(PluginFailed, match="there is no categorical feature to watch; use the detector ks"):
        ChiSquare().fit(flights(9, 1), FEATURES[:2], 0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"p_val": 5}, "p_val is 5; give a probability between 0 and 1, such as 0.05"),
        ({"correction": "bonferoni"}, "'bonferoni' is no value of correction; did you mean \"bonferroni\"?"),
        ({"reference_rows": 0}, "reference_rows is 0; give at least 1"),
    ],
)
def test_an_impossible_parameter_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(PluginFailed) as caught:
        KolmogorovSmirnov(**given)
    assert str(caught.value) == message


def test_a_window_without_a_column_is_refused() -> None:
    fitted = KolmogorovSmirnov().fit(flights(50, 1), FEATURES, 0)
    with pytest.raises(PluginFailed, match='the window has no column "hour"'):
        fitted.predict(flights(50, 2).drop_columns(["hour"]))


NULL = {
    "psi": StabilityIndex(p_val=0.05, correction="none", features=["delay"]),
    "psi of categories": StabilityIndex(p_val=0.05, correction="none", features=["carrier"]),
    "js": JensenShannon(p_val=0.05, correction="none", features=["delay"]),
    "js of few values": JensenShannon(p_val=0.05, correction="none", features=["hour"]),
    "wasserstein": Wasserstein(p_val=0.05, correction="none", features=["delay"]),
    "wasserstein of few values": Wasserstein(p_val=0.05, correction="none", features=["hour"]),
    "missing": Missing(p_val=0.05, correction="none", features=["delay"]),
}


@pytest.mark.parametrize("name", NULL)
def test_a_p_value_is_what_it_says_when_nothing_changed(name: str) -> None:
    found: list[float] = []
    for seed in range(10):  # as many references as there are: of one alone every window is about the same
        fitted = NULL[name].fit(with_gaps(flights(2_000, 1_000 + seed), seed), FEATURES, seed)
        for window in range(60):
            own = 10_000 * (seed + 1) + window
            table = with_gaps(flights(300, own), own + 5_000)
            found += fitted.predict(table).p_val.values()
    low, high = stats.binom.interval(0.9999, len(found), 0.05)
    alarms = sum(value < 0.05 for value in found)
    assert alarms <= high * 1.3  # the windows of one reference are alike
    assert alarms >= low * 0.6 or name == "missing"  # an exact test of few cases is careful


def with_gaps(table: pa.Table, seed: int) -> pa.Table:
    """A table with one of a hundred delays missing."""
    gone = np.random.default_rng(seed).random(table.num_rows) < 0.01
    delays = pa.array(np.where(gone, np.nan, table.column("delay").to_numpy()), from_pandas=True)
    return table.set_column(0, "delay", delays)


SHIFTED: list[tuple[Detector, str, float]] = [
    (StabilityIndex(), "delay", 0.2),
    (JensenShannon(), "delay", 0.02),
    (Wasserstein(), "delay", 0.5),
]


@pytest.mark.parametrize(("detector", "column", "least"), SHIFTED)
def test_a_shift_is_found_with_its_distance(detector: Detector, column: str, least: float) -> None:
    verdict = detector.fit(flights(5_000, 1), FEATURES, 7).predict(flights(1_000, 2, shift=0.6))
    assert verdict.drifted == (column,)
    assert verdict.distance[column] > least


def test_the_wasserstein_distance_is_that_of_scipy_in_standard_deviations() -> None:
    before, after = flights(3_000, 1), flights(700, 2, 0.3)
    found = Wasserstein().fit(before, FEATURES, 0).predict(after).distance["delay"]
    sides = [table.column("delay").to_numpy().astype(np.float32).astype(np.float64) for table in (before, after)]
    assert found == pytest.approx(stats.wasserstein_distance(*sides) / np.std(sides[0]))


def test_a_new_category_is_unseen_and_a_rare_one_is_expected() -> None:
    fitted = Unseen().fit(flights(3_000, 1), FEATURES, 7)
    assert fitted.predict(flights(500, 2)).drifted == ()
    verdict = fitted.predict(flights(500, 2, carriers=("AA", "DL", "UA", "WN")))
    assert verdict.drifted == ("carrier",)
    assert verdict.distance["carrier"] == pytest.approx(0.25, abs=0.08)


def test_values_that_are_no_longer_there_are_missed() -> None:
    fitted = Missing().fit(flights(3_000, 1), FEATURES, 7)
    window = flights(500, 2)
    gaps = pa.array([None if index % 10 == 0 else "AA" for index in range(500)])
    verdict = fitted.predict(window.set_column(2, "carrier", gaps))
    assert verdict.drifted == ("carrier",)
    assert verdict.distance["carrier"] == pytest.approx(0.1)


def test_a_reference_of_one_value_notices_any_other() -> None:
    same = pa.table({"delay": [3.0] * 200, "hour": [1.0] * 200, "carrier": ["AA"] * 200, "gate": [1] * 200})
    other = pa.table({"delay": [2.0] * 200, "hour": [1.0] * 200, "carrier": ["DL"] * 200, "gate": [1] * 200})
    for detector in (StabilityIndex(), JensenShannon()):
        fitted = detector.fit(same, FEATURES, 0)
        assert fitted.predict(same).drifted == ()
        assert set(fitted.predict(other).drifted) == {"delay", "carrier"}
    fitted = Wasserstein().fit(same, FEATURES, 0)
    assert fitted.predict(other).drifted == ("delay",)
