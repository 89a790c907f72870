"""Do the detectors keep their word? False alarms, run lengths and power, on streams whose truth is known.

    python benchmarks/drift.py [null|ert|power]...

`null`: windows without a change, of 30 features, from many references; the alarms beside the binomial interval of the
budget, which holds for all figures at once. `ert`: rows between false alarms of the online detectors, cusum and
alibi-detect's, over many references. `power`: how often a change is
seen, by ours and by alibi-detect's TabularDrift with Bonferroni, at equal rates of false alarms.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from scipy import stats

from engine.monitor.budget import Method, allot, judge, parse
from engine.plugins import Detector, Feature, OnlineDetector
from engine_plugins.alibi.library import library
from engine_plugins.alibi.online import CVMDriftOnline, FETDriftOnline
from engine_plugins.drift.counts import Missing, Unseen
from engine_plugins.drift.detectors import ChiSquare, KolmogorovSmirnov
from engine_plugins.drift.divergence import JensenShannon, StabilityIndex
from engine_plugins.drift.online import RankSums
from engine_plugins.drift.transport import Wasserstein

NUMBERS, NAMES = 20, 10
REFERENCE, WINDOW = 20_000, 1_000
FEATURES = tuple(
    [Feature(name=f"n{index}", role="numeric", datatype="FP32") for index in range(NUMBERS)]
    + [Feature(name=f"c{index}", role="categorical", datatype="BYTES") for index in range(NAMES)]
)
FAMILIES: Mapping[str, Mapping[str, Detector]] = {
    "ks and chi2": {"numbers": KolmogorovSmirnov(), "names": ChiSquare()},
    "psi": {"all": StabilityIndex()},
    "js": {"all": JensenShannon()},
    "wasserstein and chi2": {"numbers": Wasserstein(), "names": ChiSquare()},
    "all of them": {
        "ks": KolmogorovSmirnov(),
        "chi2": ChiSquare(),
        "psi": StabilityIndex(),
        "wasserstein": Wasserstein(),
        "unseen": Unseen(),
        "missing": Missing(),
    },
}
CAREFUL = frozenset({"all of them"})
"""Families whose tests depend on each other, so that Holm leaves alarms over: they are below the interval."""


def drawn(rows: int, random: np.random.Generator, shift: float = 0.0, features: int = NUMBERS) -> pa.Table:
    """30 features: normal, exponential, heavy-tailed and whole numbers, and categories of 2 to 11 kinds.

    The first ``features`` numbers are shifted by so many standard deviations.
    """
    kinds = (
        lambda: random.normal(size=rows),
        lambda: random.exponential(size=rows),
        lambda: random.standard_t(4, rows) / np.sqrt(2),
        lambda: random.lognormal(sigma=0.5, size=rows) / 0.604,
        lambda: random.random(rows) * np.sqrt(12),
    )
    found: dict[str, object] = {}
    for index in range(NUMBERS):
        found[f"n{index}"] = (kinds[index % len(kinds)]() + shift * (index < features)).astype(np.float32)
    for index in range(NAMES):
        share = 1 / np.arange(1, index + 3)
        names = np.array([f"k{kind}" for kind in range(index + 2)])
        found[f"c{index}"] = pa.array(names[random.choice(index + 2, rows, p=share / share.sum())])
    return pa.table(found)


# -- windows without a change ------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Counted:
    """Alarms of windows without a change, and the interval in which they are when the budget is kept.

    All the figures that are compared with their intervals are in them at once with 95 % (Bonferroni).
    """

    family: str
    budget: str
    windows: int
    alarms: int
    low: int
    high: int

    @property
    def kept(self) -> bool:
        """Whether the alarms are in it; of tests that depend on each other, that they are not above it."""
        return self.alarms <= self.high and (self.alarms >= self.low or self.family in CAREFUL)


def null(
    references: int = 40, windows: int = 100, budgets: tuple[str, ...] = ("1 per 20 windows", "1 per 100 windows")
) -> Iterator[Counted]:
    """Count the alarms of every family at each budget, on the same windows."""
    alarms = {(family, budget): 0 for family in FAMILIES for budget in budgets}
    for reference in range(references):
        random = np.random.default_rng([7, reference])
        known = drawn(REFERENCE, random)
        fitted = {
            family: {name: item.fit(known, FEATURES, reference) for name, item in detectors.items()}
            for family, detectors in FAMILIES.items()
        }
        for _ in range(windows):
            window = drawn(WINDOW, random)
            for family, detectors in fitted.items():
                verdicts = {name: item.predict(window) for name, item in detectors.items()}
                for budget in budgets:
                    alarms[family, budget] += judge(verdicts, allot(parse(budget))) is not None
    for (family, budget), found in alarms.items():
        many = references * windows
        low, high = stats.binom.interval(1 - 0.05 / len(alarms), many, allot(parse(budget)))
        yield Counted(family=family, budget=budget, windows=many, alarms=found, low=int(low), high=int(high))


# -- run lengths -------------------------------------------------------------------------------------------------------


ERT = 500
ONLINE: Mapping[str, Callable[[], Detector]] = {
    "cusum, 30 features": lambda: RankSums(ert=10 * ERT),
    "alibi.CVMDriftOnline, 3 features": lambda: CVMDriftOnline(ert=ERT, features=["n0", "n1", "n2"]),
    "alibi.FETDriftOnline, 1 feature": lambda: FETDriftOnline(ert=ERT, features=["c0"]),
}


def run_lengths(make: Callable[[], Detector], references: int = 24, runs: int = 20) -> tuple[float, float, int]:
    """What was asked for, the mean rows between false alarms over many references, and the number of alarms."""
    rows = alarms = 0
    ert = 0
    for reference in range(references):
        random = np.random.default_rng([11, reference])
        detector = make().fit(drawn(REFERENCE, random), FEATURES, reference)
        assert isinstance(detector, OnlineDetector)
        ert = int(str(detector.state()[0]["ert"]))
        stream = detector.begin()
        for _ in range(runs):
            stream, verdict = detector.update(stream, drawn(ert, random))
            rows, alarms = rows + ert, alarms + len(verdict.at)
    return ert, rows / max(alarms, 1), alarms


# -- power -------------------------------------------------------------------------------------------------------------

CHANGES = {
    "nothing": (0.0, 0),
    "one number by 0.15": (0.15, 1),
    "one number by 0.2": (0.2, 1),
    "five numbers by 0.1": (0.1, 5),
    "twenty numbers by 0.07": (0.07, 20),
}


def power(windows: int = 200, alpha: float = 0.05) -> Iterator[tuple[str, dict[str, float]]]:
    """How often each change is seen: by alibi, by ours with Holm, and by ours with Benjamini and Hochberg."""
    random = np.random.default_rng(5)
    known = drawn(REFERENCE, random)
    sizes = {NUMBERS + index: index + 2 for index in range(NAMES)}
    alibi = library().tabular_drift(matrix(known), p_val=alpha, categories_per_feature=sizes, correction="bonferroni")
    fitted = {name: item.fit(known, FEATURES, 0) for name, item in FAMILIES["ks and chi2"].items()}
    ways: dict[str, Method] = {"ours, Holm": "holm", "ours, BH": "bh"}
    for change, (shift, features) in CHANGES.items():
        seen = dict.fromkeys(("alibi, Bonferroni", *ways), 0)
        for _ in range(windows):
            window = drawn(WINDOW, random, shift, features)
            seen["alibi, Bonferroni"] += bool(alibi.predict(matrix(window))["data"]["is_drift"])
            verdicts = {name: item.predict(window) for name, item in fitted.items()}
            for name, method in ways.items():
                seen[name] += judge(verdicts, alpha, method) is not None
        yield change, {name: count / windows for name, count in seen.items()}


def matrix(table: pa.Table) -> np.ndarray:
    """A table as alibi takes it: categories as numbers."""
    return np.column_stack(
        [
            table.column(item.name).to_numpy()
            if item.role == "numeric"
            else [float(name[1:]) for name in table.column(item.name).to_pylist()]
            for item in FEATURES
        ]
    )


def main(*wanted: str) -> int:
    """Print what was asked for, else all; 1 when something is not as promised."""
    good = True
    if "null" in wanted or not wanted:
        started = time.perf_counter()
        print("windows without a change, 30 features: false alarms beside the budget's interval (95 % for all at once)")
        for found in null():
            good &= found.kept
            interval = f"{found.low} to {found.high}"
            mark = "" if found.kept else "  NOT KEPT"
            print(
                f"  {found.family:<22} {found.budget:<18} {found.alarms:>5} of {found.windows:,}  {interval}{mark}",
                flush=True,
            )
        print(f"  ({time.perf_counter() - started:.0f} s)")
    if "ert" in wanted or not wanted:
        print("rows between false alarms, over 24 references")
        for name, make in ONLINE.items():
            ert, length, alarms = run_lengths(make)
            good &= abs(length / ert - 1) <= 0.15
            print(
                f"  {name:<34} {length:>6,.0f}, asked for {ert:,}: {length / ert - 1:+.0%} ({alarms} alarms)",
                flush=True,
            )
    if "power" in wanted or not wanted:
        print("windows in which a change is seen, at alpha 0.05")
        for change, seen in power():
            good &= change == "nothing" or seen["ours, BH"] >= seen["alibi, Bonferroni"]
            print(f"  {change:<24} " + "  ".join(f"{name} {share:.1%}" for name, share in seen.items()), flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
