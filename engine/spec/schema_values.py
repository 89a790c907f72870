"""What the values in a data schema must be for pandera to accept it: data types, flags and checks. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from engine.errors import suggestion
from engine.spec.model import KeyPath
from engine.spec.vocabulary import COLUMN_CHECKS

FLAGS = ("coerce", "drop_invalid_rows", "nullable", "ordered", "regex", "required", "unique_column_names")
BARE_TYPES = (
    "bool", "boolean", "bytes", "category", "date", "datetime", "decimal", "double", "int", "integer", "interval",
    "object", "str", "string", "time", "timedelta",
)  # fmt: skip
SIZED_TYPES = (
    *(f"int{bits}" for bits in (8, 16, 32, 64)), *(f"uint{bits}" for bits in (8, 16, 32, 64)),
    *(f"Int{bits}" for bits in (8, 16, 32, 64)), *(f"UInt{bits}" for bits in (8, 16, 32, 64)),
    "float", "float16", "float32", "float64", "Float32", "Float64", "complex64", "complex128", "datetime64",
    "timedelta64",
)  # fmt: skip
DTYPES = (*BARE_TYPES, *SIZED_TYPES)
"""The data types that a column may have, by the names that pandera gives to pandas' types."""

BRACKETED = re.compile(r"(?:datetime64|timedelta64|string|period|interval|Sparse|[a-z]+\d*)\[.+\]")
Scalar = (int, float, str, bool, date)


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """A value of a schema that is none: below which key of the schema, what is wrong, and the next act."""

    path: KeyPath
    fact: str
    hint: str = ""


def faults_of(content: Mapping[str, Any]) -> Iterator[Fault]:
    """Every value of a schema that pandera would refuse, or would not understand as it is meant."""
    for key in FLAGS:
        if key in content:
            yield from flag_faults(content[key], (key,))
    columns = content.get("columns")
    if isinstance(columns, Mapping):
        if not columns:
            yield Fault(
                path=("columns",), fact="the schema describes no column", hint="list them: `NAME: {dtype: ...}`"
            )
        for name, column in columns.items():
            yield from column_faults(column, ("columns", str(name)))


def column_faults(column: object, path: KeyPath) -> Iterator[Fault]:
    """What is wrong with the values of one column."""
    if column is None:
        return
    if not isinstance(column, Mapping):
        yield Fault(path=path, fact=f"a column is a mapping, got {column}", hint="write `{dtype: int64}`")
        return
    if column.get("dtype") is not None:
        yield from dtype_faults(column["dtype"], (*path, "dtype"))
    for key in FLAGS:
        if key in column:
            yield from flag_faults(column[key], (*path, key))
    checks = column.get("checks")
    beside = {key: value for key, value in column.items() if key in COLUMN_CHECKS}
    for values, below in ((beside, path), (checks, (*path, "checks"))):
        for check, value in values.items() if isinstance(values, Mapping) else ():
            if check in CHECKS:
                yield from (Fault(path=(*below, check), fact=fact, hint=hint) for fact, hint in CHECKS[check](value))


def dtype_faults(value: object, path: KeyPath) -> Iterator[Fault]:
    """A data type is one that pandas has."""
    if not isinstance(value, str) or not (value in DTYPES or BRACKETED.fullmatch(value)):
        alike = [name for name in DTYPES if name[0].islower() == str(value)[:1].islower()]
        yield Fault(path=path, fact=f"no data type {quoted(value)}", hint=suggestion(str(value), alike))


def flag_faults(value: object, path: KeyPath) -> Iterator[Fault]:
    """What is either so or not."""
    if value is not None and not isinstance(value, bool):
        yield Fault(path=path, fact=f"expected true or false, got {quoted(value)}")


# -- the arguments of checks ------------------------------------------------------------------------------------

Judge = Callable[[object], Iterator[tuple[str, str]]]
OPTIONS = ("options", "value", "raise_warning", "ignore_na", "n_failure_cases", "name", "error", "description", "title")


def inner(value: object) -> object:
    """The argument of a check that is written with its options: ``{value: 3, options: {...}}``."""
    return value["value"] if isinstance(value, Mapping) and "value" in value else value


def one_value(value: object) -> Iterator[tuple[str, str]]:
    """A check against one value."""
    if not isinstance(inner(value), Scalar):
        yield f"expected one value, got {quoted(value)}", "write it as `greater_than: 0`"


def a_list(value: object) -> Iterator[tuple[str, str]]:
    """A check against several values."""
    given = inner(value)
    if isinstance(given, Mapping):
        given = next((given[key] for key in ("allowed_values", "forbidden_values") if key in given), given)
    if not isinstance(given, list | tuple):
        yield f"expected a list of values, got {quoted(value)}", "write it as `[a, b]`"
    elif not given:
        yield "expected a list of values, got an empty one", "no row could pass, or each would: list the values"


def a_range(value: object) -> Iterator[tuple[str, str]]:
    """A check between two values of one kind, the lower one first."""
    hint = "write `{min_value: 0, max_value: 1}`"
    if not isinstance(value, Mapping):
        yield f"expected a mapping, got {quoted(value)}", hint
        return
    limits = [value.get(key) for key in ("min_value", "max_value")]
    absent = [key for key, limit in zip(("min_value", "max_value"), limits, strict=True) if limit is None]
    if absent:
        yield f"{' and '.join(absent)} is missing" if len(absent) == 1 else "both limits are missing", hint
    elif isinstance(limits[0], str) != isinstance(limits[1], str) and not any(isinstance(it, date) for it in limits):
        yield f"the limits are of two kinds: {quoted(limits[0])} and {quoted(limits[1])}", "write two numbers"
    elif is_descending(*limits):
        yield f"the lower limit {limits[0]} is above the upper one {limits[1]}: nothing can pass", "swap them"


def is_descending(low: object, high: object) -> bool:
    """Whether two numbers are the wrong way round."""
    return isinstance(low, int | float) and isinstance(high, int | float) and low > high


def lengths(value: object) -> Iterator[tuple[str, str]]:
    """A check of texts' lengths."""
    given = value if isinstance(value, Mapping) else {"exact_value": inner(value)}
    for key in ("min_value", "max_value", "exact_value"):
        found = given.get(key)
        if found is not None and (isinstance(found, bool) or not isinstance(found, int) or found < 0):
            yield f"{key} is a number of letters, got {quoted(found)}", "write a whole number"


def a_text(value: object) -> Iterator[tuple[str, str]]:
    """A check against a text."""
    given = inner(value)
    if isinstance(given, Mapping):
        given = next((given[key] for key in ("pattern", "string") if key in given), given)
    if not isinstance(given, str):
        yield f"expected text, got {quoted(value)}", "put it in quotes"


def a_pattern(value: object) -> Iterator[tuple[str, str]]:
    """A check against a regular expression."""
    given = inner(value)
    if isinstance(given, Mapping) and "pattern" in given:
        given = given["pattern"]
    if not isinstance(given, str):
        yield f"expected a regular expression, got {quoted(value)}", "put it in quotes"
        return
    try:
        re.compile(given)
    except re.error as error:
        yield f"{quoted(given)} is no regular expression: {error}", "in YAML, put it in single quotes"


CHECKS: Mapping[str, Judge] = {
    **dict.fromkeys(
        ("equal_to", "greater_than", "greater_than_or_equal_to", "less_than", "less_than_or_equal_to", "not_equal_to"),
        one_value,
    ),
    **dict.fromkeys(("isin", "notin", "unique_values_eq"), a_list),
    **dict.fromkeys(("str_startswith", "str_endswith"), a_text),
    **dict.fromkeys(("str_matches", "str_contains"), a_pattern),
    "in_range": a_range,
    "str_length": lengths,
}
"""What each check's argument must be."""


def quoted(value: object) -> str:
    """A value as messages print it."""
    if isinstance(value, str):
        return f'"{value[:60]}"'
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    return str(value).lower() if isinstance(value, bool) else "nothing" if value is None else str(value)
