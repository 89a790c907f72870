"""Tensors of a request -> the arrays that the model takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engine.serve.inputs import inputs_of
from engine.serve.model import Rejected, Tensor

COLUMNS = inputs_of(
    [
        Tensor(name="x", datatype="FP32", shape=(-1, 1)),
        Tensor(name="z", datatype="FP32", shape=(-1, 1)),
        Tensor(name="city", datatype="BYTES", shape=(-1, 1)),
    ]
)
WHOLE = inputs_of([Tensor(name="all", datatype="INT64", shape=(-1, 3))])
X, Z, CITY = np.ones((2, 1), np.float32), np.zeros((2, 1), np.float32), np.array([["a"], ["b"]], object)


@pytest.mark.parametrize(
    "given",
    [
        {"x": X, "z": Z, "city": CITY},
        {"x": X[:, 0], "z": Z[:, 0], "city": CITY[:, 0]},
        {"x": X.astype(np.int64), "z": Z.astype(np.float64), "city": CITY},
        {"numeric": np.hstack([X, Z]), "categorical": CITY},
        {"numeric": np.hstack([X, Z]).astype(np.int8), "city": CITY},
    ],
)
def test_columns_come_alone_or_packed_and_in_any_numeric_datatype_that_fits(given: dict[str, Any]) -> None:
    found, rows = COLUMNS.arrays(given)
    assert rows == 2
    assert {name: (array.shape, array.dtype.kind) for name, array in found.items()} == {
        "x": ((2, 1), "f"), "z": ((2, 1), "f"), "city": ((2, 1), "O"),
    }  # fmt: skip
    assert found["x"].tolist() == X.tolist()
    assert found["z"].tolist() == Z.tolist()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"x": X, "z": Z}, 'tensor "city": expected BYTES [-1, 1], received none'),
        ({"x": X, "z": Z, "citi": CITY}, 'the model has no input "citi"; did you mean "city"?'),
        ({"x": X, "z": Z[:1], "city": CITY}, 'tensor "z": expected 2 rows as "x" has, received 1'),
        ({"x": X[:0], "z": Z[:0], "city": CITY[:0]}, "the request has no rows"),
        ({"x": CITY, "z": Z, "city": CITY}, 'tensor "x": expected FP32 [-1, 1], received BYTES [2, 1]'),
        ({"x": X, "z": Z, "city": X}, 'tensor "city": expected BYTES [-1, 1], received FP32 [2, 1]'),
        ({"x": X > 0, "z": Z, "city": CITY}, 'tensor "x": expected FP32 [-1, 1], received BOOL [2, 1]'),
        ({"x": np.hstack([X, X]), "z": Z, "city": CITY}, 'tensor "x": expected FP32 [-1, 1], received FP32 [2, 2]'),
        (
            {"x": np.full((2, 1), 1e300), "z": Z, "city": CITY},
            'tensor "x": expected FP32, received a number out of its',
        ),
        ({"numeric": X, "city": CITY}, 'tensor "numeric": expected FP32 [-1, 2], received [2, 1]'),
        ({"numeric": np.hstack([X, Z]), "x": X, "city": CITY}, 'tensor "x": it is given twice, by itself and packed'),
    ],
)
def test_what_does_not_fit_is_refused_with_the_tensor_what_was_expected_and_what_came(
    given: dict[str, Any], says: str
) -> None:
    with pytest.raises(Rejected) as caught:
        COLUMNS.arrays(given)
    assert str(caught.value).startswith(says)


def test_a_model_of_one_wide_input_takes_it_as_it_is() -> None:
    found, rows = WHOLE.arrays({"all": np.arange(6).reshape(2, 3)})
    assert (found["all"].shape, rows) == ((2, 3), 2)
    with pytest.raises(Rejected, match=r"expected INT64 \[-1, 3\], received INT64 \[6\]"):
        WHOLE.arrays({"all": np.arange(6)})
    with pytest.raises(Rejected, match=r"received FP64 \[2, 3\]"):
        WHOLE.arrays({"all": np.ones((2, 3))})
