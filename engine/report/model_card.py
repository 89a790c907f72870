"""A model card in Markdown, generated from the record: nothing in it is typed by hand but the description.

After Mitchell et al. (2019), Model Cards for Model Reporting, and the sections that model hubs show.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from engine.digest import bare
from engine.errors import EngineError
from engine.record.model import RunRecord
from engine.record.store import RecordStore
from engine.registry.history import moves
from engine.registry.model import ModelVersion
from engine.registry.protocol import Registry
from engine.report.clean import markdown
from engine.store.objects import ObjectStore


def model_card(version: ModelVersion, registry: Registry, records: RecordStore, store: ObjectStore) -> str:
    """The card of a version.

    Its figures are those of the newest run that judged these bytes; what the record does not have is left out.
    """
    record = newest_record(version, records)
    sections = [
        title(version),
        intended_use(version, registry),
        made_from(version, registry),
        *([how_good(record, store), what_it_passed(record)] if record is not None else []),
        where_it_is_used(version, registry),
    ]
    return "\n\n".join("\n".join(section) for section in map(list, sections) if section) + "\n"


def newest_record(version: ModelVersion, records: RecordStore) -> RunRecord | None:
    """The record of the newest run that judged a version's bytes, if there is one."""
    found = (records.answer(run) for run in reversed(version.runs))
    return next((record for record in found if record is not None), None)


def title(version: ModelVersion) -> Iterator[str]:
    """Which model this is."""
    yield f"# {markdown(str(version))}"
    yield ""
    yield f"- digest: `sha256:{version.digest}`"
    yield f"- registered: {version.created}"
    yield f"- aliases: {', '.join(version.aliases) or 'none'}"
    if version.retired:
        yield "- **retired**: not to be used"
    for key, value in version.tags.items():
        yield f"- {markdown(key)}: {markdown(value)}"


def intended_use(version: ModelVersion, registry: Registry) -> Iterator[str]:
    """What it is for, in its owner's words."""
    yield "## Intended use"
    yield ""
    said = [text for text in (registry.description(version.name), version.description) if text]
    yield "\n\n".join(markdown(text) for text in said) or "Nobody has said what it is for: `engine models describe`."


def made_from(version: ModelVersion, registry: Registry) -> Iterator[str]:
    """Data, code, run."""
    sources = registry.sources(version.name, version.version)
    yield "## Made from"
    yield ""
    for source in sources[:1]:
        for name, pin in source.data.items():
            yield f"- data `{name}`: {markdown(pin['uri'])} at commit `{pin['commit']}`, `{pin['digest']}`"
        if source.code.get("commit"):
            changed = ", with changes that were not committed" if source.code.get("dirty") else ""
            yield f"- code: git commit `{source.code['commit']}`{changed}"
        elif source.code:
            yield f"- code: `{source.code['digest']}`, not in git"
        yield f"- run: `{source.run}`, record `sha256:{source.record}`"
    for source in sources[1:]:
        yield f"- confirmed by run: `{source.run}`, record `sha256:{source.record}`"


def how_good(record: RunRecord, store: ObjectStore) -> Iterator[str]:
    """Every metric of the evaluation, with its interval where there is one."""
    evaluation: Mapping[str, Any] = {}
    digest = record.summary["evaluation"]
    if digest:
        with suppress(EngineError):
            evaluation = json.loads(store.read(bare(digest)))
    measured = evaluation.get("metrics", {})
    rows = [metric_row(name, value, measured.get(name)) for name, value in record.summary["metrics"].items()]
    if rows:
        yield "## How good it is"
        yield ""
        yield "| metric | value | interval | rows |"
        yield "| --- | --- | --- | --- |"
        yield from rows


def metric_row(name: str, value: float | None, found: Any) -> str:
    """One metric as a row of a table."""
    known: Mapping[str, Any] = found if isinstance(found, Mapping) else {}
    low, high = interval_of(known)
    interval = f"[{low:.4g}, {high:.4g}]" if low is not None and high is not None else ""
    rows = f"{known['rows']:,}" if isinstance(known.get("rows"), int) else ""
    return f"| {markdown(name)} | {'' if value is None else f'{value:.4g}'} | {interval} | {rows} |"


def interval_of(found: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """The interval of a metric: ``interval: [low, high]``, or ``low`` and ``high`` beside the value."""
    pair = found.get("interval")
    if isinstance(pair, Mapping):
        pair = [pair.get("low"), pair.get("high")]
    if not isinstance(pair, Sequence) or len(pair) != 2:
        pair = [found.get("low"), found.get("high")]
    low, high = (float(item) if isinstance(item, int | float) else None for item in pair)
    return low, high


def what_it_passed(record: RunRecord) -> Iterator[str]:
    """Every gate with its reason."""
    if record.summary["gates"]:
        yield "## What it passed"
        yield ""
        yield "| gate | verdict | reason |"
        yield "| --- | --- | --- |"
        for gate in record.summary["gates"]:
            verdict = "passed" if gate["passed"] else "warns" if gate["level"] == "warn" else "refused"
            yield f"| {markdown(gate['name'])} | {verdict} | {markdown(gate['reason'])} |"


def where_it_is_used(version: ModelVersion, registry: Registry) -> Iterator[str]:
    """Every move of an alias to it."""
    found = [move for move in moves(registry.ledger(version.name)) if move.version == version.version]
    if found:
        yield "## Where it was used"
        yield ""
        for move in found:
            forced = ", **forced**" if move.forced else ""
            why = f": {markdown(move.why)}" if move.why else ""
            entry = f"ledger entry {move.entry.number}"
            yield f"- {move.when} `{move.alias}`: {move.how} by {markdown(move.who)}{forced}{why} ({entry})"
