"""Running again what hardly changed, beside DVC 3.67: the same pipeline, commands from start to end, in turn.

    .venv/bin/python benchmarks/rerun.py [--rounds 10] [--only rerun|records|plan]

Both sides ingest the same 20,000 rows of CSV, fit the same scikit-learn logistic regression, evaluate it, and hold its
ROC AUC against a limit in a light stage of its own. DVC's stages are scripts that do no more than that; the last
imports nothing but json. DVC's figures leave out git, as ours leave out nothing.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from peers import Table, alternate, answer, command, compile_ours, environment, quiet_environment, scratch

DVC = ("dvc==3.67.0", "pathspec<1", "scikit-learn", "pandas")
BIN = Path(sys.executable).parent
ROWS, TEST, COLUMNS, RUNS, GATES = 20_000, 5_000, 10, 10_000, 1_000
LIMIT = "0.55"

DVC_YAML = """
stages:
  prepare:
    cmd: python prepare.py
    deps: [prepare.py, train.csv, test.csv]
    outs: [train.pkl, test.pkl]
  train:
    cmd: python train.py
    deps: [train.py, train.pkl]
    outs: [model.pkl]
  evaluate:
    cmd: python evaluate.py
    deps: [evaluate.py, model.pkl, test.pkl]
    outs: [metrics.json]
  gate:
    cmd: python gate.py
    deps: [gate.py, metrics.json]
    params: [limit]
    outs: [verdict.json]
"""
SCRIPTS = {
    "prepare.py": """
import pandas as pd
for name in ("train", "test"):
    pd.read_csv(f"{name}.csv").to_pickle(f"{name}.pkl")
""",
    "train.py": """
import pickle
import pandas as pd
from sklearn.linear_model import LogisticRegression
table = pd.read_pickle("train.pkl")
model = LogisticRegression().fit(table.drop(columns="y"), table["y"])
pickle.dump(model, open("model.pkl", "wb"))
""",
    "evaluate.py": """
import json, pickle
import pandas as pd
from sklearn.metrics import roc_auc_score
table = pd.read_pickle("test.pkl")
score = pickle.load(open("model.pkl", "rb")).predict_proba(table.drop(columns="y"))[:, 1]
json.dump({"roc_auc": roc_auc_score(table["y"], score)}, open("metrics.json", "w"))
""",
    "gate.py": """
import json
limit = float(open("params.yaml").read().split(":")[1])
value = json.load(open("metrics.json"))["roc_auc"]
json.dump({"passed": value >= limit, "value": value}, open("verdict.json", "w"))
""",
}
SPEC = """
name: numbers
data:
  train: {uri: lakefs://numbers/main/train.csv}
  test: {uri: lakefs://numbers/main/test.csv}
features: {numeric: [COLUMNS]}
target: y
train: {uses: sklearn, data: train, with: {estimator: sklearn.linear_model.LogisticRegression}}
evaluate:
  data: test
  metrics: [roc_auc]
  gates:
    - {metric: roc_auc, min: LIMIT}
"""


def table(path: Path, rows: int, seed: int) -> None:
    """A CSV file: ten numbers and a class that depends on their sum."""
    chance = random.Random(seed)
    with path.open("w") as stream:
        stream.write(",".join([*(f"x{i}" for i in range(COLUMNS)), "y"]) + "\n")
        for _ in range(rows):
            values = [chance.gauss(0, 1) for _ in range(COLUMNS)]
            label = int(sum(values) + chance.gauss(0, 3) > 0)
            stream.write(",".join([*(f"{value:.4f}" for value in values), str(label)]) + "\n")


class Engine:
    """Our side."""

    name = "engine"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "pyproject.toml").touch()
        self.limit(0)
        for name, rows in (("train", ROWS), ("test", TEST)):
            table(folder / f"{name}.csv", rows, len(name))
        command(BIN / "engine", "lake", "repos", "create", "numbers", cwd=folder)
        for name in ("train", "test"):
            uri = f"lakefs://numbers/main/{name}.csv"
            command(BIN / "engine", "lake", "put", f"{name}.csv", uri, "--commit", "-m", name, cwd=folder)

    def limit(self, number: int) -> None:
        """Write the spec with another limit."""
        columns = ", ".join(f"x{i}" for i in range(COLUMNS))
        text = SPEC.replace("COLUMNS", columns).replace("LIMIT", f"{LIMIT}{number:03}")
        (self.folder / "spec.yaml").write_text(text)

    def run(self) -> float:
        """Run it, whatever there is to do."""
        return command(BIN / "engine", "run", "spec.yaml", cwd=self.folder)

    def help(self) -> float:
        """Say what there is."""
        return command(BIN / "engine", "--help", cwd=self.folder)


class Dvc:
    """DVC's side."""

    name = "dvc"

    def __init__(self, folder: Path) -> None:
        self.folder, self.python = folder, environment("dvc-rerun", *DVC)
        folder.mkdir()
        for name, text in SCRIPTS.items():
            path = f"{self.python.parent}/python"
            (folder / name).write_text(text)
            (folder / "dvc.yaml").write_text(DVC_YAML.replace("cmd: python", f"cmd: {path}"))
        self.limit(0)
        for name, rows in (("train", ROWS), ("test", TEST)):
            table(folder / f"{name}.csv", rows, len(name))
        self.dvc("init", "--no-scm", "-q")
        self.dvc("config", "core.analytics", "false")

    def dvc(self, *words: str) -> float:
        """A command of DVC."""
        return command(self.python.parent / "dvc", *words, cwd=self.folder)

    def limit(self, number: int) -> None:
        """Write the parameters with another limit."""
        (self.folder / "params.yaml").write_text(f"limit: {LIMIT}{number:03}\n")

    def run(self) -> float:
        """Run it, whatever there is to do."""
        return self.dvc("repro")

    def help(self) -> float:
        """Say what there is."""
        return self.dvc("--help")


def rerun(rounds: int) -> None:
    """Unchanged, a changed limit, and help."""
    seen = Table("running again")
    with scratch() as folder:
        sides: dict[str, Any] = {"engine": Engine(folder / "engine"), "dvc": Dvc(folder / "dvc")}
        for side in sides.values():
            side.run()
            side.run()
        for number, name in alternate(list(sides), rounds):
            side = sides[name]
            unchanged = side.run()
            side.limit(number + 1)
            changed = side.run()
            side.run()  # what a run leaves in its folder is there now
            seen.add(name, {"unchanged": unchanged, "a changed limit": changed, "--help": side.help()})
        check(sides["engine"].folder)
    seen.show({"unchanged": 1 / 0.7, "a changed limit": 1 / 0.4, "--help": 1.0})


def check(folder: Path) -> None:
    """Every run passed, and none but the first trained."""
    done = subprocess.run(
        [str(BIN / "engine"), "runs", "list", "--json"],
        cwd=folder,
        capture_output=True,
        env=quiet_environment(),
        check=True,
    )
    found = json.loads(done.stdout)["runs"]
    assert all(run["status"] == "passed" for run in found), found
    assert len({run["model"]["digest"] for run in found}) == 1


RECORDS = """
import json, os, sys, time
from pathlib import Path
from engine.digest import canonical_json, digest_of
from engine.record.trace import Sources, trace
from engine.wiring import open_home
home = open_home(Path.cwd())
count = int(sys.argv[1])
first = home.records.latest(home.records.run_ids()[0])
lake, made = home.lake, []
for number in range(100):
    lake.put("numbers", "main", "note.txt", __import__("io").BytesIO(str(number).encode()))
    made.append(lake.commit("numbers", "main", f"commit {number}").id)
lake.create_tag("numbers", "v50", made[50])
whole = canonical_json(first.statement)
for number in range(count):
    statement = json.loads(whole)
    definition, details = statement["predicate"]["buildDefinition"], statement["predicate"]["runDetails"]
    definition["externalParameters"]["seed"] = number + 1
    run = digest_of(definition["externalParameters"])
    details["metadata"]["invocationId"] = run
    for pin in definition["resolvedDependencies"]:
        if pin["name"] == "data/train":
            pin["annotations"]["commit"] = made[number % 100]
    for item in details["byproducts"]:
        if item["name"] == "run":
            item["annotations"].update(run_id=run, started=f"2026-01-{1 + number % 28:02}T{number % 24:02}:00:00.000Z")
            item["annotations"]["metrics"]["roc_auc"] = 0.5 + number / 1e5
    folder = home.records.folder(run)
    (folder / "executions" / "1").mkdir(parents=True)
    (folder / "spec.json").write_bytes(canonical_json(definition["externalParameters"]))
    (folder / "executions" / "1" / "record.json").write_bytes(canonical_json(statement))
os.utime(home.records.root)
started = time.perf_counter()
with home.runs.opened():
    pass
print(json.dumps({f"index of {count:,} runs, made anew": time.perf_counter() - started}))
"""
TRACE = """
import json, sys, time
from pathlib import Path
from engine.record.trace import Sources, trace
from engine.wiring import open_home
home = open_home(Path.cwd())
seen = {}
for name in sys.argv[1:]:
    started = time.perf_counter()
    with home.runs.opened() as db:
        found = trace(name, Sources(db=db, records=home.records, registry=home.registry, lake=home.lake))
    seen[f"trace {name}, in process ({len(found.down):,} runs and models)"] = time.perf_counter() - started
print(json.dumps(seen))
"""


def records(rounds: int) -> None:
    """Lists and histories over 10,000 recorded runs, a hundred of them at each of a hundred commits."""
    seen = Table("10,000 recorded runs")
    with scratch() as folder:
        side = Engine(folder / "engine")
        side.run()
        seen.add("engine", answer(sys.executable, RECORDS, RUNS, cwd=side.folder))
        for _ in range(rounds):
            seen.add("engine", answer(sys.executable, TRACE, "lakefs://numbers/v50/", cwd=side.folder))
            listed = command(BIN / "engine", "runs", "list", cwd=side.folder)
            best = command(BIN / "engine", "runs", "list", "--sort", "roc_auc", "--limit", "20", cwd=side.folder)
            traced = command(BIN / "engine", "trace", "lakefs://numbers/v50/", cwd=side.folder)
            seen.add("engine", {"runs list": listed, "runs list, the best 20": best, "trace a tag": traced})
    seen.show({})


PLAN = """
import json, sys, time
from engine.api import prepare_spec
from engine.cli.plan import outputs_of
from engine.pipeline import plan_before
from engine.plan.compile import compile
from engine.plan.why import reasons
seen = {}
started = time.perf_counter(); prepared = prepare_spec("wide.yaml")
seen["load, resolve, compile"] = time.perf_counter() - started
started = time.perf_counter(); compile(prepared.resolved)
seen["of that, compile"] = time.perf_counter() - started
started = time.perf_counter(); settled = prepared.desk.settled(prepared.plan)
seen["which are settled"] = time.perf_counter() - started
started = time.perf_counter(); reasons(prepared.plan, plan_before(prepared), outputs_of(settled))
seen["why the others would run"] = time.perf_counter() - started
print(json.dumps(seen))
"""


def plan(rounds: int) -> None:
    """The cost of planning 1,000 steps: a spec with as many gates."""
    seen = Table("a plan of 1,000 steps")
    with scratch() as folder:
        side = Engine(folder / "engine")
        side.run()
        text = (side.folder / "spec.yaml").read_text()
        gates = "".join(f"    - {{name: g{i}, metric: roc_auc, min: 0.{i:04}}}\n" for i in range(GATES))
        (side.folder / "wide.yaml").write_text(text + gates)
        for _ in range(rounds):
            seen.add("engine", answer(sys.executable, PLAN, cwd=side.folder))
            started = time.perf_counter()
            command(BIN / "engine", "plan", "wide.yaml", cwd=side.folder)
            seen.add("engine", {"engine plan, as a command": time.perf_counter() - started})
    seen.show({})


PARTS = {"rerun": rerun, "records": records, "plan": plan}


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--only", choices=sorted(PARTS))
    given = parser.parse_args()
    compile_ours()
    for name, part in PARTS.items():
        if given.only in (None, name):
            part(given.rounds)


if __name__ == "__main__":
    main()
