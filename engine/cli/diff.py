"""``engine diff``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

import typer

from engine.cli import view
from engine.cli.runs import latest
from engine.errors import YES
from engine.record.diff import Data, Item, RunDiff, Source, diff, document
from engine.record.parts import PARTS
from engine.report.clean import terminal
from engine.wiring import home_here

SIGNS = {"added": "+", "removed": "-", "changed": "~"}
COLORS = {"+": "\x1b[32m", "-": view.RED, "~": view.YELLOW}
MOST_SHOWN = 20


def register(app: typer.Typer, summary: str) -> None:
    """Add the command."""
    app.command("diff", help=summary)(command)


def command(
    left: str = typer.Argument(
        ..., metavar="RUN", help="A run id, its first 6 or more characters, or a model: NAME:VERSION, NAME@ALIAS."
    ),
    right: str = typer.Argument(..., metavar="RUN", help="The run to compare it with."),
    text: bool = typer.Option(False, "--text", help="Show the lines of code that differ."),
    json: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> int:
    """Show what differs between two runs in spec, data, code and environment, and what came of it."""
    home = home_here()
    found = diff(latest(home, left), latest(home, right), home.store, text=text)
    if json:
        view.document(document(found))
    else:
        for line in lines(found):
            view.line(line)
    return YES


def lines(found: RunDiff) -> Iterator[str]:
    """The difference for a person: what was put in, then what came out."""
    for sign, record in (("-", found.left), ("+", found.right)):
        summary = record.summary
        overrides = " ".join(summary["overrides"])
        yield sign_line(sign, f"{view.short(record.run_id)}  {summary['name']}  {record.status}  {overrides}".rstrip())
    same = [part for part in PARTS if part not in found.parts]
    yield f"differ: {', '.join(found.parts) or 'nothing'}" + (f"; the same: {', '.join(same)}" if found.parts else "")
    yield from section("spec", [item_line(item) for item in found.spec])
    yield from section("data", [line for item in found.data for line in data_lines(item)])
    yield from section("code", [line for item in found.code for line in source_lines(item)])
    yield from section("environment", [item_line(item) for item in found.environment])
    yield from section("artifacts", artifact_lines(found))
    yield from section("gates", [item_line(item) for item in found.gates])
    yield from section("metrics", list(metric_lines(found)))


def section(title: str, content: list[str]) -> Iterator[str]:
    """A titled part; nothing when there is nothing to say."""
    if content:
        yield ""
        yield view.paint(title, view.BOLD, stream=sys.stdout)
        yield from (f"  {line}" for line in content)


def sign_line(sign: str, text: str) -> str:
    """A line with what happened to what it names."""
    return view.paint(f"{sign} {terminal(text)}", COLORS[sign], stream=sys.stdout)


def item_line(item: Item) -> str:
    """Something that differs, with both values."""
    if item.kind == "changed":
        return sign_line("~", f"{item.name}: {item.left} -> {item.right}")
    return sign_line(SIGNS[item.kind], f"{item.name}: {item.left if item.kind == 'removed' else item.right}")


def some(content: list[str]) -> list[str]:
    """No more lines than a person reads."""
    left = len(content) - MOST_SHOWN
    return content if left <= 1 else [*content[:MOST_SHOWN], f"... and {left} more (--json has all)"]


def data_lines(item: Data) -> Iterator[str]:
    """A source: where it was read, its files, its rows, its columns, its statistics."""
    sides = [
        f"{side['uri']} at {view.short(side['commit'])}" if side else "nothing" for side in (item.left, item.right)
    ]
    yield sign_line("~", f"{item.name}: {sides[0]} -> {sides[1]}")
    yield from some([f"  {sign_line(SIGNS[file.kind], file.name)}" for file in item.files])
    if not item.rows:
        return
    rows, columns = item.rows["rows"], item.rows["columns"]
    told = ", ".join(f"{rows[kind]:,} {kind}" for kind in SIGNS if rows[kind])
    yield f"  rows: {rows['left']:,} -> {rows['right']:,} ({told or 'in another order'})"
    for kind in ("added", "removed"):
        if columns[kind]:
            yield f"  {sign_line(SIGNS[kind], 'columns: ' + ', '.join(columns[kind]))}"
    for changed in columns["retyped"]:
        yield f"  {sign_line('~', '{name}: {left} -> {right}'.format(**changed))}"
    yield from some([f"  {statistic_line(found)}" for found in item.rows["statistics"]])


def statistic_line(found: Mapping[str, Any]) -> str:
    """A column whose statistics differ."""
    pairs = [(key, found["left"].get(key), found["right"].get(key)) for key in found["left"] | found["right"]]
    told = [f"{key} {short(before)} -> {short(after)}" for key, before, after in pairs if before != after]
    return f"{terminal(found['column'])}: {', '.join(told)}"


def short(value: Any) -> str:
    """A figure in few digits."""
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else "-"


def source_lines(item: Source) -> Iterator[str]:
    """A module, with its text when that was asked for."""
    yield sign_line(SIGNS[item.kind], f"{item.path}  +{item.added} -{item.removed}")
    for line in item.text.splitlines()[2:]:
        color = COLORS.get(line[:1], view.DIM if line.startswith("@") else "")
        yield "  " + (view.paint(terminal(line), color, stream=sys.stdout) if color else terminal(line))


def artifact_lines(found: RunDiff) -> list[str]:
    """The artifacts that differ, and how many do not."""
    told = some([sign_line(SIGNS[item.kind], item.name) for item in found.artifacts])
    return [*told, f"{found.same_artifacts} the same, byte for byte"]


def metric_lines(found: RunDiff) -> Iterator[str]:
    """Each metric of both runs with its interval, and the difference."""
    rows = [["", view.short(found.left.run_id), view.short(found.right.run_id), "difference (95 %)"]]
    for item in found.metrics:
        rows.append([item["name"], sided(item["left"]), sided(item["right"]), difference(item.get("difference"))])
    if len(rows) == 1:
        return
    widths = [max(len(row[index]) for row in rows) for index in range(4)]
    for row in rows:
        yield view.aligned(row, widths)


def sided(value: Mapping[str, Any] | None) -> str:
    """A figure with its interval."""
    if value is None:
        return "-"
    reach = "" if value["low"] is None else f" [{value['low']:.4f}, {value['high']:.4f}]"
    return f"{value['value']:.4f}{reach}"


def signed(value: float) -> str:
    """A difference in four decimals; nothing is less than nothing."""
    return f"{round(value, 4) + 0.0:+.4f}"


def difference(value: Mapping[str, Any] | None) -> str:
    """A difference with its interval, and whether the interval leaves out zero."""
    if value is None:
        return ""
    if value.get("low") is None:
        return signed(value["value"])
    shown = f"{signed(value['value'])} [{signed(value['low'])}, {signed(value['high'])}]"
    rows = ", the same rows" if value["paired"] else ""
    word = "no difference shown" if value["low"] <= 0 <= value["high"] else "differs"
    return f"{shown} {word}{rows}"
