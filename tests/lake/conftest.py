"""Servers that the tests of a session share, and repositories of their own on them."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from faces import Face, new_repository, tight_face
from lakes import served_address


@pytest.fixture(scope="session")
def face(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Face]:
    folder = tmp_path_factory.mktemp("face")
    (folder / "inside").mkdir()
    (folder / "inside" / "a.csv").write_bytes(b"a")
    (folder / "outside.csv").write_bytes(b"secret")
    (folder / "inside" / "link").symlink_to(folder / "outside.csv")
    os.mkfifo(folder / "inside" / "pipe")
    with served_address(folder, "--import-root", str(folder / "inside")) as found:
        yield Face(credentials=found, folder=folder)


@pytest.fixture(scope="session")
def tight(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Face]:
    with tight_face(tmp_path_factory.mktemp("tight") / ".engine", largest=20_000_000, patience=1.0) as face:
        new_repository(face, "repo")
        yield face


@pytest.fixture
def repo(face: Face) -> str:
    return new_repository(face)
