"""``engine lake gc`` and ``fsck``."""

from __future__ import annotations

import typer

from engine.cli import view
from engine.cli.lake_asked import JSON
from engine.cli.lake_progress import bytes_done
from engine.cli.lake_view import growing_document, size
from engine.errors import NO, UsageError
from engine.lake.protocol import Damage
from engine.report.clean import terminal
from engine.wiring import home_here


def register(parent: typer.Typer) -> None:
    """Add the commands."""
    parent.command("gc")(gc)
    parent.command("fsck")(fsck)


def gc(
    older_than: str = typer.Option("1h", "--older-than", metavar="TIME", help="Spare what came later: 30m, 1h, 7d."),
    json: bool = JSON,
) -> int:
    """Remove what nothing names any more: no branch, tag, staged change, run, cached step or model."""
    home = home_here()
    done = home.lake.gc(home.pins(), older_than=seconds_from(older_than))
    if json:
        view.document({"commits": done.commits, "objects": done.objects, "size": done.size})
    else:
        counts = f"{view.counted(done.commits, 'commit')} and {view.counted(done.objects, 'object')}"
        view.line(f"removed {counts}, {size(done.size)}")
    return 0


def seconds_from(text: str) -> float:
    """A duration as it was typed, in seconds.

    Raises:
        UsageError: when it is none.
    """
    from engine.spec.model import seconds

    try:
        found = seconds(text)
    except ValueError as error:
        raise UsageError(f'"{text}" is not a time', hint="write --older-than 30m, 1h or 7d") from error
    assert isinstance(found, float)
    return found


def fsck(json: bool = JSON) -> int:
    """Hash everything and name what is damaged."""
    found = 0
    with bytes_done("fsck") as progress:
        damage = home_here().lake.fsck(progress)
        if json:
            with growing_document({}, "damage") as write:
                for item in damage:
                    found += 1
                    write({"what": item.what, "name": item.name, "fact": item.fact})
        else:
            for item in damage:
                found += 1
                view.line(damage_line(item))
    if not json:
        view.line(f"{view.counted(found, 'damaged thing')}" if found else "everything is as it was stored")
    return NO if found else 0


def damage_line(item: Damage) -> str:
    """What is damaged and how."""
    return f"{view.paint(terminal(item.what), view.RED)} {terminal(item.name)}: {terminal(item.fact)}"
