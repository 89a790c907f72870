"""The registry beside MLflow 3.17 on SQLite: register and alias, list 1,000 versions, find by alias.

    .venv/bin/python benchmarks/registry.py [--rounds 7]

Both sides have everything on the disk when an alias is set: SQLite flushes then (``synchronous=full`` on both, which is
printed). MLflow has SQLite's rollback journal and flushes with every commit. Ours has a write-ahead log: a reservation
and a run are flushed where a run is recorded, which is a line of its own here, or by the next change that is, such as
an alias. Both work through their own client in one process, which has imported everything and has its connection open.
To register is to make a version visible with its run, its data and an entry in the ledger; MLflow has no ledger. "As
its guide does" is ``mlflow.register_model``, the 36 ms that were promised a thirtieth of; the line above it is the
quickest way that its client has. "Journalled" is what a promotion does, less git and the lake.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from peers import Table, alternate, answer, command, compile_ours, environment, scratch

MLFLOW = ("mlflow==3.17.*",)
BIN = Path(sys.executable).parent
COUNT, TIMES = 1_000, 40
WANTED = {"register + alias, as its guide does": 30.0, f"list {COUNT:,} versions": 30.0, "find by alias": 30.0}

OURS = """
import json, secrets, sys, time
from pathlib import Path
from engine.registry.model import Decision, ModelRef
from engine.registry.sqlite import SqliteRegistry
registry = SqliteRegistry(Path(".engine/registry.db"))
what, count, times = sys.argv[1], *map(int, sys.argv[2:4])
PINS = {"data": {"train": {"uri": "lakefs://numbers/main/train.csv", "commit": "c" * 64, "digest": "d" * 64}},
        "code": {"commit": "e" * 40, "dirty": False, "digest": "f" * 64}}
def register(name, sync=False):
    digest, run, record = (secrets.token_hex(32) for _ in range(3))
    version = registry.reserve(name, digest, "a" * 64)
    registry.sync() if sync else None
    registry.announce(run, record)
    registry.note_run(name, run, record, "passed", version, PINS)
    registry.sync() if sync else None
    return version
if what == "fill":
    for _ in range(count):
        version = register("model")
    registry.set_alias("model", "production", version - 1)
    print("{}")
    sys.exit()
seen = {}
registry.set_alias("other", "production", register("other"))
started = time.perf_counter()
for _ in range(times):
    registry.set_alias("other", "production", register("other"))
seen["register + alias"] = seen["register + alias, as its guide does"] = (time.perf_counter() - started) / times
started = time.perf_counter()
for _ in range(times):
    version = register("other", sync=True)
    registry.set_alias("other", "production", version)
seen["register + alias, each flushed"] = (time.perf_counter() - started) / times
before = registry.aliases("other")["production"]
started = time.perf_counter()
for _ in range(times):
    version = register("other")
    decision = Decision(
        id=secrets.token_hex(16), name="other", alias="production", version=version, before=before, how="promoted"
    )
    registry.move(decision)
    registry.drop(decision.id)
    before = version
seen["register + alias, journalled as a promotion does"] = (time.perf_counter() - started) / times
assert len(registry.versions("model")) == count
started = time.perf_counter()
for _ in range(times):
    registry.versions("model")
seen[f"list {count:,} versions"] = (time.perf_counter() - started) / times
ref = ModelRef.parse("model@production")
assert registry.get(ref).version == count - 1
started = time.perf_counter()
for _ in range(times):
    registry.get(ref)
seen["find by alias"] = (time.perf_counter() - started) / times
started = time.perf_counter()
for _ in range(times):
    registry.head()
seen["has anything changed"] = (time.perf_counter() - started) / times
print(json.dumps(seen))
"""
THEIRS = """
import json, logging, sys, time
from pathlib import Path
Path("model").mkdir(exist_ok=True)
logging.disable(logging.INFO)
import mlflow
from mlflow import MlflowClient
mlflow.set_registry_uri("sqlite:///mlflow.db")
folder = f"file://{Path.cwd() / 'model'}"
client = MlflowClient("sqlite:///mlflow.db", "sqlite:///mlflow.db")
what, count, times = sys.argv[1], *map(int, sys.argv[2:4])
def register(name):
    return client.create_model_version(name, "file:///models/x", run_id=None).version
if what == "fill":
    client.create_registered_model("model")
    client.create_registered_model("other")
    for _ in range(count):
        version = register("model")
    client.set_registered_model_alias("model", "production", str(int(version) - 1))
    print("{}")
    sys.exit()
seen = {}
client.set_registered_model_alias("other", "production", register("other"))
started = time.perf_counter()
for _ in range(times):
    client.set_registered_model_alias("other", "production", register("other"))
seen["register + alias"] = (time.perf_counter() - started) / times
started = time.perf_counter()
for _ in range(times):
    client.set_registered_model_alias("other", "production", mlflow.register_model(folder, "other").version)
seen["register + alias, as its guide does"] = (time.perf_counter() - started) / times
assert len(client.search_model_versions("name='model'", max_results=count)) == count
started = time.perf_counter()
for _ in range(5):
    client.search_model_versions("name='model'", max_results=count)
seen[f"list {count:,} versions"] = (time.perf_counter() - started) / 5
assert int(client.get_model_version_by_alias("model", "production").version) == count - 1
started = time.perf_counter()
for _ in range(times):
    client.get_model_version_by_alias("model", "production")
seen["find by alias"] = (time.perf_counter() - started) / times
print(json.dumps(seen))
"""
DURABLE = {
    "engine": """
import json
from pathlib import Path
from engine.store.sqlite import Connections
db = Connections(Path(".engine/registry.db"), "")
with db.transaction() as inside:
    asked = ("journal_mode", "synchronous")
    print(json.dumps({what: inside.execute(f"pragma {what}").fetchone()[0] for what in asked}))
""",
    "mlflow": """
import json
from mlflow import MlflowClient
client = MlflowClient("sqlite:///mlflow.db", "sqlite:///mlflow.db")
client.search_registered_models()
from sqlalchemy import text
with client._get_registry_client().store.engine.connect() as db:
    print(json.dumps({what: db.execute(text(f"pragma {what}")).scalar() for what in ("journal_mode", "synchronous")}))
""",
}
COLD = """
from mlflow import MlflowClient
client = MlflowClient("sqlite:///mlflow.db", "sqlite:///mlflow.db")
print(len(client.search_model_versions("name='model'", max_results=1000)))
"""


def compare(rounds: int) -> None:
    """Every kind of work, in turn."""
    seen, cold = Table("the registry, in process"), Table("a new process")
    python = {"engine": sys.executable, "mlflow": environment("mlflow", *MLFLOW)}
    code = {"engine": OURS, "mlflow": THEIRS}
    with scratch() as folder:
        for name in code:
            (folder / name / ".engine").mkdir(parents=True)
            answer(python[name], code[name], "fill", COUNT, 0, cwd=folder / name)
            print(name, answer(python[name], DURABLE[name], cwd=folder / name))
        for _, name in alternate(list(code), rounds):
            here = folder / name
            seen.add(name, answer(python[name], code[name], "work", COUNT, TIMES, cwd=here))
            words = [BIN / "engine", "models", "list", "model"] if name == "engine" else [python[name], "-c", COLD]
            cold.add(name, {f"list {COUNT:,} versions": command(*words, cwd=here)})
            if name == "mlflow":
                cold.add(name, {"import, or --help": command(python[name], "-c", "import mlflow", cwd=here)})
            else:
                cold.add(name, {"import, or --help": command(BIN / "engine", "--help", cwd=here)})
    seen.show(WANTED)
    cold.show({})


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    compile_ours()
    compare(parser.parse_args().rounds)


if __name__ == "__main__":
    main()
