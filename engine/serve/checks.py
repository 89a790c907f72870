"""What a training schema says of the model's inputs, as checks of a whole batch that need neither pandera nor pandas.

A batch of n rows is checked at once; what is wrong is told row by row, so that a bad row never spoils its neighbours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from engine.serve.columns import Columns
from engine.serve.model import AnyArray, Tensor

WHOLE = re.compile(r"u?int(8|16|32|64)?", re.IGNORECASE)
INFINITY = float("inf")


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What is wrong with a row: the tensor, what was expected, what came, and which kind of check found it."""

    tensor: str
    expected: str
    received: str
    kind: str

    def __str__(self) -> str:
        return f'tensor "{self.tensor}": expected {self.expected}, received {self.received}'


@dataclass(frozen=True, kw_only=True, slots=True)
class Numbers:
    """Bounds of k numeric inputs, both included; which may be NaN, and which are whole numbers."""

    names: tuple[str, ...]
    low: AnyArray
    high: AnyArray
    nullable: AnyArray
    whole: AnyArray
    said: tuple[str, ...]
    has_whole: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "has_whole", bool(self.whole.any()))

    def wrong(self, columns: Mapping[str, AnyArray]) -> Iterator[tuple[int, Finding]]:
        """Rows that are out of bounds, with what is wrong."""
        if not self.names:
            return
        if isinstance(columns, Columns):
            values = columns.beside(self.names)
        else:
            values = np.concatenate([columns[name] for name in self.names], axis=1)
        right = (values >= self.low) & (values <= self.high)  # NaN is neither
        if self.has_whole:
            right &= ~self.whole | (values == np.floor(values))
        if b"\0" not in right.tobytes():  # all of them; for few values numpy's own way takes ten times as long
            return
        missing = np.isnan(values)
        right |= missing & self.nullable
        for row, index in np.argwhere(~right):
            kind = "missing" if missing[row, index] else "range"
            received = "NaN" if missing[row, index] else f"{values[row, index]:.9g}"
            yield int(row), Finding(tensor=self.names[index], expected=self.said[index], received=received, kind=kind)


@dataclass(frozen=True, kw_only=True, slots=True)
class Values:
    """A test of each value of one input; equal values are tested once."""

    name: str
    said: str
    kind: str
    accepts: Callable[[Any], bool]
    examples: tuple[Any, ...] = ()
    known: dict[Any, bool] = field(default_factory=dict)

    def wrong(self, columns: Mapping[str, AnyArray]) -> Iterator[tuple[int, Finding]]:
        """Rows whose value does not pass."""
        known = self.known
        for row, value in enumerate(columns[self.name].reshape(-1).tolist()):
            passes = known.get(value)
            if passes is None:
                passes = self.accepts(value)
                if len(known) < MOST_KNOWN:
                    known[value] = passes
            if not passes:
                yield row, Finding(tensor=self.name, expected=self.said, received=quoted(value), kind=self.kind)


MOST_KNOWN = 10_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Checks:
    """Everything that a schema says of the inputs. ``passes`` are the kinds that are counted but let through."""

    numbers: Numbers
    values: tuple[Values, ...]
    passes: frozenset[str] = frozenset()

    def wrong(self, columns: Mapping[str, AnyArray]) -> tuple[dict[int, Finding], dict[str, int]]:
        """The first finding of each bad row by its index, and how often each kind was let through."""
        refused: dict[int, Finding] = {}
        passed: dict[str, int] = {}
        parts: tuple[Numbers | Values, ...] = (self.numbers, *self.values)
        for check in parts:
            for row, finding in check.wrong(columns):
                if finding.kind in self.passes:
                    passed[finding.kind] = passed.get(finding.kind, 0) + 1
                else:
                    refused.setdefault(row, finding)
        return refused, passed


def quoted(value: object) -> str:
    """A value as messages print it, never longer than 40 characters."""
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 40 else f"{text[:36]}..."


# -- from a schema -------------------------------------------------------------------------------------------------


def lowered(
    inputs: Sequence[Tensor],
    schema: Mapping[str, Any] | None,
    categories: Mapping[str, Sequence[Any]] | None = None,
    unknown_category: str = "refuse",
) -> Checks:
    """The checks of a model's inputs.

    Args:
        schema: the training data's pandera schema as a mapping; columns that are no inputs do not count.
        categories: the values of inputs that the model has learned from; a list in the schema counts instead.
        unknown_category: ``pass`` lets through values that no row of the training data had.
    """
    columns = (schema or {}).get("columns") or {}
    numeric = [tensor for tensor in inputs if tensor.datatype not in ("BYTES", "BOOL") and tensor.shape == (-1, 1)]
    rules = {tensor.name: rules_of(columns.get(tensor.name) or {}) for tensor in inputs}
    values = [
        check
        for tensor in inputs
        for check in value_checks(tensor, rules[tensor.name], (categories or {}).get(tensor.name))
    ]
    return Checks(
        numbers=numbers(numeric, rules),
        values=tuple(values),
        passes=frozenset({"category"} if unknown_category == "pass" else ()),
    )


def rules_of(column: Mapping[str, Any]) -> dict[str, Any]:
    """A column's checks and properties in one mapping, however the schema wrote them down."""
    rules = {key: value for key, value in column.items() if key != "checks"}
    checks = column.get("checks")
    for item in [checks] if isinstance(checks, Mapping) else checks or []:
        rules.update(item)
    return rules


def argument(value: Any) -> Any:
    """The argument of a check that has one."""
    return value["value"] if isinstance(value, Mapping) and "value" in value else value


def numbers(inputs: Sequence[Tensor], rules: Mapping[str, Mapping[str, Any]]) -> Numbers:
    """The bounds of the numeric inputs."""
    whole = [is_whole(rules[tensor.name]) for tensor in inputs]
    bounds = [bounds_of(rules[tensor.name], whole=is_int) for tensor, is_int in zip(inputs, whole, strict=True)]
    nullable = [not rules[tensor.name] or bool(rules[tensor.name].get("nullable")) for tensor in inputs]
    return Numbers(
        names=tuple(tensor.name for tensor in inputs),
        low=np.array([low for low, _ in bounds]),
        high=np.array([high for _, high in bounds]),
        nullable=np.array(nullable, bool),
        whole=np.array(whole, bool),
        said=tuple(
            described(*limits, whole=is_int, nullable=may)
            for limits, is_int, may in zip(bounds, whole, nullable, strict=True)
        ),
    )


def is_whole(rules: Mapping[str, Any]) -> bool:
    """Whether a schema says that a column has whole numbers."""
    return WHOLE.fullmatch(str(rules.get("dtype", ""))) is not None


def bounds_of(rules: Mapping[str, Any], *, whole: bool) -> tuple[float, float]:
    """The least and the greatest number that pass; by default the finite ones."""
    low, high = -float(np.finfo(np.float64).max), float(np.finfo(np.float64).max)
    if (found := rules.get("in_range")) is not None:
        low = max(low, above(found["min_value"], open_=found.get("include_min") is False))
        high = min(high, below(found["max_value"], open_=found.get("include_max") is False))
    for name, open_ in (("greater_than", True), ("greater_than_or_equal_to", False)):
        if name in rules:
            low = max(low, above(argument(rules[name]), open_=open_))
    for name, open_ in (("less_than", True), ("less_than_or_equal_to", False)):
        if name in rules:
            high = min(high, below(argument(rules[name]), open_=open_))
    return (float(np.ceil(low)), float(np.floor(high))) if whole else (low, high)


def above(value: Any, *, open_: bool) -> float:
    """The least number from a bound on."""
    return float(np.nextafter(float(value), INFINITY)) if open_ else float(value)


def below(value: Any, *, open_: bool) -> float:
    """The greatest number up to a bound."""
    return float(np.nextafter(float(value), -INFINITY)) if open_ else float(value)


def described(low: float, high: float, *, whole: bool, nullable: bool) -> str:
    """Bounds in words."""
    what = "a whole number" if whole else "a number"
    least, most = abs(low) < 1e300, abs(high) < 1e300
    if least and most:
        what += f" between {near(low):.9g} and {near(high):.9g}"
    elif least:
        what += f" of at least {low:.9g}" if low == near(low) else f" above {near(low):.9g}"
    elif most:
        what += f" of at most {high:.9g}" if high == near(high) else f" below {near(high):.9g}"
    return f"{what} or NaN" if nullable else what


def near(bound: float) -> float:
    """A bound without the step by which an open one was moved."""
    return round(bound, 12) + 0.0


def value_checks(tensor: Tensor, rules: Mapping[str, Any], learned: Sequence[Any] | None) -> Iterator[Values]:
    """The checks of single values of an input."""
    is_text = tensor.datatype == "BYTES"
    for name, (kind, make) in TESTS.items():
        if name in rules and (is_text or name in FOR_NUMBERS):
            said, accepts, like = make(rules[name])
            kind = kind if is_text or learned is not None else "range"
            yield Values(name=tensor.name, said=said, kind=kind, accepts=accepts, examples=like)
    if learned is not None and "isin" not in rules:
        known = frozenset(learned)
        said, like = one_of(learned), tuple(learned)
        yield Values(name=tensor.name, said=said, kind="category", accepts=known.__contains__, examples=like)


def one_of(values: Sequence[object]) -> str:
    """A few values as messages print them."""
    few = ", ".join(quoted(value) for value in values[:10])
    return f"one of {few}" + (f" and {len(values) - 10} more" if len(values) > 10 else "")


Test = tuple[str, Callable[[Any], bool], tuple[Any, ...]]
"""What is expected in words, the test of a value, and values that pass, where some are known."""


def is_in(rule: Any) -> Test:
    """One of the listed values."""
    allowed = list(rule["allowed_values"] if isinstance(rule, Mapping) and "allowed_values" in rule else argument(rule))
    return one_of(allowed), frozenset(allowed).__contains__, tuple(allowed)


def not_in(rule: Any) -> Test:
    """None of the listed values."""
    forbidden = list(
        rule["forbidden_values"] if isinstance(rule, Mapping) and "forbidden_values" in rule else argument(rule)
    )
    members = frozenset(forbidden)
    return f"none of {one_of(forbidden).removeprefix('one of ')}", lambda value: value not in members, ()


def equal_to(rule: Any) -> Test:
    """Exactly one value."""
    wanted = argument(rule)
    return quoted(wanted), lambda value: bool(value == wanted), (wanted,)


def not_equal_to(rule: Any) -> Test:
    """Any but one value."""
    unwanted = argument(rule)
    return f"anything but {quoted(unwanted)}", lambda value: bool(value != unwanted), ()


def str_length(rule: Any) -> Test:
    """Text of so many characters."""
    least, most = rule.get("min_value") or 0, rule.get("max_value")
    if rule.get("exact_value") is not None:
        least = most = rule["exact_value"]
    said = (
        f"{least} characters" if least == most else f"{least} to {'any number of' if most is None else most} characters"
    )
    return said, lambda value: least <= len(value) and (most is None or len(value) <= most), ("a" * least,)


def str_matches(rule: Any) -> Test:
    """Text that begins as a pattern says."""
    pattern = re.compile(str(rule["pattern"] if isinstance(rule, Mapping) and "pattern" in rule else argument(rule)))
    return f"text that matches {pattern.pattern}", lambda value: pattern.match(value) is not None, ()


def str_contains(rule: Any) -> Test:
    """Text in which a pattern is found."""
    pattern = re.compile(str(rule["pattern"] if isinstance(rule, Mapping) and "pattern" in rule else argument(rule)))
    return f"text that contains {pattern.pattern}", lambda value: pattern.search(value) is not None, ()


def str_startswith(rule: Any) -> Test:
    """Text with a beginning."""
    beginning = str(rule["string"] if isinstance(rule, Mapping) and "string" in rule else argument(rule))
    return f"text that begins with {quoted(beginning)}", lambda value: value.startswith(beginning), (beginning,)


def str_endswith(rule: Any) -> Test:
    """Text with an end."""
    end = str(rule["string"] if isinstance(rule, Mapping) and "string" in rule else argument(rule))
    return f"text that ends with {quoted(end)}", lambda value: value.endswith(end), (end,)


TESTS: Mapping[str, tuple[str, Callable[[Any], Test]]] = {
    "isin": ("category", is_in),
    "notin": ("category", not_in),
    "equal_to": ("range", equal_to),
    "not_equal_to": ("range", not_equal_to),
    "str_length": ("length", str_length),
    "str_matches": ("pattern", str_matches),
    "str_contains": ("pattern", str_contains),
    "str_startswith": ("pattern", str_startswith),
    "str_endswith": ("pattern", str_endswith),
}
FOR_NUMBERS = frozenset({"isin", "notin", "equal_to", "not_equal_to"})
