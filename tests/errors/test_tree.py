"""The tree of errors: codes, exit codes, sentences, and every error of the system in a word of ours."""

from __future__ import annotations

import errno
import inspect
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import errors
from engine.errors import (
    EngineError,
    Failed,
    NotFound,
    Place,
    Problem,
    SpecInvalid,
    StorageFull,
    StorageUnwritable,
    nearest,
    suggestion,
    translate_os_error,
    writing,
)


def tree(kind: type[EngineError] = EngineError) -> Iterator[type[EngineError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from tree(child)


OURS = [kind for kind in tree() if kind.__module__ == "engine.errors"]


@pytest.mark.parametrize("kind", OURS)
def test_every_error_stands_in_the_drawing(kind: type[EngineError]) -> None:
    assert kind.__name__ in str(errors.__doc__)


@pytest.mark.parametrize("kind", OURS[1:])
def test_every_error_has_a_code_of_its_own_and_a_documented_meaning(kind: type[EngineError]) -> None:
    assert [other for other in OURS if other.code == kind.code] == [kind]
    assert inspect.getdoc(kind)


@pytest.mark.parametrize(("family", "code"), [("UsageError", 2), ("Refused", 1), ("Failed", 3)])
def test_a_family_of_errors_has_one_exit_code(family: str, code: int) -> None:
    assert {kind.exit_code for kind in tree(getattr(errors, family))} == {code}


@pytest.mark.parametrize(
    ("place", "hint", "said"),
    [
        ("", "", "it broke"),
        ("a.yaml:1:2", "", "a.yaml:1:2: it broke"),
        ("", "mend it", "it broke; mend it"),
        ("a", "b", "a: it broke; b"),
    ],
)
def test_a_sentence_is_place_fact_and_next_act(place: str, hint: str, said: str) -> None:
    assert str(EngineError("it broke", place=place, hint=hint)) == said


def test_the_document_of_an_error_has_what_the_contract_says() -> None:
    found = NotFound("branch", "mian", ["main"], place="spec.yaml:3:4").document()
    assert found == {
        "code": "not-found",
        "message": "no branch 'mian'",
        "place": "spec.yaml:3:4",
        "hint": 'did you mean "main"?',
    }


def test_a_bad_spec_says_every_problem_and_counts_only_errors() -> None:
    warning = Problem(rule="w", fact="a word", severity="warning")
    error = Problem(rule="e", fact="wrong", hint="mend it", place=Place(file="s.yaml", line=2, column=3, key="a.b"))
    raised = SpecInvalid([error, warning])
    assert raised.fact == "1 problem in the spec"
    assert str(raised) == "s.yaml:2:3 a.b: wrong; mend it\na word"
    assert [problem["severity"] for problem in raised.document()["problems"]] == ["error", "warning"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("typed", "known", "found"),
    [
        ("mian", ["main", "dev"], "main"),
        ("MAIN", ["main"], "main"),
        ("auk", ["roc_auc", "brier"], "roc_auc"),
        ("auc", ["roc_auc", "accuracy"], "roc_auc"),
        ("zzz", ["main", "dev"], None),
        ("x", [], None),
        ("", ["main"], None),
    ],
)
def test_the_nearest_name_is_what_a_typist_meant(typed: str, known: list[str], found: str | None) -> None:
    assert nearest(typed, known) == found


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ([], ""),
        (["b", "a"], "known: a, b"),
        ([f"n{i:02}" for i in range(14)], "known: " + ", ".join(f"n{i:02}" for i in range(12)) + " and 2 more"),
    ],
)
def test_without_a_near_name_the_known_ones_are_listed(known: list[str], said: str) -> None:
    assert suggestion("zzzzzz", known) == said


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, StorageFull),
        (errno.EDQUOT, StorageFull),
        (errno.EACCES, StorageUnwritable),
        (errno.EPERM, StorageUnwritable),
        (errno.EROFS, StorageUnwritable),
        (errno.EIO, Failed),
    ],
)
def test_what_the_system_says_of_a_file_becomes_an_error_of_ours(number: int, kind: type[EngineError]) -> None:
    with pytest.raises(EngineError) as raised, writing(Path("home")):
        raise OSError(number, os.strerror(number))
    assert type(raised.value) is kind
    assert raised.value.place == "home"
    assert isinstance(raised.value.__cause__, OSError)


@pytest.mark.parametrize(
    ("named", "place"),
    [
        ("out/.r.md.4f2a", "out/r.md"),
        ("out/.registry.db.making", "out/.registry.db.making"),
        ("out/other.md", "out/other.md"),
        ("out", "out"),
    ],
)
def test_a_temporary_file_is_never_the_place(named: str, place: str) -> None:
    with pytest.raises(StorageUnwritable) as raised, writing("out/r.md"):
        raise PermissionError(errno.EACCES, "Permission denied", named)
    assert raised.value.place == place


def test_a_folder_that_is_written_to_may_be_the_working_folder() -> None:
    with pytest.raises(StorageUnwritable) as raised, writing("."):
        raise PermissionError(errno.EACCES, "Permission denied", "../x")
    assert raised.value.place == "../x"


def test_an_error_that_is_ours_already_passes_unchanged() -> None:
    ours = NotFound("object", "x")
    with pytest.raises(NotFound) as raised, writing(Path("home")):
        raise ours
    assert raised.value is ours


def test_a_file_that_the_system_names_is_the_place() -> None:
    error = PermissionError(errno.EACCES, "Permission denied", "deep/file")
    assert translate_os_error(error, "home").place == "deep/file"
