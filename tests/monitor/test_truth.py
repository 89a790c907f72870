"""Detectors keep their word: false alarms, run lengths and power on streams whose truth is known, in short.

The long form is `benchmarks/drift.py`. An interval here has 99.9 %: seeds are fixed, so a test passes always or never.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from engine.monitor.budget import allot, judge, parse
from engine.plugins import Detector, Feature, OnlineDetector
from engine_plugins.alibi.detectors import TabularDrift
from engine_plugins.alibi.online import CVMDriftOnline, FETDriftOnline
from engine_plugins.drift.detectors import ChiSquare, KolmogorovSmirnov
from engine_plugins.drift.divergence import JensenShannon, StabilityIndex
from engine_plugins.drift.online import RankSums

NUMBERS, NAMES = 20, 10
FEATURES = tuple(
    [Feature(name=f"n{index}", role="numeric", datatype="FP32") for index in range(NUMBERS)]
    + [Feature(name=f"c{index}", role="categorical", datatype="BYTES") for index in range(NAMES)]
)


def drawn(rows: int, random: np.random.Generator, shift: float = 0.0) -> pa.Table:
    """Numbers of four laws, and categories of 2 to 11 kinds; the first number is shifted."""
    laws = (random.standard_normal, random.standard_exponential, random.random, lambda n: random.integers(0, 24, n))
    table: dict[str, object] = {
        f"n{index}": laws[index % 4](rows).astype(np.float32) + np.float32(shift * (index == 0))
        for index in range(NUMBERS)
    }
    for index in range(NAMES):
        names = np.array([f"k{kind}" for kind in range(index + 2)])
        table[f"c{index}"] = pa.array(names[random.integers(0, index + 2, rows)])
    return pa.table(table)


@pytest.mark.slow
@pytest.mark.parametrize("budget", ["1 per 20 windows", "1 per 50 windows"])
@pytest.mark.parametrize(
    "family",
    [{"numbers": KolmogorovSmirnov(), "names": ChiSquare()}, {"all": StabilityIndex()}, {"all": JensenShannon()}],
    ids=["ks and chi2", "psi", "js"],
)
def test_without_a_change_a_model_of_30_features_alarms_as_often_as_its_budget_says(
    family: dict[str, Detector], budget: str
) -> None:
    alarms, alpha = 0, allot(parse(budget))
    for reference in range(8):
        random = np.random.default_rng([3, reference])
        known = drawn(5_000, random)
        fitted = {name: detector.fit(known, FEATURES, reference) for name, detector in family.items()}
        for _ in range(25):
            window = drawn(500, random)
            alarms += judge({name: item.predict(window) for name, item in fitted.items()}, alpha) is not None
    low, high = stats.binom.interval(0.999, 200, alpha)
    assert low <= alarms <= high


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [
        lambda: RankSums(ert=1_000, features=["n0", "n1", "n2", "n3", "c0", "c5"]),
        lambda: CVMDriftOnline(ert=300, features=["n0", "n3"], reference_rows=500),
        lambda: FETDriftOnline(ert=300, features=["c0"]),
    ],
    ids=["cusum", "alibi.CVMDriftOnline", "alibi.FETDriftOnline"],
)
def test_without_a_change_an_online_detector_alarms_once_in_ert_rows(make: Callable[[], Detector]) -> None:
    alarms, references, runs = 0, 12, 9
    for reference in range(references):
        random = np.random.default_rng([5, reference])
        detector = make().fit(drawn(5_000, random), FEATURES, reference)
        assert isinstance(detector, OnlineDetector)
        ert, stream = int(str(detector.state()[0]["ert"])), detector.begin()
        for _ in range(runs):
            stream, verdict = detector.update(stream, drawn(ert, random))
            alarms += len(verdict.at)
    expected = references * runs
    assert stats.poisson.ppf(0.0005, expected / 1.15) <= alarms <= stats.poisson.ppf(0.9995, expected / 0.85)


@pytest.mark.slow
def test_a_change_of_one_feature_is_seen_at_least_as_often_as_by_alibi_with_bonferroni() -> None:
    random = np.random.default_rng(7)
    known = drawn(10_000, random)
    theirs = TabularDrift(p_val=0.05).fit(known, FEATURES, 0)
    ours = {"numbers": KolmogorovSmirnov().fit(known, FEATURES, 0), "names": ChiSquare().fit(known, FEATURES, 0)}
    seen, seen_by_alibi = 0, 0
    for _ in range(60):
        window = drawn(500, random, shift=0.2)
        seen += judge({name: item.predict(window) for name, item in ours.items()}, 0.05) is not None
        seen_by_alibi += theirs.predict(window).drift
    assert seen >= seen_by_alibi
    assert 10 <= seen <= 59
