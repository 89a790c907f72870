"""A whole table through the served model's session and checks: one commit that says where it comes from."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.wiring import open_home
from projects import Project, engine, numbers
from serve_models import plus, register
from serving import two_versions

INPUT, OUTPUT = "lakefs://numbers/main/test.parquet", "lakefs://numbers/scores/scored.parquet"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = two_versions(tmp_path_factory.mktemp("predict") / "project")
    open_home(project.root).lake.create_branch("numbers", "scores", "main")
    return project


@pytest.fixture
def project(made: Project, tmp_path: Path) -> Project:
    return Project(shutil.copytree(made.root, tmp_path / "own"))


def test_a_table_of_the_lake_becomes_one_commit_that_names_the_model_its_run_and_the_data(project: Project) -> None:
    home = open_home(project.root)
    before = home.lake.branches("numbers")["scores"]
    done = engine(project.root, "predict", "numbers", "--input", INPUT, "--output", OUTPUT, "--json").json
    version = home.registry.versions("numbers")[1]
    assert (done["rows"], done["model"]["version"], done["run"]) == (80, 1, version.runs[0])
    (commit, *_) = home.lake.log("numbers", "scores")
    assert commit.id == done["commit"]
    assert home.lake.branches("numbers")["scores"] == commit.id != before
    assert commit.message == "80 predictions of numbers:1"
    main = home.lake.branches("numbers")["main"]
    assert dict(commit.metadata) == {
        "engine.model": "numbers:1",
        "engine.model.digest": f"sha256:{version.digest}",
        "engine.run": version.runs[0],
        "engine.input": f"lakefs://numbers/{main}/test.parquet",
    }
    with home.lake.open("numbers", commit.id, "scored.parquet") as file:
        table = pq.read_table(io.BytesIO(file.read()))
    assert table.drop_columns(["prediction"]).equals(numbers(80, seed=2))
    x, z = (table.column(name).to_numpy() for name in "xz")
    assert table.column("prediction").to_numpy() == pytest.approx(2 * x - z + 1, abs=0.05)


@pytest.mark.parametrize("format", ["parquet", "csv", "arrow", "jsonl"])
def test_a_file_of_any_known_format_becomes_a_file(project: Project, format: str) -> None:
    import pyarrow.csv

    table, path = numbers(7, seed=5), project.root / f"in.{format}"
    if format == "parquet":
        pq.write_table(table, path)
    elif format == "csv":
        pyarrow.csv.write_csv(table, path)
    elif format == "arrow":
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    else:
        import json

        path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    done = engine(project.root, "predict", "numbers:2", "--input", str(path), "--output", "out.parquet", "--json").json
    assert (done["rows"], done["model"]["version"], done["commit"]) == (7, 2, None)
    assert pq.read_table(project.root / "out.parquet").column_names == ["x", "z", "y", "group", "prediction"]


def test_a_row_that_the_schema_does_not_allow_is_named_and_nothing_is_written(project: Project) -> None:
    home = open_home(project.root)
    table = numbers(100_000, seed=3)
    x = table.column("x").to_numpy().copy()
    x[90_000] = 5000.0
    project.put("bad.parquet", table.set_column(0, "x", pa.array(x)))
    before = home.lake.branches("numbers")["scores"]
    refused = engine(
        project.root, "predict", "numbers", "--input", "lakefs://numbers/main/bad.parquet", "--output", OUTPUT
    )
    assert refused.code != 0
    assert 'row 90,000: tensor "x": expected a number between -1000 and 1000, received 5000' in refused.err
    assert home.lake.branches("numbers")["scores"] == before
    assert next(iter(home.lake.changes("numbers", "scores")), None) is None


WRONG = [
    ("lakefs://numbers/main/nix.parquet", OUTPUT, "nix.parquet"),
    (INPUT, "lakefs://numbers/nix/out.parquet", "no branch lakefs://numbers/nix to commit to"),
    (INPUT, "lakefs://numbers/scores/out.csv", "is no Parquet file"),
    (INPUT, "nowhere/out.parquet", 'no folder "nowhere"'),
    ("nix.parquet", "out.parquet", 'no file "nix.parquet"'),
    ("pyproject.toml", "out.parquet", "are not of one known format"),
]


@pytest.mark.parametrize(("source", "target", "says"), WRONG)
def test_what_cannot_be_read_or_written_is_said_before_anything_is_predicted(
    made: Project, source: str, target: str, says: str
) -> None:
    refused = engine(made.root, "predict", "numbers", "--input", source, "--output", target)
    assert (refused.code, says in refused.err, "Traceback" in refused.err) == (2, True, False), refused.err


def test_a_branch_with_uncommitted_changes_is_left_alone(project: Project) -> None:
    open_home(project.root).lake.put("numbers", "scores", "other.bin", io.BytesIO(b"1"))
    refused = engine(project.root, "predict", "numbers", "--input", INPUT, "--output", OUTPUT)
    assert refused.code != 0
    assert "Traceback" not in refused.err
    assert [change.path for change in open_home(project.root).lake.changes("numbers", "scores")] == ["other.bin"]


@pytest.mark.slow
def test_a_table_larger_than_the_memory_it_may_use_is_predicted(tmp_path: Path) -> None:
    """Forty million rows, 160 MB a column, in a process that gets no more than 256 MB beyond what it begins with."""
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "p"\n')
    register(tmp_path, "plus", plus(1))
    schema = pa.schema([("x", pa.float32())])
    with pq.ParquetWriter(tmp_path / "in.parquet", schema, compression="none") as writer:
        for number in range(40):
            values = np.random.default_rng(number).random(1_000_000, np.float32)
            writer.write_table(pa.table({"x": values}, schema=schema), row_group_size=100_000)
    code = """
import resource, sys
from engine.cli.main import main
def peak(): return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert main(["predict", "plus", "--input", "small.parquet", "--output", "small-out.parquet", "--json"]) == 0
before = peak()
assert main(["predict", "plus", "--input", "in.parquet", "--output", "out.parquet", "--json"]) == 0
print(peak() - before)
"""
    pq.write_table(pa.table({"x": np.zeros(10, np.float32)}), tmp_path / "small.parquet")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    grown = int(done.stdout.splitlines()[-1])
    mapped = (tmp_path / "in.parquet").stat().st_size  # the file's own pages, which the system may take back
    assert grown < mapped + (256 << 20)
    assert pq.ParquetFile(tmp_path / "out.parquet").metadata.num_rows == 40_000_000
