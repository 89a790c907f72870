"""``engine verify``."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import typer

from engine.cli import view
from engine.errors import NO, YES
from engine.record.find import runs_of
from engine.record.verify import Archive, Mismatch, Seen, verify_home, verify_runs
from engine.report.clean import terminal
from engine.wiring import home_here


def register(app: typer.Typer, summary: str) -> None:
    """Add the command."""
    app.command("verify", help=summary)(command)


def command(
    subject: str = typer.Argument(
        None, metavar="[RUN|MODEL]", help="A run id or its beginning, or NAME[@ALIAS|:VERSION]; else everything."
    ),
    json: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> int:
    """Hash again what was recorded, and name each thing that does not match."""
    archive = home_here().archive
    seen = Seen()
    found = list(mismatches(archive, subject, seen))
    if json:
        listed = [{"what": item.what, "name": item.name, "fact": item.fact} for item in found]
        view.document({"verified": not found, "checked": dict(seen.counts), "mismatches": listed})
    else:
        show(found, seen)
    return NO if found else YES


def mismatches(archive: Archive, subject: str | None, seen: Seen) -> Iterator[Mismatch]:
    """What does not match, of everything or of the runs behind ``subject``."""
    if subject is None:
        return verify_home(archive, seen)
    return verify_runs(archive, runs_of(subject, archive.records, archive.registry), seen)


def one(plural: str) -> str:
    """The singular of what is counted."""
    return f"{plural.removesuffix('ies')}y" if plural.endswith("ies") else plural.removesuffix("s")


def show(found: list[Mismatch], seen: Seen) -> None:
    """What was looked at, and each mismatch on a line of its own."""
    for item in found:
        what = view.paint(f"{item.what:<12}", view.RED, stream=sys.stdout)
        view.line(f"{what} {terminal(item.name)}: {terminal(item.fact)}")
    counted = ", ".join(f"{count:,} {what if count != 1 else one(what)}" for what, count in seen.counts.items())
    view.line(f"hashed {counted or 'nothing: nothing is recorded yet'}")
    if found:
        view.line("1 mismatch" if len(found) == 1 else f"{len(found):,} mismatches")
    else:
        view.line("everything is as it was recorded")
