"""What a baseline's name means: an alias, a version, a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import UsageError
from engine.registry.baseline import alias_in, meant
from engine.registry.model import ModelNotFound, ModelRef, ModelVersion
from engine.registry.sqlite import SqliteRegistry

RUNS = {1: ("aaaa11" + "0" * 58, "123456" + "0" * 58), 2: ("aaaa22" + "0" * 58,)}
VERSIONS = [
    ModelVersion(name="numbers", version=version, digest="d" * 64, created="", runs=runs, package="")
    for version, runs in RUNS.items()
]


class Shelf:
    """Two versions; the aliases `production` and, spelt as a run might be, `facade` name them."""

    def models(self) -> list[str]:
        return ["numbers"]

    def versions(self, name: str) -> list[ModelVersion]:
        return VERSIONS

    def find(self, ref: ModelRef) -> ModelVersion | None:
        number = {"production": 2, "facade": 1}.get(ref.alias or "", ref.version)
        return next((version for version in VERSIONS if version.version == number), None)

    def has_meant(self, ref: ModelRef) -> bool:
        return ref.alias == "champion" or ref.version is not None


@pytest.mark.parametrize(
    ("ref", "version"),
    [
        ("production", 2), ("1", 1), ("2", 2), ("numbers@production", 2), ("numbers:1", 1), ("facade", 1),
        ("aaaa11", 1), ("aaaa22" + "0" * 58, 2), ("123456", 1), ("1234560", 1),
    ],
)  # fmt: skip
def test_a_baseline_is_an_alias_a_version_or_the_beginning_of_a_run(ref: str, version: int) -> None:
    found, known = meant("numbers", ref, Shelf())
    assert found is not None
    assert (found.version, known) == (version, True)


@pytest.mark.parametrize(("ref", "known"), [("champion", True), ("nobody", False), ("9", True), ("abcdef", False)])
def test_what_means_nothing_now_may_have_meant_something(ref: str, known: bool) -> None:
    assert meant("numbers", ref, Shelf()) == (None, known)


def test_a_run_that_made_nothing_is_an_error() -> None:
    with pytest.raises(ModelNotFound):
        meant("numbers", "0aaaaa", Shelf())


def test_a_beginning_of_several_versions_is_an_error_that_names_them() -> None:
    both = [VERSIONS[0], ModelVersion(name="numbers", version=3, digest="", created="", runs=("aaaa11ff",), package="")]

    class Both(Shelf):
        def versions(self, name: str) -> list[ModelVersion]:
            return both

    with pytest.raises(UsageError, match="runs of the versions 1, 3 of numbers begin with aaaa11"):
        meant("numbers", "aaaa11", Both())


@pytest.mark.parametrize(
    ("ref", "alias"),
    [
        ("production", "model@production"),
        ("other@production", "other@production"),
        ("1", None),
        ("18e019430029", None),  # a run, by the beginning of its id
        ("ea771a8c79ef", None),  # one that could be an alias, but never was
        ("decade", "model@decade"),
        ("other:2", None),
    ],
)
def test_of_what_was_compared_with_only_aliases_can_move(tmp_path: Path, ref: str, alias: str | None) -> None:
    registry = SqliteRegistry(tmp_path / "registry.db")
    registry.announce("c" * 64, "d" * 64)
    registry.note_run("model", "c" * 64, "d" * 64, "passed", registry.reserve("model", "a" * 64, "b" * 64))
    registry.set_alias("model", "decade", 1)
    found = alias_in("model", ref, registry)
    assert (None if found is None else str(found)) == alias
