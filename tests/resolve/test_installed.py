"""What is installed is read once, and kept only when it is asked to be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.resolve.installed import keep, survey
from engine.store.checked import read_checked, write_checked


def test_a_survey_knows_what_this_test_runs_with() -> None:
    found = survey()
    assert {"numpy", "pytest"} <= found.versions.keys()
    assert found.provides["sklearn"] == ["scikit-learn"]


def test_a_survey_creates_nothing(tmp_path: Path) -> None:
    survey(tmp_path / "cache")
    assert list(tmp_path.iterdir()) == []


def test_what_was_kept_is_believed(tmp_path: Path) -> None:
    keep(tmp_path)
    (path,) = tmp_path.iterdir()
    kept = json.loads(read_checked(path) or b"")
    write_checked(path, json.dumps({**kept, "versions": {"a": "1"}}).encode())
    keep(tmp_path)
    assert survey(tmp_path).versions == {"a": "1"}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"versions": {}}'])
def test_a_damaged_file_is_forgotten_and_written_anew(tmp_path: Path, text: str) -> None:
    keep(tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.chmod(0o644)
    path.write_text(text)
    assert survey(tmp_path) == survey()
    keep(tmp_path)
    assert path.read_bytes() == whole
