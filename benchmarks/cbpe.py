"""The estimate of ROC AUC before labels come, beside NannyML's and the truth, on NannyML's bundled car-loan data.

    .venv/bin/python benchmarks/cbpe.py [--rows 5000]

The model's scores of 50,000 reference rows, whose labels are known, calibrate both estimators; 50,000 later rows, of
which the second half has drifted, are estimated by chunks and then compared with their labels. NannyML's chunks,
calibration and estimate are its own, with its defaults. The promise: a mean absolute error of at most 0.003.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import time

import numpy as np
from peers import environment, quiet_environment, scratch

from engine.monitor.estimate import ITSELF, Calibrator, Expected, calibrator, estimated
from engine.steps.metrics import FUNCTIONS, Judged

PROMISED = 0.003
NANNYML = ("nannyml==0.13.*", "statsmodels")
THEIRS = """
import sys, time
import numpy as np
import nannyml
rows = int(sys.argv[1])
reference, later, labels = nannyml.load_synthetic_car_loan_dataset()
later = later.merge(labels, on="id")
started = time.perf_counter()
estimator = nannyml.CBPE(y_pred_proba="y_pred_proba", y_pred="y_pred", y_true="repaid", metrics=["roc_auc"],
                         chunk_size=rows, problem_type="classification_binary")
found = estimator.fit(reference).estimate(later).filter(period="analysis").to_df()
taken = time.perf_counter() - started
np.savez("loans.npz", estimate=found[("roc_auc", "value")].to_numpy(), taken=taken,
         **{f"{name}_{part}": table[column].to_numpy()
            for part, table in (("reference", reference), ("later", later))
            for name, column in (("score", "y_pred_proba"), ("true", "repaid"))})
"""


def main() -> None:
    """Print a line a chunk, and the mean absolute errors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5_000)
    rows = parser.parse_args().rows
    python = environment("nannyml", *NANNYML)
    with scratch() as folder:
        words = [str(python), "-c", THEIRS, str(rows)]
        clean = {name: value for name, value in quiet_environment().items() if name != "PYTHONPATH"}
        done = subprocess.run(words, cwd=folder, env=clean, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr[-3000:])
        loans = dict(np.load(folder / "loans.npz"))
    score, true = loans["score_later"], loans["true_later"].astype(np.int64)
    starts = range(0, len(score) - rows + 1, rows)
    started = time.perf_counter()
    known = calibrator(loans["score_reference"], loans["true_reference"].astype(np.int64))
    ours = [estimate(score[start : start + rows], known) for start in starts]
    taken = time.perf_counter() - started
    bare = [estimate(score[start : start + rows], ITSELF) for start in starts]
    realised = [roc_auc(score[start : start + rows], true[start : start + rows]) for start in starts]
    theirs = loans["estimate"][: len(ours)].tolist()
    print(f"{'rows from':>10} {'realised':>9} {'engine':>9} {'nannyml':>9} {'not calibrated':>15}")
    for start, *figures in zip(starts, realised, ours, theirs, bare, strict=True):
        print(
            f"{start:>10,} "
            + " ".join(f"{value:>{width}.4f}" for value, width in zip(figures, (9, 9, 9, 15), strict=True))
        )
    print("\nmean absolute error")
    for name, values in (("engine", ours), ("nannyml", theirs), ("not calibrated", bare)):
        error = statistics.fmean(abs(value - truth) for value, truth in zip(values, realised, strict=True))
        print(f"  {name:<15} {error:.5f}{f'   promised at most {PROMISED:g}' if name == 'engine' else ''}")
    print(f"  calibrating and estimating took {taken:.2f} s, with intervals; NannyML {float(loans['taken']):.2f} s")


def estimate(score: np.ndarray, known: Calibrator) -> float:
    """The expected ROC AUC of a chunk."""
    found = estimated("roc_auc", Expected(score=score, label=(score > 0.5).astype(np.int64), p=known(score)))
    assert found is not None
    return found.value


def roc_auc(score: np.ndarray, true: np.ndarray) -> float:
    """What it was, as the engine's own metric has it."""
    judged = Judged(task="binary", true=true, label=(score > 0.5).astype(np.int64), score=score, classes=2)
    return float(FUNCTIONS["roc_auc"](judged))


if __name__ == "__main__":
    main()
