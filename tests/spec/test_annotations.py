"""A YAML value against a type annotation that is read and never evaluated."""

from __future__ import annotations

from typing import Any

import pytest

from engine.spec.annotations import fits, options

CASES: list[tuple[str, list[Any], list[Any]]] = [
    ("int", [1, -3], [1.5, "1", True, None, [1]]),
    ("float", [1, 1.5], ["1", False, None]),
    ("str", ["a", ""], [1, None, ["a"]]),
    ("bool", [True, False], [0, 1, "yes", None]),
    ("None", [None], [0, "", False]),
    ("int | None", [1, None], ["a", 1.5]),
    ("float | str", [1, 1.5, "auto"], [None, [1]]),
    ("Probability", [0.05, 0.999], [0, 1, 5, -0.1, "0.05", True]),
    ("Count | None", [1, 7, None], [0, -1, 1.5]),
    ("Optional[int]", [1, None], ["a"]),
    ("Union[int, str]", [1, "a"], [None, 1.5]),
    ("Literal['log', 'square']", ["log", "square"], ["logs", 1, None]),
    ("Literal['a'] | int", ["a", 3], ["b", None]),
    ("list", [[], [1, "a"]], ["a", 1, {}]),
    ("list[int]", [[], [1, 2]], [[1, "a"], 1, "12"]),
    ("Sequence[str]", [["a"]], [[1], {"a": 1}]),
    ("tuple[int, str]", [[1, "a"]], [1, "a"]),
    ("dict[str, float]", [{}, {"a": 1}], [{"a": "b"}, [1]]),
    ("Mapping[str, Any]", [{"a": [1]}], [[1], "a"]),
    ("Mapping[str, list[int]]", [{"a": [1]}], [{"a": ["x"]}, {"a": 1}]),
    ("collections.abc.Sequence[int]", [[1]], [["a"], 1]),
    ("'int | None'", [1, None], ["a"]),
    ("", [1, "a", None], []),
    ("Any", [1, "a", None, [1]], []),
    ("np.ndarray", [1, "a"], []),
    ("Callable[[int], str]", ["a", 1], []),
    ("int if x else", [1, "a"], []),
]
TABLE = [(kind, value, True) for kind, good, _ in CASES for value in good]
TABLE += [(kind, value, False) for kind, _, bad in CASES for value in bad]


@pytest.mark.parametrize(("annotation", "value", "answer"), TABLE)
def test_a_value_fits_its_annotation_or_not(annotation: str, value: Any, answer: bool) -> None:
    assert fits(annotation, value) is answer


@pytest.mark.parametrize(
    ("annotation", "words"),
    [("Literal['a', 'b']", ["a", "b"]), ("typing.Literal['a']", ["a"]), ("str", []), ("list[int]", []), ("((", [])],
)
def test_the_words_of_a_literal_can_be_suggested(annotation: str, words: list[str]) -> None:
    assert options(annotation) == words


def test_an_annotation_is_never_evaluated() -> None:
    assert fits("__import__('os').abort()", 1) is True
