"""A table against its pandera schema. The only importer of pandera.

Integers that may be null are checked as integers, not as the floats that pandas would make of them, so a schema
says ``dtype: int64, nullable: true`` and means it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pandera.errors
import pyarrow as pa
from pandera.io.pandas_io import deserialize_schema

from engine.errors import SchemaViolated, StepFailed
from engine.steps.context import Context
from engine.steps.model import Artifact, Inputs, Outputs

INTEGERS = {"int8": "Int8", "int16": "Int16", "int32": "Int32", "int64": "Int64", "int": "Int64"}
SHOWN_ROWS = 10
COLUMNS = ("column", "check", "failure_case", "row")


class Violations(SchemaViolated):
    """Every failure case of a table: the worst as text, all of them as an artifact."""

    def __init__(self, fact: str, details: str, failures: Artifact) -> None:
        self.failures = failures
        super().__init__(fact, details=details, hint="mend the data, or the schema if it is wrong", key="")


def run(inputs: Inputs, params: Mapping[str, Any], context: Context) -> Outputs:
    """Check every column and every row; coerce where the schema says so.

    Raises:
        StepFailed: when the schema itself is wrong.
        Violations: with all failure cases, when the data breaks it.
    """
    table = context.table(inputs["table"])
    schema = schema_of(params["schema"])
    try:
        checked = schema.validate(frame(table, params["schema"]), lazy=True)
    except pandera.errors.SchemaErrors as error:
        raise violations(error.failure_cases, table.num_rows, context) from error
    except pandera.errors.SchemaError as error:
        raise SchemaViolated(str(error).splitlines()[0], hint="mend the data or the schema") from error
    kept = pa.Table.from_pandas(checked, preserve_index=False) if coerces(params["schema"]) else table
    context.log(f"{table.num_rows:,} rows, no failure")
    return Outputs(artifacts={"table": context.put_table(kept), "failures": context.put_table(no_failures())})


def schema_of(content: Mapping[str, Any]) -> Any:
    """The pandera schema.

    Raises:
        StepFailed: when pandera does not understand it.
    """
    try:
        return deserialize_schema(with_nullable_integers(content))
    except (
        pandera.errors.SchemaDefinitionError,
        pandera.errors.SchemaInitError,
        TypeError,
        AttributeError,
        KeyError,
        ValueError,
    ) as error:
        hint = "see pandera's documentation of schemas in YAML: columns, dtype, nullable, checks"
        raise StepFailed(f"pandera does not accept this schema: {error}", hint=hint) from error


def columns_of(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """The columns that a schema describes."""
    columns = content.get("columns") or {}
    return {name: column or {} for name, column in columns.items()}


def with_nullable_integers(content: Mapping[str, Any]) -> dict[str, Any]:
    """The schema with pandas' own nullable type for each integer column that may be null."""
    columns = {}
    for name, column in columns_of(content).items():
        kind = str(column.get("dtype", "")).lower()
        nullable = bool(column.get("nullable")) and kind in INTEGERS
        columns[name] = {**column, "dtype": INTEGERS[kind]} if nullable else dict(column)
    return {**content, "columns": columns}


def frame(table: pa.Table, content: Mapping[str, Any]) -> pd.DataFrame:
    """The table as pandas has it, with nullable integers where the schema wants them."""
    wanted = {
        name: column["dtype"]
        for name, column in with_nullable_integers(content)["columns"].items()
        if column.get("dtype") in INTEGERS.values()
    }
    frame = table.drop_columns([name for name in wanted if name in table.column_names]).to_pandas()
    for name, dtype in wanted.items():
        if name in table.column_names and pa.types.is_integer(table.schema.field(name).type):
            frame[name] = table.column(name).to_pandas(
                types_mapper=lambda _, dtype=dtype: pd.api.types.pandas_dtype(dtype)
            )
        elif name in table.column_names:
            frame[name] = table.column(name).to_pandas()
    return frame[table.column_names]


def coerces(content: Mapping[str, Any]) -> bool:
    """Whether a schema changes what it checks."""
    return bool(content.get("coerce")) or any(column.get("coerce") for column in columns_of(content).values())


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One failure case: where (no row when it is about the whole column), which check, and what was found."""

    column: str
    check: str
    found: object
    row: int | None


def violations(failures: pd.DataFrame, rows: int, context: Context) -> Violations:
    """Pandera's failure cases as an error that shows the worst and keeps them all."""
    cases = [case_of(row) for row in failures.to_dict("records")]
    table = pa.table(
        {
            "column": pa.array([case.column for case in cases], pa.string()),
            "check": pa.array([case.check for case in cases], pa.string()),
            "failure_case": pa.array([text(case.found) for case in cases], pa.string()),
            "row": pa.array([case.row for case in cases], pa.int64()),
        }
    )
    counts = Counter((case.column, case.check) for case in cases).most_common()
    (column, check), _ = counts[0]
    worst = next(case for case in cases if (case.column, case.check) == (column, check))
    many = "1 failure case" if len(cases) == 1 else f"{len(cases):,} failure cases"
    fact = f"{many} in {rows:,} rows; the worst: column {column}, {check}, {json_like(worst.found)}"
    return Violations(fact, summary(cases, counts), context.put_table(table))


def case_of(row: Mapping[Any, Any]) -> Case:
    """A row of pandera's table. A column that is not there stands as the case itself."""
    is_absent = row["check"] == "column_in_dataframe"
    return Case(
        column=str(row["failure_case"] if is_absent else row["column"]),
        check="is not in the data" if is_absent else str(row["check"]),
        found=None if is_absent else row["failure_case"],
        row=None if pd.isna(row["index"]) else int(row["index"]),
    )


def summary(cases: list[Case], counts: list[tuple[tuple[str, str], int]]) -> str:
    """A table of the worst checks, each with its number of cases and an example."""
    lines = [f"{'column':<20} {'check':<40} {'cases':>9}  example (row)"]
    for (column, check), count in counts[:SHOWN_ROWS]:
        first = next(case for case in cases if (case.column, case.check) == (column, check))
        row = "" if first.row is None else f" ({first.row:,})"
        lines.append(f"{column[:20]:<20} {check[:40]:<40} {count:>9,}  {json_like(first.found)}{row}")
    if len(counts) > SHOWN_ROWS:
        lines.append(f"... and {len(counts) - SHOWN_ROWS} more checks")
    return "\n".join(lines)


def text(value: object) -> str | None:
    """A failure case as text."""
    return None if is_null(value) else str(value)


def is_null(value: object) -> bool:
    """Whether a failure case is a missing value, in any of pandas' words for it."""
    return bool(pd.api.types.is_scalar(value) and pd.isna(value))


def json_like(value: object) -> str:
    """A failure case as messages print it."""
    plain = None if is_null(value) else value.item() if hasattr(value, "item") else value
    try:
        return json.dumps(plain, ensure_ascii=False)[:40]
    except TypeError:
        return str(plain)[:40]


def no_failures() -> pa.Table:
    """The failure cases of a table that has none."""
    types = (pa.string(), pa.string(), pa.string(), pa.int64())
    return pa.table({name: pa.array([], kind) for name, kind in zip(COLUMNS, types, strict=True)})
