"""Feature columns: which values of a category a model has learned from."""

from __future__ import annotations

import pyarrow as pa

from engine.plugins import Feature
from engine.steps.columns import categories_of

CITY = Feature(name="city", role="categorical", datatype="BYTES")
MONTH = Feature(name="month", role="categorical", datatype="INT64")
SIZE = Feature(name="size", role="numeric", datatype="FP32")
TABLE = pa.table({"city": ["b", "a", None, "b"], "month": [2, 1, 2, 1], "size": [1.0, 2.0, 3.0, 4.0]})


def test_categories_are_the_values_in_order_and_null_is_the_empty_text() -> None:
    found = categories_of(TABLE, (CITY, MONTH, SIZE), ["city", "month", "size"])
    assert found == {"city": ["", "a", "b"], "month": [1, 2]}


def test_a_feature_that_the_model_does_not_read_has_none() -> None:
    assert categories_of(TABLE, (CITY, MONTH), ["month"]) == {"month": [1, 2]}


def test_values_of_a_dictionary_are_what_their_tensor_has() -> None:
    table = pa.table({"city": pa.array([10, 9, 10]).dictionary_encode()})
    assert categories_of(table, (CITY,), ["city"]) == {"city": ["10", "9"]}


def test_a_column_of_names_has_no_categories() -> None:
    table = pa.table({"city": [str(number) for number in range(10_001)]})
    assert categories_of(table, (CITY,), ["city"]) == {}
    assert len(categories_of(table.slice(1), (CITY,), ["city"])["city"]) == 10_000
