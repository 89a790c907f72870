"""Monitoring beside alibi-detect and SQLite: tests for drift, the check, the prediction log and its windows.

    .venv/bin/python benchmarks/monitor.py [--rounds 7] [--only ks|check|log|window|many|beside]

ks: exact Kolmogorov-Smirnov tests on 30 columns, a window beside a reference of as many rows. Both sides say the same
    distances, which is checked. In one process, in turn.
check: from the start of the command to its end, of a model with 30 features whose log has 20,000 rows: the last 10,000
    are judged. Beside it what `import alibi_detect` takes, in the same environment.
log: rows a second of answers to requests of 5,000 rows: 30 inputs, a score, and who was asked when. SQLite has a
    write-ahead log, synchronous=normal, a transaction a request, and is given the same arrays; "rows made beforehand"
    leaves out what it takes to make tuples of them. Ours is the log of the server, which writes what it gathered after
    each request; "closed" is with the Parquet that a stream becomes in the end, spread over all rows.
many: a hundred models that one process watches. beside: what a watch costs beside a server under full load.
window: the rows of one window out of 1,000,000 that are logged, every column: the newest 10,000, and those of 8 hours.
"""

from __future__ import annotations

import argparse
import signal
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
from peers import Table, alternate, answer, compile_ours, quiet_environment, scratch

import serve

COLUMNS = 30
KS = {10_000: 3.0, 1_000_000: 1.5}
KS_ROUNDS = {10_000: 15, 1_000_000: 5}
CHECKED, LOGGED = 10_000, 20_000
REQUEST, REQUESTS = 5_000, 40
MANY = 1_000_000
MODELS_WATCHED = 100
DIFFERENT = 20_011
"""Rows that a watched server is asked about, in turn."""
CHECK_AT_MOST, WINDOW_AT_MOST = 0.35, 0.1

MODEL = """
import io, json, sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
import numpy as np, pyarrow as pa, pyarrow.parquet as pq
from engine.wiring import open_home
columns, rows = map(int, sys.argv[1:3])
random = np.random.default_rng(7)
names = [f"f{index}" for index in range(columns)]
def table(count):
    x = random.normal(size=(count, columns))
    y = (x[:, 0] + 0.5 * random.normal(size=count) > 0).astype(int)
    return pa.table({**{name: x[:, index] for index, name in enumerate(names)}, "y": y})
lake = open_home(Path()).lake
lake.create_repository("rows")
for part, count in (("train", 20_000), ("test", 5_000)):
    buffer = io.BytesIO()
    pq.write_table(table(count), buffer)
    buffer.seek(0)
    lake.put("rows", "main", f"{part}.parquet", buffer)
lake.commit("rows", "main", "rows")
kinds = {**{name: {"dtype": "float64"} for name in names}, "y": {"dtype": "int64"}}
Path("schema.json").write_text(json.dumps({"schema_type": "dataframe", "columns": kinds}))
Path("pyproject.toml").write_text('[project]\\nname = "bench"\\n')
spec = {
    "name": "watched", "seed": 7,
    "data": {part: {"uri": f"lakefs://rows/main/{part}.parquet", "schema": "schema.json"}
             for part in ("train", "test")},
    "features": {"numeric": names}, "target": "y",
    "train": {"uses": "sklearn", "data": "train", "with": {"estimator": "sklearn.linear_model.LogisticRegression"}},
    "evaluate": {"data": "test", "metrics": ["roc_auc"]},
    "monitor": {"reference": "train", "false_alarms": "1 per 1000 windows",
                "detectors": [{"name": "inputs", "uses": "ks", "window": 10_000}]},
}
Path("spec.yaml").write_text(json.dumps(spec))
from engine.cli.main import main
assert main(["run", "spec.yaml", "--inline"]) == 0
from engine.predictions.ids import prediction_ids
from engine.predictions.log import Made, Origin, PredictionLog, Redaction
from engine.serve.onnx import open_session
home = open_home(Path())
found = home.registry.versions("watched")[0]
package = json.loads(home.store.read(found.package))
session = open_session(home.store.read(package["model"]["digest"]))
origin = Origin(model="watched", version=1, run=found.runs[0])
log = PredictionLog(home.path / "predictions" / "watched", origin, Redaction())
for number in range(rows // 1000):
    moment = int((datetime.now(UTC) - timedelta(minutes=rows // 1000 - number)).timestamp() * 1e9)
    inputs = session.columns(table(1000).select(names))
    log.append(Made(predictions=prediction_ids(1000, moment), counts=[1] * 1000, aliases=["production"] * 1000,
                    latencies=[1.0] * 1000, time_ns=moment, inputs=inputs, outputs=session.run(inputs)))
    log.flush()
log.close()
print("{}")
"""
MODELS = """
import io, json, sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
import numpy as np, pyarrow as pa, pyarrow.parquet as pq
from engine.cli.main import main
from engine.predictions.ids import prediction_ids
from engine.predictions.log import Made, Origin, PredictionLog, Redaction
from engine.serve.onnx import open_session
from engine.wiring import open_home
random = np.random.default_rng(7)
names = [f"f{index}" for index in range(10)]
def table(count):
    x = random.normal(size=(count, 10))
    return pa.table({**{name: x[:, index] for index, name in enumerate(names)}, "y": (x[:, 0] > 0).astype(int)})
lake = open_home(Path()).lake
lake.create_repository("rows")
buffer = io.BytesIO()
pq.write_table(table(5_000), buffer)
buffer.seek(0)
lake.put("rows", "main", "all.parquet", buffer)
lake.commit("rows", "main", "rows")
spec = {
    "name": "m000", "seed": 7, "data": {"all": {"uri": "lakefs://rows/main/all.parquet"}},
    "features": {"numeric": names}, "target": "y",
    "train": {"uses": "sklearn", "data": "all", "with": {"estimator": "sklearn.linear_model.LogisticRegression"}},
    "evaluate": {"data": "all", "metrics": ["roc_auc"]},
    "monitor": {"reference": "all", "false_alarms": "1 per 1000 windows",
                "detectors": [{"name": "inputs", "uses": "ks", "window": 1000}]},
}
Path("spec.yaml").write_text(json.dumps(spec))
Path("pyproject.toml").write_text('[project]\\nname = "bench"\\n')
home = open_home(Path())
for number in range(int(sys.argv[1])):
    name = f"m{number:03d}"
    assert main(["run", "spec.yaml", f"name={name}", "--inline", "--json"]) == 0
    found = home.registry.versions(name)[0]
    session = open_session(home.store.read(json.loads(home.store.read(found.package))["model"]["digest"]))
    log = PredictionLog(home.path / "predictions" / name, Origin(model=name, version=1, run=found.runs[0]), Redaction())
    for part in range(3):
        moment = int((datetime.now(UTC) - timedelta(minutes=3 - part)).timestamp() * 1e9)
        inputs = session.columns(table(1000).select(names))
        log.append(Made(predictions=prediction_ids(1000, moment), counts=[1] * 1000, aliases=["production"] * 1000,
                        latencies=[1.0] * 1000, time_ns=moment, inputs=inputs, outputs=session.run(inputs)))
        log.flush()
    log.close()
print("{}")
"""
ARRAYS = """
import json, shutil, sys, time
from pathlib import Path
import numpy as np
columns, request, requests = map(int, sys.argv[1:4])
random = np.random.default_rng(7)
inputs = [
    {f"f{index}": random.normal(size=(request, 1)).astype("float32") for index in range(columns)} for _ in range(4)
]
scores = [random.random(request).astype("float32") for _ in range(4)]
"""
OURS = (
    ARRAYS
    + """
from engine.predictions.ids import prediction_ids
from engine.predictions.log import Made, Origin, PredictionLog, Redaction
shutil.rmtree("log", ignore_errors=True)
log = PredictionLog(Path("log"), Origin(model="m", version=1, run="r"), Redaction())
started = time.perf_counter()
for number in range(requests):
    moment = time.time_ns()
    log.append(Made(predictions=prediction_ids(1, moment), counts=[request], aliases=["production"], latencies=[1.0],
                    time_ns=moment, inputs=inputs[number % 4], outputs={"score": scores[number % 4]}))
    log.flush()
written = time.perf_counter() - started
log.close()
closed = time.perf_counter() - started
rows = request * requests
assert log.health.written == rows
print(json.dumps({"a row": written / rows, "a row, closed": closed / rows}))
"""
)
THEIRS = (
    ARRAYS
    + """
import sqlite3, uuid
Path("log.db").unlink(missing_ok=True)
db = sqlite3.connect("log.db", isolation_level=None)
db.execute("pragma journal_mode = wal")
db.execute("pragma synchronous = normal")
names = ", ".join([f"f{index} real" for index in range(columns)] + ["score real"])
db.execute(f"create table log (prediction text, number integer, time integer, alias text, latency real, {names})")
query = f"insert into log values ({', '.join('?' * (columns + 6))})"
inserting, started = 0.0, time.perf_counter()
for number in range(requests):
    moment, prediction = time.time_ns(), uuid.uuid4().hex
    own = [values.reshape(-1).tolist() for values in inputs[number % 4].values()]
    rows = [(prediction, at, moment, "production", 1.0, *row)
            for at, row in enumerate(zip(*own, scores[number % 4].tolist()))]
    before = time.perf_counter()
    db.execute("begin")
    db.executemany(query, rows)
    db.execute("commit")
    inserting += time.perf_counter() - before
whole = time.perf_counter() - started
count = request * requests
assert db.execute("select count(*) from log").fetchone()[0] == count
alone = inserting / count
print(json.dumps({"a row": whole / count, "a row, closed": whole / count, "a row, rows made beforehand": alone}))
"""
)
WINDOW = """
import json, sys, time
from datetime import UTC, datetime, timedelta
from pathlib import Path
import numpy as np
what, columns, many, times = sys.argv[1], *map(int, sys.argv[2:5])
folder, first = Path("log"), datetime(2026, 3, 1, tzinfo=UTC)
if what == "fill":
    from engine.predictions.ids import prediction_ids
    from engine.predictions.log import Made, Origin, PredictionLog, Redaction
    random = np.random.default_rng(7)
    log = PredictionLog(folder, Origin(model="m", version=1, run="r"), Redaction())
    for number in range(many // 1000):
        moment = int((first + timedelta(hours=30 * 24 * number / (many // 1000))).timestamp() * 1e9)
        inputs = {f"f{index}": random.normal(size=(1000, 1)).astype("float32") for index in range(columns)}
        log.append(Made(predictions=prediction_ids(1000, moment), counts=[1] * 1000, aliases=["production"] * 1000,
                        latencies=[1.0] * 1000, time_ns=moment, inputs=inputs,
                        outputs={"score": random.random(1000).astype("float32")}))
        log.flush()
    log.close()
    print("{}")
    sys.exit()
from engine.monitor.reading import Choice, between, newest
choice, seen = Choice(version=1, aliases=("production",)), {}
def timed(work):
    work()
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        found = work()
        taken.append(time.perf_counter() - started)
    return sorted(taken)[times // 2], found
seen["the newest 10,000"], found = timed(lambda: newest(folder, choice, 10_000))
assert found.table.num_rows == 10_000 and not found.damaged
start = first + timedelta(days=17)
seen["those of 8 hours"], found = timed(lambda: between(folder, choice, start, start + timedelta(hours=8)))
assert 9_000 < found.table.num_rows < 13_000, found.table.num_rows
print(json.dumps(seen))
"""


# -- tests for drift -------------------------------------------------------------------------------------------------


def compare_ks(rounds: int) -> None:
    """Both sizes of window."""
    from engine.plugins import Feature
    from engine_plugins.alibi.library import library
    from engine_plugins.drift.detectors import KolmogorovSmirnov

    seen, wanted = Table("exact Kolmogorov-Smirnov tests on 30 columns"), {}
    for rows, promised in KS.items():
        random = np.random.default_rng(1)
        before = random.normal(size=(rows, COLUMNS)).astype(np.float32)
        after = (random.normal(size=(rows, COLUMNS)) + 0.01).astype(np.float32)
        names = [f"x{index}" for index in range(COLUMNS)]
        features = [Feature(name=name, role="numeric", datatype="FP32") for name in names]
        with warnings.catch_warnings():  # it says that all columns are taken for numbers, as is meant
            warnings.simplefilter("ignore")
            alibi = library().tabular_drift(before, p_val=0.05)
        own = KolmogorovSmirnov(reference_rows=rows).fit(table_of(before, names), features, 0)
        window = table_of(after, names)
        work: dict[str, Callable[[], Any]] = {
            "engine": lambda own=own, window=window: own.predict(window),  # type: ignore[misc]
            "alibi-detect": lambda alibi=alibi, after=after: alibi.predict(after),  # type: ignore[misc]
        }
        require_same(work["alibi-detect"]()["data"], work["engine"]())
        title = f"a window of {rows:,}"
        wanted[title] = promised
        for _, side in alternate(list(work), min(rounds, KS_ROUNDS[rows]) if rows > 100_000 else KS_ROUNDS[rows]):
            started = time.perf_counter()
            work[side]()
            seen.add(side, {title: time.perf_counter() - started})
    seen.show(wanted)


def require_same(theirs: Any, ours: Any) -> None:
    """Both must say the same; alibi's p-values are the asymptotic ones where ours are exact.

    Raises:
        SystemExit: when they do not.
    """
    same = np.allclose(theirs["distance"], list(ours.distance.values()), atol=1e-6)
    if not same or not np.allclose(theirs["p_val"], list(ours.p_val.values()), rtol=0.05, atol=1e-12):
        raise SystemExit("the two do not say the same")


def table_of(values: np.ndarray[Any, Any], names: list[str]) -> pa.Table:
    """A matrix as a table."""
    return pa.table({name: np.ascontiguousarray(values[:, index]) for index, name in enumerate(names)})


# -- the command -----------------------------------------------------------------------------------------------------


def compare_check(rounds: int) -> None:
    """`engine monitor check`, and `import alibi_detect`."""
    seen = Table(f"engine monitor check, {CHECKED:,} rows, {COLUMNS} features, process start included")
    work = "from start to end"
    with scratch() as folder:
        answer(sys.executable, MODEL, COLUMNS, LOGGED, cwd=folder)
        words = {
            "engine": [Path(sys.executable).parent / "engine", "monitor", "check", "watched"],
            "import alibi_detect": [sys.executable, "-c", "import alibi_detect"],
        }
        if not words["engine"][0].exists():  # type: ignore[union-attr]
            words["engine"] = [sys.executable, "-m", "engine.cli.main", "monitor", "check", "watched"]
        for side in words:  # not counted: caches become warm
            seconds(words[side], folder)
        for _, side in alternate(list(words), rounds):
            seen.add(side, {work: seconds(words[side], folder)})
    seen.show({work: 1 / CHECK_AT_MOST})
    ours, theirs = (statistics.median(seen.seen[work][side]) for side in words)
    print(f"  {ours / theirs:.2f} of the import's time; promised at most {CHECK_AT_MOST:g}")


def seconds(words: list[Any], folder: Path) -> float:
    """How long a command takes that answers yes or no.

    Raises:
        SystemExit: when it fails.
    """
    started = time.perf_counter()
    done = subprocess.run(
        [str(word) for word in words], cwd=folder, env=quiet_environment(), capture_output=True, text=True, check=False
    )
    taken = time.perf_counter() - started
    if done.returncode not in (0, 1) or "Traceback" in done.stderr:
        raise SystemExit(f"{words[:3]} failed:\n{done.stderr[-2000:]}")
    return taken


# -- the log ---------------------------------------------------------------------------------------------------------


def compare_log(rounds: int) -> None:
    """Rows a second, ours and SQLite's."""
    seen = Table(f"the prediction log, requests of {REQUEST:,} rows, {COLUMNS} inputs")
    code = {"engine": OURS, "sqlite, wal": THEIRS}
    with scratch() as folder:
        for side in code:
            (folder / side).mkdir()
        for _, side in alternate(list(code), rounds):
            found = answer(sys.executable, code[side], COLUMNS, REQUEST, REQUESTS, cwd=folder / side)
            alone = found.pop("a row, rows made beforehand", None)
            seen.add(side, found)
            if alone is not None:
                seen.add("sqlite, wal, rows made beforehand", {"a row": alone, "a row, closed": alone})
    seen.show({"a row": 5.0, "a row, closed": 5.0})
    for work, sides in seen.seen.items():
        rates = {side: 1 / statistics.median(values) for side, values in sides.items()}
        print(f"  {work}: " + ", ".join(f"{side} {rate:,.0f} rows/s" for side, rate in rates.items()))


def measure_window(rounds: int) -> None:
    """One window's rows out of a million."""
    seen = Table(f"one window of {MANY:,} logged rows, {COLUMNS} inputs")
    with scratch() as folder:
        answer(sys.executable, WINDOW, "fill", COLUMNS, MANY, 1, cwd=folder)
        for _ in range(rounds):
            seen.add("engine", answer(sys.executable, WINDOW, "read", COLUMNS, MANY, 5, cwd=folder))
    seen.show({})
    for work, sides in seen.seen.items():
        taken = statistics.median(sides["engine"])
        print(f"  {work}: {taken:.3f} s; promised at most {WINDOW_AT_MOST:g} s")


# -- watching --------------------------------------------------------------------------------------------------------


def watch_many(rounds: int) -> None:
    """A hundred models in one process: to judge what is there, and what watching costs when nothing comes."""
    with scratch() as folder:
        answer(sys.executable, MODELS, MODELS_WATCHED, cwd=folder)
        words = [sys.executable, "-m", "engine.cli.main", "monitor", "watch"]
        taken = seconds([*words, "--once"], folder)
        print(f"{MODELS_WATCHED} models with {3 * MODELS_WATCHED} windows of 1,000 rows: judged in {taken:.1f} s")
        process = subprocess.Popen(words, cwd=folder, env=quiet_environment(), stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)  # fmt: skip
        try:
            watcher = psutil.Process(process.pid)
            time.sleep(20)
            shares = []
            for _ in range(rounds):
                before = sum(watcher.cpu_times()[:2])
                time.sleep(3)
                shares.append((sum(watcher.cpu_times()[:2]) - before) / 3)
            memory = watcher.memory_full_info().uss / 1e6
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)
    print(f"  when nothing comes {statistics.median(shares):.1%} of a core, {memory:.0f} MB")


def watch_beside(rounds: int) -> None:
    """What a watch costs beside a server under full load: its processor time by the server's, for the same rows."""
    with scratch() as folder:
        serve.make(folder)
        rates: dict[str, list[float]] = {"alone": [], "watched": []}
        costs = []
        with serve.started("engine", folder) as side:
            server = psutil.Process(side.process.pid)
            serve.varied_load(side, folder, 64, 2, DIFFERENT)
            for _, name in alternate(list(rates), rounds):
                if name == "alone":
                    rates[name].append(serve.varied_load(side, folder, 64, 5, DIFFERENT).rate)
                    continue
                words = [sys.executable, "-m", "engine.cli.main", "monitor", "watch", "forest"]
                process = subprocess.Popen(words, cwd=folder, env=quiet_environment(), stdout=subprocess.DEVNULL,
                                           stderr=subprocess.DEVNULL)  # fmt: skip
                watcher = psutil.Process(process.pid)
                settled(watcher)
                before = spent(watcher), spent(server)
                rates[name].append(serve.varied_load(side, folder, 64, 5, DIFFERENT).rate)
                settled(watcher)
                costs.append((spent(watcher) - before[0]) / (spent(server) - before[1]))
                process.send_signal(signal.SIGINT)
                process.wait(30)
    alone, watched = (statistics.median(found) for found in rates.values())
    change = f"{watched:,.0f} of {alone:,.0f} requests a second ({watched / alone - 1:+.1%})"
    print(f"beside a server at 64 connections: {change}")
    print(f"  the watch's processor time is {statistics.median(costs):.1%} of the server's; promised less than 5%")


def spent(process: psutil.Process) -> float:
    """Seconds of processor."""
    return float(sum(process.cpu_times()[:2]))


def settled(process: psutil.Process) -> None:
    """Wait until a process has nothing more to do."""
    last, until = -1.0, time.monotonic() + 60
    while time.monotonic() < until:
        now = spent(process)
        if now - last < 0.15:
            return
        last = now
        time.sleep(3)


PARTS: dict[str, Callable[[int], None]] = {
    "ks": compare_ks, "check": compare_check, "log": compare_log, "window": measure_window,
    "many": watch_many, "beside": watch_beside,
}  # fmt: skip


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", choices=list(PARTS), action="append")
    given = parser.parse_args()
    compile_ours()
    for name in given.only or PARTS:
        PARTS[name](given.rounds)


if __name__ == "__main__":
    main()
