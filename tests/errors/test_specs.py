"""Wrong specs and the exact words in which each is refused: a small change to a good base, and what is said of it."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from engine.errors import Problem, SpecInvalid
from engine.spec import checks
from engine.spec.load import LoadedSpec, load

HERE = Path(__file__).parent
BASE = (HERE / "base.yaml").read_text()
TRAINER = '''"""A trainer that is read and never run."""

from typing import Literal

raise RuntimeError("validating a spec must not import the project's code")


class Trainer:
    """Learns nothing."""

    def __init__(self, *, depth: int, loss: Literal["log", "square"] = "log", rate: float | None = None) -> None: ...

    def fit(self, table, task): ...


def share(y_true, y_pred):
    """Takes too little for a metric."""


def loss(y_true, y_pred, y_score, weights, rate=2.0):
    """Could be a metric."""


class Open:
    """Takes anything."""

    def __init__(self, **params): ...

    def fit(self, table, task): ...
'''
SCHEMA: dict[str, Any] = {"columns": {name: {} for name in ("month", "distance", "carrier", "origin", "delay")}}
CASES = {
    f"{file.stem}: {title}": case
    for file in sorted((HERE / "cases").glob("*.yaml"))
    for title, case in yaml.safe_load(file.read_text()).items()
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project with everything that the base spec names."""
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "own.py").write_text(TRAINER)
    (tmp_path / "broken.py").write_text("def oh no(:\n")
    (tmp_path / "schema.yaml").write_text(yaml.safe_dump(SCHEMA))
    (tmp_path / "list.yaml").write_text("[a, b]\n")
    (tmp_path / "torn.yaml").write_text("columns: {a: {\n")
    (tmp_path / "columns.yaml").write_text("columns: [a, b]\n")
    return tmp_path


def changed(text: str, replace: dict[str, str]) -> str:
    """The base with each text, which is there exactly once, replaced."""
    for old, new in replace.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def problems(folder: Path, case: dict[str, Any]) -> tuple[Problem, ...]:
    """Everything that is said of a case."""
    text = case.get("text", changed(BASE, case.get("replace", {})) + case.get("append", ""))
    for name, content in {**case.get("files", {}), "spec.yaml": text}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)
    try:
        return load("spec.yaml", case.get("overrides", ()), folder).warnings
    except SpecInvalid as error:
        return error.problems


def test_the_base_is_a_good_spec(folder: Path) -> None:
    (folder / "spec.yaml").write_text(BASE)
    loaded = load("spec.yaml", (), folder)
    assert isinstance(loaded, LoadedSpec)
    assert loaded.warnings == ()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_wrong_spec_is_refused_in_these_words(folder: Path, case: dict[str, Any]) -> None:
    said = [f"{problem.severity} {problem.rule} {problem}" for problem in problems(folder, case)]
    assert said == case["says"]


def test_every_rule_of_the_checks_has_a_case() -> None:
    rules = set(re.findall(r'rule ?= ?"([a-z-]+)"', inspect.getsource(checks)))
    covered = {said.split()[1] for case in CASES.values() for said in case["says"]}
    assert len(rules) > 20
    assert rules <= covered


# -- how good the answers are ----------------------------------------------------------------------------------

TYPOS = {name: case for name, case in CASES.items() if "meant" in case}
QUOTED = re.compile(r"""["'`]([^"'`]+)["'`]""")


def first_problem(folder: Path, case: dict[str, Any]) -> Problem:
    """What is said of the typing error in a case."""
    found = problems(folder, case)
    return next((problem for problem in found if problem.severity == "error"), found[0])


def test_the_corpus_has_enough_cases_and_typing_errors() -> None:
    assert len([case for case in CASES.values() if case["says"]]) >= 150
    assert len(TYPOS) >= 50


@pytest.mark.parametrize("name", CASES)
def test_the_place_is_that_of_the_word_that_is_wrong(folder: Path, name: str) -> None:
    for problem in problems(folder, CASES[name]):
        place = problem.place
        if not place.line or problem.rule in ("yaml-syntax", "yaml-empty", "yaml-mapping", "yaml-key", "yaml-depth"):
            continue
        line = (folder / place.file).read_text().splitlines()[place.line - 1]
        there = line[place.column - 1 :].lstrip("\"'")
        words = [place.key.rpartition(".")[2], *QUOTED.findall(problem.fact), *QUOTED.findall(place.key)]
        is_section = words[0].isdigit() or problem.rule in ("key-missing", "parameter-missing")
        is_value = line[: place.column - 1].rstrip(" \"'").endswith(f"{words[0]}:")
        assert is_section or is_value or any(there.startswith(word) for word in words), (there, words)


def test_nine_of_ten_suggestions_are_what_was_meant(folder: Path) -> None:
    said = {name: first_problem(folder, case) for name, case in TYPOS.items()}
    wrong = {name: str(one) for name, one in said.items() if getattr(one.hint, "nearest", "") != TYPOS[name]["meant"]}
    assert len(wrong) <= len(TYPOS) / 10, "\n".join(f"{name}: {one}" for name, one in wrong.items())
