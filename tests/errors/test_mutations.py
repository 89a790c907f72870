"""Good specs with something done to them: whatever it is, the answer is no traceback, and a place for every problem."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from engine.errors import Problem, SpecInvalid
from engine.spec.load import load
from engine.spec.rules import RULES

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
SPECS = ((HERE / "base.yaml").read_text(), (ROOT / "specs/model.yaml").read_text())
COMPOSED = "defaults: [{serve: quick}, _self_]\n"
KNOWN = {rule.id for rule in RULES}
TOKEN = re.compile(r"[\w./@-]+|\s+|[^\w\s]")
ODD = [
    "", "null", "~", "true", "on", "yes", "7", "-1", "1.5", ".nan", ".inf", "1e400", "0x1f", "1_000", "2013-01-01", "[]", "{}",
    "''", '""', "x", "train", "${train.data}", "${seed}", "${name}${name}", "${oc.env:HOME}", "${oc.env:A,b}", "${now:%Y}",
    "${", "}", "[", "{", "${a:b}", "*a", "&a", "!!binary x", "!!set {}", "<<", "? a", "- ", "---", "...", "|", ">", "#", ":", ",",
    "'", '"', "\t", "\x00", "\x1b[31m", "\u2028", "\ue000env:A\ue001required\ue001\ue001", "é漢🙂", "\ufeff", "_target_", "hydra", "defaults",
    "a.b", "0", "__class__", "x" * 300, "[[[[[[[[[[[[[[[[[[", "lakefs://", "lakefs://a/b", "own:Trainer", ":", "a:", ":b", "own:", "..:x",
    "/etc/passwd", "../x.yaml", "{metric: roc_auc}", "99999999999999999999999", "2GiB", "1h", "{source}", "{0}", "%s", "999d",
]  # fmt: skip
NASTY = st.sampled_from(ODD) | st.text(max_size=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with what the specs name."""
    made = tmp_path_factory.mktemp("mutations")
    (made / "pyproject.toml").write_text("")
    (made / "own.py").write_text("class Trainer:\n    def __init__(self, *, depth: int, loss: str = 'log'): ...\n")
    columns = "columns: {month: {}, distance: {}, carrier: {}, origin: {}, delay: {}}\n"
    for name, text in {"schema.yaml": columns, "serve/quick.yaml": "workers: 2\n"}.items():
        (made / name).parent.mkdir(exist_ok=True)
        (made / name).write_text(text)
    (made / "schemas").mkdir()
    (made / "schemas/flights.yaml").write_text((ROOT / "specs/schemas/flights.yaml").read_text())
    return made


def swap(text: str, at: float, odd: str) -> str:
    """One token becomes another."""
    tokens = TOKEN.findall(text)
    tokens[int(at * len(tokens))] = odd
    return "".join(tokens)


def insert(text: str, at: float, odd: str) -> str:
    """Something comes between two characters."""
    where = int(at * len(text))
    return text[:where] + odd + text[where:]


def delete_line(text: str, at: float, _: str) -> str:
    """A line goes."""
    lines = text.splitlines(keepends=True)
    del lines[int(at * len(lines))]
    return "".join(lines)


def repeat_line(text: str, at: float, _: str) -> str:
    """A line is there twice."""
    lines = text.splitlines(keepends=True)
    where = int(at * len(lines))
    return "".join([*lines[: where + 1], *lines[where:]])


def indent_line(text: str, at: float, _: str) -> str:
    """A line moves to the right."""
    lines = text.splitlines(keepends=True)
    lines[int(at * len(lines))] = "  " + lines[int(at * len(lines))]
    return "".join(lines)


def misspell(text: str, at: float, _: str) -> str:
    """Two letters change places."""
    where = min(int(at * len(text)), len(text) - 2)
    return text[:where] + text[where + 1] + text[where] + text[where + 2 :]


def cut(text: str, at: float, _: str) -> str:
    """The end is lost."""
    return text[: int(at * len(text))]


def shuffle_lines(text: str, at: float, _: str) -> str:
    """Three lines in another order."""
    lines = text.splitlines(keepends=True)
    where = int(at * len(lines))
    part = lines[where : where + 3]
    random.Random(at).shuffle(part)
    return "".join([*lines[:where], *part, *lines[where + 3 :]])


MUTATIONS: tuple[Callable[[str, float, str], str], ...] = (
    swap, swap, swap, insert, insert, delete_line, repeat_line, indent_line, misspell, cut, shuffle_lines,
)  # fmt: skip
SHARE = st.floats(min_value=0, max_value=1, exclude_max=True)
STEPS = st.lists(st.tuples(st.sampled_from(MUTATIONS), SHARE, NASTY), min_size=1, max_size=3)
KEYS = st.sampled_from(
    [
        "seed",
        "train.with.depth",
        "evaluate.gates.0.min",
        "evaluate.gates[1].max",
        "+serve.x",
        "~seed",
        "serve",
        "data.train.uri",
    ]
)
OVERRIDES = st.lists(st.one_of(st.builds("{}={}".format, KEYS, NASTY), NASTY), max_size=2)


def said_of(folder: Path, text: str, overrides: list[str]) -> tuple[Problem, ...]:
    """Everything that is said of a text as a spec."""
    (folder / "spec.yaml").write_text(text, encoding="utf-8", errors="replace", newline="")
    try:
        return load("spec.yaml", overrides, folder).warnings
    except SpecInvalid as error:
        assert any(problem.severity == "error" for problem in error.problems)
        return error.problems


def judge(
    folder: Path, spec: str, steps: list[tuple[Callable[[str, float, str], str], float, str]], overrides: list[str]
) -> None:
    """Mutate, ask, and look at every answer."""
    text = spec
    for change, at, odd in steps:
        text = change(text, at, odd) if len(text) > 2 else text
    for problem in said_of(folder, text, overrides):
        assert problem.rule in KNOWN
        assert problem.fact
        assert problem.place.line > 0 or problem.place.file.startswith("override"), problem
        assert "Traceback" not in str(problem)


def law(examples: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The same examples each time; what fails is shrunk and shown."""
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )


@law(300)
@given(spec=st.sampled_from(SPECS), steps=STEPS)
def test_a_changed_spec_gives_problems_with_places_and_never_a_traceback(folder: Path, spec: str, steps: list) -> None:
    judge(folder, spec, steps, [])


@law(40)
@given(steps=STEPS, overrides=OVERRIDES)
def test_a_changed_spec_that_hydra_composes_gives_no_traceback_either(
    folder: Path, steps: list, overrides: list[str]
) -> None:
    judge(folder, COMPOSED + SPECS[0], steps, overrides)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@law(5000)
@given(spec=st.sampled_from([*SPECS, COMPOSED + SPECS[0]]), steps=STEPS, overrides=st.one_of(st.just([]), OVERRIDES))
def test_five_thousand_changes_give_no_traceback(folder: Path, spec: str, steps: list, overrides: list[str]) -> None:
    judge(folder, spec, steps, overrides)
