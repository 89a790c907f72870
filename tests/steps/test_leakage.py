"""What of the test a model could have seen: rows, identifiers, the target in other words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from engine.errors import StepFailed
from engine.steps import gate
from engine.steps.context import Context
from engine.steps.leakage import identifiers, in_both, proxies
from engine.steps.model import Inputs
from engine.store.objects import ObjectStore

RANDOM = np.random.default_rng(3)
FEATURES = ["number", "whole", "text", "flag"]


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(store=ObjectStore(tmp_path / "objects"), home=tmp_path, run_id="r", step="s", log=lambda text: None)


def table(rows: int, first: int = 0, seed: int = 1) -> pa.Table:
    """Rows that have nothing to do with their target, under numbers from ``first``."""
    random = np.random.default_rng(seed)
    return pa.table({
        "id": [f"row-{first + index}" for index in range(rows)],
        "number": random.normal(size=rows),
        "whole": random.integers(0, 50, rows),
        "text": random.choice(["a", "b", None], rows).tolist(),
        "flag": random.random(rows) < 0.5,
        "late": random.random(rows) < 0.3,
    })  # fmt: skip


TRAIN, TEST = table(400), table(300, first=1000, seed=2)


def verdict(context: Context, train: pa.Table, test: pa.Table, features: list[str] | None = None, **given: Any) -> Any:
    """What a gate says."""
    keys = ("min", "max", "between", "baseline", "max_drop", "min_gain", "slice", "tolerance", "by", "on_missing")
    params = {
        "gate": {**dict.fromkeys(keys), "name": "g", "confidence": 0.95, "min_rows": 0, **given},
        "features": {"numeric": [], "categorical": features or FEATURES},
        "target": "late",
    }
    inputs = {"train": context.put_table(train), "table": context.put_table(test)}
    return context.json(gate.run(Inputs(artifacts=inputs), params, context).artifacts["verdict"])


def test_every_test_row_that_was_trained_on_is_found_and_no_other() -> None:
    mixed = pa.concat_tables([TEST.slice(0, 100), TRAIN.slice(7, 25), TEST.slice(100)])
    found = np.flatnonzero(in_both(TRAIN, mixed, FEATURES))
    assert found.tolist() == list(range(100, 125))


def test_rows_are_the_same_whatever_the_types_that_hold_their_values() -> None:
    other = TRAIN.set_column(TRAIN.column_names.index("whole"), "whole", TRAIN["whole"].cast(pa.float32()))
    other = other.set_column(
        TRAIN.column_names.index("text"), "text", TRAIN["text"].combine_chunks().dictionary_encode()
    )
    other = other.set_column(TRAIN.column_names.index("flag"), "flag", TRAIN["flag"].cast(pa.int8()))
    assert in_both(TRAIN, other, FEATURES).all()


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ([0.0, None], [-0.0, float("nan")], True),
        ([2**53], [2**53 + 1], False),
        ([2**63 - 1], [2**63 - 2], False),
        ([""], [None], False),
        (["1"], [1], True),
        ([None], [None], True),
    ],
)
def test_values_are_equal_or_not(left: list[Any], right: list[Any], same: bool) -> None:
    found = in_both(pa.table({"c": left}), pa.table({"c": right}), ["c"])
    assert found.all() if same else not found.any()


def test_the_order_of_columns_is_part_of_a_row() -> None:
    assert not in_both(pa.table({"a": [1], "b": [2]}), pa.table({"a": [2], "b": [1]}), ["a", "b"]).any()


def test_leaked_rows_refuse_and_the_reason_has_their_number_and_columns(context: Context) -> None:
    test = pa.concat_tables([TEST, TRAIN.slice(0, 6)])
    found = verdict(context, TRAIN, test, metric="leaked_rows", max=0)
    assert (found["passed"], found["value"], found["rows"]) == (False, 6, 306)
    assert found["examples"] == [300, 301, 302, 303, 304]
    said = "6 of 306 test rows are in the training data, the same in all 4 features: leaked_rows is 6, above the most that passes, 0"
    assert found["reason"] == said
    assert verdict(context, TRAIN, test, metric="leaked_share", max=0.02)["passed"]
    assert verdict(context, TRAIN, TEST, metric="leaked_rows", max=0)["passed"]


def test_rows_can_be_known_by_columns_of_their_own(context: Context) -> None:
    again = TRAIN.slice(3, 1)
    changed = again.set_column(again.column_names.index("number"), "number", pa.array([99.0]))
    test = pa.concat_tables([TEST, changed])
    assert verdict(context, TRAIN, test, metric="leaked_rows", max=0)["passed"]
    found = verdict(context, TRAIN, test, metric="leaked_rows", by=["id"], max=0)
    assert (found["passed"], found["columns"]) == (False, ["id"])
    assert "1 of 301 test rows is in the training data, the same in id" in found["reason"]


def test_a_column_that_is_not_there_is_named_with_the_nearest_one(context: Context) -> None:
    with pytest.raises(StepFailed) as raised:
        verdict(context, TRAIN, TEST, metric="leaked_rows", by=["text", "idd"], max=0)
    assert (raised.value.fact, raised.value.key, raised.value.hint) == (
        'no column "idd" in the data', "by.1", 'did you mean "id"?'
    )  # fmt: skip


def test_identifiers_are_text_and_whole_numbers_that_all_differ(context: Context) -> None:
    numbered = TRAIN.append_column("counter", pa.array(range(400))).append_column(
        "float_counter", pa.array(np.arange(400.0))
    )
    assert [name for name, _ in identifiers(numbered, [*FEATURES, "id", "counter", "float_counter"])] == [
        "id", "counter", "float_counter",
    ]  # fmt: skip
    found = verdict(context, TRAIN, TEST, [*FEATURES, "id"], metric="identifier_features", max=0)
    assert (found["passed"], found["value"], found["columns"]) == (False, 1, ["id"])
    assert found["reason"].endswith("above the most that passes, 0: id (100% different values)")


def test_of_few_rows_no_column_is_an_identifier() -> None:
    assert list(identifiers(TRAIN.slice(0, 40), ["id"])) == []


PROXIES: dict[str, Any] = {
    "a copy": lambda t: t["late"].cast(pa.int8()),
    "a copy turned round": lambda t: pa.array(5.0 - t["late"].to_numpy()),
    "another name": lambda t: pa.array(["yes" if late else "no" for late in t["late"].to_pylist()]),
    "no order": lambda t: pa.array([1 if late else number for late, number in zip(t["late"].to_pylist(), [0, 2] * 1000, strict=False)]),
    "what is missing": lambda t: pa.array([None if late else 1.5 for late in t["late"].to_pylist()]),
}  # fmt: skip


@pytest.mark.parametrize("title", PROXIES)
def test_the_target_in_other_words_is_found_and_named(context: Context, title: str) -> None:
    train, test = (part.append_column("proxy", PROXIES[title](part)) for part in (TRAIN, TEST))
    found = verdict(context, train, test, [*FEATURES, "proxy"], metric="target_proxy_auc", max=0.99)
    assert (found["passed"], found["value"], found["columns"]) == (False, 1.0, ["proxy"])
    assert "the feature proxy alone, for late True" in found["reason"]
    assert verdict(context, TRAIN, TEST, metric="target_proxy_auc", max=0.99)["passed"]


def test_values_that_the_training_data_does_not_have_tell_nothing() -> None:
    found = {item.feature: item.auc for item in proxies(TRAIN, TEST, ["id"], "late")}
    assert found == {"id": 0.5}


def test_a_proxy_of_one_of_several_classes_or_of_a_number_is_found() -> None:
    kinds = pa.array(RANDOM.choice(["a", "b", "c"], 300))
    value = pa.array(RANDOM.normal(size=300))
    both = pa.table(
        {
            "kind": kinds,
            "is_b": [kind == "b" for kind in kinds.to_pylist()],
            "value": value,
            "cubed": np.power(value, 3),
        }
    )
    (found,) = proxies(both, both, ["is_b"], "kind")
    assert (found.auc, found.event) == (1.0, "kind b")
    (found,) = proxies(both, both, ["cubed"], "value")
    assert found.auc == 1.0
    assert found.event.startswith("value above ")


def test_a_target_of_one_value_tells_nothing_and_passes_nothing(context: Context) -> None:
    one = TEST.set_column(TEST.column_names.index("late"), "late", pa.array([True] * 300))
    found = verdict(context, one, one, metric="target_proxy_auc", max=0.99)
    assert (found["passed"], found["value"]) == (False, None)


def test_an_empty_table_is_an_error_and_no_verdict(context: Context) -> None:
    with pytest.raises(StepFailed, match="the training data has no rows"):
        verdict(context, TRAIN.slice(0, 0), TEST, metric="leaked_rows", max=0)
