"""What the commands of ``engine models`` ask for."""

from __future__ import annotations

import typer

from engine.errors import UsageError
from engine.registry.model import ModelRef

JSON = typer.Option(False, "--json", help="Print one JSON document.")
WHY = typer.Option("", "--why", metavar="TEXT", help="Why; it stands in the ledger for ever.")
VERSION = typer.Argument(..., metavar="NAME:VERSION", help="A version: NAME:VERSION, or NAME@ALIAS.")
MODEL = typer.Argument(..., metavar="NAME[:VERSION]", help="A model, or one of its versions.")


def named(text: str) -> ModelRef:
    """A model, or one of its versions by its number.

    Raises:
        UsageError: for an alias, which may mean another version tomorrow.
    """
    ref = ModelRef.parse(text)
    if ref.alias is not None:
        raise UsageError(f'"{text}" names an alias', hint="write NAME or NAME:VERSION")
    return ref


def numbered(text: str) -> ModelRef:
    """A version by its number.

    Raises:
        UsageError: for anything else.
    """
    ref = named(text)
    if ref.version is None:
        raise UsageError(f'"{text}" names no version', hint=f"write {ref.name}:VERSION")
    return ref


def number_of(ref: ModelRef) -> int:
    """The number in a ref that has one."""
    assert ref.version is not None
    return ref.version
