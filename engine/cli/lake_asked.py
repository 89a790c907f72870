"""What the commands of the lake have in common: what their words mean, who signs, and asking before data is lost."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import typer

from engine.errors import Refused, UsageError
from engine.lake.protocol import Signed
from engine.lake.uri import SCHEME, LakeUri, parse_ref

JSON = typer.Option(False, "--json", help="Print one JSON document.")
YES = typer.Option(False, "--yes", "-y", help="Do not ask.")
AUTHOR = typer.Option("", "--author", help="Who it is by; git's user.name and user.email by default.")
META = typer.Option([], "--meta", metavar="KEY=VALUE", help="Metadata of the commit; may be repeated.")
MESSAGE = typer.Option("", "-m", "--message", help="What the commit says.")


def ref_in(repository: str, text: str) -> str:
    """A ref that was typed bare, or as a URI in ``repository``.

    Raises:
        UsageError: when it is in another repository.
    """
    if not text.startswith(SCHEME):
        return text
    uri = parse_ref(text)
    require_same(repository, uri)
    return uri.ref


def require_same(repository: str, uri: LakeUri) -> None:
    """Refuse a URI in another repository.

    Raises:
        UsageError: naming both.
    """
    if uri.repository != repository:
        hint = f"both must be in {repository} or both in {uri.repository}"
        raise UsageError(f"{uri} is not in the repository {repository}", hint=hint)


def signed(message: str, author: str, meta: Sequence[str]) -> Signed:
    """Who makes a commit and what they say."""
    return Signed(message=message, author=author or author_here(), metadata=metadata_from(meta))


def metadata_from(meta: Sequence[str]) -> Mapping[str, str]:
    """``KEY=VALUE`` words as a mapping.

    Raises:
        UsageError: for a word without a key and an equals sign.
    """
    for word in meta:
        if not word.partition("=")[1] or word.startswith("="):
            raise UsageError(f'"{word}" is no metadata', hint="write --meta KEY=VALUE")
    return {word.partition("=")[0]: word.partition("=")[2] for word in meta}


def author_here() -> str:
    """Who works here: as git knows them, else their login name."""
    from engine.registry.changes import who
    from engine.resolve.git import signature

    return signature(Path.cwd()) or who()


def require_yes(what: str, *, yes: bool, json: bool) -> None:
    """Ask a person before something is done that cannot be undone.

    Raises:
        UsageError: when there is nobody to ask.
        Refused: when they say no.
    """
    if yes:
        return
    if json or not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(f"to {what} cannot be undone", hint="say --yes if you mean it")
    if not typer.confirm(f"{what[0].upper()}{what[1:]}? That cannot be undone.", err=True):
        raise Refused("nothing was done")
