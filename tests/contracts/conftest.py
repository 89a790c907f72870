"""Each lake is opened once a session; each test has a repository of its own in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lakes import KINDS, Kind, Place, new_place, wanted_kinds


@pytest.fixture(scope="session", params=wanted_kinds())
def kind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kind]:
    with KINDS[request.param](tmp_path_factory.mktemp(request.param)) as made:
        yield made


@pytest.fixture
def place(kind: Kind) -> Iterator[Place]:
    with new_place(kind) as made:
        yield made
