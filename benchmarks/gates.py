"""Are the gates' statistics true? Over thousands of simulated pairs of models whose difference is known.

    python benchmarks/gates.py                    # 2,000 pairs a line, some ten minutes
    python benchmarks/gates.py --pairs 500        # a look

- At the margin, where the true loss is exactly what `max_drop` allows, a pass is a mistake, and so is to say that the
  model is worse than allowed. Each may happen in 1 - confidence of the pairs; what does is printed with the range in
  which 99 % of binomial counts of that rate lie.
- Power: how often a model passes that is no worse, better, or half the margin worse.
- Slices: how often any of them is let through by luck, with Holm's procedure and without.
- DeLong's and Tango's formulas against published figures are in tests/steps/test_compare.py.
- Leakage on 1,000,000 rows, and comparisons on 100,000: in seconds.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / folder) for folder in ("tests", "plugins", ".")]

from engine.steps.compare import difference, holm  # noqa: E402
from engine.steps.leakage import identifiers, in_both, proxies  # noqa: E402
from pairs import PAIRS, Simulator, binomial_range  # noqa: E402

CONFIDENCE = 0.95
ROWS = {"roc_auc": 2000, "accuracy": 2000, "mae": 500}
RESAMPLES = 999
EFFECTS = {"no worse": 0.0, "half the margin worse": -0.5, "better by the margin": 1.0}


def main() -> None:
    """Everything, a line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=2000, help="simulated pairs a line")
    pairs = parser.parse_args().pairs
    at_the_margin(pairs)
    power(pairs)
    over_slices(pairs)
    speed()


def judged(metric: str, make: Simulator, gain: float, rows: int, pairs: int) -> list[tuple[float, float]]:
    """The bounds of the gain, for each pair."""
    found = []
    for seed in range(pairs):
        item = difference(metric, *make(gain, rows, np.random.default_rng([seed, rows, 1])), CONFIDENCE, RESAMPLES)
        assert item is not None
        found.append((item.bound, item.high))
    return found


def at_the_margin(pairs: int) -> None:
    """How often what is said is wrong."""
    low, high = (100 * count / pairs for count in binomial_range(pairs, 1 - CONFIDENCE, 0.99))
    print(f"\nat the margin, {pairs:,} pairs, {CONFIDENCE:.0%} confidence: {low:.2f} % to {high:.2f} % may be wrong\n")
    print(
        f"{'metric':<10} {'method':<34} {'rows':>6} {'margin':>7} {'false passes':>13} {'false refusals':>15}  in range"
    )
    for metric, (make, margin) in PAIRS.items():
        rows = ROWS[metric]
        bounds = judged(metric, make, -margin, rows, pairs)
        passes = 100 * sum(bound >= -margin for bound, _ in bounds) / pairs
        refusals = 100 * sum(top < -margin for _, top in bounds) / pairs
        method = difference(metric, *make(0.0, 200, np.random.default_rng(0)), CONFIDENCE, RESAMPLES)
        assert method is not None
        good = "yes" if low <= passes <= high and low <= refusals <= high else "NO"
        print(f"{metric:<10} {method.method:<34} {rows:>6,} {margin:>7} {passes:>11.2f} % {refusals:>13.2f} %  {good}")


def power(pairs: int) -> None:
    """How often a model passes that should."""
    few = max(pairs // 4, 50)
    print(f"\npower: passes of `max_drop`, {few:,} pairs a cell\n")
    print(f"{'metric':<10} {'rows':>6} " + " ".join(f"{name:>24}" for name in EFFECTS))
    for metric, (make, margin) in PAIRS.items():
        for rows in (ROWS[metric], 4 * ROWS[metric]):
            cells = []
            for share in EFFECTS.values():
                bounds = judged(metric, make, share * margin, rows, few)
                cells.append(100 * sum(bound >= -margin for bound, _ in bounds) / few)
            print(f"{metric:<10} {rows:>6,} " + " ".join(f"{cell:>22.1f} %" for cell in cells))


def over_slices(pairs: int) -> None:
    """How often some slice of ten is let through by luck, all of them at the margin."""
    runs, slices, rows = max(pairs // 2, 50), 10, 500
    make, margin = PAIRS["roc_auc"]
    corrected = plain = 0
    for run in range(runs):
        found = [
            difference("roc_auc", *make(-margin, rows, np.random.default_rng([run, part])), CONFIDENCE)
            for part in range(slices)
        ]
        doubts = [item.evidence.doubt(-margin) for item in found if item is not None]
        corrected += min(holm(doubts)) <= 1 - CONFIDENCE
        plain += min(doubts) <= 1 - CONFIDENCE
    _, high = binomial_range(runs, 1 - CONFIDENCE, 0.99)
    rates = [f"{100 * count / runs:.1f} %" for count in (corrected, high, plain)]
    print(f"\nten slices at the margin, {runs:,} runs: some slice is shown to be no worse by luck")
    print(f"  with Holm's procedure {rates[0]} (at most {rates[1]}), without {rates[2]}")


def speed() -> None:
    """Seconds on many rows, the least of three."""
    print("\nseconds, the least of three\n")
    for metric, (make, _) in PAIRS.items():
        pair = make(0.0, 100_000, np.random.default_rng(1))
        taken = least(lambda m=metric, p=pair: difference(m, *p, CONFIDENCE))
        print(f"  {metric + ' on 100,000 rows':<43} {taken:8.3f}")
    train, test = (million(seed) for seed in (1, 2))
    names = [name for name in train.column_names if name not in ("id", "late")]
    print(f"  leaked rows, 1,000,000 of seven features   {least(lambda: in_both(train, test, names)):8.3f}")
    print(f"  leaked rows, 1,000,000 by a text identifier {least(lambda: in_both(train, test, ['id'])):7.3f}")
    print(
        f"  identifiers among eight features           {least(lambda: list(identifiers(train, [*names, 'id']))):8.3f}"
    )
    print(
        f"  a target proxy among seven features        {least(lambda: list(proxies(train, test, names, 'late'))):8.3f}"
    )


def million(seed: int) -> pa.Table:
    """A million rows of seven features, an identifier and a target."""
    random, rows = np.random.default_rng(seed), 1_000_000
    texts = [np.array([f"{letter}{number}" for number in range(500)]) for letter in "ab"]
    return pa.table({
        **{f"number {index}": random.normal(size=rows) for index in range(3)},
        **{f"whole {index}": random.integers(0, 1000, rows) for index in range(2)},
        **{f"text {index}": texts[index][random.integers(0, 500, rows)] for index in range(2)},
        "id": [f"row-{seed}-{index}" for index in range(rows)],
        "late": random.random(rows) < 0.3,
    })  # fmt: skip


def least(work: object) -> float:
    """The least time of three."""
    taken = []
    for _ in range(3):
        started = time.perf_counter()
        work()  # type: ignore[operator]
        taken.append(time.perf_counter() - started)
    return min(taken)


if __name__ == "__main__":
    main()
