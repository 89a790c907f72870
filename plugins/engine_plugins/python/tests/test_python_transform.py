"""What the ``python`` transform calls, what it gives it, and what it accepts back."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from engine.plugins import PluginFailed
from engine_plugins.python.transform import PythonTransform

SOURCE = """
from __future__ import annotations
import pandas as pd
import pyarrow as pa
from pandas import DataFrame

LIMIT = 3

def clean(table: pa.Table, most: int = 10) -> pa.Table:
    return table.slice(0, most)

def plain(table):
    return table.select(["a"])

def with_frame(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(b=frame["a"] * 2)[frame["a"] > 1]

def with_short_name(frame: DataFrame, by: int) -> DataFrame:
    return frame.assign(a=frame["a"] + by)

def wrong(table):
    return 3

def mixed(frame: pd.DataFrame):
    return pd.DataFrame({"x": [1, "a", {}]})

def nothing():
    return 1

def breaks(table):
    raise KeyError("mine")
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"functions_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    return name


TABLE = pa.table({"a": [1, 2, 3], "c": ["x", "y", None]})


@pytest.mark.parametrize(
    ("function", "arguments", "expected"),
    [
        ("clean", {}, {"a": [1, 2, 3], "c": ["x", "y", None]}),
        ("clean", {"most": 1}, {"a": [1], "c": ["x"]}),
        ("plain", {}, {"a": [1, 2, 3]}),
        ("with_frame", {}, {"a": [2, 3], "c": ["y", None], "b": [4, 6]}),
        ("with_short_name", {"by": 5}, {"a": [6, 7, 8], "c": ["x", "y", None]}),
    ],
)
def test_a_function_gets_the_table_as_it_asks_for_it(
    module: str, function: str, arguments: dict[str, object], expected: dict[str, object]
) -> None:
    found = PythonTransform(function=f"{module}:{function}", arguments=arguments)(TABLE)
    assert found.to_pydict() == expected
    assert found.schema.metadata is None


@pytest.mark.parametrize(
    ("function", "arguments", "key", "message"),
    [
        ("{m}:claen", {}, "with.function", '{m} has no function "claen"; did you mean "{m}:clean"?'),
        ("{m}:LIMIT", {}, "with.function", '{m} has no function "LIMIT"; define it in {m}'),
        ("{m}.clean", {}, "with.function", '"{m}.clean" is not a function; write it as `module:function`'),
        (
            "not_{m}:clean",
            {},
            "with.function",
            "cannot import not_{m}: No module named 'not_{m}'; it is looked for in the project and in the environment",
        ),
        (
            "{m}:clean",
            {"least": 1},
            "with.arguments",
            "{m}:clean(table, most) cannot be called so: got an unexpected keyword argument 'least'; mend `arguments:`",
        ),
        (
            "{m}:with_short_name",
            {},
            "with.arguments",
            "{m}:with_short_name(frame, by) cannot be called so: missing a required argument: 'by'; mend `arguments:`",
        ),
        (
            "{m}:nothing",
            {},
            "with.function",
            "{m}:nothing takes no table; give it a first parameter, which is the table",
        ),
        (
            "{m}:wrong",
            {},
            "with.function",
            "{m}:wrong gave back int, not a pyarrow.Table or pandas.DataFrame; return the table",
        ),
    ],
)
def test_what_cannot_be_called_is_told(
    module: str, function: str, arguments: dict[str, object], key: str, message: str
) -> None:
    with pytest.raises(PluginFailed) as caught:
        PythonTransform(function=function.replace("{m}", module), arguments=arguments)(TABLE)
    assert (caught.value.key, str(caught.value)) == (key, message.replace("{m}", module))


def test_a_column_of_many_types_is_told(module: str) -> None:
    with pytest.raises(
        PluginFailed, match=r"gave back a column that Arrow has no type for: .*give every column one type"
    ):
        PythonTransform(function=f"{module}:mixed")(TABLE)


def test_what_the_function_raises_is_its_own(module: str) -> None:
    with pytest.raises(KeyError, match="mine"):
        PythonTransform(function=f"{module}:breaks")(TABLE)
