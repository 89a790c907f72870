"""What a training schema says of the inputs, checked in a batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engine.serve.checks import lowered
from engine.serve.loading import example
from engine.serve.model import Tensor

NUMBER, TEXT = Tensor(name="x", datatype="FP32", shape=(-1, 1)), Tensor(name="t", datatype="BYTES", shape=(-1, 1))


def wrong(column: dict[str, Any], values: list[Any], tensor: Tensor = NUMBER, **more: Any) -> dict[int, str]:
    checks = lowered([tensor], {"columns": {tensor.name: column}}, **more)
    kind: Any = object if tensor is TEXT else np.float32
    refused, _ = checks.wrong({tensor.name: np.array(values, kind).reshape(-1, 1)})
    return {row: str(finding) for row, finding in refused.items()}


INTEGER = {"dtype": "int64", "in_range": {"min_value": 1, "max_value": 12}}
NUMBERS: list[tuple[dict[str, Any], list[float], set[int]]] = [
    (INTEGER, [0, 1, 12, 13, 1.5, np.nan], {0, 3, 4, 5}),
    ({**INTEGER, "nullable": True}, [0, np.nan], {0}),
    ({"dtype": "float64", "greater_than": 0}, [0, 1e-9, -1], {0, 2}),
    ({"dtype": "float64", "greater_than_or_equal_to": 0}, [0, -1], {1}),
    ({"dtype": "float64", "less_than": {"value": 3}}, [3, 2.9], {0}),
    ({"dtype": "float64", "checks": {"less_than_or_equal_to": 3}}, [3, 3.1], {1}),
    (
        {"dtype": "float64", "checks": [{"in_range": {"min_value": 0, "max_value": 1, "include_max": False}}]},
        [0, 1],
        {1},
    ),
    ({"dtype": "float64"}, [np.inf, 1e30, -np.inf], {0, 2}),
    ({"dtype": "int64", "isin": [2013]}, [2013, 2014], {1}),
    ({"dtype": "int64", "notin": [5]}, [5, 6], {0}),
    ({}, [np.nan, 1], set()),
]


@pytest.mark.parametrize(("column", "values", "bad"), NUMBERS)
def test_numbers_out_of_bounds_missing_or_not_whole_are_found(
    column: dict[str, Any], values: list[float], bad: set[int]
) -> None:
    assert set(wrong(column, values)) == bad


TEXTS: list[tuple[dict[str, Any], list[str], set[int]]] = [
    ({"isin": ["a", "b"]}, ["a", "c", "b"], {1}),
    ({"notin": ["a"]}, ["a", "c"], {0}),
    ({"str_length": {"min_value": 2, "max_value": 2}}, ["ab", "a", "abc"], {1, 2}),
    ({"str_matches": "[A-Z]+"}, ["AB", "ab"], {1}),
    ({"str_startswith": {"string": "x"}}, ["xy", "yx"], {1}),
    ({"str_endswith": "x"}, ["xy", "yx"], {0}),
    ({"str_contains": "b"}, ["abc", "ac"], {1}),
    ({"equal_to": "a"}, ["a", "b"], {1}),
    ({"not_equal_to": "a"}, ["a", "b"], {0}),
]


@pytest.mark.parametrize(("column", "values", "bad"), TEXTS)
def test_text_that_the_schema_does_not_allow_is_found(column: dict[str, Any], values: list[str], bad: set[int]) -> None:
    assert set(wrong(column, values, TEXT)) == bad


def test_a_finding_says_what_was_expected_and_what_came() -> None:
    assert wrong(INTEGER, [13, np.nan]) == {
        0: 'tensor "x": expected a whole number between 1 and 12, received 13',
        1: 'tensor "x": expected a whole number between 1 and 12, received NaN',
    }
    assert wrong({"isin": ["a", "b"]}, ["c"], TEXT) == {0: 'tensor "t": expected one of "a", "b", received "c"'}


def test_an_unknown_category_passes_and_is_counted_where_the_spec_says_so() -> None:
    assert wrong({}, ["a", "c"], TEXT, categories={"t": ["a"]}) == {1: 'tensor "t": expected one of "a", received "c"'}
    checks = lowered([TEXT], {"columns": {"t": {"isin": ["a"]}}}, unknown_category="pass")
    refused, passed = checks.wrong({"t": np.array([["a"], ["b"], ["c"]], object)})
    assert (refused, passed) == ({}, {"category": 2})


def test_a_category_may_be_a_whole_number() -> None:
    month = Tensor(name="month", datatype="INT64", shape=(-1, 1))
    found = lowered([month], None, {"month": [1, 2]}).wrong({"month": np.array([[1], [3]])})
    assert {row: str(one) for row, one in found[0].items()} == {1: 'tensor "month": expected one of 1, 2, received 3'}
    assert lowered([month], None, {"month": [1]}, "pass").wrong({"month": np.array([[3]])}) == ({}, {"category": 1})


def test_a_list_in_the_schema_counts_and_not_what_was_learned_from() -> None:
    assert wrong({"isin": ["a", "b"]}, ["b", "c"], TEXT, categories={"t": ["a"]}).keys() == {1}


def test_what_is_known_of_values_does_not_grow_without_end() -> None:
    checks = lowered([TEXT], {"columns": {"t": {"isin": ["a"]}}})
    checks.wrong({"t": np.array([[f"v{number}"] for number in range(20_000)], object)})
    assert len(checks.values[0].known) <= 10_000


def test_the_example_of_a_request_passes_every_check_of_an_input() -> None:
    column = {"str_length": {"min_value": 2, "max_value": 2}}
    checks = lowered([TEXT], {"columns": {"t": column}}, {"t": ["", "UA"]})
    found = example((TEXT,), checks, 3)
    assert checks.wrong(found) == ({}, {})
    assert found["t"].shape == (3, 1)
