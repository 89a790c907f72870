"""The truth of the intervals, and what they cost.

    .venv/bin/python benchmarks/intervals.py [--rounds 2000] [--only coverage|published|weights|speed|cost]

``coverage``: data is drawn again and again from a world whose true metrics are known by integration, and it is
counted how often an interval of 95 % holds them. ``published``: closed forms beside worked examples of the literature.
``weights``: every weighted metric beside scikit-learn's. ``speed``: 10,000 bootstrap resamples of the ROC AUC of
100,000 rows beside the same with scikit-learn in a loop, in turn; of the loop fewer passes are made, and it says so.
``cost``: what intervals add to the metrics of as many rows and slices as the sample spec has, in processor time.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from scipy.stats import beta
from sklearn.metrics import roc_auc_score

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from engine.steps.evaluate import in_part, overall
from engine.steps.intervals import auc_error, estimates, wilson
from engine.steps.metrics import Judged, compute
from engine.steps.resampling import resampled
from judged import EXPECTED, SIDES, WEIGHTS, weighing

ROUNDS, ROWS = 2000, 500
NOMINAL, ALLOWED = 0.95, 0.02
A, B = 2.0, 3.0
RESAMPLES, MANY, PASSES = 10_000, 100_000, 60
FLIGHTS, VALUES = 28_293, {"origin": 3, "carrier": 16}

# -- worlds of which the truth is known ----------------------------------------------------------------------------


def two_classes(random: np.random.Generator, rows: int) -> Judged:
    """Probabilities that are right: p from Beta(2, 3), and the second class with chance p."""
    score = random.beta(A, B, rows)
    true = (random.random(rows) < score).astype(np.int64)
    return Judged(task="binary", true=true, label=(score > 0.5).astype(np.int64), score=score, classes=2)


def truth_of_two_classes() -> dict[str, float]:
    """The metrics of that world, by integration over the scores."""
    p = (np.arange(2_000_000) + 0.5) / 2_000_000
    density = beta.pdf(p, A, B) / len(p)
    positive = p * density
    negative = (1 - p) * density
    share = positive.sum()
    above, below = positive[::-1].cumsum()[::-1], negative[::-1].cumsum()[::-1]
    said = p > 0.5
    hits, alarms = positive[said].sum(), negative[said].sum()
    recall, precision = hits / share, hits / (hits + alarms)
    quiet = negative[~said].sum()
    return {
        "accuracy": hits + quiet,
        "average_precision": float((positive * above / (above + below)).sum() / share),
        "balanced_accuracy": (recall + quiet / (1 - share)) / 2,
        "brier": float((density * p * (1 - p)).sum()),
        "f1": 2 * precision * recall / (precision + recall),
        "log_loss": float(-(density * (p * np.log(p) + (1 - p) * np.log(1 - p))).sum()),
        "precision": precision,
        "recall": recall,
        "roc_auc": float((positive * negative.cumsum()).sum() / share / (1 - share)),
    }


def regression(random: np.random.Generator, rows: int) -> Judged:
    """Errors of standard deviation 1 round values of standard deviation 2."""
    true = random.normal(scale=2, size=rows)
    guess = true + random.normal(size=rows)
    return Judged(task="regression", true=true, label=guess, score=guess)


TRUTH_OF_REGRESSION = {"mae": float(np.sqrt(2 / np.pi)), "mse": 1.0, "r2": 0.75, "rmse": 1.0}
World = tuple[str, Callable[[np.random.Generator, int], Judged], Mapping[str, float]]


def coverage(rounds: int) -> None:
    """How often each interval holds the truth, without and with weights that have nothing to do with it."""
    worlds: list[World] = [
        ("two classes", two_classes, truth_of_two_classes()),
        ("regression", regression, TRUTH_OF_REGRESSION),
    ]
    print(f"coverage of 95 % intervals over {rounds:,} simulations of {ROWS} rows; within 2 points is asked")
    for title, draw, truth in worlds:
        for weighs in (False, True):
            print(f"  {title}{', weighted' if weighs else ''}")
            random = np.random.default_rng(7)
            held, width, method = dict.fromkeys(truth, 0), dict.fromkeys(truth, 0.0), {}
            for _ in range(rounds):
                judged = draw(random, ROWS)
                judged = replace(judged, weights=random.gamma(2, size=ROWS)) if weighs else judged
                for name, found in estimates(list(truth), judged).items():
                    assert found.low is not None
                    assert found.high is not None
                    held[name] += found.low <= truth[name] <= found.high
                    width[name] += (found.high - found.low) / rounds
                    method[name] = found.method
            for name in truth:
                share = held[name] / rounds
                verdict = "within" if abs(share - NOMINAL) <= ALLOWED else "BEYOND"
                said = f"true {truth[name]:.4f}  mean width {width[name]:.4f}  {method[name]}"
                print(f"    {name:<18} {share:7.2%}  {verdict}  {said}")


# -- closed forms and weights --------------------------------------------------------------------------------------

NEWCOMBE = {(81, 263): (0.2553, 0.3662), (15, 148): (0.0624, 0.1605), (0, 20): (0.0, 0.1611), (1, 29): (0.0061, 0.1718)}
RATINGS = {0: [33, 6, 6, 11, 2], 1: [3, 2, 2, 11, 33]}


def published() -> None:
    """Wilson's interval beside Newcombe (1998), DeLong's error beside Stata's manual of Hanley and McNeil's data."""
    print("closed forms beside published examples")
    for (successes, trials), ends in NEWCOMBE.items():
        found = wilson(successes, trials)
        theirs = f"{ends[0]:.4f} to {ends[1]:.4f}"
        print(f"  wilson {successes}/{trials}: {found[0]:.4f} to {found[1]:.4f}; Newcombe {theirs}")
    true = np.repeat([0, 1], [sum(RATINGS[0]), sum(RATINGS[1])])
    score = np.concatenate([np.repeat(np.arange(5.0), RATINGS[number]) for number in (0, 1)])
    judged = Judged(task="binary", true=true, label=true, score=score, classes=2)
    found = estimates(["roc_auc"], judged)["roc_auc"]
    said = f"{found.value:.4f}, error {auc_error(true == 1, score):.4f}, {found.low} to {found.high}"
    print(f"  delong: {said}; Stata [R] roctab 0.8932, error 0.0307, 0.83295 to 0.95339")


def weights() -> None:
    """The largest relative difference of a weighted metric to scikit-learn's."""
    print(f"{len(EXPECTED)} metrics with weights beside scikit-learn's with sample_weight")
    worst = ("", 0.0)
    for name, task, expected in EXPECTED:
        ours, theirs = compute(name, weighing(SIDES[task])), expected(SIDES[task], WEIGHTS)
        assert ours is not None
        worst = max(worst, (f"{name} of {task}", abs(ours / theirs - 1)), key=lambda item: item[1])
    print(f"  the largest relative difference: {worst[1]:.1e} ({worst[0] or 'none at all'})")


# -- time ----------------------------------------------------------------------------------------------------------


def timed(work: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of one call."""
    started = clock()
    work()
    return clock() - started


def speed() -> None:
    """10,000 resamples of a ROC AUC, ours beside scikit-learn's function in a loop, in turn."""
    judged = two_classes(np.random.default_rng(1), MANY)
    random, turns = np.random.default_rng(2), 10

    def loop() -> None:
        for _ in range(PASSES // turns):
            rows = random.integers(0, MANY, MANY)
            roc_auc_score(judged.true[rows], judged.score[rows])

    ours, theirs = [], []
    for turn in range(turns):
        ours.append(timed(lambda turn=turn: resampled(["roc_auc"], judged, RESAMPLES // turns, seed=turn)))
        theirs.append(timed(loop))
    whole, extrapolated = sum(ours), sum(theirs) * RESAMPLES / PASSES
    ratios = [mine * PASSES / RESAMPLES / other for mine, other in zip(ours, theirs, strict=True)]
    print(f"{RESAMPLES:,} resamples of the ROC AUC of {MANY:,} rows, {turns} turns")
    print(f"  ours           {whole:8.1f} s, all of them made")
    print(f"  scikit-learn   {extrapolated:8.1f} s, extrapolated from {PASSES} passes of {sum(theirs):.1f} s")
    print(f"  ratio {whole / extrapolated:.3f} (median of the turns {median(ratios):.3f}); at most 0.2 is asked")


def cost() -> None:
    """The metrics of the sample spec on as many rows and slices as it has, with and without intervals."""
    random = np.random.default_rng(3)
    judged = two_classes(random, FLIGHTS)
    names = ["roc_auc", "average_precision", "brier"]
    columns = [(random.integers(0, many, FLIGHTS), many) for many in VALUES.values()]
    parts = [judged.rows(column == value) for column, many in columns for value in range(many)]

    def values(chosen: Sequence[str]) -> None:
        for part in (judged, *parts):
            for name in chosen:
                compute(name, part)

    def intervals(chosen: Sequence[str]) -> None:
        overall(chosen, judged)
        for part in parts:
            in_part(chosen, part)

    print(f"{', '.join(names)} of {FLIGHTS:,} rows and {len(parts)} slices: processor time, medians of 7 turns")
    for title, chosen in (("all", names), *((name, [name]) for name in names)):
        taken: list[list[float]] = [[], []]
        for _ in range(7):
            for times, work in zip(taken, (values, intervals), strict=True):
                times.append(timed(partial(work, chosen), time.process_time))
        plain, full = map(median, taken)
        print(f"  {title:<18} values {plain:6.3f} s   with intervals {full:6.3f} s")


PARTS: Mapping[str, Callable[[int], None]] = {
    "published": lambda _: published(),
    "weights": lambda _: weights(),
    "cost": lambda _: cost(),
    "speed": lambda _: speed(),
    "coverage": coverage,
}


def main() -> None:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only", choices=PARTS)
    chosen = parser.parse_args()
    for name, part in PARTS.items():
        if chosen.only in (None, name):
            part(chosen.rounds)


if __name__ == "__main__":
    main()
