"""What is told of a Ray cluster that does not start or is lost."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from multiprocessing.connection import Pipe
from pathlib import Path

import pytest

from engine.api import run
from engine.errors import Failed
from engine.execute.ray_executor import Driver
from projects import make_project


def test_a_cluster_that_never_starts_is_not_awaited_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.execute.ray_executor.START_SECONDS", 0.2)
    with pytest.raises(Failed, match="the Ray cluster is not there after 0 s"):
        run(make_project(tmp_path / "project").spec)


@pytest.mark.parametrize(
    ("printed", "told"),
    [
        (b"one\nthe last line\n\n", "the last line"),
        (b"[2026-11-23 14:11:32,781 E 32529 32529] core_worker_process.cc:247: no more\n", "no more"),
        (b"the reason\n[2026 E 1 2] core_worker.cc:609: :info_message: Attempting to recover\n", "the reason"),
        (b"", "its driver died"),
    ],
)
def test_a_driver_that_died_is_told_of_by_what_it_said_last(printed: bytes, told: str) -> None:
    ours, theirs = Pipe()
    with tempfile.TemporaryFile() as said, ours:
        said.write(printed)
        process = subprocess.Popen([sys.executable, "-c", ""])
        process.wait()
        theirs.close()
        with pytest.raises(Failed, match=f"the Ray cluster was lost: {told};"):
            Driver(process, ours, said).outcomes(lambda event: None)
