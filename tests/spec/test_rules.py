"""The table of rules: each is what the checks do, and what the documentation says."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest

from engine.errors import NotFound, Place, Problem, SpecInvalid
from engine.lake.protocol import Lake
from engine.report.problems.rules import page
from engine.resolve import online
from engine.resolve.online import look_online
from engine.spec import checks, load, parse, positions
from engine.spec.find import specs_at
from engine.spec.rules import BASE, FILES, HERE, PAGE, RULES, Example, Rule, plain
from engine.wiring import open_home

ROOT = Path(__file__).resolve().parents[2]
SHOWN = [rule for rule in RULES if not rule.online]
ONLINE = [rule for rule in RULES if rule.online]
MADE = re.compile(
    r"""rule=(?:"([a-z-]+)"|rule\b)|refused\(name, "([a-z-]+)"|, "(yaml-[a-z-]+|spec-is-data|interpolation-unstable)"|rule = "([a-z-]+)" if"""
)


def whole(example: Example) -> str:
    """The spec that an example stands for, with its mark."""
    if example.whole:
        return example.text
    if example.command:
        return BASE
    given = {part.lstrip(HERE).partition(":")[0]: part for part in sections(example.text)}
    kept = {part.partition(":")[0]: part for part in sections(BASE)}
    return "".join({**kept, **given}.values())


def sections(text: str) -> list[str]:
    """The top-level sections of a spec's text."""
    parts = re.split(rf"^(?={HERE}?[a-z_]+:)", text, flags=re.MULTILINE)
    return [part for part in parts if part]


def said_of(example: Example, folder: Path, pad: str = "", lake: Lake | None = None) -> list[Problem]:
    """Everything that is said of an example."""
    for name, content in {**FILES, **example.files}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    (folder / "pyproject.toml").write_text("")
    (folder / "model.yaml").write_text(plain(whole(example)) + pad)
    try:
        if example.command:
            found = specs_at(plain(example.text).split()[-1], folder)
            return list(load.load(found[0], (), folder).warnings)
        loaded = load.load("model.yaml", example.overrides, folder)
        return [*loaded.warnings, *(look_online(loaded, lake) if lake else ())]
    except SpecInvalid as error:
        return list(error.problems)
    except NotFound as error:
        return [Problem(rule="spec-missing", fact=error.fact)]


def place_of(example: Example) -> tuple[int, int]:
    """Line and column of the mark."""
    text = whole(example)
    if HERE not in text:
        return 0, 0
    before = text[: text.index(HERE)]
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


@pytest.mark.parametrize("rule", SHOWN, ids=lambda rule: rule.id)
def test_a_bad_example_breaks_its_rule_at_the_place_in_these_words(rule: Rule, tmp_path: Path) -> None:
    pad = "#" * 1_000_001 if rule.id == "yaml-size" else ""
    problem, *others = said_of(rule.bad, tmp_path, pad)
    assert others == []
    assert (problem.rule, problem.severity) == (rule.id, rule.severity)
    assert str(replace(problem, place=Place())) == rule.bad.says
    assert (problem.place.line, problem.place.column) == place_of(rule.bad)


@pytest.mark.parametrize("rule", SHOWN, ids=lambda rule: rule.id)
def test_a_good_example_has_no_problem_at_all(rule: Rule, tmp_path: Path) -> None:
    assert said_of(rule.good, tmp_path) == []


@pytest.mark.parametrize("rule", ONLINE, ids=lambda rule: rule.id)
def test_an_online_rule_is_broken_and_kept_by_its_examples(rule: Rule, tmp_path: Path) -> None:
    lake = open_home(tmp_path).lake
    lake.create_repository("flights")
    for path in ("2013-h1/01.csv", "07.csv"):
        lake.put("flights", "main", path, io.BytesIO(b"month,distance,carrier,origin,delay\n1,2,a,b,3\n"))
    lake.commit("flights", "main", "data", author="test", time=0)
    problem, *others = said_of(rule.bad, tmp_path, lake=lake)
    assert others == []
    assert (problem.rule, str(replace(problem, place=Place()))) == (rule.id, rule.bad.says)
    assert (problem.place.line, problem.place.column) == place_of(rule.bad)
    assert said_of(rule.good, tmp_path, lake=lake) == []


def test_every_rule_that_the_checks_know_is_in_the_table_and_no_other() -> None:
    text = "".join(Path(module.__file__ or "").read_text() for module in (checks, load, parse, positions, online))
    made = {name for found in MADE.findall(text) for name in found if name}
    table = {rule.id for rule in RULES}
    assert made <= table
    assert table - made - {"plugin-unknown", "spec-missing"} == set()


def test_an_id_is_there_once() -> None:
    assert len({rule.id for rule in RULES}) == len(RULES)


def test_the_page_of_rules_is_the_table() -> None:
    assert (ROOT / PAGE).read_text() == page(), "make docs"
