"""A project whose runs registered three versions while nothing was in production: a good one, a fair one, a bad one."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from engine.api import run
from engine.store.sqlite import close_kept
from engine.wiring import open_home
from projects import Project, make_project, numbers

GOOD, FAIR, BAD, NEW = 1, 2, 3, 4
RIDGES = ("0.000001", "5", "150")
ON_BRANCH = ["data.train.uri=lakefs://numbers/more/train.parquet"]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Nobody changes it. Its fourth version learned from the branch ``more`` of the data."""
    project = make_project(tmp_path_factory.mktemp("promotion") / "project")
    for ridge in RIDGES:
        assert run(project.spec, overrides=[f"train.with.ridge={ridge}"], inline=True).status == "passed"
    lake = open_home(project.root).lake
    lake.create_branch("numbers", "more", "main")
    put(project, "more", 3)
    assert run(project.spec, overrides=ON_BRANCH, inline=True).status == "passed"
    close_kept()
    return project


def put(project: Project, branch: str, seed: int) -> str:
    """Commit other training data to a branch; the commit."""
    lake, buffer = open_home(project.root).lake, io.BytesIO()
    pq.write_table(numbers(300, seed=seed), buffer)
    lake.put("numbers", branch, "train.parquet", io.BytesIO(buffer.getvalue()))
    return lake.commit("numbers", branch, "more", author="test", time=0).id


@pytest.fixture
def project(made: Project, tmp_path: Path) -> Project:
    """The same, to be changed."""
    close_kept()
    return Project(shutil.copytree(made.root, tmp_path / "project"))
