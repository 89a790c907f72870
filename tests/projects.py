"""Small projects in a folder: a lake with numbers in it, a trainer of their own, a spec. Steps take milliseconds."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from engine.wiring import open_home

TRAINER = '''"""A trainer of the project's own."""

import os
import time
from dataclasses import dataclass

import helper
import numpy as np
import onnx
from onnx import TensorProto, helper as oh, numpy_helper


@dataclass(frozen=True, kw_only=True)
class Linear:
    """Ridge regression by the normal equations."""

    ridge: float = 1e-6
    mode: str = "fit"
    seconds: float = 60.0

    def fit(self, table, task):
        """Fit, or do what `mode` says."""
        print("mode", self.mode)
        if self.mode == "raise":
            return helper.broken()
        if self.mode == "die":
            os._exit(7)
        if self.mode == "sleep":
            time.sleep(self.seconds)
        if self.mode == "late":
            __import__("stranger")
        if self.mode == "read":
            helper.read()
        if self.mode == "write":
            helper.write_and_read()
        x = columns(table, task.names)
        a = np.c_[x, np.ones(len(x))]
        y = table.column(task.target).to_numpy().astype(float)
        return Fitted(tuple(task.names), np.linalg.solve(a.T @ a + self.ridge * np.eye(a.shape[1]), a.T @ y))


def columns(table, names):
    return np.stack([table.column(name).to_numpy().astype("float32") for name in names], axis=1)


@dataclass
class Fitted:
    names: tuple
    weights: np.ndarray
    classes = None

    def scores(self, table):
        return columns(table, self.names) @ self.weights[:-1] + self.weights[-1]

    def to_onnx(self):
        names = list(self.names)
        nodes = [
            oh.make_node("Concat", names, ["all"], axis=1),
            oh.make_node("MatMul", ["all", "w"], ["m"]),
            oh.make_node("Add", ["m", "b"], ["value"]),
        ]
        inputs = [oh.make_tensor_value_info(name, TensorProto.FLOAT, [None, 1]) for name in names]
        outputs = [oh.make_tensor_value_info("value", TensorProto.FLOAT, [None, 1])]
        w = numpy_helper.from_array(self.weights[:-1, None].astype("float32"), "w")
        b = numpy_helper.from_array(self.weights[-1:].astype("float32"), "b")
        graph = oh.make_graph(nodes, "g", inputs, outputs, [w, b])
        return oh.make_model(graph, opset_imports=[oh.make_opsetid("", 15)], ir_version=8).SerializeToString()
'''
HELPER = '''"""Helps the trainer."""

from pathlib import Path

HERE = Path(__file__).parent


def broken():
    return 1 / 0


def read():
    return (HERE / "settings.json").read_text()


def cost(y_true, y_pred, y_score, weights):
    return float(((y_pred - y_true) ** 2).mean())


def write_and_read():
    (HERE / "scratch.txt").write_text("1")
    return (HERE / "scratch.txt").read_text()
'''
SPEC: dict[str, Any] = {
    "name": "numbers",
    "seed": 7,
    "data": {
        "train": {"uri": "lakefs://numbers/main/train.parquet", "schema": "schema.yaml"},
        "test": {"uri": "lakefs://numbers/main/test.parquet", "schema": "schema.yaml"},
    },
    "features": {"numeric": ["x", "z"]},
    "target": "y",
    "train": {"uses": "my_trainer:Linear", "data": "train"},
    "evaluate": {
        "data": "test",
        "metrics": ["mae", "r2"],
        "slices": ["group"],
        "gates": [
            {"metric": "mae", "max": 1.0},
            {"metric": "mae", "slice": "group", "max": 2.0, "min_rows": 5},
            {"metric": "mae", "baseline": "production", "max_drop": 0.5},
            {"metric": "onnx_parity", "max": 1.0e-4},
            {"metric": "model_mb", "max": 1},
            {"metric": "latency_p99_ms", "max": 1000},
        ],
    },
}
SCHEMA = {
    "schema_type": "dataframe",
    "columns": {
        "x": {"dtype": "float64", "in_range": {"min_value": -1000, "max_value": 1000}},
        "z": {"dtype": "int64"},
        "y": {"dtype": "float64"},
        "group": {"dtype": "str", "isin": ["a", "b"]},
    },
}


@dataclass(frozen=True)
class Project:
    """A project in ``root``."""

    root: Path

    @property
    def spec(self) -> Path:
        return self.root / "spec.yaml"

    @property
    def home(self) -> Path:
        return self.root / ".engine"

    def write(self, changes: Mapping[str, Any] | None = None, name: str = "spec.yaml", **top: Any) -> Path:
        """Write the spec with dotted ``changes`` (None removes a key)."""
        values = json.loads(json.dumps({**SPEC, **top}))
        for key, value in (changes or {}).items():
            set_key(values, key, value)
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(values, sort_keys=False))
        return path

    def put(self, path: str, table: pa.Table, message: str = "more") -> None:
        """Commit a table to the lake as Parquet."""
        buffer = io.BytesIO()
        pq.write_table(table, buffer)
        self.put_bytes(path, buffer.getvalue(), message)

    def put_bytes(self, path: str, data: bytes, message: str = "more") -> None:
        """Commit bytes to the lake."""
        lake = open_home(self.root).lake
        if "numbers" not in [item.name for item in lake.repositories()]:
            lake.create_repository("numbers")
        lake.put("numbers", "main", path, io.BytesIO(data))
        lake.commit("numbers", "main", message, author="test", time=0)


def set_key(values: Any, key: str, value: Any) -> None:
    """Set a dotted key, where numbers are list indexes."""
    *parents, last = key.split(".")
    for part in parents:
        values = values[int(part)] if isinstance(values, list) else values.setdefault(part, {})
    if isinstance(values, list):
        values[int(last)] = value
    elif value is None:
        values.pop(last, None)
    else:
        values[last] = value


def numbers(rows: int, seed: int = 1) -> pa.Table:
    """y = 2x - z + 1 and a little noise, in two groups."""
    random = np.random.default_rng(seed)
    x = random.normal(size=rows)
    z = random.integers(0, 10, rows)
    y = 2 * x - z + 1 + 0.01 * random.normal(size=rows)
    return pa.table({"x": x, "z": z, "y": y, "group": ["ab"[i % 2] for i in range(rows)]})


def make_project(root: Path) -> Project:
    """A project that runs and passes."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "pyproject.toml").write_text('[project]\nname = "p"\n')
    (root / "my_trainer.py").write_text(TRAINER)
    (root / "helper.py").write_text(HELPER)
    (root / "stranger.py").write_text('"""Nobody imports this where it can be seen."""\n')
    (root / "schema.yaml").write_text(yaml.safe_dump(SCHEMA))
    project = Project(root)
    project.write()
    project.put("train.parquet", numbers(200), "train")
    project.put("test.parquet", numbers(80, seed=2), "test")
    return project


def left_behind(home: Path) -> list[Path]:
    """Files that are half-written by their name."""
    below = [*home.glob("tmp/*"), *home.glob("objects/tmp/*"), *home.glob("**/.*.json.*")]
    return [path for path in below if path.is_file() or any(path.iterdir())]


@contextmanager
def mounted(folder: Path, *arguments: str) -> Iterator[Path]:
    """Something mounted at ``folder``; the test is skipped where that is not allowed."""
    folder.mkdir(exist_ok=True)
    if subprocess.run(["mount", *arguments, str(folder)], check=False, capture_output=True).returncode:
        pytest.skip("only root may mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def read_only(source: Path, folder: Path) -> Iterator[Path]:
    """The folder ``source`` as it is at ``folder`` on a disk that takes no writes."""
    with mounted(folder, "--bind", str(source)) as seen:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(seen)], check=True)
        yield seen


@dataclass(frozen=True)
class Done:
    """A command that is over."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def engine(folder: Path, *arguments: str, timeout: float = 120, **environment: str) -> Done:
    """The command line in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "engine.cli.main", *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)
