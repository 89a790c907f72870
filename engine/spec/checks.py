"""What must hold between the keys of a spec: ``CHECKS``, one rule a function. Pure.

A check gets the typed spec and its surroundings and yields findings; it never raises and never stops at the first.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from engine.errors import EngineError, NotFound, Place, Problem, UsageError, nearest, suggestion
from engine.lake.uri import parse as parse_uri
from engine.monitor.budget import parse as parse_budget
from engine.plugins import Description, Kind
from engine.queries import ColumnAbsent
from engine.spec.annotations import fits, options, range_words
from engine.spec.model import Gate, KeyPath, SecretRef, Slice, Spec
from engine.spec.parse import Composed, leaves, shown
from engine.spec.schema_values import faults_of
from engine.spec.surroundings import Queries, SchemaFile, Surroundings, constructed
from engine.spec.vocabulary import (
    ALIASES,
    COLUMN_CHECKS,
    COLUMN_KEYS,
    FORMATS,
    LABELLING,
    MEASUREMENTS,
    METRICS,
    PRODUCTION,
    PROPERTIES,
    SCHEMA_KEYS,
    Task,
    format_of,
    range_of,
)

WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
LEAST_PERCENT = 5
GIVEN_NAME = re.compile(r"\bas\s+([A-Za-z_][A-Za-z0-9_]*)", re.IGNORECASE)
SQL_LITERAL = re.compile(r"'[^']*'|--[^\n]*")
SQL_WORDS = frozenset({
    "all", "and", "any", "array", "as", "asc", "between", "bigint", "bool", "boolean", "by", "case", "cast", "collate",
    "date", "day", "days", "decimal", "desc", "distinct", "double", "else", "end", "escape", "except", "exists",
    "false", "float", "from", "glob", "group", "having", "hour", "hours", "ilike", "in", "int", "integer", "intersect",
    "interval", "is", "isnull", "like", "limit", "minute", "minutes", "month", "months", "not", "notnull", "null",
    "offset", "on", "or", "order", "over", "quarter", "quarters", "real", "second", "seconds", "select", "similar",
    "smallint", "some", "source", "text", "then", "time", "timestamp", "to", "true", "try_cast", "union", "unknown",
    "varchar", "week", "weeks", "when", "where", "with", "year", "years",
})  # fmt: skip
CLASSES = ("BOOLEAN", "VARCHAR")
METRIC_ARGUMENTS = ("y_true", "y_pred", "y_score", "weights")
BASELINE = re.compile(r"^([a-z0-9][a-z0-9-]{1,62}[@:])?[A-Za-z0-9_.-]+$")


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """A problem before it has a place: the key it is about and whether the key or the value is to be changed.

    A finding in another file than the spec has its ``place`` already. ``rests_on`` are keys that it also judged: what
    is wrong with one of them is told instead.
    """

    rule: str
    path: KeyPath
    fact: str
    hint: str = ""
    severity: Literal["error", "warning"] = "error"
    at: Literal["key", "value"] = "value"
    place: Place | None = None
    rests_on: tuple[KeyPath, ...] = ()


Check = Callable[[Spec, Surroundings], Iterator[Finding]]


def findings_of(spec: Spec, surroundings: Surroundings) -> list[Finding]:
    """Every finding of every check."""
    return [finding for rule in CHECKS for finding in rule(spec, surroundings)]


def placed(finding: Finding, composed: Composed) -> Problem:
    """A finding with the place where a person mends it."""
    return Problem(
        rule=finding.rule,
        fact=finding.fact,
        hint=finding.hint,
        severity=finding.severity,
        place=finding.place or composed.place(finding.path, finding.at),
    )


# -- data ------------------------------------------------------------------------------------------------


def uris_are_well_formed(spec: Spec, _: Surroundings) -> Iterator[Finding]:
    """A ``uri`` is lakefs://repository/ref/path."""
    for name, source in spec.data.items():
        try:
            uri = parse_uri(source.uri)
        except UsageError as error:
            yield Finding(rule="uri", path=("data", name, "uri"), fact=error.fact, hint=error.hint)
            continue
        if {".", ".."} & set(uri.path.split("/")):
            fact = f"the lake takes `..` in {shown(uri.path)} for a name, not for the folder above"
            hint = "write the path as `engine lake ls` shows it"
            yield Finding(rule="uri", path=("data", name, "uri"), fact=fact, hint=hint, severity="warning")
        if source.format is None and not uri.path.endswith("/") and uri.path and format_of(uri.path) is None:
            fact = f"the format of {shown(uri.path)} cannot be told from its name"
            hint = f"end it in / for a folder, or write `format: {'|'.join(sorted(set(FORMATS.values())))}`"
            yield Finding(rule="format-unknown", path=("data", name, "uri"), fact=fact, hint=hint)


def sources_exist(spec: Spec, _: Surroundings) -> Iterator[Finding]:
    """Whatever names a source names one under ``data``."""
    uses: list[tuple[KeyPath, str]] = [(("train", "data"), spec.train.data), (("evaluate", "data"), spec.evaluate.data)]
    if spec.monitor:
        uses.append((("monitor", "reference"), spec.monitor.reference))
    for index, transform in enumerate(spec.transform):
        uses += [(("transform", index, "data", item), name) for item, name in enumerate(transform.data)]
    for path, name in uses:
        if name not in spec.data:
            hint = suggestion(name, spec.data)
            yield Finding(rule="data-unknown", path=path, fact=f"no data source {shown(name)}", hint=hint)


def schemas_can_be_read(spec: Spec, surroundings: Surroundings) -> Iterator[Finding]:
    """A schema is a YAML mapping beside the spec, or inline."""
    for name, schema in schemas_of(spec, surroundings):
        path: KeyPath = ("data", name, "schema")
        for problem in schema.problems:
            yield Finding(rule=problem.rule, path=path, fact=problem.fact, hint=problem.hint, place=problem.place)
        if schema.complaint:
            hint = "write `columns: {NAME: {dtype: ...}}`"
            if not schema.file and schema.columns is None and not schema.content:
                near = suggestion(str(spec.data[name].schema_), schema.known)
                hint = near if near.startswith("did") else "schema paths are relative to the main spec file"
            place = schema.place(("columns",) if schema.content else (), "value")
            yield Finding(rule="schema", path=path, fact=schema.complaint, hint=hint, place=place)


def schemas_of(spec: Spec, surroundings: Surroundings) -> Iterator[tuple[str, SchemaFile]]:
    """Each schema with the first source that has it: a file is complained of once."""
    seen: set[str] = set()
    for name in spec.data:
        schema = surroundings.schemas.get(name)
        if schema is not None and (not schema.file or schema.file not in seen):
            seen.add(schema.file)
            yield name, schema


def schemas_check_what_they_say(spec: Spec, surroundings: Surroundings) -> Iterator[Finding]:
    """Every key of a schema is one that pandera reads; it would pass over any other without a word."""
    for name, schema in schemas_of(spec, surroundings):
        for below, known in unknown_schema_keys(schema.content):
            owner = f"the schema's column {below[1]}" if below[0] == "columns" else "the schema"
            yield Finding(
                rule="schema-key",
                path=("data", name, "schema", *below),
                fact=f"{owner} has an unknown key {shown(str(below[-1]))}",
                hint=suggestion(str(below[-1]), known),
                at="key",
                place=schema.place(below),
            )


def schemas_mean_something(spec: Spec, surroundings: Surroundings) -> Iterator[Finding]:
    """The values of a schema are those that pandera takes: data types, flags, what checks compare with."""
    for name, schema in schemas_of(spec, surroundings):
        for fault in faults_of(schema.content) if not schema.complaint else ():
            yield Finding(
                rule="schema-value",
                path=("data", name, "schema", *fault.path),
                fact=fault.fact,
                hint=fault.hint,
                place=schema.place(fault.path, "value"),
            )


def unknown_schema_keys(content: Mapping[str, Any]) -> Iterator[tuple[KeyPath, tuple[str, ...]]]:
    """The keys of a schema, of its columns and of their ``checks`` that pandera does not know, and what it knows."""
    for key in content:
        if key not in SCHEMA_KEYS:
            yield (str(key),), SCHEMA_KEYS
    columns = content.get("columns")
    for column, keys in columns.items() if isinstance(columns, Mapping) else ():
        for key in keys if isinstance(keys, Mapping) else ():
            if key not in (*COLUMN_KEYS, *COLUMN_CHECKS):
                yield ("columns", str(column), str(key)), COLUMN_KEYS + COLUMN_CHECKS
        checks = keys.get("checks") if isinstance(keys, Mapping) else None
        for key in checks if isinstance(checks, Mapping) else ():
            if key not in COLUMN_CHECKS:
                yield ("columns", str(column), "checks", str(key)), COLUMN_CHECKS


def every_source_is_used(spec: Spec, _: Surroundings) -> Iterator[Finding]:
    """A source that nothing reads is pruned; that is worth a word."""
    used = {spec.train.data, spec.evaluate.data, spec.monitor.reference if spec.monitor else spec.train.data}
    for name in spec.data:
        if name not in used:
            fact = f"nothing reads the data source {shown(name)}"
            yield Finding(rule="data-unused", path=("data", name), fact=fact, severity="warning", at="key")


# -- columns ---------------------------------------------------------------------------------------------


def features_are_given_once(spec: Spec, _: Surroundings) -> Iterator[Finding]:
    """A model reads at least one column, and each once."""
    if not spec.features.names:
        hint = "list columns under features.numeric or features.categorical"
        yield Finding(
            rule="features", path=("features",), fact="a model needs at least one feature", hint=hint, at="key"
        )
    for name, count in Counter(spec.features.names).items():
        if count > 1:
            path = last_mention(spec, name)
            yield Finding(rule="features", path=path, fact=f"{shown(name)} is a feature twice", hint="remove one")


def last_mention(spec: Spec, name: str) -> KeyPath:
    """The key of the last place where ``name`` is a feature."""
    found: KeyPath = ("features",)
    for role, columns in (("numeric", spec.features.numeric), ("categorical", spec.features.categorical)):
        for index, column in enumerate(columns):
            if column == name:
                found = ("features", role, index)
    return found


def the_target_is_no_feature(spec: Spec, _: Surroundings) -> Iterator[Finding]:
    """A model that reads its target has learned nothing."""
    for index, name in enumerate(spec.targets):
        if name in spec.targets[:index]:
            fact = f"{shown(name)} is a target twice"
            yield Finding(rule="target-twice", path=target_path(spec, index), fact=fact, hint="remove one")
    for name in dict.fromkeys([*spec.targets, *([spec.group] if spec.group else [])]):
        if name in spec.features.names:
            what = "target" if name in spec.targets else "group"
            fact = f"the {what} {shown(name)} is among the features"
            path = last_mention(spec, name)
            yield Finding(rule="target-is-feature", path=path, fact=fact, hint="remove it there")


def columns_exist(spec: Spec, surroundings: Surroundings) -> Iterator[Finding]:
    """Features, target and slices are in the schema of each source that needs them, or made by a transform."""
    known = {name: schema.columns for name, schema in surroundings.schemas.items() if schema.columns}
    for path, name, source in columns_not_in(spec, known, surroundings.queries):
        fact = f"no column {shown(name)} in the schema of {source} or in its transforms"
        names = {*known[source], *made_by_transforms(spec, source)}
        hint = suggestion(name, names)
        if name in names:
            fact = f"the transforms of {source} leave out the column {shown(name)}"
            hint = "select it there, or remove it here"
        yield Finding(rule="column-unknown", path=path, fact=fact, hint=hint)


def made_by_transforms(spec: Spec, source: str) -> list[str]:
    """The names that the queries over a source give to columns."""
    queries = [str(item.with_.get("query", "")) for item in spec.transform if source in item.data]
    return [name for query in queries for name in GIVEN_NAME.findall(query)]


def columns_not_in(
    spec: Spec, known: Mapping[str, tuple[str, ...]], queries: Queries
) -> Iterator[tuple[KeyPath, str, str]]:
    """The columns that a source needs and does not have, each once: the key that names it, its name, the source.

    Args:
        known: the columns of sources, as far as they are known.
        queries: what transforms make of them.
    """
    wanted: list[tuple[KeyPath, str]] = [
        (("features", "numeric", index), name) for index, name in enumerate(spec.features.numeric)
    ]
    wanted += [(("features", "categorical", index), name) for index, name in enumerate(spec.features.categorical)]
    wanted += [(target_path(spec, index), name) for index, name in enumerate(spec.targets)]
    wanted += [(("group",), spec.group)] if spec.group else []
    judging = list(columns_of_evaluation(spec))
    seen: set[KeyPath] = set()
    for source, needed in ((spec.train.data, wanted), (spec.evaluate.data, [*wanted, *judging])):
        columns = after_transforms(spec, source, known.get(source, ()), queries)
        for path, name in needed:
            if columns is not None and name not in columns and path not in seen:
                seen.add(path)
                yield path, name, source


def target_path(spec: Spec, index: int) -> KeyPath:
    """Where the target, or one of several, is written."""
    return ("target",) if isinstance(spec.target, str) else ("target", index)


def columns_of_evaluation(spec: Spec) -> Iterator[tuple[KeyPath, str]]:
    """The columns that only evaluation reads: of slices, and the weights."""
    for index, item in enumerate(spec.evaluate.slices):
        path: KeyPath = ("evaluate", "slices", index)
        if item.column is not None:
            yield (path if item == Slice(column=item.column) else (*path, "column")), item.column
    if spec.evaluate.weights is not None:
        yield ("evaluate", "weights"), spec.evaluate.weights


def predicates_read_known_columns(spec: Spec, surroundings: Surroundings) -> Iterator[Finding]:
    """A slice's SQL names no column that is nearly one of the data's. DuckDB has the last word, when it runs."""
    schema = surroundings.schemas.get(spec.evaluate.data)
    known = after_transforms(spec, spec.evaluate.data, (schema.columns or ()) if schema else (), surroundings.queries)
    for index, item in enumerate(spec.evaluate.slices):
        for word in column_words(item.sql or ""):
            hint = suggestion(word, sorted(known or ()))
            if known and word not in known and word.lower() not in {name.lower() for name in known} and hint:
                fact = f"no column {shown(word)} in the schema of {spec.evaluate.data} or in its transforms"
                path: KeyPath = ("evaluate", "slices", index, "sql")
                yield Finding(rule="slice-column", path=path, fact=fact, hint=hint)


def column_words(predicate: str) -> Iterator[str]:
    """The words of a SQL condition that could be columns: no literals, functions, types or units."""
    bare = SQL_LITERAL.sub(" '' ", predicate)
    for found in WORD.finditer(bare):
        before, after = bare[: found.start()].rstrip(), bare[found.end() :].lstrip()
        is_other = after.startswith(("(", "''")) or before.endswith(("::", "''")) or before[-1:].isdigit()
        if not is_other and found[0].lower() not in SQL_WORDS:
            yield found[0]


def after_transforms(spec: Spec, source: str, columns: tuple[str, ...], queries: Queries) -> set[str] | None:
    """Every name that could be a column of ``source`` after its transforms; ``None`` when that cannot be told.

    Of a query whose columns are not known, each word may be a column that it makes.
    """
    if not columns:
        return None
    found = set(columns)
    for index, transform in enumerate(spec.transform):
        if source not in transform.data:
            continue
        query = queries.get((index, source))
        if query is not None and query.columns is not None:
            found = set(query.columns)
            continue
        if transform.uses != "sql" or "query" not in transform.with_:
            return None
        found.update(WORD.findall(str(transform.with_.get("query", ""))))
    return found


# -- names -----------------------------------------------------------------------------------------------


def names_are_unique(spec: Spec, _: Surroundings) -> Iterator[Finding]:
    """Transforms, gates and detectors have names of their own."""
    lists: list[tuple[str, KeyPath, list[str]]] = [
        ("transform", ("transform",), [item.name for item in spec.transform]),
        ("gate", ("evaluate", "gates"), [gate.title for gate in spec.evaluate.gates]),
        ("slice", ("evaluate", "slices"), [item.title for item in spec.evaluate.slices]),
    ]
    if spec.monitor:
        lists.append(("detector", ("monitor", "detectors"), [item.name for item in spec.monitor.detectors]))
    for what, path, titles in lists:
        for index, title in enumerate(titles):
            if title in titles[:index]:
                fact = f"two {what}s are called {shown(title)}"
                hint = "give one of them another `name`" if what != "gate" else "give one a `name`, or remove it"
                yield Finding(rule="name-taken", path=(*path, index), fact=fact, hint=hint)


# -- plugins ---------------------------------------------------------------------------------------------


def plugins_exist_and_fit(spec: Spec, surroundings: Surroundings) -> Iterator[Finding]:
    """Each ``uses`` names a plugin, and each ``with`` has its parameters."""
    for kind, path, uses, given in components(spec):
        described = surroundings.plugins[kind, uses]
        if isinstance(described, EngineError):
            known = not isinstance(described, NotFound)
            rule = "plugin-source" if known else "plugin-unknown"
            fact = f"its source, {described.place.rpartition('/')[2]}: {described.fact}" if known else described.fact
            yield Finding(rule=rule, path=(*path, "uses"), fact=fact, hint=described.hint)
        else:
            yield from parameters_fit(described, (*path, "with"), given)


def classes_exist_and_fit(spec: Spec, surroundings: Surroundings) -> Iterator[Finding]:
    """A class that the trainer's parameters name is there, and takes what it is given."""
    described = surroundings.plugins["trainer", spec.train.uses]
    if isinstance(described, EngineError):
        return
    for one in constructed(described, ("train", "with"), spec.train.with_):
        known = surroundings.classes.get(one.name)
        if isinstance(known, EngineError):
            yield Finding(rule="class-unknown", path=(*one.path, one.named), fact=known.fact, hint=known.hint)
            continue
        for name in one.parameters:
            if known is not None and name not in known and "__" not in name:
                path = (*one.path, one.given, name)
                fact = f"{one.name.rpartition('.')[2]} has no parameter {shown(name)}"
                hint = suggestion(name, known)
                yield Finding(rule="parameter-unknown", path=path, fact=fact, hint=hint, at="key")


def components(spec: Spec) -> Iterator[tuple[Kind, KeyPath, str, Mapping[str, Any]]]:
    """Every component that a spec uses: kind, section, name, parameters."""
    yield "trainer", ("train",), spec.train.uses, spec.train.with_
    for index, transform in enumerate(spec.transform):
        yield "transform", ("transform", index), transform.uses, transform.with_
    for index, detector in enumerate(spec.monitor.detectors if spec.monitor else ()):
        yield "detector", ("monitor", "detectors", index), detector.uses, detector.with_


def parameters_fit(described: Description, path: KeyPath, given: Mapping[str, Any]) -> Iterator[Finding]:
    """The keys under ``with`` are the component's parameters, all that must be there are, and their types fit."""
    known = {parameter.name: parameter for parameter in described.parameters}
    owner = described.reference.name
    for name, value in given.items():
        if name not in known:
            if not described.open_ended:
                fact = f"{owner} has no parameter {shown(name)}"
                yield Finding(
                    rule="parameter-unknown", path=(*path, name), fact=fact, hint=suggestion(name, known), at="key"
                )
        elif not fits(known[name].annotation, value):
            fact = f"{owner} takes {name}: {known[name].annotation}, got {shown(value)}"
            hint = suggestion(str(value), options(known[name].annotation)) or range_words(known[name].annotation)
            yield Finding(rule="parameter-type", path=(*path, name), fact=fact, hint=hint)
    misspelt = {nearest(name, known) for name in given if name not in known}
    for parameter in described.parameters:
        if parameter.required and parameter.name not in given and parameter.name not in misspelt:
            fact = f"{owner} needs the parameter {shown(parameter.name)}"
            hint = f"write `with: {{{parameter.name}: ...}}`"
            yield Finding(rule="parameter-missing", path=path, fact=fact, hint=hint, at="key")


def queries_read_their_source(spec: Spec, _: Surroundings) -> Iterator[Finding]:
    """A SQL transform reads the table that it is given."""
    for index, transform in enumerate(spec.transform):
        query = transform.with_.get("query")
        if transform.uses == "sql" and isinstance(query, str) and "{source}" not in query:
            fact = "the query does not read {source}, which stands for the table"
            path: KeyPath = ("transform", index, "with", "query")
            yield Finding(rule="sql-source", path=path, fact=fact, hint="write `select ... from {source}`")


def queries_can_run(_: Spec, surroundings: Surroundings) -> Iterator[Finding]:
    """A SQL transform is one SELECT that DuckDB binds to the columns of each source that it is over.

    A schema need not name every column, so one that it does not have is complained of when it is strict, or when the
    name is nearly one that it has.
    """
    said: set[tuple[int, str]] = set()
    for (index, source), query in surroundings.queries.items():
        error = query.error
        if error is None or (index, error.fact) in said:
            continue
        schema = surroundings.schemas.get(source)
        is_strict = schema is not None and schema.content.get("strict") is True
        if isinstance(error, ColumnAbsent) and not is_strict and not error.hint.startswith("did you mean"):
            continue
        said.add((index, error.fact))
        yield Finding(rule="sql", path=("transform", index, "with", "query"), fact=error.fact, hint=error.hint)


def numbers_are_finite(spec: Spec, _: Surroundings) -> Iterator[Finding]:
    """NaN and infinity have no place in a run's identity."""
    for _kind, path, _uses, given in components(spec):
        for below, value in leaves(given, (*path, "with")):
            if isinstance(value, float) and not math.isfinite(value):
                yield Finding(rule="value", path=below, fact=f"expected a finite number, got {value}")


# -- evaluation ------------------------------------------------------------------------------------------


def metrics_are_known(spec: Spec, surroundings: Surroundings) -> Iterator[Finding]:
    """A metric is one of ours or a plugin's, and listed once."""
    for index, metric in enumerate(spec.evaluate.metrics):
        path: KeyPath = ("evaluate", "metrics", index)
        if ":" in metric:
            yield from metric_fits(metric, path, surroundings)
        elif metric not in surroundings.metrics:
            fact, hint = f"no metric {shown(metric)}", suggestion(metric, surroundings.metrics)
            if metric in (*PROPERTIES, *MEASUREMENTS):
                hint = f"{metric} is for gates: it needs no entry under metrics"
            yield Finding(rule="metric-unknown", path=path, fact=fact, hint=hint)
        elif metric in spec.evaluate.metrics[:index]:
            yield Finding(rule="metric-twice", path=path, fact=f"{shown(metric)} is here twice", hint="remove one")


def metrics_go_with_the_target(spec: Spec, surroundings: Surroundings) -> Iterator[Finding]:
    """Classes are not judged as values are: the type that a schema or a query gives the target says which it has."""
    kind = type_of_target(spec, surroundings)
    known = {name: METRICS[name].tasks for name in spec.evaluate.metrics if name in METRICS}
    if kind not in CLASSES or spec.group is not None or any({*LABELLING} & {*tasks} for tasks in known.values()):
        return  # where there are both kinds of metrics, that is told
    said = "true or false" if kind == "BOOLEAN" else "text"
    for index, metric in enumerate(spec.evaluate.metrics):
        if metric in known:
            fact = f"{shown(metric)} is for {' and '.join(known[metric])}, and the target {spec.targets[0]} is {said}"
            hint = "choose a metric for classes, as accuracy or roc_auc"
            yield Finding(rule="metric-task", path=("evaluate", "metrics", index), fact=fact, hint=hint)


def type_of_target(spec: Spec, surroundings: Surroundings) -> str | None:
    """DuckDB's type of a single target in the training data, where it is known."""
    table = surroundings.tables.get(spec.train.data)
    for index, transform in enumerate(spec.transform):
        if spec.train.data in transform.data:
            query = surroundings.queries.get((index, spec.train.data))
            table = query.columns if query else None
    return table.get(spec.targets[0]) if table and len(spec.targets) == 1 else None


def metrics_go_together(spec: Spec, _: Surroundings) -> Iterator[Finding]:
    """There is a task, of classification or regression, that all metrics are for."""
    left: set[Task] | None = None
    for index, metric in enumerate(spec.evaluate.metrics):
        tasks = set(METRICS[metric].tasks) if metric in METRICS else None
        if tasks is None:
            continue
        if tasks == {"multilabel"} and len(spec.targets) == 1:
            fact = f"{shown(metric)} is for several labels, and there is one target"
            path: KeyPath = ("evaluate", "metrics", index)
            yield Finding(
                rule="metric-task", path=path, fact=fact, hint="list the labels as `target: [a, b]`, or remove it"
            )
            continue
        if left is not None and not left & tasks:
            fact = f"{shown(metric)} is for {' and '.join(sorted(tasks))}, and those before it are not"
            path = ("evaluate", "metrics", index)
            yield Finding(rule="metric-task", path=path, fact=fact, hint="keep those of one kind of task")
        else:
            left = tasks if left is None else left & tasks


def metric_fits(metric: str, path: KeyPath, surroundings: Surroundings) -> Iterator[Finding]:
    """A metric of the project's own is there, and takes what a metric is given."""
    described = surroundings.plugins["metric", metric]
    if isinstance(described, EngineError):
        yield Finding(rule="metric-plugin", path=path, fact=described.fact, hint=described.hint)
        return
    taken = [*METRIC_ARGUMENTS[:1], *(parameter.name for parameter in described.parameters)]
    needed = 1 + sum(parameter.required for parameter in described.parameters)
    if not described.open_ended and not needed <= len(METRIC_ARGUMENTS) <= len(taken):
        fact = f"{metric} takes {needed} arguments, and a metric is given {len(METRIC_ARGUMENTS)}"
        hint = f"write `def {metric.rpartition(':')[2]}({', '.join(METRIC_ARGUMENTS)})`"
        yield Finding(rule="metric-plugin", path=path, fact=fact, hint=hint)


def slices_say_which_rows(spec: Spec, _: Surroundings) -> Iterator[Finding]:
    """A slice has a column, with ascending cuts or none, or a name and SQL."""
    for index, item in enumerate(spec.evaluate.slices):
        path: KeyPath = ("evaluate", "slices", index)
        for fact, hint in slice_faults(item):
            yield Finding(rule="slice", path=path, fact=fact, hint=hint)


def slice_faults(item: Slice) -> Iterator[tuple[str, str]]:
    """What is wrong with a slice in itself: fact and hint."""
    if item.sql is None and item.column is None:
        yield "this slice says no rows", "give it a column, or a name and sql"
    if item.sql is not None and (item.column is not None or item.ranges):
        yield "this slice has both sql and a column", "make two slices of it"
    if item.sql is not None and item.name is None:
        yield "a slice by sql needs a name", "add `name: ...`, by which gates and reports call it"
    if list(item.ranges) != sorted(set(item.ranges)):
        cuts = ", ".join(f"{cut:.15g}" for cut in sorted(set(item.ranges)))
        yield "the cuts of the ranges do not ascend", f"write `ranges: [{cuts}]`"


def gates_judge_what_is_computed(spec: Spec, surroundings: Surroundings) -> Iterator[Finding]:
    """A gate's metric is computed, and its slice is a slice."""
    figures = {*spec.evaluate.metrics, *PROPERTIES, *MEASUREMENTS}
    for index, gate in enumerate(spec.evaluate.gates):
        path: KeyPath = ("evaluate", "gates", index)
        if gate.metric not in figures:
            known = gate.metric in surroundings.metrics
            fact = f"nobody computes {shown(gate.metric)}" if known else f"no metric {shown(gate.metric)}"
            hint = "add it to evaluate.metrics" if known else suggestion(gate.metric, {*surroundings.metrics, *figures})
            yield Finding(rule="gate-metric", path=(*path, "metric"), fact=fact, hint=hint)
        titles = [item.title for item in spec.evaluate.slices]
        if gate.slice is not None and gate.slice not in titles:
            fact = f"no slice {shown(gate.slice)}"
            hint = (suggestion(gate.slice, titles) if titles else "") or "add it to evaluate.slices"
            yield Finding(rule="gate-slice", path=(*path, "slice"), fact=fact, hint=hint)


def gates_have_one_kind_of_limit(spec: Spec, _: Surroundings) -> Iterator[Finding]:
    """A gate has bounds, or a comparison with a baseline, and only what goes with it."""
    for index, gate in enumerate(spec.evaluate.gates):
        path: KeyPath = ("evaluate", "gates", index)
        for fact, hint in gate_faults(gate):
            yield Finding(rule="gate-limit", path=path, fact=fact, hint=hint)


def gate_faults(gate: Gate) -> Iterator[tuple[str, str]]:
    """What is wrong with a gate in itself: fact and hint."""
    bounds = [kind for kind in ("min", "max", "between") if getattr(gate, kind) is not None]
    comparisons = [kind for kind in ("max_drop", "min_gain") if getattr(gate, kind) is not None]
    if not bounds and not comparisons:
        yield "this gate has no limit", "give it min, max, between, max_drop or min_gain"
    if bounds and comparisons:
        yield f"this gate mixes {bounds[0]} with {comparisons[0]}", "make two gates of it"
    if len(comparisons) == 2:
        yield "this gate has both max_drop and min_gain", "make two gates of it"
    if "between" in bounds and len(bounds) > 1:
        yield "this gate has both between and min or max", "keep one of them"
    if comparisons and gate.baseline is None:
        yield f"{comparisons[0]} compares with nothing", f"add `baseline: {PRODUCTION}`"
    if gate.baseline is not None and not comparisons:
        yield "a baseline needs max_drop or min_gain", "add `max_drop: 0.01`"
    if gate.baseline is not None and not BASELINE.match(gate.baseline):
        yield f"{shown(gate.baseline)} is not an alias, a version or a run", f"write `baseline: {PRODUCTION}`"
    if comparisons and gate.metric in (*PROPERTIES, *MEASUREMENTS):
        yield f"{gate.metric} cannot be compared with a baseline", "give it a `max`"
    if gate.slice is not None and gate.metric in (*PROPERTIES, *MEASUREMENTS):
        yield f"{gate.metric} has no slices", "remove `slice`"
    if gate.metric == "onnx_parity_share" and gate.tolerance is None:
        yield "onnx_parity_share counts rows beyond a tolerance, and there is none", "add `tolerance: 1.0e-5`"
    if gate.metric != "onnx_parity_share" and gate.tolerance is not None:
        yield f"{gate.metric} has no tolerance", "remove it, or use onnx_parity_share"
    if gate.by is not None and gate.metric not in ("leaked_rows", "leaked_share"):
        yield f"{gate.metric} does not look for rows", "remove `by`, or use leaked_rows or leaked_share"
    yield from keys_without_effect(gate)
    if (gate.min is not None and gate.max is not None and gate.min > gate.max) or (
        gate.between is not None and gate.between[0] > gate.between[1]
    ):
        yield "the lower limit is above the upper one: nothing can pass", "swap them"


def keys_without_effect(gate: Gate) -> Iterator[tuple[str, str]]:
    """What a gate says and would not do, and what it does not say and would have to."""
    is_own = gate.metric not in (*METRICS, *PROPERTIES, *MEASUREMENTS)
    compares = gate.max_drop is not None or gate.min_gain is not None
    if gate.confidence != Gate.model_fields["confidence"].default and not compares:
        yield "`confidence` is for comparisons with a baseline: a bound judges the value", "remove it"
    if gate.on_missing is not None and gate.baseline is None:
        yield "`on_missing` is for gates with a baseline", "remove it"
    if gate.min_rows and gate.slice is None:
        yield "`min_rows` is for gates on slices", "remove it, or add `slice`"
    if is_own and compares and gate.better is None:
        hint = "add `better: lower` or `better: higher`"
        yield f"nothing says whether less or more of {gate.metric} is better", hint
    if gate.better is not None and not (is_own and compares):
        yield "`better` is for metrics of your own that are compared with a baseline", "remove it"


def gates_know_rows_by_columns(spec: Spec, surroundings: Surroundings) -> Iterator[Finding]:
    """The columns by which rows are known are in the schema of each source, or made by a transform."""
    for index, gate in enumerate(spec.evaluate.gates):
        for place, name in enumerate(gate.by or ()):
            for source in dict.fromkeys((spec.train.data, spec.evaluate.data)):
                schema = surroundings.schemas.get(source)
                queries = [item for item in spec.transform if source in item.data]
                if schema is None or not schema.columns or any(item.uses != "sql" for item in queries):
                    continue
                words = {word for item in queries for word in WORD.findall(str(item.with_.get("query", "")))}
                if name not in {*schema.columns, *words}:
                    path: KeyPath = ("evaluate", "gates", index, "by", place)
                    fact = f"no column {shown(name)} in the schema of {source} or in its transforms"
                    yield Finding(rule="column-unknown", path=path, fact=fact, hint=suggestion(name, schema.columns))
                    break


def baselines_are_names_that_somebody_uses(spec: Spec, _: Surroundings) -> Iterator[Finding]:
    """A baseline that is nearly a usual alias is probably a typo; nothing would ever be compared."""
    for index, gate in enumerate(spec.evaluate.gates):
        given = gate.baseline or ""
        meant = nearest(given, ALIASES) if given.isalpha() and given not in ALIASES else None
        if meant is not None:
            path: KeyPath = ("evaluate", "gates", index, "baseline")
            fact, hint = f"{shown(given)} is no usual alias", f'did you mean "{meant}"?'
            yield Finding(rule="gate-limit", path=path, fact=fact, hint=hint, severity="warning")


def gates_agree(spec: Spec, _: Surroundings) -> Iterator[Finding]:
    """No two gates on one figure exclude each other. One that only warns excludes nothing."""
    floors: dict[tuple[str, str | None], tuple[int, float]] = {}
    refusing = [(index, gate) for index, gate in enumerate(spec.evaluate.gates) if gate.level == "refuse"]
    for index, gate in refusing:
        low, _high = bounds_of(gate)
        key = (gate.metric, gate.slice)
        if low is not None and low > floors.get(key, (0, float("-inf")))[1]:
            floors[key] = (index, low)
    for index, gate in refusing:
        _low, high = bounds_of(gate)
        other, low = floors.get((gate.metric, gate.slice), (index, float("-inf")))
        if high is not None and other != index and low is not None and low > high:
            fact = f"no {gate.metric} is at least {low:g} (evaluate.gates.{other}) and at most {high:g}"
            yield Finding(
                rule="gates-contradict", path=("evaluate", "gates", index), fact=fact, hint="change one of them"
            )


def bounds_of(gate: Gate) -> tuple[float | None, float | None]:
    """The lowest and the highest value that passes a gate."""
    low, high = gate.between or (None, None)
    return (low if gate.min is None else gate.min), (high if gate.max is None else gate.max)


def gates_differ(spec: Spec, _: Surroundings) -> Iterator[Finding]:
    """No gate says again what one before it says."""
    said: dict[Gate, int] = {}
    titles = [gate.title for gate in spec.evaluate.gates]
    for index, gate in enumerate(spec.evaluate.gates):
        bare = gate.model_copy(update={"name": None})
        if bare in said and titles[index] not in titles[:index]:
            fact = f"this gate says what evaluate.gates.{said[bare]} says"
            path: KeyPath = ("evaluate", "gates", index)
            yield Finding(rule="gate-twice", path=path, fact=fact, hint="remove one of them", severity="warning")
        said.setdefault(bare, index)


def limits_can_be_met(spec: Spec, _: Surroundings) -> Iterator[Finding]:
    """A limit lies where the metric's values are."""
    for index, gate in enumerate(spec.evaluate.gates):
        low, high = bounds_of(gate)
        for key, at, limit, word in (("min", 0, low, "least"), ("max", 1, high, "most")):
            path: KeyPath = ("evaluate", "gates", index)
            path += ("between", at) if gate.between and getattr(gate, key) is None else (key,)
            yield from out_of_range(gate.metric, limit, word, path)
    for index, item in enumerate(spec.monitor.performance if spec.monitor else ()):
        yield from out_of_range(item.metric, item.min, "least", ("monitor", "performance", index, "min"))
        yield from out_of_range(item.metric, item.max, "most", ("monitor", "performance", index, "max"))


def out_of_range(metric: str, limit: float | None, word: str, path: KeyPath) -> Iterator[Finding]:
    """A limit that no value of a metric can meet."""
    lowest, highest = range_of(metric)
    if limit is None or not (limit > highest if word == "least" else limit < lowest):
        return
    bound = f"most {highest:g}" if word == "least" else f"least {lowest:g}"
    share = limit / 100
    is_percent = highest == 1 and LEAST_PERCENT <= limit <= 100 and word == "least"
    hint = f"write {share:g} for {limit:g} %" if is_percent else "correct the limit"
    fact = f"no {metric} is at {word} {limit:g}: it is at {bound}"
    yield Finding(rule="gate-range", path=path, fact=fact, hint=hint)


# -- operation ---------------------------------------------------------------------------------------------


def performance_metrics_are_computed(spec: Spec, _: Surroundings) -> Iterator[Finding]:
    """Live performance is watched on metrics that the test has as well, and against a limit."""
    for index, item in enumerate(spec.monitor.performance if spec.monitor else ()):
        path: KeyPath = ("monitor", "performance", index)
        if item.metric not in spec.evaluate.metrics:
            hint = suggestion(item.metric, spec.evaluate.metrics)
            fact = f"{shown(item.metric)} is not among evaluate.metrics"
            yield Finding(rule="performance-metric", path=(*path, "metric"), fact=fact, hint=hint)
        if item.min is None and item.max is None:
            yield Finding(rule="performance-limit", path=path, fact="this has no limit", hint="give it min or max")


def detectors_read_features(spec: Spec, _: Surroundings) -> Iterator[Finding]:
    """A detector that names columns names features."""
    for index, detector in enumerate(spec.monitor.detectors if spec.monitor else ()):
        named = detector.with_.get("features")
        for item, name in enumerate(named if isinstance(named, (list, tuple)) else ()):
            if name not in spec.features.names:
                path: KeyPath = ("monitor", "detectors", index, "with", "features", item)
                hint = suggestion(str(name), spec.features.names)
                yield Finding(rule="detector-feature", path=path, fact=f"no feature {shown(name)}", hint=hint)


def detectors_are_for_their_features(spec: Spec, surroundings: Surroundings) -> Iterator[Finding]:
    """A detector is told features of the roles that it is for, or finds some."""
    roles = {
        **dict.fromkeys(spec.features.numeric, "numeric"),
        **dict.fromkeys(spec.features.categorical, "categorical"),
    }
    for index, detector in enumerate(spec.monitor.detectors if spec.monitor else ()):
        described = surroundings.plugins["detector", detector.uses]
        if isinstance(described, EngineError):
            continue
        path: KeyPath = ("monitor", "detectors", index)
        able, instead = described.constants.get("roles"), described.constants.get("instead")
        if not isinstance(able, tuple) or not roles:
            continue
        hint = f"use the detector {instead}" if instead else "choose another detector"
        named = detector.with_.get("features")
        for item, name in enumerate(named if isinstance(named, (list, tuple)) else ()):
            if roles.get(name, able[0]) not in able:
                fact = f"{shown(name)} is {roles[name]}, and {detector.uses} is for {' and '.join(able)} features"
                yield Finding(rule="detector-feature", path=(*path, "with", "features", item), fact=fact, hint=hint)
        if named is None and not {*able} & {*roles.values()}:
            fact = f"there is no {' or '.join(able)} feature for {detector.uses}"
            rests_on = tuple(("features", role) for role in able)
            yield Finding(rule="detector-feature", path=(*path, "uses"), fact=fact, hint=hint, rests_on=rests_on)


def windows_are_long_enough(spec: Spec, surroundings: Surroundings) -> Iterator[Finding]:
    """A window by rows has as many as the detector's p-values need."""
    for index, detector in enumerate(spec.monitor.detectors if spec.monitor else ()):
        described = surroundings.plugins["detector", detector.uses]
        least = described.constants.get("least_rows", 1) if isinstance(described, Description) else 1
        if isinstance(detector.window, int) and detector.window < least:
            fact = f"the p-values of {detector.uses} hold for windows of at least {least} rows, and this has "
            path: KeyPath = ("monitor", "detectors", index, "window")
            hint = f"write `window: {least}` or more"
            yield Finding(rule="detector-window", path=path, fact=f"{fact}{detector.window}", hint=hint)


def false_alarms_are_a_rate(spec: Spec, _: Surroundings) -> Iterator[Finding]:
    """The budget of false alarms is so many in a time."""
    if spec.monitor and spec.monitor.false_alarms is not None:
        try:
            parse_budget(spec.monitor.false_alarms)
        except UsageError as error:
            yield Finding(rule="false-alarms", path=("monitor", "false_alarms"), fact=error.fact, hint=error.hint)


def the_objective_is_computed(spec: Spec, _: Surroundings) -> Iterator[Finding]:
    """A sweep compares runs by a metric that they have."""
    objective = spec.sweep.objective
    if objective is not None and objective not in spec.evaluate.metrics:
        hint = suggestion(objective, spec.evaluate.metrics)
        fact = f"{shown(objective)} is not among evaluate.metrics"
        yield Finding(rule="objective", path=("sweep", "objective"), fact=fact, hint=hint)


def secrets_are_set(spec: Spec, surroundings: Surroundings) -> Iterator[Finding]:
    """A secret's variable is set where the spec is used; here that is only worth a word."""
    for name in ("webhook", "signing_key") if spec.monitor else ():
        found = getattr(spec.monitor.on_alert, name) if spec.monitor else None
        if isinstance(found, SecretRef) and not found.optional and found.env not in surroundings.variables:
            path: KeyPath = ("monitor", "on_alert", name)
            fact = f"the environment variable {found.env} is not set"
            hint = "set it where alerts are sent"
            yield Finding(rule="secret-unset", path=path, fact=fact, hint=hint, severity="warning")


CHECKS: tuple[Check, ...] = (
    uris_are_well_formed,
    sources_exist,
    schemas_can_be_read,
    schemas_check_what_they_say,
    schemas_mean_something,
    every_source_is_used,
    features_are_given_once,
    the_target_is_no_feature,
    columns_exist,
    predicates_read_known_columns,
    names_are_unique,
    plugins_exist_and_fit,
    classes_exist_and_fit,
    queries_read_their_source,
    queries_can_run,
    numbers_are_finite,
    metrics_are_known,
    metrics_go_together,
    metrics_go_with_the_target,
    slices_say_which_rows,
    gates_judge_what_is_computed,
    gates_have_one_kind_of_limit,
    gates_know_rows_by_columns,
    baselines_are_names_that_somebody_uses,
    gates_agree,
    gates_differ,
    limits_can_be_met,
    performance_metrics_are_computed,
    detectors_read_features,
    detectors_are_for_their_features,
    windows_are_long_enough,
    false_alarms_are_a_rate,
    the_objective_is_computed,
    secrets_are_set,
)
"""All checks, in the order in which a person would read the spec."""
